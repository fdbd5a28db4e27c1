"""Pictures and clips that are given as objects: files in a folder that lives as long as the call."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from . import _kinora
from ._clip import Clip

if TYPE_CHECKING:
    import PIL.Image

    Picture: TypeAlias = str | os.PathLike[str] | npt.NDArray[np.uint8] | npt.NDArray[np.floating[Any]] | PIL.Image.Image
else:  # Pillow need not be there
    Picture = str | os.PathLike[str] | npt.NDArray[np.uint8] | npt.NDArray[np.floating[Any]]
"""A file, an image of Pillow in any mode, or an array [H, W, 3]: uint8, or floats in 0..1."""

PICTURES = ("image", "last_image")
CLIPS = ("clip", "video", "control", "mask")
SEVERAL = "references"

# What goes on from an earlier call finds the same files again.
_CONTINUED = ("resume", "project")

# The modes of Pillow that a PNG has as they are; alpha is then treated as that of a file.
_MODES_OF_PNG = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


class Inputs:
    """The options of a call, with paths in the places of objects."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = dict(options)
        self.names: list[tuple[str, str]] = []
        self._folder = tempfile.TemporaryDirectory(prefix="kinora-")
        try:
            self._replace()
            self._check_continued()
        except BaseException:
            self._folder.cleanup()
            raise

    def __enter__(self) -> Inputs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def _replace(self) -> None:
        for name in PICTURES:
            if self.options.get(name) is not None:
                self.options[name] = self.picture(name, self.options[name])
        for name in CLIPS:
            if self.options.get(name) is not None:
                self.options[name] = self.clip(name, self.options[name])
        references = self.options.get(SEVERAL)
        if references is not None:
            if not isinstance(references, (list, tuple)):
                references = [references]
            numbered = enumerate(references, 1)
            self.options[SEVERAL] = [self.picture(f"{SEVERAL}-{number}", one) for number, one in numbered]

    def _check_continued(self) -> None:
        for name in _CONTINUED:
            if self.options.get(name) is not None and self.names:
                given = self.names[0][1].strip("<>")
                raise ValueError(f"{name} goes on from files, and {given} is none: save it, and give its path")

    def picture(self, name: str, picture: Any) -> str:
        """The path of a picture."""
        if isinstance(picture, (str, os.PathLike)):
            return os.fspath(picture)
        path = self._path(f"{name}.png", f"<{name}>")
        if isinstance(picture, np.ndarray):
            array = _rounded(name, picture)
            height, width, _ = array.shape
            _kinora.write_png(path, array.tobytes(), width, height)
        elif _is_of_pillow(picture):
            plain = picture if picture.mode in _MODES_OF_PNG else picture.convert("RGB")
            plain.save(path, format="PNG")
        else:
            kind = type(picture).__name__
            raise TypeError(f"{name} takes a path, an image of Pillow or an array, not {kind}")
        return path

    def clip(self, name: str, clip: Any) -> str:
        """The path of a clip; a picture is one of a single frame."""
        if isinstance(clip, Clip):
            path = self._path(f"{name}.safetensors", f"<{name}>")
            clip.save(path)
            return path
        if isinstance(clip, np.ndarray) and clip.ndim == 4:
            raise TypeError(f"{name} takes frames with their rate: kinora.Clip(frames, fps)")
        return self.picture(name, clip)

    def _path(self, file: str, name: str) -> str:
        path = str(Path(self._folder.name, file).resolve())
        self.names.append((path, name))
        return path


def _is_of_pillow(picture: Any) -> bool:
    # Who gives one has imported it.
    return any(f"{kind.__module__}.{kind.__name__}" == "PIL.Image.Image" for kind in type(picture).__mro__)


def _rounded(name: str, array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """An array [H, W, 3] in 8 bits."""
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ValueError(f"{name} has the shape {list(array.shape)}; a picture has [H, W, 3]")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise TypeError(f"{name} has the dtype {array.dtype}; a picture has uint8, or floats in 0..1")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"{name} has values from {low:g} to {high:g}; floats are in 0..1")
    return (array.astype(np.float64) * 255 + 0.5).astype(np.uint8)
