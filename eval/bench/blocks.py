"""A transformer block as a list of operations, in bf16 or quantized, unfused or fused.

Not fused, as `torch.compile` leaves it: element-wise steps that follow each other are one kernel, a matmul takes
nothing on, and every quantized layer quantizes its own input. Fused: layers that read one input and have one format
are one matmul and quantize it once, the norm before them does that on its way, and activation, gate and residual are
in the epilogue of the matmul before them, which writes codes where the next layer's scale is known beforehand.
A layer that reads bf16 has nothing to quantize, and the norm before it stays a pass of its own.
Smoothing is not looked at: a factor in the feed-forward's last layer would keep the quantization of its input apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quant.eval.bench import operations
from quant.eval.bench.operations import Operation, codes_of
from quant.eval.bench.sizes import TEXT, VIDEO, Model, layers
from quant.formats.layer import LayerFormat


def block_operations(
    model: Model, layer_formats: Mapping[str, LayerFormat | None], *, batch: int = 1, fused: bool = False
) -> list[Operation]:
    """Everything a block does with a batch, in order.

    The text's keys and values are counted although they are the same at every step, and a pipeline may keep them. The
    few numbers a sample that modulate it are not counted.

    Args:
        model: which block.
        layer_formats: of its Linears, by their name within it; one that is absent or None runs in bf16.
        batch: samples; two with classifier-free guidance in one batch.
        fused: see above; layers in bf16 are never fused.
    """
    made = _Block(model, layer_formats, batch, fused)
    if model.kind == "dual":
        _dual(made)
    else:
        _cross(made)
    return made.done


def _cross(block: _Block) -> None:
    model, feed = block.model, block.model.feed_forward
    up, down = f"{feed}.net.0.proj", f"{feed}.net.2"
    qkv = ["attn1.to_q", "attn1.to_k", "attn1.to_v"]
    block.norm(VIDEO, "norm1 + modulation", qkv)
    block.project("attn1.to_qkv", qkv)
    block.elementwise("attn1 norms of q and k + rotary embedding", VIDEO, 2 * model.d, 2 * model.d)
    block.attention("attn1 attention", block.model.video_tokens, block.model.video_tokens)
    block.out("attn1.to_out.0")
    norm2 = "norm2" if model.cross_norm else None
    block.norm(VIDEO, norm2, ["attn2.to_q"], after="attn1.to_out.0", residual="attn1 gate + residual")
    block.project("attn2.to_q", ["attn2.to_q"])
    block.quantize(["attn2.to_k", "attn2.to_v"])
    block.project("attn2.to_kv", ["attn2.to_k", "attn2.to_v"])
    block.elementwise("attn2 norm of q", VIDEO, model.d, model.d)
    block.elementwise("attn2 norm of k", TEXT, model.d, model.d)
    block.attention("attn2 attention", model.video_tokens, model.text_tokens)
    block.out("attn2.to_out.0")
    # Wan's blocks call their third norm what LTX's call their second.
    norm3 = "norm3" if model.cross_norm else "norm2"
    block.norm(VIDEO, f"{norm3} + modulation", [up], after="attn2.to_out.0", residual="attn2 residual")
    block.feed_forward(VIDEO, up, down, feed)


def _dual(block: _Block) -> None:
    model, feed = block.model, block.model.feed_forward
    streams = {
        VIDEO: ("norm1", "attn.to_qkv", ["attn.to_q", "attn.to_k", "attn.to_v"], "attn.to_out.0", "norm2", feed),
        TEXT: (
            "norm1_context",
            "attn.add_qkv_proj",
            ["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"],
            "attn.to_add_out",
            "norm2_context",
            f"{feed}_context",
        ),
    }
    for stream, (norm, joined, qkv, *_) in streams.items():
        block.project(f"{norm}.linear", [f"{norm}.linear"])
        block.norm(stream, f"{norm} + modulation", qkv)
        block.project(joined, qkv)
        embedded = " + rotary embedding" if stream == VIDEO else ""
        block.elementwise(f"attn norms of q and k{embedded} ({stream})", stream, 2 * model.d, 2 * model.d)
    tokens = model.video_tokens + model.text_tokens
    block.attention("attn attention", tokens, tokens)
    for stream, (_, _, _, out, norm, feed) in streams.items():
        up, down = f"{feed}.net.0.proj", f"{feed}.net.2"
        block.out(out)
        block.norm(stream, f"{norm} + modulation", [up], after=out, residual=f"attn gate + residual ({stream})")
        block.feed_forward(stream, up, down, feed)


class _Block:
    """Collects operations, and knows which of them a fused block saves."""

    def __init__(self, model: Model, layer_formats: Mapping[str, LayerFormat | None], batch: int, fused: bool) -> None:
        self.model = model
        self.done: list[Operation] = []
        self._layer_formats = layer_formats
        self._batch = batch
        self._fused = fused
        self._layers = {each.name: each for each in layers(model)}

    def elementwise(self, name: str, stream: str, read: int, written: int) -> None:
        self.done.append(operations.elementwise(name, self._rows(stream), read, written))

    def attention(self, name: str, queries: int, keys: int) -> None:
        heads, head_dim = self.model.heads, self.model.head_dim
        self.done.append(operations.attention(name, self._batch, queries, keys, heads, head_dim))

    def norm(
        self, stream: str, norm: str | None, readers: Sequence[str], *, after: str | None = None, residual: str = ""
    ) -> None:
        """Adds what lies between the output of the layer `after` and the input of `readers`: residual, norm, codes.

        Args:
            stream: whose rows.
            norm: the norm's name; None where the readers take the stream as it is.
            readers: layers that read the result.
            after: the layer whose output is added to the stream; None where nothing is.
            residual: the name of that addition.
        """
        d = self.model.d
        layer_format = self._one_format(readers)
        within = layer_format is not None and codes_of(layer_format) is not None  # the norm runs in the quantization
        added = after is not None and not self._in_epilogue(after)
        if added and (norm is None or within):
            self.elementwise(residual, stream, 2 * d, d)
        if norm is None:
            self.quantize(readers)
        elif layer_format is not None and within:
            self.done.append(operations.quantize(f"{norm} + quantize", self._rows(stream), d, layer_format))
        else:
            if added:
                self.elementwise(f"{residual} + {norm}", stream, 2 * d, 2 * d)
            else:
                self.elementwise(norm, stream, d, d)
            self.quantize(readers)

    def quantize(self, readers: Sequence[str]) -> None:
        """The input of `readers` as codes: once where they share them."""
        layer_format = self._one_format(readers)
        if layer_format is not None:
            self._quantize(readers[0], ", ".join(readers), layer_format)
            return
        for name in readers:
            own = self._layer_formats.get(name)
            if own is not None:
                self._quantize(name, name, own)

    def project(self, joined: str, names: Sequence[str]) -> None:
        """The matmuls of layers that read one input; one, called `joined`, where they are fused."""
        layer_format = self._one_format(names)
        if layer_format is not None and len(names) > 1:
            first = self._layers[names[0]]
            n = sum(self._layers[name].n for name in names)
            self.done.append(operations.matmul(joined, self._rows(first.stream), n, first.k, layer_format))
            return
        for name in names:
            self._matmul(name)

    def out(self, name: str) -> None:
        """A projection back into the stream, its input quantized for it alone."""
        self.quantize([name])
        self._matmul(name, residual=self._in_epilogue(name))

    def feed_forward(self, stream: str, up: str, down: str, name: str) -> None:
        """Both matmuls, the activation between them and the residual; the input is there already."""
        first, second = self._layer_formats.get(up), self._layer_formats.get(down)
        static = second is not None and second.scheme.has_static_input
        codes = self._in_epilogue(up) and static and codes_of(first) == codes_of(second)
        self._matmul(up, codes=codes)
        if not self._in_epilogue(up):
            self.elementwise(f"{name} gelu", stream, self.model.ff, self.model.ff)
        if not codes:
            self.quantize([down])
        self._matmul(down, residual=self._in_epilogue(down))
        self.norm(stream, None, [], after=down, residual=f"{name} gate + residual")

    def _matmul(self, name: str, *, residual: bool = False, codes: bool = False) -> None:
        layer, layer_format = self._layers[name], self._layer_formats.get(name)
        rows = self._rows(layer.stream)
        self.done.append(operations.matmul(name, rows, layer.n, layer.k, layer_format, residual=residual, codes=codes))

    def _quantize(self, layer: str, name: str, layer_format: LayerFormat) -> None:
        if codes_of(layer_format) is not None:
            found = self._layers[layer]
            self.done.append(operations.quantize(f"{name} quantize", self._rows(found.stream), found.k, layer_format))

    def _in_epilogue(self, name: str) -> bool:
        """Does this layer's matmul do what follows it?"""
        return self._fused and self._layer_formats.get(name) is not None

    def _one_format(self, names: Sequence[str]) -> LayerFormat | None:
        """The format of layers that are one matmul; None where they are not, or nothing is fused."""
        layer_formats = {self._layer_formats.get(name) for name in names}
        return layer_formats.pop() if self._fused and len(layer_formats) == 1 else None

    def _rows(self, stream: str) -> int:
        return self.model.rows(stream, self._batch)
