"""The stable-diffusion.cpp side of compare.py: Wan2.1-1.3B with random weights, through the package stable-diffusion-cpp-python.

    python sdcpp_side.py weights DIR

writes random weights, 2.8 GB.

    python sdcpp_side.py dit '{"weights": DIR, "dtype": "q8_0", "size": [256, 256, 17], "threads": 2}'

makes two denoising steps of one forward each and answers with one line of JSON: the seconds of the second step and the
process's peak memory. There is no text encoder: stable-diffusion.cpp then gives the transformer 256 rows of zeros. Its flash
attention stays off, as it is by default: on a CPU it took 3 to 9 % longer.
"""

import json
import os
import sys
import time
from pathlib import Path

from torch_side import WAN_1_3B, peak_memory

TRANSFORMER, AUTOENCODER = "transformer.safetensors", "autoencoder.safetensors"


def transformer():
    """Names and shapes of the original release."""
    config = WAN_1_3B
    width = config["num_attention_heads"] * config["attention_head_dim"]
    patch = config["patch_size"]
    shapes = {
        "patch_embedding.weight": (width, config["in_channels"], *patch), "patch_embedding.bias": (width,),
        **linear("text_embedding.0", config["text_dim"], width), **linear("text_embedding.2", width, width),
        **linear("time_embedding.0", config["freq_dim"], width), **linear("time_embedding.2", width, width),
        **linear("time_projection.1", width, 6 * width),
        **linear("head.head", width, config["out_channels"] * patch[0] * patch[1] * patch[2]),
        "head.modulation": (1, 2, width),
    }  # fmt: skip
    for number in range(config["num_layers"]):
        block = f"blocks.{number}"
        for attention in ("self_attn", "cross_attn"):
            for name in "qkvo":
                shapes |= linear(f"{block}.{attention}.{name}", width, width)
            shapes |= {f"{block}.{attention}.norm_{name}.weight": (width,) for name in "qk"}
        shapes |= {f"{block}.norm3.weight": (width,), f"{block}.norm3.bias": (width,)}
        shapes |= linear(f"{block}.ffn.0", width, config["ffn_dim"]) | linear(f"{block}.ffn.2", config["ffn_dim"], width)
        shapes[f"{block}.modulation"] = (1, 6, width)
    return shapes


def autoencoder():
    """TAEHV, the smallest that stable-diffusion.cpp loads; nothing is decoded with it."""
    latents, hidden, widths = 16, 64, (256, 128, 64, 64)
    shapes = conv("encoder.0", 3, hidden) | conv("encoder.17", hidden, latents)
    for start, stride in ((2, 2), (7, 2), (12, 1)):
        shapes |= conv(f"encoder.{start}.conv", stride * hidden, hidden, size=1, bias=False)
        shapes |= conv(f"encoder.{start + 1}", hidden, hidden, bias=False)
        for number in range(start + 2, start + 5):
            shapes |= memory_block(f"encoder.{number}", hidden)
    shapes |= conv("decoder.1", latents, widths[0]) | conv("decoder.22", widths[-1], 3)
    for start, stride, width, after in zip((3, 9, 15), (1, 2, 2), widths, widths[1:]):
        for number in range(start, start + 3):
            shapes |= memory_block(f"decoder.{number}", width)
        shapes |= conv(f"decoder.{start + 4}.conv", width, stride * width, size=1, bias=False)
        shapes |= conv(f"decoder.{start + 5}", width, after, bias=False)
    return shapes


def memory_block(name, width):
    shapes = conv(f"{name}.conv.0", 2 * width, width)
    return shapes | conv(f"{name}.conv.2", width, width) | conv(f"{name}.conv.4", width, width)


def conv(name, inputs, outputs, size=3, bias=True):
    shapes = {f"{name}.weight": (outputs, inputs, size, size)}
    return shapes | {f"{name}.bias": (outputs,)} if bias else shapes


def linear(name, inputs, outputs):
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def weights(directory):
    from safetensors.numpy import save_file

    for name, shapes in ((TRANSFORMER, transformer()), (AUTOENCODER, autoencoder())):
        save_file(random_weights(shapes), Path(directory) / name)


def random_weights(shapes):
    """In f16: norms are 1, biases 0, the rest uniform within 1/sqrt(inputs), as PyTorch begins."""
    import numpy

    generator = numpy.random.default_rng(0)
    tensors = {}
    for name, shape in shapes.items():
        if len(shape) == 1:
            tensors[name] = numpy.full(shape, name.endswith(".weight"), numpy.float16)
        else:
            inputs = numpy.prod(shape[1:])
            tensors[name] = ((2 * generator.random(shape, numpy.float32) - 1) / inputs**0.5).astype(numpy.float16)
    return tensors


def dit(settings):
    from stable_diffusion_cpp import StableDiffusion

    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")  # the package's own output goes elsewhere
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    width, height, frames = settings["size"]
    directory = Path(settings["weights"])
    model = StableDiffusion(
        diffusion_model_path=str(directory / TRANSFORMER), taesd_path=str(directory / AUTOENCODER),
        wtype=settings["dtype"], n_threads=settings["threads"],
    )  # fmt: skip
    ends = []

    def progress(step, steps, _):
        ends.append(time.perf_counter())
        if step == steps:
            print(json.dumps({"seconds": ends[-1] - ends[-2], "peak_memory": peak_memory()}), file=answers, flush=True)
            os._exit(0)  # there is no other way to leave out the decoding

    model.generate_video(
        prompt="", width=width, height=height, video_frames=frames, cfg_scale=1.0, sample_method="euler",
        sample_steps=2, progress_callback=progress,
    )  # fmt: skip
    sys.exit("stable-diffusion.cpp made no steps")


def main():
    if sys.argv[1] == "weights":
        weights(sys.argv[2])
    else:
        dit(json.loads(sys.argv[2]))


if __name__ == "__main__":
    main()
