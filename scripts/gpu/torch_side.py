"""What PyTorch and diffusers reach on a GPU, with random weights of the real shapes; table.py sets Kinora beside it.

    python torch_side.py --out torch.json ceilings step:wan2.1-1.3b step:wan2.2-5b vae:wan2.1-1.3b vae:wan2.2-5b:33

A task is `ceilings`, `step:MODEL` or `vae:MODEL`; `:FRAMES` behind it takes another length of clip. See README.md.
"""

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import time
import traceback
from importlib.metadata import version
from math import prod
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

WAN = dict(
    patch_size=(1, 2, 2), attention_head_dim=128, text_dim=4096, freq_dim=256, num_layers=30, cross_attn_norm=True,
    qk_norm="rms_norm_across_heads", eps=1e-6, rope_max_seq_len=1024,
)  # fmt: skip
VAE_2_2 = dict(
    base_dim=160, decoder_base_dim=256, z_dim=48, is_residual=True, in_channels=12, out_channels=12, patch_size=2,
    scale_factor_spatial=16, scale_factor_temporal=4,
)  # fmt: skip
# `per_token`: WanPipeline with `expand_timesteps` gives every token a timestep of its own, from text too.
MODELS = {
    "wan2.1-1.3b": dict(
        dit=dict(WAN, num_attention_heads=12, in_channels=16, out_channels=16, ffn_dim=8960),
        vae=dict(),  # diffusers' defaults are Wan 2.1's
        size=(832, 480, 81), factor=8, per_token=False,
    ),
    "wan2.2-5b": dict(
        dit=dict(WAN, num_attention_heads=24, in_channels=48, out_channels=48, ffn_dim=14336),
        vae=VAE_2_2,
        size=(1280, 704, 121), factor=16, per_token=True,
    ),
}  # fmt: skip
TEXT_TOKENS = 512
STEPS = ["attention", "eager", "eager-cudnn", "compiled", "compiled-cudnn"]
MORE_STEPS = [f"{how}{attention}{time}" for how in ("eager", "compiled", "regional") for attention in ("", "-cudnn")
              for time in ("", "-t1")]  # fmt: skip
DECODES = {"bf16": torch.bfloat16, "f32": torch.float32}


class Report:
    """What was measured so far; on disk after every measurement."""

    def __init__(self, path, device):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        old = json.loads(path.read_text()) if path.exists() else {}
        self.data = {"machine": machine(device), "ceilings": {}, "rows": [], **old}
        if self.data["machine"] != machine(device):
            raise SystemExit(f"{path} is of another machine: {self.data['machine']}")

    def row(self, part, work, model, flops):
        for row in self.data["rows"]:
            if (row["part"], row["work"], row["model"]) == (part, work, model):
                return row["sides"]
        row = {"part": part, "work": work, "model": model, "flops": flops, "sides": {}}
        self.data["rows"].append(row)
        return row["sides"]

    def measure(self, place, name, run):
        """Keeps what `run` returns, or why it failed, as `place[name]`."""
        say(f"  {name} …")
        start = time.perf_counter()
        try:
            place[name] = run()
        except Exception as error:  # the other measurements go on
            last = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__}: {error}"
            place[name] = {"error": what[:2000], "where": f"{last.filename}:{last.lineno}"}
        place[name]["took"] = time.perf_counter() - start  # with building, compiling and warming up
        say(f"    {json.dumps(place[name])}")
        scratch = self.path.with_suffix(".part")
        scratch.write_text(json.dumps(self.data, indent=1) + "\n")
        os.replace(scratch, self.path)
        torch._dynamo.reset()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def ceilings(report, device, tiny):
    """What this GPU's matrix units and memory reach at most: big products of random numbers, and a copy."""
    size, repeats = (256, 3) if tiny else (8192, 40)
    a, b = torch.randn(2, size, size, device=device)

    def product(run):
        times = timed(run, device, repeats, 5)
        return {"tops": 2 * size**3 / times["seconds"] / 1e12, **times}

    def bf16():
        x, y = a.bfloat16(), b.bfloat16()
        return product(lambda: x @ y)

    def tf32():
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = True
        try:
            return product(lambda: a @ b)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before

    def fp8():
        x, y = a.to(torch.float8_e4m3fn), b.to(torch.float8_e4m3fn).t()  # the second by columns, as cuBLASLt wants it
        one = torch.ones((), device=device)
        scaled = dict(scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=device.type == "cuda")
        return product(lambda: torch._scaled_mm(x, y, **scaled))

    def int8():
        x, y = (20 * a).to(torch.int8), (20 * b).to(torch.int8).t()
        return product(lambda: torch._int_mm(x, y))

    def copy():
        source = torch.randn(2**20 if tiny else 2**30, device=device)
        target = torch.empty_like(source)
        times = timed(lambda: target.copy_(source), device, repeats, 5)
        return {"gb_per_second": 2 * source.nbytes / times["seconds"] / 1e9, **times}  # read and written

    for run in (bf16, fp8, int8, tf32, copy):
        report.measure(report.data["ceilings"], run.__name__, run)


