"""Two students in PyTorch, layer by layer as the reference builds them: what `gpu_torch.py` times beside ours.

Each class counts its parameters against the published number, so that a layer left out is an error.  Nothing here is
trained;
tables and fixed adjacencies are the real ones, because gathers and their scatter-adds cost what their indices make them
cost.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from skeleton_tables import JOINTS, brasp, physical, semantic, sgp

CLASSES = 60


def body_batch(x):
    """(N,3,T,V,M) -> (M N,3,T,V), all first bodies first."""
    return torch.cat(x.unbind(4)) if x.shape[4] > 1 else x[..., 0]


def pointwise(ci, co, stride=1, bias=False):
    return nn.Conv2d(ci, co, 1, (stride, 1), bias=bias)


class DropPath(nn.Module):
    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        if self.rate == 0.0 or not self.training:
            return x
        keep = torch.floor(torch.rand(x.shape[0], 1, 1, 1, device=x.device, dtype=x.dtype) + 1.0 - self.rate)
        return x * keep / (1.0 - self.rate)


class StcAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.temporal_conv = nn.Conv1d(2, 1, 9, padding=4, bias=False)
        self.spatial_fc = nn.Linear(JOINTS, JOINTS, bias=False)
        self.gate = nn.Parameter(torch.full((1,), -4.0))

    def forward(self, x):
        time = torch.sigmoid(self.temporal_conv(torch.stack((x.mean((1, 3)), x.amax((1, 3))), 1)))
        joint = JOINTS * torch.softmax(self.spatial_fc(x.mean((1, 2))), -1)
        s = torch.sigmoid(self.gate)
        return x * (1.0 - s) + x * (time[:, :, :, None] * joint[:, None, None, :]) * s


class SeparableTcn(nn.Module):
    def __init__(self, c, stride, dropout):
        super().__init__()
        self.dw1 = nn.Conv2d(c, c, (9, 1), (stride, 1), (4, 0), groups=c, bias=False)
        self.dw2 = nn.Conv2d(c, c, (9, 1), (stride, 1), (8, 0), (2, 1), groups=c, bias=False)
        self.pw1, self.pw2 = pointwise(c, c // 2), pointwise(c, c // 2)
        self.bn, self.drop = nn.BatchNorm2d(c), nn.Dropout(dropout)

    def forward(self, x):
        y = torch.cat((self.pw1(self.dw1(x)), self.pw2(self.dw2(x))), 1)
        return self.drop(F.hardswish(self.bn(y)))


class LandmarkAttention(nn.Module):
    def __init__(self, c, landmarks):
        super().__init__()
        dk = max(4, c // 8)
        self.q, self.k, self.v = (nn.Linear(c, dk, bias=False) for _ in range(3))
        self.out = nn.Linear(dk, c, bias=False)
        self.anchors = nn.Parameter(torch.logit(torch.linspace(0.05, 0.95, landmarks)))
        self.gate = nn.Parameter(torch.full((1,), -4.0))

    def forward(self, x):
        u = x.mean(3).transpose(1, 2)
        t = u.shape[1]
        p = torch.sigmoid(self.anchors) * (t - 1)
        f = p.detach().long().clamp(0, t - 2)
        low = u.index_select(1, f)
        marks = low + (p - f)[None, :, None] * (u.index_select(1, f + 1) - low)
        q, k, v = self.q(u), self.k(marks), self.v(marks)
        o = self.out(torch.softmax(q @ k.transpose(1, 2) / math.sqrt(q.shape[2]), -1) @ v)
        return x + torch.sigmoid(self.gate) * o.transpose(1, 2)[..., None]


class ZeroBlock(nn.Module):
    """Shifts, joint embedding, gate, graph convolution over three partitions, separable TCN, residual."""

    def __init__(self, ci, co, stride, drop_path, landmarks, dropout):
        super().__init__()
        self.register_buffer("brasp", torch.tensor(brasp(ci))[None, :, None, :])
        self.register_buffer("sgp", torch.tensor(sgp(ci))[None, :, None, :])
        self.embed = nn.Parameter(torch.zeros(JOINTS, ci))
        self.stc = StcAttention()
        self.gcn = nn.ModuleList(pointwise(ci, co) for _ in range(3))
        self.gcn_bn = nn.BatchNorm2d(co)
        self.tcn = SeparableTcn(co, stride, dropout)
        self.drop_path = DropPath(drop_path)
        same = ci == co and stride == 1
        self.residual = nn.Identity() if same else nn.Sequential(pointwise(ci, co, stride), nn.BatchNorm2d(co))
        self.tla = LandmarkAttention(co, landmarks) if landmarks else nn.Identity()

    def forward(self, x, fixed, learned):
        n, _, t, _ = x.shape
        y = x.gather(3, self.brasp.expand(n, -1, t, -1)).gather(3, self.sgp.expand(n, -1, t, -1))
        y = self.stc(y + self.embed.t()[None, :, None, :])
        z = 0.0
        for k, conv in enumerate(self.gcn):
            a = (fixed[k] + learned[k]).abs()
            d = a.sum(1).clamp(min=1e-6).rsqrt()
            z = z + conv(y @ (d[:, None] * a * d[None, :]))
        y = self.tcn(F.hardswish(self.gcn_bn(z / 3.0)))
        return self.tla(F.hardswish(self.drop_path(y) + self.residual(x)))


class SfzNano(nn.Module):
    PARAMS = 93947
    STREAMS = 3

    def __init__(self, dropout=0.10):
        super().__init__()
        widths, rates = (24, 32, 64, 128), (0.0, 0.025, 0.05)
        self.stream_bn = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(self.STREAMS))
        self.proj = nn.Sequential(pointwise(9, widths[0]), nn.BatchNorm2d(widths[0]), nn.Hardswish())
        self.register_buffer("fixed", torch.tensor(semantic()))
        self.learned = nn.ParameterList(torch.zeros(JOINTS, JOINTS) for _ in range(3))
        self.blocks = nn.ModuleList(
            ZeroBlock(widths[i], widths[i + 1], 1 if i == 0 else 2, rates[i], 12 if i == 2 else 0, dropout)
            for i in range(3)
        )
        self.pool_gate = nn.Parameter(torch.full((1,), 4.0))
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(widths[3], CLASSES))
        check(self)

    def forward(self, *streams):
        bodies = streams[0].shape[4]
        x = self.proj(torch.cat([bn(body_batch(s)) for bn, s in zip(self.stream_bn, streams)], 1))
        for block in self.blocks:
            x = block(x, self.fixed, self.learned)
        x = x.mean(2)
        g = torch.sigmoid(self.pool_gate)
        logits = self.head(g * x.mean(2) + (1.0 - g) * x.amax(2))
        return torch.stack(logits.chunk(bodies)).mean(0) if bodies > 1 else logits


class LinearAttention(nn.Module):
    def __init__(self, c, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(c, 3 * c, bias=False), nn.Linear(c, c)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, c // self.heads).unbind(2)
        q, k = F.elu(q) + 1.0, F.elu(k) + 1.0
        kv = torch.einsum("bthd,bthe->bhde", k, v)
        z = torch.einsum("bthd,bhd->bth", q, k.sum(1))
        o = torch.einsum("bthd,bhde->bthe", q, kv) / (z + 1e-6)[..., None]
        return self.proj(o.reshape(b, t, c))


class Separable(nn.Sequential):
    def __init__(self, ci, co):
        super().__init__(nn.Conv2d(ci, ci, 1, groups=ci, bias=False), pointwise(ci, co))


class LastV1Block(nn.Module):
    """Adaptive graph convolution, temporal shift, linear attention over frames."""

    def __init__(self, ci, co, heads):
        super().__init__()
        embed = max(4, co // 4)
        self.register_buffer("physical", torch.tensor(physical()))
        self.learned = nn.Parameter(torch.eye(JOINTS) + 0.01 * torch.rand(JOINTS, JOINTS))
        self.node = pointwise(ci, embed, bias=True)
        self.conv = nn.ModuleList(Separable(ci, co) for _ in range(3))
        self.bn = nn.BatchNorm2d(co)
        self.residual = nn.Identity() if ci == co else Separable(ci, co)
        self.shift = co // 16
        self.attention = LinearAttention(co, heads)
        self.norm, self.drop = nn.LayerNorm(co), nn.Dropout(0.1)

    def adjacencies(self, x):
        s = self.learned.sum(1).pow(-0.5)
        s = torch.where(torch.isinf(s), torch.zeros_like(s), s)
        e = self.node(x.mean(2, keepdim=True))[:, :, 0]
        e = e / (e.norm(dim=1, keepdim=True) + 1e-8)
        return self.physical, s[:, None] * self.learned * s[None, :], torch.softmax(e.transpose(1, 2) @ e, -1)[:, None]

    def forward(self, x):
        y = sum(conv(x @ a.transpose(-1, -2)) for conv, a in zip(self.conv, self.adjacencies(x)))
        x = F.relu(self.bn(y) + self.residual(x))
        s = self.shift
        back = torch.cat((x[:, :s, :1], x[:, :s, :-1]), 2)
        ahead = torch.cat((x[:, s : 2 * s, 1:], x[:, s : 2 * s, -1:]), 2)
        x = torch.cat((back, ahead, x[:, 2 * s :]), 1)
        n, c, t, v = x.shape
        tokens = x.permute(0, 3, 2, 1).reshape(n * v, t, c)
        y = self.drop(self.norm(tokens + self.drop(self.attention(tokens))))
        return y.view(n, v, t, c).permute(0, 3, 2, 1)


class LastV1Base(nn.Module):
    PARAMS = 672912
    STREAMS = 1

    def __init__(self):
        super().__init__()
        widths = (64, 64, 128, 128, 256)
        self.stem = nn.Sequential(pointwise(3, widths[0], bias=True), nn.BatchNorm2d(widths[0]), nn.ReLU())
        self.blocks = nn.Sequential(*(LastV1Block(a, b, 8) for a, b in zip(widths, widths[1:])))
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(widths[4], CLASSES))
        check(self)

    def forward(self, x):
        active = (x.abs().sum((1, 3)) > 0).sum(1)  # frames of each body
        best = active.argmax(1).view(-1, 1, 1, 1, 1).expand(*x.shape[:4], 1)
        x = x.gather(4, best)[..., 0]
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def check(model):
    count = sum(p.numel() for p in model.parameters())
    if count != model.PARAMS:
        raise ValueError(f"{type(model).__name__}: {count} parameters, the published model has {model.PARAMS}")


STUDENTS = {"sfz-nano": SfzNano, "last-v1-base": LastV1Base}
