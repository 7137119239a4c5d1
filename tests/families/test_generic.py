from __future__ import annotations

import pytest
from torch import nn

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
    _repeated_blocks = ("Outer",)

    def __init__(self) -> None:
        super().__init__()
        self.block = Outer()


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


@pytest.mark.parametrize("class_name", ["UNet3DConditionModel", "UNetSpatioTemporalConditionModel"])
def test_a_model_that_declares_no_blocks_has_none(make_model: ModelMaker, class_name: str) -> None:
    assert generic_family(make_model(class_name)).blocks is None


@pytest.mark.parametrize("model", [nn.Sequential(nn.Linear(2, 2)), Single()], ids=["plain", "not in a list"])
def test_a_model_without_lists_of_blocks_has_none(model: nn.Module) -> None:
    assert generic_family(model).blocks is None


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
