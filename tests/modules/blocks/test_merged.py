"""Merged layers compute what they computed apart, and nobody outside sees their tensors lie otherwise."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping

import pytest
import torch
from torch import nn

from quant.errors import ModelError
from quant.kernels.layouts import aligned_rows
from quant.modules.blocks.merged import Member, MergedLinear, obstacle
from quant.modules.blocks.surroundings import merge_layers
from quant.modules.linear import QuantLinear
from quant.packing.linear import pack_linear
from quant.scheme import SCHEMES

K = 77
SIZES = {"q": 33, "k": 20, "v": 7}
EIGHT_BIT = ("FP8_DYNAMIC", "FP8", "W8A8")


class Attention(nn.Module):
    """Layers of one input, and a plain one behind them."""

    def __init__(self, name: str, *, smoothed: bool = False, bias: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        scheme, factor = SCHEMES[name], torch.rand(K) + 0.5
        for leaf, n in SIZES.items():
            linear = nn.Linear(K, n, bias=bias)
            tensors = pack_linear(
                linear.weight.detach(),
                scheme,
                input_scale=torch.tensor([0.02]) if scheme.has_static_input else None,
                pre_quant_scale=factor if smoothed else None,
            )
            self.add_module(leaf, QuantLinear.from_tensors(linear, scheme, tensors, torch.device("cpu")))
        self.out = nn.Linear(4, 4)


def merged(attention: Attention) -> nn.Module:
    made = copy.deepcopy(attention)
    assert merge_layers(made, tuple(SIZES), "qkv") == "fused"
    return made


def qkv(attention: nn.Module) -> MergedLinear:
    layer = attention.get_submodule("qkv")
    assert isinstance(layer, MergedLinear)
    return layer


def same(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> bool:
    """In names, their order, shapes, dtypes and every bit."""
    return list(found) == list(expected) and all(
        (a.shape, a.dtype) == (b.shape, b.dtype)
        and torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))
        for a, b in zip(found.values(), expected.values(), strict=True)
    )


@pytest.mark.parametrize("name", EIGHT_BIT)
@pytest.mark.parametrize("smoothed", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_one_matmul_is_the_three(name: str, smoothed: bool, bias: bool) -> None:
    apart = Attention(name, smoothed=smoothed, bias=bias)
    together = qkv(merged(apart))
    x = torch.randn(2, 5, K)
    pieces = together.pieces(together(x))
    assert [piece.shape[-1] for piece in pieces] == list(SIZES.values())
    for leaf, piece in zip(SIZES, pieces, strict=True):
        expected = apart.get_submodule(leaf)(x)
        # INT8 sums are exact; FP8 sums of 77 products may be added in another order.
        assert torch.equal(piece, expected) if name == "W8A8" else torch.allclose(piece, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", EIGHT_BIT)
@pytest.mark.parametrize("smoothed", [False, True])
def test_the_state_is_that_of_the_layers(name: str, smoothed: bool) -> None:
    apart = Attention(name, smoothed=smoothed)
    together = merged(apart)
    assert same(together.state_dict(), apart.state_dict())
    assert same(together.state_dict(prefix="a.b."), apart.state_dict(prefix="a.b."))
    state = together.state_dict()
    weights = [state[f"{leaf}.weight"].untyped_storage().data_ptr() for leaf in SIZES]
    assert len(set(weights)) == 1  # views: no second copy of a weight is made
    small = [state[f"{leaf}.{kind}"].data_ptr() for leaf in SIZES for kind in ("input_scale", "pre_quant_scale")
             if f"{leaf}.{kind}" in state]  # fmt: skip
    assert len(set(small)) == len(small)


@pytest.mark.parametrize("name", EIGHT_BIT)
@pytest.mark.parametrize("assign", [False, True])
def test_a_state_is_loaded(name: str, assign: bool) -> None:
    apart = Attention(name, smoothed=True)
    together = merged(apart)
    other = copy.deepcopy(apart)
    for tensor in other.state_dict().values():
        raw = tensor.view(torch.uint8) if tensor.itemsize == 1 else tensor
        raw.copy_(raw.flip(0))
    assert not same(together.state_dict(), other.state_dict())
    assert together.load_state_dict(other.state_dict(), assign=assign) == ([], [])
    assert same(together.state_dict(), other.state_dict())
    x = torch.randn(3, K)
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


def test_rows_that_kernels_pad() -> None:
    apart = Attention("W8A8", smoothed=True)
    together = merged(apart)
    layer = qkv(together)
    layer.weight = aligned_rows.pack(layer.weight)
    assert layer.layout == aligned_rows.NAME
    assert same(together.state_dict(), apart.state_dict())
    together.load_state_dict(apart.state_dict())
    assert layer.layout == aligned_rows.NAME
    x = torch.randn(3, K)
    assert torch.equal(layer.pieces(layer(x))[2], apart.get_submodule("v")(x))


def test_layers_that_lie_as_kernels_read_them_are_merged_as_they_lie() -> None:
    apart = Attention("W8A8")
    expected = copy.deepcopy(apart.state_dict())
    for leaf in SIZES:
        layer = apart.get_submodule(leaf)
        layer.weight = aligned_rows.pack(layer.weight)  # type: ignore[arg-type]
    together = MergedLinear.join([apart.get_submodule(leaf) for leaf in SIZES])  # type: ignore[misc]
    assert together.layout == aligned_rows.NAME
    assert torch.equal(together.tensors(1)["weight"], expected["k.weight"])


@pytest.mark.filterwarnings("ignore:for out")  # of torch, about the plain layer
def test_copies_casts_and_moves() -> None:
    apart = Attention("FP8_DYNAMIC", smoothed=True)
    together = merged(apart)
    file = io.BytesIO()
    torch.save(together, file)
    file.seek(0)
    for other in (copy.deepcopy(together), torch.load(file, weights_only=False)):
        qkv(other).weight.view(torch.uint8).zero_()
        assert not other.state_dict()["q.weight"].view(torch.uint8).any()  # its member follows it
        assert same(together.state_dict(), apart.state_dict())
    assert same(together.to(torch.bfloat16).state_dict(), apart.to(torch.bfloat16).state_dict())
    assert all(tensor.is_meta for tensor in together.to("meta").state_dict().values())
    with pytest.raises(RuntimeError, match=r"q\.bias cannot be put into a layer without memory"):
        together.load_state_dict(apart.state_dict())


def test_a_member_has_its_name_and_refuses_the_rest() -> None:
    together = merged(Attention("W8A8"))
    member = together.get_submodule("k")
    assert isinstance(member, Member)
    assert not list(member.children())
    remedy = "load without fused=True for hooks, LoRA and other processors"
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
