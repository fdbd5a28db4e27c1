"""Train the small residual Wan VAE (16x space, 4x time) on crops of drawn clips.

usage: train_vae.py OUT SECONDS            resumes from OUT/state.pt; OUT/vae is the averaged model in diffusers' layout
       train_vae.py OUT SECONDS START_VAE  trains the decoder only, from START_VAE: the latents, and so the transformer, stay as they are
"""
import os, random, sys, time
import torch, torch.nn.functional as F
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders import autoencoder_kl_wan as kl
from clips import ASPECTS, render, sample_spec

CONFIG = dict(base_dim=24, decoder_base_dim=40, z_dim=48, dim_mult=[1, 2, 2], num_res_blocks=1, temperal_downsample=[True, True], is_residual=True,
              in_channels=48, out_channels=48, patch_size=4, scale_factor_spatial=16, scale_factor_temporal=4, latents_mean=[0.0] * 48, latents_std=[1.0] * 48)


def whole_clip_resample(self, x, feat_cache=None, feat_idx=[0]):
    """WanResample over a whole clip at once: the same numbers as diffusers' chunk by chunk loop, with larger convolutions."""
    if feat_cache is not None:
        return _resample(self, x, feat_cache, feat_idx)
    b, c, t, h, w = x.shape
    if self.mode == "upsample3d" and t > 1:
        y = self.time_conv(x[:, :, 1:]).reshape(b, 2, c, t - 1, h, w)
        x = torch.cat([x[:, :, :1], torch.stack((y[:, 0], y[:, 1]), 3).reshape(b, c, 2 * (t - 1), h, w)], 2)
        t = x.shape[2]
    y = self.resample(x.permute(0, 2, 1, 3, 4).reshape(b * t, c, h, w))
    x = y.view(b, t, *y.shape[1:]).permute(0, 2, 1, 3, 4)
    if self.mode == "downsample3d" and t > 1:
        x = torch.cat([x[:, :, :1], self.time_conv(x)], 2)
    return x


_resample = kl.WanResample.forward
kl.WanResample.forward = whole_clip_resample


def encode(vae, x):
    """Latent means of whole clips."""
    return vae.quant_conv(vae.encoder(kl.patchify(x, vae.config.patch_size)))[:, :vae.config.z_dim]


def decode(vae, z):
    """Clips, not clamped: AutoencoderKLWan.decode clamps to -1..1, which stops the gradient wherever a colour saturates."""
    return kl.unpatchify(vae.decoder(vae.post_quant_conv(z), first_chunk=True), vae.config.patch_size)


def orthogonalise(x, steps=5):
    """About the nearest semi-orthogonal matrices [..., r, c] (Newton-Schulz, as in Muon), iterated on the small Gram matrices only."""
    if x.shape[-2] > x.shape[-1]: return orthogonalise(x.mT, steps).mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    gram = x @ x.mT
    total = eye = torch.eye(gram.shape[-1], device=x.device)
    for _ in range(steps):
        p = 3.4445 * eye - 4.7750 * gram + 2.0315 * gram @ gram
        total, gram = p @ total, p @ gram @ p
    return total @ x


class Muon:
    """Momentum with orthogonalised updates for every weight of two or more dimensions, Adam for the rest. Weights of one shape are updated
    together. The scale of a step may be a number or a tensor; nothing is read back, so a GPU can record a step and replay it."""

    def __init__(self, params, lr, adam_lr, momentum=0.95, muon_if=lambda p: p.ndim >= 2):
        self.adam, shapes = [p for p in params if not muon_if(p)], {}
        for p in params:
            if muon_if(p): shapes.setdefault(p.shape, []).append(p)
        self.groups, self.lr, self.adam_lr, self.momentum, self.betas = list(shapes.values()), lr, adam_lr, momentum, (0.9, 0.97)
        self.buf = [torch.zeros(len(g), g[0].shape[0], g[0][0].numel(), device=g[0].device) for g in self.groups]
        self.first, self.second = [[torch.zeros_like(p) for p in self.adam] for _ in range(2)]
        self.left = [torch.ones((), device=self.adam[0].device) for _ in range(2)]  # what is left of the zeros that the averages began with

    @torch.no_grad()
    def step(self, scale, decay=0.0):
        grad = lambda p: torch.zeros_like(p) if p.grad is None else p.grad
        (a, b), g = self.betas, [grad(p) for p in self.adam]
        self.left[0] *= a; self.left[1] *= b
        torch._foreach_lerp_(self.first, g, 1 - a)
        torch._foreach_mul_(self.second, b); torch._foreach_addcmul_(self.second, g, g, 1 - b)
        below = torch._foreach_sqrt(self.second); torch._foreach_add_(below, 1e-8)
        update = torch._foreach_div(self.first, below)
        torch._foreach_mul_(update, -self.adam_lr * scale * (1 - self.left[1]).sqrt() / (1 - self.left[0]))
        torch._foreach_add_(self.adam, update)
        for params, m in zip(self.groups, self.buf):
            g = torch.stack([grad(p).reshape(m.shape[1:]) for p in params])
            m.mul_(self.momentum).add_(g)
            u = orthogonalise(g.add(m, alpha=self.momentum)) * (max(1.0, m.shape[1] / m.shape[2]) ** 0.5 * -self.lr * scale)
            if decay:
                for p in params: p.mul_(1 - self.lr * scale * decay)
            for p, d in zip(params, u): p.add_(d.reshape(p.shape))

    def zero_grad(self):
        for p in self.adam + [p for g in self.groups for p in g]: p.grad = None

    def state(self): return self.buf + self.first + self.second + self.left

    @torch.no_grad()
    def load(self, state):
        for a, b in zip(self.state(), state): a.copy_(b)


