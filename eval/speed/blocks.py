"""A transformer block as a list of operations, in bf16 or quantized, unfused or fused.

Not fused, as `torch.compile` leaves it: element-wise steps that follow each other are one kernel, a matmul takes
nothing on, and every quantized layer quantizes its own input. Fused: layers that read one input and have one scheme
are one matmul and quantize it once, the norm before them does that on its way, and activation, gate and residual are
in the epilogue of the matmul before them, which writes codes where the next layer's scale is known beforehand.
Smoothing is not looked at: a factor in the feed-forward's last layer would keep the quantization of its input apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quant.eval.speed import operations
from quant.eval.speed.operations import Operation
from quant.eval.speed.sizes import TEXT, VIDEO, Model, layers
from quant.scheme import Scheme


def block_operations(
    model: Model, schemes: Mapping[str, Scheme | None], *, batch: int = 1, fused: bool = False
) -> list[Operation]:
    """Everything a block does with a batch, in order.

    The text's keys and values are counted although they are the same at every step, and a pipeline may keep them. The
    few numbers a sample that modulate it are not counted.

    Args:
        model: which block.
        schemes: of its Linears, by their name within it; one that is absent or None runs in bf16.
        batch: samples; two with classifier-free guidance in one batch.
        fused: see above; layers in bf16 are never fused.
    """
    made = _Block(model, schemes, batch, fused)
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

    def __init__(self, model: Model, schemes: Mapping[str, Scheme | None], batch: int, fused: bool) -> None:
        self.model = model
        self.done: list[Operation] = []
        self._schemes = schemes
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
        """From the output of the layer `after` to the quantized input of `readers`: residual, norm, codes.

        Args:
            stream: whose rows.
            norm: the norm's name; None where the readers take the stream as it is.
            readers: layers that read the result.
            after: the layer whose output is added to the stream; None where nothing is.
            residual: the name of that addition.
        """
        d = self.model.d
        scheme = self._one_scheme(readers)
        added = after is not None and not self._in_epilogue(after)
        if added and (norm is None or scheme is not None):
            self.elementwise(residual, stream, 2 * d, d)
        if norm is None:
            self.quantize(readers)
        elif scheme is not None:
            self.done.append(operations.quantize(f"{norm} + quantize", self._rows(stream), d, scheme))
        else:
            if added:
                self.elementwise(f"{residual} + {norm}", stream, 2 * d, 2 * d)
            else:
                self.elementwise(norm, stream, d, d)
            self.quantize(readers)

    def quantize(self, readers: Sequence[str]) -> None:
        """The input of `readers` as codes: once where they share them."""
        scheme = self._one_scheme(readers)
        if scheme is not None:
            self._quantize(readers[0], ", ".join(readers), scheme)
            return
        for name in readers:
            own = self._schemes.get(name)
            if own is not None:
                self._quantize(name, name, own)

    def project(self, joined: str, names: Sequence[str]) -> None:
        """The matmuls of layers that read one input; one, called `joined`, where they are fused."""
        scheme = self._one_scheme(names)
        if scheme is not None and len(names) > 1:
            first = self._layers[names[0]]
            n = sum(self._layers[name].n for name in names)
            self.done.append(operations.matmul(joined, self._rows(first.stream), n, first.k, scheme))
            return
        for name in names:
            self._matmul(name)

    def out(self, name: str) -> None:
        """A projection back into the stream, its input quantized for it alone."""
        self.quantize([name])
        self._matmul(name, residual=self._in_epilogue(name))

    def feed_forward(self, stream: str, up: str, down: str, name: str) -> None:
        """Both matmuls, the activation between them and the residual; the input is there already."""
        first, second = self._schemes.get(up), self._schemes.get(down)
        alike = operations.numbers_of(first) == operations.numbers_of(second)
        codes = self._in_epilogue(up) and alike and second is not None and second.has_static_input
        self._matmul(up, codes=codes)
        if not self._in_epilogue(up):
            self.elementwise(f"{name} gelu", stream, self.model.ff, self.model.ff)
        if not codes:
            self.quantize([down])
        self._matmul(down, residual=self._in_epilogue(down))
        self.norm(stream, None, [], after=down, residual=f"{name} gate + residual")

    def _matmul(self, name: str, *, residual: bool = False, codes: bool = False) -> None:
        layer, scheme = self._layers[name], self._schemes.get(name)
        rows = self._rows(layer.stream)
        self.done.append(operations.matmul(name, rows, layer.n, layer.k, scheme, residual=residual, codes=codes))

    def _quantize(self, layer: str, name: str, scheme: Scheme) -> None:
        found = self._layers[layer]
        self.done.append(operations.quantize(f"{name} quantize", self._rows(found.stream), found.k, scheme))

    def _in_epilogue(self, name: str) -> bool:
        """Does this layer's matmul do what follows it?"""
        return self._fused and self._schemes.get(name) is not None

    def _one_scheme(self, names: Sequence[str]) -> Scheme | None:
        """The scheme of layers that share one quantized input; None where they do not, or nothing is fused."""
        schemes = {self._schemes.get(name) for name in names}
        return schemes.pop() if self._fused and len(schemes) == 1 else None

    def _rows(self, stream: str) -> int:
        return self.model.rows(stream, self._batch)
