"""The UNet's training data: scenes, drawn and encoded once, and the autoencoder with its latents standardised."""

import time
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from training.common import Folder

from quant.eval.shapes.draw import draw
from quant.eval.shapes.vocabulary import heldout_clips
from stages.edits import EVERY, film, scenes
from stages.models import LATENT_CHANNELS, channels_last, make_vae
from stages.vae import load_vae

#: Clips encoded at once.
CHUNK = 16


def make_latents(folder: Folder, scene_count: int, heldout_count: int) -> None:
    """Encode scenes and clips that are held out; leaves latents.pt. Nothing to do where that is there.

    `latents` [N, Z, F, h, w] have mean 0 and standard deviation 1 in every channel; clips of a scene follow one
    another, and `scenes` has the scene of each. `clips` and `heldout_clips` are what they show, `vae` the state of
    an autoencoder whose latents these are.
    """
    if folder.load("latents") is not None:
        return
    started, started_core = time.monotonic(), time.process_time()
    vae = load_vae(folder)
    channels_last(vae)
    chosen = scenes(scene_count)
    encoded = torch.cat([encode(vae, film(scene)) for scene in chosen])
    kept = heldout_clips()[:heldout_count]
    heldout = encode(vae, draw(kept, torch.Generator().manual_seed(8))[:, :, ::EVERY])
    mean, std = encoded.mean(dim=(0, 2, 3, 4)), encoded.std(dim=(0, 2, 3, 4))
    shift, scale = mean.view(1, -1, 1, 1, 1), std.view(1, -1, 1, 1, 1)
    data = {
        "latents": (encoded - shift) / scale,
        "clips": [clip for scene in chosen for clip in scene.clips],
        "scenes": [i for i, scene in enumerate(chosen) for _ in scene.clips],
        "heldout_latents": (heldout - shift) / scale,
        "heldout_clips": kept,
        "vae": standardised(vae, mean, std).state_dict(),
        "seconds": time.monotonic() - started,
        "core_seconds": time.process_time() - started_core,
    }
    folder.save("latents", data)
    folder.log("latents", clips=len(encoded), seconds=data["seconds"], core_seconds=data["core_seconds"])


@torch.no_grad()
def encode(vae: AutoencoderKL, videos: Tensor) -> Tensor:
    """The most likely latents [B, Z, F, h, w] of `videos` [B, 3, F, H, W] in -1..1."""
    frames = videos.transpose(1, 2).flatten(0, 1).to(memory_format=torch.channels_last)
    found = torch.cat([vae.encode(part).latent_dist.mode() for part in frames.split(CHUNK * videos.shape[2])])
    return found.unflatten(0, (len(videos), -1)).transpose(1, 2).contiguous()


@torch.no_grad()
def standardised(vae: AutoencoderKL, mean: Tensor, std: Tensor) -> AutoencoderKL:
    """`vae`, changed so that latents of channel means `mean` and deviations `std` [Z] come as 0 and 1.

    Exact: the last layer before the latents and the first one after them are linear, so both scale along.
    """
    into, out = vae.quant_conv, vae.post_quant_conv
    into.weight[:LATENT_CHANNELS] /= std.view(-1, 1, 1, 1)
    into.bias[:LATENT_CHANNELS] = (into.bias[:LATENT_CHANNELS] - mean) / std
    into.bias[LATENT_CHANNELS:] -= 2 * std.log()  # the latents' log-variances
    out.bias += out.weight.flatten(1) @ mean
    out.weight *= std.view(1, -1, 1, 1)
    return vae


def load_standardised_vae(folder: Folder) -> AutoencoderKL:
    """The autoencoder of the latents that the UNet is trained on, for use."""
    vae = make_vae()
    vae.load_state_dict(folder.require("latents")["vae"])
    return vae.eval().requires_grad_(False)


def scene_members(data: dict[str, Any]) -> list[list[int]]:
    """For each clip, the clips of its scene, itself among them, as indices."""
    members: dict[int, list[int]] = {}
    for clip, scene in enumerate(data["scenes"]):
        members.setdefault(scene, []).append(clip)
    return [members[scene] for scene in data["scenes"]]
