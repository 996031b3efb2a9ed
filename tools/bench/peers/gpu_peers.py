"""PyTorch's side of `gpu_torch.py`: steps of models in several forms, single kernels, and how they are timed."""

import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

from peer_torch import VideoViT
from students_torch import CLASSES, JOINTS, STUDENTS

BURST_SECONDS, MOST_BURST = 0.05, 1000
FRAMES = 64


def timed(run, seconds):
    """Median seconds of a run, many runs to a wait."""
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    torch.cuda.synchronize()
    burst = int(min(max(BURST_SECONDS / (time.perf_counter() - start), 1), MOST_BURST))
    out, begin = [], time.perf_counter()
    while len(out) < 3 or time.perf_counter() - begin < seconds:
        t = time.perf_counter()
        for _ in range(burst):
            run()
        torch.cuda.synchronize()
        out.append((time.perf_counter() - t) / burst)
    return statistics.median(out)


class Step:
    """A step that is made on its first turn and keeps its state for the others.

    `peak`: tell the allocator's peak of the first turn, less what other steps hold.  It does not see inside CUDA
    graphs.
    """

    def __init__(self, make, peak=True):
        self.make, self.run, self.peak, self.memory = make, None, peak, {}

    def turn(self, seconds):
        first, others = self.run is None, torch.cuda.memory_allocated()
        if first:
            self.run = self.make()
            self.run()
            torch.cuda.reset_peak_memory_stats()
        s = timed(self.run, seconds)
        if first and self.peak:
            self.memory = {"peak_bytes": torch.cuda.max_memory_allocated() - others}
        return s, self.memory


