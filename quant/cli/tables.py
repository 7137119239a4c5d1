"""A checkpoint's layers as a table in which the same layer of all blocks is one line."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence

from quant.api.inspect import Component, Inspection, Layer
from quant.text import printable

_HEADINGS = ("shape", "scheme", "layers", "bits/weight", "bytes", "weight error", "output error", "alpha", "")
#: Columns that hold figures, and are aligned to the right.
_FIGURES = range(3, 9)


def component_table(component: Component, *, every_layer: bool = False) -> str:
    """The layers of a component, and a line of totals.

    Example line: `blocks.{0-5}.attn1.to_q  256x256  W8A8  6  8.13  399,360  0.72%`
    """
    groups: dict[tuple[str, ...], list[Layer]] = {}
    for layer in component.layers:
        block = None if every_layer else _block(layer.name)
        name = layer.name if block is None else layer.name.replace(f".{block}.", ".{}.", 1)
        reason = re.sub(r"edge block \d+ of", "an edge block of", layer.reason)
        groups.setdefault((name, _shape(layer), layer.scheme or "kept", reason), []).append(layer)
    rows = [_row(name, shape, scheme, reason, members) for (name, shape, scheme, reason), members in groups.items()]
    head = (component.name or "model", *_HEADINGS)
    return "\n".join([*aligned([head, *rows], figures=_FIGURES), "", _totals(component)])


def kernel_table(component: Component, *, every_layer: bool = False) -> str:
    """Which kernel multiplies the quantized layers on each architecture; layers alike in it are one line."""
    quantized = [layer for layer in component.layers if layer.scheme is not None]
    if not quantized:
        return ""
    architectures = tuple(quantized[0].kernels)
    groups: dict[tuple[str, ...], int] = {}
    for layer in quantized:
        key = (layer.name if every_layer else str(layer.scheme), *(layer.kernels[arch] for arch in architectures))
        groups[key] = groups.get(key, 0) + 1
    rows = [(key[0], str(count), *key[1:]) for key, count in groups.items()]
    lines = aligned([("matmul by", "layers", *architectures), *rows], figures=(1,))
    if any("reference" in row for row in rows):
        lines.append("reference is plain PyTorch: it computes what the checkpoint says, and is not fast")
    return "\n".join(lines)


def provenance_lines(found: Inspection) -> str:
    """Recipe, source and versions of a checkpoint, one a line."""
    made = found.provenance
    if not found.has_manifest:
        return (
            "no manifest: saved by another library, so files are not checked against hashes, and recipe, reasons and "
            "weight errors are not known"
        )
    recipe, calibration = made.get("recipe", {}), made.get("calibration")
    lines = [f"recipe    {recipe.get('name', '-')}  sha256 {recipe.get('sha256', '-')[:12]}"]
    lines.append(f"model     {made.get('model', '-')}")
    if calibration:
        settings = ", ".join(f"{key} {value}" for key, value in calibration["settings"].items())
        prompts = calibration["prompts"]
        what = "inputs" if "inputs" in calibration else "prompts"
        data = "a forward loop" if prompts is None else f"{len(prompts)} {what}, {settings or 'default settings'}"
        lines.append(f"data      {data}, seed {calibration['seed']}")
    versions = ", ".join(f"{name} {version}" for name, version in made.get("versions", {}).items())
    return "\n".join(printable(line) for line in [*lines, f"versions  {versions}"])


def _block(name: str) -> str | None:
    found = re.search(r"\.(\d+)\.", name)
    return found.group(1) if found else None


def _row(name: str, shape: str, scheme: str, reason: str, members: Sequence[Layer]) -> tuple[str, ...]:
    blocks = [int(block) for layer in members if (block := _block(layer.name)) is not None]
    errors = [layer.weight_error for layer in members if layer.weight_error is not None]
    outputs = [layer.output_error for layer in members if layer.output_error is not None]
    alphas = [layer.alpha for layer in members if layer.alpha is not None]
    return (
        name.replace("{}", ranges(blocks)) if blocks else name,
        shape,
        scheme,
        str(len(members)),
        f"{max(layer.bits_per_weight for layer in members):.2f}",
        f"{sum(layer.nbytes for layer in members):,}",
        f"{max(errors):.2%}" if errors else "",
        f"{max(outputs):.2%}" if outputs else "",
        _span(alphas),
        reason,
    )


def _span(values: Sequence[float]) -> str:
    if not values:
        return ""
    return f"{min(values):g}" if min(values) == max(values) else f"{min(values):g}-{max(values):g}"


def _shape(layer: Layer) -> str:
    return "x".join(map(str, layer.shape))


def _totals(component: Component) -> str:
    quantized = [layer for layer in component.layers if layer.scheme is not None]
    return (
        f"{len(quantized)} of {len(component.layers)} layers quantized; {component.nbytes:,} bytes, "
        f"{component.compression:.2f}x smaller than bf16; {printable(component.format)}, "
        f"read as {component.quant_method}"
    )


def aligned(rows: Sequence[tuple[str, ...]], figures: Container[int] = ()) -> list[str]:
    """Rows as lines with aligned columns, `figures` to the right; a column empty below its head is left out."""
    rows = [tuple(printable(cell) for cell in row) for row in rows]
    used = [column for column in range(len(rows[0])) if any(row[column] for row in rows[1:])]
    widths = {column: max(len(row[column]) for row in rows) for column in used}
    return [
        "  ".join(
            row[column].rjust(widths[column]) if column in figures else row[column].ljust(widths[column])
            for column in used
        ).rstrip()
        for row in rows
    ]


def ranges(indexes: Sequence[int]) -> str:
    """[0, 1, 2, 5] -> "{0-2,5}"; one index stands alone."""
    if len(indexes) == 1:
        return str(indexes[0])
    parts: list[list[int]] = []
    for index in sorted(indexes):
        if parts and index == parts[-1][1] + 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return "{" + ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts) + "}"
