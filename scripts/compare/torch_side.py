"""The PyTorch and diffusers side of compare.py: one model with random weights in a process of its own.

    python torch_side.py dit|vae|umt5 '{"dtype": "float32", "size": [256, 256, 17], …}'

Answers every line on stdin, `eager` or `compiled`, with one line of JSON: the seconds of one run and the process's peak
memory so far. Between two lines it only waits.

    python torch_side.py embedded '{"model": DIR, "prompt": TEXT, "seed": N, "out": FILE}'

makes one clip with diffusers' pipeline and ends.
"""

import json
import os
import sys
import time

WAN_1_3B = dict(
    patch_size=(1, 2, 2), num_attention_heads=12, attention_head_dim=128, in_channels=16, out_channels=16,
    text_dim=4096, freq_dim=256, ffn_dim=8960, num_layers=30, cross_attn_norm=True,
    qk_norm="rms_norm_across_heads", eps=1e-6, rope_max_seq_len=1024,
)  # fmt: skip
UMT5_XXL = dict(d_model=4096, d_kv=64, d_ff=10240, num_heads=64, feed_forward_proj="gated-gelu", layer_norm_epsilon=1e-6)
# The table is only looked up: its size costs no time, but memory.
VOCABULARY = 1024


def peak_memory():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def dit(settings, torch):
    from diffusers import WanTransformer3DModel

    width, height, frames = settings["size"]
    dtype = getattr(torch, settings["dtype"])
    model = random_weights(lambda: WanTransformer3DModel(**WAN_1_3B), dtype, torch)
    latents = torch.randn(1, 16, (frames - 1) // 4 + 1, height // 8, width // 8, dtype=dtype)
    context = torch.randn(1, 512, WAN_1_3B["text_dim"], dtype=dtype)
    timestep = torch.tensor([500.0])
    return model, lambda model: model(latents, timestep, context, return_dict=False)[0]


def vae(settings, torch):
    from diffusers import AutoencoderKLWan

    width, height, frames = settings["size"]
    model = random_weights(AutoencoderKLWan, getattr(torch, settings["dtype"]), torch)  # the defaults are Wan 2.1's
    latents = torch.randn(1, 16, (frames - 1) // 4 + 1, height // 8, width // 8)

    def decode(decoder):
        model.decoder = decoder
        return model.decode(latents, return_dict=False)[0]

    return model.decoder, decode


def umt5(settings, torch):
    from transformers import UMT5Config, UMT5EncoderModel

    config = UMT5Config(vocab_size=VOCABULARY, num_layers=settings["layers"], **UMT5_XXL)
    model = random_weights(lambda: UMT5EncoderModel(config), getattr(torch, settings["dtype"]), torch)
    ids = torch.randint(2, VOCABULARY, (1, settings["tokens"]))
    mask = torch.ones_like(ids)
    return model, lambda model: model(ids, mask).last_hidden_state


def random_weights(build, dtype, torch):
    """The module with the weights that its constructor draws, in `dtype`, for inference."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # never both copies in memory
    try:
        return build().to(dtype).eval()
    finally:
        torch.set_default_dtype(default)


def serve(build, settings):
    import torch

    torch.set_num_threads(settings["threads"])
    torch.manual_seed(0)
    models = {}
    with torch.inference_mode():
        models["eager"], run = build(settings, torch)
        for line in sys.stdin:
            mode = line.strip()
            if mode not in models:
                models[mode] = torch.compile(models["eager"])
                run(models[mode])  # compiles
            start = time.perf_counter()
            out = run(models[mode])
            seconds = time.perf_counter() - start
            finite = bool(torch.isfinite(out).all())
            print(json.dumps({"seconds": seconds, "peak_memory": peak_memory(), "finite": finite}), flush=True)


def embedded(settings):
    import numpy
    import torch
    from diffusers import WanPipeline

    torch.set_num_threads(settings["threads"])
    pipeline = WanPipeline.from_pretrained(settings["model"], torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    start = time.perf_counter()
    video = pipeline(
        settings["prompt"],
        negative_prompt="",
        width=settings["width"],
        height=settings["height"],
        num_frames=settings["frames"],
        num_inference_steps=settings["steps"],
        guidance_scale=settings["guidance_scale"],
        max_sequence_length=settings["text_len"],
        generator=torch.Generator().manual_seed(settings["seed"]),
        output_type="np",
    ).frames
    seconds = time.perf_counter() - start
    numpy.save(settings["out"], video)
    print(json.dumps({"pipeline_seconds": seconds}), flush=True)


def main():
    what, settings = sys.argv[1], json.loads(sys.argv[2])
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(settings["threads"])
    if what == "embedded":
        embedded(settings)
    else:
        serve({"dit": dit, "vae": vae, "umt5": umt5}[what], settings)


if __name__ == "__main__":
    main()
