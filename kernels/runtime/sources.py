"""The CUDA sources that the package holds, and which of them one kernel is made of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from quant.kernels.runtime import wgmma
from quant.kernels.runtime.errors import KernelError

_INCLUDE = re.compile(r"^[ \t]*#[ \t]*include\b[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_QUOTED = re.compile(r'"([^"]+)"(?:\s*//.*)?')


@cache
def shipped() -> Mapping[str, str]:
    """Every `.cu` and `.cuh` of `kernels/cuda`, and the wrappers of wgmma: file name to text."""
    folder = files("quant.kernels").joinpath("cuda")
    names = sorted(each.name for each in folder.iterdir() if each.name.endswith((".cu", ".cuh")))
    texts = {name: folder.joinpath(name).read_text(encoding="utf-8") for name in names}
    return MappingProxyType({**texts, **wgmma.headers()})


def needed(name: str, texts: Mapping[str, str] | None = None) -> dict[str, str]:
    """The file `name` and every header it includes, directly or through others: name to text, the file first.

    An include counts even where the preprocessor would pass over it.

    Args:
        name: of a `.cu` or `.cuh` file.
        texts: where files are looked up; None for those that are shipped.

    Raises:
        KernelError: a file that is not there, or an include of anything but a project header in quotes. NVRTC has no
            CUDA toolkit to search, and what it read from disk would be missing in the hash of the compiled file.
    """
    texts = shipped() if texts is None else texts
    if name not in texts:
        raise KernelError(f"no CUDA source {name}; there are {', '.join(texts)}")
    found = {name: texts[name]}
    waiting = [name]
    while waiting:
        includer = waiting.pop()
        for target in _INCLUDE.findall(texts[includer]):
            quoted = _QUOTED.fullmatch(target)
            if quoted is None or quoted[1] not in texts:
                raise KernelError(f"{includer} includes {target}, which is no header of kernels/cuda in quotes")
            if quoted[1] not in found:
                found[quoted[1]] = texts[quoted[1]]
                waiting.append(quoted[1])
    return found
