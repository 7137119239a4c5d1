from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from quant.algorithms.base import Needs, Statistics
from quant.calibration import probe
from quant.calibration.journal import Journal
from quant.calibration.statistics import collect
from quant.errors import CalibrationError

ALL = Needs(amax=True, channel_amax=True, channel_mean=True, rows=True, hessian=True)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(6, 4)
        self.second = nn.Linear(4, 4)
        self.unused = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.second(torch.nn.functional.leaky_relu(self.first(x)))
        return out


def _batches(seed: int = 1) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(5, 6), (2, 3, 6), (1, 2, 2, 6)]
    return [torch.randn(shape, generator=generator) * 10**i for i, shape in enumerate(shapes)]


def _hooks(model: nn.Module) -> int:
    return sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in model.modules())


def _over(model: nn.Module, batches: list[torch.Tensor]) -> Callable[[], object]:
    return lambda: [model(batch) for batch in batches]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_ranges_are_those_of_everything_seen(dtype: torch.dtype) -> None:
    model, batches = Model().to(dtype), [batch.to(dtype) for batch in _batches()]
    found = collect(model, {"first": ALL, "second": ALL}, _over(model, batches), rows=4, seed=0)
    with torch.no_grad():
        inputs = {"first": batches, "second": [torch.nn.functional.leaky_relu(model.first(batch)) for batch in batches]}
    for name, seen in inputs.items():
        rows = torch.cat([x.reshape(-1, x.shape[-1]) for x in seen]).float()
        statistics = found[name]
        assert statistics.amax is not None and statistics.channel_amax is not None
        assert statistics.amax.dtype == statistics.channel_amax.dtype == torch.float32
        assert torch.equal(statistics.amax, rows.abs().amax().reshape(1))
        assert torch.equal(statistics.channel_amax, rows.abs().amax(dim=0))
        assert statistics.channel_mean is not None
        torch.testing.assert_close(statistics.channel_mean, rows.double().abs().mean(dim=0).float())
        assert statistics.seen_rows == len(rows) == 15


def test_an_input_given_by_name_is_seen() -> None:
    model, (batch, *_) = Model(), _batches()
    found = collect(model, {"first": ALL}, lambda: model.first(input=batch), rows=4, seed=0)
    assert found["first"].seen_rows == 5


def test_sampled_rows_are_rows_that_were_seen() -> None:
    model, batches = Model(), _batches()
    found = collect(model, {"first": ALL}, _over(model, batches), rows=7, seed=0)["first"]
    seen = {tuple(row.tolist()) for batch in batches for row in batch.reshape(-1, 6)}
    assert found.rows is not None and found.rows.shape == (7, 6)
    sampled = [tuple(row.tolist()) for row in found.rows]
    assert len(set(sampled)) == 7 and set(sampled) <= seen


@pytest.mark.parametrize(
    ("needs", "fields"),
    [
        (Needs(amax=True), {"amax"}),
        (Needs(channel_amax=True), {"channel_amax"}),
        (Needs(rows=True), {"rows"}),
        (Needs(channel_mean=True), {"channel_mean"}),
        (ALL, {"amax", "channel_amax", "channel_mean", "rows", "hessian"}),
    ],
)
def test_only_what_was_asked_for_is_gathered(needs: Needs, fields: set[str]) -> None:
    model = Model()
    found = collect(model, {"first": needs}, _over(model, _batches()), rows=4, seed=0)["first"]
    assert {name for name in vars(ALL) if getattr(found, name) is not None} == fields


def test_a_layer_that_needs_nothing_may_stay_unused() -> None:
    model = Model()
    needs = {"unused": Needs(), "first": Needs(amax=True)}
    assert list(collect(model, needs, _over(model, _batches()), rows=4, seed=0)) == ["first"]


def test_a_layer_that_was_never_run_is_named() -> None:
    model = Model()
    with pytest.raises(CalibrationError, match="layer 'unused' was never run"):
        collect(model, {"first": ALL, "unused": ALL}, _over(model, _batches()), rows=4, seed=0)
    assert _hooks(model) == 0


