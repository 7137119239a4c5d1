"""LoRA on packed layers, as PEFT and diffusers do it on any: the original's output plus the adapter's."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from diffusers import WanTransformer3DModel
from torch import nn

import quant
import quant.diffusers
from quant.errors import ModelError, QuantWarning
from quant.layers import adapters
from quant.layers.replace import quantized_layers
from tests import tiny_pipeline
from tests.layers.fused.layer_formats import LAYER_FORMATS, packed, same
from tests.layers.test_conv import CONVOLUTIONS, build
from tests.layers.test_conv import FORMATS as CONV_FORMATS
from tests.layers.test_group_offload import RECIPES, call, model_of

peft = pytest.importorskip("peft")

TARGETS = ("attn1.to_q", "attn1.to_out.0", "attn2.to_v", "ffn.net.0.proj", "ffn.net.2")


def weights(model: nn.Module, seed: int = 0, rank: int = 4) -> dict[str, torch.Tensor]:
    """A LoRA file's tensors for the layers that are named so."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, torch.Tensor] = {}
    for name, module in model.named_modules():
        if name.endswith(TARGETS):
            n, k = module.out_features, module.in_features
            found[f"transformer.{name}.lora_A.weight"] = torch.randn(rank, k, generator=generator) / k**0.5
            found[f"transformer.{name}.lora_B.weight"] = torch.randn(n, rank, generator=generator) / 4
    return found


def off(found: torch.Tensor, expected: torch.Tensor) -> float:
    found, expected = found.detach(), expected.detach()
    return float((found.float() - expected.float()).norm() / expected.float().norm())


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_methods_of_diffusers(recipe: str) -> None:
    """Against the same adapters on a model that has the weights which the codes mean."""
    model: Any = model_of(recipe)
    twin: Any = tiny_pipeline.transformer()
    for name, layer in quantized_layers(model).items():
        twin.get_submodule(name).weight.data = layer.dequantized(layer.held()).to(torch.bfloat16)
    plain, state = call(model), copy.deepcopy(model.state_dict())
    bound = 2 * off(plain, call(twin)) + 0.01
    for each in (model, twin):
        for seed in (0, 1):
            each.load_lora_adapter(weights(tiny_pipeline.transformer(), seed), adapter_name=f"a{seed}")
    for names, scales in ((["a0"], [1.0]), (["a0", "a1"], [0.5, -1.0])):
        for each in (model, twin):
            each.set_adapters(names, scales)
        assert off(call(model), plain) > 0.1
        assert off(call(model), call(twin)) < bound
    for each in (model, twin):
        each.load_lora_adapter(weights(tiny_pipeline.transformer(), 2), adapter_name="a0", hotswap=True)
    assert off(call(model), call(twin)) < bound
    model.disable_lora()
    assert torch.equal(call(model), plain)
    model.enable_lora()
    model.delete_adapters(["a0", "a1"])
    assert torch.equal(call(model), plain)
    model.unload_lora()
    assert same(model.state_dict(), state)


@pytest.mark.parametrize("recipe", RECIPES)
def test_fused_into_the_codes_and_back(recipe: str) -> None:
    model: Any = model_of(recipe)
    plain, state = call(model), copy.deepcopy(model.state_dict())
    model.load_lora_adapter(weights(tiny_pipeline.transformer()), adapter_name="one")
    model.load_lora_adapter(weights(tiny_pipeline.transformer(), 1), adapter_name="two")
    model.set_adapters(["one", "two"])
    apart = call(model)
    with pytest.warns(QuantWarning, match=r"fuse_lora rounded 10 packed layers again, which lost \d+\.\d% of what"):
        model.fuse_lora()
    assert 0 < off(call(model), apart) < (0.9 if recipe == "2:4" else 0.25)
    assert off(call(model), plain) > 0.1
    model.unfuse_lora()
    assert torch.equal(call(model), apart)
    model.unload_lora()
    assert same(model.state_dict(), state)
    assert torch.equal(call(model), plain)


@pytest.mark.parametrize("name", LAYER_FORMATS)
def test_a_layer_of_each_format(name: str) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(256, 128).bfloat16()
    net = nn.ModuleDict({"layer": packed(linear, LAYER_FORMATS[name], factor=torch.rand(256) + 0.5)})
    before: Any = copy.deepcopy(net["layer"])
    x = torch.randn(3, 256).bfloat16().requires_grad_()
    adapted(net)
    layer: Any = net["layer"]
    down, up = (part["default"].weight for part in (layer.lora_A, layer.lora_B))
    assert (down.dtype, up.dtype) == (torch.bfloat16, torch.bfloat16)
    nn.init.normal_(up, std=0.05)
    found = layer(x)
    torch.testing.assert_close(found, before(x) + 2 * (x @ down.T @ up.T), rtol=0.02, atol=0.02)
    # Gradients: that of the input through the dequantized weight, those of the adapter alone.
    found.sum().backward()
    ones = torch.ones(3, 128).bfloat16()
    dense = before.dequantized(before.held()).bfloat16()
    torch.testing.assert_close(x.grad, ones @ (dense + 2 * (up @ down)), rtol=0.05, atol=0.05)
    assert {n for n, p in net.named_parameters() if p.grad is not None} == {
        "layer.lora_A.default.weight",
        "layer.lora_B.default.weight",
    }
    layer.merge()
    wanted = dense.float() + 2 * (up @ down).float()
    meant = before.dequantized(layer.base_layer.held())
    lost = (meant - wanted).norm() / (2 * (up @ down).float()).norm()
    assert abs(layer.lost - lost) < 0.05
    assert layer.lost < (0.9 if LAYER_FORMATS[name].sparse else 0.7)
    layer.unmerge()
    assert same(layer.base_layer.state_dict(), before.state_dict())


