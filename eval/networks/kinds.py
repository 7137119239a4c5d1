"""The kinds of networks that metrics look through: how each is named, what is taken where none is, and how it loads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from quant.errors import QuantError
from quant.eval.locations import place, short_place

if TYPE_CHECKING:
    from quant.eval.networks.extraction import Device, Extractor

#: [F, H, W] of the videos; None where it is not known yet.
Shape = tuple[int, int, int] | None


class Loaded(NamedTuple):
    """A network that is ready: the name by which metrics ask for it, and the conventions its figures depend on."""

    name: str
    network: Any
    conventions: Mapping[str, Any]


class Default(NamedTuple):
    """What is taken where a configuration names no network.

    Attributes:
        specs: networks.
        why_not: why there is none, for the results; empty where there is, and where that needs no explanation.
        required: must they load? One that is only taken where it is there is noted as missing, with the reason.
    """

    specs: tuple[str, ...]
    why_not: str = ""
    required: bool = False


@dataclass(frozen=True)
class NetworkKind(ABC):
    """One kind of network.

    Attributes:
        key: its name under "metrics" in a configuration, and of the option of `quant eval run`.
        help: of that option.
        metavar: of that option; empty where there are `choices`.
        several: can more than one be named?
        choices: all there are; empty where a path or a hub id is meant.
        extracts: does it make the features that distances of sets are taken of?
    """

    key: str
    help: str
    metavar: str = ""
    several: bool = True
    choices: tuple[str, ...] = ()
    extracts: bool = False

    def located(self, spec: str, base: Path) -> str:
        """A network as a configuration names it, with a relative path from `base` as an absolute one."""
        return spec

    @abstractmethod
    def default(self, own: Path) -> Default:
        """What is taken where none is named; `own`: the folder of networks made for what the original shows, if any."""

    def name(self, spec: str) -> str:
        """What results call it where it is missing."""
        return self.key

    def title(self, spec: str) -> str:
        """What results say was loaded; nothing of whose disk it lies on."""
        return short_place(spec)

    @abstractmethod
    def load(self, spec: str, shape: Shape, device: str) -> Loaded:
        """Loads it, and lets it see a video of the shape to come, where that is known.

        Raises:
            QuantError: it is not there, or videos of that shape are too small or too short for it.
        """


class _Lpips(NetworkKind):
    def default(self, own: Path) -> Default:
        if (own / "videomae").is_dir():
            return Default((), "not asked for: networks beside the model are made for what it shows, and LPIPS is not")
        return Default(self.choices)

    def name(self, spec: str) -> str:
        return f"lpips_{spec}"

    def title(self, spec: str) -> str:
        return f"LPIPS 0.1 {spec}"

    def load(self, spec: str, shape: Shape, device: str) -> Loaded:
        import torch

        from quant.eval.networks import lpips
        from quant.eval.weights.packages import networks

        network = lpips.load(spec, device)  # type: ignore[arg-type]
        if shape is not None:
            blank = torch.zeros(1, 3, *shape[1:], device=device)
            network(blank, blank)  # refuses frames that are too small
        conventions = {
            "range": "-1..1",
            "resize": "none",
            "frames": "the mean over all",
            "weights_sha256": networks()[f"lpips-{spec}"].tensors_sha256,
        }
        return Loaded(self.name(spec), network, conventions)


class _Extractor(NetworkKind):
    def located(self, spec: str, base: Path) -> str:
        kind, colon, where = spec.partition(":")
        return f"{kind}:{place(where, base)}" if colon else kind

    def default(self, own: Path) -> Default:
        folder = own / "videomae"
        return Default((f"videomae:{folder}",) if folder.is_dir() else ("i3d",))

    def name(self, spec: str) -> str:
        return f"fvd:{spec.partition(':')[0]}"

    def title(self, spec: str) -> str:
        kind, colon, where = spec.partition(":")
        return f"{kind}{colon}{short_place(where)}"

    def load(self, spec: str, shape: Shape, device: str) -> Loaded:
        import numpy as np

        network = extractor(spec, device=device)
        if shape is not None:
            network(np.zeros((*shape, 3), dtype=np.float32))  # refuses videos that are too short or small
        return Loaded(f"fvd:{network.name}", network, network.conventions)


def extractor(spec: str, *, device: Device = "cpu") -> Extractor:
    """The extractor that `spec` names, its network loaded.

    "i3d": StyleGAN-V's convention of the Fréchet video distance. "i3d-google": the first implementation's, which
    resizes as TensorFlow 1 did. "torchscript:FILE", "videomae:FOLDER_OR_HUB_ID", "vjepa:FOLDER_OR_HUB_ID".
    Raises QuantError for another spec and where a network cannot be loaded.
    """
    from quant.eval.networks import i3d, video_transformers
    from quant.eval.networks.torchscript import torchscript

    kind, colon, where = spec.partition(":")
    if spec in i3d.CONVENTIONS:
        return i3d.extractor(spec, device)
    if colon and where:
        if kind == "torchscript":
            return torchscript(where, device)
        if kind in video_transformers.LOADERS:
            return video_transformers.video_transformer(kind, where, device)
    folders = " and ".join(f"{name}:FOLDER_OR_HUB_ID" for name in video_transformers.LOADERS)
    known = f"{', '.join(i3d.CONVENTIONS)}, torchscript:FILE, {folders}"
    raise QuantError(f"there is no feature extractor {spec!r}; there are {known}")


class _Clip(NetworkKind):
    def located(self, spec: str, base: Path) -> str:
        return place(spec, base)

    def default(self, own: Path) -> Default:
        folder = own / "clip"
        if folder.is_dir():
            return Default((str(folder),), required=True)
        return Default((), "no CLIP model was named: give its folder in 'metrics'")

    def load(self, spec: str, shape: Shape, device: str) -> Loaded:
        from quant.eval.networks.clip import load

        network = load(spec, device=device)
        return Loaded("clip", network, network.conventions)


#: In the order in which results have them.
KINDS: tuple[NetworkKind, ...] = (
    _Lpips("lpips", "May be given twice.", choices=("alex", "vgg")),
    _Extractor(
        "fvd",
        "i3d, i3d-google, torchscript:FILE, videomae:DIR or vjepa:DIR (or a hub id); may be given often.",
        metavar="NETWORK",
        extracts=True,
    ),
    _Clip("clip", "A CLIP model, a folder or a hub id.", metavar="DIR", several=False),
)
