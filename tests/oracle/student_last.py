"""Every student in the authors' modules: our .pth with strict=True, with their buffers and their logits."""
import os

import torch

import peers
from last_modules import NAMES, Modules, lines
from peers import SOURCE, check, close, run

INPUTS = {"joint": 1.0, "velocity": 0.25, "bone": 0.5}


def draw(module):
    """Every number differs from where it starts; adjacencies keep positive sums of rows."""
    g = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=g))
        for name, b in module.named_buffers():
            if name.endswith("running_mean"):
                b.add_(0.1 * torch.randn(b.shape, generator=g))
            elif name.endswith("running_var"):
                b.mul_(0.5 + torch.rand(b.shape, generator=g))
    return module.eval()


def answer(module, streams, name):
    module.eval()
    with torch.no_grad():
        return module(streams["joint"] if name.startswith("last-v1") else streams)


def whole(modules, name):
    theirs = draw(modules.student(name))
    state = theirs.state_dict()
    torch.save({"model": state}, "theirs.pth")
    run("distill", "export", "--config", os.path.join(SOURCE, "configs", "student", name + ".yaml"), "--weights",
        "theirs.pth", "--out", "ours.pth", "--force", "--threads", "1")
    ours = torch.load("ours.pth", weights_only=True)["model"]
    check(lines(ours) == lines(state), f"{name}: {len(state)} keys, their dtypes and shapes")
    counters = [k for k in state if k.endswith("num_batches_tracked")]
    for kind in (torch.float32, torch.int64):
        keys = [k for k, t in state.items() if t.dtype == kind and k not in counters and k in ours]
        if not keys:
            continue
        off = max(((ours[k] - state[k]).abs().max().item() for k in keys))
        check(off <= (2e-7 if kind == torch.float32 else 0), f"{name}: {len(keys)} tensors {kind}, largest difference "
              f"{off:.3g}")
    fresh = modules.student(name)
    fresh.load_state_dict(ours, strict=True)
    generator = torch.Generator().manual_seed(7)
    streams = {s: scale * torch.randn(2, 3, 64, 25, 2, generator=generator) for s, scale in INPUTS.items()}
    want = answer(theirs, streams, name)
    close(f"{name}: strict=True, logits", answer(fresh, streams, name).numpy(), want.numpy(),
          2e-6 * float(want.abs().max()))


with peers.workplace():
    print(f"torch {torch.__version__}")
    modules = Modules(peers.GIVEN["KD_ORACLE_LAST"])
    for student in NAMES:
        whole(modules, student)
peers.finish()
