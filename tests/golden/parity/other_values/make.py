#!/usr/bin/env python3
"""Fixtures of the teacher in the layout of `tiny_*` and `train_traj` in which nothing has its usual value: names, scales
and offsets of weights and input, epsilons, smoothing, lambda, batch, schedule.  PyTorch in f64 and f32.

usage: make.py          writes model/ and run/ beside this file; needs torch and numpy
"""
import json
import math
import os
import struct
import sys
import zlib

import numpy
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "training"))
import models  # noqa: E402

MASK = numpy.uint64(0xFFFFFFFF)
EPS, FC_NORM_EPS = 1e-5, 1e-9
CFG = {"dim": 24, "depth": 2, "heads": 2, "patch": 8, "tubelet": 1}
CONFIG = {"img_size": 24, "patch_size": 8, "num_classes": 5, "embed_dim": 24, "depth": 2, "num_heads": 2, "mlp_ratio": 1.5,
          "qkv_bias": True, "all_frames": 3, "tubelet_size": 1, "use_mean_pooling": True, "init_values": 0.2,
          "init_scale": 1.0}


def u24(name, n):
    """The generator of tests/golden/README.md."""
    x = numpy.arange(n, dtype=numpy.uint64) * numpy.uint64(0x9E3779B1) + numpy.uint64(zlib.crc32(name.encode())) & MASK
    x ^= x >> numpy.uint64(16)
    x = x * numpy.uint64(0x85EBCA6B) & MASK
    x ^= x >> numpy.uint64(13)
    x = x * numpy.uint64(0xC2B2AE35) & MASK
    x ^= x >> numpy.uint64(16)
    return (x >> numpy.uint64(8)).astype(numpy.int64)


def fill(name, shape, scale, offset):
    v = (u24(name, math.prod(shape)) - 2 ** 23).astype(numpy.float32) * numpy.float32(2.0 ** -23) * numpy.float32(scale)
    return (v + numpy.float32(offset) if offset != 0.0 else v).reshape(shape)


def crc(v):
    return "%08x" % zlib.crc32(v.astype("<f4").tobytes())


def shapes():
    d, hidden = CFG["dim"], int(CFG["dim"] * CONFIG["mlp_ratio"])
    out = {"patch_embed.proj.weight": (d, 3, CFG["tubelet"], CFG["patch"], CFG["patch"]), "patch_embed.proj.bias": (d,)}
    for i in range(CFG["depth"]):
        block = {"gamma_1": (d,), "gamma_2": (d,), "norm1.weight": (d,), "norm1.bias": (d,), "attn.q_bias": (d,),
                 "attn.v_bias": (d,), "attn.qkv.weight": (3 * d, d), "attn.proj.weight": (d, d), "attn.proj.bias": (d,),
                 "norm2.weight": (d,), "norm2.bias": (d,), "mlp.fc1.weight": (hidden, d), "mlp.fc1.bias": (hidden,),
                 "mlp.fc2.weight": (d, hidden), "mlp.fc2.bias": (d,)}
        out.update({"blocks.%d.%s" % (i, n): s for n, s in block.items()})
    return {**out, "fc_norm.weight": (d,), "fc_norm.bias": (d,), "head.weight": (CONFIG["num_classes"], d),
            "head.bias": (CONFIG["num_classes"],)}


def weights():
    """(values, manifest entries): every second tensor is generated under another name than its own."""
    values, entries = {}, {}
    for i, (name, shape) in enumerate(shapes().items()):
        one = name.endswith("weight") and "norm" in name
        scale = numpy.float32(0.4 if one else 0.15 if len(shape) == 1 else 1.7 / math.sqrt(math.prod(shape[1:])))
        offset = numpy.float32(0.9 if one else 0.3 if "gamma" in name else 0.05 if i % 3 == 0 else 0.0)
        entry = {"shape": list(shape), "scale": float(scale), "offset": float(offset)}
        if i % 2:
            entry["gen_name"] = "other." + name
        values[name] = fill(entry.get("gen_name", name), shape, scale, offset)
        entries[name] = {**entry, "crc32": crc(values[name])}
    return values, entries


