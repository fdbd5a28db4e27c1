"""Checked by mypy, not run."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image

import kinora


def told(progress: kinora.Progress) -> bool:
    print(progress.stage, progress.done / max(progress.total, 1), progress.seconds)
    return progress.seconds < 60


pipeline = kinora.Pipeline(Path("model"), loras=["style.safetensors:0.5"], dtype="bf16", quant="auto", keep_warm=True, pace=False)
options: kinora.ClipOptions = {"seed": 7, "steps": 4, "image": PIL.Image.new("RGB", (8, 8))}
clip = pipeline.generate("a red ball", progress=told, **options)
frames: npt.NDArray[np.uint8] = clip.frames
notes: list[str] = clip.save("clip.mp4", quality=20)
longer: kinora.Clip = pipeline.extend(clip, "a blue ball", seconds=2.5, seed="random")
plan: kinora.Plan = pipeline.plan("a red ball", image=np.zeros((8, 8, 3)), video=clip, aspect=1.5)
width, height = plan.size
seed: int | None = clip.seed
first: npt.NDArray[np.uint8] = clip[0]
for frame in clip:
    frame.mean()
names = [model["name"] for model in kinora.models()]
try:
    kinora.read_recipe("clip.mp4")["seed"]
except kinora.KinoraError as error:
    hint: str | None = error.hint
