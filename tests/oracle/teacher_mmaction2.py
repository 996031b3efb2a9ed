"""MMAction2's backbone class: names and shapes of our file, features, and a file of theirs read by us.

mmcv and mmengine are not needed: below stand the classes of theirs that the backbone uses, with the names that theirs
give their parameters (mmcv/cnn/bricks/transformer.py: PatchEmbed.projection, FFN.layers)."""
import importlib.util
import os
import sys
import types

import torch
from torch import nn

import peers
from peers import SHAPE, check, close, draw, log_softmax, logits, make_clip, recipe, run


class BaseModule(nn.Module):
    def __init__(self, init_cfg=None):
        super().__init__()


class ModuleList(BaseModule, nn.ModuleList):
    def __init__(self, modules=None, init_cfg=None):
        BaseModule.__init__(self, init_cfg)
        nn.ModuleList.__init__(self, modules)


class PatchEmbed(BaseModule):
    def __init__(self, in_channels, embed_dims, conv_type, kernel_size, stride, padding, dilation):
        super().__init__()
        self.projection = nn.Conv3d(in_channels, embed_dims, kernel_size, stride, padding, dilation)

    def forward(self, x):
        x = self.projection(x)
        return x.flatten(2).transpose(1, 2), x.shape[2:]


class FFN(BaseModule):
    def __init__(self, embed_dims, feedforward_channels, act_cfg, ffn_drop, add_identity):
        super().__init__()
        first = nn.Sequential(nn.Linear(embed_dims, feedforward_channels), nn.GELU(), nn.Dropout(ffn_drop))
        self.layers = nn.Sequential(first, nn.Linear(feedforward_channels, embed_dims), nn.Dropout(ffn_drop))

    def forward(self, x):
        return self.layers(x)


class Registry:
    def register_module(self):
        return lambda c: c


def module(name, **members):
    m = types.ModuleType(name)
    m.__dict__.update(members)
    sys.modules[name] = m


def backbone():
    def norm(cfg, dim):
        return "ln", nn.LayerNorm(dim, eps=cfg["eps"])

    module("mmcv")
    module("mmcv.cnn", build_norm_layer=norm)
    module("mmcv.cnn.bricks", DropPath=nn.Identity)
    module("mmcv.cnn.bricks.transformer", FFN=FFN, PatchEmbed=PatchEmbed)
    module("mmengine")
    module("mmengine.model", BaseModule=BaseModule, ModuleList=ModuleList)
    module("mmaction")
    module("mmaction.registry", MODELS=Registry())
    module("mmaction.utils", ConfigType=dict, OptConfigType=dict)
    path = os.path.join(peers.GIVEN["KD_ORACLE_MMACTION2"], "mmaction/models/backbones/vit_mae.py")
    spec = importlib.util.spec_from_file_location("vit_mae", path)
    m = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(m)
    return m.VisionTransformer


class Recognizer(nn.Module):
    """Recognizer3D: the backbone and TimeSformerHead's linear layer, by their names."""

    def __init__(self, kind, **more):
        super().__init__()
        s = SHAPE
        self.backbone = kind(img_size=s["size"], patch_size=s["patch"], embed_dims=s["dim"], depth=s["depth"],
                             num_heads=s["heads"], mlp_ratio=s["mlp"] / s["dim"], num_frames=s["frames"],
                             tubelet_size=s["tubelet"], **more)
        self.cls_head = nn.Module()
        self.cls_head.fc_cls = nn.Linear(s["dim"], s["classes"])

    def forward(self, x):
        return self.cls_head.fc_cls(self.backbone(x))


with peers.workplace():
    print(f"torch {torch.__version__}")
    kind = backbone()
    s = SHAPE
    theirs = draw(Recognizer(kind))
    clip = torch.from_numpy(make_clip("clip", s["frames"], s["size"]))[None]
    with torch.no_grad():
        want = theirs(clip)[0].numpy()
    torch.save({"meta": {"epoch": 3}, "state_dict": theirs.state_dict()}, "theirs.pth")
    config = recipe("recipe.json")
    close("their file, logits", logits("theirs.pth", "clip", s["classes"], "--config", config), log_softmax(want), 5e-5)
    run("kd", "weights", "convert", "theirs.pth", "official.pth", "--to", "official")
    run("kd", "weights", "convert", "official.pth", "ours.pth", "--to", "mmaction2", "--config", config)
    ours = torch.load("ours.pth", weights_only=True)["state_dict"]
    shapes = {k: tuple(v.shape) for k, v in theirs.state_dict().items()}
    same = {k: tuple(v.shape) for k, v in ours.items()} == shapes
    check(same, f"our file: the {len(shapes)} names and shapes of theirs")
    fresh = Recognizer(kind).eval()
    fresh.load_state_dict(ours, strict=True)
    with torch.no_grad():
        close("our file with strict=True, logits", fresh(clip)[0].numpy(), want, 1e-6)
peers.finish()
