"""The sizes of the models whose blocks are timed, from models.json, and the Linears of such a block."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

FORMAT_VERSION = 1
FILE = Path(__file__).parent / "models.json"

#: Whose rows a Linear reads: the video's tokens, the text's, or one row a sample.
VIDEO, TEXT, SAMPLE = "video", "text", "sample"


class Model(NamedTuple):
    """One transformer block of a model, and what runs through it.

    Attributes:
        name: as on the command line.
        title, about, note, source: for people: what it is, at which size, what to know, and where the figures are from.
        transformer: diffusers' class.
        kind: "cross": self-attention, cross-attention to the text, feed-forward. "dual": video and text are streams
            with weights of their own that meet in one attention.
        d, ff, heads, head_dim: width of the stream and of the feed-forward, attention heads and their width.
        layers: how many blocks like this one the model has.
        video_tokens, text_tokens: of one sample.
        blocks: the list of blocks in the model.
        feed_forward: the name of the feed-forward in a block.
        cross_norm: is there a norm before cross-attention?
    """

    name: str
    title: str
    about: str
    note: str
    source: str
    transformer: str
    kind: str
    d: int
    ff: int
    heads: int
    head_dim: int
    layers: int
    video_tokens: int
    text_tokens: int
    blocks: str
    feed_forward: str
    cross_norm: bool

    @property
    def block(self) -> int:
        """Index of the block that stands for all: the middle one, which no rule about the ends touches."""
        return self.layers // 2

    @property
    def prefix(self) -> str:
        """What the names of that block's layers begin with in the model."""
        return f"{self.blocks}.{self.block}."

    def rows(self, stream: str, batch: int) -> int:
        """Rows of a stream for a batch of samples."""
        return batch * {VIDEO: self.video_tokens, TEXT: self.text_tokens, SAMPLE: 1}[stream]


class Layer(NamedTuple):
    """A Linear of a block: weight [n, k].

    Attributes:
        name: within the block.
        stream: whose rows it reads.
        n, k: output and input features.
    """

    name: str
    stream: str
    n: int
    k: int


def layers(model: Model) -> tuple[Layer, ...]:
    """Every Linear of the model's block."""
    return _dual(model) if model.kind == "dual" else _cross(model)


def _cross(model: Model) -> tuple[Layer, ...]:
    d, ff, feed = model.d, model.ff, model.feed_forward
    return (
        *(Layer(f"attn1.to_{each}", VIDEO, d, d) for each in ("q", "k", "v", "out.0")),
        Layer("attn2.to_q", VIDEO, d, d),
        Layer("attn2.to_k", TEXT, d, d),
        Layer("attn2.to_v", TEXT, d, d),
        Layer("attn2.to_out.0", VIDEO, d, d),
        Layer(f"{feed}.net.0.proj", VIDEO, ff, d),
        Layer(f"{feed}.net.2", VIDEO, d, ff),
    )


def _dual(model: Model) -> tuple[Layer, ...]:
    d, ff, feed = model.d, model.ff, model.feed_forward
    return (
        Layer("norm1.linear", SAMPLE, 6 * d, d),
        Layer("norm1_context.linear", SAMPLE, 6 * d, d),
        *(Layer(f"attn.to_{each}", VIDEO, d, d) for each in ("q", "k", "v", "out.0")),
        *(Layer(f"attn.{each}", TEXT, d, d) for each in ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")),
        Layer(f"{feed}.net.0.proj", VIDEO, ff, d),
        Layer(f"{feed}.net.2", VIDEO, d, ff),
        Layer(f"{feed}_context.net.0.proj", TEXT, ff, d),
        Layer(f"{feed}_context.net.2", TEXT, d, ff),
    )


@cache
def models() -> dict[str, Model]:
    """The models by name.

    Raises:
        ValueError: a file of another version.
    """
    body = json.loads(FILE.read_text(encoding="utf-8"))
    if body["format_version"] != FORMAT_VERSION:
        raise ValueError(f"{FILE.name}: format_version {body['format_version']} cannot be read, only {FORMAT_VERSION}")
    return {each["name"]: Model(**each) for each in body["models"]}
