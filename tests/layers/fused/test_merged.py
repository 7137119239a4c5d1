"""Merged layers compute what they computed apart, and nobody outside sees their tensors lie otherwise."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import nn

from quant.errors import ModelError
from quant.formats.layer import LayerFormat
from quant.formats.rows import SHARED
from quant.kernels import prepacking
from quant.kernels.layouts import aligned_rows
from quant.kernels.weight_orders import LAYOUTS
from quant.layers.fused.merged import Member, MergedLinear, obstacle
from quant.layers.fused.surroundings import merge_layers
from tests.layers.fused.layer_formats import EIGHT_BIT, LAYER_FORMATS, OF_FLOATS, packed, same
from tests.layers.test_prepack import OfKernels

K = 77
SIZES = {"q": 33, "k": 20, "v": 7}
EVERY_FORMAT = pytest.mark.parametrize("name", LAYER_FORMATS)
#: Whose sums are exact, or added in one order whatever N is.
EXACT = ("W8A8", "2:4 W8A8", "W4A8")


def width(name: str) -> int:
    """Not a multiple of 16 where anything fits."""
    return K if name in EIGHT_BIT else 256


class Attention(nn.Module):
    """Layers of one input, and a plain one behind them."""

    def __init__(
        self, name: str, *, smoothed: bool = False, bias: bool = True, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        k = width(name)
        factor = torch.rand(k) + 0.5
        rows = SIZES if name != "FP8_BLOCK" else {"q": 128, "k": 256, "v": 7}
        for leaf, n in rows.items():
            linear = nn.Linear(k, n, bias=bias, dtype=dtype)
            self.add_module(leaf, packed(linear, LAYER_FORMATS[name], factor=factor if smoothed else None))
        self.out = nn.Linear(4, 4)


def merged(attention: Attention) -> nn.Module:
    made = copy.deepcopy(attention)
    assert merge_layers(made, tuple(SIZES), "qkv") == "fused"
    return made


def qkv(attention: nn.Module) -> MergedLinear:
    layer = attention.get_submodule("qkv")
    assert isinstance(layer, MergedLinear)
    return layer


@EVERY_FORMAT
@pytest.mark.parametrize("smoothed", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_one_matmul_is_the_three(name: str, smoothed: bool, bias: bool) -> None:
    apart = Attention(name, smoothed=smoothed, bias=bias)
    together = qkv(merged(apart))
    x = torch.randn(2, 5, width(name))
    pieces = together.pieces(together(x))
    assert [piece.shape[-1] for piece in pieces] == [apart.get_submodule(leaf).out_features for leaf in SIZES]
    for leaf, piece in zip(SIZES, pieces, strict=True):
        expected = apart.get_submodule(leaf)(x)
        # INT8 sums are exact; sums of FP8 products and of floats may be added in another order.
        assert torch.equal(piece, expected) if name in EXACT else torch.allclose(piece, expected, rtol=0, atol=1e-5)


@EVERY_FORMAT
@pytest.mark.parametrize("smoothed", [False, True])
def test_the_state_is_that_of_the_layers(name: str, smoothed: bool) -> None:
    apart = Attention(name, smoothed=smoothed)
    together = merged(apart)
    assert same(together.state_dict(), apart.state_dict())
    assert same(together.state_dict(prefix="a.b."), apart.state_dict(prefix="a.b."))
    state = together.state_dict()
    small = [state[f"{leaf}.{kind}"].data_ptr() for leaf in SIZES for kind in ("input_scale", "pre_quant_scale")
             if f"{leaf}.{kind}" in state]  # fmt: skip
    assert len(set(small)) == len(small)


@EVERY_FORMAT
def test_a_state_takes_no_more_memory_than_its_tensors(name: str) -> None:
    """Views of the one weight where it lies as in a checkpoint; else no view keeps the rows of the other layers."""
    together = merged(Attention(name))
    own = {tensor.untyped_storage().data_ptr() for tensor in qkv(together).parameters()}
    for key, tensor in together.state_dict().items():
        storage = tensor.untyped_storage()
        assert storage.data_ptr() in own or storage.nbytes() == tensor.nbytes or key.startswith("out."), key
    if name in EIGHT_BIT or name == "FP8_BLOCK":
        assert all(together.state_dict()[f"{leaf}.weight"].untyped_storage().data_ptr() in own for leaf in SIZES)


@EVERY_FORMAT
@pytest.mark.parametrize("assign", [False, True])
def test_a_state_is_loaded(name: str, assign: bool) -> None:
    apart = Attention(name, smoothed=True)
    together = merged(apart)
    other = copy.deepcopy(apart)
    changed = {key: tensor.clone() for key, tensor in other.state_dict().items()}
    for key, tensor in changed.items():
        if not key.endswith("weight_shape"):
            raw = tensor.view(torch.uint8) if tensor.itemsize == 1 else tensor
            raw.copy_(raw.flip(0))
    other.load_state_dict(changed)
    assert not same(together.state_dict(), other.state_dict())
    assert together.load_state_dict(other.state_dict(), assign=assign) == ([], [])
    assert same(together.state_dict(), other.state_dict())
    x = torch.randn(3, width(name))
    first = qkv(together).pieces(qkv(together)(x))[1]
    assert torch.allclose(first, other.get_submodule("k")(x), atol=1e-5)


def test_a_state_that_does_not_fit_is_refused_in_words() -> None:
    apart = Attention("FP8", smoothed=True)
    together = merged(apart)
    state = apart.state_dict()
    del state["k.weight_scale"]
    state["v.extra"] = state["qkv.weight"] = torch.zeros(1)
    found = together.load_state_dict(state, strict=False)
    assert found.missing_keys == ["k.weight_scale"]
    assert sorted(found.unexpected_keys) == ["qkv.weight", "v.extra"]
    for key, value, says in (
        ("q.weight", torch.zeros(3, 3), r"q\.weight has the shape \[3, 3\], the layer \[33, 77\]"),
        ("v.weight", torch.zeros(7, K), r"v\.weight is torch\.float32, the layer's scheme needs torch\.float8_e4m3fn"),
        ("k.input_scale", torch.tensor([0.5]), r"k\.input_scale differs from that of the layer it is one matmul with"),
        ("v.pre_quant_scale", torch.ones(K), r"v\.pre_quant_scale differs from"),
    ):
        with pytest.raises(RuntimeError, match=says):
            together.load_state_dict({**apart.state_dict(), key: value})
    assert same(together.state_dict(), apart.state_dict())


def test_more_than_two_of_four_are_refused() -> None:
    apart = Attention("2:4 FP8_DYNAMIC")
    together = merged(apart)
    state = apart.state_dict()
    dense = torch.ones(20, 256).to(torch.float8_e4m3fn)
    with pytest.raises(RuntimeError, match=r"k\.weight is not 2:4: row 0 has more than two nonzero values"):
        together.load_state_dict({**state, "k.weight": dense})
    assert same(together.state_dict(), state)


def test_a_weight_shape_is_checked() -> None:
    apart = Attention("W4A16")
    together = merged(apart)
    with pytest.raises(RuntimeError, match=r"v\.weight_shape is \[7, 250\], the weight is \[7, 256\]"):
        together.load_state_dict({**apart.state_dict(), "v.weight_shape": torch.tensor([7, 250])})


def test_weights_that_follow_the_model_are_cast_when_loaded() -> None:
    apart = Attention("2:4", dtype=torch.bfloat16)
    together = merged(apart)
    together.load_state_dict({key: tensor.float() for key, tensor in apart.state_dict().items()})
    assert same(together.state_dict(), apart.state_dict())


class OnGpu(MergedLinear):
    """Its weight is always in the order of the kernels."""

    def __init__(self, in_features: int, out_features: int, layer_format: LayerFormat, **rest: Any) -> None:
        super().__init__(in_features, out_features, layer_format, **rest)
        self.weight_format = OfKernels(layer_format.scheme)


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        (name, layout)
        for op, starts in (("int4_mm", "W4"), ("sparse_scaled_mm", "2:4"))
        for name in LAYER_FORMATS
        for layout in LAYOUTS[op][1:]
        if name.startswith(starts)
    ],
)
def test_orders_of_lanes(name: str, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 rows a block, which the layers' rows share: joined as in a checkpoint, then put into order."""
    apart = Attention(name, smoothed=True, dtype=torch.bfloat16)
    other = copy.deepcopy(apart)
    x = torch.randn(3, 256).bfloat16()
    expected = qkv(merged(apart))(x)
    monkeypatch.setattr(prepacking, "wanted", lambda *call: layout)
    for leaf in SIZES:
        apart.get_submodule(leaf).prepack()  # type: ignore[operator]
    together = merged(apart)
    assert qkv(together).layout == layout
    assert torch.equal(qkv(together)(x), expected)
    assert same(together.state_dict(), other.state_dict())
    for leaf, tensor in other.get_submodule("k").named_parameters():
        if leaf not in SHARED:
            (tensor.view(torch.uint8) if tensor.itemsize == 1 else tensor).zero_()
    changed = other.state_dict()
    together.load_state_dict(changed)
    assert qkv(together).layout == layout
    assert same(together.state_dict(), changed)
    assert torch.equal(qkv(together)(x)[:, :33], expected[:, :33])


