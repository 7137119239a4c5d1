"""Pictures, videos and tensors of a row of inputs: where they lie, and how they are read when their turn comes.

Nothing is read before: a table of a thousand videos takes no more memory than one of them.
"""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from quant.errors import CalibrationError
from quant.files.places import is_file, is_folder
from quant.files.videos import content_of, decoded
from quant.pipelines.arguments import IMAGE, TENSOR, Argument
from quant.text import cut, first_line, shown

#: Frames of a folder that stands for a video.
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_MASK = "mask"
#: Width, height.
Size = tuple[int, int]


@dataclass(frozen=True)
class Media:
    """A file that a row names, or the bytes that a data set holds.

    Attributes:
        name: as the table has it.
        place: a path, or an address of a data set on a hub; None of bytes alone.
        data: the bytes; None where they lie at `place`.
    """

    name: str
    place: str | None = None
    data: bytes | None = None

    @property
    def folder(self) -> Path | None:
        """A folder of frames that it is; None of anything else."""
        path = None if self.place is None or is_address(self.place) else Path(self.place)
        return path if path is not None and is_folder(path) else None

    def parts(self) -> list[Media]:
        """The pictures of a folder by name; of anything else, itself."""
        if self.folder is None:
            return [self]
        found = sorted(path for path in self.folder.iterdir() if path.suffix.lower() in _PICTURES)
        return [Media(f"{self.name}/{path.name}", str(path)) for path in found]

    def content(self) -> bytes:
        """Its bytes. Raises CalibrationError where they cannot be read."""
        if self.data is not None:
            return self.data
        assert self.place is not None
        try:
            return content_of(self.place)
        except Exception as error:  # of many kinds, by the protocol of an address
            raise CalibrationError(f"{cut(self.name, 300)}: cannot be read: {cut(first_line(error), 300)}") from None

    def check(self) -> None:
        """Raises CalibrationError where nothing lies at its place; an address is not asked."""
        if self.data is not None or (self.place is not None and is_address(self.place)):
            return
        if self.folder is not None:
            if not self.parts():
                raise CalibrationError(f"{cut(str(self.place), 300)}: a folder without pictures")
        elif not is_file(Path(str(self.place))):
            raise CalibrationError(f"{cut(str(self.place), 300)}: no such file")

    def plain(self) -> dict[str, str]:
        """Its name and the SHA-256 of its content, of all that it consists of."""
        hashes = "".join(hashlib.sha256(part.content()).hexdigest() for part in self.parts())
        return {
            "file": self.name,
            "sha256": hashes if len(hashes) == 64 else hashlib.sha256(hashes.encode()).hexdigest(),
        }


def is_address(place: str) -> bool:
    """Is it a file of a data set on a hub, or of the web? What else looks like an address is a path."""
    return place.startswith(("hf://", "https://"))


def located(value: object, base: Path | None) -> Any:
    """A cell of a table in which every path, or {"path", "bytes"}, is `Media`; what is in memory already stays.

    Args:
        value: the cell, or a list of such.
        base: where relative paths start; None for a data set on a hub.
    """
    if isinstance(value, str):
        return Media(value, value if base is None or is_address(value) else str(base / value))
    if isinstance(value, Mapping) and {"path", "bytes"} & set(value):
        path, data = value.get("path"), value.get("bytes")
        if data is not None:
            return Media(str(path or "bytes"), None, bytes(data))
        return located(str(path), base)
    return [located(each, base) for each in value] if isinstance(value, list | tuple) else value


def files_in(value: object) -> Iterator[Media]:
    """All media of a cell, at any depth."""
    if isinstance(value, Media):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from files_in(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from files_in(each)


def opened(value: Any, argument: Argument, size: Size | None, frames: int | None) -> Any:
    """What a pipeline's argument gets: PIL pictures, lists of them for a video, or tensors.

    Args:
        value: `Media`, a list of them, or what a caller has in memory, which is passed as it is.
        argument: what it is for.
        size: to which pictures and frames are resized; None leaves them.
        frames: how many frames of a video are read; None for all.

    Raises:
        CalibrationError: a file that cannot be read as what the argument takes.
    """
    if not any(True for _ in files_in(value)):
        return value
    if argument.kind == TENSOR:
        return _tensors(value, argument)
    if argument.kind == IMAGE:
        found = [_picture(part, size) for each in _listed(value) for part in each.parts()]
        several = isinstance(value, list) or len(found) > 1 or argument.name.endswith("s")
        return _batch(found, argument) if argument.batched else found if several else found[0]
    clip = list(itertools.islice(_clip(_listed(value), size), frames))
    return _batch(clip, argument) if argument.batched else clip


def plain(value: object) -> Any:
    """A cell as JSON holds it: files by name and hash, what is in memory by hash alone."""
    if isinstance(value, Media):
        return value.plain()
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, torch.Tensor):
        return {"tensor": list(value.shape), "sha256": _sha256(value.detach().cpu().contiguous().float().numpy())}
    kind = type(value).__name__
    content = value.tobytes() if hasattr(value, "tobytes") else repr(value).encode()
    return {kind: list(getattr(value, "size", ())) if kind == "Image" else kind, "sha256": _sha256(content)}


def _sha256(data: Any) -> str:
    return hashlib.sha256(data).hexdigest()


def _listed(value: Any) -> list[Media]:
    return list(files_in(value))


def _picture(media: Media, size: Size | None) -> Any:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(media.content())) as file:
            found = file.convert("RGB")
    except CalibrationError:
        raise
    except Exception as error:  # PIL raises what its readers raise, of many kinds
        raise CalibrationError(f"{cut(media.name, 300)}: is no picture that PIL reads: {first_line(error)}") from None
    return _resized(found, size)


def _clip(files: Sequence[Media], size: Size | None) -> Iterator[Any]:
    """The frames of videos, pictures and folders of pictures, one after the other."""
    from PIL import Image

    for media in files:
        if media.folder is not None:
            yield from (_picture(part, size) for part in media.parts())
            continue
        begun = False
        for frame in decoded(media.content(), name=cut(media.name, 300), error=CalibrationError):
            begun = True
            yield _resized(Image.fromarray(frame), size)
        if not begun:
            raise CalibrationError(f"{cut(media.name, 300)}: holds no frames")


def _resized(picture: Any, size: Size | None) -> Any:
    from PIL import Image

    return picture if size is None or picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)


def _batch(pictures: Sequence[Any], argument: Argument) -> torch.Tensor:
    """[1, C, F, H, W]: colours in 0..1; of a mask one channel that is 0 or 255, as masks are in files."""
    import numpy as np

    mask = _MASK in argument.name.split("_")
    stack = torch.from_numpy(np.stack([np.asarray(each.convert("L" if mask else "RGB")) for each in pictures]))
    if mask:
        return (stack >= 128)[None, None].float() * 255
    return stack.permute(3, 0, 1, 2)[None].float() / 255


def _tensors(value: Any, argument: Argument) -> Any:
    """The tensor of a .safetensors file, or a list of all by name where it holds several."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    found = []
    for media in _listed(value):
        try:
            body = load(media.content())
        except (SafetensorError, ValueError) as error:
            raise CalibrationError(
                f"{cut(media.name, 300)}: '{argument.name}' is a tensor, read from .safetensors: {shown(str(error))}"
            ) from None
        found += [body[name] for name in sorted(body)]
    arrays = not any(issubclass(each, torch.Tensor) for each in argument.types)
    values = [each.numpy() if arrays else each for each in found]
    return values[0] if len(values) == 1 else values
