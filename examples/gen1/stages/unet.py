"""Stage 2: the UNet and its text encoder, together, to make clips from noise and to edit clips.

Diffusion: noise is mixed into a clip, a x + s n with a^2 + s^2 = 1, and the UNet learns v = a n - s x (Salimans and
Ho 2022), from which both x and n follow. A sampler then walks from nothing but noise to no noise.

What a step learns from, clips and edits of clips, is in `lessons.py`. What is exported is a running average of the
weights.
"""

import copy
import time
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet3DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, distributed, nn
from training.common import Folder, StageSettings, average_gradients, in_processes, learning_rate, set_learning_rate
from training.optim import Muon
from transformers import CLIPTextModel

from quant.eval.shapes.vocabulary import caption
from stages.latents import scene_members
from stages.lessons import Batch, Mixing, make_batch
from stages.models import channels_last, make_text_encoder, make_tokenizer, make_unet
from stages.vae import follow

#: Of the weights to start from.
SEED = 1
EMA_DECAY = 0.998


@dataclass(frozen=True)
class UNetSettings(StageSettings):
    """The batch is of clips, of all processes together."""

    adam_rate: float = 1e-3
    #: Minutes of work that a kill may cost: a checkpoint after every so many steps.
    every: int = 50


class TextToLatents(nn.Module):
    """The two networks that learn together, called as the pipelines call them."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = make_tokenizer()
        self.text_encoder = make_text_encoder()
        self.unet = make_unet()
        # The same products written out: for so few positions a CPU does them sooner than by its fused kernel.
        self.unet.set_attn_processor(AttnProcessor())
        for module in self.unet.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # there is no end of clips, and a step that is run again has to be the same

    def forward(self, mixed: Tensor, times: Tensor, texts: list[str]) -> Tensor:
        """v [B, Z, F, h, w] of the mixtures `mixed` at `times` [B], whole numbers in 0..999."""
        tokens = self.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        text = self.text_encoder(tokens).last_hidden_state
        found: Tensor = self.unet(mixed, times, encoder_hidden_states=text, return_dict=False)[0]
        return found


def train_unet(folder: Folder, settings: UNetSettings) -> None:
    """Train on latents.pt; leaves unet.pt."""
    in_processes(_train, settings.processes, folder, settings)


def load_unet(folder: Folder) -> tuple[CLIPTextModel, UNet3DConditionModel]:
    """The text encoder and the UNet as far as they are trained, averaged, for use."""
    model = TextToLatents()
    model.load_state_dict(folder.require("unet")["average"])
    model.eval().requires_grad_(False)
    return model.text_encoder, model.unet


def _train(rank: int, folder: Folder, settings: UNetSettings) -> None:
    data = folder.require("latents")
    members = scene_members(data)
    torch.manual_seed(SEED)
    model = TextToLatents()
    channels_last(model)
    average = copy.deepcopy(model).requires_grad_(False)
    mixing = Mixing()
    muon, adam = _optimizers(model, settings)
    step, spent, used = 0, 0.0, 0.0
    state = folder.load("unet")
    if state is not None:
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        muon.load_state_dict(state["muon"])
        adam.load_state_dict(state["adam"])
        step, spent, used = state["step"], state["seconds"], state["core_seconds"]

    trained = list(model.parameters())
    started, started_core = time.monotonic(), time.process_time()
    recent: list[float] = []
    end = settings.steps if settings.stop is None else settings.stop
    while step < end:
        share = slice(rank, None, settings.processes)
        loss = _loss(model, mixing, make_batch(data, members, step, settings.batch, share))
        adam.zero_grad()
        muon.zero_grad()
        loss.backward()
        average_gradients(trained)
        nn.utils.clip_grad_norm_(trained, 1.0)
        set_learning_rate(muon, learning_rate(step, settings.steps, settings.muon_rate, warm_up=100))
        set_learning_rate(adam, learning_rate(step, settings.steps, settings.adam_rate, warm_up=100))
        muon.step()
        adam.step()
        step += 1
        # Quickly at first, so that the average forgets the random start.
        follow(average, model, min(EMA_DECAY, step / (9 + step)))
        recent.append(loss.item())
        if rank == 0 and (step % settings.every == 0 or step == end):
            figures = {
                "step": step,
                "loss": sum(recent) / len(recent),
                **_heldout_losses(average, mixing, data),
                "seconds": spent + time.monotonic() - started,
                "core_seconds": used + settings.processes * (time.process_time() - started_core),
            }
            folder.log("unet", **figures)
            recent.clear()
            state = {"model": model.state_dict(), "average": average.state_dict()}
            state |= {"muon": muon.state_dict(), "adam": adam.state_dict()}
            state |= {key: figures[key] for key in ("step", "seconds", "core_seconds")}
            folder.save("unet", state)
    if distributed.is_initialized():
        distributed.barrier()


def _loss(model: TextToLatents, mixing: Mixing, batch: Batch) -> Tensor:
    mixed, wanted = mixing.mixed(batch)
    return (model(mixed, batch.times, batch.texts) - wanted).square().mean()


@torch.no_grad()
def _heldout_losses(model: TextToLatents, mixing: Mixing, data: dict[str, Any]) -> dict[str, float]:
    """The loss on combinations never trained on, with their captions and with each other's."""
    clips, texts = data["heldout_latents"], [caption(clip) for clip in data["heldout_clips"]]
    generator = torch.Generator().manual_seed(5)
    times = (1000 * (torch.arange(len(clips)) + 0.5) / len(clips)).long()
    noise = torch.randn(clips.shape, generator=generator)
    batch = Batch(clips, clips, noise, times, torch.full_like(times, 999), texts)
    own = _loss(model, mixing, batch).item()
    batch.texts[:] = texts[1:] + texts[:1]
    return {"heldout": own, "heldout_wrong_captions": _loss(model, mixing, batch).item()}


def _optimizers(model: TextToLatents, settings: UNetSettings) -> tuple[Muon, torch.optim.AdamW]:
    """Muon for the matrices and filters inside the UNet's blocks, AdamW for everything else."""
    ends = ("conv_in.", "conv_out.", "time_embedding.")
    hidden = [p for name, p in model.unet.named_parameters() if p.ndim >= 2 and not name.startswith(ends)]
    known = {id(p) for p in hidden}
    adam = torch.optim.AdamW(
        [p for p in model.parameters() if id(p) not in known],
        lr=settings.adam_rate,
        betas=(0.9, 0.98),
        weight_decay=0.01,
    )
    return Muon(hidden, lr=settings.muon_rate, weight_decay=0.01, dtype=torch.float32), adam
