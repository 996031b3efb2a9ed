"""Every row of the table of loss terms on 200 batches drawn anew, beside torch's autograd in f64.

The definitions are those of the papers that tests/golden/terms/README.md and kernels/kd_ops.h name, written row by row
for the samples that take part: a sample without a label or without an answer is left out before anything is computed.
"""
import glob
import json
import math
import os
import subprocess

import torch
import torch.nn.functional as F

import peers
from peers import BUILD, check, finish

# Of the largest number of a gradient, and of a value.  A gradient that nearly vanishes has few digits in f32: ours may
# then be 10 times as far from f64 as torch's own f32 is in its worst batch.
ALLOWED_F64, ALLOWED_F32, ALLOWED_IN = 1e-8, 1e-4, 1e-6
DTYPE = {"F64": torch.float64}


def tensors(path):
    """The tensors of a safetensors file, "7.z" as [7]["z"]."""
    with open(path, "rb") as f:
        data = bytearray(f.read())
    start = 8 + int.from_bytes(data[:8], "little")
    out = {}
    for name, t in json.loads(data[8:start]).items():
        if name != "__metadata__":
            a, b = t["data_offsets"]
            number, key = name.split(".", 1)
            v = torch.frombuffer(data[start + a:start + b], dtype=DTYPE[t["dtype"]]).reshape(t["shape"])
            out.setdefault(int(number), {})[key] = v
    return [out[i] for i in range(len(out))]


class Options(dict):
    """Options of a case; those that a definition never asks for are told."""

    def __init__(self, *args):
        super().__init__(*args)
        self.asked = set()

    def __getitem__(self, key):
        self.asked.add(key)
        return super().__getitem__(key)


# ---- what the definitions share -------------------------------------------------------------------------------------


def soft(z, temperature):
    return (z / temperature).softmax(1)


def kl(q, log_p):
    """KL of rows, 0 log 0 = 0; mean over rows."""
    return (torch.xlogy(q, q) - q * log_p).sum(1).mean()


def split(x, y):
    """Rows without entry y, and entry y."""
    keep = torch.ones_like(x, dtype=torch.bool)
    keep[torch.arange(len(x)), y] = False
    return x[keep].reshape(len(x), -1), x[torch.arange(len(x)), y]


def cosines(a, b):
    """Of all rows of a with all of b."""
    return (a @ b.T) / (a.norm(dim=1).clamp(min=1e-8)[:, None] * b.norm(dim=1).clamp(min=1e-8)[None])


def pearson(a, b):
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-8)


class Case:
    """Inputs of a term: c.z and so on are the rows that take part; c.q(T) the teacher's probabilities."""

    def __init__(self, what, t, rows):
        self.o = Options(what["options"])
        self.raw = what["raw"]
        self.z, self.s = t["z"][rows], t["s"][rows]
        self.w, self.b = t["projector"], t["bias"][0]
        self.embed = t["embed"]
        self.target, self.embed_target = t["target"][rows], t["embed_target"][rows]
        self.t, self.feature = t["teacher"][rows], t["feature"][rows]
        self.y = self.target.argmax(1)

    def q(self, temperature):
        return soft(self.t, temperature) if self.raw else self.t

    def projected(self):
        return self.s @ self.w.T + self.b


# ---- the rows of the table: the term, and which samples take part ---------------------------------------------------


def ce(c):
    return -(c.target * c.z.log_softmax(1)).sum(1).mean()


def hinton(c, temperature, q):
    return temperature**2 * kl(q, (c.z / temperature).log_softmax(1))


def dkd(c):
    """Zhao et al. 2022, equations 5 to 7."""
    t = c.o["dkd_temperature"]
    rest_q, q = split(c.q(t), c.y)
    rest_z, _ = split(c.z / t, c.y)
    log_p = (c.z / t).log_softmax(1)
    log_py = log_p[torch.arange(len(c.y)), c.y]
    log_rest = split(log_p, c.y)[0].logsumexp(1)
    target = kl(torch.stack((q, rest_q.sum(1)), 1), torch.stack((log_py, log_rest), 1))
    others = kl(rest_q / rest_q.sum(1, keepdim=True), rest_z.log_softmax(1))
    return t**2 * (c.o["dkd_alpha"] * target + c.o["dkd_beta"] * others)


