"""Train the small text-to-video transformer with its text encoder on latents of drawn clips.

usage: train_dit.py text   OUT                     tokenizer, and a text encoder that can already tell what a caption says
       train_dit.py encode OUT VAE CLIPS           latents of CLIPS drawn clips (resumes; OUT/latents-*.pt)
       train_dit.py train  OUT SECONDS             resumes from OUT/state.pt
       train_dit.py export OUT VAE MODEL           a model directory in diffusers' layout, weights in f16
"""
import glob, json, os, random, re, sys, time
import torch, torch.nn.functional as F
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel
from clips import ASPECTS, CAM_ZH, CAMERAS, COLORS, FRAMES, MOTION_ZH, MOTIONS, SHAPES, SIZES, caption, render, sample_spec
from train_vae import Muon, encode

TEXT_LEN, VOCAB, LATENT_FRAMES, SHIFT = 32, 256, (FRAMES - 1) // 4 + 1, 3.0
DEV = "cuda" if torch.cuda.is_available() else "cpu"
TEXT = dict(vocab_size=VOCAB, d_model=128, d_kv=32, d_ff=320, num_layers=2, num_heads=4, dropout_rate=0.0, feed_forward_proj="gated-gelu",
            tie_word_embeddings=False, pad_token_id=0, eos_token_id=1)
DIT = dict(patch_size=(1, 1, 1), num_attention_heads=4, attention_head_dim=32, in_channels=48, out_channels=48, text_dim=128, freq_dim=256, ffn_dim=512,
           num_layers=6, cross_attn_norm=True, qk_norm="rms_norm_across_heads", eps=1e-6, rope_max_seq_len=1024)


