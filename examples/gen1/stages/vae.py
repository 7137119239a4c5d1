"""Stage 1: the autoencoder, on single frames of clips.

The loss is squared error, a little absolute error (sharper edges), and a very light pull of the latents towards
a normal distribution, as latent diffusion has it (Rombach et al. 2022). What is used later is a running average of
the weights: it is what a learning rate that falls to zero would lead to, long before it has fallen.
"""

import copy
import time

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from training.common import (
    Folder,
    StageSettings,
    average_gradients,
    in_processes,
    learning_rate,
    psnr,
    set_learning_rate,
)
from training.optim import Muon

from quant.eval.shapes.draw import FRAMES, draw
from quant.eval.shapes.vocabulary import heldout_clips, trained_clips
from stages.models import channels_last, make_vae

#: Of the weights to start from.
SEED = 0
ABSOLUTE_WEIGHT = 0.1
KL_WEIGHT = 3e-5
#: The step from which on weights are averaged, and over how many steps: 1 / (1 - decay).
AVERAGE_FROM, EMA_DECAY = 300, 0.99
#: Frames taken of each clip in a batch.
FRAMES_SEEN = 2

_TRAINED = trained_clips()


def train_vae(folder: Folder, settings: StageSettings) -> None:
    """Train encoder and decoder; leaves vae.pt. The batch is of clips."""
    in_processes(_train, settings.processes, folder, settings)


def load_vae(folder: Folder) -> AutoencoderKL:
    """The autoencoder as far as it is trained, for use."""
    vae = make_vae()
    vae.load_state_dict(folder.require("vae")["average"])
    return vae.eval().requires_grad_(False)


def _train(rank: int, folder: Folder, settings: StageSettings) -> None:
    torch.manual_seed(SEED)
    vae = make_vae()
    channels_last(vae)
    average = copy.deepcopy(vae).requires_grad_(False)
    muon, adam = _optimizers(vae, settings)
    state = folder.load("vae")
    step, spent, used = 0, 0.0, 0.0
    if state is not None:
        vae.load_state_dict(state["vae"])
        average.load_state_dict(state["average"])
        muon.load_state_dict(state["muon"])
        adam.load_state_dict(state["adam"])
        step, spent, used = state["step"], state["seconds"], state["core_seconds"]

    trained = list(vae.parameters())
    heldout = frames(draw(heldout_clips()[:32], torch.Generator().manual_seed(7))[:, :, ::8])
    started, started_core = time.monotonic(), time.process_time()
    end = settings.steps if settings.stop is None else settings.stop
    while step < end:
        loss = _loss(vae, *_batch(step, rank, settings))
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
        follow(average, vae, EMA_DECAY if step > AVERAGE_FROM else 0.0)
        if rank == 0 and (step % settings.every == 0 or step == end):
            seconds = spent + time.monotonic() - started
            core_seconds = used + settings.processes * (time.process_time() - started_core)
            quality = psnr(reconstruct(average, heldout), heldout)
            folder.log(
                "vae",
                step=step,
                loss=loss.item(),
                psnr=quality.mean().item(),
                psnr_worst=quality.min().item(),
                seconds=seconds,
                core_seconds=core_seconds,
            )
            state = {"vae": vae.state_dict(), "average": average.state_dict()}
            state |= {"muon": muon.state_dict(), "adam": adam.state_dict()}
            folder.save("vae", {**state, "step": step, "seconds": seconds, "core_seconds": core_seconds})


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move a running average of weights towards the model's."""
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)


def frames(videos: Tensor) -> Tensor:
    """The frames [B * F, 3, H, W] of `videos` [B, 3, F, H, W], stored with the channels last."""
    return videos.transpose(1, 2).flatten(0, 1).to(memory_format=torch.channels_last)


def _batch(step: int, rank: int, settings: StageSettings) -> tuple[Tensor, torch.Generator]:
    """One process's frames [N, 3, H, W] of trained combinations, and a generator for its other choices."""
    generator = torch.Generator().manual_seed(settings.processes * step + rank)
    chosen = torch.randint(len(_TRAINED), (settings.batch,), generator=generator).tolist()
    videos = draw([_TRAINED[i] for i in chosen], generator)
    seen = torch.randperm(FRAMES, generator=generator)[:FRAMES_SEEN]
    return frames(videos[:, :, seen]), generator


def _loss(vae: AutoencoderKL, images: Tensor, generator: torch.Generator) -> Tensor:
    posterior = vae.encode(images).latent_dist
    latents = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=generator)
    error = vae.decode(latents).sample - images
    pull = posterior.mean.square() + posterior.var - 1 - posterior.logvar
    return (error.square() + ABSOLUTE_WEIGHT * error.abs()).mean() + KL_WEIGHT * 0.5 * pull.mean()


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """`images` [N, 3, H, W] in -1..1, encoded and decoded again."""
    decoded: Tensor = vae.decode(vae.encode(images).latent_dist.mode()).sample
    return decoded.clamp(-1, 1)


def _optimizers(vae: AutoencoderKL, settings: StageSettings) -> tuple[Muon, torch.optim.AdamW]:
    """Muon for the hidden filters; AdamW for the way in and out of each half, gains and biases."""
    ends = ("conv_in", "conv_out", "quant_conv")
    hidden = {name for name, p in vae.named_parameters() if p.ndim == 4 and not any(end in name for end in ends)}
    adam = torch.optim.AdamW(
        [p for name, p in vae.named_parameters() if name not in hidden],
        lr=settings.adam_rate,
        betas=(0.9, 0.99),
        weight_decay=0.0,
    )
    muon = Muon([p for name, p in vae.named_parameters() if name in hidden], lr=settings.muon_rate, dtype=torch.float32)
    return muon, adam
