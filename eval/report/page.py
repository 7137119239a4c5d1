"""One HTML file that shows an evaluation: it opens from a disk, offline, and asks for nothing else."""

import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources

import numpy as np

from quant.eval.metrics.paired import Frames
from quant.eval.report.sprites import LARGEST, Sheet, amplification, reduced, sheet
from quant.eval.report.strip import Axis, axis, axis_svg, strip_svg
from quant.eval.report.table import NOT_A_KERNEL, decibels, judged_attributes, table
from quant.eval.results import Measurement, Results

#: Stands for an identical clip where clips are ordered by PSNR.
_LAST = 1000.0


@dataclass(frozen=True)
class Pictures:
    """The sheets of one sample: the original, and by candidate its clip and its amplified difference."""

    original: Sheet
    candidates: tuple[tuple[Sheet, Sheet], ...]


def page(results: Results, original: Frames, candidates: Sequence[Frames]) -> str:
    """The HTML of `results` with every clip. Frames are [N, F, H, W, 3] in 0..1, candidates in their order."""
    factor = amplification([np.abs(frames - original) for frames in candidates])
    pictures = [
        _pictures(original[index], [frames[index] for frames in candidates], factor)
        for index in range(len(results.samples))
    ]
    template = resources.files("quant.eval.report").joinpath("page.html").read_text(encoding="utf-8")
    number = len(results.candidates)
    heading = f"{number} quantized {'model' if number == 1 else 'models'} beside the original"
    return string.Template(template).substitute(
        title=escape(f"quant: {', '.join(model.name for model in results.candidates)}"),
        heading=heading,
        lead=_lead(results),
        table=_table(results),
        under_table=f"s/step is the median time of one denoising step for a batch of {results.batch} clips: "
        f"{NOT_A_KERNEL}.",
        candidates=number,
        orders=_orders(results),
        rows="\n".join(_row(results, index, shown, factor) for index, shown in enumerate(pictures)),
        notes=_definitions(_notes(results, factor, original.shape)),
        conditions=_definitions(_conditions(results)),
    )


def _pictures(original: Frames, candidates: Sequence[Frames], factor: int) -> Pictures:
    """Differences are taken between raw frames, before anything is reduced or rounded to 8 bits."""
    return Pictures(
        sheet(reduced(original)),
        tuple((sheet(reduced(frames)), sheet(reduced(np.abs(frames - original) * factor))) for frames in candidates),
    )


def _lead(results: Results) -> str:
    count = len(results.samples)
    return (
        f"{count} {'prompt' if count == 1 else 'prompts'}, made by <b>{escape(results.model)}</b> and by each "
        "checkpoint from the same seeds and initial latents, so every difference you see was made by quantization."
    )


def _table(results: Results) -> str:
    shown = table(results)
    scale = axis([value for model in results.candidates for value in model.psnr])
    headings = [
        f'<th scope="col"{_word(column, shown.words)}>{escape(text)}</th>' for column, text in enumerate(shown.headings)
    ]
    headings.append(f'<th scope="col" class="strip word">PSNR of each clip (dB){axis_svg(scale)}</th>')
    models = (results.original, *results.candidates)
    rows = [_table_row(cells, model, scale, results) for cells, model in zip(shown.rows, models, strict=True)]
    return f"<table>\n<thead><tr>{''.join(headings)}</tr></thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody>\n</table>"


def _table_row(cells: Sequence[str], model: Measurement, scale: Axis, results: Results) -> str:
    marks = [f'<th scope="row" class="word">{escape(cells[0])}</th>', f'<td class="word">{escape(cells[1])}</td>']
    marks += [f"<td>{escape(cell)}</td>" for cell in cells[2:]]
    labels = [sample.prompt for sample in results.samples]
    strip = strip_svg(scale, model.psnr, labels, model.name) if model.psnr else ""
    return f'<tr>{"".join(marks)}<td class="strip">{strip}</td></tr>'


def _orders(results: Results) -> str:
    """The `data-` keys that rows can be ordered by, as options."""
    options = [("worst", "worst first"), ("number", "as in the prompt file")]
    options += [(f"by{index}", f"worst {model.name} first") for index, model in enumerate(results.candidates)]
    return "".join(f'<option value="{key}">{escape(text)}</option>' for key, text in options)


