"""The draws of a training run, from the rules that kernels/kd_rng.h, kernels/kd_ops.h (dropout) and
distill/batch/mixup.h state: order of the samples, mixtures of batches, rows that drop path leaves out."""
import math

import numpy

ORDER, BATCH, DROPOUT = 2, 4, 5
MASK = 0xFFFFFFFF


def block(seed, c0, c1, c2, c3):
    """Philox4x32-10."""
    k0, k1 = seed & MASK, seed >> 32
    for _ in range(10):
        a, b = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (b >> 32) ^ c1 ^ k0, b & MASK, (a >> 32) ^ c3 ^ k1, a & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c0, c1, c2, c3


def word(seed, stream, item, epoch, pos):
    return block(seed, pos >> 2 & MASK, item, epoch, stream | (pos >> 34) << 8)[pos & 3]


class Sequence:
    """The numbers of (seed, stream, item, epoch), one after the other."""

    def __init__(self, seed, stream, item, epoch, pos=0):
        self.of, self.pos = (seed, stream, item, epoch), pos

    def word(self):
        self.pos += 1
        return word(*self.of, self.pos - 1)

    def uniform(self):
        hi = self.word()
        return ((hi << 21) ^ (self.word() >> 11)) * 2.0 ** -53

    def below(self, n):
        return self.word() * n >> 32

    def normal(self):
        u = 1.0 - self.uniform()
        return math.sqrt(-2.0 * math.log(u)) * math.cos(2.0 * math.pi * self.uniform())

    def gamma(self, a):
        """Marsaglia and Tsang 2000."""
        boost = 1.0
        if a < 1.0:
            boost = (1.0 - self.uniform()) ** (1.0 / a)
            a += 1.0
        d = a - 1.0 / 3.0
        c = 1.0 / math.sqrt(9.0 * d)
        while True:
            x = self.normal()
            t = 1.0 + c * x
            if t <= 0.0:
                continue
            v = t ** 3
            if math.log(1.0 - self.uniform()) < 0.5 * x * x + d - d * v + d * math.log(v):
                return boost * d * v

    def beta(self, a, b):
        x = self.gamma(a)
        return x / (x + self.gamma(b))


def permuted(seed, stream, item, epoch, n, i):
    """Element i of the permutation of 0 .. n-1: a Feistel network of four rounds, walked until it falls inside."""
    half = 1
    while 1 << 2 * half < n:
        half += 1
    mask = (1 << half) - 1
    while True:
        left, right = i >> half, i & mask
        for turn in range(4):
            left, right = right, left ^ (word(seed, stream, item, epoch, (turn + 1) << 32 | right) & mask)
        i = left << half | right
        if i < n:
            return i


def order(seed, epoch, n):
    return [permuted(seed, ORDER, 0, epoch, n, i) for i in range(n)]


def mixture(cfg, seed, epoch, batch, rows, side):
    """(partner of each row, lambda, box of CutMix) of a batch; lambda 1: not mixed."""
    alone = (list(range(rows)), 1.0, (0, 0, 0, 0))
    alpha, cutmix = cfg.get("alpha", 0.0), cfg.get("cutmix_alpha", 0.0)
    drawn = Sequence(seed, BATCH, batch, epoch)
    if not drawn.uniform() < cfg["prob"]:
        return alone
    cut, box = Sequence(seed, BATCH, batch, epoch, 1 << 20), (0, 0, 0, 0)
    both = alpha > 0.0 and cutmix > 0.0
    if not cut.uniform() < 0.5 if both else alpha > 0.0:
        lam = drawn.beta(alpha, alpha)
    else:
        y, x = cut.below(side), cut.below(side)
        size = math.sqrt(1.0 - cut.beta(cutmix, cutmix))
        half = int(side * size) // 2
        top, left = max(y - half, 0), max(x - half, 0)
        box = (top, left, min(y + half, side) - top, min(x + half, side) - left)
        lam = 1.0 - box[2] * box[3] / (side * side)
    if cfg["partner"] == "flip":
        partner = [rows - 1 - i for i in range(rows)]
    else:
        partner = [permuted(seed, BATCH, batch, epoch, rows, i) for i in range(rows)]
    return partner, float(numpy.float32(lam)), box


def kept(seed, rng_id, program_run, rows, p):
    """Rows that drop path keeps: 1, or 0."""
    return [int((word(seed, DROPOUT, rng_id, program_run, r) >> 8) * 2.0 ** -24 >= p) for r in range(rows)]
