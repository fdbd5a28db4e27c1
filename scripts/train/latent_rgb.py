"""Fit what latents look like: a linear map from the normalised channels of a latent to the mean colour of its pixels.

usage: latent_rgb.py VAE [CLIPS]      prints JSON: bias [3], factors [C][3], for models/latent_rgb.toml
"""
import json, random, sys
import torch
from diffusers import AutoencoderKLWan
from clips import ASPECTS, FRAMES, render, sample_spec


@torch.no_grad()
def main(vae_dir, clips=60):
    vae, rng = AutoencoderKLWan.from_pretrained(vae_dir).eval(), random.Random(3)
    mean, std = (torch.tensor(v).view(1, -1, 1, 1, 1) for v in (vae.config.latents_mean, vae.config.latents_std))
    inputs, colours = [], []
    for _ in range(int(clips)):
        width, height = rng.choice(ASPECTS)
        x = render(sample_spec(rng, allow_held_out=True), FRAMES, width, height)[None]
        z = (vae.encode(x).latent_dist.mode() - mean) / std
        c, f, h, w = z.shape[1:]
        # The first latent frame stands for one frame, the others for four.
        groups = [x[:, :, :1]] + [x[:, :, 1 + 4 * i : 5 + 4 * i] for i in range(f - 1)]
        pixels = torch.cat([g.mean(2, keepdim=True) for g in groups], 2)
        small = torch.nn.functional.adaptive_avg_pool3d(pixels, (f, h, w))
        inputs.append(z[0].reshape(c, -1).T); colours.append(small[0].reshape(3, -1).T)
    a, b = torch.cat(inputs).double(), torch.cat(colours).double()
    a = torch.cat([a, torch.ones(len(a), 1)], 1)
    fit = torch.linalg.lstsq(a, b).solution
    error = (a @ fit - b).pow(2).mean()
    print(f"PSNR on {len(a)} latents: {10 * torch.log10(4 / error):.1f} dB", file=sys.stderr)
    print(json.dumps(dict(bias=fit[-1].tolist(), factors=fit[:-1].tolist())))


if __name__ == "__main__":
    main(*sys.argv[1:])
