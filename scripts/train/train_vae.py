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
    """About the nearest semi-orthogonal matrix (Newton-Schulz, as in Muon), iterated on the small Gram matrix only."""
    if x.shape[0] > x.shape[1]: return orthogonalise(x.T, steps).T
    x = x / (x.norm() + 1e-7)
    gram = x @ x.T
    total = eye = torch.eye(len(gram), device=x.device)
    for _ in range(steps):
        p = 3.4445 * eye - 4.7750 * gram + 2.0315 * gram @ gram
        total, gram = p @ total, p @ gram @ p
    return total @ x


class Muon:
    """Momentum with orthogonalised updates for every weight of two or more dimensions, AdamW for the rest."""

    def __init__(self, params, lr, adam_lr, momentum=0.95, muon_if=lambda p: p.ndim >= 2):
        self.muon, self.adam = [p for p in params if muon_if(p)], [p for p in params if not muon_if(p)]
        self.lr, self.momentum, self.buf = lr, momentum, [torch.zeros_like(p) for p in self.muon]
        self.other, self.adam_lr = torch.optim.AdamW(self.adam, lr=adam_lr, betas=(0.9, 0.97), weight_decay=0.0), adam_lr

    @torch.no_grad()
    def step(self, scale, decay=0.0):
        for g in self.other.param_groups: g["lr"] = self.adam_lr * scale
        self.other.step()
        for p, m in zip(self.muon, self.buf):
            if p.grad is None: continue
            m.mul_(self.momentum).add_(p.grad)
            g = p.grad.add(m, alpha=self.momentum).reshape(p.shape[0], -1)
            u = orthogonalise(g) * max(1.0, g.shape[0] / g.shape[1]) ** 0.5
            if decay: p.mul_(1 - self.lr * scale * decay)
            p.add_(u.reshape(p.shape), alpha=-self.lr * scale)

    def zero_grad(self):
        for p in self.muon + self.adam: p.grad = None

    def state(self): return {"buf": self.buf, "adam": self.other.state_dict()}

    def load(self, s):
        for a, b in zip(self.buf, s["buf"]): a.copy_(b)
        self.other.load_state_dict(s["adam"])


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
    ends = {id(p) for n, p in vae.named_parameters() if "conv_in" in n or "conv_out" in n or "quant" in n or "to_qkv" in n}
    opt = Muon(params, lr, base_lr, muon_if=lambda p: p.ndim >= 2 and id(p) not in ends and p.numel() > 8 * max(p.shape))
    ema, step, spent = [p.detach().clone() for p in params], 0, 0.0
    if os.path.exists(out + "/state.pt"):
        st = torch.load(out + "/state.pt", map_location=dev)
        vae.load_state_dict(st["vae"])
        if len(st["opt"]["buf"]) == len(opt.buf): opt.load(st["opt"])
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