def step(report, device, name, model, size, repeats, only):
    """One forward of the transformer, without guidance, in bf16."""
    from diffusers import WanTransformer3DModel

    config, shape = model["dit"], latent_shape(model, size)
    patch = config["patch_size"]
    tokens = prod(n // p for n, p in zip(shape[2:], patch))
    heads, dim = config["num_attention_heads"], config["num_attention_heads"] * config["attention_head_dim"]
    bf16 = dict(device=device, dtype=torch.bfloat16)
    # What every step must do: not the text's keys and values, which stay the same, nor one timestep's projection.
    linear = config["num_layers"] * dim * (6 * dim + 2 * config["ffn_dim"])
    linear += (config["in_channels"] + config["out_channels"]) * prod(patch) * dim
    flops = 2 * linear * tokens + 4 * tokens * (tokens + TEXT_TOKENS) * dim * config["num_layers"]
    sides = report.row("dit", f"a step without guidance, {tokens} tokens", name, flops)

    def attention():
        q, k, v = torch.randn(3, 1, heads, tokens, config["attention_head_dim"], **bf16)
        backends = {int(backend): backend for backend in SDPBackend.__members__.values()}
        found = {"picked": backends[torch._fused_sdp_choice(q, k, v)].name, "tflops": {}}
        for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION):
            try:
                with sdpa_kernel(backend):
                    times = timed(lambda: F.scaled_dot_product_attention(q, k, v), device, repeats, 2)
                found["tflops"][backend.name] = 4 * tokens**2 * dim / times["seconds"] / 1e12
            except RuntimeError as error:
                found["tflops"][backend.name] = f"error: {error}"[:500]
        return found

    def forward(mode):
        how, *flags = mode.split("-")
        module = random_weights(lambda: WanTransformer3DModel(**config), torch.bfloat16, device)
        # Said always: diffusers keeps the last one said for every model of the process.
        module.set_attention_backend("_native_cudnn" if "cudnn" in flags else "native")
        call = torch.compile(module) if how == "compiled" else module
        if how == "regional":
            module.compile_repeated_blocks()
        latents, context = torch.randn(shape, **bf16), torch.randn(1, TEXT_TOKENS, config["text_dim"], **bf16)
        per_token = model["per_token"] and "t1" not in flags
        timestep = torch.full((1, tokens) if per_token else (1,), 500.0, device=device)
        run = lambda: call(latents, timestep, context, return_dict=False)[0]  # noqa: E731
        reset_peak(device)
        start = time.perf_counter()
        finite = bool(torch.isfinite(run()).all())
        first = time.perf_counter() - start
        times = timed(run, device, repeats, 1)
        compiling = {} if how == "eager" else {"compile_seconds": first - times["seconds"]}
        return {**times, **compiling, **peak(device), "finite": finite}

    for mode in only or STEPS:
        if mode == "attention":
            report.measure(sides, mode, attention)
        elif mode in MORE_STEPS and (model["per_token"] or not mode.endswith("-t1")):
            report.measure(sides, mode, lambda: forward(mode))


def vae(report, device, name, model, size, repeats, only):
    """Decoding of a clip's latents; in f32 with TF32 where PyTorch takes it by itself, which is in convolutions."""
    from diffusers import AutoencoderKLWan

    shape = latent_shape(model, size)
    width, height, frames = size
    with torch.device("meta"):
        module, flops = AutoencoderKLWan(**model["vae"]), []
        for chunk in (1, 2):  # all frames of latents but the first are as much work as the second
            with FlopCounterMode(display=False) as counter:
                module.decode(torch.empty(*shape[:2], chunk, *shape[3:]), return_dict=False)
            flops.append(counter.get_total_flops())
    flops = flops[0] + (shape[2] - 1) * (flops[1] - flops[0])
    sides = report.row("vae", f"decoding {frames} frames of {width}×{height}", name, flops)

    def decode(dtype):
        module = random_weights(lambda: AutoencoderKLWan(**model["vae"]), dtype, device)
        latents = torch.randn(shape, device=device, dtype=dtype)
        run = lambda frames=shape[2]: module.decode(latents[:, :, :frames], return_dict=False)[0]  # noqa: E731
        finite = bool(torch.isfinite(run(3)).all())  # warms up: every shape that there is comes in three frames
        reset_peak(device)
        times = timed(run, device, repeats, 0)
        return {**times, **peak(device), "finite": finite}

    for dtype in only or DECODES:
        if dtype in DECODES:
            report.measure(sides, dtype, lambda: decode(DECODES[dtype]))