@pytest.mark.parametrize(("value", "word"), [(float("nan"), "NaN"), (float("inf"), "Inf"), (-float("inf"), "Inf")])
def test_a_value_that_is_not_finite_is_named_with_its_layer(value: float, word: str) -> None:
    model = Model()
    with torch.no_grad():
        model.first.bias[2] = value
    with pytest.raises(CalibrationError, match=f"layer 'second': its input holds {word} in its call 1;"):
        collect(model, {"first": ALL, "second": Needs(amax=True)}, _over(model, _batches()), rows=4, seed=0)
    assert _hooks(model) == 0


def test_the_model_is_left_as_it_was() -> None:
    model, batches = Model().train(), _batches()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    collect(model, {"first": ALL, "second": ALL}, _over(model, batches), rows=4, seed=0)
    assert _hooks(model) == 0
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_hooks_of_others_stay() -> None:
    model = Model()
    model.first.register_forward_pre_hook(lambda module, args: None)
    collect(model, {"first": ALL}, _over(model, _batches()), rows=4, seed=0)
    assert _hooks(model) == 1


def test_hooks_are_removed_after_an_error_of_the_run() -> None:
    model = Model()

    def fail() -> None:
        raise KeyError("from the run")

    with pytest.raises(KeyError, match="from the run"):
        collect(model, {"first": ALL}, fail, rows=4, seed=0)
    assert _hooks(model) == 0


def test_no_graph_is_kept() -> None:
    model = Model()
    outputs: list[torch.Tensor] = []
    collect(model, {"first": ALL}, lambda: outputs.append(model(_batches()[0])), rows=4, seed=0)
    assert not outputs[0].requires_grad


def test_without_modelopt_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "modelopt.torch.quantization.calib", None)
    with pytest.raises(CalibrationError, match="gathering ranges needs ModelOpt: pip install nvidia-modelopt"):
        collect(Model(), {"first": ALL}, lambda: None, rows=4, seed=0)


def test_a_hessian_is_the_mean_of_outer_products() -> None:
    model, batches = Model(), _batches()
    found = collect(model, {"first": Needs(hessian=True)}, _over(model, batches), rows=4, seed=0)["first"]
    rows = torch.cat([batch.reshape(-1, 6) for batch in batches]).double()
    assert found.hessian is not None and found.hessian.dtype == torch.float64
    expected = rows.T @ rows / len(rows)
    torch.testing.assert_close(found.hessian, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))
    assert found.amax is None and found.rows is None


