"""Statistics and solutions from recorded calls, block by block: those of running the calls one by one."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from quant.algorithms.base import Statistics
from quant.calibration import block_solving, solving
from quant.calibration.block_solving import solve_by_block
from quant.calibration.kept_solutions import KeptSolutions
from quant.calibration.layer_plan import layer_plan
from quant.calibration.passes import Member
from quant.calibration.recorded import Recorded
from quant.calibration.replaying import Call
from quant.calibration.solution import Solution
from quant.calibration.solved import Solved
from quant.calibration.solving import Found, solve
from quant.errors import CalibrationError
from quant.layers.following import follow_timesteps
from quant.layers.replace import replaced
from quant.pipelines.inputs.table import open_files
from quant.pipelines.runnable import runnable
from quant.pipelines.settings import GenerationSettings
from quant.pipelines.weights import of_model
from quant.recipe import Recipe
from tests.tiny_calls import CLASSES, tiny_calls
from tests.tiny_models import ModelMaker

CPU = torch.device("cpu")
WAN = "WanTransformer3DModel"


def recipe_of(**calibration: Any) -> Recipe:
    """A Hessian for some layers, ranges and a sample of rows for others."""
    groups = [
        {"targets": ["role:feed_forward"], "scheme": "W8A8", "algorithm": "gptq"},
        {"targets": ["role:attention"], "scheme": "FP8", "algorithm": "smoothquant"},
    ]
    return Recipe.from_dict({"version": 1, "groups": groups, "calibration": {"rows": 16, **calibration}})


def recorded_of(model: nn.Module, calls: Sequence[Call]) -> Recorded:
    return Recorded(calls, of_model(model), torch.float32, CPU)


def run(calls: Sequence[Call], model: nn.Module) -> Callable[[str], object]:
    def forward(label: str) -> None:
        for args, kwargs in (call.load() for call in calls):
            model(*args, **kwargs)

    return forward


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, Statistics]:
    """The statistics that layers are solved from, from now on; those of the last time where it is several."""
    found: dict[str, Statistics] = {}
    solve_group = solving._solve_group

    def watched(models: Any, members: Sequence[Member], statistics: Statistics | None) -> list[Solution]:
        if statistics is not None:
            found[f"{members[0][0]}.{members[0][1].name}"] = statistics
        return solve_group(models, members, statistics)

    monkeypatch.setattr(solving, "_solve_group", watched)
    return found


FIELDS = ("amax", "channel_amax", "channel_mean", "rows")


def same(found: Mapping[str, Statistics], expected: Mapping[str, Statistics], fields: Sequence[str] = FIELDS) -> None:
    assert found.keys() == expected.keys() and expected
    for name, statistics in expected.items():
        other = found[name]
        assert other.seen_rows == statistics.seen_rows
        for field in fields:
            one, two = getattr(statistics, field), getattr(other, field)
            assert (one is None) == (two is None) and (one is None or torch.equal(one, two)), (name, field)
        if statistics.hessian is not None:
            assert other.hessian is not None
            torch.testing.assert_close(other.hessian, statistics.hessian, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("class_name", CLASSES)
def test_statistics_are_those_of_the_calls_one_by_one(
    make_model: ModelMaker, seen: dict[str, Statistics], class_name: str
) -> None:
    model, calls = make_model(class_name, device="cpu"), tiny_calls(class_name)
    recipe = recipe_of(timestep_weights=[1, 2, 4])
    plans = {"transformer": layer_plan(model, recipe)}
    solve({"transformer": model}, plans, recipe, run(calls, model))
    expected = dict(seen)
    seen.clear()
    meta = make_model(class_name)
    found = solve_by_block({"transformer": meta}, plans, recipe, {"transformer": recorded_of(model, calls)})
    same(seen, expected)
    assert any(each.hessian is not None for each in seen.values())
    assert any(each.amax is not None for each in seen.values())
    assert len(found["transformer"]) >= len(seen)
    assert all(parameter.is_meta for parameter in meta.parameters())


def test_each_expert_has_its_own_calls_and_all_share_one_schedule(
    make_model: ModelMaker, seen: dict[str, Statistics]
) -> None:
    models = {name: make_model(WAN, device="cpu", num_layers=1, ffn_dim=f) for name, f in (("high", 32), ("low", 48))}
    calls, recipe = tiny_calls(WAN, 4), recipe_of(timestep_weights=[1, 2, 4, 8])
    plans = {name: layer_plan(model, recipe) for name, model in models.items()}
    of = {"high": calls[:2], "low": calls[2:]}
    solve(models, plans, recipe, lambda label: [run(of[name], model)(label) for name, model in models.items()])
    expected = dict(seen)
    seen.clear()
    recorded = {name: recorded_of(model, of[name]) for name, model in models.items()}
    found = solve_by_block(models, plans, recipe, recorded)
    same(seen, expected)
    assert {name.partition(".")[0] for name in seen} == found.keys() == models.keys()


def test_weights_that_are_used_twice_are_solved_from_all_their_inputs(
    make_model: ModelMaker, seen: dict[str, Statistics], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(model: nn.Module) -> nn.Module:
        model.blocks.append(model.blocks[0])  # type: ignore[union-attr,operator,index]
        return model

    model, calls, recipe = twice(make_model(WAN, device="cpu", num_layers=2)), tiny_calls(WAN), recipe_of()
    plans = {"transformer": layer_plan(make_model(WAN, num_layers=2), recipe)}
    solve({"transformer": model}, plans, recipe, run(calls, model))
    expected = dict(seen)
    seen.clear()
    monkeypatch.setattr(block_solving, "runnable", lambda given, dtype: twice(runnable(given, dtype)))
    recorded = {"transformer": recorded_of(model, calls)}
    models = {"transformer": make_model(WAN, num_layers=2)}
    kept = KeptSolutions(tmp_path, "key")
    with monkeypatch.context() as patched:  # killed where all is solved, and the first block is found out

        def stop(*given: Any) -> None:
            raise KeyboardInterrupt

        patched.setattr(Found, "drop", stop)
        with pytest.raises(KeyboardInterrupt):
            solve_by_block(models, plans, recipe, recorded, kept)
    solve_by_block(models, plans, recipe, recorded, kept)
    same(seen, expected, ("amax", "channel_amax", "channel_mean"))  # rows are drawn from a stream in another order
    seen.clear()
    solve_by_block(models, plans, recipe, recorded, kept)
    assert not seen  # nothing is run
    compressed = replace(recipe, calibration=replace(recipe.calibration, inputs="compressed"))
    with pytest.raises(CalibrationError, match=r"calls come to 'blocks.0' of transformer more than once"):
        solve_by_block(models, plans, compressed, recorded)


def stopped_after(count: int, monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> None:
    """Works until so many inputs are solved and kept."""
    store, stored = KeptSolutions.store, list[int]()

    def stop(self: KeptSolutions, number: int, *given: Any) -> Any:
        if len(stored) == count:
            raise KeyboardInterrupt
        stored.append(number)
        return store(self, number, *given)

    with monkeypatch.context() as patched:
        patched.setattr(KeptSolutions, "store", stop)
        with pytest.raises(KeyboardInterrupt):
            work()


def same_ranges(found: Mapping[str, Solution], expected: Mapping[str, Solution]) -> None:
    assert any(each.bin_edges is not None for each in expected.values())
    for name, each in expected.items():
        for field in ("input_scale", "bin_edges"):
            one, two = getattr(each, field), getattr(found[name], field)
            assert (one is None) == (two is None) and (one is None or torch.equal(one, two)), (name, field)


def test_bins_are_those_of_the_calls_one_by_one(make_model: ModelMaker) -> None:
    """Also behind a block that is compressed, with bins itself: each call takes its ranges by its own timestep."""
    model, calls = make_model(WAN, device="cpu", num_layers=2), tiny_calls(WAN, 6)
    group = {"targets": ["Linear"], "scheme": "FP8", "bins": 3}
    recipe = Recipe.from_dict({"version": 1, "groups": [group]})
    plan = layer_plan(model, recipe)
    recorded = {"transformer": recorded_of(model, calls)}
    found = solve_by_block({"transformer": model}, {"transformer": plan}, recipe, recorded)
    expected = solve({"transformer": model}, {"transformer": plan}, recipe, run(calls, model))
    same_ranges(found["transformer"], expected["transformer"])

    compressed = replace(recipe, calibration=replace(recipe.calibration, inputs="compressed"))
    after = solve_by_block({"transformer": model}, {"transformer": plan}, compressed, recorded)["transformer"]
    solved = Solved(recipe, {"transformer": model}, {"transformer": plan}, found, None, GenerationSettings())
    layers = [layer for layer in solved.quantized("transformer") if layer.name.startswith("blocks.0.")]
    made = {layer.name: solved.layer("transformer", layer)[0] for layer in layers}
    rest = [layer for layer in plan if layer.name.startswith("blocks.1.")]
    with replaced(model, made):
        follow_timesteps(model)
        behind = solve({"transformer": model}, {"transformer": rest}, recipe, run(calls, model))["transformer"]
    same_ranges(after, behind)
    assert any(str(each) != str(found["transformer"][name]) for name, each in behind.items())


def test_compressed_inputs_are_those_that_blocks_will_get(make_model: ModelMaker, seen: dict[str, Statistics]) -> None:
    """The same ranges as of a model whose blocks before are quantized; those of the first block as they were."""
    model, calls, recipe = make_model(WAN, device="cpu", num_layers=2), tiny_calls(WAN), recipe_of()
    plans = {"transformer": layer_plan(model, recipe)}
    recorded = {"transformer": recorded_of(model, calls)}
    solutions = solve_by_block({"transformer": model}, plans, recipe, recorded)
    original = dict(seen)
    seen.clear()
    compressed = replace(recipe, calibration=replace(recipe.calibration, inputs="compressed"))
    solve_by_block({"transformer": model}, plans, compressed, recorded)
    first = {name: each for name, each in seen.items() if ".blocks.0." in name}
    same(first, {name: each for name, each in original.items() if ".blocks.0." in name})
    solved = Solved(recipe, {"transformer": model}, plans, solutions, None, GenerationSettings())
    inputs: list[torch.Tensor] = []
    query = model.get_submodule("blocks.1.attn1.to_q")
    query.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    layers = [layer for layer in solved.quantized("transformer") if layer.name.startswith("blocks.0.")]
    made = {layer.name: solved.layer("transformer", layer)[0] for layer in layers}
    with torch.no_grad(), replaced(model, made):
        run(calls, model)("")
    amax = seen["transformer.blocks.1.attn1.to_q"].amax
    assert amax is not None and amax != original["transformer.blocks.1.attn1.to_q"].amax
    assert float(amax) == pytest.approx(max(float(each.abs().max()) for each in inputs), rel=1e-6)


def live_bytes() -> int:
    """Of all tensors that are alive, each storage once; other tests' sparse and fake ones have none."""
    gc.collect()  # what other tests left behind would be counted before and be gone after
    found = {}
    for each in gc.get_objects():
        if type(each) in (torch.Tensor, nn.Parameter) and not each.is_meta:
            with suppress(NotImplementedError, RuntimeError):
                storage = each.untyped_storage()
                found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values())


