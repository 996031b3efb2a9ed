#!/usr/bin/env python3
"""`kd bench` on a card beside PyTorch, in one run: one JSON and one Markdown table.

    gpu_torch.py --kd build-gpu/kd --out build-gpu/report/bench

Both sides take turns on the same card, `--rounds` times a row; a row's time is the median of its turns, and the spread
stands
beside it.  A time is taken over many steps and one wait at their end.  What is compared:

* ViT training: bf16 activations and products, f32 master weights, AdamW, clipping, cross-entropy with soft targets.
PyTorch:
  torch.compile, scaled_dot_product_attention by the faster of its backends at this shape, fused AdamW, weights and
  gradients in
  bf16 with an f32 master copy.  That is our arithmetic and its faster form: autocast keeps the residual stream in f32
  and casts
  every weight in every step.  `--autocast` times that too, and the ratio is against the faster one.
* ViT evaluation: PyTorch compiled, bf16 weights, inference_mode.
* Clips lie on the card before the clock starts: ours are pictures of bytes, which its program normalises; PyTorch's are
bf16 and
  normalised already.
* Students: f32 without TF32 on both sides, and with TF32 on both.  PyTorch eager, eager in one CUDA graph a step
(optimiser
  included), and compiled in one graph.
* Kernels at the shapes of ViT-L.

Utilisation is 3 x forward (training) or forward FLOPs over the rate of an 8192^3 bf16 product with random data,
measured in the
same run on both sides; the larger one is the denominator.  Memory: ours is what the card lost, libraries included;
PyTorch's is
the peak of its allocator, without what its cache holds beyond.

Rows come in order of importance, and none is begun after `--budget` seconds: the next call with the same --out goes on
where this
one stopped.  Without PyTorch our side is timed alone, and the table says so.
"""

import argparse
import fnmatch
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from datetime import datetime, timezone

try:
    import torch

    if not torch.cuda.is_available():
        raise ImportError("it sees no card")
    import gpu_peers as peers
except ImportError as e:
    torch, peers, NO_TORCH = None, None, str(e)

SIZES = {"b": (768, 12, 3072), "l": (1024, 24, 4096)}
GOALS = {  # row: (least share of the matmul rate, {peer: least ratio}, largest share of the peer's memory); on an H200
    "vit-l train 32": (0.60, {"compile": 1.10}, 0.9),
    "vit-l train 64": (None, {"compile": 1.10}, 0.9),
    "vit-l eval 32": (None, {"compile": 1.10}, None),
    "sfz-nano train 64 f32": (None, {"eager": 8.0, "graph": 2.0}, None),
}


class Refused(Exception):
    """One side cannot run this row; the text says why."""


def rows(quick):
    """Key -> what `kd bench model` is asked, in order of importance."""
    out = {}

    def vit(size, phase, batch):
        out[f"vit-{size} {phase} {batch}"] = dict(
            model=f"videomae2-{size}", size=size, phase=phase, batch=batch, dtype="bf16"
        )

    def student(name, tf32):
        key = f"{name} train 64 {'tf32' if tf32 else 'f32'}"
        out[key] = dict(model=name, phase="train", batch=64, dtype="f32", tf32=tf32)

    if quick:
        vit("b", "train", 8)
        student("sfz-nano", False)
        return out
    vit("l", "train", 32)
    vit("l", "eval", 32)
    student("sfz-nano", False)
    vit("l", "train", 8)
    vit("l", "eval", 8)
    vit("l", "train", 64)
    vit("l", "eval", 64)
    student("last-v1-base", False)
    for batch in (32, 8, 64):
        vit("b", "train", batch)
        vit("b", "eval", batch)
    student("sfz-nano", True)
    student("last-v1-base", True)
    return out


# ---- our side
# ----------------------------------------------------------------------------------------------------------------


def kd(args, command, dtype, env=None):
    """One call of `kd bench`: the JSON document."""
    line = [
        args.kd,
        "bench",
        *command,
        "--device",
        args.device,
        "--dtype",
        dtype,
        "--seconds",
        str(args.seconds),
        "--json",
        "--quiet",
    ]
    done = subprocess.run(line, capture_output=True, text=True, env={**os.environ, **(env or {})}, timeout=300)
    if done.returncode != 0:
        raise Refused(" ".join(done.stderr.split())[:300] or f"exit code {done.returncode}")
    return json.loads(done.stdout)


