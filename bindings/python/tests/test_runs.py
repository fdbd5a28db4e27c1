"""Runs: progress, stops, threads."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL

import kinora


def leftovers() -> set[str]:
    return {name for name in os.listdir(tempfile.gettempdir()) if name.startswith("kinora-")}


def test_progress_tells_every_stage(pipeline, clip):
    seen: list[kinora.Progress] = []
    again = pipeline.generate("a red ball", seed=7, progress=seen.append, **SMALL)
    assert np.array_equal(again.frames, clip.frames)
    stages = list(dict.fromkeys(event.stage for event in seen))
    assert stages == ["text", "denoise", "decode"]
    steps = [event for event in seen if event.stage == "denoise"]
    assert {event.total for event in steps} == {4}
    assert sorted({event.done for event in steps}) == [0, 1, 2, 3, 4]
    assert (seen[-1].done, seen[-1].total) == (9, 9)
    seconds = [event.seconds for event in seen]
    assert seconds == sorted(seconds) and seconds[-1] > 0


def test_false_stops(pipeline):
    before, seen = leftovers(), []

    def stop(event):
        seen.append(event)
        return not (event.stage == "denoise" and event.done == 2)

    with pytest.raises(kinora.Stopped) as stopped:
        pipeline.generate("a red ball", seed=7, progress=stop, **SMALL)
    assert isinstance(stopped.value, kinora.KinoraError) and "resume" in stopped.value.hint
    assert seen[-1] == (seen[-1].stage, 2, 4, seen[-1].seconds), "nothing was told after the stop"
    assert leftovers() == before


def test_stopped_runs_go_on(pipeline, clip, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(kinora.Stopped) as stopped:
        pipeline.generate("a red ball", seed=7, resume=folder, progress=lambda event: event.done < 3, **SMALL)
    assert str(folder) in stopped.value.hint
    seen = []
    again = pipeline.generate("a red ball", seed=7, resume=folder, progress=seen.append, **SMALL)
    assert np.array_equal(again.frames, clip.frames)


def test_exceptions_stop(pipeline):
    class Enough(Exception):
        pass

    calls = []

    def fail(event):
        calls.append(event)
        raise Enough("of it")

    with pytest.raises(Enough, match="of it"):
        pipeline.generate("a red ball", progress=fail, **SMALL)
    assert len(calls) == 1


def test_a_stop_while_decoding_says_where_the_latents_are(pipeline, command, clip, tmp_path):
    def fail(event):
        if event.stage == "decode":
            raise LookupError

    with pytest.raises(LookupError) as stopped:
        pipeline.generate("a red ball", seed=7, progress=fail, **SMALL)
    (note,) = stopped.value.__notes__
    latents = Path(note.split("the denoised latents in `")[1].split("`")[0])
    command("decode", latents, "-o", tmp_path / "clip.webp")
    latents.unlink()
    latents.parent.rmdir()
    assert kinora.read_recipe(tmp_path / "clip.webp")["seed"] == 7


def test_ctrl_c_stops():
    """The signal comes in the middle of a run of several minutes, in a process that does nothing else."""
    script = """
        import kinora, sys

        pipeline = kinora.Pipeline()
        told = (lambda now: None) if sys.argv[1] == "told" else None
        try:
            print("running", flush=True)
            pipeline.generate("a red ball", width=128, height=128, frames=17, steps=900, progress=told)
        except KeyboardInterrupt as interrupt:
            assert pipeline.generate("a red ball", width=64, height=64, frames=5, steps=1).frames.any()
            print("interrupted", flush=True)
    """
    for told in ["told", "untold"]:
        command = [sys.executable, "-c", textwrap.dedent(script), told]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
            assert child.stdout.readline() == "running\n"
            time.sleep(1)  # into the run; a signal that comes before it ends the script in the same way
            child.send_signal(signal.SIGINT)
            out, err = child.communicate()
            assert (child.returncode, out.splitlines()[-1]) == (0, "interrupted"), err


def test_other_threads_run_meanwhile(pipeline):
    """The other thread needs the lock of the interpreter for every turn: held, there would be no turn for the whole run."""
    done, turns = threading.Event(), [time.monotonic()]

    def turn():
        while not done.is_set():
            turns.append(time.monotonic())

    thread = threading.Thread(target=turn)
    thread.start()
    clip = pipeline.generate("a red ball", **{**SMALL, "steps": 32})
    done.set()
    thread.join()
    longest = max(later - earlier for earlier, later in zip(turns, turns[1:]))
    assert longest < clip.seconds["total"] / 2


def test_one_pipeline_serves_several_threads(pipeline, clip):
    clips = {}

    def make(seed):
        clips[seed] = pipeline.generate("a red ball", seed=seed, **SMALL)

    threads = [threading.Thread(target=make, args=(seed,)) for seed in (7, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.array_equal(clips[7].frames, clip.frames)
    assert not np.array_equal(clips[8].frames, clip.frames)


def test_pipelines_stay_warm_and_threads_do_not_matter(clip):
    warm = kinora.Pipeline("embedded", keep_warm=True, threads=1, device="cpu", dtype="f32")
    for _ in range(2):
        assert np.array_equal(warm.generate("a red ball", seed=7, **SMALL).frames, clip.frames)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_forks_are_refused(pipeline):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            pipeline.generate("a red ball", **SMALL)
            said = "made"
        except BaseException as error:
            said = str(error)
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        assert "fork" in pipe.read()


def test_clips_get_longer(pipeline, clip, command, tmp_path):
    seen = []
    longer = pipeline.extend(clip, seconds=0.5, seed=3, progress=seen.append)
    assert len(longer) > len(clip) and np.array_equal(longer.frames[: len(clip) - 8], clip.frames[: len(clip) - 8])
    assert longer.recipe["story"]["after"].startswith("memory:sha256:") and longer.recipe["prompt"] == "a red ball"
    assert longer.recipe["steps"] == 4, "the settings are the clip's"
    assert "decode" in {event.stage for event in seen}

    clip.save(tmp_path / "clip.safetensors")
    command("extend", tmp_path / "clip.safetensors", "--seconds", 0.5, "--seed", 3, "-o", tmp_path / "longer.webp")
    from_file = pipeline.extend(tmp_path / "clip.safetensors", seconds=0.5, seed=3)
    assert np.array_equal(from_file.frames, longer.frames)
    longer.save(tmp_path / "mine.webp", metadata=False)
    from_file.recipe = kinora.read_recipe(tmp_path / "longer.webp")
    from_file.save(tmp_path / "own.webp")
    assert (tmp_path / "own.webp").read_bytes() == (tmp_path / "longer.webp").read_bytes()


def test_stopped_continuations_go_on(pipeline, clip, tmp_path):
    clip.save(tmp_path / "clip.webp")
    whole = pipeline.extend(tmp_path / "clip.webp", "a blue ball", seconds=0.5, times=2, seed=3)
    steps = []

    def stop(event):
        steps.append(event)
        return len([event for event in steps if (event.stage, event.done) == ("denoise", 4)]) < 1

    with pytest.raises(kinora.Stopped) as stopped:
        pipeline.extend(tmp_path / "clip.webp", "a blue ball", seconds=0.5, times=2, seed=3, progress=stop)
    project = Path(stopped.value.hint.split('project="')[1].split('"')[0])
    again = pipeline.extend(tmp_path / "clip.webp", "a blue ball", seconds=0.5, times=2, seed=3, project=project)
    assert np.array_equal(again.frames, whole.frames)
    shutil.rmtree(project)

    before = leftovers()
    with pytest.raises(kinora.Stopped) as stopped:
        pipeline.extend(clip, seconds=0.5, seed=3, progress=lambda event: event.stage != "denoise")
    project = Path(stopped.value.hint.split('project="')[1].split('"')[0])
    again = pipeline.extend(clip, seconds=0.5, seed=3, project=project)
    assert np.array_equal(again.frames, pipeline.extend(clip, seconds=0.5, seed=3).frames)
    shutil.rmtree(project)
    assert leftovers() == before
