"""Train the embedded model further on one GPU, in minutes: first the autoencoder, then the transformer and the text encoder on its latents.

usage: gpu.py MODEL_IN RUN MODEL_OUT VAE_SECONDS DIT_SECONDS

RUN/vae.safetensors is the autoencoder so far, MODEL_OUT a whole model directory as soon as there is one; both are written again and again,
so a run that is cut short loses little. Clips are drawn on the GPU, nothing waits for the CPU, and a step is recorded once as a CUDA graph and
replayed. A stage that fails is run again with its remaining seconds, resumed, step by step and in f32. Without a GPU everything runs on the CPU.

Environment: VAE_BATCH (32 clips of 17 frames), DIT_BATCH (256), CLIPS (60000 latents), SAVE (seconds between saves, 30), STEP_BY_STEP=1.
"""
import json, multiprocessing, os, random, shutil, sys, time
import torch, torch.nn.functional as F
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from diffusers.models.autoencoders import autoencoder_kl_wan as kl
from safetensors.torch import load_file, save_file
from transformers import UMT5Config, UMT5EncoderModel
from clips import ASPECTS, caption, draw, sample_spec, table
from train_dit import DEV, DIT, LATENT_FRAMES, TEXT, TEXT_LEN, block_matrices, load_tokenizer, messy, velocity_loss
from train_vae import CONFIG, Muon, decode, encode, inner_convolutions

CUDA = DEV == "cuda"
LONG = 33  # frames of the clips that continuations are cut from
LONG_LATENTS = (LONG - 1) // 4 + 1
CAPTIONS = 4  # of a clip
WEIGHTS = {"vae": "diffusion_pytorch_model", "transformer": "diffusion_pytorch_model", "text_encoder": "model"}


def setting(name, default): return int(os.environ.get(name, default))


# ---- the same networks in fewer and larger operations
def conv_of_frames(self, x, cache_x=None):
    """WanCausalConv3d as one convolution of single frames: the frames that it reads lie side by side as channels. The same numbers."""
    (kt, kh, kw), before, stride = self.kernel_size, self._padding[4], self.stride[0]
    b, c, t, h, w = x.shape
    y = F.pad(x.permute(0, 2, 3, 4, 1), (0, 0, 0, 0, 0, 0, before, 0))
    n = (t + before - kt) // stride + 1
    if kt > 1: y = torch.cat([y[:, k:k + (n - 1) * stride + 1:stride] for k in range(kt)], -1)
    weight = self.weight.permute(0, 2, 1, 3, 4).reshape(-1, kt * c, kh, kw)
    y = F.conv2d(y.reshape(b * n, h, w, kt * c).permute(0, 3, 1, 2), weight, self.bias, padding=self._padding[0])
    return y.permute(0, 2, 3, 1).reshape(b, n, *y.shape[2:], -1).permute(0, 4, 1, 2, 3)


def norm_in_place_of_normalize(self, x):
    """WanRMS_norm without leaving bf16 for the activations; only the sum of squares is f32. The same numbers otherwise."""
    dim = 1 if self.channel_first else -1
    size = x.float().pow(2).sum(dim, keepdim=True).clamp(min=1e-24)
    return x * (self.scale * size.rsqrt()).to(x.dtype) * self.gamma.to(x.dtype) + self.bias


kl.WanCausalConv3d.forward = conv_of_frames
kl.WanRMS_norm.forward = norm_in_place_of_normalize


def plain_operations(dit):
    """One time per latent frame instead of per token, the patches of one position as a matrix product, and norms that stay in bf16."""
    embed, patch = dit.condition_embedder.forward, dit.patch_embedding

    def times(timestep, text, image=None, timestep_seq_len=None):
        n = timestep_seq_len // LATENT_FRAMES
        temb, proj, text, image = embed(timestep.view(-1, n)[:, 0], text, image, timestep_seq_len=LATENT_FRAMES)
        spread = lambda v: v.unsqueeze(2).expand(-1, -1, n, -1).flatten(1, 2)
        return spread(temb), spread(proj), text, image
    dit.condition_embedder.forward = times
    patch.forward = lambda x: F.linear(x.movedim(1, -1), patch.weight.flatten(1), patch.bias).movedim(-1, 1)
    for norm in dit.modules():
        if isinstance(norm, torch.nn.RMSNorm): norm.forward = lambda x, n=norm: F.rms_norm(x, n.normalized_shape, n.weight.to(x.dtype), n.eps)


def context(text, ids):
    """What train_dit.contexts gives, from token ids; nothing is read back from the GPU."""
    mask = (ids != 0).float()
    return text(input_ids=ids, attention_mask=((1 - mask) * -1e4).view(-1, 1, 1, TEXT_LEN)).last_hidden_state * mask.unsqueeze(-1)