def adapted(net: nn.Module, **changes: Any) -> None:
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["layer"], **changes)
    from quant.layers.lora_layers import teach_peft

    teach_peft()
    peft.inject_adapter_in_model(config, net)


@pytest.mark.parametrize("window", CONVOLUTIONS)
def test_a_convolution(window: str) -> None:
    conv, shape = CONVOLUTIONS[window]
    torch.manual_seed(0)
    made, weight = build(conv, CONV_FORMATS["W8A16"])
    net = nn.ModuleDict({"layer": made})
    before, x = copy.deepcopy(made), torch.randn(shape)
    adapted(net)
    layer: Any = net["layer"]
    nn.init.normal_(layer.lora_B["default"].weight, std=0.05)
    delta = layer.get_delta_weight("default")
    assert delta.shape == weight.shape
    found = layer(x)
    assert off(found, before(x)) > 0.01
    layer.merge()
    assert off(layer(x), found) < 0.01
    layer.unmerge()
    assert torch.equal(layer.base_layer(x), before(x))


def test_what_reads_weights_is_refused() -> None:
    linear = packed(nn.Linear(64, 64), LAYER_FORMATS["W8A8"])
    changes: dict[str, Any]
    for changes in ({"init_lora_weights": "pissa"}, {"use_dora": True}):
        with pytest.raises((ModelError, ValueError), match=r"reads or changes weights|use_dora"):
            adapted(nn.ModuleDict({"layer": copy.deepcopy(linear)}), **changes)


def test_fused_blocks_refuse_before_anything_is_loaded(tmp_path: Path) -> None:
    quant.save(model_of("FP8"), tmp_path / "made")
    fused: Any = quant.load(tmp_path / "made", fused=True)
    with pytest.raises(ModelError, match=r"fused blocks take no LoRA .* load the model without fused=True"):
        fused.load_lora_adapter("no/such/file")
    with pytest.raises(ModelError, match="fused blocks take no LoRA"):
        fused.add_adapter(None)


@pytest.mark.parametrize("by", ["accelerate", "diffusers"])
def test_on_an_offloaded_model(by: str) -> None:
    model: Any = model_of("INT4")
    names = weights(tiny_pipeline.transformer())
    model.load_lora_adapter(names, adapter_name="one")
    expected = call(model)
    if by == "accelerate":
        cpu_offload(model, torch.device("cpu"))
        assert all(parameter.is_meta for parameter in model.parameters())
    else:
        model.enable_group_offload(torch.device("cpu"), offload_type="leaf_level")
    assert torch.equal(call(model), expected)
    for change in (model.fuse_lora, model.unfuse_lora):
        with pytest.raises(ModelError, match="is offloaded: fuse or unfuse adapters before that"):
            change()
    assert torch.equal(call(model), expected)


def test_a_peft_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "version", lambda name: "0.20.3")
    with pytest.raises(ModelError, match=r"needs PEFT 0\.21 or newer: pip install 'peft>=0\.21'"):
        model_of("FP8").load_lora_adapter({})


def test_training_on_a_frozen_base() -> None:
    """Adapters of a model from a file learn; its codes stay."""
    model: WanTransformer3DModel = model_of("FP8")
    state = copy.deepcopy(model.state_dict())
    model.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q", "net.2"]))
    own = [p for p in model.parameters() if p.requires_grad]
    assert len(own) == 2 * 2 * 3  # A and B of to_q in two attentions and of net.2, in two blocks
    optimizer = torch.optim.SGD(own, lr=1.0)
    losses = []
    for _ in range(4):
        generator = torch.Generator().manual_seed(3)
        out = model(
            hidden_states=torch.randn(1, 4, 2, 4, 4, generator=generator).bfloat16(),
            timestep=torch.tensor([500]),
            encoder_hidden_states=torch.randn(1, 8, tiny_pipeline.TEXT, generator=generator).bfloat16(),
            return_dict=False,
        )[0]
        loss = out.float().square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    frozen = {name.replace(".base_layer", ""): t for name, t in model.state_dict().items() if "lora_" not in name}
    assert same(frozen, state)