class Training:
    """Loss, backward, clipping, fused AdamW.  `half`: weights and gradients in bf16 beside an f32 master copy that is
    stepped."""

    def __init__(self, model, inputs, half=False, autocast=False):
        self.model = model.to(torch.bfloat16) if half else model
        self.inputs, self.autocast = inputs, autocast
        self.params = list(self.model.parameters())
        self.master = [p.detach().float().clone().requires_grad_() for p in self.params] if half else None
        for m in self.master or ():
            m.grad = torch.zeros_like(m)
        self.stepped = self.master or self.params
        self.optim = torch.optim.AdamW(self.stepped, lr=1e-6, weight_decay=0.05, fused=True, capturable=True)
        self.loss = self.plain_loss

    def plain_loss(self, target, *inputs):
        with torch.autocast("cuda", torch.bfloat16, enabled=self.autocast):
            logits = self.model(*inputs)
        return F.cross_entropy(logits.float(), target)

    def compile(self, mode):
        self.loss = torch.compile(self.plain_loss, dynamic=False, mode=mode)
        return self

    def step(self):
        for p in self.params:
            p.grad = None
        self.loss(*self.inputs).backward()
        if self.master:
            torch._foreach_copy_([m.grad for m in self.master], [p.grad for p in self.params])
        nn.utils.clip_grad_norm_(self.stepped, 1.0, foreach=True)
        self.optim.step()
        if self.master:
            with torch.no_grad():
                torch._foreach_copy_(self.params, self.master)

    def graphed(self):
        """The whole step as one CUDA graph."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(4):
                self.step()
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        for p in self.params:
            p.grad = None
        with torch.cuda.graph(self.graph):
            self.step()
        return self.replay  # not the graph's own: what it reads and writes belongs to this object

    def replay(self):
        self.graph.replay()


def soft_targets(batch):
    return torch.softmax(torch.randn(batch, CLASSES, device="cuda"), 1)


def vit_inputs(batch):
    return torch.randn(batch, 3, 16, 224, 224, device="cuda", dtype=torch.bfloat16)


def vit_training(row, mode, autocast):
    model = VideoViT(row["size"], CLASSES).cuda().train()
    inputs = (soft_targets(row["batch"]), vit_inputs(row["batch"]))
    return Training(model, inputs, half=not autocast, autocast=autocast).compile(mode).step


def vit_eval(row, mode):
    model = VideoViT(row["size"], CLASSES).cuda().to(torch.bfloat16).eval()
    clip, forward = vit_inputs(row["batch"]), torch.compile(model, dynamic=False, mode=mode)

    def run():
        with torch.inference_mode():
            forward(clip)

    return run


def student_training(row, compiled, graphed):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = bool(row.get("tf32"))
    model = STUDENTS[row["model"]]().cuda().train()
    shape = (row["batch"], 3, FRAMES, JOINTS, 1)
    inputs = (soft_targets(row["batch"]), *(2.0 * torch.rand(shape, device="cuda") - 1.0 for _ in range(model.STREAMS)))
    training = Training(model, inputs)
    if compiled:
        training.compile(None)
    return training.graphed() if graphed else training.step


def variants(row, args):
    """Name -> Step of every form of PyTorch that the row is compared with."""
    mode = None if args.compile_mode == "default" else args.compile_mode
    if "size" not in row:
        return {
            "eager": Step(lambda: student_training(row, False, False)),
            "graph": Step(lambda: student_training(row, False, True), peak=False),
            "compile, graph": Step(lambda: student_training(row, True, True), peak=False),
        }
    choose_backend()
    if row["phase"] == "eval":
        return {"compile": Step(lambda: vit_eval(row, mode))}
    out = {"compile": Step(lambda: vit_training(row, mode, False))}
    if args.autocast:
        out["compile, autocast"] = Step(lambda: vit_training(row, mode, True))
    return out


# ---- kernels
# -----------------------------------------------------------------------------------------------------------------

BACKENDS = {
    "cudnn": getattr(torch.backends.cuda, "enable_cudnn_sdp", lambda on: None),  # from PyTorch 2.5
    "flash": torch.backends.cuda.enable_flash_sdp,
}
found = {}  # backend -> (forward, backward) seconds


def only_backend(name):
    for other, enable in BACKENDS.items():
        enable(other == name)
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_math_sdp(False)


def attention(batch, seconds):
    """Seconds of forward and of backward, on the layout that packed qkv has."""
    qkv = torch.randn(batch, 1568, 3, 16, 64, device="cuda", dtype=torch.bfloat16)
    q, k, v = (t.detach().requires_grad_() for t in qkv.permute(2, 0, 3, 1, 4))
    o = F.scaled_dot_product_attention(q, k, v)
    do = torch.randn_like(o)
    forward = timed(lambda: F.scaled_dot_product_attention(q, k, v), seconds)
    return forward, timed(lambda: torch.autograd.grad(o, (q, k, v), do, retain_graph=True), seconds)


def choose_backend(batch=8, seconds=0.3):
    """The faster of PyTorch's attention backends at ViT's shape, chosen once and left switched on."""
    if not found:
        for name in BACKENDS:
            only_backend(name)
            try:
                found[name] = attention(batch, seconds)
            except RuntimeError:  # not in this build, or not for this card
                continue
        if not found:
            raise RuntimeError("neither cuDNN nor flash attention works in this PyTorch")
    only_backend(chosen_backend())


def chosen_backend():
    return min(found, key=lambda n: sum(found[n]), default="none")


def kernels(batch, args):
    """Name as `kd bench kernels` prints it -> seconds."""
    seconds, rows = args.seconds, batch * 1568

    def some(*shape):
        return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)

    x = {c: some(rows, c) for c in (1024, 4096)}
    w = {s: some(*s) for s in ((3072, 1024), (1024, 1024), (4096, 1024), (1024, 4096))}
    bias = {c: some(c) for c in (1024, 3072, 4096)}
    a, b = some(8192, 8192), some(8192, 8192)
    steps = {
        "matmul 8192x8192x8192": lambda: F.linear(a, b),
        "linear qkv 1568x3072x1024": lambda: F.linear(x[1024], w[3072, 1024], bias[3072]),
        "linear proj 1568x1024x1024": lambda: F.linear(x[1024], w[1024, 1024], bias[1024]),
        "linear fc1 + GELU 1568x4096x1024": lambda: F.gelu(F.linear(x[1024], w[4096, 1024], bias[4096])),
        "linear fc2 1568x1024x4096": lambda: F.linear(x[4096], w[1024, 4096], bias[1024]),
        "linear_bwd_x fc1": lambda: x[4096] @ w[4096, 1024],
        "linear_bwd_w fc1": lambda: (x[4096].t() @ x[1024], x[4096].sum(0)),
        "layernorm 1568x1024": lambda: F.layer_norm(x[1024], (1024,), bias[1024], bias[1024]),
        "gelu 1568x4096": lambda: F.gelu(x[4096]),
    }
    with torch.inference_mode():
        out = {name: timed(run, seconds) for name, run in steps.items()}
    choose_backend(batch, seconds)
    out["attention 16 heads x 64, 1568 tokens"], out["attention_bwd"] = found[chosen_backend()]
    return out