def our_variants(row):
    """Name -> environment.  Attention's gradient sums in a fixed order by default; PyTorch's does not."""
    base = {"KD_CUDA": "tf32"} if row.get("tf32") else {}
    if row["phase"] == "train" and "size" in row:
        return {"kd": base, "kd, atomics": {"KD_CUDA": "atomics"}}
    return {"kd": base}


# ---- one row
# -----------------------------------------------------------------------------------------------------------------


def summary(times):
    """times: one median a turn."""
    return {"s": statistics.median(times), "least_s": min(times), "most_s": max(times), "turns": len(times)}


def vit_flop(size):
    """Forward of one clip, 2 a multiply-accumulate: patches, products of the blocks, attention; the head is nothing."""
    dim, depth, hidden = SIZES[size]
    tokens, patch = 1568, 3 * 2 * 16 * 16
    return 2.0 * tokens * (dim * patch + depth * (4 * dim * dim + 2 * dim * hidden + 2 * tokens * dim))


def measure(args, row):
    """Both sides in turns.  {"ours": {variant: ...}, "peer": {variant: ...}, "refused": {...}}"""
    out = {"ours": {}, "peer": {}, "refused": {}}
    command = ["model", row["model"], "--phase", row["phase"], "--batch", str(row["batch"])]
    ours, theirs = our_variants(row), {}
    times = {}
    if torch is not None:
        theirs = peers.variants(row, args)
    for turn in range(args.rounds):
        for name, env in list(ours.items()):
            release()
            try:
                got = kd(args, command, row["dtype"], env)["rows"][0]
            except (Refused, subprocess.TimeoutExpired) as e:
                out["refused"][name] = str(e)
                del ours[name]
                continue
            times.setdefault(name, []).append(got["median_s"])
            out["ours"][name] = {
                k: got[k] for k in ("device_bytes", "arena_bytes", "macs", "params", "burst") if k in got
            }
        for name in list(theirs):
            try:
                seconds, memory = theirs[name].turn(args.seconds)
            except Exception as e:  # whatever PyTorch says: the row is told without it
                out["refused"][name] = f"{type(e).__name__}: {' '.join(str(e).split())[:300]}"
                del theirs[name]
                release()
                continue
            times.setdefault(name, []).append(seconds)
            out["peer"][name] = memory
    for side in ("ours", "peer"):
        out[side] = {name: {**extra, **summary(times[name])} for name, extra in out[side].items() if name in times}
    theirs.clear()
    release(everything=True)
    if "size" in row:
        out["flop"] = vit_flop(row["size"]) * row["batch"] * (3 if row["phase"] == "train" else 1)
    return out


def release(everything=False):
    """The card's memory back from PyTorch's cache, so that the other side finds it."""
    if torch is None:
        return
    gc.collect()
    if everything:
        torch._dynamo.reset()
    torch.cuda.empty_cache()


# ---- kernels and the denominator
# ---------------------------------------------------------------------------------------------


def kernels(args):
    """({name: row}, matmul rates) of both sides."""
    doc = kd(args, ["kernels", "--batch", str(args.kernel_batch)], "bf16")
    table, matmul = {}, {}
    for r in doc["rows"]:
        name = r["name"].rsplit(", ", 1)[0]
        gflop = r["per_second"] * r["median_s"] if r.get("unit") == "GFLOP" else 0.0
        table[name] = {"ours_s": r["median_s"], "gflop": gflop}
        if name.startswith("matmul"):
            matmul["kd"] = r["per_second"] * 1e9
    if torch is not None:
        for name, s in peers.kernels(args.kernel_batch, args).items():
            table.setdefault(name, {})["peer_s"] = s
        square = table.get("matmul 8192x8192x8192", {})
        if "peer_s" in square:
            matmul["torch"] = 2.0 * 8192**3 / square["peer_s"]
    return doc, table, matmul


# ---- telling
# -----------------------------------------------------------------------------------------------------------------


def best_peer(result):
    """The fastest of PyTorch's forms."""
    return min(result["peer"], key=lambda n: result["peer"][n]["s"], default=None)