def targets(labels, smoothing, lam, dtype):
    t = torch.full((len(labels), CONFIG["num_classes"]), smoothing / CONFIG["num_classes"], dtype=dtype)
    for row, label in enumerate(labels):
        t[row, label] += 1.0 - smoothing
    return lam * t + (1.0 - lam) * t.flip(0)


def summary(name, t, other=None):
    t = t.detach().double().flatten()
    at = sorted(set(int(u) % t.numel() for u in u24("sample:" + name, 16)))
    out = {"l2": t.norm().item(), "sum": t.sum().item(), "numel": t.numel(), "idx": at, "val": t[at].tolist()}
    if other is not None:
        out["f32_maxabsdiff"] = (t - other.detach().double().flatten()).abs().max().item()
    return out


def forward(w, x, tap=lambda name, value: None):
    return models.teacher(w, CFG, x, lambda n: torch.ones(len(x), dtype=x.dtype), EPS, FC_NORM_EPS, tap)


def cross_entropy(logits, target):
    return -(target * logits.log_softmax(-1)).sum(-1).mean()


def save(path, tensors):
    head, body = {}, b""
    for name, v in tensors.items():
        v = numpy.ascontiguousarray(v)
        head[name] = {"dtype": {"float32": "F32", "float64": "F64"}[str(v.dtype)], "shape": list(v.shape),
                      "data_offsets": [len(body), len(body) + v.nbytes]}
        body += v.tobytes()
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + body)


def write(folder, name, document):
    os.makedirs(os.path.join(HERE, folder), exist_ok=True)
    with open(os.path.join(HERE, folder, name), "w") as f:
        f.write("{\n" + ",\n".join("%s: %s" % (json.dumps(k), json.dumps(v)) for k, v in document.items()) + "\n}\n")


# ---- one pass with losses and gradients -------------------------------------------------------------------------------


def one_pass(values, x, labels, lam, smoothing, dtype):
    w = {n: torch.tensor(v).to(dtype).requires_grad_() for n, v in values.items()}
    x = torch.tensor(x).to(dtype).requires_grad_()
    acts, out = {}, {"losses": {}, "grads": {}}
    out["logits"] = forward(w, x, acts.__setitem__).detach()
    out["acts"] = {n: t.detach() for n, t in acts.items()}
    for which, s, mix in (("ce", 0.0, 1.0), ("ls", smoothing, 1.0), ("soft", smoothing, lam)):
        for t in (*w.values(), x):
            t.grad = None
        loss = cross_entropy(forward(w, x), targets(labels, s, mix, dtype))
        loss.backward()
        out["losses"][which] = loss.item()
        out["grads"][which] = {n: t.grad.clone() for n, t in w.items()}
    out["input"] = x.grad.clone()
    return out


def model():
    values, entries = weights()
    batch, lam, smoothing, labels = 3, 0.35, 0.25, [4, 0, 2]
    shape = (batch, 3, CONFIG["all_frames"], CONFIG["img_size"], CONFIG["img_size"])
    x = fill("clip.of.mine", shape, 1.25, -0.3)
    wide, narrow = (one_pass(values, x, labels, lam, smoothing, d) for d in (torch.float64, torch.float32))
    grads = {k: {n: summary(n, wide["grads"][k][n], narrow["grads"][k][n]) for n in values} for k in ("soft", "ls")}
    grads["soft_input"] = summary("input", wide["input"])
    write("model", "manifest.json", {
        "case": "other_values", "config": CONFIG, "batch": batch, "ln_eps": EPS, "fc_norm_eps": FC_NORM_EPS,
        "input": {"name": "clip.of.mine", "shape": list(shape), "scale": 1.25, "offset": float(numpy.float32(-0.3)),
                  "crc32": crc(x)},
        "labels": labels, "lam": lam, "smoothing": smoothing, "losses": wide["losses"], "losses_f32": narrow["losses"],
        "act_l2": {n: t.norm().item() for n, t in wide["acts"].items() if n != "features"}, "params": entries,
        "grads": grads, "f32_logit_maxabsdiff": (wide["logits"] - narrow["logits"].double()).abs().max().item(),
        "n_params": sum(v.size for v in values.values())})
    save(os.path.join(HERE, "model", "fixture.safetensors"),
         {"logits_f64": wide["logits"].numpy(), "features": wide["acts"].pop("features").numpy().astype("f4"),
          **{"act." + n: t.numpy().astype("f4") for n, t in wide["acts"].items()}})


