"""The section of benchmarks/README.md: what each GPU's results file says, as Markdown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu import goals
from benchmarks.gpu.contestants import BASELINE, FORMATS
from benchmarks.gpu.results import FORMAT_VERSION

NOTHING = "No GPU has been measured yet: there is no `results/gpu_*.json`. Nothing is claimed of the kernels' speed."
_MODES = {
    "bare": "Bare: the matmul of ready operands, with scales",
    "used": "As used: quantization by token, matmul, scales, bias, and GELU in `ffn up`",
}
_ROW_MODES = {"plain": "codes of x", "norm": "codes of LayerNorm and modulation of x"}
#: Those that have a table; with a 2:4 weight the dense kernels of the same format stand next to it.
_TABLES = tuple(name for name in FORMATS if name != "bf16")

Body = Mapping[str, Any]


def section(folder: Path) -> str:
    """Of every `gpu_*.json` in `folder`, by name; says so where there is none.

    Raises:
        ValueError: a file of another format version.
    """
    parts = []
    for path in sorted(folder.glob("gpu_*.json")):
        body = json.loads(path.read_text(encoding="utf-8"))
        if body.get("format_version") != FORMAT_VERSION:
            raise ValueError(f"{path}: format_version {body.get('format_version')!r}, not {FORMAT_VERSION}")
        parts.append(of_gpu(body))
    return "\n\n".join(parts) or NOTHING


def of_gpu(body: Body) -> str:
    """One GPU: what it is, what was checked, the ceilings, the goals, a table for each format and mode, rows, and
    reasons."""
    parts = [f"### {body['facts']['device']['name']}", _conditions(body), _steps(body["steps"]), _ceilings(body)]
    parts += _goals(body["shapes"])
    reasons: dict[str, str] = {}
    for format_name in _TABLES:
        for mode, title in _MODES.items():
            parts += _matmuls(body["shapes"], format_name, mode, f"{FORMATS[format_name].label}. {title}.", reasons)
    parts += _rows(body["rows"], reasons)
    if reasons:
        parts.append("Not timed:\n\n" + "\n".join(f"- ({mark}) {reason}" for reason, mark in reasons.items()))
    if body["skipped"]:
        parts.append("Not reached:\n\n" + "\n".join(f"- {each['shape']}: {each['reason']}" for each in body["skipped"]))
    if body["videos"] is not None:
        parts.append(_videos(body["videos"]))
    return "\n\n".join(parts)


def _conditions(body: Body) -> str:
    facts = body["facts"]
    device = facts["device"]
    commit = "no git" if facts["commit"] is None else facts["commit"][:10] + (" and changes" if facts["dirty"] else "")
    clocks = [each and each["sm_mhz"] for each in (body["clocks_before"], body["clocks_after"])]
    shown = " and ".join("unknown" if each is None else f"{each:.0f} MHz" for each in clocks)
    return (
        f"{facts['date']}, commit {commit}; sm_{device['capability'][0]}{device['capability'][1]}, "
        f"{device['multiprocessors']} multiprocessors, {device['memory_bytes'] / 2**30:.0f} GiB; driver "
        f"{facts['driver'] or 'unknown'}, CUDA {facts['cuda_runtime']}, NVRTC {facts['nvrtc']}, "
        f"torch {facts['torch']}; clocks before and after: {shown}.{' A quick run.' if body['quick'] else ''}"
    )


def _steps(steps: Iterable[Body]) -> str:
    return "\n".join(f"- {each['name']} {each['status']}: {each['says']}" for each in steps)


def _ceilings(body: Body) -> str:
    best = body["ceilings"]["matmul_per_second"]
    rates = ", ".join(f"{FORMATS[name].label} {best[name] / 1e12:.0f} T/s" for name in FORMATS if name in best)
    copy = body["ceilings"]["copy_bytes_per_second"] / 1e12
    zeros = " With 2:4 the zeros are counted." if any(FORMATS[name].weight == "2:4" for name in best) else ""
    best_of = f"the best matmul of anyone, {rates}.{zeros}"
    return f"Ceilings of this run: a large copy, {copy:.2f} TB/s read and written; {best_of}"


def _goals(shapes: Sequence[Body]) -> list[str]:
    """Where a contestant with a 2:4 or 4-bit weight was tried."""
    if all(FORMATS[each["format"]].weight == "dense" for shape in shapes for each in shape["contestants"]):
        return []
    text = "**Goals.** The best of ours against what it stands beside, bare, on the shapes where both were timed."
    return [text, _markdown(["", "goal", "reached", "shapes", ""], goals.rows(shapes), words=3)]


def _matmuls(shapes: Sequence[Body], format_name: str, mode: str, title: str, reasons: dict[str, str]) -> list[str]:
    """Ratios to bf16 and the share of the best matmul, a column for each contestant."""
    every = [each for shape in shapes for each in shape["contestants"]]
    names = _names(every, format_name, mode)
    if not names:
        return []
    dense = FORMATS[format_name].x
    beside = _names(every, dense, mode) if FORMATS[format_name].weight == "2:4" and dense != "bf16" else []
    headings = ["layer", "M", "N", "K", "bf16 ms", *names, *(f"dense: {name}" for name in beside)]
    rows = []
    for shape in shapes:
        entries = {(each["name"], each["format"], each["mode"]): each for each in shape["contestants"]}
        base = entries.get((BASELINE, "bf16", mode))
        cells = [f"{shape['model']}, {shape['layer']}", *(str(shape[size]) for size in "mnk")]
        cells.append(_milliseconds(base, reasons))
        cells += [_ratio(entries.get((name, format_name, mode)), reasons) for name in names]
        cells += [_ratio(entries.get((name, dense, mode)), reasons) for name in beside]
        rows.append(cells)
    text = f"**{title}** Times torch's bf16 layer, more is faster; in brackets the share of the best matmul."
    return [text, _markdown(headings, rows, words=1), _means(shapes, format_name, names, dense, beside, mode)]


def _means(
    shapes: Sequence[Body], format_name: str, names: Sequence[str], dense: str, beside: Sequence[str], mode: str
) -> str:
    """How many times as fast as each rival, and as each dense kernel of theirs and ours, our kernels are, over the
    shapes that both were timed on."""
    ratios: dict[tuple[str, str], dict[int, float]] = {}
    for index, shape in enumerate(shapes):
        for each in shape["contestants"]:
            if each["mode"] == mode and each["ratio_to_bf16"] is not None:
                ratios.setdefault((each["format"], each["name"]), {})[index] = each["ratio_to_bf16"]
    rivals = [(name, (format_name, name)) for name in names if not name.startswith("quant ")]
    rivals += [(f"dense {name}", (dense, name)) for name in beside]
    said = []
    for name in (each for each in names if each.startswith("quant ") and (format_name, each) in ratios):
        means, own = [], ratios[format_name, name]
        for label, key in rivals:
            other = ratios.get(key, {})
            shared = sorted(own.keys() & other.keys())
            if shared:
                mean = statistics.geometric_mean([own[i] / other[i] for i in shared])
                means.append(f"{mean:.2f}x of {label} ({len(shared)} shape{'s' if len(shared) > 1 else ''})")
        said.append(f"{name}, geometric mean: {', '.join(means) or 'no rival was timed beside it'}.")
    return "\n".join(said) or "No kernel of quant was timed here."


def _rows(sizes: Sequence[Body], reasons: dict[str, str]) -> list[str]:
    if not sizes:
        return []
    names = list(dict.fromkeys(each["name"] for size in sizes for each in size["contestants"]))
    rows = []
    for size in sizes:
        for format_name in ("int8", "fp8"):
            for mode, what in _ROW_MODES.items():
                entries = {
                    each["name"]: each
                    for each in size["contestants"]
                    if (each["format"], each["mode"]) == (format_name, mode)
                }
                cells = [f"{FORMATS[format_name].label} {what}", str(size["m"]), str(size["k"])]
                rows.append([*cells, *(_bytes(entries.get(name), reasons) for name in names)])
    title = "**`quantize_rows`.** TB/s of the bytes that must move; in brackets the share of a large copy."
    return [title, _markdown(["", "M", "K", *names], rows, words=1)]


def _videos(videos: Body) -> str:
    lines = []
    for name, made in videos["made"].items():
        finite = [value for value in made["psnr"] if value is not None]
        least = f"at least {min(finite):.1f} dB" if finite else "identical"
        warned = f"; {'; '.join(made['not_by_a_kernel'])}" if made["not_by_a_kernel"] else ""
        lines.append(f"- {name}: PSNR to the CPU's {least}, {len(made['psnr'])} videos{warned}")
    return f"Videos of {videos['model']} made here, against the same made on a CPU:\n\n" + "\n".join(lines)


def _names(entries: Iterable[Body], format_name: str, mode: str) -> list[str]:
    return list(
        dict.fromkeys(each["name"] for each in entries if (each["format"], each["mode"]) == (format_name, mode))
    )


def _ratio(entry: Body | None, reasons: dict[str, str]) -> str:
    if entry is None:
        return ""
    if entry["seconds"] is None:
        return _mark(entry, reasons)
    ratio = "-" if entry["ratio_to_bf16"] is None else f"{entry['ratio_to_bf16']:.2f}x"
    return f"{ratio} ({entry['of_best_matmul']:.0%})"


def _milliseconds(entry: Body | None, reasons: dict[str, str]) -> str:
    if entry is None:
        return ""
    return _mark(entry, reasons) if entry["seconds"] is None else f"{entry['seconds']['median'] * 1e3:.3f}"


def _bytes(entry: Body | None, reasons: dict[str, str]) -> str:
    if entry is None:
        return ""
    if entry["seconds"] is None:
        return _mark(entry, reasons)
    return f"{entry['bytes_per_second'] / 1e12:.2f} ({entry['of_copy']:.0%})"


def _mark(entry: Body, reasons: dict[str, str]) -> str:
    """The outcome, and a letter that the reason is listed under."""
    reason = f"{entry['name']}, {FORMATS[entry['format']].label}: {entry['outcome']}: {entry['reason']}"
    mark = reasons.setdefault(reason, _letters(len(reasons)))
    return f"{entry['outcome']} ({mark})"


def _letters(index: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    text = ""
    while True:
        text = chr(ord("a") + index % 26) + text
        index = index // 26 - 1
        if index < 0:
            return text


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]], *, words: int) -> str:
    rule = [*(["---"] * words), *(["---:"] * (len(headings) - words))]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in (headings, rule, *rows))
