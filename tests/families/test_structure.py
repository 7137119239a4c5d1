from __future__ import annotations

import pytest
from torch import nn

from quant.families.generic import generic_family
from quant.families.structure import down_mid_up, repeated_lists

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Modulated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)


class ToyAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.to_q, self.norm_q = nn.Linear(4, 4), Modulated()


class ToyBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn, self.img_mod = ToyAttention(), nn.Sequential(nn.SiLU(), nn.Linear(4, 4))
        self.img_mlp = nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 4))
        self.proj_mlp, self.proj_out, self.time_emb_proj = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.attentions, self.conv = nn.ModuleList([Modulated()]), nn.Conv2d(1, 1, 1)
        self.fused = ToyAttention()
        self.fused.to_qkv_mlp_proj = nn.Linear(4, 4)


def test_the_innermost_class_or_name_says_what_a_layer_is_for() -> None:
    model = nn.ModuleDict({"layers": nn.ModuleList([ToyBlock(), ToyBlock()]), "proj_out": nn.Linear(4, 4)})
    family = generic_family(model)
    names = [name for name, module in model.named_modules() if isinstance(module, _LAYERS)]
    assert {name[len("layers.1.") :]: family.role(name) for name in names if name.startswith("layers.1.")} == {
        "attn.to_q": "attention",
        "attn.norm_q.linear": "modulation",
        "img_mod.1": "modulation",
        "img_mlp.0": "feed_forward",
        "img_mlp.2": "feed_forward",
        "proj_mlp": "feed_forward",
        "proj_out": "feed_forward",
        "time_emb_proj": "modulation",
        "attentions.0.linear": None,
        "conv": None,
        "fused.to_q": "attention",
        "fused.norm_q.linear": "modulation",
        "fused.to_qkv_mlp_proj": "attention",
    }
    assert family.role("proj_out") is None


@pytest.mark.parametrize(
    ("children", "found"),
    [
        ([nn.Linear(2, 2), nn.Linear(2, 2)], False),  # the steps of a feed-forward network
        ([Modulated(), nn.GELU()], False),
        ([Modulated(), nn.Sequential(nn.Linear(2, 2))], False),
        ([nn.GELU(), nn.GELU()], False),
        ([Modulated(), nn.Sequential(nn.Linear(2, 2)), Modulated()], True),
    ],
)
def test_two_modules_of_one_class_with_layers_inside_make_a_list_of_blocks(
    children: list[nn.Module], found: bool
) -> None:
    assert repeated_lists(nn.ModuleDict({"list": nn.ModuleList(children)})) == (["list"] if found else [])


def test_a_u_nets_block_that_stands_in_two_places_is_two() -> None:
    shared = Modulated()
    assert down_mid_up(nn.ModuleDict({"up_blocks": nn.ModuleList([shared, shared])})) == (
        "up_blocks.0.",
        "up_blocks.1.",
    )