def verdicts(key, result, share):
    """Goals of the row: (text, met)."""
    if key not in GOALS:
        return []
    least, ratios, memory = GOALS[key]
    ours, out = result["ours"].get("kd"), []
    if ours is None:
        return [("did not run", False)]
    if least is not None and share is not None:
        out.append((f"{share:.0%} of matmul, goal {least:.0%}", share >= least))
    for name, goal in ratios.items():
        for peer in result["peer"]:
            if peer == name or (name == "graph" and "graph" in peer):
                ratio = result["peer"][peer]["s"] / ours["s"]
                out.append((f"{ratio:.2f}x {peer}, goal {goal}x", ratio >= goal))
    peer = best_peer(result)
    if memory is not None and peer is not None and ours.get("device_bytes"):
        part = ours["device_bytes"] / result["peer"][peer]["peak_bytes"]
        out.append((f"{part:.2f}x its memory, goal {memory}x", part <= memory))
    return out


def span(entry):
    """Median and spread in ms."""
    return f"{entry['s'] * 1e3:.3f} ({entry['least_s'] * 1e3:.3f}-{entry['most_s'] * 1e3:.3f})"


def mib(entry, field):
    return f"{entry[field] / 2**20:.0f}" if entry.get(field) else ""


def model_lines(doc):
    lines = [
        "| row | side | ms (least-most) | samples/s | of matmul | MiB | ours is faster by |",
        "|---|---|---|---|---|---|---|",
    ]
    for key, r in doc["rows"].items():
        batch, rate = int(key.split()[2]), r.get("matmul")
        sides = [(n, e, "device_bytes") for n, e in r["ours"].items()] + [
            (n, e, "peak_bytes") for n, e in r["peer"].items()
        ]
        ours = r["ours"].get("kd")
        for name, e, field in sides:
            share = f"{r['flop'] / e['s'] / rate:.1%}" if "flop" in r and rate else ""
            ratio = f"{e['s'] / ours['s']:.2f}x" if ours and name in r["peer"] else ""
            lines.append(f"| {key} | {name} | {span(e)} | {batch / e['s']:.1f} | {share} | {mib(e, field)} | {ratio} |")
        lines += [
            f"| {key} | {name} | did not run: {why.replace('|', '/')} | | | | |" for name, why in r["refused"].items()
        ]
    return lines


def kernel_lines(run):
    lines = [
        "",
        f"Kernels, bf16, {run['kernel_batch']} clips:",
        "",
        "| kernel | ours ms | TFLOP/s | of matmul | PyTorch ms | ratio |",
        "|---|---|---|---|---|---|",
    ]
    rate = max(run["matmul"].values(), default=0.0)
    for name, k in run["kernels"].items():
        if "ours_s" not in k:
            continue
        flop = k["gflop"] * 1e9 / k["ours_s"]
        told = (
            (f"{flop * 1e-12:.3g}" if k["gflop"] else "")
            + " | "
            + (f"{flop / rate:.0%}" if k["gflop"] and rate else "")
        )
        peer = f"{k['peer_s'] * 1e3:.3f} | {k['peer_s'] / k['ours_s']:.2f}x" if "peer_s" in k else " | "
        lines.append(f"| {name} | {k['ours_s'] * 1e3:.3f} | {told} | {peer} |")
    return lines


def markdown(doc, wanted):
    run = doc["runs"][-1]
    rates = ", ".join(f"{name} {rate * 1e-12:.0f} TFLOP/s" for name, rate in run["matmul"].items()) or "not measured"
    lines = [
        "## Benchmark",
        "",
        f"{run['date']}, {run['device']}; {run['peer']}; {run['kd']}.",
        "",
        f"8192^3 bf16 product in this run: {rates}; shares are of the larger. A row has the rate of its own run.",
        "",
    ]
    lines += model_lines(doc) + kernel_lines(run)
    goals = [(key, *v) for key, r in doc["rows"].items() for v in verdicts(key, r, share_of(r))]
    if goals:
        lines += ["", "| goal (set for an H200) | found | met |", "|---|---|---|"]
        lines += [f"| {key} | {text} | {'yes' if met else 'no'} |" for key, text, met in goals]
    missing = [key for key in wanted if key not in doc["rows"]]
    if missing:
        lines += ["", "Not run: " + ", ".join(missing) + "."]
    return "\n".join(lines) + "\n"