def make_tokenizer(path):
    """A Unigram tokenizer with UMT5's conventions (<pad> 0, </s> 1, <unk> 2, metaspace), lower-casing. Its pieces are the words of
    the captions, so that every attribute is a token of its own, and single letters for the rest."""
    rng = random.Random(5)
    english = " ".join(caption(sample_spec(rng, allow_held_out=True), "en", rng) for _ in range(20000)).lower()
    words = {"▁" + w: -6.0 for w in re.findall("[a-z]+", english)}
    chinese = [w for v in COLORS.values() for w in v[1]] + [w for v in SHAPES.values() for w in v] + [w for v in MOTION_ZH.values() for w in v if w]
    chinese += [w[2:] for w in CAM_ZH.values()] + "一个 小 大 的 在 上 镜头 条纹 背景 不动".split()
    words.update({w: -6.0 for w in chinese})
    words.update({w: -5.0 for w in ",.。"})
    for c in "abcdefghijklmnopqrstuvwxyz0123456789;:!?'\"-()" + "".join(chinese) + "▁": words.setdefault(c, -11.0)
    t = Tokenizer(models.Unigram([("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)] + sorted(words.items()), unk_id=2))
    t.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    t.pre_tokenizer, t.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    t.add_special_tokens(["<pad>", "</s>", "<unk>"])
    t.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    assert t.get_vocab_size() <= VOCAB
    t.save(path)


def load_tokenizer(out):
    return PreTrainedTokenizerFast(tokenizer_file=out + "/tokenizer.json", pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512)


def contexts(tokenizer, text, prompts):
    """What WanPipeline gives the transformer: masked encoding of TEXT_LEN tokens, the rows past the prompt's length zeroed."""
    t = tokenizer(prompts, padding="max_length", max_length=TEXT_LEN, truncation=True, return_tensors="pt").to(DEV)
    h = text(input_ids=t.input_ids, attention_mask=t.attention_mask).last_hidden_state
    return h * t.attention_mask.unsqueeze(-1)


def messy(text, rng):
    """Letter case does not matter."""
    r = rng.random()
    return text.capitalize() if r < 0.2 else text.upper() if r < 0.23 else text


def cmd_text(out):
    os.makedirs(out, exist_ok=True)
    if not os.path.exists(out + "/tokenizer.json"): make_tokenizer(out + "/tokenizer.json")
    tokenizer = load_tokenizer(out); rng = random.Random(11); torch.manual_seed(1)
    print("vocabulary", len(tokenizer), tokenizer.tokenize("a red ball bounces on a striped blue background"), tokenizer.tokenize("一个小红色球向左移动，蓝色条纹背景，镜头推进"))
    text = UMT5EncoderModel(UMT5Config(**TEXT)).to(DEV)
    with torch.no_grad():  # three heads start by looking at the next, the previous and the one after the next token: whose colour is it?
        for block in text.encoder.block:
            bias = block.layer[0].SelfAttention.relative_attention_bias.weight
            bias[17, 0] += 5.0; bias[1, 1] += 5.0; bias[18, 2] += 5.0
    # heads that read the mean over the context say every attribute of the clip: a gentle start for cross-attention
    fields = dict(color=list(COLORS), bcolor=list(COLORS), shape=list(SHAPES), size=list(SIZES), motion=MOTIONS, cam=[""] + CAMERAS, back=["plain", "striped"])
    heads = torch.nn.ModuleDict({k: torch.nn.Linear(128, len(v)) for k, v in fields.items()}).to(DEV)
    opt = torch.optim.AdamW(list(text.parameters()) + list(heads.parameters()), lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01)

    def batch(n, held):
        specs = [sample_spec(rng, allow_held_out=held) for _ in range(n)]
        return specs, [messy(caption(s, "zh" if rng.random() < 0.35 else "en", rng), rng) for s in specs]

    def run(specs, prompts):
        h = contexts(tokenizer, text, prompts).mean(1) * 3
        known = {k: torch.ones(len(specs), dtype=torch.bool) for k in fields}
        for i, p in enumerate(prompts):
            if not any(b in p.lower() for b in ("back", "stripe", "over", "背景")) and not any(f" on {c}" in p.lower() for c in COLORS): known["bcolor"][i] = known["back"][i] = False
        loss, right = 0, {}
        for k, v in fields.items():
            y = torch.tensor([v.index(s[k]) for s in specs]).to(DEV)[known[k].to(DEV)]
            logits = heads[k](h)[known[k].to(DEV)]
            loss = loss + F.cross_entropy(logits, y); right[k] = (logits.argmax(1) == y).float().mean().item()
        return loss, right

    role = torch.nn.Linear(128, 2).to(DEV)  # and each colour word knows whose colour it is
    opt.add_param_group({"params": role.parameters()})
    word = torch.full((VOCAB,), -1)
    for i, c in enumerate(COLORS):
        for piece in ("▁" + c, *COLORS[c][1]): word[tokenizer.convert_tokens_to_ids(piece)] = i

    def roles(specs, prompts):
        t = tokenizer(prompts, padding="max_length", max_length=TEXT_LEN, truncation=True, return_tensors="pt")
        c = word[t.input_ids]; own = torch.tensor([list(COLORS).index(s["color"]) for s in specs]).view(-1, 1)
        h = contexts(tokenizer, text, prompts)[(c >= 0).to(DEV)]
        return F.cross_entropy(role(h), (c == own)[c >= 0].long().to(DEV))

    steps = int(os.environ.get("TEXT_STEPS", "700")); t0 = time.time()
    for step in range(steps):
        for g in opt.param_groups: g["lr"] = 2e-3 * min(1, (step + 1) / 50) * max(0.02, 1 - step / steps)
        data = batch(48, False)
        loss, right = run(*data); loss = loss + roles(*data)
        opt.zero_grad(); loss.backward(); torch.nn.utils.clip_grad_norm_(text.parameters(), 1.0); opt.step()
        if step % 50 == 0: print(step, f"{time.time() - t0:.0f}s loss {loss.item():.4f}", {k: round(v, 2) for k, v in right.items()}, flush=True)
    with torch.no_grad(): print("held-out included:", {k: round(v, 3) for k, v in run(*batch(400, True))[1].items()})
    text.save_pretrained(out + "/text_start")


@torch.no_grad()
def cmd_encode(out, vae_dir, clips):
    """Streams of 17 frames (canonical) or 33 (for continuation), and the latent of the last of the 17 frames held still."""
    os.makedirs(out, exist_ok=True)
    vae = AutoencoderKLWan.from_pretrained(vae_dir).eval().to(DEV); t0 = time.time()
    n, per = int(clips), 200
    for part in range((n + per - 1) // per):
        path = f"{out}/latents-{part:03d}.pt"
        if os.path.exists(path): continue
        rng, rows = random.Random(70000 + part), []
        for _ in range(per // 10):
            w, h = rng.choice(ASPECTS); r = rng.random()
            long = r < 0.35
            specs = [sample_spec(rng, canonical=(not long) or rng.random() < 0.35) for _ in range(10)]
            x = torch.stack([render(s, 33 if long else 17, w, h) for s in specs]).to(DEV)
            with torch.autocast(DEV, torch.bfloat16):
                z = encode(vae, x).half().cpu(); last = encode(vae, x[:, :, 16:17].repeat(1, 1, 5, 1, 1))[:, :, 1].half().cpu()
            rows += [(s, (w, h), a, b) for s, a, b in zip(specs, z.unbind(), last.unbind())]
        torch.save(rows, path + ".tmp"); os.replace(path + ".tmp", path)
        print("encoded", (part + 1) * per, f"{time.time() - t0:.0f}s", flush=True)


def load_latents(out):
    rows = [r for p in sorted(glob.glob(out + "/latents-*.pt")) for r in torch.load(p, weights_only=False)]
    if not os.path.exists(out + "/stats.json"):
        flat = torch.cat([z.float().flatten(1) for _, _, z, _ in rows[:3000]], 1)
        json.dump({"mean": [round(v, 5) for v in flat.mean(1).tolist()], "std": [round(v, 5) for v in flat.std(1).tolist()]}, open(out + "/stats.json", "w"))
    return rows, json.load(open(out + "/stats.json"))


def unique_times(embedder):
    """Embed each distinct time once instead of once per token: the same numbers, less work."""
    inner = embedder.forward

    def forward(timestep, text, image=None, timestep_seq_len=None):
        if timestep_seq_len is None: return inner(timestep, text, image, timestep_seq_len)
        u, where = torch.unique(timestep, return_inverse=True)
        temb, proj, text, image = inner(u, text, image, timestep_seq_len=None)
        where = where.view(-1, timestep_seq_len)
        return temb[where], proj[where], text, image
    embedder.forward = forward


def velocity_loss(dit, x0, cond, given, context, bf16):
    """The loss of latents x0 [B, C, F, h, w] at random times; the frames of `given` [B, F] are clean and hold the values of cond."""
    u = torch.sigmoid(torch.randn(len(x0), device=x0.device) * 1.2 + 0.6); sigma = SHIFT * u / (1 + (SHIFT - 1) * u)
    s = sigma.view(-1, 1) * (1 - given)  # each latent frame's own sigma: 0 where it is given
    g, sv = given.view(len(x0), 1, -1, 1, 1), s.view(len(x0), 1, -1, 1, 1)
    noise = torch.randn_like(x0)
    xt = g * cond + (1 - g) * ((1 - sv) * x0 + sv * noise)
    ts = (1000 * s).unsqueeze(2).expand(-1, -1, x0.shape[3] * x0.shape[4]).flatten(1)
    with torch.autocast(x0.device.type, torch.bfloat16, enabled=bf16):
        v = dit(hidden_states=xt, timestep=ts, encoder_hidden_states=context, return_dict=False)[0].float()
    moving = (x0 - x0.mean(2, keepdim=True)).pow(2).mean(1, keepdim=True).clamp(max=2)
    w = (1 - g) * (1 + 3 * moving)  # what moves counts more: motion is learned last
    return ((v - (noise - x0)).pow(2) * w).sum() / (w.sum() * x0.shape[1])


def block_matrices(dit):
    """Which weights of the transformer Muon trains."""
    matrices = {id(p) for p in dit.blocks.parameters() if p.ndim == 2}
    return lambda p: id(p) in matrices


def cmd_train(out, budget):
    budget, batch = float(budget), int(os.environ.get("BATCH", "24"))
    torch.manual_seed(3)
    rows, stats = load_latents(out)
    if os.environ.get("NO_CAMERA"): rows = [r for r in rows if not r[0]["cam"]]  # a smaller domain for a short training
    mean, std = (torch.tensor(stats[k]).view(-1, 1, 1, 1) for k in ("mean", "std"))
    rows = [(s, a, ((z.float() - mean) / std).half(), ((l.float() - mean[:, 0]) / std[:, 0]).half()) for s, a, z, l in rows]
    groups = {(w, h): dict(text=[r for r in rows if r[1] == (w, h) and r[0]["canonical"]], any=[r for r in rows if r[1] == (w, h)],
                           long=[r for r in rows if r[1] == (w, h) and r[2].shape[1] > LATENT_FRAMES]) for w, h in ASPECTS}
    print({k: {n: len(x) for n, x in v.items()} for k, v in groups.items()})
    tokenizer = load_tokenizer(out)
    text, dit = UMT5EncoderModel.from_pretrained(out + "/text_start").to(DEV).train(), WanTransformer3DModel(**DIT).to(DEV).train()
    unique_times(dit.condition_embedder)
    print("parameters", sum(p.numel() for p in dit.parameters()) / 1e6, sum(p.numel() for p in text.parameters()) / 1e6)
    params = list(dit.parameters()) + list(text.parameters())
    opt = Muon(params, float(os.environ.get("LR", "0.015")), float(os.environ.get("ADAM_LR", "1e-3")), muon_if=block_matrices(dit))
    ema, step, spent = [p.detach().clone() for p in params], 0, 0.0
    if os.path.exists(out + "/state.pt"):
        st = torch.load(out + "/state.pt", map_location=DEV)
        dit.load_state_dict(st["dit"]); text.load_state_dict(st["text"]); opt.load(st["opt"]); ema, step, spent = [e.to(DEV) for e in st["ema"]], st["step"], st["spent"]
    rng = random.Random(9 + step); torch.manual_seed(9 + step)

    def save():
        torch.save({"dit": dit.state_dict(), "text": text.state_dict(), "opt": opt.state(), "ema": ema, "step": step, "spent": spent + time.time() - t0}, out + "/state.tmp")
        os.replace(out + "/state.tmp", out + "/state.pt")

    def example(group):
        """A clip, the values of the given latent frames, and which they are."""
        r, given = rng.random(), torch.zeros(LATENT_FRAMES)  # text only 70 %, first 10 %, first and last 7 %, last 3 %, continuation 10 %
        if r < 0.70: row, k = rng.choice(group["text"]), 0
        elif r < 0.90: row, k = rng.choice(group["any"]), 0
        else:
            row = rng.choice(group["long"]); k = rng.randint(1, row[2].shape[1] - LATENT_FRAMES)
            given[:rng.choice([1, 2, 2, 3])] = 1
        x = row[2][:, k:k + LATENT_FRAMES].float(); cond = x.clone()
        if 0.70 <= r < 0.87: given[0] = 1
        if 0.80 <= r < 0.90: given[-1] = 1; cond[:, -1] = row[3].float()
        return row[0], x, cond, given

    t0 = last = time.time(); avg = None
    while time.time() - t0 < budget:
        done = (spent + time.time() - t0) / (spent + budget)
        group = groups[rng.choice(ASPECTS)]
        specs, x0, cond, given = zip(*[example(group) for _ in range(batch)])
        x0, cond, given = torch.stack(x0).to(DEV), torch.stack(cond).to(DEV), torch.stack(given).to(DEV)
        prompts = ["" if rng.random() < 0.1 else messy(caption(s, "zh" if rng.random() < 0.35 else "en", rng), rng) for s in specs]
        with torch.autocast(DEV, torch.bfloat16, enabled=DEV == "cuda"): context = contexts(tokenizer, text, prompts)
        loss = velocity_loss(dit, x0, cond, given, context, DEV == "cuda")
        opt.zero_grad(); loss.backward(); torch.nn.utils.clip_grad_norm_(opt.adam, 1.0)
        opt.step(min(1, (step + 1) / 60) * max(0.02, min(1.0, 3.0 * (1 - done))), decay=0.01)
        decay = min(0.995, (step + 1) / (step + 10))
        with torch.no_grad():
            for e, p in zip(ema, params): e.lerp_(p, 1 - decay)
        avg = loss.item() if avg is None else 0.98 * avg + 0.02 * loss.item()
        if step % 25 == 0: print(f"{step} {time.time() - t0:.0f}s loss {avg:.4f}", flush=True)
        step += 1
        if time.time() - last > 240: save(); last = time.time()
    save(); print("saved after", step)


def cmd_export(out, vae_dir, model):
    """The averaged weights, rounded to f16, and everything else a model directory needs."""
    os.makedirs(model, exist_ok=True)
    text, dit = UMT5EncoderModel.from_pretrained(out + "/text_start"), WanTransformer3DModel(**DIT)
    if os.path.exists(out + "/state.pt"):
        ema = torch.load(out + "/state.pt", map_location="cpu")["ema"]
        with torch.no_grad():
            for p, e in zip(list(dit.parameters()) + list(text.parameters()), ema): p.copy_(e)
    vae = AutoencoderKLWan.from_pretrained(vae_dir)
    if os.path.exists(out + "/stats.json"):
        st = json.load(open(out + "/stats.json")); vae.register_to_config(latents_mean=st["mean"], latents_std=st["std"])
    for name, m in (("transformer", dit), ("text_encoder", text), ("vae", vae)):
        m.half().save_pretrained(f"{model}/{name}")
        path = f"{model}/{name}/config.json"; config = json.load(open(path)); config.pop("_name_or_path", None)
        json.dump(config, open(path, "w"), indent=2)
    load_tokenizer(out).save_pretrained(model + "/tokenizer")
    UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=SHIFT).save_pretrained(model + "/scheduler")
    index = {"_class_name": "WanPipeline", "_diffusers_version": "0.42.1", "boundary_ratio": None, "expand_timesteps": False, "scheduler": ["diffusers", "UniPCMultistepScheduler"],
             "text_encoder": ["transformers", "UMT5EncoderModel"], "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
             "transformer": ["diffusers", "WanTransformer3DModel"], "transformer_2": [None, None], "vae": ["diffusers", "AutoencoderKLWan"]}
    json.dump(index, open(model + "/model_index.json", "w"), indent=2)


if __name__ == "__main__":
    {"text": cmd_text, "encode": cmd_encode, "train": cmd_train, "export": cmd_export}[sys.argv[1]](*sys.argv[2:])
