#!/usr/bin/env bash
# A store of training views: a video student sees the rows again that the teacher answered to, bit for bit, a student of
# skeletons one of the answers an epoch.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/setup.sh"
samples data
cat >t.yaml <<Y
base: $configs/teacher/tiny.yaml
data: {root: data, split: {by: subject, train: [1, 2]}}
teacher: {drop_path: 0, head_drop: 0}
video: {rand_augment: rand-m7-n2-mstd0.5, erase_prob: 0.5, erase_mode: pixel}
mixup: {alpha: 0, cutmix_alpha: 0}
train: {threads: 1, workers: 2, batch_size: 6, seed: 3}
eval: {batch_size: 5}
Y
start=$configs/teacher/tiny_pretrained.safetensors
dump() { "$teacher" dump-logits --config t.yaml --weights "$start" --logits f32 "$@"; }
accepted dump --split train --views train:2 --out two.logits.zst
accepted "$kd" logits verify two.logits.zst
"$kd" logits info two.logits.zst | grep -q 'views      train:2' || failed "info: $("$kd" logits info two.logits.zst)"
accepted dump --split train --views train:2 --out again.logits.zst --set train.workers=0 --batch-size 5
same_file two.logits.zst again.logits.zst
accepted dump --split train --views 1x1 --out plain.logits.zst

# ---- the same weights, rates of 0: where the rows are the same, so are the answers, and the divergence is 0
run=("$teacher" finetune --config t.yaml --weights "$start" --set kd.weight=1 --set kd.ce_weight=0
    --set kd.temperature=1 --set optim.base_lr=1e-30
    --set optim.min_lr=0 --set optim.warmup_start_lr=0 --set optim.weight_decay=0 --epochs 3)
loss() { sed -n 's/.*"type":"epoch".*"train_loss":\([-0-9.e]*\).*/\1/p' "$1/log.jsonl" | tr '\n' ' '; }
below() {
    awk -v most="$2" '{
        for (i = 1; i <= NF; i++) bad += !($i < most && $i > -most) } END { exit bad || NF != 3 }' <<<"$1"
}
accepted "${run[@]}" --teacher-logits two.logits.zst --out same
below "$(loss same)" 2e-5 || failed "the rows are not those of the store: divergence $(loss same)"
accepted "${run[@]}" --teacher-logits two.logits.zst --out seed --seed 11 # another order, the same rows
below "$(loss seed)" 2e-5 || failed "another seed: divergence $(loss seed)"
accepted "${run[@]}" --teacher-logits plain.logits.zst --out plain
below "$(loss plain)" 1e-3 && failed "other rows, and no divergence: $(loss plain)"

# ---- what would be other rows is refused
again() { refused "$1" "$2" "${run[@]}" --teacher-logits two.logits.zst --out no -q "${@:3}"; }
again 3 'rows of another recipe' --set video.flip_prob=0.25
again 3 'rows of another recipe' --set video.rand_augment=rand-m9-n2-mstd0.5
again 3 'expected the split of the data set' --set 'data.split.train=[1]'
again 2 'train.num_sample: expected 1' --set train.num_sample=2
refused 2 'split train' dump --views train:2 --out no.logits.zst -q
refused 2 'CLIPSxCROPS' "$teacher" eval --config t.yaml --weights "$start" --views train:2 -q
for bad in train:0 train: train:2x 4294967297x1; do
    refused 2 'CLIPSxCROPS.* or train:N, got' dump --split train --views $bad --out no.logits.zst -q
done
refused 3 'rows of training' "$kd" logits verify two.logits.zst --recompute 1 --config t.yaml --weights "$start" -q

# ---- a student of skeletons: view e mod 2 in epoch e
short_student 2 >s.yaml
student=(--config s.yaml --set 'data.split.train=[1,2]' --config "$configs/distill/ce_kd.yaml")
accepted "$distill" train "${student[@]}" --teacher-logits two.logits.zst --out s
accepted "$distill" train "${student[@]}" --teacher-logits plain.logits.zst --out p
[ "$(loss s)" != "$(loss p)" ] || failed "a student of skeletons does not see the views: $(loss s)"
refused 2 'train.resident: expected off or auto' "$distill" train "${student[@]}" --teacher-logits two.logits.zst \
    --set train.resident=on --out no -q
# a test with mirrored views
accepted dump --split val --views 1x2x2 --out f.logits.zst
"$kd" logits info f.logits.zst | grep -q 'views      1x2x2' || failed "flips: $("$kd" logits info f.logits.zst)"
accepted "$kd" logits verify f.logits.zst
finish