def test_rows_that_kernels_pad() -> None:
    apart = Attention("W8A8", smoothed=True)
    layers = [apart.get_submodule(leaf) for leaf in SIZES]
    layers[0].weight_format = OfKernels(layers[0].scheme)  # type: ignore[arg-type,assignment]
    layers[0].prepack()  # type: ignore[operator]
    assert layers[0].layout == aligned_rows.NAME
    layer = OnGpu.join(layers)  # type: ignore[arg-type]
    assert layer.layout == aligned_rows.NAME
    state = {leaf: layers[1].state_dict()[leaf] for leaf in layer.leaves}
    assert same(layer.tensors(1), state)
    assert layer.tensors(1)["weight"].untyped_storage().nbytes() == 20 * K
    layer.weight.zero_()
    assert not layer.put(1, state)
    assert layer.layout == aligned_rows.NAME
    assert same(layer.tensors(1), state)
    x = torch.randn(3, K)
    assert torch.equal(layer.pieces(layer(x))[1], layers[1](x))


@EVERY_FORMAT
@pytest.mark.filterwarnings("ignore:for out")  # of torch, about the plain layer
def test_copies_casts_and_moves(name: str) -> None:
    apart = Attention(name, smoothed=True)
    together = merged(apart)
    file = io.BytesIO()
    torch.save(together, file)
    file.seek(0)
    x = torch.randn(3, width(name))
    expected = qkv(together)(x)
    for other in (copy.deepcopy(together), torch.load(file, weights_only=False)):
        assert torch.equal(qkv(other)(x), expected)
        assert other.get_submodule("k").merged is qkv(other)  # its member follows it
        for tensor in qkv(other).held().values():
            (tensor.view(torch.uint8) if tensor.itemsize == 1 else tensor).zero_()
        assert same(together.state_dict(), apart.state_dict())
    assert same(together.to(torch.bfloat16).state_dict(), apart.to(torch.bfloat16).state_dict())
    assert qkv(together)(x.bfloat16()).dtype == torch.bfloat16
    shapes = {key: (tensor.shape, tensor.dtype) for key, tensor in apart.state_dict().items()}
    nowhere = together.to("meta").state_dict()
    assert all(tensor.is_meta for tensor in nowhere.values())
    assert {key: (tensor.shape, tensor.dtype) for key, tensor in nowhere.items()} == shapes
    with pytest.raises(RuntimeError, match=r"q\.bias cannot be put into a layer without memory"):
        together.load_state_dict(apart.state_dict())


