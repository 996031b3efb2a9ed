#!/usr/bin/env bash
# Numbers that are none, and runs that went wrong, end with code 1; figures are those of the step they stand at.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/setup.sh"
samples data
student="--config $configs/student/last-e3-nano.yaml --set skeleton.frames=16 --set data.split.by=subject
    --set data.split.train=[1,2] --set data.num_classes=12 --set optim.warmup_epochs=0 --batch-size 8 --threads 1
    --data data -q"
# shellcheck disable=SC2086
train() { "$distill" train $student "$@"; }
accepted train --epochs 1 --out good
skeleton=$(find data/nturgb+d_skeletons -name '*.skeleton' | sort | head -1)
accepted "$distill" predict --weights good "$skeleton" -q

# weights with a NaN: one number of the file's last tensor
cp good/checkpoints/best/model.safetensors nan.safetensors
size=$(stat -c %s nan.safetensors)
printf '\377\377\377\177' | dd of=nan.safetensors bs=1 seek=$((size - 4)) conv=notrunc status=none
recipe="--config good/config.yaml"
# shellcheck disable=SC2086
for c in "predict $skeleton" "eval --data data" "dump-logits --data data --out n.logits.zst"; do
    refused 1 'nan.safetensors: tensor .*: expected finite values, found nan at' \
        "$distill" ${c%% *} --weights nan.safetensors $recipe -q ${c#* }
done
absent n.logits.zst
refused 1 'expected finite values' train --epochs 1 --weights nan.safetensors --out from-nan

# a run whose loss ends above its beginning; the weights stay
fast() {
    train --epochs 3 --set optim.base_lr="$1" --set optim.min_lr="$1" --set optim.clip_grad=0 --out "lr-$1"
}
refused 1 'diverged: mean loss [0-9.]+ in the last epoch, [0-9.]+ in the first; the weights are kept in' fast 0.5
present lr-0.5/checkpoints/last/model.safetensors
refused 1 'diverged|not finite' fast 3
refused 1 'diverged|not finite' fast 100
present lr-100/checkpoints/last/model.safetensors

# the terms of an accumulated step are means over its micro-batches, as the loss is: weighted, they add up to it
accepted "$teacher" dump-logits --config "$configs/teacher/tiny.yaml" --data data --set 'data.split.train=[1,2]' \
    --weights "$configs/teacher/tiny_pretrained.safetensors" --split train --out s.logits.zst --threads 1 -q
accepted train --config "$configs/distill/ce_kd.yaml" --teacher-logits s.logits.zst --epochs 1 --out acc \
    --batch-size 4 --set optim.accumulation=3 --set train.log_interval=1 --set kd.weight=0.5 --set kd.feature=none
awk '/"type":"train"/ {
    for (name in v) delete v[name]
    n = split($0, f, /[,{}]/)
    for (i = 1; i <= n; i++) if (split(f[i], kv, ":") == 2) { gsub("\"", "", kv[1]); v[kv[1]] = kv[2] }
    d = v["loss"] - (0.5 * v["loss_ce"] + 0.5 * v["loss_kd"])
    if (d > 2e-6 || d < -2e-6) { print "step", v["step"], ": the terms are off by", d; bad = 1 }
    steps++
}
END { if (steps < 2) { print "no steps"; bad = 1 } exit bad }' acc/log.jsonl || failed "terms and loss disagree"

# one step an epoch: its samples are counted
# shellcheck disable=SC2086
"$distill" train ${student/-q/} --limit 8 --epochs 1 --out one 2>err.txt >out.txt || failed "one step: $?"
grep -q 'epoch 1/1  8 samples in' err.txt || failed "one step of eight samples: $(grep 'epoch 1/1' err.txt)"
finish