def complete(result):
    """Nothing to measure anew: both sides are there or have said why not, or there is no PyTorch here either."""
    return result is not None and bool(result["peer"] or result["refused"] or torch is None)


def share_of(result):
    ours, rate = result["ours"].get("kd"), result.get("matmul")
    return result["flop"] / ours["s"] / rate if ours and rate and "flop" in result else None


def load(path):
    try:
        with open(path, encoding="utf-8") as f:
            return json.load(f)
    except FileNotFoundError:
        return {"runs": [], "rows": {}}


def save(args, doc, wanted):
    for path, text in (
        (args.out + ".json", json.dumps(doc, indent=1) + "\n"),
        (args.out + ".md", markdown(doc, wanted)),
    ):
        with open(path + ".new", "w", encoding="utf-8") as f:
            f.write(text)
        os.replace(path + ".new", path)


def card_state():
    """Clocks, heat and power as they are now."""
    fields = "name,driver_version,clocks.sm,clocks.mem,temperature.gpu,power.draw,power.limit"
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={fields}", "--format=csv"], capture_output=True, text=True, timeout=20
        )
        return done.stdout.strip()
    except OSError:
        return "no nvidia-smi"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kd", default="build-gpu/kd", help="the program kd")
    parser.add_argument("--out", default="bench", help="OUT.json and OUT.md; rows that are there are kept")
    parser.add_argument("--budget", type=float, default=540.0, help="seconds after which no row is begun")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side, a row")
    parser.add_argument("--seconds", type=float, default=1.0, help="time of one side's turn")
    parser.add_argument("--only", default="*", help="pattern of rows, e.g. 'vit-l*'")
    parser.add_argument("--again", action="store_true", help="measure rows anew that are in OUT.json")
    parser.add_argument("--kernel-batch", type=int, default=8, help="clips in the shapes of single kernels")
    parser.add_argument("--compile-mode", default="default", choices=("default", "max-autotune-no-cudagraphs"))
    parser.add_argument("--autocast", action="store_true", help="ViT training: time PyTorch's autocast too")
    parser.add_argument("--quick", action="store_true", help="two rows, one turn")
    parser.add_argument("--device", default="cuda", help="cpu: a dry run of this script without PyTorch")
    return parser.parse_args()


def main():
    args, start = arguments(), time.monotonic()
    args.rounds = 1 if args.quick else args.rounds
    wanted = {key: row for key, row in rows(args.quick).items() if fnmatch.fnmatch(key, args.only)}
    doc = load(args.out + ".json")
    try:
        first, table, matmul = kernels(args)
    except Refused as e:
        print(f"kd bench kernels: {e}")
        return 1
    version = (
        f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
        if torch
        else f"PyTorch left out: {NO_TORCH}"
    )
    run = {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "device": first.get("device", ""),
        "peer": version,
        "kd": first["version"],
        "matmul": matmul,
        "kernels": table,
        "kernel_batch": args.kernel_batch,
        "card_before": card_state(),
    }
    if torch is not None:
        run["attention_backend"] = peers.chosen_backend()
    doc["rows"] = {
        k: r for k, r in doc["rows"].items() if r["device"] == run["device"]
    }  # of another card: not comparable
    doc["runs"].append(run)
    broken = 0
    for key, row in wanted.items():
        if complete(doc["rows"].get(key)) and not args.again:
            continue
        if time.monotonic() - start > args.budget:
            break
        result = measure(args, row)
        result.update(device=run["device"], date=run["date"], matmul=max(matmul.values(), default=None))
        doc["rows"][key] = result
        broken += any("memory" not in why.lower() for why in result["refused"].values())
        save(args, doc, wanted)
        print(
            key,
            {n: f"{e['s'] * 1e3:.3f} ms" for n, e in {**result["ours"], **result["peer"]}.items()},
            result["refused"] or "",
            flush=True,
        )
    run["card_after"] = card_state()
    save(args, doc, wanted)
    left = sum(key not in doc["rows"] for key in wanted)
    print(
        f"{len(wanted) - left} of {len(wanted)} rows, {broken} with a side that failed"
        + (f"; {left} left for another call" if left else "")
        + ("" if torch else f"; PyTorch left out: {NO_TORCH}")
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
