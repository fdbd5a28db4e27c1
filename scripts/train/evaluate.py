"""Measure the embedded model on a fixed list of held-out prompts, by plain arithmetic on the frames.

usage: evaluate.py write  PROMPTS.toml [camera]                 write the list (deterministic), with camera moves or without
       evaluate.py truth  PROMPTS.toml                          score the drawn clips themselves (a check of the rules)
       evaluate.py vae    PROMPTS.toml MODEL                    score the drawn clips after the autoencoder, PSNR, frame 20 against frame 200
       evaluate.py model  PROMPTS.toml MODEL [steps shift guidance [SHEET.png]]
       evaluate.py given  PROMPTS.toml MODEL                    the same with clean latents given: the first image, first and last, the last, two latent
                                                                frames of the clip before; and how near the given frames stay

The rules (colours are RGB in 0..1, distances Euclidean, frames t = 0..16; W, H the frame's size):
1. Background: per-channel median of the outer ring, 3 pixels wide, of all frames. Among the eight colours and, for each, its darker shade
   (what `clips.shade` gives), the nearest one must be the asked colour's.
2. Colour: object pixels are those further than 0.30 from both the asked background colour and its shade (for a plain background: from the
   colour alone). Their per-channel median over all frames must be nearest to the asked colour among the eight, and their number, as a
   mean over frames, between 1 % and 30 % of the frame.
3. Mask of a frame: pixels nearer to the asked colour than to the background colour (and its shade, if striped). Its area A and its centroid
   (x, y), in fractions of W and H. A frame with fewer than 8 such pixels makes position and motion wrong.
4. Shape: fill = A / (width x height of the mask's box); the box spans the columns and rows that hold at least an eighth as many mask pixels as the
   fullest. Median over the frames: below 0.72 triangle, up to 0.90 ball, above square.
5. Position: the first frame's centroid within 0.15 of the asked start in x and in y.
6. Motion, with dx = x(16) - x(0), dy alike, and the extents ex, ey = max - min over the frames:
   left: dx < -0.15 and |dy| < |dx| / 2; right, up (dy < -0.15), down alike; still: ex, ey < 0.10;
   bounces: y(8) - y(0) > 0.15, y(8) - y(16) > 0.15, ex < 0.12; circles: ex W and ey H both above 0.25 min(W, H);
   the camera pans left: as moves right (what is still goes the other way), and so on for the four ways;
   zooms in: A(16) > 1.6 A(0), zooms out: A(16) < A(0) / 1.6, both with ex, ey < 0.20.
A prompt passes when background, colour and motion are right.
"""
import random, sys, time, tomllib
import torch
from clips import ASPECTS, CAMERAS, COLORS, FRAMES, MOTIONS, SHAPES, caption, held_out, render, sample_spec, shade

STEPS, SHIFT, GUIDANCE, TEXT_LEN = 16, 3.0, 3.0, 32
START = {"moves left": (.66, .5), "moves right": (.34, .5), "moves up": (.5, .66), "moves down": (.5, .34), "bounces": (.5, .30), "stays still": (.5, .5),
         "pans left": (.34, .5), "pans right": (.66, .5), "tilts up": (.5, .34), "tilts down": (.5, .66), "zooms in": (.5, .5), "zooms out": (.5, .5)}
OPPOSITE = {"pans left": "moves right", "pans right": "moves left", "tilts up": "moves down", "tilts down": "moves up"}


