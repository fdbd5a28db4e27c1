"""The nodes of ComfyUI, called as ComfyUI calls them, with stand-ins for the functions of ComfyUI and PyTorch that they use."""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kinora

PACK = Path(__file__).parents[2] / "comfyui"


class Interrupted(Exception):
    pass


class Tensor:
    """What the nodes use of a tensor."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> np.ndarray:
        return self.array


class Comfy:
    """The state behind the stand-ins."""

    def __init__(self, folder: Path) -> None:
        self.bars: list[tuple[float, float]] = []
        self.interrupt_at: int | None = None
        self.loras = folder

    def modules(self) -> dict[str, types.ModuleType]:
        comfy = self

        class ProgressBar:
            def __init__(self, total: float) -> None:
                self.total = total

            def update_absolute(self, value: float, total: float | None = None, preview: Any = None) -> None:
                comfy.bars.append((value, self.total if total is None else total))

        def throw() -> None:
            if self.interrupt_at is not None and len(self.bars) >= self.interrupt_at:
                raise Interrupted

        def full_path(kind: str, name: str) -> str:
            assert kind == "loras"
            return str(self.loras / name)

        def module(name: str, **members: Any) -> types.ModuleType:
            made = types.ModuleType(name)
            vars(made).update(members)
            return made

        utils = module("comfy.utils", ProgressBar=ProgressBar)
        management = module("comfy.model_management", throw_exception_if_processing_interrupted=throw)
        paths = {"get_filename_list": lambda kind: ["style.safetensors"], "get_full_path_or_raise": full_path}
        return {
            "torch": module("torch", from_numpy=Tensor),
            "comfy": module("comfy", utils=utils, model_management=management),
            "comfy.utils": utils,
            "comfy.model_management": management,
            "folder_paths": module("folder_paths", **paths),
        }


@pytest.fixture
def comfy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Comfy:
    comfy = Comfy(tmp_path)
    for name, module in comfy.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("KINORA_CACHE", "")
    return comfy


@pytest.fixture
def nodes(comfy: Comfy) -> dict[str, type]:
    """The pack, loaded as ComfyUI loads one: as a package, by its path."""
    spec = importlib.util.spec_from_file_location("custom_nodes_kinora", PACK / "__init__.py", submodule_search_locations=[str(PACK)])
    assert spec and spec.loader
    pack = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = pack
    try:
        spec.loader.exec_module(pack)
        assert set(pack.NODE_DISPLAY_NAME_MAPPINGS) == set(pack.NODE_CLASS_MAPPINGS)
        yield pack.NODE_CLASS_MAPPINGS
    finally:
        for name in [name for name in sys.modules if name.startswith(spec.name)]:
            del sys.modules[name]


def execute(node: type, **connected: Any) -> tuple:
    """Runs a node with the defaults of its widgets, and checks what ComfyUI relies on."""
    inputs = node.INPUT_TYPES()
    arguments = dict(connected)
    for name, (kind, *more) in inputs["required"].items():
        if name not in arguments:
            assert more and "default" in more[0], f"{name} has no default and is not connected"
            arguments[name] = more[0]["default"]
    assert set(arguments) <= set(inputs["required"]) | set(inputs.get("optional", {}))
    results = getattr(node(), node.FUNCTION)(**arguments)
    assert len(results) == len(node.RETURN_TYPES) == len(node.RETURN_NAMES)
    return results


SMALL = {"width": 64, "height": 64, "frames": 9, "steps": 2}


def test_text_becomes_the_clip_of_the_package(nodes, comfy):
    (pipeline,) = execute(nodes["KinoraLoadModel"])
    images, fps, recipe = execute(nodes["KinoraGenerate"], pipeline=pipeline, prompt="a red ball", seed=7, **SMALL)
    expected = kinora.Pipeline().generate("a red ball", seed=7, **SMALL)
    assert images.array.dtype == np.float32 and images.array.shape == (9, 64, 64, 3)
    assert np.array_equal(images.array, expected.frames.astype(np.float32) / 255)
    assert (fps, json.loads(recipe)) == (8.0, expected.recipe)
    assert (2, 2) in comfy.bars and comfy.bars[-1] == (9, 9)


def test_images_are_conditioning_inputs(nodes):
    (pipeline,) = execute(nodes["KinoraLoadModel"])
    picture = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
    alpha = np.ones((1, 48, 64, 1), np.float32)
    image = Tensor(np.concatenate([picture[None].astype(np.float32) / 255, alpha], 3))
    images, _, recipe = execute(
        nodes["KinoraGenerate"], pipeline=pipeline, prompt="a red ball", seed=7, image=image, last_image=image, **SMALL
    )
    expected = pipeline.generate("a red ball", seed=7, image=picture, last_image=picture, **SMALL)
    assert np.array_equal(images.array, expected.frames.astype(np.float32) / 255)
    given = json.loads(recipe)["given"]
    assert given["image"] == given["last_image"] and given["image"].startswith("memory:sha256:")


def test_videos_get_longer(nodes):
    (pipeline,) = execute(nodes["KinoraLoadModel"])
    images, fps, recipe = execute(nodes["KinoraGenerate"], pipeline=pipeline, prompt="a red ball", seed=7, **SMALL)
    longer, _, own = execute(
        nodes["KinoraExtend"], pipeline=pipeline, images=images, fps=fps, recipe=recipe, seconds=0.5, seed=3
    )
    expected = pipeline.extend(pipeline.generate("a red ball", seed=7, **SMALL), seconds=0.5, seed=3)
    assert np.array_equal(longer.array, expected.frames.astype(np.float32) / 255)
    assert json.loads(own)["steps"] == 2
    other, _, _ = execute(
        nodes["KinoraExtend"], pipeline=pipeline, images=images, fps=fps, prompt="a blue ball", seconds=0.5, seed=3
    )
    assert other.array.shape == longer.array.shape and not np.array_equal(other.array, longer.array)


def test_the_button_interrupts(nodes, comfy):
    (pipeline,) = execute(nodes["KinoraLoadModel"])
    comfy.interrupt_at = 2
    with pytest.raises(Interrupted):
        execute(nodes["KinoraGenerate"], pipeline=pipeline, prompt="a red ball", **SMALL)
    assert len(comfy.bars) == 2


def test_loras_are_chained(nodes, comfy):
    (one,) = execute(nodes["KinoraLora"], lora="style.safetensors", strength=0.5)
    (two,) = execute(nodes["KinoraLora"], lora="fast.safetensors", expert="high", loras=one)
    assert two == (f"{comfy.loras}/style.safetensors:0.5", f"high={comfy.loras}/fast.safetensors:1.0")
    with pytest.raises(kinora.KinoraError, match="style.safetensors"):
        execute(nodes["KinoraLoadModel"], loras=two)
    assert nodes["KinoraLora"].INPUT_TYPES()["required"]["lora"] == (["style.safetensors"],)


def test_models_are_named_in_lines(nodes):
    with pytest.raises(kinora.KinoraError, match="no-such-file"):
        execute(nodes["KinoraLoadModel"], model="embedded\n no-such-file.safetensors \n")
