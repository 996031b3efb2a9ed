#!/usr/bin/env python3
"""Golden numbers of `teacher finetune` and `distill train`: the same runs in PyTorch, in f64 and in f32.

usage: make.py BUILD        BUILD: a folder with the programs; needs torch, numpy and yaml

The programs give what a run starts with (their random weights, their store of logits); data, draws, models, loss,
schedule and optimiser are computed here.  teacher.json and student.json get what a step logs and where the weights end;
student_few.json is the student's run without the labels of data/unlabelled.txt and with a second term that reads labels
and answers (FEW), student_self.json the one that learns from its own running average, too (SELF), student_mutual.json
and student_mutual_2.json two students that learn from each other (MUTUAL, PEER). Each number has a
tolerance: 16 times what PyTorch's own f32 run differs from its f64 run, and no less than 2^-18 of the largest magnitude
(of a running mean: of the deviation beside it).
"""
import json
import math
import os
import struct
import subprocess
import sys
import tempfile

import numpy
import torch
import yaml

import draws
import inputs
import models

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "data")
STORE = os.path.join(HERE, "teacher.logits.zst")
FIRST = {"teacher": "teacher finetune", "student": "distill train"}
MARGIN, FLOOR, SAMPLES = 16.0, 2.0 ** -18, 8
SELF = {"self_weight": 0.5, "self_temperature": 2.0, "self_warmup_epochs": 2}  # keys of kd
DECAY = 0.8  # optim.ema_decay of that run
MUTUAL = {"mutual_weight": 0.5, "mutual_temperature": 2.0, "mutual_warmup_epochs": 2}  # keys of kd
PEER = {"drop_path": 0.2, "base_lr": 0.9, "init_seed": 11}  # of the second student of that run
FEW = {"dkd_weight": 0.2, "dkd_temperature": 3.0, "dkd_alpha": 1.0, "dkd_beta": 2.0}  # keys of kd


# ---- what the programs give -------------------------------------------------------------------------------------------


def safetensors(path):
    with open(path, "rb") as f:
        size, = struct.unpack("<Q", f.read(8))
        head, body = json.loads(f.read(size)), f.read()
    return {name: torch.tensor(numpy.frombuffer(body[slice(*t["data_offsets"])], "<f4").reshape(t["shape"]).copy())
            for name, t in head.items() if name != "__metadata__"}


def program(build, *words):
    subprocess.run([os.path.join(build, words[0]), *words[1:], "-q"], check=True, stdout=subprocess.DEVNULL)


def peer_text(base_lr):
    return "mutual=[{student: last-e3-nano, dropout: 0, drop_path: %g, base_lr: %g, init_seed: %d}]" % (
        PEER["drop_path"], base_lr, PEER["init_seed"])


def start_weights(build, kind, folder, peer=None):
    """The weights of a run whose rate is so small that no f32 weight moves; running statistics as they start."""
    out = os.path.join(folder, kind)
    words = FIRST[kind].split() + ["--config", os.path.join(HERE, kind + ".yaml"), "--data", DATA, "--out", out,
                                   "--epochs", "3", "--set", "optim.base_lr=1e-30", "--set", "optim.min_lr=0", "--set",
                                   "optim.warmup_start_lr=0"]
    words += ["--set", peer_text(1e-30)] if peer is not None else []
    program(build, *words, *(["--teacher-logits", STORE] if kind == "student" else []))
    w = safetensors(os.path.join(out, *([peer] if peer else []), "checkpoints", "last", "model.safetensors"))
    for name in w:
        if "running_" in name:
            w[name].fill_(1.0 if name.endswith("var") else 0.0)
    return w


def make_store(build, folder):
    """A teacher that has learned for some epochs answers for all samples."""
    run = os.path.join(folder, "run")
    program(build, "teacher", "finetune", "--config", os.path.join(HERE, "teacher.yaml"), "--data", DATA, "--out", run,
            "--epochs", "40")
    if os.path.exists(STORE):
        os.remove(STORE)
    program(build, "teacher", "dump-logits", "--weights", os.path.join(run, "checkpoints", "last"), "--data", DATA,
            "--split", "train,val", "--logits", "f32", "--out", STORE)


