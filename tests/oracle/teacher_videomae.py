"""The official fine-tuning model: our files with strict=True, theirs read by us."""
import sys
import warnings

import timm
import torch

import peers
from peers import SHAPE, check, close, draw, log_softmax, logits, make_clip, recipe, run

warnings.filterwarnings("ignore")
sys.path.insert(0, peers.GIVEN["KD_ORACLE_VIDEOMAE"])
from modeling_finetune import VisionTransformer  # noqa: E402


def model(**more):
    s = SHAPE
    return VisionTransformer(img_size=s["size"], patch_size=s["patch"], num_classes=s["classes"], embed_dim=s["dim"],
                             depth=s["depth"], num_heads=s["heads"], mlp_ratio=s["mlp"] / s["dim"], qkv_bias=True,
                             norm_layer=lambda d: torch.nn.LayerNorm(d, eps=1e-6), all_frames=s["frames"],
                             tubelet_size=s["tubelet"], init_scale=1.0, **more)


def both_ways(name, options, **more):
    s = SHAPE
    theirs = draw(model(**more))
    if more.get("use_learnable_pos_emb"):
        g = torch.Generator().manual_seed(5)
        theirs.pos_embed.data.copy_(0.1 * torch.randn(theirs.pos_embed.shape, generator=g))
    clip = torch.from_numpy(make_clip(name + "-clip", s["frames"], s["size"]))[None]
    with torch.no_grad():
        want = theirs(clip)[0].numpy()
    state = theirs.state_dict()
    config = recipe(name + ".json", **options)
    for how, file in (("model", {"model": state, "epoch": 3}), ("module", {"module": {k: v for k, v in state.items()}}),
                      ("bare", state), ("prefixed", {"model": {"backbone." + k: v for k, v in state.items()}})):
        torch.save(file, f"{name}-{how}.pth")
        got = logits(f"{name}-{how}.pth", name + "-clip", s["classes"], "--config", config)
        close(f"{name}, their file ({how}), logits", got, log_softmax(want), 5e-5)
    run("kd", "weights", "convert", f"{name}-model.pth", f"{name}.safetensors")
    run("kd", "weights", "convert", f"{name}.safetensors", f"{name}-ours.pth", "--to", "official")
    fresh = model(**more).eval()
    fresh.load_state_dict(torch.load(f"{name}-ours.pth", weights_only=True)["model"], strict=True)
    with torch.no_grad():
        close(f"{name}, our file with strict=True, logits", fresh(clip)[0].numpy(), want, 0.0)
    return clip, want


with peers.workplace():
    print(f"torch {torch.__version__}, timm {timm.__version__}")
    clip, want = both_ways("mean", {})
    both_ways("cls", {"pooling": "cls"}, use_mean_pooling=False)
    both_ways("scaled", {"init_values": 0.1}, init_values=0.1)
    both_ways("learned", {"pos_table": "stored"}, use_learnable_pos_emb=True)
    # through the names of others and back
    for to, ending in (("hf", "safetensors"), ("mmaction2", "pth")):
        run("kd", "weights", "convert", "mean.safetensors", f"via.{ending}", "--to", to)
        run("kd", "weights", "convert", f"via.{ending}", f"back-{to}.pth", "--to", "official")
        fresh = model().eval()
        fresh.load_state_dict(torch.load(f"back-{to}.pth", weights_only=True)["model"], strict=True)
        with torch.no_grad():
            close(f"by way of {to}, strict=True, logits", fresh(clip)[0].numpy(), want, 0.0)
    check(True, "all files")
peers.finish()
