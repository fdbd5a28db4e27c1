"""Arguments: pictures as objects, wrong ones, and that none is ignored."""

from __future__ import annotations

import hashlib
import inspect
import io
import subprocess
import sys
import typing
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from conftest import SMALL

import kinora


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> PIL.Image.Image:
    pixels = np.zeros((48, 80, 3), np.uint8)
    pixels[:, :, 2] = np.linspace(40, 200, 80)
    pixels[10:30, 20:50] = (250, 30, 20)
    return PIL.Image.fromarray(pixels)


@pytest.fixture(scope="module")
def expected(pipeline, picture, tmp_path_factory) -> np.ndarray:
    path = tmp_path_factory.mktemp("pictures") / "picture.png"
    picture.save(path)
    made = pipeline.generate("a red ball", seed=7, image=path, **SMALL)
    assert made.recipe["given"]["image"] == str(path)
    return made.frames


@pytest.mark.parametrize("how", ["bytes", "pillow", "uint8", "float32", "float64", "strided"])
def test_pictures_are_given_as_objects(pipeline, picture, expected, how):
    pixels = np.asarray(picture)
    file = io.BytesIO()
    picture.save(file, "BMP")
    forms = {
        "bytes": file.getvalue(),
        "pillow": picture,
        "uint8": pixels,
        "float32": pixels.astype(np.float32) / 255,
        "float64": pixels / 255,
        "strided": np.ascontiguousarray(pixels[::-1])[::-1],
    }
    made = pipeline.generate("a red ball", seed=7, image=forms[how], **SMALL)
    assert np.array_equal(made.frames, expected)
    named = made.recipe["given"]["image"]
    assert named.startswith("memory:sha256:")
    if how == "bytes":
        assert named == "memory:sha256:" + hashlib.sha256(file.getvalue()).hexdigest()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "HSV", "I;16", "F"])
def test_every_mode_of_pillow_is_a_picture(pipeline, picture, tmp_path, mode):
    image = picture.convert("L").convert(mode) if mode in ("I;16", "F") else picture.convert(mode)
    path = tmp_path / "picture.png"
    (image if mode in ("1", "L", "LA", "P", "RGBA", "I;16") else image.convert("RGB")).save(path)
    small = {**SMALL, "steps": 1, "frames": 5}
    from_file = pipeline.generate("a red ball", seed=7, image=path, **small)
    assert np.array_equal(pipeline.generate("a red ball", seed=7, image=image, **small).frames, from_file.frames)


def test_clips_are_given_as_objects(pipeline, clip, tmp_path):
    clip.save(tmp_path / "clip.webp")
    from_file = pipeline.generate("a blue ball", seed=1, video=tmp_path / "clip.webp", strength=0.5, **SMALL)
    made = pipeline.generate("a blue ball", seed=1, video=clip, strength=0.5, **SMALL)
    assert np.array_equal(made.frames, from_file.frames) and not np.array_equal(made.frames, clip.frames)
    assert made.recipe["given"]["video"].startswith("memory:sha256:")


def test_damaged_bytes_are_named(pipeline):
    with pytest.raises(kinora.KinoraError, match="`<image>` is not a picture"):
        pipeline.plan("a red ball", image=b"no picture at all")


def test_a_recipe_says_what_is_missing(pipeline, clip, picture, command, tmp_path):
    made = pipeline.generate("a red ball", seed=7, image=picture, **SMALL)
    made.save(tmp_path / "made.webp")
    with pytest.raises(AssertionError, match="memory:sha256:[0-9a-f]{64}. was a picture or a clip in memory"):
        command("rerun", tmp_path / "made.webp", "-o", tmp_path / "again.webp")


def test_runs_with_objects_go_on(pipeline, picture, tmp_path):
    whole = pipeline.generate("a red ball", seed=7, image=picture, **SMALL)

    def at_three(event):
        return (event.stage, event.done) != ("denoise", 3)

    with pytest.raises(kinora.Stopped):
        pipeline.generate("a red ball", seed=7, image=picture, resume=tmp_path / "run", progress=at_three, **SMALL)
    with pytest.raises(kinora.KinoraError, match="another request"):
        other = picture.rotate(90)
        pipeline.generate("a red ball", seed=7, image=other, resume=tmp_path / "run", **SMALL)
    again = pipeline.generate("a red ball", seed=7, image=picture, resume=tmp_path / "run", **SMALL)
    assert np.array_equal(again.frames, whole.frames)


WRONG_PICTURES = [
    (np.zeros((4, 4), np.uint8), ValueError),
    (np.zeros((4, 4, 4), np.uint8), ValueError),
    (np.zeros((0, 4, 3), np.uint8), ValueError),
    (np.full((4, 4, 3), 2.0), ValueError),
    (np.full((4, 4, 3), np.nan), ValueError),
    (np.zeros((4, 4, 3), np.int32), TypeError),
    (17, TypeError),
]


@pytest.mark.parametrize("picture, error", WRONG_PICTURES)
def test_what_is_no_picture_is_refused(pipeline, picture, error):
    for name in ("image", "last_image"):
        with pytest.raises(error, match=name):
            pipeline.generate("a red ball", **{name: picture}, **SMALL)


