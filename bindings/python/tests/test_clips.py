"""Clips: the bits of the command, files, recipes, notebooks."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from conftest import SMALL

import kinora


def read_raw(path: Path) -> np.ndarray:
    """The tensor `video` [F, 3, H, W] of a safetensors file, as bytes [F, H, W, 3]."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    video = json.loads(data[8 : 8 + length])["video"]
    start, end = video["data_offsets"]
    planar = np.frombuffer(data[8 + length :][start:end], "<f4").reshape(video["shape"])
    return np.moveaxis(np.floor(np.clip(planar, 0, 1) * np.float32(255) + np.float32(0.5)), 1, 3).astype(np.uint8)


def test_frames_are_those_of_the_command(clip, command, tmp_path):
    made = tmp_path / "command.safetensors"
    options = [word for name, value in SMALL.items() for word in (f"--{name}", value)]
    command("generate", "a red ball", "--seed", 7, *options, "-o", made)
    assert clip.frames.shape == (9, 64, 64, 3) and clip.frames.dtype == np.uint8
    assert np.array_equal(clip.frames, read_raw(made))
    assert clip.recipe == kinora.read_recipe(made)

    saved = tmp_path / "saved.safetensors"
    assert clip.save(saved) == []
    assert np.array_equal(read_raw(saved), clip.frames)
    assert saved.stat().st_size == made.stat().st_size


def test_pictures_of_the_command_are_its_frames(clip, command, tmp_path):
    again = tmp_path / "again"
    clip.save(tmp_path / "clip.mp4")
    command("rerun", tmp_path / "clip.mp4", "-o", f"{again}/")
    pictures = sorted(again.glob("*.png"))
    assert len(pictures) == len(clip)
    for frame, picture in zip(clip, pictures):
        assert np.array_equal(frame, np.asarray(PIL.Image.open(picture)))


@pytest.mark.parametrize("name", ["clip.mp4", "clip.gif", "clip.webp", "clip.safetensors", "%02d.png"])
def test_every_format_keeps_the_recipe(clip, tmp_path, name):
    clip.save(tmp_path / name, quality=20 if name.endswith("mp4") else None)
    first = tmp_path / name.replace("%02d", "00")
    if not first.exists():
        first = tmp_path / name.replace("%02d", "01")
    expected = {**clip.recipe, "quality": 20} if name.endswith("mp4") else clip.recipe
    assert kinora.read_recipe(first) == expected
    clip.save(tmp_path / name, metadata=False)
    with pytest.raises(kinora.KinoraError, match="no recipe"):
        kinora.read_recipe(first)


def test_clips_say_what_they_are(clip):
    assert (clip.width, clip.height, len(clip), clip.fps, clip.seed) == (64, 64, 9, 8.0, 7)
    assert clip.duration == 9 / 8
    assert repr(clip) == "<kinora.Clip 64×64, 9 frames at 8 fps, seed 7>"
    assert [frame.shape for frame in clip] == [(64, 64, 3)] * 9
    assert clip[-1].shape == (64, 64, 3) and clip[2:4].shape == (2, 64, 64, 3)
    assert clip.recipe["prompt"] == "a red ball" and clip.recipe["steps"] == 4
    assert set(clip.seconds) == {"text", "denoise", "decode", "total"} and clip.seconds["total"] > 0
    assert clip.predictions["computed"] > 0


def test_notebooks_show_clips(clip):
    shown = clip._repr_html_()
    data = base64.b64decode(shown.split("base64,")[1].split('"')[0])
    picture = PIL.Image.open(io.BytesIO(data))
    assert (picture.format, picture.n_frames) == ("WEBP", 9)
    assert np.array_equal(np.asarray(picture.convert("RGB")), clip[0])
    large = kinora.Clip(np.zeros((100, 300, 300, 3), np.uint8), 16, recipe={"prompt": "<b>", "seed": 3})
    table = large._repr_html_()
    assert table.startswith("<table>") and "300×300" in table and "&lt;b&gt;" in table


def test_clips_of_any_frames_are_saved(tmp_path):
    frames = np.random.default_rng(1).integers(0, 256, (3, 32, 48, 3), np.uint8)
    notes = kinora.Clip(frames[:, ::-1], 23.976).save(tmp_path / "clip.webp")
    assert notes == []
    picture = PIL.Image.open(tmp_path / "clip.webp")
    for index in range(3):
        picture.seek(index)
        assert np.array_equal(np.asarray(picture.convert("RGB")), frames[index, ::-1])
    assert "replaced" in kinora.Clip(frames, 8).save(tmp_path / "clip.webp")[0]
    for bad, error in [(frames[0], ValueError), (frames.astype(float), TypeError), (frames[:0], ValueError)]:
        with pytest.raises(error, match="frames has the"):
            kinora.Clip(bad, 8)
    with pytest.raises(ValueError, match="fps"):
        kinora.Clip(frames, 0)
    with pytest.raises(kinora.KinoraError) as error:
        kinora.Clip(frames, 8).save(tmp_path / "nowhere" / "clip.mp4")
    assert error.value.hint
    with pytest.raises(kinora.KinoraError, match="quality|99"):
        kinora.Clip(frames, 8).save(tmp_path / "clip.mp4", quality=99)


def test_models_and_versions(command):
    known = {model["name"]: model for model in kinora.models()}
    assert known["embedded"]["parameters"]["transformer"] > 0 and "image" in known["embedded"]["takes"]
    assert "wan2.1-t2v-1.3b" in known
    assert kinora.__version__ in command("--version")
    with pytest.raises(kinora.KinoraError) as error:
        kinora.pull("no-such-model")
    assert error.value.hint and error.value.hint in str(error.value)
    with pytest.raises(kinora.KinoraError):
        kinora.read_recipe("nowhere.mp4")
