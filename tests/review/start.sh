#!/usr/bin/env bash
# The weights that training starts from: what of a file matched, which of several, how much of it must, heads of
# Kinetics-710, position tables.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/setup.sh"
tiny=tiny.safetensors
command -v python3 >/dev/null || { say "no python3 to edit files with: skipped"; exit 77; }
samples data
clip v.avi 1
accepted "$kd" weights convert "$configs/teacher/tiny_pretrained.safetensors" "$tiny" --dtype f32
plan() { # WEIGHTS [OPTION...]: what `teacher finetune` would do
    local w=$1
    shift
    "$teacher" finetune --config "$configs/teacher/tiny.yaml" --data data \
        --set 'data.split={by: subject, train: [1,2]}' \
        --weights "$w" --threads 1 --set train.workers=1 --batch-size 2 --dry-run "$@"
}
# edit IN OUT PYTHON: a safetensors file whose header and data PYTHON changes (t: name -> [shape, bytes]).
edit() {
    python3 - "$1" "$2" "$3" <<'P'
import json, struct, sys
raw = open(sys.argv[1], "rb").read()
n = struct.unpack("<Q", raw[:8])[0]
head = json.loads(raw[8:8 + n])
head.pop("__metadata__", None)
t = {k: [v["shape"], raw[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]]] for k, v in head.items()}
exec(sys.argv[3])
at, new, data = 0, {}, b""
for k, (shape, b) in t.items():
    new[k] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + len(b)]}
    at += len(b)
    data += b
text = json.dumps(new).encode()
text += b" " * (-len(text) % 8)
open(sys.argv[2], "wb").write(struct.pack("<Q", len(text)) + text + data)
P
}

# ---- how much matched -----------------------------------------------------------------------------------------------
accepted plan "$tiny"
grep -q '58 tensors matched (100.0 % of the backbone), 0 left fresh, 0 reshaped, 0 unused' err.txt ||
    failed "a whole file: $(grep weights err.txt)"
edit "$tiny" lacks.safetensors 'del t["blocks.3.mlp.fc1.weight"]; t["decoder.x"] = [[1], b"\0\0\0\0"]'
accepted plan lacks.safetensors -v
grep -q 'holds 93.8 % of the backbone.s parameters; drawn afresh: blocks.3.mlp.fc1.weight' err.txt ||
    failed "a missing tensor is not said: $(cat err.txt)"
grep -q '1 left fresh: blocks.3.mlp.fc1.weight, 0 reshaped, 1 unused: decoder.x' err.txt || failed "counts"
grep -q 'weights: missing blocks.3.mlp.fc1.weight' err.txt || failed "-v names no missing tensor"
grep -q 'weights: unexpected decoder.x' err.txt || failed "-v names no unexpected tensor"
share='holds 93.8 % of the backbone.s parameters, teacher.min_match asks for 95 %'
refused 3 "$share; first missing: blocks.3.mlp.fc1.weight; not used: decoder.x" \
    plan lacks.safetensors --set teacher.min_match=0.95 -q
edit "$tiny" few.safetensors \
    't = {k: v for k, v in t.items() if not k.startswith("blocks") or k.startswith("blocks.0.")}'
refused 3 'teacher.min_match asks for 50 %; first missing: blocks.1' plan few.safetensors -q
accepted plan few.safetensors --set teacher.min_match=0.2
refused 3 'blocks.3.mlp.fc1.weight .* is missing' "$teacher" predict --weights lacks.safetensors \
    --config "$configs/teacher/tiny.yaml" v.avi

# ---- which of several -----------------------------------------------------------------------------------------------
edit "$tiny" two.safetensors 't = {p + k: v for p in ("teacher.", "student.") for k, v in t.items()}'
refused 3 'a key \(--key, teacher.weights_key\) says which' plan two.safetensors -q
accepted plan two.safetensors --set teacher.weights_key=student
refused 3 "no weights of key 'ema'" plan two.safetensors --set teacher.weights_key=ema -q
refused 2 'teacher.weights_key: ema, but the run starts from no weights' "$teacher" finetune -q --dry-run \
    --config "$configs/teacher/tiny.yaml" --data data --set 'data.split={by: subject, train: [1,2]}' --threads 1 \
    --set teacher.weights_key=ema
accepted "$kd" weights convert two.safetensors one.safetensors --key teacher
accepted "$kd" weights diff one.safetensors "$tiny"
refused 3 "no weights of key 'x'" "$kd" weights info two.safetensors --key x
accepted "$kd" weights info two.safetensors --key student

# ---- a head of Kinetics-710 -----------------------------------------------------------------------------------------
mkdir k && cp v.avi k/a.avi && cp v.avi k/b.avi && echo 'a.avi 0' >k/t.csv && echo 'b.avi 0' >k/v.csv
k710() { # CLASSES WEIGHTS [OPTION...]
    local n=$1 w=$2
    shift 2
    "$teacher" finetune --config "$configs/teacher/tiny.yaml" --weights "$w" --threads 1 --set train.workers=1 \
        --set "data={root: k, layout: list, split: list, train_list: t.csv, val_list: v.csv, num_classes: $n}" \
        --batch-size 1 --set mixup.alpha=0 --set mixup.cutmix_alpha=0 "$@"
}
edit "$tiny" k710.safetensors \
    't["head.weight"] = [[710, 96], b"".join(struct.pack("<f", i) * 96 for i in range(710))]
