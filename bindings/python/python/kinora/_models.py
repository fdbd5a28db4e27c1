"""The known models, and the recipes of clips in files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from . import _kinora
from ._progress import Progress, listener


def models() -> list[dict[str, Any]]:
    """The known models: name, title, licence and its limits, what they take beside a prompt, parameters, defaults, settings of both
    modes, and ``here``, the directory of a downloaded one.

    ``kinora.Pipeline`` takes their names; ``kinora.pull`` downloads them.
    """
    known: list[dict[str, Any]] = json.loads(_kinora.models())
    return known


def pull(
    name: str, progress: Callable[[Progress], object] | None = None, *, accept_licence: bool = False
) -> str:
    """Downloads the known model ``name`` into the cache of the Hugging Face hub, and returns its directory.

    Files that are there are not downloaded again, and incomplete ones are continued. ``progress`` is called with bytes; the download
    stops where it returns False. The licence of a gated model has to be accepted once.
    """
    return os.fspath(_kinora.pull(name, listener(progress), accept_licence))


def read_recipe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The recipe in a clip that Kinora wrote: model, prompt, seed, size and every setting.

    Raises KinoraError for a file without one.
    """
    recipe: dict[str, Any] = json.loads(_kinora.read_recipe(path))
    return recipe
