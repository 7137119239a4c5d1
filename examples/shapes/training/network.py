"""What the training of both metric networks shares: the loop, the checkpoints, the choice of optimizer.

A metric network is a transformers model in the format that real ones have, so that code which measures real
videos with real networks can be tried on these. It learns from drawn clips of trained combinations only.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from quant.eval.shapes.draw import draw
from quant.eval.shapes.vocabulary import ShapeClip
from training.common import Folder, StageSettings, average_gradients, learning_rate, set_learning_rate
from training.decoded import as_decoded
from training.optim import Muon

#: Of the weights to start from.
SEED = 2


@dataclass(frozen=True)
class Lesson:
    """What sets one metric network's training apart from the other's."""

    #: The name of the stage and of its checkpoint.
    stage: str
    #: The untrained network.
    make: Callable[[], PreTrainedModel]
    #: (network, clips in a batch, the step's random choices) -> the loss, a scalar.
    loss: Callable[[PreTrainedModel, int, torch.Generator], Tensor]
    #: (network) -> figures on clips of held-out combinations.
    figures: Callable[[PreTrainedModel], dict[str, float]]


def train(rank: int, folder: Folder, settings: StageSettings, lesson: Lesson) -> None:
    """One process's part of a training; the first process leaves STAGE.pt."""
    torch.manual_seed(SEED)
    network = lesson.make().train()
    muon, adam = _optimizers(network, settings)
    step, spent = 0, 0.0
    state = folder.load(lesson.stage)
    if state is not None:
        network.load_state_dict(state["network"])
        muon.load_state_dict(state["muon"])
        adam.load_state_dict(state["adam"])
        step, spent = state["step"], state["seconds"]

    started = time.monotonic()
    end = settings.steps if settings.stop is None else settings.stop
    while step < end:
        generator = torch.Generator().manual_seed(settings.processes * step + rank)
        with torch.autocast("cpu", torch.bfloat16):
            loss = lesson.loss(network, settings.batch, generator)
        adam.zero_grad()
        muon.zero_grad()
        loss.backward()
        average_gradients(network.parameters())
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        set_learning_rate(muon, learning_rate(step, settings.steps, settings.muon_rate))
        set_learning_rate(adam, learning_rate(step, settings.steps, settings.adam_rate))
        muon.step()
        adam.step()
        step += 1
        if rank == 0 and (step % settings.every == 0 or step == end):
            seconds = spent + time.monotonic() - started
            folder.log(lesson.stage, step=step, loss=loss.item(), **lesson.figures(network), seconds=seconds)
            state = {"network": network.state_dict(), "muon": muon.state_dict(), "adam": adam.state_dict()}
            folder.save(lesson.stage, {**state, "step": step, "seconds": seconds})


def drawn(clips: list[ShapeClip], generator: torch.Generator) -> Tensor:
    """Training videos [B, 3, F, H, W] in -1..1 of `clips`, as a decoder might show them."""
    return as_decoded(draw(clips, generator), generator)


def _optimizers(network: PreTrainedModel, settings: StageSettings) -> tuple[Muon, torch.optim.AdamW]:
    """Muon for the matrices of the encoders' layers, AdamW for everything else."""
    hidden = {name for name, p in network.named_parameters() if ".encoder.layer" in name and p.ndim == 2}
    adam = torch.optim.AdamW(
        [p for name, p in network.named_parameters() if name not in hidden],
        lr=settings.adam_rate,
        betas=(0.9, 0.98),
        weight_decay=0.01,
    )
    return Muon([p for name, p in network.named_parameters() if name in hidden], lr=settings.muon_rate), adam