def test_a_deep_model_takes_no_more_memory_than_a_shallow_one(
    make_model: ModelMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every tensor that is alive is counted where the last block is solved, with what was gathered of it."""
    taken, block_bytes = {}, 0
    group = {"targets": [r"re:.*ffn\.net\.2"], "scheme": "W8A8", "algorithm": "gptq"}
    calls, recipe = tiny_calls(WAN, 2), Recipe.from_dict({"version": 1, "groups": [group]})
    for depth in (6, 24):
        model = make_model(WAN, device="cpu", num_layers=depth, ffn_dim=512, attention_head_dim=24)
        block_bytes = sum(parameter.nbytes for parameter in model.get_submodule("blocks.0").parameters())
        model.save_pretrained(tmp_path / str(depth))  # type: ignore[operator]
        del model
        component = open_files(tmp_path / str(depth))
        recorded = Recorded(calls, component.tensors(torch.float32), torch.float32, CPU)
        plans = {"transformer": layer_plan(component.model, recipe)}
        before, at_last = live_bytes(), list[int]()

        def solve_group(
            models: Any,
            members: Any,
            given: Any,
            real: Any = solving._solve_group,
            last: str = f"blocks.{depth - 1}.",
            at_last: list[int] = at_last,
        ) -> Any:
            if members[0][1].name.startswith(last):
                at_last.append(live_bytes())
            return real(models, members, given)

        with monkeypatch.context() as patched:
            patched.setattr(solving, "_solve_group", solve_group)
            kept = KeptSolutions(tmp_path / f"kept{depth}", "key")
            solve_by_block({"transformer": component.model}, plans, recipe, {"transformer": recorded}, kept)
        taken[depth] = at_last[0] - before
        assert live_bytes() - before < block_bytes
    assert taken[6] > block_bytes + 8 * 512**2  # its weights and its Hessian
    assert abs(taken[24] - taken[6]) < 0.1 * block_bytes


def test_units_fetch_and_give_back_where_calls_are_elsewhere(
    make_model: ModelMaker, seen: dict[str, Statistics], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, calls, recipe = make_model(WAN, device="cpu"), tiny_calls(WAN), recipe_of()
    plans = {"transformer": layer_plan(model, recipe)}
    recorded = recorded_of(model, calls)
    solve_by_block({"transformer": model}, plans, recipe, {"transformer": recorded})
    expected = dict(seen)
    seen.clear()
    other = replace(recorded, device=torch.device("cpu", 0))
    monkeypatch.setattr(block_solving, "home_of", lambda *given: CPU)
    solve_by_block({"transformer": model}, plans, recipe, {"transformer": other})
    same(seen, expected)


def test_what_is_wrong_is_named(make_model: ModelMaker) -> None:
    model, calls, recipe = make_model(WAN, device="cpu"), tiny_calls(WAN), recipe_of()
    plans = {"transformer": layer_plan(model, recipe)}
    with pytest.raises(CalibrationError, match=r"no call of 'transformer' was recorded"):
        solve_by_block({"transformer": model}, plans, recipe, {})
    bad = [*calls[:1], replace(calls[1], load=lambda: ((), {**calls[1].load()[1], "hidden_states": torch.ones(2)}))]
    with pytest.raises(CalibrationError, match=r"^WanTransformer3DModel fails on call 1: "):
        solve_by_block({"transformer": model}, plans, recipe, {"transformer": recorded_of(model, bad)})
    hidden = calls[1].load()[1]["hidden_states"].clone().fill_(float("nan"))
    bad[1] = replace(calls[1], load=lambda: ((), {**calls[1].load()[1], "hidden_states": hidden}))
    with pytest.raises(CalibrationError, match=r"layer 'transformer.blocks.0.*': its input holds NaN in call 1;"):
        solve_by_block({"transformer": model}, plans, recipe, {"transformer": recorded_of(model, bad)})