WRONG = [
    ({"steps": "4"}, TypeError, "steps"),
    ({"steps": 4.0}, TypeError, "steps"),
    ({"steps": True}, TypeError, "steps"),
    ({"steps": -1}, ValueError, "steps"),
    ({"width": "wide"}, TypeError, "width"),
    ({"width": 2**70}, ValueError, "width"),
    ({"guidance_scale": "much"}, TypeError, "guidance_scale"),
    ({"guidance_scale": float("nan")}, ValueError, "guidance_scale"),
    ({"guidance_interval": [0.1, 0.2, 0.3]}, (TypeError, ValueError), "guidance_interval"),
    ({"cfg_zero_star": 1}, TypeError, "cfg_zero_star"),
    ({"sigmas": 3}, TypeError, "sigmas"),
    ({"sampler": "slow"}, ValueError, "sampler"),
    ({"cache": "disk"}, ValueError, "cache"),
    ({"attention": "none"}, ValueError, "attention"),
    ({"mode": "best"}, ValueError, "mode"),
    ({"aspect": "wide"}, ValueError, "aspect"),
    ({"resolution": "8k"}, ValueError, "resolution"),
    ({"seed": -3}, ValueError, "seed"),
    ({"seed": 1.5}, ValueError, "seed"),
    ({"seed": True}, TypeError, "seed"),
    ({"fit": "shrink"}, ValueError, "fit"),
    ({"camera": "spin"}, ValueError, "camera"),
    ({"camera_preset": 3}, ValueError, "camera_preset"),
    ({"camera_in_prompt": "yes"}, TypeError, "camera_in_prompt"),
    ({"upscale": "3x"}, ValueError, "upscale"),
    ({"upscale": "2x", "upscaler": "spam"}, ValueError, "upscaler"),
    ({"image": 3}, TypeError, "image"),
    ({"video": np.zeros((2, 4, 4, 3), np.uint8)}, TypeError, "video"),
    ({"resume": 3}, TypeError, "resume"),
    ({"negative_prompt": 3}, TypeError, "negative_prompt"),
    ({"stepz": 4}, TypeError, "stepz; did you mean steps"),
    ({"frames": 9, "duration": 1.0}, ValueError, "frames and duration"),
    ({"camera": "pan=1", "camera_preset": "forward-up"}, ValueError, "camera and camera_preset"),
    ({"steps": 4, "sigmas": [1.0, 0.5]}, ValueError, "exclude"),
    ({"steps": 0}, kinora.KinoraError, "0"),
    ({"image": "nowhere.png"}, kinora.KinoraError, "nowhere.png"),
    ({"preset": "slow"}, kinora.KinoraError, "slow"),
]


@pytest.mark.parametrize("options, error, words", WRONG)
def test_wrong_arguments_are_named(pipeline, options, error, words):
    with pytest.raises(error, match=words):
        pipeline.plan("a red ball", **options)


def test_other_wrong_arguments(pipeline, clip, tmp_path):
    with pytest.raises(TypeError, match="prompt"):
        pipeline.generate(7)
    with pytest.raises(kinora.KinoraError, match="prompt is empty"):
        pipeline.generate("")
    with pytest.raises(TypeError, match="progress"):
        pipeline.generate("a red ball", progress=3)
    with pytest.raises(TypeError, match="clip"):
        pipeline.extend(3)
    for bad in [{"seconds": 0}, {"seconds": -1.0}]:
        with pytest.raises(kinora.KinoraError, match="seconds|second"):
            pipeline.extend(clip, **bad)
    with pytest.raises(ValueError, match="times"):
        pipeline.extend(clip, times=0)
    with pytest.raises(TypeError, match="width"):
        pipeline.extend(clip, width=64)
    with pytest.raises(kinora.KinoraError, match="recorded prompt"):
        pipeline.extend(kinora.Clip(clip.frames, 16))
    for options, words in [({"dtype": "f8"}, "dtype"), ({"quant": "q4"}, "quant"), ({"gpu_memory": -1}, "gpu_memory")]:
        with pytest.raises(ValueError, match=words):
            kinora.Pipeline(**options)
    for options, words in [({"threads": "2"}, "threads"), ({"model": 3}, "model"), ({"keep_warm": "no"}, "keep_warm")]:
        with pytest.raises(TypeError, match=words):
            kinora.Pipeline(**options)
    with pytest.raises(kinora.KinoraError) as error:
        kinora.Pipeline("no-such-model")
    assert "no-such-model" in str(error.value) and error.value.hint
    with pytest.raises(kinora.KinoraError):
        kinora.Pipeline(loras=["nowhere.safetensors:0.5"])


def test_hints_speak_of_arguments(pipeline):
    with pytest.raises(kinora.KinoraError) as error:
        pipeline.plan("a red ball", strength=0.5)
    assert "--" not in str(error.value) and "video" in error.value.hint


