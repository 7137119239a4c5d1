from __future__ import annotations

import pytest
import torch
from torch import nn

from quant.families.base import SEQUENCE
from quant.families.generic import generic_family
from tests.tiny_models import ModelMaker


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.to_q = nn.Linear(4, 4)


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleList([Inner(), Inner()])
        self.proj = nn.Linear(4, 4)


class Nested(nn.Module):
    """Blocks within blocks, both declared, and a block that is not in a list."""

    _no_split_modules = ("Outer", "Inner")

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 4)
        self.blocks = nn.ModuleList([Outer(), Outer()])
        self.refine = nn.ModuleList([Inner()])
        self.middle = Outer()


class Single(nn.Module):
    _repeated_blocks = ("Inner",)

    def __init__(self) -> None:
        super().__init__()
        self.block = Inner()


class Undeclared(nn.Module):
    """An embedder that is a list of bare layers, a list of blocks, and a list of only one."""

    def __init__(self) -> None:
        super().__init__()
        self.time_embedder = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        self.layers = nn.ModuleList([Inner(), Inner()])
        self.proj_out = nn.Linear(4, 4)


class Odd(nn.Module):
    _repeated_blocks = ("Inner",)

    def __init__(self) -> None:
        super().__init__()
        self.add_module("a+b", nn.ModuleList([Inner()]))
        self.add_module("aab", nn.ModuleList([nn.Linear(4, 4)]))


def _linears(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]


@pytest.mark.parametrize(
    ("class_name", "lists"),
    [
        ("LTXVideoTransformer3DModel", {"transformer_blocks.": 2}),
        ("CogVideoXTransformer3DModel", {"transformer_blocks.": 2}),
        ("HunyuanVideoTransformer3DModel", {"transformer_blocks.": 2, "single_transformer_blocks.": 4}),
    ],
)
def test_blocks_are_the_lists_that_the_model_declares(
    make_model: ModelMaker, class_name: str, lists: dict[str, int]
) -> None:
    model = make_model(class_name)
    family = generic_family(model)
    places = {family.block(name) for name in _linears(model)} - {None}
    assert places == {(prefix, index) for prefix, depth in lists.items() for index in range(depth)}
    within = {name for name in _linears(model) if family.block(name)}
    assert within == {name for name in _linears(model) if name.startswith(tuple(lists))}


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)),
        nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.GELU())),
        Single(),
    ],
    ids=["plain", "one", "declared but not in a list"],
)
def test_a_model_without_lists_of_blocks_has_none(model: nn.Module) -> None:
    assert generic_family(model).blocks is None


def test_without_declarations_lists_of_one_class_are_the_blocks() -> None:
    model = Undeclared()
    family = generic_family(model)
    assert {name: family.block(name) for name in _linears(model)} == {
        "time_embedder.0": None,
        "time_embedder.1": None,
        "layers.0.to_q": ("layers.", 0),
        "layers.1.to_q": ("layers.", 1),
        "proj_out": None,
    }


def test_blocks_of_a_u_net_are_one_list_from_its_input_to_its_output() -> None:
    model = nn.ModuleDict(
        {
            "conv_in": nn.Conv2d(1, 1, 1),
            "up_blocks": nn.ModuleList([Inner(), nn.ModuleDict({"resnets": nn.ModuleList([nn.Conv2d(1, 1, 1)])})]),
            "down_blocks": nn.ModuleList([Outer(), Inner()]),
            "mid_block": Inner(),
            "conv_out": nn.Conv2d(1, 1, 1),
        }
    )
    family = generic_family(model)
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    assert {name: family.block(name) for name in names} == {
        "conv_in": None,
        "down_blocks.0.inner.0.to_q": (SEQUENCE, 0),
        "down_blocks.0.inner.1.to_q": (SEQUENCE, 0),
        "down_blocks.0.proj": (SEQUENCE, 0),
        "down_blocks.1.to_q": (SEQUENCE, 1),
        "mid_block.to_q": (SEQUENCE, 2),
        "up_blocks.0.to_q": (SEQUENCE, 3),
        "up_blocks.1.resnets.0": (SEQUENCE, 4),
        "conv_out": None,
    }


def test_an_encoders_blocks_come_before_a_decoders() -> None:
    import diffusers

    with torch.device("meta"):
        model = diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(32, 32),
        )
    assert generic_family(model).sequence == (
        "encoder.down_blocks.0.",
        "encoder.down_blocks.1.",
        "encoder.mid_block.",
        "decoder.mid_block.",
        "decoder.up_blocks.0.",
        "decoder.up_blocks.1.",
    )


def test_the_outermost_list_counts() -> None:
    model = Nested()
    family = generic_family(model)
    assert {name: family.block(name) for name in _linears(model)} == {
        "embed": None,
        "blocks.0.inner.0.to_q": ("blocks.", 0),
        "blocks.0.inner.1.to_q": ("blocks.", 0),
        "blocks.0.proj": ("blocks.", 0),
        "blocks.1.inner.0.to_q": ("blocks.", 1),
        "blocks.1.inner.1.to_q": ("blocks.", 1),
        "blocks.1.proj": ("blocks.", 1),
        "refine.0.to_q": ("refine.", 0),
        "middle.inner.0.to_q": ("middle.inner.", 0),
        "middle.inner.1.to_q": ("middle.inner.", 1),
        "middle.proj": None,
    }


def test_names_are_not_read_as_expressions() -> None:
    family = generic_family(Odd())
    assert family.block("a+b.0.to_q") == ("a+b.", 0)
    assert family.block("aab.0.to_q") is None


def test_no_inputs_are_assumed_to_be_shared(make_model: ModelMaker) -> None:
    model = make_model("LTXVideoTransformer3DModel")
    family = generic_family(model)
    assert all(family.input_group(name) == name for name in _linears(model))