def inner_convolutions(vae):
    """Which weights of the autoencoder Muon trains."""
    ends = {id(p) for n, p in vae.named_parameters() if "conv_in" in n or "conv_out" in n or "quant" in n or "to_qkv" in n}
    return lambda p: p.ndim >= 2 and id(p) not in ends and p.numel() > 8 * max(p.shape)


def batch(rng, n, frames, side):
    out = []
    for _ in range(n):
        s = sample_spec(rng, canonical=rng.random() < 0.4, allow_held_out=True)
        w, h = rng.choice(ASPECTS)
        x = min(max(round((w - side) * rng.uniform(-0.3, 1.3)), 0), w - side)
        y = min(max(round((h - side) * rng.uniform(-0.3, 1.3)), 0), h - side)
        out.append(render(s, frames, w, h, start=rng.choice([0, 0, rng.randrange(0, 30)]), crop=(x, y, side, side)))
    return torch.stack(out)


def main():
    out, budget = sys.argv[1], float(sys.argv[2])
    lr, base_lr = float(os.environ.get("LR", "0.006")), float(os.environ.get("ADAM_LR", "1e-3"))
    scale_batch = float(os.environ.get("BATCH_SCALE", "1"))
    os.makedirs(out, exist_ok=True)
    dev = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    decoder_only = len(sys.argv) > 3
    vae = (AutoencoderKLWan.from_pretrained(sys.argv[3]) if decoder_only else AutoencoderKLWan(**CONFIG)).to(dev)
    if decoder_only:
        vae.encoder.requires_grad_(False); vae.quant_conv.requires_grad_(False)
    for m in vae.modules():
        if isinstance(m, torch.nn.Conv3d): m.to(memory_format=torch.channels_last_3d)
    params = [p for p in vae.parameters() if p.requires_grad]
    opt = Muon(params, lr, base_lr, muon_if=inner_convolutions(vae))
    ema, step, spent = [p.detach().clone() for p in params], 0, 0.0
    if os.path.exists(out + "/state.pt"):
        st = torch.load(out + "/state.pt", map_location=dev)
        vae.load_state_dict(st["vae"])
        if len(st["opt"]) == len(opt.state()): opt.load(st["opt"])
        ema, step, spent = [e.to(dev) for e in st["ema"]], st["step"], st["spent"]
    rng = random.Random(1000 + step)

    def save():
        torch.save({"vae": vae.state_dict(), "opt": opt.state(), "ema": ema, "step": step, "spent": spent + time.time() - t0}, out + "/state.tmp")
        os.replace(out + "/state.tmp", out + "/state.pt")
        keep = [p.detach().clone() for p in params]
        with torch.no_grad():
            for p, e in zip(params, ema): p.copy_(e)
            vae.save_pretrained(out + "/vae")
            for p, k in zip(params, keep): p.copy_(k)

    t0 = last = time.time(); avg = {}
    while time.time() - t0 < budget:
        done = (spent + time.time() - t0) / (spent + budget)
        frames, n, side = rng.choices([(17, 4, 48), (9, 6, 48), (5, 10, 48), (33, 2, 48), (1, 24, 48), (65, 2, 32)], [54, 16, 10, 12, 4, 4])[0]
        x = batch(rng, max(1, round(n * scale_batch)), frames, side).to(dev).contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast(dev, torch.bfloat16):  # half the time, also on CPUs with AVX512-BF16
            z = encode(vae, x).float()
            d = decode(vae, z + 0.02 * torch.randn_like(z)).float() - x
        far = (x - x.flatten(2).median(2).values[:, :, None, None, None]).abs().amax(1, keepdim=True) > 0.5
        weight = 1 + 2 * far.float()  # the shape counts more than the background
        loss = (weight * d.abs()).mean() + 2 * (weight * d.pow(2)).mean() + 3e-4 * z.pow(2).mean()
        late = 1.0 if decoder_only else max(0.0, min(1.0, (done - 0.45) * 4))  # edges matter once colours are right
        if late:
            loss = loss + late * 0.5 * (d.diff(dim=-1).abs().mean() + d.diff(dim=-2).abs().mean() + (d.diff(dim=2).abs().mean() if frames > 1 else 0))
        opt.zero_grad(); loss.backward(); torch.nn.utils.clip_grad_norm_(opt.adam, 1.0)
        opt.step(min(1, (step + 1) / 30) * max(0.02, min(1.0, 1.4 * (1 - done))))
        decay = min(0.98, (step + 1) / (step + 10))
        with torch.no_grad():
            for e, p in zip(ema, params): e.lerp_(p, 1 - decay)
        mse = d.detach().pow(2).mean().item()
        avg[frames] = mse if frames not in avg else 0.95 * avg[frames] + 0.05 * mse
        if step % 25 == 0:
            line = " ".join(f"{k}f {10 * torch.log10(torch.tensor(4 / v)).item():.2f}" for k, v in sorted(avg.items()))
            print(f"{step} {time.time() - t0:.0f}s loss {loss.item():.4f} psnr {line} z {z.std().item():.3f}", flush=True)
        step += 1
        if time.time() - last > 100: save(); last = time.time()
    save(); print("saved after", step)


if __name__ == "__main__":
    main()
