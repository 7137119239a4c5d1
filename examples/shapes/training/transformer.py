"""Stage 2: the transformer and its text encoder, together, by flow matching.

Flow matching (Lipman et al. 2023; rectified flow, Liu et al. 2023): mix a clip x with noise n as (1 - s) x + s n
for a random s in 0..1, and learn to say n - x, the direction in which the mixture changes. A sampler then walks
from s = 1 to s = 0. The s of a step are drawn as densely as the pipeline's scheduler, with its shift of 3, will
visit them (Esser et al. 2024).

One caption in ten is empty. That teaches the model clips as such, which classifier-free guidance needs
(Ho and Salimans 2022). What is exported is a running average of the weights.
"""

import copy
import time
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from torch import Tensor, distributed, nn
from transformers import UMT5EncoderModel

from training.attention import prepare
from training.common import Folder, StageSettings, average_gradients, in_processes, learning_rate, set_learning_rate
from training.latents import latents
from training.models import TEXT_TOKENS
from training.optim import Muon
from training.text_to_latents import TextToLatents

#: Of the weights to start from.
SEED = 1
#: The same in the exported scheduler.
SHIFT = 3.0
EMPTY_CAPTIONS = 0.1
EMA_DECAY = 0.998


@dataclass(frozen=True)
class TransformerSettings(StageSettings):
    """What this stage takes besides; its batch is of latents."""

    adam_rate: float = 1e-3
    #: Compile the blocks; takes a minute, then a third off every step.
    compile: bool = True
    #: Clips to train on: every trained combination five times, each time somewhere else in the frame.
    clips: int = 5185
    #: Held-out clips that measure the training.
    heldout: int = 256


def train_transformer(folder: Folder, settings: TransformerSettings) -> None:
    """Train on the latents of the encoder of vae.pt; leaves transformer.pt."""
    latents(folder, settings.processes, settings.clips, settings.heldout)
    in_processes(_train, settings.processes, folder, settings)


def load_transformer(folder: Folder) -> tuple[UMT5EncoderModel, WanTransformer3DModel]:
    """The text encoder and the transformer as far as they are trained, averaged, for use."""
    model = TextToLatents()
    model.load_state_dict(folder.require("transformer")["average"])
    model.eval().requires_grad_(False)
    for block in model.transformer.blocks:
        block.attn1.processor = WanAttnProcessor()
        block.attn2.processor = WanAttnProcessor()
    return model.text_encoder, model.transformer


def _train(rank: int, folder: Folder, settings: TransformerSettings) -> None:
    data = folder.require("latents")
    torch.manual_seed(SEED)
    model = TextToLatents()
    average = copy.deepcopy(model).requires_grad_(False)
    average.cross_attentions = prepare(average.transformer)
    muon, adam = _optimizers(model, settings)
    step, spent = 0, 0.0
    state = folder.load("transformer")
    if state is not None:
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        muon.load_state_dict(state["muon"])
        adam.load_state_dict(state["adam"])
        step, spent = state["step"], state["seconds"]
    if settings.compile:
        for block in model.transformer.blocks:
            block.compile()

    trained = list(model.parameters())
    started = time.monotonic()
    recent: list[float] = []
    end = settings.steps if settings.stop is None else settings.stop
    while step < end:
        loss = _loss(model, **_batch(data, seed=2 * step + rank, size=settings.batch))
        adam.zero_grad()
        muon.zero_grad()
        loss.backward()
        average_gradients(trained)
        nn.utils.clip_grad_norm_(trained, 1.0)
        set_learning_rate(muon, learning_rate(step, settings.steps, settings.muon_rate, warm_up=100))
        set_learning_rate(adam, learning_rate(step, settings.steps, settings.adam_rate, warm_up=100))
        muon.step()
        adam.step()
        _follow(average, model, step)
        step += 1
        recent.append(loss.item())
        if rank == 0 and (step % settings.every == 0 or step == end):
            seconds = spent + time.monotonic() - started
            folder.log(
                "transformer",
                step=step,
                loss=sum(recent) / len(recent),
                **_heldout_losses(average, data),
                seconds=seconds,
            )
            recent.clear()
            state = {"model": model.state_dict(), "average": average.state_dict()}
            state |= {"muon": muon.state_dict(), "adam": adam.state_dict()}
            folder.save("transformer", {**state, "step": step, "seconds": seconds})
    if distributed.is_initialized():
        distributed.barrier()


def _batch(data: dict[str, Any], seed: int, size: int) -> dict[str, Any]:
    """The arguments of `_loss` for one process in one step."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(data["captions"]), (size,), generator=generator)
    empty = (torch.rand(size, generator=generator) < EMPTY_CAPTIONS).tolist()
    texts = ["" if e else data["captions"][i] for i, e in zip(chosen.tolist(), empty, strict=True)]
    clips = data["latents"][chosen]
    return {
        "clips": clips,
        "captions": texts,
        "sigma": _sigmas(size, generator),
        "noise": torch.randn(clips.shape, generator=generator),
        # Half the steps see the text as short as it is in training, half as the pipeline pads it by default.
        "text_length": 512 if torch.rand(1, generator=generator) < 0.5 else TEXT_TOKENS,
    }


def _sigmas(count: int, generator: torch.Generator) -> Tensor:
    """Strengths of noise [count], one from each of `count` equal shares of the scheduler's distribution."""
    uniform = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return SHIFT * uniform / (1 + (SHIFT - 1) * uniform)


def _loss(
    model: TextToLatents, clips: Tensor, captions: list[str], sigma: Tensor, noise: Tensor, text_length: int
) -> Tensor:
    s = sigma.view(-1, 1, 1, 1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        direction = model((1 - s) * clips + s * noise, sigma, captions, text_length)
    return (direction.float() - (noise - clips)).square().mean()


@torch.no_grad()
def _heldout_losses(model: TextToLatents, data: dict[str, Any]) -> dict[str, float]:
    """The loss on combinations never trained on, with their captions and with each other's."""
    clips, captions = data["heldout_latents"], data["heldout_captions"]
    generator = torch.Generator().manual_seed(5)
    sigma, noise = _sigmas(len(clips), generator), torch.randn(clips.shape, generator=generator)
    own = _loss(model, clips, captions, sigma, noise, 512).item()
    others = _loss(model, clips, captions[1:] + captions[:1], sigma, noise, 512).item()
    return {"heldout": own, "heldout_wrong_captions": others}


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, step: int) -> None:
    """Move the running average towards the model; quickly at first, so that it forgets the random start."""
    decay = min(EMA_DECAY, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)


def _optimizers(model: TextToLatents, settings: TransformerSettings) -> tuple[Muon, torch.optim.AdamW]:
    """Muon for the matrices of the transformer's blocks, AdamW for everything else."""
    hidden = [p for p in model.transformer.blocks.parameters() if p.ndim == 2]
    known = {id(p) for p in hidden}
    others = [p for p in model.parameters() if id(p) not in known]
    adam = torch.optim.AdamW(others, lr=settings.adam_rate, betas=(0.9, 0.98), weight_decay=0.01)
    return Muon(hidden, lr=settings.muon_rate, weight_decay=0.01), adam
