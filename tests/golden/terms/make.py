#!/usr/bin/env python3
"""Writes pkt.json, jsd.json, ib.json, class_embed.json and combine.json beside itself.  Needs PyTorch.

The inputs are those of the other files (README.md).  The formulas are those of the papers; PKT has the small numbers of
its authors' code.
"""
import json
import math
import os
import zlib

import torch

B, K, S, P = 6, 11, 8, 12
M = 0xFFFFFFFF


def u24(name, i):
    """The generator of ../README.md."""
    x = (i * 0x9E3779B1 + zlib.crc32(name.encode())) & M
    x ^= x >> 16
    x = (x * 0x85EBCA6B) & M
    x ^= x >> 13
    x = (x * 0xC2B2AE35) & M
    x ^= x >> 16
    return x >> 8


def draw(name, rows, columns, scale):
    out = [(u24(name, i) - 8388608) * 2.0**-23 for i in range(rows * columns)]
    return (torch.tensor(out, dtype=torch.float32) * scale).reshape(rows, columns)


def jsd(z, t, temperature):
    p, q = (z / temperature).softmax(1), (t / temperature).softmax(1)
    m = (p + q) / 2
    kl = lambda x: (x * (x.log() - m.log())).sum(1)
    return temperature**2 * (0.5 * (kl(p) + kl(q))).mean()


def affinities(x, eps):
    x = x / (x.pow(2).sum(1, keepdim=True).sqrt() + eps)
    s = (x @ x.t() + 1) / 2
    return s / s.sum(1, keepdim=True)


def pkt(s, f, eps=1e-7):
    v, u = affinities(s, eps), affinities(f, eps)
    return (u * ((u + eps) / (v + eps)).log()).mean()


def bottleneck(x, _):
    mu, v = x.chunk(2, dim=1)
    return -0.5 * (1 + v - mu**2 - v.exp()).sum(dim=1).mean()


def class_embed(smoothing, temperature):
    """A case of class_embed; with gradients of the projector, whose bias is 0."""
    labels = torch.tensor([u24("label", b) % K for b in range(B)])
    target = torch.full((B, K), smoothing / K, dtype=torch.float64)
    target[range(B), labels] += 1.0 - smoothing
    result = {}
    for dtype in (torch.float64, torch.float32):
        s, w, e = (draw(n, r, c, x).to(dtype) for n, r, c, x in (("student.features", B, S, 1.0),
                   ("projector.weight", P, S, 0.5), ("class.embeddings", K, P, 1.0)))
        s.requires_grad_(), w.requires_grad_()
        cosines = torch.nn.functional.cosine_similarity((s @ w.t())[:, None], e[None], dim=2)
        value = -(target.to(dtype) * (cosines / temperature).log_softmax(1)).sum(1).mean()
        result[dtype] = (value.item(), *torch.autograd.grad(value, (s, w)))
    value, grad, projector = result[torch.float64]
    return {
        "name": f"class_embed_T{temperature}_s{smoothing}",
        "options": ["kd.class_embed_weight=1", "kd.class_embed=e.npz", f"kd.class_embed_temperature={temperature}"],
        "smoothing": smoothing,
        "value": value,
        "value_f32": result[torch.float32][0],
        "grad_f32_maxabsdiff": max((a - b.double()).abs().max().item()
                                   for a, b in zip(result[torch.float64][1:], result[torch.float32][1:])),
        "grad": grad.flatten().tolist(),
        "grad_projector": projector.flatten().tolist(),
    }


def case(name, options, loss, a, b):
    result = {}
    for dtype in (torch.float64, torch.float32):
        x = a.to(dtype).requires_grad_()
        value = loss(x, b.to(dtype))
        (grad,) = torch.autograd.grad(value, x)
        result[dtype] = (value.item(), grad)
    value, grad = result[torch.float64]
    return {
        "name": name,
        "options": options,
        "smoothing": 0.0,
        "value": value,
        "value_f32": result[torch.float32][0],
        "grad_f32_maxabsdiff": (grad - result[torch.float32][1].double()).abs().max().item(),
        "grad": grad.flatten().tolist(),
    }


WEIGHTS = [1.0, 3.0, 0.5]
HAS = [[1, 1, 1], [1, 1, 1], [0, 1, 1], [1, 0, 0], [1, 1, 1], [0, 1, 0]]  # [sample][store]


def combine(how, temperature, weights):
    """Three stores as one teacher: probabilities [sample, class].  The sample with number 4 has no label."""
    z = [draw(f"store.{s}", B, K, 2.0 + s).double() for s in range(3)]
    labels = [u24("label", b) % K for b in range(B)]
    labels[0] = int(z[1][0].argmax())  # one store knows the label
    labels[1] = int((sum(z[s][1] for s in range(3))).argmin())  # none does
    labels[4] = -1
    rows = []
    for b in range(B):
        w = torch.tensor([weights[s] * HAS[b][s] for s in range(3)], dtype=torch.float64)
        q = torch.stack([x[b].softmax(0) for x in z])
        gate = torch.ones(3, dtype=torch.float64)
        if how == "confidence":
            gate = q.max(1).values
        elif how == "entropy":
            gate = 1.0 - torch.distributions.Categorical(probs=q).entropy() / math.log(K)
        elif how == "correctness" and labels[b] >= 0:
            gate = (q.argmax(1) == labels[b]).double()
        w = w * gate if (w * gate).sum() > 0 else w
        rows.append((w / w.sum()) @ torch.stack([(x[b] / temperature).softmax(0) for x in z]))
    return {"how": how, "temperature": temperature, "weights": weights, "labels": labels,
            "p": torch.stack(rows).flatten().tolist()}


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    z, t = draw("student.logits", B, K, 3.0), draw("teacher.logits", B, K, 5.0)
    s, f = draw("student.features", B, S, 1.0), draw("teacher.features", B, P, 1.0)
    files = {
        "jsd": [
            case(f"jsd_T{n}", ["kd.jsd_weight=1", f"kd.jsd_temperature={n}"], lambda a, b, n=n: jsd(a, b, n), z, t)
            for n in (1, 4)
        ],
        "ib": [case("ib", ["kd.ib_weight=1"], bottleneck, s, f)],
        "combine": [combine(how, t, w) for how, t, w in (("average", 1.0, [1.0] * 3), ("average", 4.0, WEIGHTS),
                                                         ("confidence", 4.0, WEIGHTS), ("entropy", 2.0, WEIGHTS),
                                                         ("correctness", 4.0, WEIGHTS))],
        "class_embed": [class_embed(0.0, 0.07), class_embed(0.1, 0.5)],
        "pkt": [case("pkt", ["kd.pkt_weight=1"], pkt, s, f)],
    }
    for name, cases in files.items():
        with open(os.path.join(here, name + ".json"), "w") as out:
            json.dump(cases, out, indent=1)
            out.write("\n")


main()
