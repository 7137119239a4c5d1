"""Predictions and measurements as text for a terminal; which of the two it is stands at the top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quant.eval.bench.gpus import MEMORY
from quant.eval.bench.measure import Measured
from quant.eval.bench.operations import KINDS, Operation
from quant.eval.bench.prediction import BF16, Prediction
from quant.eval.bench.roofline import by_kind
from quant.eval.bench.sizes import Model
from quant.eval.tables import Table, as_text

PREDICTED = "Prediction (roofline model, nothing was measured)"
MEASURED = "Measured"


def prediction_text(found: Prediction) -> str:
    """Every operation of each variant, their sums, and what was reckoned with."""
    rates = {name: rate for name, rate in found.gpu.rates.items() if name in _used(found)}
    return "\n".join(
        [
            PREDICTED,
            "",
            f"{_block(found.model, found.batch)}; {found.recipe} on {found.gpu.title}",
            *(part for variant in found.variants for part in ("", as_text(_operations(found, variant)))),
            "",
            as_text(_predicted_totals(found)),
            "",
            "sizes: M x N x K; samples x queries x keys x heads x width of a head; rows",
            *_notes(found.model, found.notes),
            f"peaks: {found.gpu.datasheet}",
            *(
                f"{name}: {_rate(name, rate.achieved)} of {_rate(name, rate.peak)}: {rate.source}"
                for name, rate in rates.items()
            ),
        ]
    )


def measured_text(found: Measured, predicted: Prediction | str) -> str:
    """The medians, where they go by kind, and what the roofline model predicts of each.

    Args:
        found: what was measured.
        predicted: the prediction for the same block on this GPU, or why there is none.
    """
    prediction = None if isinstance(predicted, str) else predicted
    lines = [
        f"{MEASURED} on {found.device}",
        "",
        f"{_block(found.model, found.batch)}; {found.recipe}; attention by {found.backend} in all",
        "",
        as_text(_medians(found, prediction)),
        "",
        as_text(_kinds(found, prediction)),
        "",
        *(f"{name}: not measured: {reason}" for name, reason in found.times.failed.items()),
        *_notes(found.model, found.notes),
        "random weights and inputs; weights rounded to nearest and pruned by magnitude, whatever the recipe says",
        "medians of CUDA events, in rounds of a shuffled order; L2 as the calls leave it",
        "kinds: the kernels that torch.profiler saw in one call",
    ]
    why_not = f"no prediction: {predicted}"
    lines.append(why_not if prediction is None else f"predicted: roofline model for {prediction.gpu.title}")
    return "\n".join(lines)


def _block(model: Model, batch: int) -> str:
    text = f"{model.video_tokens:,} tokens of video and {model.text_tokens} of text"
    return f"{model.title}, block {model.block} of {model.layers}; {text}, batch {batch} ({model.about})"


def _notes(model: Model, notes: Sequence[str]) -> list[str]:
    return [note for note in (model.note, *notes) if note]


def _operations(found: Prediction, variant: str) -> Table:
    whole = found.seconds(variant)
    rows = [
        (
            each.operation.name,
            _sizes(each.operation),
            each.operation.numbers if each.operation.operations else "",
            each.bound,
            _milliseconds(each.seconds),
            f"{each.seconds / whole:.1%}",
        )
        for each in found.variants[variant]
    ]
    rows.append(("all", "", "", "", _milliseconds(whole), "100.0%"))
    return Table((variant, "sizes", "numbers", "bound by", "ms", "share"), tuple(rows), words=4)


def _predicted_totals(found: Prediction) -> Table:
    rows = []
    for variant, operations in found.variants.items():
        kinds = by_kind(operations)
        rows.append(
            (
                variant,
                *(_milliseconds(kinds[kind]) for kind in KINDS),
                _milliseconds(found.seconds(variant)),
                f"{found.speedup(variant):.2f}x",
            )
        )
    return Table(("predicted ms", *KINDS, "all", "speedup"), tuple(rows), words=1)


def _medians(found: Measured, prediction: Prediction | None) -> Table:
    medians = found.times.medians()
    rows = []
    for name, values in found.times.seconds.items():
        error = found.errors.get(name)
        rows.append(
            (
                name,
                _milliseconds(medians[name]),
                f"{_milliseconds(min(values))}-{_milliseconds(max(values))}",
                f"{medians[BF16] / medians[name]:.2f}x",
                "-" if error is None else f"{error:.1%}",
                "-" if prediction is None else _milliseconds(prediction.seconds(name)),
                "-" if prediction is None else f"{prediction.speedup(name):.2f}x",
            )
        )
    headings = ("", "median ms", "range", "speedup", "error", "predicted ms", "predicted speedup")
    return Table(headings, tuple(rows), words=1)


def _kinds(found: Measured, prediction: Prediction | None) -> Table:
    rows = []
    for name, measured in found.by_kind.items():
        predicted = None if prediction is None else by_kind(prediction.variants[name])
        rows += [_kind(name, kind, measured, predicted) for kind in KINDS]
    return Table(("", "kind", "ms in kernels", "predicted ms", "of the roofline"), tuple(rows), words=2)


def _kind(
    name: str, kind: str, measured: Mapping[str, float], predicted: Mapping[str, float] | None
) -> tuple[str, ...]:
    if predicted is None:
        return name, kind, _milliseconds(measured[kind]), "-", "-"
    reached = f"{predicted[kind] / measured[kind]:.0%}" if measured[kind] else "-"
    return name, kind, _milliseconds(measured[kind]), _milliseconds(predicted[kind]), reached


def _used(found: Prediction) -> set[str]:
    """The rates that an operation of any variant was reckoned with."""
    operations = [each.operation for variant in found.variants.values() for each in variant]
    return {MEMORY, *(f"{each.kind} {each.numbers}" for each in operations)}


def _sizes(operation: Operation) -> str:
    return " x ".join(str(size) for size in operation.sizes.values())


def _rate(name: str, value: float) -> str:
    if name == MEMORY:
        return f"{value / 1e9:,.0f} GB/s"
    return f"{value / 1e12:,.0f} {'TOPS' if name.endswith('int8') else 'TFLOP/s'}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3f}"
