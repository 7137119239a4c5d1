"""Stage 1: the video autoencoder.

The loss is squared error, a little absolute error (sharper edges), and a very light pull of the latents towards
a normal distribution, as latent diffusion has it (Rombach et al. 2022). The first frame weighs as much as four
later ones, because it has a latent frame of its own while four later frames share one.
"""

import time

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from quant.eval.shapes.draw import FRAMES, draw
from quant.eval.shapes.vocabulary import ShapeClip, heldout_clips, trained_clips
from training.common import (
    Folder,
    StageSettings,
    average_gradients,
    in_processes,
    learning_rate,
    psnr,
    set_learning_rate,
)
from training.models import make_vae
from training.optim import Muon
from training.whole_clip import decode_clip, encode_clip

#: Of the weights to start from.
SEED = 0
ABSOLUTE_WEIGHT = 0.1
KL_WEIGHT = 3e-5
FIRST_FRAME_WEIGHT = 4.0


def train_vae(folder: Folder, settings: StageSettings) -> None:
    """Train encoder and decoder; leaves vae.pt."""
    in_processes(_train, settings.processes, folder, settings)


def load_vae(folder: Folder) -> AutoencoderKLWan:
    """The autoencoder as far as it is trained, for use."""
    vae = make_vae()
    vae.load_state_dict(folder.require("vae")["vae"])
    return vae.eval().requires_grad_(False)


def _train(rank: int, folder: Folder, settings: StageSettings) -> None:
    torch.manual_seed(SEED)
    vae = make_vae()
    channels_last(vae)
    muon, adam = _optimizers(vae, settings)
    state = folder.load("vae")
    step, spent = 0, 0.0
    if state is not None:
        vae.load_state_dict(state["vae"])
        muon.load_state_dict(state["muon"])
        adam.load_state_dict(state["adam"])
        step, spent = state["step"], state["seconds"]

    trained = [p for p in vae.parameters() if p.requires_grad]
    heldout = draw(heldout_clips()[:16], torch.Generator().manual_seed(7))
    started = time.monotonic()
    end = settings.steps if settings.stop is None else settings.stop
    while step < end:
        # The processes draw different clips; a step that is run again draws the same ones.
        loss = _loss(vae, *_batch(2 * step + rank, settings.batch))
        adam.zero_grad()
        muon.zero_grad()
        loss.backward()
        average_gradients(trained)
        nn.utils.clip_grad_norm_(trained, 1.0)
        set_learning_rate(muon, learning_rate(step, settings.steps, settings.muon_rate))
        set_learning_rate(adam, learning_rate(step, settings.steps, settings.adam_rate))
        muon.step()
        adam.step()
        step += 1
        if rank == 0 and (step % settings.every == 0 or step == end):
            seconds = spent + time.monotonic() - started
            seen = reconstruct(vae, heldout)
            quality = psnr(seen, heldout)
            folder.log(
                "vae",
                step=step,
                loss=loss.item(),
                psnr=quality.mean().item(),
                psnr_worst=quality.min().item(),
                psnr_first_frame=psnr(seen[:, :, :1], heldout[:, :, :1]).mean().item(),
                seconds=seconds,
            )
            state = {"vae": vae.state_dict(), "muon": muon.state_dict(), "adam": adam.state_dict()}
            folder.save("vae", {**state, "step": step, "seconds": seconds})


def _batch(seed: int, size: int) -> tuple[Tensor, torch.Generator]:
    """Clips [size, 3, F, H, W] of trained combinations, and the generator for the step's other choices."""
    generator = torch.Generator().manual_seed(seed)
    known = _TRAINED
    chosen = torch.randint(len(known), (size,), generator=generator).tolist()
    return draw([known[i] for i in chosen], generator), generator


_TRAINED: list[ShapeClip] = trained_clips()


def _loss(vae: AutoencoderKLWan, video: Tensor, generator: torch.Generator) -> Tensor:
    video = video.to(memory_format=torch.channels_last_3d)
    with torch.autocast("cpu", torch.bfloat16):
        mean, log_variance = (t.float() for t in encode_clip(vae, video))
        deviation = (log_variance / 2).exp()
        latents = mean + deviation * torch.randn(mean.shape, generator=generator)
        seen = decode_clip(vae, latents).float()
    weight = torch.ones(FRAMES)
    weight[0] = FIRST_FRAME_WEIGHT
    weight = (weight / weight.mean()).view(1, 1, FRAMES, 1, 1)
    error = seen - video
    loss = (weight * (error.square() + ABSOLUTE_WEIGHT * error.abs())).mean()
    return loss + KL_WEIGHT * 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()


@torch.no_grad()
def reconstruct(vae: AutoencoderKLWan, videos: Tensor) -> Tensor:
    """`videos` [B, 3, F, H, W] in -1..1, encoded and decoded again."""
    return decode_clip(vae, encode_clip(vae, videos)[0]).clamp(-1, 1)


def channels_last(vae: AutoencoderKLWan) -> None:
    """Store filters with the channels last: with bfloat16 autocast this halves a step on a CPU."""
    for module in vae.modules():
        if isinstance(module, nn.Conv3d):
            module.weight.data = module.weight.data.to(memory_format=torch.channels_last_3d)
        elif isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.to(memory_format=torch.channels_last)


def _optimizers(vae: AutoencoderKLWan, settings: StageSettings) -> tuple[Muon, torch.optim.AdamW]:
    """Muon for the hidden filters; AdamW for the way in and out of each half, gains and biases."""
    ends = ("conv_in", "conv_out", "quant_conv")
    trained = [(name, p) for name, p in vae.named_parameters() if p.requires_grad]
    hidden = {name for name, p in trained if p.ndim >= 4 and not any(end in name for end in ends)}
    adam = torch.optim.AdamW(
        [p for name, p in trained if name not in hidden],
        lr=settings.adam_rate,
        betas=(0.9, 0.99),
        weight_decay=0.0,
    )
    return Muon([p for name, p in trained if name in hidden], lr=settings.muon_rate), adam
