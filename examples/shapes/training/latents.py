"""The transformer's training data: drawn clips, encoded once.

`latents.pt` holds, for clips of trained and of held-out combinations, the normalised latents and the captions.
"""

import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from quant.eval.shapes.draw import draw
from quant.eval.shapes.vocabulary import ShapeClip, caption, heldout_clips, trained_clips
from training.common import Folder, in_processes
from training.vae import channels_last, load_vae
from training.whole_clip import encode_clip

CHUNK = 16


def latents(folder: Folder, processes: int, trained_count: int, heldout_count: int) -> dict[str, Any]:
    """Encode `trained_count` clips of trained combinations, `heldout_count` of others, or load them where that is done.

    `latents` and `heldout_latents` [N, Z, f, h, w] have mean 0 and standard deviation 1 for every channel;
    `mean` and `std` (lists of Z) undo that. `captions` and `heldout_captions` go with them.
    """
    found = folder.load("latents")
    if found is not None:
        return found
    started = time.monotonic()
    in_processes(_encode, processes, folder, processes, trained_count, heldout_count)
    parts = [folder.require(f"latents_{rank}") for rank in range(processes)]
    encoded = torch.cat([part["latents"] for part in parts])
    heldout = torch.cat([part["heldout_latents"] for part in parts])
    mean, std = encoded.mean(dim=(0, 2, 3, 4)), encoded.std(dim=(0, 2, 3, 4))
    shift, scale = mean.view(1, -1, 1, 1, 1), std.view(1, -1, 1, 1, 1)
    data = {
        "latents": (encoded - shift) / scale,
        "captions": [text for part in parts for text in part["captions"]],
        "heldout_latents": (heldout - shift) / scale,
        "heldout_captions": [text for part in parts for text in part["heldout_captions"]],
        "mean": mean.tolist(),
        "std": std.tolist(),
        "seconds": time.monotonic() - started,
    }
    folder.save("latents", data)
    folder.log("latents", clips=len(encoded), seconds=data["seconds"])
    for rank in range(processes):
        Path(folder.path / f"latents_{rank}.pt").unlink()
    return data


def _encode(rank: int, folder: Folder, processes: int, trained_count: int, heldout_count: int) -> None:
    """One process's share of the clips; the combinations are gone through in turn."""
    vae = load_vae(folder)
    channels_last(vae)
    trained = list(islice(cycle(trained_clips()), trained_count))[rank::processes]
    heldout = list(islice(cycle(heldout_clips()), heldout_count))[rank::processes]
    generator = torch.Generator().manual_seed(99 + rank)
    folder.save(
        f"latents_{rank}",
        {
            "latents": _encode_drawn(vae, trained, generator),
            "captions": [caption(clip) for clip in trained],
            "heldout_latents": _encode_drawn(vae, heldout, generator),
            "heldout_captions": [caption(clip) for clip in heldout],
        },
    )


@torch.no_grad()
def _encode_drawn(vae: AutoencoderKLWan, clips: list[ShapeClip], generator: torch.Generator) -> Tensor:
    parts = []
    for start in range(0, len(clips), CHUNK):
        videos = draw(clips[start : start + CHUNK], generator).to(memory_format=torch.channels_last_3d)
        with torch.autocast("cpu", torch.bfloat16):
            mean, _ = encode_clip(vae, videos)
        parts.append(mean.float())
    return torch.cat(parts)