def latent_shape(model, size):
    width, height, frames = size
    factor = model["factor"]
    return 1, model["dit"]["in_channels"], (frames - 1) // 4 + 1, height // factor, width // factor


def random_weights(build, dtype, device):
    """The module with the weights that its constructor draws, in `dtype` but for what diffusers keeps in f32."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            module = build().eval()
    finally:
        torch.set_default_dtype(default)
    kept = set(module._keep_in_fp32_modules or [])
    for name, parameter in module.named_parameters():
        if kept & set(name.split(".")):
            parameter.data = parameter.data.float()
    return module


def timed(run, device, repeats, warm_up):
    for _ in range(warm_up):
        run()
    seconds = []
    for _ in range(repeats):
        if device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            end.record()
            end.synchronize()
            seconds.append(start.elapsed_time(end) / 1e3)
        else:
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
    return {"seconds": statistics.median(seconds), "fastest": min(seconds), "slowest": max(seconds), "runs": repeats}


def reset_peak(device):
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()


def peak(device):
    """Bytes: what tensors took, weights included, and what PyTorch took from the driver for them."""
    if device.type != "cuda":
        return {}
    return {"peak_memory": torch.cuda.max_memory_allocated(), "peak_reserved": torch.cuda.max_memory_reserved()}


def machine(device):
    found = {"gpu": "none", "python": platform.python_version()}
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        found |= {"gpu": card.name, "memory": card.total_memory, "cuda": torch.version.cuda,
                  "cudnn": torch.backends.cudnn.version()}  # fmt: skip
    return found | {name: version(name) for name in ("torch", "diffusers")}


def shrunk(model):
    """The same layers, small: tries the script out."""
    dit = {**model["dit"], "num_attention_heads": 2, "ffn_dim": 64, "num_layers": 2, "text_dim": 32}
    dims = {key: 8 for key in model["vae"] if key.endswith("base_dim")} or {"base_dim": 8}
    size = (64, 64, 1 + model["factor"])  # not the same for both: table.py tells works apart by their sizes
    return {**model, "dit": dit, "vae": {**model["vae"], **dims}, "size": size}


def parse(text, tiny):
    what, name, frames, *rest = [*text.split(":"), None, None]
    bad = what not in ("ceilings", "step", "vae") or (what == "ceilings") != (name is None) or any(rest)
    if bad or (name is not None and name not in MODELS):
        raise SystemExit(f"`{text}` is no task: ceilings, step:MODEL or vae:MODEL, with one of {', '.join(MODELS)}")
    if name is None:
        return what, None, None, None
    model = shrunk(MODELS[name]) if tiny else MODELS[name]
    return what, name, model, (*model["size"][:2], int(frames or model["size"][2]))


def say(text):
    print(text, file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="+", metavar="TASK", help="ceilings, step:MODEL[:FRAMES] or vae:MODEL[:FRAMES]")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file; what is in it already stays")
    names = f"of a step {', '.join(STEPS)}, also regional… and …-t1; of decoding {', '.join(DECODES)}"
    parser.add_argument("--only", type=lambda text: text.split(","), default=[], metavar="NAME,…", help=names)
    parser.add_argument("--repeats", type=int, default=5, help="timed forwards and attentions")
    parser.add_argument("--vae-repeats", type=int, default=1, help="timed decodings")
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    parser.add_argument("--tiny", action="store_true", help="toy sizes, to try the script out")
    options = parser.parse_args()
    if unknown := set(options.only) - {*STEPS, *MORE_STEPS, *DECODES}:
        parser.error(f"--only does not know {', '.join(sorted(unknown))}")
    tasks = [(text, *parse(text, options.tiny)) for text in options.tasks]
    torch.manual_seed(0)
    report, device = Report(options.out, options.device), options.device
    with torch.no_grad():
        for text, what, name, model, size in tasks:
            say(text)
            if what == "ceilings":
                ceilings(report, device, options.tiny)
            elif what == "step":
                step(report, device, name, model, size, options.repeats, options.only)
            else:
                vae(report, device, name, model, size, options.vae_repeats, options.only)


if __name__ == "__main__":
    main()
