#!/usr/bin/env python3
"""Compare `kd bench` with PyTorch on the same machine, in one run, and print the ratios.

    peer_torch.py --kd build/kd model videomae2-l --dtype bf16 --threads 2
    peer_torch.py --kd build/kd kernels --dtype f32

Both sides take turns, so that a busy machine is busy for both.  Two ratios are printed, peer / ours: of the best wall
time and of the
median processor time (all threads); above 1 we are faster.  PyTorch runs eager, in inference mode for eval, with
scaled_dot_product_attention, weights in the dtype asked for.  PyTorch is needed for this comparison only; nothing of
lastkd
uses it.
"""

import argparse
import json
import statistics
import subprocess
import time

import torch
import torch.nn.functional as F
from torch import nn

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
SIZES = {"s": (384, 12, 6, 1536), "b": (768, 12, 12, 3072), "l": (1024, 24, 16, 4096)}


class Block(nn.Module):
    """Pre-norm transformer block with packed qkv."""

    def __init__(self, dim, heads, hidden):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        o = F.scaled_dot_product_attention(q, k, v)
        x = x + self.proj(o.transpose(1, 2).reshape(b, n, c))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class VideoViT(nn.Module):
    """The teacher's arithmetic: tubelet embedding, blocks, mean pooling, norm, head."""

    def __init__(self, size, classes=60):
        super().__init__()
        dim, depth, heads, hidden = SIZES[size]
        self.embed = nn.Conv3d(3, dim, (2, 16, 16), (2, 16, 16))
        self.register_buffer("position", torch.randn(1, 1568, dim))
        self.blocks = nn.ModuleList(Block(dim, heads, hidden) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(dim, eps=1e-6), nn.Linear(dim, classes)

    def forward(self, clip):
        x = self.embed(clip).flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x.mean(1)))


def timed(run, seconds, least=3):
    """Wall and processor times of runs after one untimed."""
    run()
    wall, cpu, start = [], [], time.perf_counter()
    while len(wall) < least or time.perf_counter() - start < seconds:
        w, c = time.perf_counter(), time.process_time()
        run()
        wall.append(time.perf_counter() - w)
        cpu.append(time.process_time() - c)
    return wall, cpu


def model_step(size, args):
    dtype = DTYPES[args.dtype]
    model = VideoViT(size).to(dtype)
    clip = torch.randn(args.batch, 3, 16, 224, 224, dtype=dtype)
    if args.phase == "eval":
        model.eval()

        def run():
            with torch.inference_mode():
                model(clip)

        return run
    target = torch.softmax(torch.randn(args.batch, 60), 1)
    optim = torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.05)

    def run():
        loss = F.cross_entropy(model(clip).float(), target)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optim.step()
        optim.zero_grad(set_to_none=False)

    return run


def kernel_steps(dtype):
    """Name as `kd bench kernels` prints it -> one call in PyTorch."""
    x = {c: torch.rand(1568, c, dtype=dtype) for c in (1024, 4096)}
    w = {s: torch.rand(*s, dtype=dtype) for s in ((3072, 1024), (1024, 1024), (4096, 1024), (1024, 4096))}
    bias = {c: torch.rand(c, dtype=dtype) for c in (1024, 3072, 4096)}
    q, k, v = torch.rand(3, 1, 16, 1568, 64, dtype=dtype)
    return {
        "linear qkv 1568x3072x1024": lambda: F.linear(x[1024], w[3072, 1024], bias[3072]),
        "linear proj 1568x1024x1024": lambda: F.linear(x[1024], w[1024, 1024], bias[1024]),
        "linear fc1 + GELU 1568x4096x1024": lambda: F.gelu(F.linear(x[1024], w[4096, 1024], bias[4096])),
        "linear fc2 1568x1024x4096": lambda: F.linear(x[4096], w[1024, 4096], bias[1024]),
        "linear_bwd_x fc1": lambda: x[4096] @ w[4096, 1024],
        "linear_bwd_w fc1": lambda: (x[4096].t() @ x[1024], x[4096].sum(0)),
        "attention 16 heads x 64, 1568 tokens": lambda: F.scaled_dot_product_attention(q, k, v),
        "layernorm 1568x1024": lambda: F.layer_norm(x[1024], (1024,), bias[1024], bias[1024]),
        "gelu 1568x4096": lambda: F.gelu(x[4096]),
    }


def ours(args, command):
    line = [
        args.kd,
        "bench",
        *command,
        "--device",
        "cpu",
        "--dtype",
        args.dtype,
        "--threads",
        str(args.threads),
        "--seconds",
        str(args.seconds),
        "--json",
        "--quiet",
    ]
    out = subprocess.run(line, check=True, capture_output=True, text=True).stdout
    return json.loads(out)["rows"]


def show(name, mine, peer):
    """mine, peer: lists of (best wall, median cpu), one a round."""
    m, p = min(t for t, _ in mine), min(t for t, _ in peer)
    mc, pc = statistics.median(c for _, c in mine), statistics.median(c for _, c in peer)
    print(f"{name:44} {m * 1e3:10.3f} {p * 1e3:10.3f} {p / m:7.2f}  {mc * 1e3:10.3f} {pc * 1e3:10.3f} {pc / mc:7.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("model", "kernels"))
    parser.add_argument("name", nargs="?", default="videomae2-l")
    parser.add_argument("--kd", default="build/kd", help="the program kd")
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="f32")
    parser.add_argument("--phase", choices=("eval", "train"), default="eval")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side")
    parser.add_argument("--seconds", type=float, default=1.0, help="time of one side's turn, a row")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"PyTorch {torch.__version__}, {args.threads} threads, {args.dtype}, {args.rounds} rounds")
    print(f"{'':44} {'ours ms':>10} {'peer ms':>10} {'ratio':>7}  {'ours cpu':>10} {'peer cpu':>10} {'ratio':>7}")
    mine, peer = {}, {}
    if args.what == "kernels":
        steps, command = kernel_steps(DTYPES[args.dtype]), ["kernels"]
    else:
        size = args.name.removeprefix("videomae2-")
        if size not in SIZES:
            parser.error(f"no peer for model {args.name}; videomae2-s, -b and -l have one")
        steps = {args.name: model_step(size, args)}
        command = ["model", args.name, "--phase", args.phase, "--batch", str(args.batch)]
    for _ in range(args.rounds):
        for row in ours(args, command):
            name = args.name if args.what == "model" else row["name"].rsplit(", ", 1)[0]
            mine.setdefault(name, []).append((row["best_s"], row["cpu_s"]))
        for name, run in steps.items():
            wall, cpu = timed(run, args.seconds)
            peer.setdefault(name, []).append((min(wall), statistics.median(cpu)))
    for name in steps:
        show(name, mine[name], peer[name])


if __name__ == "__main__":
    main()
