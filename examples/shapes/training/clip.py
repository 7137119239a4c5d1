"""Stage 3: a CLIPModel that puts frames and captions into one space (Radford et al. 2021).

A single frame shows size, colour, shape and background: the clip's look, one of 2 x 6 x 3 x 4 = 144. It cannot
show direction or speed. A batch therefore holds one clip of each of several different looks; the network learns to
tell which caption belongs to which frame, and to pass over the words for motion. The embedding of a whole clip is
the mean of its frames', as measures of prompt consistency have it, and is trained as well.
"""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, PreTrainedTokenizerFast
from transformers.models.clip import CLIPImageProcessorPil

from quant.eval.shapes.draw import FRAMES, SIZE, draw
from quant.eval.shapes.vocabulary import ATTRIBUTES, ShapeClip, caption, heldout_clips, trained_clips
from training.common import Folder, StageSettings, in_processes
from training.network import Lesson, drawn, train

#: Frames of each clip in a training step.
FRAMES_SEEN = 2
#: Captions to choose from when the network is measured.
CHOICES = 32

Look = tuple[str, str, str, str]


def train_clip(folder: Folder, settings: StageSettings) -> None:
    """Train on frames and captions; leaves clip.pt."""
    in_processes(train, settings.processes, folder, settings, Lesson("clip", make_clip, _loss, heldout_figures))


def load_clip(folder: Folder) -> CLIPModel:
    """The network as far as it is trained, for use."""
    network = make_clip()
    network.load_state_dict(folder.require("clip")["network"])
    return network.eval().requires_grad_(False)


def make_clip() -> CLIPModel:
    """Frames of 32 x 32 as 16 patches; both encoders end in 64 numbers."""
    tokenizer = make_clip_tokenizer()
    # transformers takes a text's embedding from the first token that is `eos_token_id`, unless that is 2: then
    # from the largest id, as it did before the configuration gave it. So it must be right, and not 2.
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    assert ids["eos_token_id"] != 2
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": tokenizer.model_max_length,
        "projection_dim": 64,
        "pad_token_id": tokenizer.pad_token_id,
        **ids,
    }
    vision = {
        "image_size": SIZE,
        "patch_size": 8,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "projection_dim": 64,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64))


def make_clip_tokenizer() -> PreTrainedTokenizerFast:
    """One token per word of the vocabulary, between CLIP's start and end tokens."""
    start, end = "<|startoftext|>", "<|endoftext|>"
    words = [start, end, "<unk>", "a", "moves", "over", "background"]
    words += [value for values in ATTRIBUTES.values() for value in values]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, words.index(start)), (end, words.index(end))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=start,
        eos_token=end,
        pad_token=end,
        unk_token="<unk>",
        model_max_length=77,
    )


def make_clip_processor() -> CLIPProcessor:
    """8-bit frames to -1..1, and captions to tokens."""
    frames = CLIPImageProcessorPil(
        size={"shortest_edge": SIZE},
        crop_size={"height": SIZE, "width": SIZE},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return CLIPProcessor(frames, make_clip_tokenizer())


def look(clip: ShapeClip) -> Look:
    """What a single frame of `clip` shows."""
    return clip.size, clip.colour, clip.shape, clip.background


def groups_of_looks(clips: list[ShapeClip], size: int = CHOICES) -> list[list[ShapeClip]]:
    """As many of `clips` as possible in groups of `size` clips, no two of a group having one look."""
    groups: list[dict[Look, ShapeClip]] = []
    for clip in clips:
        for group in groups:
            if len(group) < size and look(clip) not in group:
                group[look(clip)] = clip
                break
        else:
            groups.append({look(clip): clip})
    return [list(group.values()) for group in groups if len(group) == size]


def embed_texts(network: CLIPModel, texts: list[str]) -> Tensor:
    """Embeddings [N, 64] of length one."""
    tokens = make_clip_tokenizer()(texts, padding=True, truncation=True, return_tensors="pt")
    pooled = network.text_model(tokens.input_ids, attention_mask=tokens.attention_mask).pooler_output
    return F.normalize(network.text_projection(pooled).float(), dim=-1)


def embed_frames(network: CLIPModel, videos: Tensor) -> Tensor:
    """Embeddings [B, F, 64] of length one of the frames of `videos` [B, 3, F, H, W] in -1..1."""
    pooled = network.vision_model(videos.transpose(1, 2).flatten(0, 1)).pooler_output
    return F.normalize(network.visual_projection(pooled).float(), dim=-1).unflatten(0, (len(videos), -1))


@torch.no_grad()
def ranked_first(network: CLIPModel, videos: Tensor, clips: list[ShapeClip]) -> float:
    """The share of `videos` [B, 3, F, H, W] whose own caption is nearest among the captions of all `clips` [B]."""
    captions = embed_texts(network, [caption(clip) for clip in clips])
    similarity = embed_frames(network, videos).mean(dim=1) @ captions.T
    return (similarity.argmax(dim=1) == torch.arange(len(clips))).float().mean().item()


def heldout_figures(network: CLIPModel) -> dict[str, float]:
    """How often the right caption of 32 ranks first, for drawn clips and for damaged ones."""
    groups = groups_of_looks(heldout_clips())
    generator = torch.Generator().manual_seed(7)
    sharp = [ranked_first(network, draw(group, generator), group) for group in groups]
    damaged = [ranked_first(network, drawn(group, generator), group) for group in groups]
    return {"first": sum(sharp) / len(groups), "first_damaged": sum(damaged) / len(groups)}


def _loss(network: CLIPModel, batch: int, generator: torch.Generator) -> Tensor:
    """Cross entropy of choosing a frame's caption, a clip's caption, and a caption's clip."""
    looks = torch.randperm(len(_BY_LOOK), generator=generator)[:batch].tolist()
    clips = [_BY_LOOK[i][int(torch.randint(len(_BY_LOOK[i]), (1,), generator=generator))] for i in looks]
    seen = torch.randint(FRAMES, (FRAMES_SEEN,), generator=generator)
    frames = embed_frames(network, drawn(clips, generator)[:, :, seen])
    captions = embed_texts(network, [caption(clip) for clip in clips])
    # CLIP's own limit: beyond a factor of 100 the softmax is too sharp to learn from.
    scale = network.logit_scale.clamp(max=4.605).exp()
    right = torch.arange(len(clips))
    of_frames = scale * frames.flatten(0, 1) @ captions.T
    of_clips = scale * frames.mean(dim=1) @ captions.T
    losses = [
        F.cross_entropy(of_frames, right.repeat_interleave(FRAMES_SEEN)),
        F.cross_entropy(of_clips, right),
        F.cross_entropy(of_clips.T, right),
    ]
    return torch.stack(losses).mean()


def _by_look() -> list[list[ShapeClip]]:
    """The trained combinations, those of one look together."""
    found: dict[Look, list[ShapeClip]] = {}
    for clip in trained_clips():
        found.setdefault(look(clip), []).append(clip)
    return list(found.values())


_BY_LOOK = _by_look()
