"""Two videos that can be compared: the frames of both as the pipeline returned them.

Raw means the floats the pipeline returned: encoding a video loses more than an 8-bit checkpoint does.
"""

from __future__ import annotations

import math

from quant.files.videos import Frames as Frames


def check_pair(reference: Frames, candidate: Frames) -> None:
    """Raises ValueError for shapes that differ, videos without a pixel, and values that are not finite.

    An average over such values would hide a broken video.
    """
    if reference.shape != candidate.shape:
        raise ValueError(f"videos of shape {reference.shape} and {candidate.shape} cannot be compared")
    if 0 in reference.shape[1:]:
        raise ValueError(f"videos of shape {reference.shape} have no pixel to compare")
    for videos in (reference, candidate):
        # The extremes show any such value, and need no further memory.
        if videos.size and not (math.isfinite(videos.min()) and math.isfinite(videos.max())):
            raise ValueError("the videos hold values that are not finite")