def dist(c):
    """Huang et al. 2022, equations 6 to 9; the factor tau^2 is that of the authors' code."""
    t = c.o["dist_temperature"]
    p, q = soft(c.z, t), c.q(t)
    inter, intra = (1 - pearson(p, q)).mean(), (1 - pearson(p.T, q.T)).mean()
    return t**2 * (c.o["dist_beta"] * inter + c.o["dist_gamma"] * intra)


def nkd(c):
    """Yang et al. 2023, equation 9."""
    t, rows = c.o["nkd_temperature"], torch.arange(len(c.y))
    rest_q = split(c.q(t), c.y)[0]
    rest = -(rest_q / rest_q.sum(1, keepdim=True) * split(c.z / t, c.y)[0].log_softmax(1)).sum(1)
    target = -c.q(1.0)[rows, c.y] * c.z.log_softmax(1)[rows, c.y]
    return (target + c.o["nkd_gamma"] * t**2 * rest).mean()


def logit_std(c):
    """Sun et al. 2024: standardised logits, the deviation of a sample, 1e-7 beside it."""
    t = c.o["logit_std_temperature"]
    standard = lambda x: (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-7)
    return t**2 * kl(soft(standard(c.t), t), (standard(c.z) / t).log_softmax(1))


def topk(c):
    t, k, tail = c.o["topk_temperature"], c.o["topk_k"], c.o["topk_tail"]
    q = c.q(t)
    kept = torch.zeros_like(q, dtype=torch.bool).scatter(1, q.topk(k, 1).indices, True)
    r = q * kept
    if tail == "renorm":
        r = r / r.sum(1, keepdim=True)
    elif tail == "uniform" and k < q.shape[1]:
        missing = (1 - r.sum(1, keepdim=True)).clamp(min=0)
        r = torch.where(kept, r, missing / (q.shape[1] - k))
    return t**2 * kl(r, (c.z / t).log_softmax(1))


def jsd(c):
    """Lin 1991."""
    t = c.o["jsd_temperature"]
    p, q = soft(c.z, t), c.q(t)
    m = ((p + q) / 2).log()
    return t**2 * (kl(p, m) + kl(q, m)) / 2


def feature_mse(c):
    return F.mse_loss(c.projected(), c.feature)


def feature_cosine(c):
    return (1 - F.cosine_similarity(c.projected(), c.feature, dim=1)).mean()


def rkd_distance(c):
    """Park et al. 2019, equation 5, with the clamp of the authors' code."""

    def relative(x):
        off = ~torch.eye(len(x), dtype=torch.bool)
        d = ((x[:, None] - x[None])**2).sum(2)[off].clamp(min=1e-12).sqrt()
        return d / d.mean()

    n = len(c.s)
    if n < 2:
        return c.s.sum() * 0
    return F.smooth_l1_loss(relative(c.s), relative(c.feature), reduction="sum") / n**2


def rkd_angle(c):
    """Park et al. 2019, equation 8.  From a sample to its double there is no direction, and no gradient."""

    def angles(x):
        d = x[None] - x[:, None]
        same = (d == 0).all(2, keepdim=True)
        d = torch.where(same, 0.0, d / torch.where(same, 1.0, d).norm(dim=2, keepdim=True))
        return torch.einsum("ijk,ilk->ijl", d, d)

    return F.smooth_l1_loss(angles(c.s), angles(c.feature))


def sp(c):
    """Tung and Mori 2019, equations 1 to 4."""
    gram = lambda x: F.normalize(x @ x.T, dim=1)
    return ((gram(c.s) - gram(c.feature))**2).sum() / len(c.s)**2


