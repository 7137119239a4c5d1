"""The judge as a metric: the share of a clip's attributes that it shows as its prompt says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from quant.eval.metrics.base import Own, Video
from quant.eval.shapes.vocabulary import parse_caption


@dataclass(frozen=True, kw_only=True)
class _Judged(Own):
    def applies(self, video: Video) -> bool:
        return parse_caption(video.prompt) is not None

    def score(self, video: Video, network: Any) -> dict[str, bool]:
        from quant.eval.shapes.judge import verdicts

        return {name: found[0] for name, found in verdicts(video.frames[None], [video.prompt]).items()}


JUDGED = _Judged(key="judged", title="Shows what was asked", heading="as asked", digits=3, answers=True)