def stored_logits(build, folder):
    path = os.path.join(folder, "store.npz")
    program(build, "kd", "logits", "export", STORE, "--out", path)
    z = numpy.load(path)
    ids = [i.decode() if isinstance(i, bytes) else str(i) for i in z["ids"]]
    return {i: torch.tensor(numpy.float64(z["logits"].reshape(len(ids), -1)[k])) for k, i in enumerate(ids)}


# ---- data -------------------------------------------------------------------------------------------------------------


def clip(cfg, sample, label):
    """(3,T,H,W): frames spread over the whole video, normalised with ImageNet's mean and deviation."""
    n = inputs.VIDEO_FRAMES
    at = numpy.linspace(0, n - 1, cfg["frames"]).astype(int)
    rgb = numpy.array([inputs.picture(sample, label, int(t)) for t in at], numpy.float64)
    rgb = rgb.reshape(len(at), inputs.SIDE, inputs.SIDE, 3)
    rgb = (rgb / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return torch.tensor(rgb.transpose(3, 0, 1, 2))


def sequence(sample, label):
    """(3,T,V)"""
    x = [[inputs.joint(sample, label, t, j) for j in range(inputs.JOINTS)] for t in range(inputs.SKELETON_FRAMES)]
    return torch.tensor(numpy.float32(numpy.array(x).transpose(2, 0, 1) / 100.0).astype(numpy.float64))


# ---- a run ------------------------------------------------------------------------------------------------------------


class Run:
    def __init__(self, kind, weights, answers, dtype, few=False, average=False):
        with open(os.path.join(HERE, kind + ".yaml")) as f:
            self.cfg = yaml.safe_load(f)
        self.unlabelled = set(inputs.UNLABELLED) if few else set()
        if few:
            self.cfg["kd"].update(FEW)
        self.kind, self.answers, self.dtype = kind, answers, dtype
        self.seed, self.rows = self.cfg["train"]["seed"], self.cfg["train"]["batch_size"]
        self.own_seed, self.others = self.seed, []  # of drop path; students whose answers this one learns from
        self.accumulation, self.epochs = self.cfg["optim"]["accumulation"], self.cfg["train"]["epochs"]
        train = [(i, name, label) for i, (name, label, t) in enumerate(inputs.SAMPLES) if t]
        self.train = sorted(train, key=lambda s: s[1])
        self.steps = len(train) // self.rows // self.accumulation
        self.batches = self.steps * self.accumulation
        self.w = {n: t.to(dtype).requires_grad_("running_" not in n) for n, t in weights.items()}
        self.average = {n: t.detach().clone() for n, t in self.w.items()} if average else None
        self.optimiser = self.make_optimiser()
        self.program_run, self.log = 0, []

    def layer_factor(self, name):
        depth = self.cfg["teacher"]["depth"]
        layer = 0 if name.startswith("patch_embed") else int(name.split(".")[1]) + 1 if name.startswith("blocks.") else depth + 1
        return self.cfg["optim"]["layer_decay"] ** (depth + 1 - layer)

    def decays(self, name, t):
        """VideoMAE: all but vectors and biases.  LAST-E: all but the names on its list."""
        if self.kind == "teacher":
            return t.dim() > 1 and not name.endswith(".bias")
        return not any(part in name for part in ("bias", "bn", "norm", "alpha", "A_learned", "node_proj", "refine_gate",
                                                 "pool_gate", "freq_gate", "edge", "stream_weights"))

    def make_optimiser(self):
        o, groups = self.cfg["optim"], []
        for name, t in self.w.items():
            if t.requires_grad:
                factor = self.layer_factor(name) if self.kind == "teacher" else 1.0
                groups.append({"params": [t], "factor": float(numpy.float32(factor)),
                               "weight_decay": o["weight_decay"] if self.decays(name, t) else 0.0})
        if o["name"] == "adamw":
            return torch.optim.AdamW(groups, lr=0.0, betas=tuple(o["betas"]), eps=1e-8)
        return torch.optim.SGD(groups, lr=0.0, momentum=o["momentum"], nesterov=o["nesterov"])

    def rate(self, epoch, step):
        """Peak x batch x accumulation / 256; linear warm-up, then half a cosine, by step or by epoch."""
        o = self.cfg["optim"]
        scale = self.rows * self.accumulation / 256.0
        top, low, start = (o[k] * scale for k in ("base_lr", "min_lr", "warmup_start_lr"))
        if o["schedule"] == "cosine_step":
            at, warm, end = step, o["warmup_steps"], self.epochs * self.steps
            share = at / (warm - 1)
        else:
            at, warm, end = epoch, o["warmup_epochs"], self.epochs
            share = at / warm
        if at < warm:
            return start + (top - start) * share
        return low + (top - low) * 0.5 * (1.0 + math.cos(math.pi * (at - warm) / (end - warm)))

    def keep(self, rows):
        """Factors of drop path: the models number their draws of dropout and drop path alike."""
        if self.kind == "teacher":
            rates = models.path_rates(self.cfg["teacher"]["drop_path"], self.cfg["teacher"]["depth"])
            p, ids = lambda n: rates[n // 2], lambda n: 3 + 2 * n  # 1 after the patches; then attention, path, MLP, path
        else:
            rates = models.path_rates(self.cfg["student"]["drop_path"], 3)
            p, ids = lambda n: rates[n], lambda n: 1 + n
        self.dropped = []

        def factor(n):
            mask = draws.kept(self.own_seed, ids(n), self.program_run, rows, p(n))
            self.dropped.append(mask)
            return torch.tensor(mask, dtype=self.dtype) / (1.0 - p(n))

        return factor

    def mixed(self, x, partner, lam, box=(0, 0, 0, 0)):
        top, left, height, width = box
        if height * width > 0:
            y = x.clone()
            y[..., top:top + height, left:left + width] = x[partner][..., top:top + height, left:left + width]
            return y
        if self.unlabelled:  # rows without a label are mixed among themselves: a share a row
            lam = torch.tensor(lam, dtype=self.dtype).reshape(-1, *[1] * (x.dim() - 1))
            return lam * x + (1.0 - lam) * x[partner]
        return x if lam == 1.0 else lam * x + (1.0 - lam) * x[partner]

    def terms(self, epoch, batch, chosen):
        """{name: (term, weight)} of a micro-batch."""
        cfg, rows = self.cfg, len(chosen)
        side = inputs.SIDE if self.kind == "teacher" else 0
        mixup = {"partner": "flip", **cfg["mixup"]}
        partner, lam, box = draws.mixture(mixup, self.seed, epoch, batch, rows, side)
        labelled = torch.tensor([name not in self.unlabelled for _, name, _ in chosen])
        if self.unlabelled:
            lam = [lam if labelled[r] == labelled[p] else 1.0 for r, p in enumerate(partner)]
        smoothing, classes = cfg["label_smoothing"], inputs.CLASSES
        target = torch.full((rows, classes), smoothing / classes, dtype=self.dtype)
        for r, (_, _, label) in enumerate(chosen):
            target[r, label] += 1.0 - smoothing
        target = self.mixed(target, partner, lam)
        if self.kind == "teacher":
            x = torch.stack([clip(cfg["teacher"], i, label) for i, _, label in chosen]).to(self.dtype)
            logits = models.teacher(self.w, cfg["teacher"], self.mixed(x, partner, lam, box), self.keep(rows))
        else:
            x = torch.stack([sequence(i, label) for i, _, label in chosen]).to(self.dtype)
            x = [self.mixed(s, partner, lam) for s in models.streams(x)]
            logits = models.student(self.w, x, self.keep(rows))
        self.draws.append({"ids": [name for _, name, _ in chosen], "partner": partner, "lambda": lam, "box": box,
                           "kept": self.dropped})
        ce = self.labelled_mean(-(target * logits.log_softmax(-1)).sum(-1), labelled)
        if self.kind == "teacher":
            return {"loss_ce": (ce, 1.0)}
        kd = cfg["kd"]
        t, share = kd["temperature"], (epoch + batch / self.batches) / self.epochs
        p = torch.stack([self.answers[name] for _, name, _ in chosen]).to(self.dtype)
        p = self.mixed((p / t).softmax(-1), partner, lam)
        kl = t * t * (p * (p.log() - (logits / t).log_softmax(-1))).sum(-1).mean()
        terms = {"loss_ce": (ce, kd["ce_weight"]), "loss_kd": (kl, kd["weight"] * 0.5 * (1.0 + math.cos(math.pi * share)))}
        if self.average is not None:
            with torch.no_grad():
                z = models.student(self.average, x, lambda stage: torch.ones(rows, dtype=self.dtype), False)
            t, now = SELF["self_temperature"], epoch + batch / self.batches
            p, ramp = (z / t).softmax(-1), min(now / SELF["self_warmup_epochs"], 1.0)
            own = t * t * (p * (p.log() - (logits / t).log_softmax(-1))).sum(-1).mean()
            terms["loss_self"] = (own, SELF["self_weight"] * ramp)
        self.shown = logits
        if self.unlabelled:
            terms["loss_dkd"] = (self.labelled_mean(self.dkd(logits, p, target), labelled), kd["dkd_weight"])
        return terms

    def labelled_mean(self, rows, labelled):
        """Over the rows that have a label; 0 without one."""
        return rows[labelled].mean() if labelled.any() else rows.sum() * 0.0

    def dkd(self, logits, p, target):
        """Row by row; p: the teacher's (mixed) probabilities at the temperature, which is that of the KL term, too."""
        kd = self.cfg["kd"]
        t, y = kd["dkd_temperature"], target.argmax(-1, keepdim=True)
        q = (logits / t).softmax(-1)
        py, qy = p.gather(1, y), q.gather(1, y)
        first = py * (py / qy).log() + (1.0 - py) * ((1.0 - py) / (1.0 - qy)).log()
        rest = torch.ones_like(p).scatter(1, y, 0.0).bool()
        ph, qh = (x[rest].reshape(len(x), -1) for x in (p / (1.0 - py), q / (1.0 - qy)))
        return t * t * (kd["dkd_alpha"] * first[:, 0] + kd["dkd_beta"] * (ph * (ph / qh).log()).sum(-1))

    def learn_from_others(self, terms, epoch, batch):
        """All answers are of the weights before the step; equation 8 of deep mutual learning."""
        t, now = MUTUAL["mutual_temperature"], epoch + batch / self.batches
        ramp = min(now / MUTUAL["mutual_warmup_epochs"], 1.0)
        for other in self.others:
            p, q = ((z / t).log_softmax(-1) for z in (other.shown.detach(), self.shown))
            kl = t * t * (p.exp() * (p - q)).sum(-1).mean()
            terms["loss_mutual"] = (kl, MUTUAL["mutual_weight"] * ramp / len(self.others))

    def begin(self):
        self.line, self.draws = {"loss": 0.0}, []
        self.optimiser.zero_grad()

    def backward(self, terms):
        loss = sum(t * weight for t, weight in terms.values())
        (loss / self.accumulation).backward()
        self.line["loss"] += loss.item() / self.accumulation
        for name, (t, _) in terms.items():
            self.line[name] = self.line.get(name, 0.0) + t.item() / self.accumulation
        self.program_run += 1

    def update(self, epoch, step):
        parameters = [t for t in self.w.values() if t.requires_grad]
        self.line["lr"] = self.rate(epoch, step)
        self.line["grad_norm"] = torch.nn.utils.clip_grad_norm_(parameters, self.cfg["optim"]["clip_grad"]).item()
        for group in self.optimiser.param_groups:
            group["lr"] = self.line["lr"] * group["factor"]
        self.optimiser.step()
        for name, t in (self.average or {}).items():
            t.mul_(DECAY).add_(self.w[name].detach(), alpha=1.0 - DECAY)
        self.log.append((self.line, self.draws))

    def step(self, epoch, step, order):
        students = [self, *self.others]
        for s in students:
            s.begin()
        for micro in range(self.accumulation):
            batch = step % self.steps * self.accumulation + micro
            chosen = [self.train[i] for i in order[batch * self.rows:(batch + 1) * self.rows]]
            terms = [s.terms(epoch, batch, chosen) for s in students]
            for s, t in zip(students, terms):
                s.learn_from_others(t, epoch, batch)
            for s, t in zip(students, terms):
                s.backward(t)
        for s in students:
            s.update(epoch, step)

    def run(self):
        for epoch in range(self.epochs):
            order = draws.order(self.seed, epoch, len(self.train))
            for s in range(self.steps):
                self.step(epoch, epoch * self.steps + s, order)
        return self


# ---- golden numbers ---------------------------------------------------------------------------------------------------


def text(node):
    """JSON: a line for each step and each tensor, ten digits a number."""

    def short(v):
        if isinstance(v, dict):
            return {k: short(m) for k, m in v.items()}
        if isinstance(v, (list, tuple)):
            return [short(m) for m in v]
        return float("%.10g" % v) if isinstance(v, float) else v

    node = short(node)
    steps = ",\n".join(json.dumps(s) for s in node.pop("steps"))
    weights = ",\n".join("%s: %s" % (json.dumps(n), json.dumps(t)) for n, t in node.pop("weights").items())
    return '%s,\n"steps": [\n%s\n],\n"weights": {\n%s\n}}\n' % (json.dumps(node)[:-1], steps, weights)


def tolerance(wide, narrow, largest):
    return max(MARGIN * max(abs(a - b) for a, b in zip(wide, narrow)), FLOOR * largest)


def golden(exact, single):
    keys = list(exact.log[0][0])
    columns = {k: [line[k] for line, _ in exact.log] for k in keys}
    allowed = {k: tolerance(columns[k], [line[k] for line, _ in single.log], max(map(abs, columns[k]))) for k in keys}
    steps = [{**line, "draws": d} for line, d in exact.log]
    tensors = {}
    for name, t in exact.w.items():
        a, b = t.detach().flatten(), single.w[name].detach().double().flatten()
        at = [i * (a.numel() - 1) // max(SAMPLES - 1, 1) for i in range(SAMPLES)] if a.numel() > SAMPLES else list(range(a.numel()))
        largest = exact.w[name.replace("mean", "var")].max().sqrt() if name.endswith("running_mean") else a.abs().max()
        tensors[name] = {"numel": a.numel(), "at": at, "values": [a[i].item() for i in at], "sum": a.sum().item(),
                         "squares": (a * a).sum().item(),
                         "tolerance": tolerance(a.tolist(), b.tolist(), largest.item())}
    return {"torch": torch.__version__, "tolerance": allowed, "steps": steps, "weights": tensors}


def write(name, exact, single):
    with open(os.path.join(HERE, name + ".json"), "w") as f:
        f.write(text(golden(exact, single)))


def mutual(starts, answers, dtype):
    first, second = (Run("student", {n: t.clone() for n, t in s.items()}, answers, dtype) for s in starts)
    second.own_seed = PEER["init_seed"]
    second.cfg["student"]["drop_path"] = PEER["drop_path"]
    second.cfg["optim"]["base_lr"] = PEER["base_lr"]
    first.others, second.others = [second], [first]
    return first.run()


def main():
    build = os.path.abspath(sys.argv[1])
    torch.set_num_threads(1)
    inputs.write(DATA)
    with tempfile.TemporaryDirectory() as folder:
        make_store(build, folder)
        answers = stored_logits(build, folder)
        for name, kind, few, average in (("teacher", "teacher", False, False), ("student", "student", False, False),
                                         ("student_few", "student", True, False),
                                         ("student_self", "student", False, True)):
            start = start_weights(build, kind, os.path.join(folder, name))
            exact, single = (Run(kind, {n: t.clone() for n, t in start.items()}, answers, d, few, average).run()
                             for d in (torch.float64, torch.float32))
            write(name, exact, single)
        folders = [os.path.join(folder, n) for n in ("first", "second")]
        starts = [start_weights(build, "student", folders[0], ""), start_weights(build, "student", folders[1], "peer-2")]
        exact, single = (mutual(starts, answers, d) for d in (torch.float64, torch.float32))
        write("student_mutual", exact, single)
        write("student_mutual_2", exact.others[0], single.others[0])


if __name__ == "__main__":
    main()
