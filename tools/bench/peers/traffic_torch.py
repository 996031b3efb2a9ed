#!/usr/bin/env python3
"""Operations and operand bytes of a student's training step in PyTorch, counted on the CPU; nothing is timed.

    traffic_torch.py [sfz-nano]

A dispatcher hook sees every operation of a step (forward, loss, backward, clipping, fused AdamW) and adds up the
tensors it takes
and gives; views are left out, a dimension of stride 0 counts once.  What `test_cuda_simt a_step_only_asks` prints is
the same
count of our fused program: batch 64, one body, 64 frames, f32.
"""

import collections
import sys

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from students_torch import CLASSES, JOINTS, STUDENTS

BATCH, FRAMES = 64, 64
VIEWS = set(
    "view _unsafe_view expand permute t transpose unsqueeze squeeze slice select as_strided detach alias reshape split "
    "unbind split_with_sizes chunk _reshape_alias movedim".split()
)


def size(tensor):
    n = tensor.element_size()
    for dim, stride in zip(tensor.shape, tensor.stride()):
        n *= dim if stride != 0 else 1
    return n


def total(operand):
    if isinstance(operand, torch.Tensor):
        return size(operand)
    return sum(map(total, operand)) if isinstance(operand, (list, tuple)) else 0


class Counter(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.ops, self.bytes = collections.Counter(), collections.Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name not in VIEWS and "empty" not in name:
            self.ops[name] += 1
            self.bytes[name] += total(list(args)) + total(list((kwargs or {}).values())) + total(out)
        return out


def main():
    name = sys.argv[1] if len(sys.argv) > 1 else "sfz-nano"
    model = STUDENTS[name]().train()
    streams = [2.0 * torch.rand(BATCH, 3, FRAMES, JOINTS, 1) - 1.0 for _ in range(model.STREAMS)]
    target = torch.softmax(torch.randn(BATCH, CLASSES), -1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step():
        logits = model(*streams)
        (-(target * torch.log_softmax(logits, -1)).sum(-1).mean()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()

    step()
    with Counter() as counter:
        step()
    for op, count in counter.bytes.most_common(20):
        print(f"{op:32} {counter.ops[op]:4} {count / 1e6:9.1f} MB")
    print(f"{name}: {sum(counter.ops.values())} operations, {sum(counter.bytes.values()) / 1e9:.3f} GB of operands")


if __name__ == "__main__":
    main()