def pkt(c):
    """Passalis and Tefas 2018, equations 4 to 8; the small numbers are those of the authors' code."""
    eps = 1e-7

    def affinities(x):
        x = x / (x.norm(dim=1, keepdim=True) + eps)
        a = (x @ x.T + 1) / 2
        return a / a.sum(1, keepdim=True)

    v, u = affinities(c.s), affinities(c.feature)
    return (u * ((u + eps) / (v + eps)).log()).mean()


def infonce(c):
    return F.cross_entropy(cosines(c.projected(), c.feature) / c.o["infonce_temperature"], torch.arange(len(c.s)))


def ib(c):
    mu, v = c.s.chunk(2, dim=1)
    return -0.5 * (1 + v - mu**2 - v.exp()).sum(1).mean()


def class_embed(c):
    scores = cosines(c.projected(), c.embed) / c.o["class_embed_temperature"]
    return -(c.embed_target * scores.log_softmax(1)).sum(1).mean()


LABELLED, TAUGHT, BOTH, EMBEDDED = ("labelled",), ("taught",), ("labelled", "taught"), ("embedded",)
TERMS = {
    "ce": (ce, LABELLED, "ce_weight"),
    "kl": (lambda c: hinton(c, c.o["temperature"], c.q(c.o["temperature"])), TAUGHT, "weight"),
    "feature_mse": (feature_mse, TAUGHT, "feature_weight"),
    "feature_cosine": (feature_cosine, TAUGHT, "feature_weight"),
    "dkd": (dkd, BOTH, "dkd_weight"),
    "dist": (dist, TAUGHT, "dist_weight"),
    "nkd": (nkd, BOTH, "nkd_weight"),
    "logit_std": (logit_std, TAUGHT, "logit_std_weight"),
    "logit_mse": (lambda c: F.mse_loss(c.z, c.t), TAUGHT, "logit_mse_weight"),
    "topk": (topk, TAUGHT, "topk_weight"),
    "jsd": (jsd, TAUGHT, "jsd_weight"),
    "rkd_distance": (rkd_distance, TAUGHT, "rkd_distance_weight"),
    "rkd_angle": (rkd_angle, TAUGHT, "rkd_angle_weight"),
    "sp": (sp, TAUGHT, "sp_weight"),
    "pkt": (pkt, TAUGHT, "pkt_weight"),
    "infonce": (infonce, TAUGHT, "infonce_weight"),
    "ib": (ib, LABELLED, "ib_weight"),
    "self": (lambda c: hinton(c, c.o["self_temperature"], soft(c.t, c.o["self_temperature"])), TAUGHT, "self_weight"),
    "mutual": (lambda c: hinton(c, c.o["mutual_temperature"], soft(c.t, c.o["mutual_temperature"])), TAUGHT,
               "mutual_weight"),
    "class_embed": (class_embed, EMBEDDED, "class_embed_weight"),
}

# ---- one case -------------------------------------------------------------------------------------------------------


def own_inputs(name, what, t):
    """Targets and mixed answers made here: how far those of the toolkit, in f32, are from them."""
    n, k = t["z"].shape
    label, perm, lam = t["label"][:, 0].long(), t["perm"][:, 0].long(), t["lam"]
    labelled, taught = t["labelled"][:, 0] > 0, t["taught"][:, 0] > 0
    mix = (lambda x: lam * x + (1 - lam) * x[perm]) if what["mixed"] else lambda x: x
    hot = torch.zeros(n, k, dtype=torch.float64)
    hot[labelled, label[labelled]] = 1.0
    target = mix(hot * (1 - what["smoothing"]) + what["smoothing"] / k)
    apart = [difference(t["target"][labelled], target[labelled])] if labelled.any() else []
    bare = taught & ~labelled
    if bare.any():
        apart.append(difference(t["embed_target"][bare], mix(soft(t["t"], 1.0))[bare]))
    temperature = [v for o, v in what["options"].items() if o.endswith("temperature")]
    answer = mix(t["t"]) if what["raw"] else mix(soft(t["t"], temperature[0] if temperature else 1.0))
    if taught.any():
        apart.append(difference(t["teacher"][taught], answer[taught]))
    return max(apart, default=0.0)