def test_a_hessian_is_summed_over_some_rows_of_a_long_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row i is the unit vector i, so that the diagonal tells how often each was taken."""
    monkeypatch.setattr(probe, "_HESSIAN_ROWS", 16)
    layer = nn.Sequential(nn.Linear(64, 2))
    calls = [torch.eye(64), torch.eye(64), torch.eye(16, 64)]

    def taken(count: int) -> torch.Tensor:
        found = collect(layer, {"0": ALL}, lambda: [layer(call) for call in calls[:count]], rows=4, seed=0)["0"]
        assert found.hessian is not None and found.seen_rows == sum(map(len, calls[:count]))
        return found.hessian.diagonal() * 16 * count

    first, both, all_three = taken(1), taken(2), taken(3)
    assert sorted(first.tolist()) == [0.0] * 48 + [1.0] * 16
    assert (both - first).sum() == 16 and not torch.equal(both, 2 * first)  # others of the second call
    torch.testing.assert_close(all_three - both, calls[2].sum(dim=0).double())  # a short call has all its rows
    assert torch.equal(taken(2), both)


def test_sums_go_on_from_a_journal(tmp_path: Path) -> None:
    model, batches, needs = Model(), _batches(), {"first": Needs(hessian=True, channel_mean=True)}
    whole = collect(model, needs, _over(model, batches), rows=4, seed=0)["first"]
    started = Journal(tmp_path / "journal", "key", seconds=0)

    def killed() -> None:
        _over(model, batches[:2])()
        started.prompt_done(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(model, needs, killed, rows=4, seed=0, journal=started)
    journal = Journal(tmp_path / "journal", "key")
    found = collect(model, needs, _over(model, batches[2:]), rows=4, seed=0, journal=journal)["first"]
    assert journal.done == 2
    assert found.hessian is not None and found.channel_mean is not None
    torch.testing.assert_close(found.hessian, whole.hessian)
    torch.testing.assert_close(found.channel_mean, whole.channel_mean)


def _equal(found: Statistics, expected: Statistics) -> bool:
    pairs = [(getattr(found, name), getattr(expected, name)) for name, wanted in vars(ALL).items() if wanted]
    return found.seen_rows == expected.seen_rows and all(torch.equal(one, other) for one, other in pairs)


def test_a_call_without_rows_changes_nothing() -> None:
    model, batches = Model(), _batches()
    expected = collect(model, {"first": ALL, "second": ALL}, _over(model, batches), rows=4, seed=0)
    empty = [torch.empty(0, 6), *batches[:1], torch.empty(2, 0, 6), *batches[1:]]
    found = collect(model, {"first": ALL, "second": ALL}, _over(model, empty), rows=4, seed=0)
    assert all(_equal(found[name], expected[name]) for name in expected)
    with pytest.raises(CalibrationError, match="layer 'first' was never run"):
        collect(model, {"first": ALL}, _over(model, empty[:1]), rows=4, seed=0)


def _checkpointed(model: nn.Module, batch: torch.Tensor) -> object:
    return checkpoint(model, batch, use_reentrant=False)


def _by_name(model: Model, batch: torch.Tensor) -> object:
    with torch.inference_mode():
        return model.second(input=nn.functional.leaky_relu(model.first(input=batch)))


@pytest.mark.parametrize("call", [_checkpointed, _by_name])
def test_ways_to_call_a_layer_are_alike(call: Callable[[Model, torch.Tensor], object]) -> None:
    model, batches = Model(), _batches()
    expected = collect(model, {"first": ALL, "second": ALL}, _over(model, batches), rows=4, seed=0)
    found = collect(
        model, {"first": ALL, "second": ALL}, lambda: [call(model, batch) for batch in batches], rows=4, seed=0
    )
    assert all(_equal(found[name], expected[name]) for name in expected)
    assert float(found["first"].hessian.trace()) > 0  # type: ignore[union-attr]


def test_torchs_defaults_and_its_own_generator_play_no_part() -> None:
    model, batches = Model(), _batches()
    expected = collect(model, {"first": ALL}, _over(model, batches), rows=4, seed=0)["first"]
    torch.manual_seed(17)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        with torch.device("meta"):
            found = collect(model, {"first": ALL}, _over(model, batches), rows=4, seed=0)["first"]
    finally:
        torch.set_default_dtype(before)
    assert _equal(found, expected)


@pytest.mark.parametrize("size", [1e-43, 1e-30, 1.0, 1e19, 1e38])
def test_a_hessian_of_inputs_of_any_size(size: float) -> None:
    model, x = Model(), torch.randn(40, 6, generator=torch.Generator().manual_seed(2)) * size
    found = collect(model, {"first": Needs(hessian=True)}, lambda: model.first(x), rows=1, seed=0)["first"].hessian
    assert found is not None and found.trace() > 0
    wide = x.double() / size
    torch.testing.assert_close(found / size / size, wide.T @ wide / 40, rtol=1e-5, atol=1e-6)


def test_a_hessian_of_ordinary_inputs_is_the_product_in_float32_bit_for_bit() -> None:
    model, x = Model(), _batches()[0]
    found = collect(model, {"first": Needs(hessian=True)}, lambda: model.first(x), rows=1, seed=0)["first"].hessian
    assert found is not None and torch.equal(found, (x.T @ x).double() / len(x))
