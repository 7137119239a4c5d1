"""Stage 4: a VideoMAE that names every attribute of a clip (Tong et al. 2022, the classifier, trained directly).

One head has a label for each value of each attribute, "colour=red" and so on, 21 in all, six of which are right for
any clip. The largest of an attribute's labels is what the network says of it.

This VideoMAE takes 16 frames, four to a tubelet, and a clip has 17. Training leaves out one frame, any one, so it
does not matter which one a user leaves out; the figures here leave out the last.

Real VideoMAEs have two frames to a tubelet. Four show more of the motion within a tubelet, where the first layer
sees it without attention, and direction and speed are learned sooner.
"""

from dataclasses import asdict

import torch
from torch import Tensor, nn
from transformers import VideoMAEConfig, VideoMAEForVideoClassification
from transformers.models.videomae import VideoMAEImageProcessorPil

from quant.eval.shapes.draw import FRAMES, SIZE, draw
from quant.eval.shapes.vocabulary import ATTRIBUTES, ShapeClip, heldout_clips, trained_clips
from training.common import Folder, StageSettings, in_processes
from training.network import Lesson, drawn, train

#: Every label, in the order of the head's outputs.
LABELS = [f"{attribute}={value}" for attribute, values in ATTRIBUTES.items() for value in values]

_TRAINED = trained_clips()


def train_videomae(folder: Folder, settings: StageSettings) -> None:
    """Train on clips and their attributes; leaves videomae.pt."""
    lesson = Lesson("videomae", make_videomae, _loss, heldout_figures)
    in_processes(train, settings.processes, folder, settings, lesson)


def load_videomae(folder: Folder) -> VideoMAEForVideoClassification:
    """The network as far as it is trained, for use."""
    network = make_videomae()
    network.load_state_dict(folder.require("videomae")["network"])
    return network.eval().requires_grad_(False)


def make_videomae() -> VideoMAEForVideoClassification:
    """16 frames of 32 x 32 as 4 x 4 x 4 = 64 tubelets."""
    network = VideoMAEForVideoClassification(
        VideoMAEConfig(
            image_size=SIZE,
            patch_size=8,
            num_frames=FRAMES - 1,
            tubelet_size=4,
            hidden_size=128,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=256,
            initializer_range=0.05,
            id2label=dict(enumerate(LABELS)),
            label2id={label: i for i, label in enumerate(LABELS)},
            problem_type="multi_label_classification",
        )
    )
    # The fixed position embeddings have entries up to one; what a tubelet shows should start no smaller.
    nn.init.normal_(network.videomae.embeddings.patch_embeddings.projection.weight, std=0.2)
    return network


def make_videomae_processor() -> VideoMAEImageProcessorPil:
    """8-bit frames to -1..1."""
    return VideoMAEImageProcessorPil(
        size={"shortest_edge": SIZE},
        crop_size={"height": SIZE, "width": SIZE},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )


def targets(clips: list[ShapeClip]) -> Tensor:
    """Which labels are right [B, 21], ones and zeros."""
    named = [{f"{attribute}={value}" for attribute, value in asdict(clip).items()} for clip in clips]
    return torch.tensor([[float(label in right) for label in LABELS] for right in named])


def right_answers(logits: Tensor, clips: list[ShapeClip]) -> dict[str, float]:
    """For each attribute, the share of `logits` [B, 21] whose largest label of that attribute is `clips`'."""
    shares = {}
    columns = logits.split([len(values) for values in ATTRIBUTES.values()], dim=1)
    for (attribute, values), scores in zip(ATTRIBUTES.items(), columns, strict=True):
        right = torch.tensor([values.index(getattr(clip, attribute)) for clip in clips])
        shares[attribute] = (scores.argmax(dim=1) == right).float().mean().item()
    return shares


@torch.no_grad()
def heldout_figures(network: VideoMAEForVideoClassification) -> dict[str, float]:
    """Right answers on every held-out combination: each attribute, drawn, and the worst of them, damaged."""
    clips = heldout_clips()
    generator = torch.Generator().manual_seed(7)
    sharp = _logits(network, draw(clips, generator)[:, :, :-1])
    damaged = _logits(network, drawn(clips, generator)[:, :, :-1])
    return right_answers(sharp, clips) | {"worst_damaged": min(right_answers(damaged, clips).values())}


def _logits(network: VideoMAEForVideoClassification, videos: Tensor) -> Tensor:
    """Scores [B, 21] of `videos` [B, 3, 16, H, W] in -1..1; the network has frames before channels."""
    return network(videos.transpose(1, 2)).logits.float()


def _loss(network: VideoMAEForVideoClassification, batch: int, generator: torch.Generator) -> Tensor:
    """Binary cross entropy of each label, which is what transformers' multi-label loss is."""
    chosen = torch.randint(len(_TRAINED), (batch,), generator=generator).tolist()
    clips = [_TRAINED[i] for i in chosen]
    left_out = int(torch.randint(FRAMES, (1,), generator=generator))
    seen = [frame for frame in range(FRAMES) if frame != left_out]
    return network(drawn(clips, generator)[:, :, seen].transpose(1, 2), labels=targets(clips)).loss
