"""Clips."""

from __future__ import annotations

import base64
import html
import json
import os
import tempfile
from collections.abc import Iterator
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from . import _kinora

# The most bytes of frames that a notebook shows.
_SHOWN = 16_000_000


class Clip:
    """Frames, and how they were made.

    ``kinora.Pipeline`` makes clips; ``Clip(frames, fps)`` is one of any frames, uint8 ``[F, H, W, 3]`` in RGB. ``len(clip)`` is the
    number of frames, ``clip[0]`` the first, and ``for frame in clip`` gives ``[H, W, 3]`` each.
    """

    frames: npt.NDArray[np.uint8]
    """RGB, uint8 ``[F, H, W, 3]``."""

    fps: float
    """Frames per second."""

    recipe: dict[str, Any] | None
    """Everything that the clip can be made again from: model, prompt, seed, size and every setting."""

    seconds: dict[str, float]
    """Seconds that each stage took: ``text``, ``denoise``, ``decode``; and ``total``."""

    predictions: dict[str, int] | None
    """Predictions of the network: ``computed``, ``reused`` by a step cache, ``skipped``."""

    notices: list[str]
    """Sentences about changed values and other facts worth knowing."""

    def __init__(
        self,
        frames: npt.NDArray[np.uint8],
        fps: float,
        *,
        recipe: dict[str, Any] | None = None,
        seconds: dict[str, float] | None = None,
        predictions: dict[str, int] | None = None,
        notices: list[str] | None = None,
    ) -> None:
        frames = np.asarray(frames)
        if frames.dtype != np.uint8:
            raise TypeError(f"frames has the dtype {frames.dtype}; a clip has uint8")
        if frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
            raise ValueError(f"frames has the shape {list(frames.shape)}; a clip has [F, H, W, 3]")
        if not 0.01 <= fps <= 1000:
            raise ValueError(f"fps is {fps}; a clip has 0.01 to 1000 frames per second")
        self.frames, self.fps, self.recipe = frames, float(fps), recipe
        self.seconds, self.predictions, self.notices = seconds or {}, predictions, notices or []

    @property
    def seed(self) -> int | None:
        """The seed of the noise."""
        return self.recipe["seed"] if self.recipe else None

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.frames.shape[2])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.frames.shape[1])

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self) / self.fps

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        metadata: bool = True,
        quality: int | None = None,
        encoder: str | None = None,
    ) -> list[str]:
        """Writes the clip; the name says the format: ``.mp4``, ``.gif``, ``.webp`` (lossless), ``.safetensors`` (raw frames), or a
        pattern such as ``frames/%04d.png``. A file that is there is replaced, when the new one is complete.

        :param metadata: store the recipe in the file; ``kinora rerun`` makes the clip again from it.
        :param quality: constant quality of the video encoder, 0 (best) to 51.
        :param encoder: video encoder by its FFmpeg name, in builds with FFmpeg.
        :returns: notes about the file, such as that a size was rounded.
        :raises KinoraError: the file cannot be written.
        """
        recipe = json.dumps(self.recipe) if metadata and self.recipe is not None else None
        frames = (np.ascontiguousarray(frame).tobytes() for frame in self.frames)
        return _kinora.write_clip(path, frames, (self.width, self.height), self.fps, recipe, quality, encoder)

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[npt.NDArray[np.uint8]]:
        return iter(self.frames)

    @overload
    def __getitem__(self, index: int) -> npt.NDArray[np.uint8]: ...
    @overload
    def __getitem__(self, index: slice) -> npt.NDArray[np.uint8]: ...
    def __getitem__(self, index: int | slice) -> npt.NDArray[np.uint8]:
        return self.frames[index]

    def __repr__(self) -> str:
        seed = f", seed {self.seed}" if self.recipe else ""
        return f"<kinora.Clip {self.width}×{self.height}, {len(self)} frames at {self.fps:g} fps{seed}>"

    def _repr_html_(self) -> str:
        """The clip itself in a notebook, or a table where it is too large."""
        prompt = html.escape(self.recipe["prompt"]) if self.recipe else ""
        if self.frames.nbytes <= _SHOWN:
            data = base64.b64encode(self._webp()).decode()
            return f'<img src="data:image/webp;base64,{data}" alt="{prompt}" width="{self.width}" height="{self.height}">'
        rows = [("size", f"{self.width}×{self.height}"), ("frames", f"{len(self)} at {self.fps:g} fps")]
        if self.recipe:
            rows += [("prompt", prompt), ("seed", str(self.seed))]
        cells = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows)
        return f"<table>{cells}</table>"

    def _webp(self) -> bytes:
        with tempfile.TemporaryDirectory(prefix="kinora-") as folder:
            path = os.path.join(folder, "clip.webp")
            self.save(path, metadata=False)
            with open(path, "rb") as file:
                return file.read()