def write(path, camera=False):
    rng, out, kinds = random.Random(2024), [], MOTIONS + (CAMERAS if camera else [])
    colors, backs, shapes = [], [], []
    for i in range(52):
        kind = kinds[i % len(kinds)]
        w, h = ASPECTS[(i // len(kinds) + i) % 3]
        best = None
        for _ in range(400):  # a held-out combination, every colour about equally often
            s = sample_spec(rng, allow_held_out=True)
            s["motion"], s["cam"] = (kind, "") if kind in MOTIONS else ("stays still", kind)
            cost = colors.count(s["color"]) + backs.count(s["bcolor"]) + shapes.count(s["shape"]) / 2
            if held_out(s) and (best is None or cost < best[0]): best = (cost, s)
        s = best[1]
        shapes.append(s["shape"])
        colors.append(s["color"]); backs.append(s["bcolor"])
        lang = "zh" if i % 3 == 2 else "en"
        x, y = START.get(kind, (.5, .5 - .22 * min(w, h) / h))
        text = caption(s, lang, rng, plain=i % 4 != 3)
        while "background" not in text and "背景" not in text: text = caption(s, lang, rng)
        out.append(f'''[[prompt]]
text = "{text}"
seed = {1000 + i}
width = {w}
height = {h}
color = "{s['color']}"
shape = "{s['shape']}"
size = "{s['size']}"
background = "{s['bcolor']}"
striped = {str(s['back'] == 'striped').lower()}
motion = "{kind}"
x = {x:.2f}
y = {y:.2f}
''')
    names = "\n".join(f'{c} = {list(COLORS[c][0])}' for c in COLORS); dark = "\n".join(f'{c} = {[round(v, 4) for v in shade(c)]}' for c in COLORS)
    head = f"# The fixed list of held-out prompts of the embedded model, and what each clip must show. Rules: scripts/train/evaluate.py.\n# Noise of a prompt: torch.randn(1, channels, latent frames, height / 16, width / 16), float32 on the CPU, seeded with its seed.\nframes = {FRAMES}\n\n[colors]\n{names}\n\n[shades]\n{dark}\n\n"
    open(path, "w").write(head + "\n".join(out))


def score(v, p):
    """v: [3, T, H, W] in 0..1. Which of the rules hold."""
    T, H, W = v.shape[1:]
    dist = lambda c: (v - torch.tensor(c).view(3, 1, 1, 1)).pow(2).sum(0).sqrt()
    nearest = lambda rgb, table: min(table, key=lambda n: sum((float(a) - b) ** 2 for a, b in zip(rgb, table[n])))
    ring = torch.ones(H, W, dtype=torch.bool); ring[3:-3, 3:-3] = False
    table = {c: COLORS[c][0] for c in COLORS}
    both = {**table, **{c + " dark": shade(c) for c in COLORS}}
    r = {"background": nearest(v[:, :, ring].flatten(1).median(1).values, both).split()[0] == p["background"]}
    back = dist(COLORS[p["background"]][0])
    if p["striped"]: back = torch.minimum(back, dist(shade(p["background"])))
    far = back > 0.30
    share = far.float().mean().item()
    r["color"] = 0.01 < share < 0.30 and nearest(v[:, far].median(1).values, table) == p["color"]
    mask = (dist(COLORS[p["color"]][0]) < back).float()
    area = mask.sum((1, 2))
    if area.min() < 8: return {**r, "shape": False, "position": False, "motion": False}
    x = (mask.sum(1) * (torch.arange(W) + 0.5)).sum(1) / area / W
    y = (mask.sum(2) * (torch.arange(H) + 0.5)).sum(1) / area / H
    fills = []
    for m, a in zip(mask, area):
        cols, rows = m.sum(0), m.sum(1)
        span = lambda n: (lambda k: float(k.max() - k.min() + 1))(torch.nonzero(n >= n.max() / 8))
        fills.append(float(a) / (span(cols) * span(rows)))
    fill = sorted(fills)[T // 2]
    r["shape"] = {"triangle": fill < 0.72, "ball": 0.72 <= fill <= 0.90, "square": fill > 0.90}[p["shape"]]
    r["position"] = abs(float(x[0]) - p["x"]) < 0.15 and abs(float(y[0]) - p["y"]) < 0.15
    ex, ey = float(x.max() - x.min()), float(y.max() - y.min())
    dx, dy = float(x[-1] - x[0]), float(y[-1] - y[0])
    kind = OPPOSITE.get(p["motion"], p["motion"])
    r["motion"] = {
        "moves left": dx < -0.15 and abs(dy) < abs(dx) / 2, "moves right": dx > 0.15 and abs(dy) < abs(dx) / 2,
        "moves up": dy < -0.15 and abs(dx) < abs(dy) / 2, "moves down": dy > 0.15 and abs(dx) < abs(dy) / 2,
        "stays still": ex < 0.10 and ey < 0.10, "bounces": bool(y[8] - y[0] > 0.15 and y[8] - y[-1] > 0.15 and ex < 0.12),
        "circles around": ex * W > 0.25 * min(W, H) and ey * H > 0.25 * min(W, H),
        "zooms in": bool(area[-1] > 1.6 * area[0]) and ex < 0.20 and ey < 0.20, "zooms out": bool(area[-1] < area[0] / 1.6) and ex < 0.20 and ey < 0.20}[kind]
    r["_"] = (round(fill, 2), round(dx, 2), round(dy, 2), round(ex, 2), round(ey, 2), round(float(area[-1] / area[0]), 2))
    return r


def report(results, verbose=True):
    keys = ["background", "color", "shape", "position", "motion"]
    if verbose:
        for p, r in results:
            bad = [k for k in keys if not r[k]]
            if bad: print("  wrong:", ", ".join(bad), "|", p["text"], "|", f"{p['width']}x{p['height']}", r.get("_"))
    n = len(results)
    print(f"{n} prompts:", ", ".join(f"{k} {sum(r[k] for _, r in results) / n:.3f}" for k in keys),
          f"| pass {sum(r['background'] and r['color'] and r['motion'] for _, r in results) / n:.3f}, all five {sum(all(r[k] for k in keys) for _, r in results) / n:.3f}", flush=True)


def spec_of(p):
    cam = p["motion"] if p["motion"] in CAMERAS else ""
    return dict(color=p["color"], bcolor=p["background"], shape=p["shape"], size=p["size"], back="striped" if p["striped"] else "plain", cam=cam,
                motion="stays still" if cam else p["motion"], canonical=True, jx=0.0, jy=0.0, phase=0.0)


def sheet(clips, path):
    import numpy as np, PIL.Image
    rows = [torch.nn.functional.pad(v[:, [0, 4, 8, 12, 16]].permute(2, 1, 3, 0), (0, 0, 0, 112 - v.shape[3], 0, 0, 0, 112 - v.shape[2])).reshape(112, -1, 3) for v in clips]
    if len(rows) % 2: rows.append(torch.zeros_like(rows[0]))
    half = len(rows) // 2
    img = torch.cat([torch.cat(rows[:half]), torch.cat(rows[half:])], 1)
    PIL.Image.fromarray((img * 255).round().byte().numpy().astype(np.uint8)).save(path)


@torch.no_grad()
def check_vae(prompts, model):
    from diffusers import AutoencoderKLWan
    vae = AutoencoderKLWan.from_pretrained(model + "/vae", torch_dtype=torch.float32).eval()
    results, psnr = [], lambda a, b: 10 * torch.log10(4 / (a - b).pow(2).mean()).item()
    values = []
    for p in prompts:
        x = render(spec_of(p), FRAMES, p["width"], p["height"])
        y = vae.decode(vae.encode(x[None]).latent_dist.mean).sample[0]
        values.append(psnr(x, y)); results.append((p, score((y + 1) / 2, p)))
    report(results)
    print(f"PSNR on the held-out clips: mean {sum(values) / len(values):.2f} dB, worst {min(values):.2f} dB")
    for name, kinds in (("still", ["stays still"]), ("moving", ["moves right", "bounces", "circles around"])):
        rows = []
        for p in [p for p in prompts if p["motion"] in kinds][:6]:
            x = render(spec_of(p), 209, p["width"], p["height"])
            y = vae.decode(vae.encode(x[None]).latent_dist.mean).sample[0]
            rows.append([psnr(x[:, a:b], y[:, a:b]) for a, b in ((0, 1), (1, 5), (17, 25), (97, 105), (197, 205))])
        print(f"{name} clips of 209 frames, PSNR at frame 0, 1-4, about 20, 100, 200:", [round(sum(c) / len(c), 2) for c in zip(*rows)])


@torch.no_grad()
def check_model(prompts, model, steps=STEPS, shift=SHIFT, guidance=GUIDANCE, out=None):
    from diffusers import UniPCMultistepScheduler, WanPipeline
    pipe = WanPipeline.from_pretrained(model, torch_dtype=torch.float32)
    pipe.scheduler = UniPCMultistepScheduler.from_config(pipe.scheduler.config, flow_shift=float(shift))
    pipe.set_progress_bar_config(disable=True)
    clips, t0, c = {}, time.time(), pipe.vae.config.z_dim
    for w, h in ASPECTS:
        group = [p for p in prompts if (p["width"], p["height"]) == (w, h)]
        noise = torch.cat([torch.randn(1, c, (FRAMES - 1) // 4 + 1, h // 16, w // 16, generator=torch.Generator().manual_seed(p["seed"])) for p in group])
        v = pipe(prompt=[p["text"] for p in group], negative_prompt=[""] * len(group), width=w, height=h, num_frames=FRAMES, num_inference_steps=int(steps),
                 guidance_scale=float(guidance), latents=noise, max_sequence_length=TEXT_LEN, output_type="pt").frames
        for p, x in zip(group, v): clips[p["seed"]] = x.permute(1, 0, 2, 3)
    print(f"steps {steps} shift {shift} guidance {guidance}: {time.time() - t0:.0f}s")
    report([(p, score(clips[p["seed"]], p)) for p in prompts], verbose=out is not None)
    if out: sheet([clips[p["seed"]] for p in prompts], out)


@torch.no_grad()
def check_given(prompts, model):
    """Latents are normalised as the transformer sees them; each latent frame has its own time, 0 where it is given."""
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import AutoTokenizer, UMT5EncoderModel
    part = lambda cls, name: cls.from_pretrained(f"{model}/{name}", torch_dtype=torch.float32).eval()
    vae, dit, text = part(AutoencoderKLWan, "vae"), part(WanTransformer3DModel, "transformer"), part(UMT5EncoderModel, "text_encoder")
    tokenizer = AutoTokenizer.from_pretrained(model + "/tokenizer")
    mean, std = (torch.tensor(getattr(vae.config, k)).view(1, -1, 1, 1, 1) for k in ("latents_mean", "latents_std"))
    encode = lambda x: (vae.encode(x[None]).latent_dist.mean - mean) / std
    decode = lambda z: vae.decode(z * std + mean).sample[0]
    psnr = lambda a, b: 10 * torch.log10(4 / (a - b).pow(2).mean()).item()

    def context(prompt):
        t = tokenizer([prompt, ""], padding="max_length", max_length=TEXT_LEN, truncation=True, return_tensors="pt")
        return text(input_ids=t.input_ids, attention_mask=t.attention_mask).last_hidden_state * t.attention_mask.unsqueeze(-1)

    def generate(p, cond, given):
        sigmas = torch.linspace(1, 0, STEPS + 1); sigmas = SHIFT * sigmas / (1 + (SHIFT - 1) * sigmas)
        x, c = torch.randn(cond.shape, generator=torch.Generator().manual_seed(p["seed"])), context(p["text"])
        g = given.view(1, 1, -1, 1, 1)
        x = g * cond + (1 - g) * x
        for now, then in zip(sigmas, sigmas[1:]):
            ts = (1000 * now * (1 - given)).repeat_interleave(x.shape[3] * x.shape[4])[None].repeat(2, 1)
            yes, no = dit(hidden_states=x.repeat(2, 1, 1, 1, 1), timestep=ts, encoder_hidden_states=c, return_dict=False)[0]
            x = x + (1 - g) * (then - now) * (no + GUIDANCE * (yes - no))
        return x

    for mode in ("first", "first and last", "last", "continuation"):
        results, kept = [], []
        for p in prompts:
            # A continuation starts two latent frames before the clip: nine pixel frames of history.
            whole = render(spec_of(p), FRAMES + 8, p["width"], p["height"]) if mode == "continuation" else render(spec_of(p), FRAMES, p["width"], p["height"])
            truth, given = encode(whole), torch.zeros((FRAMES - 1) // 4 + 1)
            if mode == "continuation": cond = truth[:, :, 2:]; given[:2] = 1
            else:
                cond = truth.clone()
                if "first" in mode: given[0] = 1
                if "last" in mode: given[-1] = 1; cond[:, :, -1] = encode(whole[:, -1:].repeat(1, 5, 1, 1))[:, :, 1]
            z = generate(p, cond, given)
            v = decode(torch.cat([truth[:, :, :2], z], 2) if mode == "continuation" else z)
            if mode == "continuation": kept.append(psnr(v[:, 17:], whole[:, 17:]))  # what it made
            else: kept.append(psnr(v[:, 0] if "first" in mode else v[:, -1], whole[:, 0] if "first" in mode else whole[:, -1]))
            if mode != "continuation": results.append((p, score((v + 1) / 2, p)))
        print(f"given {mode}: PSNR of {'the new frames' if mode == 'continuation' else 'a given frame'} to the drawn one {sum(kept) / len(kept):.2f} dB, worst {min(kept):.2f} dB")
        if results: report(results, verbose=False)


if __name__ == "__main__":
    cmd, path, *rest = sys.argv[1:]
    if cmd == "write": write(path, "camera" in rest); sys.exit()
    prompts = tomllib.load(open(path, "rb"))["prompt"]
    if cmd == "truth": report([(p, score((render(spec_of(p), FRAMES, p["width"], p["height"]) + 1) / 2, p)) for p in prompts])
    if cmd == "vae": check_vae(prompts, *rest)
    if cmd == "model": check_model(prompts, *rest)
    if cmd == "given": check_given(prompts, *rest)
