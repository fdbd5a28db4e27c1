"""Clips of one moving shape with English and Chinese captions, drawn with anti-aliased signed distances (torch).

The world is a torus: what leaves on one side comes back on the other, and every motion is stationary or periodic, so any clip
can be continued for as long as one likes. `python clips.py out.png` draws a contact sheet.
"""
import hashlib, math, random
import torch

COLORS = {  # name: RGB, Chinese names
    "red": ((0.90, 0.12, 0.12), ("红色", "红")), "green": ((0.12, 0.68, 0.22), ("绿色", "绿")), "blue": ((0.12, 0.28, 0.92), ("蓝色", "蓝")),
    "yellow": ((0.97, 0.88, 0.12), ("黄色", "黄")), "purple": ((0.58, 0.16, 0.80), ("紫色", "紫")), "cyan": ((0.12, 0.84, 0.88), ("青色", "青")),
    "white": ((0.96, 0.96, 0.96), ("白色", "白")), "black": ((0.05, 0.05, 0.05), ("黑色", "黑")),
}
SHAPES = {"ball": ("球", "圆球"), "square": ("方块", "正方形"), "triangle": ("三角形", "三角")}
SIZES = {"small": 0.140, "": 0.180, "big": 0.225}  # radius over sqrt(width * height)
MOTIONS = ["moves left", "moves right", "moves up", "moves down", "bounces", "circles around", "stays still"]
CAMERAS = ["pans left", "pans right", "tilts up", "tilts down", "zooms in", "zooms out"]  # with a shape that stays still
ASPECTS = [(112, 64), (80, 80), (64, 112)]  # width, height
FRAMES = 17
SPEED = 0.32 / (FRAMES - 1)  # of the frame, per frame


def shade(color):
    """The second tone of a striped background."""
    r, g, b = COLORS[color][0]
    return (0.27, 0.27, 0.27) if color == "black" else (r * 0.70, g * 0.70, b * 0.70)


def held_out(s):
    """One combination of colour, shape, motion and background colour in ten is never trained on."""
    key = f"{s['color']}|{s['shape']}|{s['cam'] or s['motion']}|{s['bcolor']}"
    return hashlib.sha256(key.encode()).digest()[0] < 26


def sample_spec(rng, canonical=True, allow_held_out=False):
    while True:
        color = rng.choice(list(COLORS))
        s = dict(color=color, bcolor=rng.choice([c for c in COLORS if c != color]), shape=rng.choice(list(SHAPES)), size=rng.choice(["small", "", "", "big"]),
                 back=rng.choice(["plain", "striped"]), motion=rng.choice(MOTIONS), cam="", canonical=canonical)
        if rng.random() < 0.36:
            s["motion"], s["cam"] = "stays still", rng.choice(CAMERAS)
        j = 0.015 if canonical else 0.28  # where it starts: near the canonical place, or anywhere
        s["jx"], s["jy"] = rng.uniform(-j, j), rng.uniform(-j, j)
        s["phase"] = 0.0 if canonical else rng.uniform(0, 48)
        if allow_held_out or not held_out(s):
            return s


# ---- captions
SHAPE_EN = {"ball": ["ball", "ball", "ball", "sphere"], "square": ["square", "square", "square", "box"], "triangle": ["triangle"]}
SIZE_EN = {"small": ["small", "small", "little", "tiny"], "": [""], "big": ["big", "big", "large"]}
MOTION_EN = {
    "moves left": ["moves left", "moves left", "moving left", "moves to the left", "goes left"],
    "moves right": ["moves right", "moves right", "moving right", "moves to the right", "goes right"],
    "moves up": ["moves up", "moves up", "moving up", "moves upwards", "rises"],
    "moves down": ["moves down", "moves down", "moving down", "moves downwards", "falls"],
    "bounces": ["bounces", "bounces", "bouncing", "bounces up and down"],
    "circles around": ["circles around", "circles around", "circling", "moves in a circle"],
    "stays still": ["stays still", "stays still", "standing still", "does not move", ""],
}
MOTION_ZH = {
    "moves left": ["向左移动", "向左移动", "往左走"], "moves right": ["向右移动", "向右移动", "往右走"], "moves up": ["向上移动", "向上移动", "上升"],
    "moves down": ["向下移动", "向下移动", "下落"], "bounces": ["弹跳", "上下弹跳"], "circles around": ["绕圈", "转圈移动"], "stays still": ["静止不动", "不动", ""],
}
CAM_ZH = {"pans left": "镜头左移", "pans right": "镜头右移", "tilts up": "镜头上移", "tilts down": "镜头下移", "zooms in": "镜头推进", "zooms out": "镜头拉远"}
ING = {"pans": "panning", "tilts": "tilting", "zooms": "zooming"}


