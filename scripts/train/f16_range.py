"""Brings what an autoencoder's encoder computes into the range of f16, in which it runs on GPUs: `python f16_range.py models/embedded/vae`.

Every norm divides by the length of what it gets, so the residual stream may have any scale. Training lets it grow from stage to stage; here it
is multiplied by a power of two, of which the latents see only the roundings of a few small weights.
"""
import random, sys
import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import load_file, save_file
import clips

MOST = 8192  # an eighth of the largest number of f16


def encode(vae, videos):
    """The latents, and the largest number of any layer."""
    largest = 0.0

    def look(_, __, out):
        nonlocal largest
        largest = max(largest, (out[0] if isinstance(out, (tuple, list)) else out).abs().max().item())

    hooks = [module.register_forward_hook(look) for module in vae.encoder.modules()]
    latents = torch.cat([vae.encode(video[None]).latent_dist.mean for video in videos])
    for hook in hooks:
        hook.remove()
    return latents, largest


def scaled(weights, factor):
    """What adds to the residual stream, and what is added to it where it goes through a layer."""
    out = dict(weights)
    for name, tensor in weights.items():
        layer, kind = name.rsplit(".", 1)
        adds = layer == "encoder.conv_in" or layer.endswith((".conv2", "attentions.0.proj"))
        through = kind == "bias" and (layer.endswith("conv_shortcut") or "downsampler" in layer)
        if layer.startswith("encoder.") and (adds or through):
            out[name] = (tensor.float() * factor).to(tensor.dtype)
    return out


@torch.no_grad()
def main(folder):
    rng, path = random.Random(3), folder + "/diffusion_pytorch_model.safetensors"
    vae = AutoencoderKLWan.from_pretrained(folder, torch_dtype=torch.float32).eval()
    videos = [clips.render(clips.sample_spec(rng, canonical=i % 2 == 0), clips.FRAMES, 112, 64) for i in range(24)]
    latents, largest = encode(vae, videos)
    shift = 0
    while largest / 2**shift > MOST:
        shift += 1
    weights = scaled(load_file(path), 0.5**shift)
    vae.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    again, now = encode(vae, videos)
    print(f"largest {largest:.0f} -> {now:.0f}, latents changed by {((again - latents).norm() / latents.norm()).item():.1e}")
    save_file(weights, path, metadata={"format": "pt"})


main(sys.argv[1])
