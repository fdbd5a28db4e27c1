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


WAY = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}  # of a motion or a camera move, by its last word


def table(specs, device="cpu"):
    """What `draw` needs of some clips, a tensor of each quantity with one row for a clip."""
    rows = []
    for s in specs:
        mo, cam = s["motion"], s["cam"]
        vx, vy = WAY[mo.split()[1]] if mo.startswith("moves") else (0, 0)
        camx, camy = WAY[cam.split()[1]] if cam[:4] in ("pans", "tilt") else (0, 0)
        jx = s["jx"] * (0.6 if mo == "circles around" else 1.0)
        jy = s["jy"] * (0.4 if mo in ("bounces", "circles around") else 1.0)
        if mo == "bounces" and not s["canonical"] and abs(s["jy"]) > 0.05: jy = 0.0
        rows.append([vx, vy, camx, camy, (cam == "zooms in") - (cam == "zooms out"), mo == "bounces", mo == "circles around", jx, jy, s["phase"], s["phase"] % 12,
                     0.0 if s["canonical"] else s["phase"] * 7.3, s["back"] == "striped", SIZES[s["size"]], s["shape"] == "ball", s["shape"] == "square"])
    names = ["vx", "vy", "camx", "camy", "zoom", "bounces", "circles", "jx", "jy", "phase", "zoom_phase", "stripe_phase", "striped", "size", "ball", "square"]
    values = torch.tensor(rows, dtype=torch.float32)
    out = {name: column.view(-1, 1, 1, 1) for name, column in zip(names, values.unbind(1))}
    for name, color in (("color", lambda s: COLORS[s["color"]][0]), ("base", lambda s: COLORS[s["bcolor"]][0]), ("shade", lambda s: shade(s["bcolor"]))):
        out[name] = torch.tensor([color(s) for s in specs]).view(-1, 3, 1, 1, 1)
    return {name: value.to(device) for name, value in out.items()}


def draw(t, frames, width, height, start=0, crop=None):
    """Frames start..start+frames of the clips of a table, [N, 3, frames, h, w] in -1..1, and how much of each pixel is shape [N, 1, frames, h, w].
    crop = (x, y, w, h) draws a window only. start, x and y are numbers, or tensors [N, 1, 1, 1] with one for each clip."""
    x0, y0, w, h = crop or (0, 0, width, height)
    dev = t["vx"].device
    i = start + torch.arange(frames, dtype=torch.float32, device=dev).view(1, -1, 1, 1)  # frame index
    n = i + t["phase"]
    yy, xx = y0 + torch.arange(h, device=dev).view(1, 1, -1, 1) + 0.5, x0 + torch.arange(w, device=dev).view(1, 1, 1, -1) + 0.5
    go_x, go_y = width * (SPEED * n - 0.16), height * (SPEED * n - 0.16)
    u = (n / 16 + 0.5) % 1.0  # bounces: falls from the top, 16 frames a bounce
    th, rad = n * (2 * math.pi / 24), 0.22 * min(width, height)  # circles: clockwise from the top, 24 frames a turn
    ox = width / 2 + t["vx"] * go_x + t["circles"] * rad * torch.sin(th) + t["jx"] * width
    oy = height / 2 + t["vy"] * go_y + t["bounces"] * height * (0.20 - 0.40 * 4 * u * (1 - u)) - t["circles"] * rad * torch.cos(th) + t["jy"] * height
    zoom = torch.exp(0.37 * (1 - 2 * ((i + t["zoom_phase"]) / (FRAMES - 1)).clamp(0, 1)) * t["zoom"])
    wx, wy = (xx - width / 2) * zoom + width / 2 + t["camx"] * go_x, (yy - height / 2) * zoom + height / 2 + t["camy"] * go_y
    m = t["striped"] * (0.5 - 0.5 * torch.cos(2 * math.pi * (wx + t["stripe_phase"]) / (width / 2)))  # the stripes of a random-phase clip may start anywhere
    m = m.unsqueeze(1)
    img = t["base"] * (1 - m) + t["shade"] * m
    r = t["size"] * math.sqrt(width * height)
    dx, dy, wraps = wx - ox, wy - oy, t["zoom"] == 0
    dx = torch.where(wraps, (dx + width / 2) % width - width / 2, dx)
    dy = torch.where(wraps, (dy + height / 2) % height - height / 2, dy)
    ball = torch.sqrt(dx * dx + dy * dy) - r
    square = torch.maximum(dx.abs(), dy.abs()) - 0.9 * r
    triangle = torch.maximum(dy - 1.05 * r, (2 * dx.abs() - (dy + 1.05 * r)) / math.sqrt(5))
    d = torch.where(t["ball"] > 0, ball, torch.where(t["square"] > 0, square, triangle))
    alpha = ramp(d / zoom, 4.0).unsqueeze(1)
    return (img * (1 - alpha) + t["color"] * alpha) * 2 - 1, alpha


def render(s, frames, width, height, start=0, crop=None):
    """Frames start..start+frames of one clip, [3, frames, h, w] in -1..1; crop = (x, y, w, h) draws a window only."""
    return draw(table([s]), frames, width, height, start, crop)[0][0]


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