def test_a_member_has_its_name_and_refuses_the_rest() -> None:
    together = merged(Attention("W8A8"))
    member = together.get_submodule("k")
    assert isinstance(member, Member)
    assert not list(member.children())
    remedy = "load without fused=True for hooks and other processors"
    assert repr(member) == f"Member(rows 33:53 of qkv; {remedy})"
    with pytest.raises(AttributeError, match=f"no 'weight' here: this layer is rows 33:53 of qkv; {remedy}"):
        _ = member.weight
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = member.nonsense
    with pytest.raises(ModelError, match="this layer is rows 33:53 of qkv and does not run alone"):
        member(torch.zeros(1, K))
    with pytest.raises(ModelError, match="Member runs within a larger op and takes no hook"):
        member.register_forward_hook(lambda *args: None)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a: setattr(a, "k", nn.Linear(K, 20)), "k is not quantized"),
        (lambda a: setattr(a, "q", nn.Linear(K, 33)), "q is not quantized"),
        (lambda a: setattr(a, "v", Attention("W8A8").v), "v is W8A8, q is FP8"),
        (lambda a: setattr(a, "v", Attention("2:4 FP8").v), "v is 2:4 FP8, q is FP8"),
        (
            lambda a: setattr(a, "q", packed(nn.Linear(K, 33), LAYER_FORMATS["FP8"], rank=4)),
            "q is FP8 + rank 4, and its branch stands where norm and residual would",
        ),
        (lambda a: setattr(a.k, "bias", None), "one of q and k has a bias, the other has none"),
        (lambda a: a.v.input_scale.mul_(2), "v has another input_scale than q"),
        (lambda a: a.k.pre_quant_scale[3].mul_(2), "k has another pre_quant_scale than q"),
        (lambda a: setattr(a.q, "pre_quant_scale", None), "k has another pre_quant_scale than q"),
    ],
)
def test_what_cannot_be_merged_is_left_as_it_is(change: object, says: str) -> None:
    apart = Attention("FP8", smoothed=True)
    change(apart)  # type: ignore[operator]
    before = dict(apart.named_children())
    assert obstacle({leaf: before[leaf] for leaf in SIZES}) == says
    assert merge_layers(apart, tuple(SIZES), "qkv") == says
    assert dict(apart.named_children()) == before


def test_blocks_that_reach_over_a_seam_are_not_merged() -> None:
    apart = Attention("FP8_BLOCK")
    apart.q, apart.v = apart.v, apart.q
    assert merge_layers(apart, tuple(SIZES), "qkv") == "q has 7 rows, which end within a block of 128"
    assert merge_layers(apart, ("k", "q"), "kq") == "fused"


@pytest.mark.parametrize("name", OF_FLOATS)
def test_layers_of_floats_keep_the_models_dtype(name: str) -> None:
    apart = Attention(name, dtype=torch.bfloat16)
    together = merged(apart)
    assert same(together.state_dict(), apart.state_dict())
    assert qkv(together)(torch.randn(3, 256).bfloat16()).dtype == torch.bfloat16
