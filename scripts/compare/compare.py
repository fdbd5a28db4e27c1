"""Kinora beside PyTorch and diffusers: the same work, random weights, the same number of threads, in turns.

    python scripts/compare/compare.py [--only ROW …] [--quick] [--sdcpp] [--cpu avx2] [--threads 2] [--out benches/results]

See README.md beside this file.
"""

import argparse
import json
import math
import os
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TORCH_SIDE = Path(__file__).with_name("torch_side.py")
SDCPP_SIDE, SDCPP_PACKAGE = Path(__file__).with_name("sdcpp_side.py"), "stable-diffusion-cpp-python"
VARIANT = "wan2.1-t2v-1.3b"
PROMPT = "a red ball bounces on a striped blue background"
UMT5_LAYERS, UMT5_MEASURED = 24, 2


# What holds PyTorch (its own kernels, oneDNN and MKL) to the instructions of a level of Kinora's.
HELD = {
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "avx-vnni": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2_VNNI", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
}


class Skipped(Exception):
    """A side that cannot run here, and why."""


class Torch:
    """A process of torch_side.py; answers `eager` and `compiled`."""

    def __init__(self, what, settings, threads):
        settings = {"threads": threads, "dtype": "float32", **settings}
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            [sys.executable, TORCH_SIDE, what, json.dumps(settings)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def run(self, mode):
        self.process.stdin.write(mode + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise Skipped(f"torch {mode} failed (status {self.process.wait()})")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Sdcpp:
    """stable-diffusion.cpp (sdcpp_side.py): a process a run, all of them from one directory of random weights."""

    def __init__(self, size, threads):
        self.settings = {"size": size, "threads": threads}
        self.weights = None

    def run(self, dtype):
        if self.weights is None:
            self.weights = tempfile.mkdtemp()
            say("    writing random weights")
            self.call("weights", self.weights)
        return json.loads(self.call("dit", json.dumps({**self.settings, "weights": self.weights, "dtype": dtype})))

    def call(self, *arguments):
        run = subprocess.run([sys.executable, SDCPP_SIDE, *arguments], capture_output=True, text=True, errors="replace")
        if run.returncode != 0:
            raise Skipped((run.stderr.strip().splitlines() or [f"status {run.returncode}"])[-1])
        return run.stdout

    def close(self):
        if self.weights is not None:
            shutil.rmtree(self.weights)


class Bench:
    """One part measured by `kinora bench`."""

    def __init__(self, kinora, arguments, threads):
        self.command = [kinora, "bench", *arguments, "--threads", str(threads), "--runs", "1", "--format", "json"]

    def run(self):
        run = subprocess.run(self.command, capture_output=True, text=True)
        if run.returncode != 0:
            lines = [line for line in run.stderr.splitlines() if line.startswith("error:")]
            raise Skipped(lines[0] if lines else f"kinora: status {run.returncode}")
        report = json.loads(run.stdout)
        part = (report["parts"] if isinstance(report, dict) else report)[0]
        keep = {key: part[key] for key in ("gflops", "peak_memory") if part.get(key) is not None}
        return {"seconds": part["fastest"], **keep}


class Row:
    """What is measured in turns: `sides` are names and functions that run once, `baseline` is who ratios are against."""

    def __init__(self, name, work, sides, baselines, scale=1, notes=(), close=()):
        self.name, self.work, self.sides, self.baselines = name, work, sides, baselines
        self.scale, self.notes, self.to_close = scale, list(notes), close

    def measure(self, rounds):
        results, skipped, load = {name: [] for name in self.sides}, {}, os.getloadavg()[0]
        try:
            for number in range(rounds):
                for name, run in self.sides.items():
                    if name in skipped:
                        continue
                    say(f"  {self.name}, round {number + 1} of {rounds}: {name}")
                    try:
                        results[name].append(run())
                    except Skipped as reason:
                        skipped[name] = str(reason)
                        say(f"    skipped: {reason}")
        finally:
            for side in self.to_close:
                side.close()
        sides = {name: summary(runs, self.scale) for name, runs in results.items() if runs}
        measured = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return {
            "row": self.name, "work": self.work, "measured": measured, "load_before": load,
            "sides": sides, "skipped": skipped, "ratios": ratios(sides, self.baselines), "notes": self.notes,
        }  # fmt: skip


def summary(runs, scale):
    seconds = [scale * run["seconds"] for run in runs]
    peaks = [run["peak_memory"] for run in runs if run.get("peak_memory")]
    out = {"seconds": seconds, "fastest": min(seconds), "median": statistics.median(seconds)}
    if peaks:
        out["peak_memory"] = peaks[0]  # torch's process keeps what it had, compiled or not: only the first is eager's
    for key in runs[0].keys() - {"seconds", "peak_memory", "finite"}:
        out[key] = runs[0][key]
    if any(run.get("finite") is False for run in runs):
        out["not_finite"] = True
    return out


def ratios(sides, baselines):
    """Seconds of each baseline over those of each side of Kinora: above 1 Kinora is faster."""
    pairs = [(a, b) for a in baselines for b in sides if a in sides and b.startswith("kinora")]
    return {
        f"{b} against {a}": {key: sides[a][key] / sides[b][key] for key in ("fastest", "median")} for a, b in pairs
    }


def dit_row(options, name, size):
    tokens = (size[0] // 16) * (size[1] // 16) * ((size[2] - 1) // 4 + 1)
    torch = Torch("dit", {"size": size}, options.threads)
    arguments = ["--random", VARIANT, "--what", "dit", "--size", "x".join(map(str, size))]
    bench = lambda *more: Bench(options.kinora, [*arguments, *more], options.threads).run  # noqa: E731
    sides = {
        "torch eager f32": lambda: torch.run("eager"),
        "torch compiled f32": lambda: torch.run("compiled"),
        "kinora f32": bench("--dtype", "f32"),
        "kinora bf16": bench("--dtype", "bf16"),
        "kinora int8": bench("--quant", "int8"),
        "kinora q8_0": bench("--blocks", "q8_0"),
        "kinora q4_k": bench("--blocks", "q4_k"),
    }
    work = f"Wan2.1-1.3B, one forward, {tokens} video tokens, 512 text tokens"
    notes = [
        "diffusers computes keys and values of the text in every forward (about 4 % of the operations at 1280 tokens); "
        "Kinora keeps them over the steps, and they are not in its time"
    ]
    baselines, close = list(sides)[:2], [torch]
    if options.sdcpp:
        sdcpp = Sdcpp(size, options.threads)
        others = {f"sd.cpp {dtype}": lambda dtype=dtype: sdcpp.run(dtype) for dtype in ("f32", "f16", "bf16", "q8_0")}
        sides, baselines, close = sides | others, [*baselines, *others], [*close, sdcpp]
        notes.append(
            "sd.cpp (stable-diffusion.cpp) computes keys and values of the text in every forward too, but of 256 text tokens: "
            "with Kinora's step it has the same number of operations, to 1 %"
        )
    return Row(name, work, sides, baselines, notes=notes, close=close)


def dit_bf16_row(options, name, size):
    torch = Torch("dit", {"size": size, "dtype": "bfloat16"}, options.threads)
    arguments = ["--random", VARIANT, "--what", "dit", "--size", "x".join(map(str, size)), "--dtype", "bf16"]
    sides = {
        "torch eager bf16": lambda: torch.run("eager"),
        "torch compiled bf16": lambda: torch.run("compiled"),
        "kinora bf16": Bench(options.kinora, arguments, options.threads).run,
    }
    return Row(name, "Wan2.1-1.3B, one forward, bf16", sides, list(sides)[:2], close=[torch])


def vae_row(options, name):
    size = [256, 256, 17]
    torch = Torch("vae", {"size": size}, options.threads)
    arguments = ["--random", VARIANT, "--what", "vae", "--size", "x".join(map(str, size))]
    sides = {
        "torch eager f32": lambda: torch.run("eager"),
        "kinora f32": Bench(options.kinora, arguments, options.threads).run,
    }
    if options.compile_vae:
        sides["torch compiled f32"] = lambda: torch.run("compiled")
    return Row(name, "Wan 2.1 VAE, decoding 17 frames of 256×256", sides, ["torch eager f32", "torch compiled f32"],
               notes=["peak memory is that of each whole process, libraries included"], close=[torch])  # fmt: skip


def umt5_row(options, name):
    torch = Torch("umt5", {"layers": UMT5_MEASURED, "tokens": 512}, options.threads)
    arguments = ["--random", VARIANT, "--what", "text", "--text-layers", str(UMT5_MEASURED)]
    bench = lambda *more: Bench(options.kinora, [*arguments, *more], options.threads)  # noqa: E731

    # `kinora bench` scales by itself.
    def kinora(*more):
        def run():
            result = bench(*more).run()
            return {**result, "seconds": result["seconds"] * UMT5_MEASURED / UMT5_LAYERS}

        return run

    sides = {
        "torch eager f32": lambda: torch.run("eager"),
        "torch compiled f32": lambda: torch.run("compiled"),
        "kinora f32": kinora("--dtype", "f32"),
        "kinora bf16": kinora("--dtype", "bf16"),
        "kinora int8": kinora("--quant", "int8"),
    }
    work = f"UMT5-XXL, 512 tokens, {UMT5_MEASURED} of {UMT5_LAYERS} layers, seconds scaled to all"
    notes = ["peak memory is that of the measured layers, with the whole embedding table left out"]
    return Row(name, work, sides, list(sides)[:2], UMT5_LAYERS / UMT5_MEASURED, notes, [torch])


def embedded_row(options, name):
    model = ROOT / "models/embedded"
    manifest = tomllib.loads((model / "manifest.toml").read_text())
    defaults, scratch = manifest["defaults"], tempfile.mkdtemp()
    settings = {
        "model": str(model), "prompt": PROMPT, "seed": 7, "out": f"{scratch}/clip.npy", "threads": options.threads,
        "text_len": manifest["text_len"],
        **{key: defaults[key] for key in ("width", "height", "frames", "steps", "guidance_scale")},
    }  # fmt: skip
    diffusers = [sys.executable, TORCH_SIDE, "embedded", json.dumps(settings)]
    kinora = [options.kinora, "generate", PROMPT, "--seed", "7", "--threads", str(options.threads), "--json",
              "-o", f"{scratch}/clip.mp4"]  # fmt: skip
    sides = {"diffusers f32": whole_process(diffusers), "kinora f32": whole_process(kinora)}
    work = "embedded model, {width}×{height}, {frames} frames, {steps} steps, guided, from process start to file"
    notes = ["diffusers' file is a raw array, Kinora's an MP4"]
    return Row(name, work.format(**defaults), sides, ["diffusers f32"], notes=notes)


def whole_process(command):
    """Seconds from start to end of a process, with what it says about its parts, and its peak memory."""

    def run():
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, errors = process.stdout.read(), process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise Skipped(errors.decode().strip().splitlines()[-1] if errors else f"status {process.returncode}")
        said = json.loads(out.decode().splitlines()[-1])
        inner = {f"{key}_seconds": value for key, value in said.get("seconds", {}).items() if isinstance(value, float)}
        inner |= {key: value for key, value in said.items() if key == "pipeline_seconds"}
        return {"seconds": seconds, "peak_memory": usage.ru_maxrss * 1024, **inner}

    return run


SCALING = {320: [128, 128, 17], 1280: [256, 256, 17], 5400: [480, 480, 21], 10080: [640, 576, 25]}


def scaling(options, rounds, extra=()):
    """Seconds a step over the number of tokens, and the exponent of the best power law."""
    points = {}
    for _ in range(rounds):
        for tokens, size in SCALING.items():
            arguments = ["--random", VARIANT, "--what", "dit", "--size", "x".join(map(str, size)), *extra]
            say(f"  scaling: {tokens} tokens {' '.join(extra)}")
            seconds = Bench(options.kinora, arguments, options.threads).run()["seconds"]
            points[tokens] = min(seconds, points.get(tokens, math.inf))
    logs = [(math.log(tokens), math.log(seconds)) for tokens, seconds in points.items()]
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in zip(logs, logs[1:])]
    return {"seconds": points, "exponent": slope(logs), "between": slopes}


def slope(points):
    mean_x, mean_y = (sum(axis) / len(points) for axis in zip(*points))
    covariance = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return covariance / sum((x - mean_x) ** 2 for x, _ in points)


def scaling_row(options, name, rounds):
    sides, skipped = {}, {}
    for side, extra in {"kinora f32": ["--dtype", "f32"], "kinora int8": ["--quant", "int8"]}.items():
        try:
            sides[side] = scaling(options, rounds, extra)
        except Skipped as reason:
            skipped[side] = str(reason)
            say(f"    skipped: {reason}")
    measured = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"row": name, "work": "Wan2.1-1.3B, seconds a step over tokens", "measured": measured,
            "scaling": sides, "skipped": skipped}  # fmt: skip


ROWS = {
    "dit-1280": lambda options: dit_row(options, "dit-1280", [256, 256, 17]),
    "dit-1280-bf16": lambda options: dit_bf16_row(options, "dit-1280-bf16", [256, 256, 17]),
    "dit-5400": lambda options: dit_row(options, "dit-5400", [480, 480, 21]),
    "vae": lambda options: vae_row(options, "vae"),
    "umt5": lambda options: umt5_row(options, "umt5"),
    "embedded": lambda options: embedded_row(options, "embedded"),
}
SCALING_ROW = "scaling"


def machine():
    text = Path("/proc/cpuinfo").read_text()
    name = re.search(r"model name\s*: (.*)", text)
    flags = set(re.search(r"flags\s*: (.*)", text).group(1).split())
    wanted = ["avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8"]
    return {
        "cpu": name.group(1).strip() if name else platform.processor(),
        "cores": os.cpu_count(),
        "instructions": [flag for flag in wanted if flag in flags],
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def versions(kinora, sdcpp):
    said = subprocess.run([kinora, "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT).stdout
    packages = {name: version(name) for name in ("torch", "diffusers", "transformers")}
    if sdcpp:
        try:
            packages[SDCPP_PACKAGE] = version(SDCPP_PACKAGE)
        except PackageNotFoundError:
            pass  # its sides will be skipped, and say so
    return {"kinora": said, "commit": commit.strip(), "python": platform.python_version(), **packages}


def markdown(report):
    cpu = report["machine"]
    lines = [
        f"# {cpu['cpu']}, {report['date']}",
        "",
        f"{cpu['cores']} cores, {report['threads']} threads, {cpu['memory'] / 1e9:.0f} GB, "
        f"{', '.join(cpu['instructions'])}{', all sides held to ' + report['held_to'] if report.get('held_to') else ''}. "
        + ", ".join(f"{name} {value}" for name, value in report["versions"].items() if value)
        + ".",
        "",
        "Random weights, the same shapes, in turns. Seconds are fastest and (median) of each side's runs. A ratio is the "
        "other side's seconds over Kinora's: above 1 Kinora is faster.",
        "",
        "| Work | Side | Seconds | Peak memory | Ratios (fastest, median) |",
        "|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        lines += scaling_lines(row) if "scaling" in row else row_lines(row)
    notes = [f"- {row['row']}: {note}." for row in report["rows"] for note in row.get("notes", [])]
    skipped = [f"- {row['row']}, {side}: not measured ({why})." for row in report["rows"]
               for side, why in row["skipped"].items()]  # fmt: skip
    return "\n".join([*lines, "", *notes, *skipped]) + "\n"


def row_lines(row):
    work = f"{row['row']}: {row['work']}"
    for name, side in row["sides"].items():
        memory = f"{side['peak_memory'] / 2**30:.2f} GiB" if "peak_memory" in side else "-"
        against = [
            f"{pair.removeprefix(name + ' against ')} {ratio['fastest']:.2f}×, {ratio['median']:.2f}×"
            for pair, ratio in row["ratios"].items()
            if pair.startswith(name + " against ")
        ]
        parts = [f"{key.removesuffix('_seconds')} {value:.2f}" for key, value in side.items() if key.endswith("_seconds")]
        inside = f"; of it {', '.join(parts)}" if parts else ""
        yield f"| {work} | {name} | {side['fastest']:.2f} ({side['median']:.2f}){inside} | {memory} | {'; '.join(against)} |"
        work = ""


def scaling_lines(row):
    for name, side in row["scaling"].items():
        points = ", ".join(f"{tokens}: {seconds:.2f} s" for tokens, seconds in side["seconds"].items())
        between = ", ".join(f"{slope:.2f}" for slope in side["between"])
        yield f"| {row['row']}: {row['work']} | {name} | {points} | - | exponent {side['exponent']:.2f} (from point to point {between}) |"


def save(report, out, row):
    """Replaces one row of today's file, so that rows may be measured one by one."""
    path = out / (f"{report['date']}-" + re.sub(r"[^a-z0-9]+", "-", report["machine"]["cpu"].lower()).strip("-"))
    if report["held_to"]:
        path = path.with_name(f"{path.name}-{report['held_to']}")
    previous = path.with_suffix(".json")
    rows = json.loads(previous.read_text())["rows"] if previous.exists() else []
    order = [*ROWS, SCALING_ROW]
    rows = sorted([old for old in rows if old["row"] != row["row"]] + [row], key=lambda row: order.index(row["row"]))
    report = {**report, "rows": rows}
    out.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    path.with_suffix(".md").write_text(markdown(report))
    return path.with_suffix(".md")


def say(text):
    print(text, file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=[*ROWS, SCALING_ROW], default=[*ROWS, SCALING_ROW], metavar="ROW")
    parser.add_argument("--quick", action="store_true", help="one round instead of three")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu", choices=[*HELD], help="hold every side to the instructions of this level")
    parser.add_argument("--kinora", default=str(ROOT / "target/release/kinora"), help="the release binary")
    parser.add_argument("--sdcpp", action="store_true", help="stable-diffusion.cpp too, in the rows dit-1280 and dit-5400")
    parser.add_argument("--compile-vae", action="store_true", help="torch.compile for the VAE too: minutes")
    parser.add_argument("--out", type=Path, default=ROOT / "benches/results")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    report = {
        "date": datetime.now().date().isoformat(), "machine": machine(), "versions": versions(options.kinora, options.sdcpp),
        "threads": options.threads, "held_to": options.cpu,
    }  # fmt: skip
    if options.cpu:
        os.environ.update({**HELD[options.cpu], "KINORA_CPU": options.cpu})
    rounds = 1 if options.quick else 3
    for name in options.only:
        say(name)
        if name == SCALING_ROW:
            row = scaling_row(options, name, 1)
        else:
            row = ROWS[name](options).measure(rounds)
        path = save(report, options.out, row)
        for line in markdown({**report, "rows": [row]}).splitlines():
            if line.startswith("| ") and not line.startswith("| Work"):
                say("  " + line)
    print(path)


if __name__ == "__main__":
    main()
