#!/usr/bin/env python3
"""Writes cutmix.json beside itself: LAST's temporal CutMix, run from the text of its trainer.

    python3 make_cutmix.py LAST/src/training/trainer.py      # needs torch, numpy

The lines from the draw of the permutation to the mixed targets are taken out of the file and run with given draws:
lambda, the first frame, the permutation.  Sequences are whole numbers: x[b, c, t, v, m] of stream s is
1000 b + 100 s + 10 t + c + 2 v + m.
"""
import json
import os
import sys
import textwrap
import types

import torch
import torch.nn.functional as F

B, C, V, M, CLASSES = 4, 2, 2, 1, 3
CASES = [(8, 0.5, 2), (8, 0.99, 7), (8, 0.0, 0), (8, 0.31, 1), (5, 0.7, 3), (64, 0.123, 5)]  # frames, lambda, first frame


def body(path):
    lines = open(path).read().split("\n")
    first = next(i for i, l in enumerate(lines) if "perm = torch.randperm" in l)
    last = next(i for i, l in enumerate(lines) if i > first and l.strip().startswith("mixed_target = "))
    return textwrap.dedent("\n".join(lines[first:last + 1]))


def stream(s, frames):
    b, c, t, v, m = (torch.arange(n).reshape([-1 if i == k else 1 for i in range(5)])
                     for k, n in enumerate((B, C, frames, V, M)))
    return (1000 * b + 100 * s + 10 * t + c + 2 * v + m).float()


def run(code, frames, lam, start):
    perm = torch.tensor([2, 0, 3, 1])
    bounds = []

    def randint(low, high):
        bounds.append(high - low)
        return start

    random = types.SimpleNamespace(rand=lambda: 0.0, beta=lambda a, b: lam, randint=randint)
    names = {"np": types.SimpleNamespace(random=random), "F": F, "B": B, "num_classes": CLASSES,
             "torch": types.SimpleNamespace(randperm=lambda n, device: perm),
             "self": types.SimpleNamespace(cutmix_prob=1.0, cutmix_alpha=1.0, mixup_alpha=0.0, device="cpu"),
             "batch_data": {"joint": stream(0, frames), "velocity": stream(1, frames)},
             "batch_labels": torch.tensor([0, 1, 2, 1])}
    exec(code, names)
    return {"frames": frames, "lam": lam, "start": start, "starts": bounds[0], "cut": names["cut_len"],
            "left": names["lam_real"], "perm": perm.tolist(),
            "joint": names["batch_data"]["joint"].flatten().int().tolist() if frames < 64 else [],
            "velocity": names["batch_data"]["velocity"].flatten().int().tolist() if frames < 64 else [],
            "target": names["mixed_target"].flatten().tolist()}


def main():
    code = body(sys.argv[1])
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "cutmix.json"), "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(run(code, *c)) for c in CASES) + "\n]\n")


if __name__ == "__main__":
    main()