# ---- training
class Trainer:
    """Weights, their average, and steps that are recorded when the GPU can. A loss that is not finite takes the last good weights back."""

    def __init__(self, params, opt, path, seconds, safe, average, decay=0.0):
        self.params, self.opt, self.path, self.seconds, self.average, self.decay = params, opt, path, seconds, average, decay
        self.record = CUDA and not safe and not setting("STEP_BY_STEP", 0)
        self.scale, self.recorded = torch.zeros((), device=DEV), {}
        self.ema, self.step, self.spent, self.rate = [p.detach().clone() for p in params], 0, 0.0, 1.0
        if os.path.exists(path):
            state = torch.load(path, map_location=DEV)
            self.restore(state["weights"]); opt.load(state["opt"])
            self.step, self.spent = state["step"], state["spent"]
        self.good, self.start, self.now = self.weights(), time.time(), 0.0

    def weights(self): return [p.detach().clone() for p in self.params + self.ema]

    @torch.no_grad()
    def restore(self, weights):
        for a, b in zip(self.params + self.ema, weights): a.copy_(b)

    def save(self):
        state = {"weights": [p.detach() for p in self.params + self.ema], "opt": self.opt.state(), "step": self.step, "spent": self.spent + self.now}
        torch.save(state, self.path + ".tmp"); os.replace(self.path + ".tmp", self.path)

    def done(self):
        """The share of the time that is spent."""
        self.now = time.time() - self.start
        return (self.spent + self.now) / (self.spent + self.seconds)

    def update(self, loss):
        """One step down the loss that a function gives."""
        value = loss()
        for p, g in zip(self.params, torch.autograd.grad(value, self.params)): p.grad = g
        torch.nn.utils.clip_grad_norm_(self.opt.adam, 1.0)
        self.opt.step(self.scale, self.decay)
        return value.detach()

    def __call__(self, name, loss, scale):
        """A step of the kind `name`. The first ones are run, recorded, and from then on replayed: the function is not called again."""
        self.scale.fill_(self.rate * scale)
        if self.record and name not in self.recorded:
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(2): self.update(loss)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph): value = self.update(loss)
            self.recorded[name] = graph, value
            print(f"recorded {name} {time.time() - self.start:.1f}s, {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB", flush=True)
        if self.record:
            graph, value = self.recorded[name]
            graph.replay()
        else: value = self.update(loss)
        self.step += 1
        torch._foreach_lerp_(self.ema, [p.detach() for p in self.params], 1 - min(self.average, self.step / (self.step + 9)))
        return value

    def check(self, value):
        """Whether the loss and the weights are numbers; if not, back to the last good weights, with half the rate."""
        if abs(value) < 1e4 and torch.stack(torch._foreach_norm(self.weights())).sum().isfinite().item():
            self.good = self.weights()
            return True
        print(f"step {self.step}: the loss is {value}, back to the last good weights", flush=True)
        self.restore(self.good); self.rate *= 0.5
        with torch.no_grad():
            for b in self.opt.buf + self.opt.first + self.opt.second: b.zero_()
            for b in self.opt.left: b.fill_(1.0)
        return False


def prepare(seed):
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.benchmark_limit = CUDA, 3
    torch.backends.cuda.enable_cudnn_sdp(False)


def save_weights(path, tensors, names):
    """Weights in f16 under the names that a file of before has them by."""
    save_file({k: tensors[k].detach().half().cpu().contiguous() for k in names}, path + ".tmp", metadata={"format": "pt"})
    os.chmod(path + ".tmp", 0o644)
    os.replace(path + ".tmp", path)


def averaged(module, ema):
    """The module's tensors with the averages in place of the parameters."""
    return {**module.state_dict(), **{n: e for (n, _), e in zip(module.named_parameters(), ema)}}


def weights_file(model, part): return f"{model}/{part}/{WEIGHTS[part]}.safetensors"


def load_weights(module, path):
    """f16 weights into an f32 module. The text encoder's table of tokens is there by one of its two names."""
    wrong = module.load_state_dict(load_file(path), strict=False)
    assert not wrong.unexpected_keys and set(wrong.missing_keys) <= {"encoder.embed_tokens.weight"}, wrong
    return module.to(DEV).train()


def load_vae(model_in, run):
    """The autoencoder of the run, if there is one yet, else the one that it starts from."""
    path = run + "/vae.safetensors"
    return load_weights(AutoencoderKLWan(**CONFIG), path if os.path.exists(path) else weights_file(model_in, "vae"))


