"""One pipeline for all tests, of the model that ships, and the command to compare with."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import kinora

SMALL = {"width": 64, "height": 64, "frames": 9, "steps": 4}


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["KINORA_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def pipeline(cache: None) -> kinora.Pipeline:
    return kinora.Pipeline()


@pytest.fixture(scope="session")
def clip(pipeline: kinora.Pipeline) -> kinora.Clip:
    return pipeline.generate("a red ball", seed=7, **SMALL)


@pytest.fixture(scope="session")
def command() -> Callable[..., str]:
    """Runs `kinora`, the program that KINORA_COMMAND names."""
    program = os.environ["KINORA_COMMAND"]

    def run(*words: str | Path) -> str:
        done = subprocess.run([program, *map(str, words)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