# ---- some steps -------------------------------------------------------------------------------------------------------

SCHEDULE = {"base_value": 4e-3, "final_value": 2e-4, "epochs": 5, "niter_per_ep": 4, "warmup_steps": 3,
            "start_warmup_value": 5e-4}
STEPS, ACCUM, SMOOTHING, LAM = 6, 2, 0.15, [0.6, 1.0, 0.25, 0.8, 0.45, 0.9]


def rate(step):
    s, total, warm = SCHEDULE, SCHEDULE["epochs"] * SCHEDULE["niter_per_ep"], SCHEDULE["warmup_steps"]
    if step < warm:
        return s["start_warmup_value"] + (s["base_value"] - s["start_warmup_value"]) * step / (warm - 1)
    half = 0.5 * (1.0 + math.cos(math.pi * (step - warm) / (total - warm)))
    return s["final_value"] + (s["base_value"] - s["final_value"]) * half


def train(values, clip, dtype):
    w = {n: torch.tensor(v).to(dtype).requires_grad_() for n, v in values.items()}
    layer = {n: 0 if n.startswith("patch") else int(n.split(".")[1]) + 1 if n.startswith("blocks") else 3 for n in w}
    groups = [{"params": [t], "factor": float(numpy.float32(0.6 ** (3 - layer[n]))),
               "weight_decay": 0.2 if t.dim() > 1 else 0.0} for n, t in w.items()]
    optimiser = torch.optim.AdamW(groups, lr=0.0, betas=(0.85, 0.97), eps=1e-7)
    ema, history = {n: t.detach().clone() for n, t in w.items()}, []
    for s in range(STEPS):
        losses = []
        for k in range(ACCUM):
            x = torch.tensor(fill("train.%d.%d.input" % (s, k), clip, 1.25, 0.1)).to(dtype)
            labels = [int(u) % CONFIG["num_classes"] for u in u24("train.%d.%d.label" % (s, k), clip[0])]
            target = targets(labels, SMOOTHING, LAM[s], dtype)
            loss = cross_entropy(forward(w, LAM[s] * x + (1.0 - LAM[s]) * x.flip(0)), target)
            (loss / ACCUM).backward()
            losses.append(loss.item())
        norm = torch.nn.utils.clip_grad_norm_(list(w.values()), 0.7).item()
        for g in groups:
            g["lr"] = rate(s) * g["factor"]
        optimiser.step()
        optimiser.zero_grad()
        for n, t in w.items():
            ema[n].mul_(0.8).add_(t.detach(), alpha=0.2)
        history.append({"lr": rate(s), "lam": LAM[s], "losses": losses, "grad_norm": norm})
    with torch.no_grad():
        logits = forward(w, torch.tensor(fill("clip.last", clip, 1.25, 0.1)).to(dtype))
    return w, ema, history, logits.tolist()


def run():
    values, entries = weights()
    clip = (4, 3, CONFIG["all_frames"], CONFIG["img_size"], CONFIG["img_size"])
    (w, ema, history, logits), narrow = train(values, clip, torch.float64), train(values, clip, torch.float32)
    write("run", "stated_schedule.json", {
        "config": CONFIG, "ln_eps": EPS, "fc_norm_eps": FC_NORM_EPS, "params": entries,
        "input": {"name": "clip.last", "scale": 1.25, "offset": float(numpy.float32(0.1))}, "clip": 0.7, "accum": ACCUM,
        "ema_decay": 0.8, "layer_decay": 0.6, "weight_decay": 0.2, "betas": [0.85, 0.97], "eps": 1e-7,
        "smoothing": SMOOTHING, "schedule": SCHEDULE, "history": history,
        "history_f32_losses": [h["losses"] for h in narrow[2]], "final": {n: summary(n, t) for n, t in w.items()},
        "ema": {n: summary(n, t) for n, t in ema.items()}, "final_eval_logits": logits,
        "final_eval_logits_f32": narrow[3]})


if __name__ == "__main__":
    model()
    run()