def caption(s, lang="en", rng=random, plain=False):
    """A caption of the clip. plain: the main phrasing, with everything said."""
    pick = (lambda xs: xs[0]) if plain else rng.choice
    chance = (lambda p: False) if plain else (lambda p: rng.random() < p)
    short = chance(0.06) and not s["cam"]
    if lang == "zh":
        c, b = (COLORS[s[k]][1] for k in ("color", "bcolor"))
        size = {"small": "小", "": "", "big": "大"}[s["size"]]
        motion = pick(MOTION_ZH[s["motion"]]) if not (s["cam"] and chance(0.5)) else ""
        noun = pick(SHAPES[s["shape"]])
        color = c[0] if not chance(0.3) else (c[1] if chance(0.4) else c[0] + "的")
        subject = ("一个" if not chance(0.25) else "") + size + color + noun + motion
        back = (b[0] if not chance(0.2) else b[0] + "的") + ("条纹" if s["back"] == "striped" else "") + "背景"
        cam = ("，" + CAM_ZH[s["cam"]]) if s["cam"] else ("，镜头不动" if chance(0.08) else "")
        if short: text = subject + cam
        elif chance(0.25): text = "在" + back + "上，" + subject + cam
        elif chance(0.15): text = back + "，" + subject + cam
        else: text = subject + "，" + back + cam
        return text + ("。" if chance(0.2) else "")
    art = "a " if not chance(0.25) else ("the " if chance(0.3) else "")
    size, noun = pick(SIZE_EN[s["size"]]), pick(SHAPE_EN[s["shape"]])
    motion = pick(MOTION_EN[s["motion"]]) if not (s["cam"] and chance(0.5)) else ""
    if plain and s["cam"]: motion = ""
    subject = " ".join(w for w in (art.strip(), size, s["color"], noun, motion) if w)
    striped, art2 = s["back"] == "striped", ("a " if art else pick(["a ", ""]))
    stripes = ("striped " + s["bcolor"] if not chance(0.3) else s["bcolor"] + " striped") if striped else (("plain " if chance(0.12) else "") + s["bcolor"])
    back = f"{art2}{stripes} background"
    if not striped and chance(0.12): back = s["bcolor"]
    if striped and chance(0.1): back = f"{s['bcolor']} stripes"
    cam = ""
    if s["cam"]:
        verb, way = s["cam"].split()
        cam = f", the camera {verb} {way}"
        if chance(0.35): cam = pick([f", camera {verb} {way}", f", camera {ING[verb]} {way}", f" as the camera {verb} {way}", f", the camera is {ING[verb]} {way}"])
    elif chance(0.08): cam = pick([", the camera is still", ", static camera", ", camera still"])
    if short: text = subject + cam
    elif chance(0.18): text = f"on {back}, {subject}{cam}"
    elif chance(0.12): text = f"{subject}, {back}{cam}"
    elif chance(0.06): text = f"{subject} over {back}{cam}"
    elif cam and chance(0.15): text = f"{cam.lstrip(', ')}, {subject} on {back}"
    else: text = f"{subject} on {back}{cam}"
    if chance(0.05): text = pick(["a video of ", "video: ", "a clip of "]) + text
    return text + ("." if chance(0.2) else "")


# ---- drawing
def ramp(d, width):
    """1 inside (d < 0), 0 outside, a soft edge of `width` pixels: what a small autoencoder draws well."""
    t = (0.5 - d / width).clamp(0, 1)
    return t * t * (3 - 2 * t)


