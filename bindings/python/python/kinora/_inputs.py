"""Pictures and clips that are given as objects."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from . import _kinora
from ._clip import Clip

if TYPE_CHECKING:
    import PIL.Image

    Picture: TypeAlias = str | os.PathLike[str] | bytes | npt.NDArray[np.uint8] | npt.NDArray[np.floating[Any]] | PIL.Image.Image
else:  # Pillow need not be there
    Picture = str | os.PathLike[str] | bytes | npt.NDArray[np.uint8] | npt.NDArray[np.floating[Any]]
"""A file, the bytes of one, an image of Pillow in any mode, or an array [H, W, 3]: uint8, or floats in 0..1."""

PICTURES = ("image", "last_image")
CLIPS = ("clip", "video", "control", "mask")
SEVERAL = "references"

# The modes of Pillow that a PNG has as they are; alpha is then treated as that of a file.
_MODES_OF_PNG = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


def with_sources(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a call, with what the native part reads in the places of objects."""
    options = dict(options)
    for name in PICTURES:
        if options.get(name) is not None:
            options[name] = _picture(name, options[name])
    for name in CLIPS:
        if options.get(name) is not None:
            options[name] = _clip(name, options[name])
    references = options.get(SEVERAL)
    if references is not None:
        if not isinstance(references, (list, tuple)):
            references = [references]
        numbered = enumerate(references, 1)
        options[SEVERAL] = [_picture(f"{SEVERAL}-{number}", one) for number, one in numbered]
    return options


def _picture(name: str, picture: Any) -> Any:
    shown = f"<{name}>"
    if isinstance(picture, (str, os.PathLike)):
        return os.fspath(picture)
    if isinstance(picture, bytes):
        return _kinora.Source.file(shown, picture)
    if isinstance(picture, np.ndarray):
        array = _rounded(name, picture)
        height, width, _ = array.shape
        return _kinora.Source.picture(shown, array.tobytes(), width, height)
    if _is_of_pillow(picture):
        plain = picture if picture.mode in _MODES_OF_PNG else picture.convert("RGB")
        file = io.BytesIO()
        plain.save(file, format="PNG", compress_level=1)
        return _kinora.Source.file(shown, file.getvalue())
    kind = type(picture).__name__
    raise TypeError(f"{name} takes a path, bytes of a file, an image of Pillow or an array, not {kind}")


def _clip(name: str, clip: Any) -> Any:
    """A clip; a picture is one of a single frame."""
    if isinstance(clip, Clip):
        frames = (np.ascontiguousarray(frame).tobytes() for frame in clip.frames)
        recipe = None if clip.recipe is None else json.dumps(clip.recipe)
        return _kinora.Source.clip(f"<{name}>", frames, (clip.width, clip.height), clip.fps, recipe)
    if isinstance(clip, np.ndarray) and clip.ndim == 4:
        raise TypeError(f"{name} takes frames with their rate: kinora.Clip(frames, fps)")
    return _picture(name, clip)


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
