"""The metric networks of a run: those that were asked for, or else those that are on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quant.errors import QuantError
from quant.eval.runs.config import EvaluationConfig, MetricNetworks, short_place
from quant.eval.runs.files import hash_of

#: Raised when a score is computed in another way: old scores then do not count.
SCORING_VERSION = 1


@dataclass(frozen=True)
class Networks:
    """Loaded networks by name; `described` and `missing` are for the results."""

    lpips: Mapping[str, Any] = field(default_factory=dict)
    extractors: Mapping[str, Any] = field(default_factory=dict)
    clip: Any = None
    described: tuple[Mapping[str, Any], ...] = ()
    missing: tuple[Mapping[str, str], ...] = ()

    @property
    def key(self) -> str:
        """Says how videos are scored: scores of another key are not of this run.

        It holds the weights' hashes, and not where the networks lie.
        """
        ways = [
            [each["metric"], {key: value for key, value in each["conventions"].items() if key != "source"}]
            for each in self.described
        ]
        return hash_of([SCORING_VERSION, ways])[:16]


#: [F, H, W] of the videos; None where it is not known yet.
Shape = tuple[int, int, int] | None


def load_networks(config: EvaluationConfig, model: Path, shape: Shape, device: str) -> Networks:
    """Loads what videos of `shape` can be scored with; without a shape, whatever can be loaded.

    A network that the configuration names must load; one that is only taken where it is there is noted as missing,
    with the reason. `model` is the original's folder: networks beside it, in `metric_networks`, are made for what it
    shows, and serve in the place of those that know the real world.
    """
    wanted, own = config.metrics, _own_networks(model)
    clip, fvd, lpips_names = wanted.clip or own.clip, wanted.fvd, wanted.lpips
    collector = _Collector()
    if fvd is None:
        fvd = own.fvd or ("i3d",)
    if lpips_names is None:
        lpips_names = () if own.fvd else ("alex", "vgg")
        if own.fvd:
            why = "not asked for: networks beside the model are made for what it shows, and LPIPS is not"
            collector.missing.append({"metric": "lpips", "why": why})
    lpips = {
        name: found
        for name in lpips_names
        if (found := collector.lpips(name, shape, device, required=wanted.lpips is not None)) is not None
    }
    extractors = {}
    for spec in fvd:
        found = collector.extractor(spec, shape, device, required=wanted.fvd is not None)
        if found is not None:
            extractors[f"fvd:{found.name}"] = found
    loaded_clip = None
    if clip is None:
        collector.missing.append({"metric": "clip", "why": "no CLIP model was named: give its folder in 'metrics'"})
    else:
        loaded_clip = collector.clip(clip, device)
    return Networks(lpips, extractors, loaded_clip, tuple(collector.described), tuple(collector.missing))


def _own_networks(model: Path) -> MetricNetworks:
    """Those that lie beside a model's folder."""
    clip, videomae = (model.parent / "metric_networks" / name for name in ("clip", "videomae"))
    return MetricNetworks(
        fvd=(f"videomae:{videomae}",) if videomae.is_dir() else None, clip=str(clip) if clip.is_dir() else None
    )


class _Collector:
    """Loads networks, and notes what was loaded and what could not be."""

    def __init__(self) -> None:
        self.described: list[dict[str, Any]] = []
        self.missing: list[dict[str, str]] = []

    def lpips(self, name: str, shape: Shape, device: str, *, required: bool) -> Any:
        import torch

        from quant.eval.networks import lpips
        from quant.eval.networks.packages import networks

        def load() -> Any:
            network = lpips.load(name, device)  # type: ignore[arg-type]
            if shape is not None:
                blank = torch.zeros(1, 3, *shape[1:], device=device)
                network(blank, blank)  # refuses frames that are too small
            return network

        found = self._attempt(f"lpips_{name}", load, required)
        if found is not None:
            conventions = {
                "range": "-1..1",
                "resize": "none",
                "frames": "the mean over all",
                "weights_sha256": networks()[f"lpips-{name}"].tensors_sha256,
            }
            self._describe(f"lpips_{name}", f"LPIPS 0.1 {name}", conventions)
        return found

    def extractor(self, spec: str, shape: Shape, device: str, *, required: bool) -> Any:
        import numpy as np

        def load() -> Any:
            from quant.eval.networks.features import extractor

            network = extractor(spec, device=device)
            if shape is not None:
                network(np.zeros((*shape, 3), dtype=np.float32))  # refuses videos that are too short or small
            return network

        kind = f"fvd:{spec.partition(':')[0]}"
        found = self._attempt(kind, load, required)
        if found is not None:
            name, colon, where = spec.partition(":")
            self._describe(f"fvd:{found.name}", f"{name}{colon}{short_place(where)}", found.conventions)
        return found

    def clip(self, where: str, device: str) -> Any:
        from quant.eval.networks.clip import load

        found = load(where, device=device)
        self._describe("clip", short_place(where), found.conventions)
        return found

    def _describe(self, metric: str, name: str, conventions: Mapping[str, Any]) -> None:
        told = {key: short_place(value) if key == "source" else value for key, value in conventions.items()}
        self.described.append({"metric": metric, "name": name, "conventions": told})

    def _attempt(self, metric: str, load: Callable[[], Any], required: bool) -> Any:
        try:
            return load()
        except QuantError as error:
            if required:
                raise
            self.missing.append({"metric": metric, "why": str(error)})
            return None