def value_of(name, what, t, leaves):
    """Weight times term; the options that the definition asked for."""
    term, needs, weight = TERMS[name]
    rows = torch.stack([t[k][:, 0] > 0 for k in needs]).all(0)
    c = Case(what, {**t, **leaves}, rows)
    factor = torch.tensor(c.o[weight], dtype=torch.float32)  # programs hold weights in f32
    value = factor.to(c.z.dtype) * (term(c) if rows.any() else c.z.sum() * 0)
    return value, c.o.asked if rows.any() else set(what["options"])


def autograd(name, what, t, dtype):
    """The loss of a case and its gradients, by torch in this dtype."""
    t = {k: v.to(dtype) for k, v in t.items()}
    leaves = {k: t[k].clone().requires_grad_() for k in ("z", "s", "projector", "bias")}
    total, asked = torch.zeros((), dtype=dtype), set()
    for term in (name, "kl") if what["pair"] else (name,):
        value, options = value_of(term, what, t, leaves)
        total, asked = total + value, asked | options
    unasked = set(what["options"]) - asked - {"feature"}  # which of two rows is on, no more
    assert not unasked, f"{name}: the definition reads no option {', '.join(sorted(unasked))}"
    total = total + 0 * sum(v.sum() for v in leaves.values())
    grads = dict(zip(leaves, torch.autograd.grad(total, list(leaves.values()))))
    return total.detach(), grads


def difference(have, want):
    """Of numbers, by the largest of them."""
    return float((have.double() - want).abs().max() / want.abs().max().clamp(min=1e-6))


def case(name, what, t):
    """Largest relative differences to torch in f64: of what went in, and of values and gradients of ours in f64, ours
    in f32 and torch in f32."""
    value, grads = autograd(name, what, t, torch.float64)
    narrow, narrow_grads = autograd(name, what, t, torch.float32)
    ours = {"z" if "f64.grad_z" in t else "s": "", **{k: k for k in ("projector", "bias") if "f64.grad_" + k in t}}
    apart = {"in": own_inputs(name, what, t)}
    for dtype in ("f64", "f32"):
        pairs = [(t[dtype + ".value"][0, 0], value)] + [(t[f"{dtype}.grad_{k}"], grads[k]) for k in ours]
        assert all(a.shape == b.shape for a, b in pairs), name
        apart[dtype] = max(difference(a, b) for a, b in pairs)
    apart["torch"] = max([difference(narrow, value)] + [difference(narrow_grads[k], grads[k]) for k in ours])
    return apart


def compare(name):
    if name not in TERMS:
        check(False, f"{name}: a row of terms.inc without a definition in losses.py")
        return
    with open(name + ".jsonl") as f:
        cases = [json.loads(line) for line in f]
    worst = {"in": 0.0, "f64": 0.0, "f32": 0.0, "torch": 0.0}
    for what, t in zip(cases, tensors(name + ".safetensors")):
        for key, v in case(name, what, t).items():
            worst[key] = max(worst[key], v if math.isfinite(v) else math.inf)
    check(worst["in"] <= ALLOWED_IN and worst["f64"] <= ALLOWED_F64 and
          worst["f32"] <= max(10 * worst["torch"], ALLOWED_F32),
          f"{name}: {len(cases)} batches, largest relative difference {worst['f64']:.2g} in f64, {worst['f32']:.2g} in "
          f"f32 (torch's own f32: {worst['torch']:.2g}); targets and answers {worst['in']:.2g}")


def main():
    print("torch", torch.__version__)
    with peers.workplace():
        subprocess.run([os.path.join(BUILD, "tests", "loss_cases"), "."], check=True)
        found = {os.path.splitext(f)[0] for f in glob.glob("*.jsonl")}
        for name in sorted(found):
            compare(name)
        gone = sorted(set(TERMS) - found)
        check(not gone, f"a row of terms.inc for each of {len(TERMS)} definitions{': ' * bool(gone)}{', '.join(gone)}")
    finish()


main()