# A value of each argument that changes the plan or the recipe of a clip, or needs a file.
GIVEN = {
    "aspect": "1:1", "resolution": "480p", "width": 64, "height": 64, "frames": 9, "duration": 1.0, "fps": 12, "fit": "pad",
    "camera": "pan=5", "camera_preset": "forward-up", "camera_in_prompt": True, "mode": "fast", "steps": 3, "sampler": "euler",
    "shift": 4.0, "sigmas": [1.0, 0.5], "timesteps": (900.0, 500.0), "guidance_scale": np.float32(3),
    "cfg_zero_star": True, "zero_init": 1, "guidance_interval": (0.2, 0.9), "cache": "easycache:0.1", "attention": "sparse:0.5",
    "seed": 2**64 - 1, "negative_prompt": "blue", "tile": 8, "upscale": "2x",
}  # fmt: skip
# Scales of models that guide estimates and make sound.
ESTIMATES = ["stg_scale", "modality_scale", "guidance_rescale"]
ESTIMATES += ["audio_guidance_scale", "audio_stg_scale", "audio_modality_scale", "audio_guidance_rescale"]
FILES = ["image", "last_image", "video", "control", "mask", "references", "camera_path", "init_latents"]


def test_every_argument_arrives(pipeline, tmp_path):
    names = set(inspect.signature(pipeline.generate).parameters)
    own = {"strength", "expand", "control_scale", "save_latents", "resume", "preset", "guidance_scale_2", "upscaler"}
    assert names == {"prompt", "progress", *GIVEN, *FILES, *own, *ESTIMATES}
    assert names == set(inspect.signature(pipeline.plan).parameters) | {"progress"}
    assert set(typing.get_type_hints(kinora.Progress)) == set(kinora.Progress._fields)
    for name, value in GIVEN.items():
        assert pipeline.plan("a red ball", **{name: value}).steps > 0
        assert pipeline.plan("a red ball", **{name: None}).steps > 0
    for name in ESTIMATES:
        with pytest.raises(kinora.KinoraError, match=name):
            pipeline.plan("a red ball", **{name: 1.0})
    for name, value in {"guidance_scale_2": 2.0, "expand": "0.5", "control_scale": 2, "preset": "slow"}.items():
        with pytest.raises(kinora.KinoraError, match=name.replace("_", ".") + "|slow"):
            pipeline.plan("a red ball", **{name: value})
    for name in FILES:
        with pytest.raises(kinora.KinoraError):
            pipeline.generate("a red ball", **{name: str(tmp_path / "nowhere")}, **SMALL)
    recipe = pipeline.generate(
        "a red ball", width=64, height=64, frames=5, steps=np.int64(2), fps=12, sampler="euler", shift=4, seed=2**64 - 1,
        guidance_scale=3, cfg_zero_star=False, zero_init=1, guidance_interval=(0.2, 0.9), cache="easycache:0.1",
        negative_prompt="blue", upscale="2x", upscaler="span", camera="pan=5", save_latents=tmp_path / "latents.safetensors",
    ).recipe  # fmt: skip
    expected = {
        "width": 64, "frames": 5, "steps": 2, "fps": 12.0, "sampler": "euler", "shift": 4.0, "seed": 2**64 - 1,
        "guidance_scale": 3.0, "zero_init": 1, "guidance_interval": [0.2, 0.9], "cache": "easycache:0.1",
        "negative_prompt": "blue", "upscale": "2x", "upscaler": "span",
    }  # fmt: skip
    assert {name: recipe.get(name) for name in expected} == expected
    assert recipe["given"]["camera"] and (tmp_path / "latents.safetensors").is_file()


def test_plans_say_what_will_be(pipeline, clip):
    plan = pipeline.plan("a red ball", seed=7, width=64, height=64, frames=10, steps=4)
    assert (plan.size, plan.frames, plan.fps, plan.steps, plan.seed) == ((64, 64), 9, 8.0, 4, 7)
    assert plan.memory["peak"] > plan.memory["denoise"]["weights"] > 0
    assert plan.time["seconds"] > 0, "a clip was made, so it is known"
    assert any("10" in notice for notice in plan.notices)
    assert pipeline.plan("a red ball").seed != pipeline.plan("a red ball", seed="random").seed
    assert pipeline.model["name"] == "embedded" and repr(pipeline) == "<kinora.Pipeline embedded>"


def test_the_types_hold():
    """Of a script that uses everything, by mypy, with the package's own types."""
    mypy = pytest.importorskip("mypy.api")
    folder = Path(__file__).parent
    said, failed, status = mypy.run(["--strict", "--config-file=", "--no-incremental", str(folder / "typed.py")])
    assert status == 0, said + failed
    said, failed, status = mypy.run(["--strict", "--config-file=", "--no-incremental", str(folder / "mistyped.py")])
    stubs = subprocess.run([sys.executable, "-m", "mypy.stubtest", "kinora"], capture_output=True, text=True)
    assert stubs.returncode == 0, stubs.stdout
    lines = Path(folder / "mistyped.py").read_text().splitlines()
    wrong = [number for number, line in enumerate(lines, 1) if "# wrong" in line]
    found = sorted({int(line.split(":")[1]) for line in said.splitlines() if ": error:" in line})
    assert status == 1 and found == wrong, said