def _row(results: Results, index: int, pictures: Pictures, factor: int) -> str:
    sample = results.samples[index]
    psnr = [min(model.psnr[index], _LAST) for model in results.candidates]
    keys = {"number": float(index), "worst": min(psnr, default=0.0)}
    keys |= {f"by{position}": value for position, value in enumerate(psnr)}
    data = " ".join(f'data-{key}="{value:.4f}"' for key, value in keys.items())
    figures = [
        _figure(_caption(results, results.original, index), [_canvas(pictures.original, "original", sample.prompt)])
    ]
    for model, (clip, difference) in zip(results.candidates, pictures.candidates, strict=True):
        caption = f'{_caption(results, model, index)}<span class="difference">diff. &times;{factor}</span>'
        what = f"{model.name}, difference from the original times {factor}"
        canvases = [_canvas(clip, model.name, sample.prompt), _canvas(difference, what, sample.prompt, "difference")]
        figures.append(_figure(caption, canvases))
    return (
        f'<article class="row card" id="clip-{index}" {data}>\n'
        f"<h3>{escape(sample.prompt)}<span>seed {sample.seed}</span></h3>\n"
        f'<div class="scroll"><div class="clips">\n' + "\n".join(figures) + "\n</div></div>\n</article>"
    )


def _figure(caption: str, canvases: Sequence[str]) -> str:
    pair = "".join(canvases)
    return f'<figure><figcaption>{caption}</figcaption><div class="pair">{pair}</div></figure>'


def _caption(results: Results, model: Measurement, index: int) -> str:
    marks = [f"<b>{escape(model.name)}</b>"]
    if model.psnr:
        value = model.psnr[index]
        marks.append(f"<span>{decibels(value)}{'' if math.isinf(value) else ' dB'}</span>")
    attributes = judged_attributes(results)
    wrong = [attribute for attribute in attributes if not model.judged[attribute][index]]
    if wrong:
        marks.append(f'<span class="wrong">&#10007; {", ".join(wrong)}</span>')
    elif attributes:
        marks.append('<span class="right">&#10003; as asked</span>')
    return "".join(marks)


def _canvas(clip: Sheet, who: str, prompt: str, css: str = "clip") -> str:
    label = escape(f"{who}: {prompt}", quote=True)
    return (
        f'<canvas class="{css}" role="img" aria-label="{label}" width="{clip.width}" height="{clip.height}" '
        f'data-frames="{clip.frames}" data-columns="{clip.columns}" data-sheet="{clip.data_url}"></canvas>'
    )


def _notes(results: Results, factor: int, shape: tuple[int, ...]) -> Mapping[str, str]:
    notes = {
        "PSNR": "Peak signal-to-noise ratio of each clip against the original's clip of the same prompt, seed and "
        "initial latents, over all frames, on the raw frames before any encoding. Higher is closer: 40 dB is an "
        "average error of 1% of the range, 20 dB of 10%. Identical clips are counted and left out of the mean.",
        "stored": "Bytes of all tensors of the quantized components as stored, scales and unquantized layers included, "
        "and as a share of the same components in bf16.",
        "s/step": f"The median of all denoising steps but each batch's first: {NOT_A_KERNEL}. Activations are "
        "quantized and multiplied exactly as the checkpoint says, in plain PyTorch, so that the pictures are right; "
        "speed is what kernels on a GPU are for.",
        "difference": f"|candidate - original| of the raw frames, times {factor} and clipped. One factor for the whole "
        "page, so brightness can be compared between models and prompts. Black is equal.",
    }
    if judged_attributes(results):
        names = ", ".join(judged_attributes(results))
        notes[names] = (
            "How many clips show what their prompt asks for, measured on the frames by comparison with the drawn "
            "shapes; no network is involved. The original misses some too: compare with its row. They only say that a "
            "clip is not mush; PSNR is the finer measure."
        )
    if max(shape[2:4]) > LARGEST:
        notes["size of the pictures"] = (
            f"Reduced to at most {LARGEST} pixels a side. Every figure was taken at full size."
        )
    return notes


def _conditions(results: Results) -> Mapping[str, str]:
    settings = ", ".join(f"{name} {value}" for name, value in results.settings.items())
    seeds = ", ".join(str(sample.seed) for sample in results.samples)
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    count = results.calibration_prompts
    calibrated = {} if count is None else {"calibrated on": f"{count} other prompts, where a recipe needs data"}
    return {
        "model": results.model,
        "settings": settings,
        **calibrated,
        "computed in": "float32, on the CPU",
        "seeds": seeds,
        "initial latents": f"SHA-256 {results.latents_sha256}",
        "batch": str(results.batch),
        "versions": versions,
    }


def _definitions(entries: Mapping[str, str]) -> str:
    return "\n".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in entries.items())


def _word(column: int, words: int) -> str:
    return ' class="word"' if column < words else ""
