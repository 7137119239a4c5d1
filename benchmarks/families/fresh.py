"""Loads checkpoints in a process that knows nothing of how they were made: `python -m benchmarks.families.fresh`.

Reads a JSON list of [name, folder] from its input, loads each by diffusers' `from_pretrained` after `import
quant.diffusers`, and prints a JSON object of each name's digest of outputs, or the error in one line.
"""

from __future__ import annotations

import copy
import hashlib
import json
import sys
from collections.abc import Iterable

import torch
from torch import Tensor

from benchmarks.families.models import denoiser
from benchmarks.families.tiny import run
from quant.text import first_line


def digest(tensors: Iterable[Tensor]) -> str:
    """The SHA-256 of all bytes of some float32 tensors."""
    whole = hashlib.sha256()
    for tensor in tensors:
        whole.update(tensor.contiguous().numpy().tobytes())
    return whole.hexdigest()


def main() -> None:
    import diffusers

    import quant.diffusers  # noqa: F401, teaches diffusers these checkpoints

    found = {}
    for name, folder in json.load(sys.stdin):
        model = denoiser(name)
        try:
            loaded = getattr(diffusers, model.cls).from_pretrained(folder)
            with torch.no_grad():
                found[name] = digest(run(model, copy.deepcopy(loaded.eval())))
        except Exception as error:  # whatever it is, the others are still to be loaded
            found[name] = f"{type(error).__name__}: {first_line(error)}"
    print(json.dumps(found))


if __name__ == "__main__":
    main()
