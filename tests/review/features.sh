#!/usr/bin/env bash
# Features at named places of a teacher: what is stored, by which shape, and which of them a student learns from.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/setup.sh"
samples data
two_view_teacher >t.yaml
start=$configs/teacher/tiny_pretrained.safetensors
dump() { "$teacher" dump-logits --config t.yaml --weights "$start" --split train --logits f32 "$@"; }
accepted dump --features fc_norm --out one.logits.zst
accepted dump --features temporal,fc_norm,tokens --out all.logits.zst
accepted dump --features tokens --out tokens.logits.zst
accepted "$kd" logits verify all.logits.zst
shape='\[[0-9]+,[0-9]+\]'
"$kd" logits info all.logits.zst | grep -Eq "temporal $shape, fc_norm $shape, tokens $shape fp16" ||
    failed "info: $("$kd" logits info all.logits.zst | grep stored)"
head -c 4096 one.logits.zst | grep -aq '"taps"' && failed "a single vector is described by taps"
refused 2 'features: expected fc_norm, temporal, tokens, each once' dump \
    --features fc_norm,fc_norm --out no.logits.zst -q
refused 2 "got 'temporal,cls'" dump --features temporal,cls --out no.logits.zst -q

# ---- the places agree with one another: tokens -> mean over space -> mean over time -> LayerNorm
if command -v python3 >/dev/null && command -v zstd >/dev/null; then
    { echo 'import json, struct, subprocess'; sed -n '/^def read_store/,/^```/p' "$source/formats/README.md" |
        sed '$d'; } >r.py
    cat >>r.py <<'P'
import math, sys
weights = open(sys.argv[1], "rb").read()
n = struct.unpack_from("<Q", weights)[0]
head = json.loads(weights[8:8 + n])
def tensor(name):
    e = head[name]
    assert e["dtype"] == "BF16"
    raw = weights[8 + n + e["data_offsets"][0]:8 + n + e["data_offsets"][1]]
    return [struct.unpack("<f", b"\0\0" + raw[i:i + 2])[0] for i in range(0, len(raw), 2)]
gain, bias = tensor("fc_norm.weight"), tensor("fc_norm.bias")
start = open("all.logits.zst", "rb").read(1 << 16)
meta = json.loads(start[8:8 + struct.unpack_from("<I", start, 4)[0]])
taps = {t["name"]: t["shape"] for t in meta["taps"]}
(T, D), (N, _) = taps["temporal"], taps["tokens"]
assert meta["feature"] == "temporal,fc_norm,tokens" and taps["fc_norm"] == [1, D]
one = {r[0]: r for r in read_store("one.logits.zst")}
only = {r[0]: r for r in read_store("tokens.logits.zst")}
rows = list(read_store("all.logits.zst"))
assert len(rows) == 24
worst = 0
for name, label, prob, logits, f in rows:
    temporal, fc, tokens = f[:T * D], f[T * D:T * D + D], f[T * D + D:]
    assert list(tokens) == list(only[name][4]) and len(tokens) == N * D
    per = N // T
    for t in range(T):
        for d in range(0, D, 7):
            mean = sum(tokens[(t * per + s) * D + d] for s in range(per)) / per
            assert abs(mean - temporal[t * D + d]) < 2e-2 * (1 + abs(mean)), (name, t, d, mean, temporal[t * D + d])
    for a, b in zip(fc, one[name][4]): assert abs(a - b) <= 2e-3 * (1 + abs(b)), (name, a, b)
    for a, b in zip(logits, one[name][3]):
        for x, y in zip(a, b): assert abs(x - y) <= 1e-4 * (1 + abs(y)), (name, x, y)
# one view: LayerNorm of the mean over time is fc_norm
for name, label, prob, logits, f in read_store("view.logits.zst"):
    temporal, fc = f[:T * D], f[T * D:]
    x = [sum(temporal[t * D + d] for t in range(T)) / T for d in range(D)]
    m = sum(x) / D
    v = sum((a - m) ** 2 for a in x) / D
    for d in range(D):
        y = (x[d] - m) / math.sqrt(v + 1e-6) * gain[d] + bias[d]
        assert abs(y - fc[d]) < 2e-2 * (1 + abs(y)), (name, d, y, fc[d])
P
    accepted dump --features temporal,fc_norm --views 1x1 --out view.logits.zst
    accepted python3 r.py "$start"
fi

# ---- a student takes fc_norm unless told
short_student 1 >s.yaml
student=(--config s.yaml --set 'data.split.train=[1,2]' --config "$configs/distill/ce_kd_feature.yaml")
accepted "$distill" train "${student[@]}" --teacher-logits one.logits.zst --out a -q
accepted "$distill" train "${student[@]}" --teacher-logits all.logits.zst --out b -q
accepted "$distill" train "${student[@]}" --teacher-logits all.logits.zst --set kd.feature_tap=temporal --out c -q
train_loss() { grep -o '"train_loss":[0-9.]*' "$1/log.jsonl" | head -1 | cut -d: -f2; }
awk -v a="$(train_loss a)" -v b="$(train_loss b)" -v c="$(train_loss c)" \
    'BEGIN { exit !(a > 0 && (a - b) ^ 2 < 1e-10 * a * a && (a - c) ^ 2 > 1e-9 * a * a) }' ||
    failed "training loss: $(train_loss a) fc_norm alone, $(train_loss b) the same of three, $(train_loss c) temporal"
refused 3 'expected a feature called tokens, found fc_norm' "$distill" train "${student[@]}" --out no -q \
    --teacher-logits one.logits.zst --set kd.feature_tap=tokens
refused 2 'kd.feature_tap: only with kd.feature' "$distill" train --config s.yaml --out no -q \
    --set kd.feature_tap=tokens
finish
