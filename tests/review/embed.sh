#!/usr/bin/env bash
# Embeddings of the classes: read by name, for samples with a label and without one.
. "$(dirname "$0")/setup.sh"
samples data
# embed FILE WIDTH [CLASS]: safetensors, a vector for each class (but CLASS), of numbers that depend on its place
embed() {
    python3 - "$@" <<'P'
import json, struct, sys
out, width = sys.argv[1], int(sys.argv[2])
head, body = {}, b""
for k, name in enumerate(line.rstrip("\n") for line in open("data/classes.txt")):
    if name not in sys.argv[3:]:
        row = struct.pack("<%df" % width, *[((7 * k + 3 * i) % 11 - 5) / 5.0 for i in range(width)])
        head[name] = {"dtype": "F32", "shape": [width], "data_offsets": [len(body), len(body) + len(row)]}
        body += row
text = json.dumps(head).encode()
open(out, "wb").write(struct.pack("<Q", len(text)) + text + body)
P
}
embed e.safetensors 16
embed wider.safetensors 17
# third FILE OUT NUMBER: the vector of the third class holds this number alone
third() {
    python3 - "$@" <<'P'
import struct, sys
data = bytearray(open(sys.argv[1], "rb").read())
begin = 8 + struct.unpack("<Q", data[:8])[0] + 2 * 64
data[begin:begin + 64] = struct.pack("<16f", *[float(sys.argv[3])] * 16)
open(sys.argv[2], "wb").write(data)
P
}
third e.safetensors zero.safetensors 0
third e.safetensors nan.safetensors nan
third e.safetensors inf.safetensors inf
embed lacking.safetensors 16 "$(sed -n 3p data/classes.txt)"
short_student 1 | sed 's/batch_size: 8/batch_size: 4/; s/warmup_epochs: 1/warmup_epochs: 0/' >s.yaml
train() { "$distill" train --config s.yaml --threads 1 --set train.log_interval=1 -q "$@"; }
recipe=(--config "$configs/distill/class_embed.yaml" --set optim.warmup_epochs=0)
terms() { grep -o "\"loss_class_embed\":[0-9.e-]*" "$1/log.jsonl" | cut -d: -f2; }

accepted train "${recipe[@]}" --set kd.class_embed=e.safetensors --out one
[ "$(terms one | awk '$1 > 0' | wc -l)" -eq 3 ] || failed "loss_class_embed is not above 0 in each of 3 steps"
grep -q "$(sha256sum e.safetensors | cut -c1-64)" one/checkpoints/last/state.json || failed "no hash of the file"
refused 3 'kd.class_embed: sha256' train "${recipe[@]}" --set kd.class_embed=wider.safetensors --epochs 2 --out one \
    --resume
accepted train "${recipe[@]}" --set kd.class_embed=e.safetensors --epochs 2 --out one --resume

# ---- samples without a label: nothing, or the teacher's mixture
find data/nturgb+d_skeletons -name '*P001*' -printf '%f\n' | sed 's/\.skeleton$//' | sort >ids
cat >t.yaml <<Y
base: $configs/teacher/tiny.yaml
data: {root: data, split: {by: subject, train: [1]}}
eval: {clips: 1, crops: 1, batch_size: 8}
Y
accepted "$teacher" dump-logits --config t.yaml --weights "$configs/teacher/tiny_pretrained.safetensors" --split train \
    --logits f32 --threads 1 --out t.logits.zst -q
bare=("${recipe[@]}" --set kd.class_embed=e.safetensors --set data.unlabelled=ids)
refused 3 'none of 12 training samples has a label' train "${bare[@]}" --out no
accepted train "${bare[@]}" --teacher-logits t.logits.zst --set mixup.alpha=0.8 --out mixture
[ "$(terms mixture | awk '$1 > 0' | wc -l)" -eq 3 ] || failed "samples without a label have no target"
accepted train "${recipe[@]}" --set kd.class_embed=e.safetensors --set train.resident=on --out resident
accepted train "${recipe[@]}" --set kd.class_embed=e.safetensors --out fed
same_file resident/checkpoints/last/model.safetensors fed/checkpoints/last/model.safetensors

# ---- what is refused
refused 3 "lacking.safetensors: expected a vector for each of the 12 classes, found none for" train "${recipe[@]}" \
    --set kd.class_embed=lacking.safetensors --out no
refused 2 'kd.class_embed: kd.class_embed_weight is above 0' train --set kd.class_embed_weight=1 --out no
refused 2 'kd.class_embed: does nothing with kd.class_embed_weight 0' train --set kd.class_embed=e.safetensors --out no
refused 2 'kd.class_embed_temperature: does nothing' train --set kd.class_embed_temperature=1 --out no

# ---- a vector that points nowhere
for f in zero:zeros nan:finite inf:finite; do
    refused 3 "${f%:*}.safetensors: 'phone call': expected a vector that points somewhere, found .*${f#*:}" \
        train "${recipe[@]}" --set kd.class_embed="${f%:*}.safetensors" --out no
done
finish