def render(s, frames, width, height, start=0, crop=None):
    """Frames start..start+frames of the clip, [3, frames, h, w] in -1..1; crop = (x, y, w, h) draws a window only."""
    x0, y0, w, h = crop or (0, 0, width, height)
    i = torch.arange(start, start + frames, dtype=torch.float32).view(-1, 1, 1)  # frame index
    n = i + s["phase"]
    yy, xx = torch.meshgrid(torch.arange(y0, y0 + h) + 0.5, torch.arange(x0, x0 + w) + 0.5, indexing="ij")
    zoom, camx, camy = torch.ones_like(i), torch.zeros_like(i), torch.zeros_like(i)
    ox, oy = torch.full_like(i, width / 2), torch.full_like(i, height / 2)
    go_x, go_y = width * (SPEED * n - 0.16), height * (SPEED * n - 0.16)
    mo, cam = s["motion"], s["cam"]
    if mo == "moves left": ox = ox - go_x
    if mo == "moves right": ox = ox + go_x
    if mo == "moves up": oy = oy - go_y
    if mo == "moves down": oy = oy + go_y
    if mo == "bounces":  # falls from the top, 16 frames a bounce
        u = (n / 16 + 0.5) % 1.0
        oy = oy + height * (0.20 - 0.40 * 4 * u * (1 - u))
    if mo == "circles around":  # clockwise from the top, 24 frames a turn
        th, rad = n * (2 * math.pi / 24), 0.22 * min(width, height)
        ox, oy = ox + rad * torch.sin(th), oy - rad * torch.cos(th)
    if cam == "pans left": camx = -go_x
    if cam == "pans right": camx = go_x
    if cam == "tilts up": camy = -go_y
    if cam == "tilts down": camy = go_y
    if cam in ("zooms in", "zooms out"):
        k = ((i + (s["phase"] % 12)) / (FRAMES - 1)).clamp(0, 1)
        zoom = torch.exp(0.37 * (1 - 2 * k) * (1 if cam == "zooms in" else -1))
    along_x, along_y = mo in ("moves left", "moves right"), mo in ("moves up", "moves down", "bounces")
    if not (mo == "bounces" and not s["canonical"] and abs(s["jy"]) > 0.05):
        oy = oy + s["jy"] * height * (0.4 if mo in ("bounces", "circles around") else 1.0)
    ox = ox + s["jx"] * width * (0.6 if mo == "circles around" else 1.0)
    wx, wy = (xx - width / 2) * zoom + width / 2 + camx, (yy - height / 2) * zoom + height / 2 + camy
    base = torch.tensor(COLORS[s["bcolor"]][0]).view(3, 1, 1, 1)
    if s["back"] == "striped":
        period = width / 2  # the stripes of a random-phase clip may start anywhere
        u = (wx + (0 if s["canonical"] else s["phase"] * 7.3)) / period
        m = 0.5 - 0.5 * torch.cos(2 * math.pi * u)
        img = base * (1 - m) + torch.tensor(shade(s["bcolor"])).view(3, 1, 1, 1) * m
    else:
        img = base.expand(3, frames, h, w)
    r = SIZES[s["size"]] * math.sqrt(width * height)
    if cam.startswith("zooms"): dx, dy = wx - ox, wy - oy
    else: dx, dy = (wx - ox + width / 2) % width - width / 2, (wy - oy + height / 2) % height - height / 2
    if s["shape"] == "ball": d = torch.sqrt(dx * dx + dy * dy) - r
    elif s["shape"] == "square": d = torch.maximum(dx.abs(), dy.abs()) - 0.9 * r
    else: d = torch.maximum(dy - 1.05 * r, (2 * dx.abs() - (dy + 1.05 * r)) / math.sqrt(5))
    alpha = ramp(d / zoom, 4.0)
    img = img * (1 - alpha) + torch.tensor(COLORS[s["color"]][0]).view(3, 1, 1, 1) * alpha
    return img * 2 - 1


if __name__ == "__main__":
    import sys
    import numpy as np, PIL.Image
    rng, rows = random.Random(1), []
    for k in range(14):
        s = sample_spec(rng, canonical=k % 3 != 2)
        print(caption(s, "en", rng), "|", caption(s, "zh", rng))
        v = render(s, 33, 112, 112)[:, ::4]
        rows.append(((v.permute(2, 1, 3, 0).reshape(112, -1, 3) + 1) * 127.5).byte().numpy())
    PIL.Image.fromarray(np.concatenate(rows)).save(sys.argv[1])