def vae_kinds(batch):
    """Kinds of batches: name, share, clips, frames, width, height, side of a crop if there is one."""
    kinds = [(f"{w}x{h}", 0.25, batch, 17, w, h, None) for w, h in ASPECTS]
    return kinds + [("33 frames", 0.15, batch // 2, 33, 80, 80, None), ("65 frames", 0.10, batch // 4, 65, 112, 64, 64)]


def vae_loss(vae, specs, rows, clips, frames, width, height, side, bf16):
    """Clips drawn anew: what is wrong after the autoencoder, in colour and in edges, most of all at the shape and its outline. Also the mean square."""
    pick = lambda high: torch.randint(high, (clips, 1, 1, 1), device=DEV)
    row = pick(rows).flatten()
    start = (pick(3) == 0) * pick(30)
    crop = None if side is None else (pick(width - side + 1), pick(height - side + 1), side, side)
    x, shape = draw({k: v[row] for k, v in specs.items()}, frames, width, height, start, crop)
    with torch.autocast(DEV, torch.bfloat16, enabled=bf16, cache_enabled=False):
        z = encode(vae, x).float()
        noise = 0.1 * torch.rand(clips, 1, 1, 1, 1, device=DEV) * torch.randn_like(z)
        d = decode(vae, z + noise).float() - x
    weight = 1 + 2 * shape + 12 * shape * (1 - shape)  # 3 inside, 5 on the outline
    edges = sum((weight.narrow(k, 1, x.shape[k] - 1) * d.diff(dim=k).abs()).mean() for k in (2, 3, 4))
    loss = (weight * d.abs()).mean() + 2 * (weight * d.pow(2)).mean() + 0.5 * edges + 3e-4 * z.pow(2).mean()
    return loss, d.detach().pow(2).mean()


def train_autoencoder(model_in, run, seconds, safe):
    prepare(1)
    vae, rng, batch = load_vae(model_in, run), random.Random(2), setting("VAE_BATCH", 32)
    params = list(vae.parameters())
    trainer = Trainer(params, Muon(params, 0.006, 1e-3, muon_if=inner_convolutions(vae)), run + "/vae.pt", seconds, safe, 0.995)
    specs = [sample_spec(rng, canonical=rng.random() < 0.4, allow_held_out=True) for _ in range(30000)]
    rows, specs = len(specs), table(specs, DEV)
    kinds, square = vae_kinds(batch), {}
    names = list(load_file(weights_file(model_in, "vae")))

    def save():
        save_weights(run + "/vae.safetensors", averaged(vae, trainer.ema), names); trainer.save()

    def loss(name, *kind):
        value, s = vae_loss(vae, specs, rows, *kind, bf16=not safe)
        square.setdefault(name, torch.zeros((), device=DEV)).copy_(s)
        return value

    last = said = time.time()
    while (done := trainer.done()) < 1:
        name, _, *kind = rng.choices(kinds, [k[1] for k in kinds])[0]
        value = trainer(name, lambda: loss(name, *kind), min(1, (trainer.step + 1) / 30) * max(0.005, min(1.0, 1.4 * (1 - done))))
        if trainer.step % 50 == 0 or time.time() - said > 5:
            good = trainer.check(value.item())
            line = " ".join(f"{k} {10 * torch.log10(4 / s).item():.1f}" for k, s in square.items())
            if time.time() - said > 4: print(f"vae {trainer.step} {trainer.now:.0f}s loss {value.item():.4f} dB: {line}", flush=True); said = time.time()
            if good and time.time() - last > setting("SAVE", 30): save(); last = time.time()
    trainer.check(value.item()); save()
    print(f"vae: {trainer.step} steps in {trainer.now:.0f}s", flush=True)


def captions(specs, rng, tokenizer):
    """Token ids of some captions of each clip, [N, CAPTIONS, TEXT_LEN]."""
    texts = [messy(caption(s, "zh" if rng.random() < 0.35 else "en", rng), rng) for s in specs for _ in range(CAPTIONS)]
    ids = tokenizer(texts, padding="max_length", max_length=TEXT_LEN, truncation=True, return_tensors="pt").input_ids
    return ids.view(len(specs), CAPTIONS, TEXT_LEN)


def clips_to_draw(tokenizer, clips, each=200):
    """Portions of clips of one size and length: three fifths 17 frames from the canonical start, the rest longer, from anywhere or not."""
    rng, portions = random.Random(70000), []
    for k in range(max(15, clips // each)):
        long = k // 3 % 5 in (1, 3)
        specs = [sample_spec(rng, canonical=(not long) or rng.random() < 0.35) for _ in range(min(each, max(2, clips // 15)))]
        portions.append((k % 3, long, table(specs), torch.tensor([s["canonical"] for s in specs]), captions(specs, rng, tokenizer)))
    return portions


@torch.no_grad()
def encode_clips(vae, portions, seconds):
    """For each size of clips: latents [N, C, 9, h, w], the last of the 17 frames held still [N, C, h, w], captions, and the rows that are canonical
    and long. Stops after some seconds with what there is; normalised, with the mean and deviation of each channel."""
    start, kept, made = time.time(), [[] for _ in ASPECTS], 0
    for size, long, specs, canonical, ids in portions:
        if made >= 15 and time.time() - start > seconds: break
        width, height = ASPECTS[size]
        x = draw({k: v.to(DEV) for k, v in specs.items()}, LONG if long else 17, width, height)[0]
        z, last = encode(vae, x), encode(vae, x[:, :, 16:17].repeat(1, 1, 5, 1, 1))[:, :, 1]
        z = F.pad(z, (0, 0, 0, 0, 0, LONG_LATENTS - z.shape[2]))
        kept[size].append((z, last, ids.to(DEV), canonical.to(DEV), torch.full((len(ids),), long, device=DEV)))
        made += 1
    out, total, square, count = [], 0, 0, 0
    for rows in kept:
        z, last, ids, canonical, long = (torch.cat(v) for v in zip(*rows))
        group = dict(z=z, last=last, ids=ids, canonical=canonical.nonzero().flatten(), long=long.nonzero().flatten())
        first = z[:, :, :LATENT_FRAMES].double()
        total, square, count = total + first.sum((0, 2, 3, 4)), square + first.pow(2).sum((0, 2, 3, 4)), count + first[:, 0].numel()
        out.append(group)
    mean = (total / count).float(); std = (square / count - (total / count) ** 2).sqrt().float()
    mean, std = (torch.tensor([round(v, 5) for v in t.tolist()], device=DEV) for t in (mean, std))
    for g in out:
        g["z"] = ((g["z"] - mean.view(1, -1, 1, 1, 1)) / std.view(1, -1, 1, 1, 1)).half()
        g["last"] = ((g["last"] - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)).half()
    print(f"latents of {[len(g['z']) for g in out]} clips in {time.time() - start:.1f}s", flush=True)
    return out, mean.tolist(), std.tolist()


def examples(group, batch, empty):
    """Latents, the values of the given latent frames, which they are, and captions: text only 62 %, first image 10 %, first and last 7 %, last 3 %,
    continuation 18 %. What a continuation is given is a little wrong in colour, as what the model made itself is."""
    r, chance = torch.rand(batch, device=DEV), lambda: torch.rand(batch, device=DEV)
    pick = lambda rows: rows[torch.randint(len(rows), (batch,), device=DEV)]
    text, going_on = r < 0.62, r > 0.82
    row = torch.where(text, pick(group["canonical"]), torch.where(going_on, pick(group["long"]), torch.randint(len(group["z"]), (batch,), device=DEV)))
    from_frame = going_on * torch.randint(1, LONG_LATENTS - LATENT_FRAMES + 1, (batch,), device=DEV)
    frame = torch.arange(LATENT_FRAMES, device=DEV)
    x = group["z"][row.view(-1, 1), :, from_frame.view(-1, 1) + frame].float().transpose(1, 2).contiguous()  # [B, C, F, h, w]
    share = chance()  # 1, 2, 2 or 3 frames
    before = torch.where(going_on, 1 + (share > 0.25).long() + (share > 0.75).long(), (~text & (r < 0.79)).long())
    last = (r > 0.72) & (r < 0.82)
    given = ((frame < before.view(-1, 1)) | (last.view(-1, 1) & (frame == LATENT_FRAMES - 1))).float()
    cond = x.clone()
    cond[:, :, -1] = torch.where(last.view(-1, 1, 1, 1), group["last"][row].float(), x[:, :, -1])
    size = lambda: (0.12 * going_on * chance()).view(-1, 1, 1, 1, 1)
    cond = cond + size() * torch.randn_like(x[:, :, :1, :1, :1]) + size() * torch.randn_like(x)
    ids = group["ids"][row, torch.randint(CAPTIONS, (batch,), device=DEV)]
    return x, cond, given, torch.where(chance().view(-1, 1) < 0.1, empty, ids)


def export(model_in, run, model_out, dit, text, ema, mean, std):
    """MODEL_IN with other weights."""
    if not os.path.exists(model_out): shutil.copytree(model_in, model_out)
    count = len(list(dit.parameters()))
    for part, tensors in (("transformer", averaged(dit, ema[:count])), ("text_encoder", averaged(text, ema[count:]))):
        save_weights(weights_file(model_out, part), tensors, list(load_file(weights_file(model_in, part))))
    if os.path.exists(run + "/vae.safetensors"): shutil.copy(run + "/vae.safetensors", weights_file(model_out, "vae"))
    config = json.load(open(model_in + "/vae/config.json"))
    config.update(latents_mean=[round(v, 5) for v in mean], latents_std=[round(v, 5) for v in std])
    with open(model_out + "/vae/config.json", "w") as f: f.write(json.dumps(config, indent=2) + "\n")


def train_transformer(model_in, run, model_out, seconds, safe):
    prepare(3)
    tokenizer = load_tokenizer(model_in + "/tokenizer")
    portions = clips_to_draw(tokenizer, setting("CLIPS", 60000) // (4 if safe else 1))
    dit, text = WanTransformer3DModel(**DIT), UMT5EncoderModel(UMT5Config(**TEXT, attn_implementation="eager"))
    print("captions are ready", flush=True)
    while not os.path.exists(run + "/ready"):
        if not multiprocessing.parent_process().is_alive(): return
        time.sleep(0.1)
    start = time.time()
    load_weights(dit, weights_file(model_in, "transformer")); load_weights(text, weights_file(model_in, "text_encoder"))
    plain_operations(dit)
    empty = tokenizer([""], padding="max_length", max_length=TEXT_LEN, return_tensors="pt").input_ids.to(DEV)
    torch.backends.cudnn.benchmark = False
    groups, mean, std = encode_clips(load_vae(model_in, run).eval(), portions, 0.15 * seconds)
    rng, batch, params = random.Random(4), setting("DIT_BATCH", 256), list(dit.parameters()) + list(text.parameters())
    opt = Muon(params, 0.015, 1e-3, muon_if=block_matrices(dit))
    trainer = Trainer(params, opt, run + "/dit.pt", max(5.0, seconds - (time.time() - start)), safe, 0.999, decay=0.01)

    def loss(group):
        x, cond, given, ids = examples(group, batch, empty)
        with torch.autocast(DEV, torch.bfloat16, enabled=CUDA and not safe, cache_enabled=False):
            c = context(text, ids)
            return velocity_loss(dit, x, cond, given, c, CUDA and not safe)

    def save():
        export(model_in, run, model_out, dit, text, trainer.ema, mean, std); trainer.save()

    last, said, avg = time.time(), 0, None
    while (done := trainer.done()) < 1:
        k = rng.randrange(len(groups))
        value = trainer(ASPECTS[k], lambda: loss(groups[k]), min(1, (trainer.step + 1) / 60) * max(0.005, min(1.0, 1.8 * (1 - done))))
        if trainer.step % 20 == 0 or time.time() - said > 5:
            v = value.item()
            good = trainer.check(v) if trainer.step % 200 == 0 or v != v else v == v
            avg = v if avg is None or avg != avg else 0.9 * avg + 0.1 * v
            if time.time() - said > 5: print(f"dit {trainer.step} {trainer.now:.0f}s loss {avg:.4f}", flush=True); said = time.time()
            if good and time.time() - last > setting("SAVE", 30): save(); last = time.time()
    trainer.check(value.item()); save()
    print(f"dit: {trainer.step} steps in {trainer.now:.0f}s", flush=True)


def main(model_in, run, model_out, vae_seconds, dit_seconds):
    os.makedirs(run, exist_ok=True)
    here, ready, vae_seconds, dit_seconds = multiprocessing.get_context("spawn"), run + "/ready", float(vae_seconds), float(dit_seconds)
    if os.path.exists(ready): os.remove(ready)

    def start(stage, *args):
        process = here.Process(target=stage, args=args)
        process.start()
        return process

    def finish(process, limit):
        process.join(limit)
        if process.exitcode is None: process.kill(); process.join()
        return process.exitcode == 0

    began = time.time()
    vae = start(train_autoencoder, model_in, run, vae_seconds, False)
    dit = start(train_transformer, model_in, run, model_out, dit_seconds, False)  # it draws captions until the autoencoder is ready
    if not finish(vae, vae_seconds + 90) and (left := vae_seconds - (time.time() - began)) > 5:
        finish(start(train_autoencoder, model_in, run, left, True), left + 90)
    began = time.time()
    open(ready, "w").close()
    if not finish(dit, dit_seconds + 90) and (left := dit_seconds - (time.time() - began)) > 5:
        finish(start(train_transformer, model_in, run, model_out, left, True), left + 120)
    print("the model is in", model_out if os.path.exists(model_out) else "nowhere: the transformer was not trained", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
