"""How far a call is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple


class Progress(NamedTuple):
    """How far a call is."""

    stage: Literal["text", "encode", "denoise", "decode", "download"]
    """Prompt to context; pictures and clips to latents; noise to latents; latents to frames; a model to the disk."""

    done: int
    """Steps, frames or bytes of the stage so far."""

    total: int
    """Steps, frames or bytes of the stage; 0 where they are not counted."""

    seconds: float
    """Seconds since the call began."""


def listener(progress: Callable[[Progress], object] | None) -> Callable[[str, int, int, float], object] | None:
    """``progress`` as the native part calls it."""
    if progress is None:
        return None
    if not callable(progress):
        raise TypeError(f"progress takes a function, not {type(progress).__name__}")
    return lambda stage, done, total, seconds: progress(Progress(stage, done, total, seconds))  # type: ignore[arg-type]
