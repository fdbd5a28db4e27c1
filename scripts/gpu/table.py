"""One table of what torch_side.py and `kinora bench --format json` measured on a GPU.

    python table.py torch.json 'bf16=kinora-step.json' 'bf16=kinora-vae.json' 'fp8=kinora-fp8.json'

Writes benches/results/<date>-<gpu>.md and the merged .json beside it. See README.md.
"""

import argparse
import json
import re
import subprocess
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEAKS = ("fp8", "int8", "f32")  # of a side's name; everything else computes in bf16


def merge(torch, kinora):
    """Rows of both, the same work in the same row: Kinora's words for it are those of torch_side.py."""
    rows = {(row["part"], row["work"]): {**row, "sides": {}} for row in torch["rows"]}
    for row in torch["rows"]:
        rows[row["part"], row["work"]]["sides"] |= {f"diffusers {name}": side for name, side in row["sides"].items()}
    for label, report in kinora:
        for part in report["parts"]:
            key = part["part"], part["work"]
            row = rows.setdefault(key, {"part": key[0], "work": key[1], "model": None, "flops": None, "sides": {}})
            row["sides"][f"kinora {label}"] = {name: part[name] for name in part if name not in ("part", "work")}
    for row in rows.values():
        row["ratios"] = ratios(row["sides"])
        for name, side in row["sides"].items():
            if row["flops"] and "seconds" in side:
                side["tflops"] = row["flops"] / side["seconds"] / 1e12
                ceiling = torch["ceilings"].get(unit(name).lower(), {}).get("tops")
                side["of_ceiling"] = ceiling and side["tflops"] / ceiling
    return list(rows.values())


def ratios(sides):
    """Seconds of diffusers over Kinora's: plain, the fastest compiled, and the fastest of all."""
    seconds = {name: side["seconds"] for name, side in sides.items() if "seconds" in side}
    diffusers = [name for name in seconds if name.startswith("diffusers")]
    plain = [name for name in diffusers if name.split()[1] in ("eager", "bf16", "f32")]
    compiled = [name for name in diffusers if re.search("compiled|regional", name)]
    fastest = [min(names, key=seconds.get) for names in (compiled, diffusers) if names]
    against = dict.fromkeys([*plain, *fastest])
    return {
        ours: {theirs: seconds[theirs] / seconds[ours] for theirs in against}
        for ours in seconds
        if ours.startswith("kinora")
    }


def unit(side):
    """The arithmetic that a side's products are done in, by its name."""
    return next((peak for peak in PEAKS if re.search(rf"\b{peak}\b", side)), "bf16").replace("f32", "TF32")


def markdown(report):
    card = report["machine"]
    versions = {"Kinora": report["kinora"], **{key: card.get(key) for key in ("torch", "diffusers", "cuda", "cudnn")}}
    lines = [
        f"# {card['gpu']}, {report['date']}",
        "",
        ", ".join(f"{name} {value}" for name, value in versions.items() if value) + ".",
        "",
        f"Ceilings, measured: {', '.join(ceiling(*entry) for entry in report['ceilings'].items())}.",
        "",
        "Random weights, the same shapes, medians. A ratio is diffusers' seconds over Kinora's: above 1 Kinora is "
        "faster. FLOPs are counted from shapes: what every step must do, and the convolutions as they are written.",
        "",
        "| Work | Side | Seconds | TFLOP/s | Of the ceiling | Peak memory | Ratios |",
        "|---|---|---|---|---|---|---|",
    ]
    notes = []
    for row in report["rows"]:
        work = f"{row['model'] or ''} {row['part']}: {row['work']}".strip()
        shown = work
        for name, side in row["sides"].items():
            if "error" in side:
                notes.append(f"- {work}, {name}: not measured ({side['error'].splitlines()[0]}).")
            elif "picked" in side:
                notes.append(f"- {work}: PyTorch picks {side['picked']}. Attention alone: {backends(side)}.")
            else:
                lines.append(line(shown, name, side, row["ratios"]))
                shown = ""
                if "compile_seconds" in side:
                    notes.append(f"- {work}, {name}: compiled in {side['compile_seconds']:.0f} s.")
    return "\n".join([*lines, "", *notes]) + "\n"


def line(work, name, side, ratios):
    rate = f"{side['tflops']:.0f}" if side.get("tflops") else "-"
    share = f"{100 * side['of_ceiling']:.0f} % of {unit(name)}" if side.get("of_ceiling") else "-"
    memory = f"{side['peak_memory'] / 2**30:.1f} GiB" if side.get("peak_memory") else "-"
    against = "; ".join(f"{theirs} {ratio:.2f}×" for theirs, ratio in ratios.get(name, {}).items())
    broken = ", not finite" if side.get("finite") is False else ""
    return f"| {work} | {name} | {side['seconds']:.3f}{broken} | {rate} | {share} | {memory} | {against} |"


def ceiling(name, found):
    if "error" in found:
        return f"{name} not measured ({found['error'].splitlines()[0]})"
    if "tops" in found:
        return f"{name} {found['tops']:.0f} TFLOP/s"
    return f"{name} {found['gb_per_second']:.0f} GB/s, read and written"


def backends(side):
    rates = {name: f"{rate:.0f} TFLOP/s" if isinstance(rate, float) else "-" for name, rate in side["tflops"].items()}
    return ", ".join(f"{name} {rate}" for name, rate in rates.items())


def labelled(text):
    label, equals, path = text.rpartition("=")
    return (label if equals else Path(path).stem), json.loads(Path(path).read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("torch", type=Path, help="what torch_side.py wrote")
    reports = "what `kinora bench --format json` printed; the label says the arithmetic: bf16, fp8, int8, f32"
    parser.add_argument("kinora", nargs="*", type=labelled, metavar="[LABEL=]FILE", help=reports)
    parser.add_argument("--out", type=Path, default=ROOT / "benches/results")
    options = parser.parse_args()
    torch = json.loads(options.torch.read_text())
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT).stdout
    versions = sorted({report["version"] for _, report in options.kinora})
    report = {
        "date": datetime.now().date().isoformat(),
        "machine": torch["machine"],
        "kinora": " and ".join([*versions, f"commit {commit.strip()}"]),
        "ceilings": torch["ceilings"],
        "rows": merge(torch, options.kinora),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    slug = re.sub(r"[^a-z0-9]+", "-", report["machine"]["gpu"].lower()).strip("-")
    path = options.out / f"{report['date']}-{slug}.md"
    path.with_suffix(".json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    path.write_text(markdown(report))
    print(path)


if __name__ == "__main__":
    main()
