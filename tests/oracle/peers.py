"""What the comparisons with other code share."""
import json
import math
import os
import struct
import subprocess
import sys
import tempfile
import zlib

import numpy as np

BUILD, SOURCE = sys.argv[1], sys.argv[2]
GIVEN = dict(a.split("=", 1) for a in sys.argv[3:])
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHAPE = dict(size=32, patch=8, frames=8, tubelet=2, dim=48, depth=3, heads=4, mlp=96, classes=7)
failures = 0


def check(ok, what):
    global failures
    print(("ok      " if ok else "FAILED  ") + what, flush=True)
    failures += not ok


def close(what, got, want, allowed):
    difference = float(np.abs(np.asarray(got, np.float64) - np.asarray(want, np.float64)).max())
    check(difference <= allowed, f"{what}: largest difference {difference:.3g}, allowed {allowed:.3g}")


def finish():
    sys.exit(1 if failures else 0)


def workplace():
    folder = tempfile.TemporaryDirectory(dir=os.path.join(BUILD, "tests"))
    os.chdir(folder.name)
    return folder


def run(program, *args, code=0):
    p = subprocess.run([os.path.join(BUILD, program), *args], capture_output=True, text=True)
    if p.returncode != code:
        sys.exit(f"{program} {' '.join(args)}: exit code {p.returncode}, expected {code}\n{p.stdout}{p.stderr}")
    return p.stdout + p.stderr


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_png(path, picture):
    h, w, _ = picture.shape
    rows = b"".join(b"\0" + picture[y].tobytes() for y in range(h))
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)) +
                chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def make_clip(folder, frames, size, seed=0):
    """A folder of pictures without loss, as a video; returns it normalised: (3, frames, size, size)."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, (frames, size, size, 3), dtype=np.uint8)
    os.makedirs(folder)
    for i, picture in enumerate(pictures):
        write_png(os.path.join(folder, f"img_{i + 1:05d}.png"), picture)
    v = (pictures.astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
    return np.ascontiguousarray(v.transpose(3, 0, 1, 2))


# How the pictures are taken from the folder: all of them, as they are.  None of these keys is about the model.
VIEW = ["--set", "video.sampler=uniform_linspace", "--set", "eval.clips=1", "--set", "eval.crops=1", "--threads", "1"]


def recipe(path, s=SHAPE, **more):
    """A recipe of these sizes."""
    lines = {"variant": "custom", "img_size": s["size"], "patch": s["patch"], "frames": s["frames"],
             "tubelet": s["tubelet"], "dim": s["dim"], "depth": s["depth"], "heads": s["heads"],
             "mlp_hidden": s["mlp"], **more}
    with open(path, "w") as f:
        json.dump({"kind": "teacher", "name": "oracle", "teacher": lines}, f)
    return path


def logits(weights, clip, classes, *options):
    """Logits of `teacher predict` up to a constant: the logarithms of the probabilities."""
    text = run("teacher", "predict", "--weights", weights, "--json", "--top", str(classes), "-q", *VIEW, *options, clip)
    top = json.loads(text.strip().splitlines()[-1])["top"]
    v = np.zeros(classes)
    for t in top:
        v[t["class"]] = math.log(t["probability"])
    return v


def log_softmax(v):
    v = np.asarray(v, np.float64)
    return v - v.max() - math.log(np.exp(v - v.max()).sum())


def draw(model, seed=1):
    """Values that a wrong name, order or transposition would show: every parameter differs."""
    import torch
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            norm = "norm" in name and name.endswith("weight")
            p.copy_((1.0 if norm else 0.0) + 0.15 * torch.randn(p.shape, generator=g))
    return model.eval()
