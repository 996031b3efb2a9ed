"""Folders of transformers: ours loaded by them, theirs read by us."""
import os

import torch
import transformers
from transformers import VideoMAEConfig, VideoMAEForVideoClassification

import peers
from peers import SHAPE, check, close, draw, log_softmax, logits, make_clip, recipe, run


def theirs(folder, clip):
    model, info = VideoMAEForVideoClassification.from_pretrained(folder, output_loading_info=True)
    bad = {k: v for k, v in info.items() if k in ("missing_keys", "unexpected_keys", "mismatched_keys") and v}
    check(not bad, f"from_pretrained({folder}): no key is missing, unexpected or of another shape {bad or ''}")
    with torch.no_grad():
        return model.eval()(pixel_values=clip.permute(0, 2, 1, 3, 4)).logits[0].numpy(), model


def ours_to_them():
    start = os.path.join(peers.SOURCE, "configs/teacher/tiny_pretrained.safetensors")
    tiny = os.path.join(peers.SOURCE, "configs/teacher/tiny.yaml")
    run("kd", "weights", "convert", start, "tiny", "--to", "hf", "--dtype", "f32", "--config", tiny)
    clip = torch.from_numpy(make_clip("clip96", 8, 96))[None]
    want, model = theirs("tiny", clip)
    close("a folder of ours, logits", logits("tiny", "clip96", 12), log_softmax(want), 2e-5)
    check(model.config.id2label[3] == "LABEL_3" and model.config.label2id["LABEL_3"] == 3, "id2label and label2id")
    loaded = transformers.AutoImageProcessor.from_pretrained("tiny") if can_process() else None
    if loaded is not None:
        check(list(loaded.image_mean) == list(peers.MEAN), "the image processor loads")
    return model


def can_process():
    try:
        import PIL  # noqa: F401
        return True
    except ImportError:
        print("skipped  the image processor: no Pillow")
        return False


def theirs_to_us(pooling, qkv_bias):
    s = SHAPE
    name = f"theirs-{'mean' if pooling else 'cls'}{'' if qkv_bias else '-unbiased'}"
    config = VideoMAEConfig(image_size=s["size"], patch_size=s["patch"], num_frames=s["frames"],
                            tubelet_size=s["tubelet"], hidden_size=s["dim"], num_hidden_layers=s["depth"],
                            num_attention_heads=s["heads"], intermediate_size=s["mlp"], num_labels=s["classes"],
                            use_mean_pooling=pooling, qkv_bias=qkv_bias)
    model = draw(VideoMAEForVideoClassification(config))
    model.save_pretrained(name)
    clip = torch.from_numpy(make_clip(name + "-clip", s["frames"], s["size"]))[None]
    with torch.no_grad():
        want = model(pixel_values=clip.permute(0, 2, 1, 3, 4)).logits[0].numpy()
    close(f"{name}, nothing retyped, logits", logits(name, name + "-clip", s["classes"]), log_softmax(want), 5e-5)
    run("kd", "weights", "convert", name, name + "-back", "--to", "hf")
    back, _ = theirs(name + "-back", clip)
    close(f"{name}, through us and back, logits", back, want, 1e-6)
    model.save_pretrained(name + "-shards", max_shard_size="40KB")
    close(f"{name}, in several files", logits(name + "-shards", name + "-clip", s["classes"]), log_softmax(want), 5e-5)


with peers.workplace():
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    ours_to_them()
    for pooling in (True, False):
        theirs_to_us(pooling, True)
    theirs_to_us(True, False)
peers.finish()
