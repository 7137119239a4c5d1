"""The real networks, fetched once into this machine's cache: tests of them fail where that is not possible."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from quant.eval.frames import Frames
from quant.eval.weights import cache, fetching
from tests.conftest import CACHE


def developers_cache(patched: pytest.MonkeyPatch) -> None:
    """Networks are large, and lie where the developer has them."""
    if CACHE is None:
        # Another fixture may have taken it away already: which one comes first depends on the file that asks.
        patched.delenv("QUANT_CACHE_DIR", raising=False)
    else:
        patched.setenv("QUANT_CACHE_DIR", CACHE)


@pytest.fixture(scope="module", autouse=True)
def _networks_of_this_machine() -> Iterator[None]:
    """For fixtures too that load a network once for a file."""
    with pytest.MonkeyPatch.context() as patched:
        developers_cache(patched)
        yield


@pytest.fixture(scope="session")
def fetched() -> Path:
    """The cache's folder with every network and the clips in it. `fetch` itself lets one process at a time in."""
    with pytest.MonkeyPatch.context() as patched:
        developers_cache(patched)
        fetching.fetch([*fetching.NETWORKS, fetching.CLIPS])
        return cache.folder()


@pytest.fixture(scope="session")
def big_buck_bunny(fetched: Path) -> Frames:
    """The square middle of every fourth frame of the clip's start, [16, 720, 720, 3] in 0..1: a rabbit leaves its
    burrow and stretches."""
    with av.open(str(fetched / "clips" / "bigbuckbunny.mp4")) as file:
        frames = [frame.to_ndarray(format="rgb24") for _, frame in zip(range(64), file.decode(video=0), strict=False)]
    video = np.stack(frames[::4])
    return np.ascontiguousarray(video[:, :, 280:1000], dtype=np.float32) / np.float32(255)