t["head.bias"] = [[710], b"".join(struct.pack("<f", 2 * i) for i in range(710))]'
accepted k710 400 k710.safetensors --dry-run
grep -q 'teacher.head_rows: k400 takes the rows of a head of Kinetics-710' err.txt || failed "no hint: $(cat err.txt)"
refused 2 'teacher.head_rows: takes 600 rows, but the data set has 400 classes' \
    k710 400 k710.safetensors --set teacher.head_rows=k600 --dry-run -q
refused 3 'tensor head.weight: expected \(400,96\), found \(12,96\)' \
    k710 400 "$tiny" --set teacher.head_rows=k400 --dry-run -q
edit "$tiny" bare.safetensors 'del t["head.weight"]; del t["head.bias"]'
refused 3 'holds no head, of which teacher.head_rows takes rows' \
    k710 400 bare.safetensors --set teacher.head_rows=k400 --dry-run -q
accepted k710 400 k710.safetensors --set teacher.head_rows=k400 --epochs 1 --set optim.base_lr=0 --set optim.min_lr=0 \
    --out cut -q
grep -q '"type": *"weights".*"missing": *\[\].*"reshaped": *\["head.weight", *"head.bias"\]' cut/log.jsonl ||
    failed "log.jsonl: $(head -1 cut/log.jsonl)"
edit cut/checkpoints/last/model.safetensors got.safetensors \
    'b = struct.unpack("<400f", t["head.bias"][1]); assert b[:3] == (682, 316, 378) and b[399] == 662, b[:3]' ||
    failed "the rows of K400 are others"
accepted "$teacher" predict --weights cut v.avi
accepted "$teacher" predict --weights k710.safetensors --config "$configs/teacher/tiny.yaml" \
    --set teacher.head_rows=k400 v.avi
mkdir ids && cp v.avi ids/1.avi && echo 1 >ids.txt
accepted "$teacher" predict --weights k710.safetensors --config "$configs/teacher/tiny.yaml" --data ids --ids ids.txt \
    --set teacher.head_rows=k400 --set "data.classes=[$(seq -s, -f c%g 400)]" --submission rows.csv
grep -q '^1,c[0-9]*$' rows.csv || failed "a submission of rows of a head: $(cat rows.csv)"

# ---- position tables ------------------------------------------------------------------------------------------------
accepted plan "$tiny" --set teacher.img_size=64 --set teacher.pos_table=interpolate
refused 2 'teacher.pos_table: interpolate, but clips of 16 frames of 224 pixels have the published grid' \
    plan "$tiny" --set teacher.img_size=224 --set teacher.frames=16 --set teacher.pos_table=interpolate -q
refused 3 'tensor pos_embed .* is missing' "$teacher" predict --weights "$tiny" --config "$configs/teacher/tiny.yaml" \
    --set teacher.pos_table=stored v.avi
cat >resized.yaml <<Y
base: $configs/teacher/tiny.yaml
teacher: {img_size: 64, pos_table: interpolate}
Y
refused 2 "transformers' VideoMAE has no such model .teacher.pos_table." \
    "$kd" weights convert "$tiny" hf --to hf --config resized.yaml
refused 3 'tensor pos_embed .* is missing' plan "$tiny" --set teacher.pos_table=stored -q
edit "$tiny" learned.safetensors 't["pos_embed"] = [[1, 144, 96], struct.pack("<f", 0.5) * (144 * 96)]'
refused 3 'holds a table pos_embed of its own, .*set teacher.pos_table: stored' plan learned.safetensors -q
accepted plan learned.safetensors --set teacher.pos_table=stored
grep -q '59 tensors matched .*0 reshaped' err.txt || failed "the stored table is not taken: $(grep matched err.txt)"
accepted plan learned.safetensors --set teacher.pos_table=stored --set teacher.img_size=64
grep -q '59 tensors matched .*1 reshaped' err.txt || failed "the stored table is not resized: $(grep matched err.txt)"
edit "$tiny" odd.safetensors 't["pos_embed"] = [[1, 143, 96], struct.pack("<f", 0.5) * (143 * 96)]'
refused 3 'tensor pos_embed: expected \(1,144,96\), found \(1,143,96\)' \
    plan odd.safetensors --set teacher.pos_table=stored -q

# ---- MMAction2's files hold the table -------------------------------------------------------------------------------
accepted "$kd" weights convert "$tiny" m.pth --to mmaction2
grep -q 'backbone.pos_embed is left out: no recipe says for which clips' out.txt ||
    failed "nothing is said: $(cat out.txt)"
accepted "$kd" weights convert "$tiny" with.pth --to mmaction2 --config "$configs/teacher/tiny.yaml"
accepted "$kd" weights info with.pth --json
grep -q '"tensors": 58' out.txt && grep -q '"dropped": 1' out.txt || failed "the table: $(cat out.txt)"
accepted "$kd" weights diff with.pth "$tiny"
refused 2 '--config: only for a folder .* and --to mmaction2' \
    "$kd" weights convert "$tiny" x.pth --config "$configs/teacher/tiny.yaml"
finish
