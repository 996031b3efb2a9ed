"""The two models in PyTorch, as their authors define them: VideoMAE's fine-tuning model and LAST-E v3 nano.

`w` holds the parameters by the official names, `keep(n)` the factor of each row at the n-th draw of drop path.
`tap(name, value)` sees the activations of the teacher.
"""
import torch
import torch.nn.functional as F


def sinusoid(tokens, dim):
    at = torch.arange(tokens, dtype=torch.float64)[:, None]
    pair = torch.arange(dim, dtype=torch.float64)[None, :].div(2, rounding_mode="floor")
    angle = at / 10000.0 ** (2.0 * pair / dim)
    return torch.where(torch.arange(dim) % 2 == 0, angle.sin(), angle.cos())


def path_rates(top, n):
    """float32, as the models compute them; 0 at the first block."""
    return [float(torch.tensor(top, dtype=torch.float32) * i / (n - 1)) for i in range(n)]


def teacher(w, cfg, clip, keep, eps=1e-6, fc_norm_eps=1e-6, tap=lambda name, value: None):
    """clip (B,3,T,H,W), normalised."""
    dim, heads = cfg["dim"], cfg["heads"]
    stride = (cfg["tubelet"], cfg["patch"], cfg["patch"])
    x = F.conv3d(clip, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=stride).flatten(2).transpose(1, 2)
    rows, tokens = x.shape[:2]
    tap("patch_embed", x)
    x = x + sinusoid(tokens, dim).to(x.dtype)
    for i in range(cfg["depth"]):
        b = "blocks.%d." % i

        def norm(name):
            return F.layer_norm(x, (dim,), w[b + name + ".weight"], w[b + name + ".bias"], eps)

        q = w[b + "attn.q_bias"]
        qkv = F.linear(norm("norm1"), w[b + "attn.qkv.weight"], torch.cat([q, torch.zeros_like(q), w[b + "attn.v_bias"]]))
        q, k, v = qkv.reshape(rows, tokens, 3, heads, dim // heads).permute(2, 0, 3, 1, 4)
        a = ((q * (dim // heads) ** -0.5) @ k.transpose(-2, -1)).softmax(-1) @ v
        a = F.linear(a.transpose(1, 2).reshape(rows, tokens, dim), w[b + "attn.proj.weight"], w[b + "attn.proj.bias"])
        tap("block%d.attn" % i, a)
        x = x + keep(2 * i)[:, None, None] * w[b + "gamma_1"] * a
        h = F.gelu(F.linear(norm("norm2"), w[b + "mlp.fc1.weight"], w[b + "mlp.fc1.bias"]))
        h = F.linear(h, w[b + "mlp.fc2.weight"], w[b + "mlp.fc2.bias"])
        tap("block%d.mlp" % i, h)
        x = x + keep(2 * i + 1)[:, None, None] * w[b + "gamma_2"] * h
        tap("block%d" % i, x)
    x = F.layer_norm(x.mean(1), (dim,), w["fc_norm.weight"], w["fc_norm.bias"], fc_norm_eps)
    tap("features", x)
    return F.linear(x, w["head.weight"], w["head.bias"])


# ---- LAST-E v3 nano -------------------------------------------------------------------------------------------------

BONES = [(0, 1), (1, 20), (2, 20), (3, 2), (4, 20), (5, 4), (6, 5), (7, 6), (8, 20), (9, 8), (10, 9), (11, 10), (12, 0),
         (13, 12), (14, 13), (15, 14), (16, 0), (17, 16), (18, 17), (19, 18), (21, 22), (22, 7), (23, 24), (24, 11)]
PARENT = {1: 0, 20: 1, 2: 20, 3: 2, 4: 20, 5: 4, 6: 5, 7: 6, 21: 7, 22: 6, 8: 20, 9: 8, 10: 9, 11: 10, 23: 11, 24: 10,
          12: 0, 13: 12, 14: 13, 15: 14, 16: 0, 17: 16, 18: 17, 19: 18}
CENTRE, JOINTS = 20, 25


def partitions():
    """Root, close and further neighbours within one hop, D^-1/2 A D^-1/2 with the degrees of all three."""
    hop = {(i, i): 0 for i in range(JOINTS)}
    for a, b in BONES:
        hop[a, b] = hop[b, a] = 1
    a = torch.zeros(3, JOINTS, JOINTS, dtype=torch.float64)
    for (j, i), h in hop.items():
        far = float("inf")
        further = hop.get((j, CENTRE), far) < hop.get((i, CENTRE), far)
        a[0 if h == 0 else 2 if further else 1, j, i] = 1.0
    d = a.sum((0, 2)) ** -0.5
    return d[:, None] * a * d[None, :]


def streams(joint):
    """joint (B,3,T,V): the coordinates, their velocity, and the bones."""
    velocity = torch.zeros_like(joint)
    velocity[:, :, :-1] = joint[:, :, 1:] - joint[:, :, :-1]
    bone = torch.zeros_like(joint)
    for child, parent in PARENT.items():
        bone[..., child] = joint[..., child] - joint[..., parent]
    return joint, velocity, bone


def student(w, inputs, keep, training=True):
    """inputs: three tensors (B,3,T,V).  In training the statistics are the batch's, and running ones in w are updated."""

    def bn(x, name):
        p = name + "."
        return F.batch_norm(x, w[p + "running_mean"], w[p + "running_var"], w[p + "weight"], w[p + "bias"], training, 0.1, 1e-5)

    def conv(x, name, stride=1, pad=0, groups=1):
        return F.conv2d(x, w[name + ".weight"], None, (stride, 1), (pad, 0), 1, groups)

    adjacency = partitions().to(inputs[0].dtype)
    x = torch.cat([bn(s, "fusion.stream_bn.%d" % i) for i, s in enumerate(inputs)], 1)
    x = F.relu(bn(conv(x, "fusion.proj.0"), "fusion.proj.1"))
    for stage, (channels, stride) in enumerate(((32, 1), (48, 2), (64, 2))):
        b = "stages.%d.0." % stage
        residual = bn(conv(x, b + "residual.0", stride), b + "residual.1")
        y = conv(x, b + "gcn.gcn").unflatten(1, (3, channels))
        y = torch.einsum("nkctv,kvw->nctw", y, adjacency * w[b + "gcn.edge"])
        x = F.hardswish(bn(y, b + "gcn.bn"))
        t = b + "tcns.0."
        y = F.hardswish(bn(conv(x, t + "expand_conv.0"), t + "expand_conv.1"))
        y = F.hardswish(bn(conv(y, t + "depth_conv.0", stride, 2, 2 * channels), t + "depth_conv.1"))
        y = bn(conv(y, t + "point_conv.0"), t + "point_conv.1")
        x = y + (bn(conv(x, t + "residual.0", stride), t + "residual.1") if stride == 2 else x)
        m = (x[:, :, 1:] - x[:, :, :-1]).abs().mean((2, 3))
        g = F.linear(F.relu(F.linear(m, w[b + "gate.mlp.0.weight"])), w[b + "gate.mlp.2.weight"]).sigmoid()
        x = x + w[b + "gate.gate_alpha"] * (x * g[:, :, None, None] - x)

        def axis(name, mean):
            a = F.relu(bn(conv(mean[..., None], name + ".1"), name + ".2"))
            return conv(a, name + ".4").sigmoid()[..., 0]

        at = axis(b + "st_att.temporal_att", x.mean(3))
        av = axis(b + "st_att.spatial_att", x.mean(2))
        x = x + w[b + "st_att.alpha"] * (x * at[:, :, :, None] * av[:, :, None, :] - x)
        x = residual + keep(stage)[:, None, None, None] * x
    gate = w["pool_gate"].flatten().sigmoid()
    x = bn(gate * x.mean((2, 3)) + (1.0 - gate) * x.amax((2, 3)), "head_bn")
    return F.linear(x, w["fc.weight"], w["fc.bias"])
