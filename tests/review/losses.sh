#!/usr/bin/env bash
# Every loss with a recipe of its own: trained with, mixed and not; what its keys refuse.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/setup.sh"
samples data
cat >t.yaml <<Y
base: $configs/teacher/tiny.yaml
data: {root: data, split: {by: subject, train: [1]}}
train: {threads: 1, workers: 1}
eval: {clips: 1, crops: 1, batch_size: 8}
Y
accepted "$teacher" dump-logits --config t.yaml --weights "$configs/teacher/tiny_pretrained.safetensors" \
    --split train --logits f32 --features fc_norm --out t.logits.zst -q
short_student 1 >s.yaml
train() { "$distill" train --config s.yaml --threads 1 --set train.log_interval=1 -q "$@"; }
taught() { train --teacher-logits t.logits.zst "$@"; }

# logged RUN TERM...: the run's log has a finite loss above 0 under each name.
logged() {
    local run=$1 term
    shift
    for term in "$@"; do
        grep -Eq "\"loss_$term\":[0-9.]*[1-9]" "$run/log.jsonl" || failed "$run: no loss_$term above 0 in its log"
    done
}
losses='dkd dist nkd logit_std logit_mse topk jsd sp pkt infonce'
for loss in $losses; do
    accepted taught --config "$configs/distill/$loss.yaml" --out "$loss"
    logged "$loss" "$loss"
done
accepted taught --config "$configs/distill/rkd.yaml" --out rkd
logged rkd rkd_distance rkd_angle

# ---- all at once, batches mixed, one weight by schedule
all=()
for loss in $losses rkd_distance rkd_angle; do
    all+=(--set "kd.${loss}_weight=0.01")
done
accepted taught "${all[@]}" --set mixup.alpha=0.8 --set kd.dkd_schedule=cosine --out all
# shellcheck disable=SC2086 # a list of words
logged all $losses rkd_distance rkd_angle

# ---- a store twice; schedules that the run is too short for
cp t.logits.zst again.zst
said() { grep -q "warning: $1" err.txt || failed "expected the warning $1, found $(cat err.txt)"; }
accepted "$distill" train --config s.yaml --config "$configs/distill/dkd.yaml" --out no --dry-run \
    --set 'kd.store=[t.logits.zst, again.zst]' --set kd.dkd_warmup_epochs=4 --set kd.dkd_stop_epoch=1
said 'kd.store: .*/t.logits.zst and .*/again.zst hold the same bytes; this teacher counts twice'
said 'kd.dkd_warmup_epochs: 4 is more than train.epochs; the weight ends at 0.25'
said 'kd.dkd_stop_epoch: 1 is not before the end of train.epochs, 1; the term never stops'

# ---- keys without a weight, and what does not fit
refused 2 'kd.dkd_beta: does nothing with kd.dkd_weight 0' train --set kd.dkd_beta=2 --out no
refused 2 'kd.topk_tail: does nothing with kd.topk_weight 0' train --set kd.topk_tail=zero --out no
refused 2 'kd.rkd_angle_stop_epoch: does nothing with kd.rkd_angle_weight 0' train --set kd.rkd_angle_stop_epoch=1 \
    --set kd.rkd_distance_weight=1 --out no
refused 2 'kd.nkd_temperature: expected 1 where batches are mixed' taught --set kd.nkd_weight=1 \
    --set kd.nkd_temperature=2 --set mixup.alpha=0.8 --out no
refused 2 'kd.topk_k: expected at most the 12 classes of the data, found 13' taught --set kd.topk_weight=1 \
    --set kd.topk_k=13 --out no
refused 2 'kd.feature_weight: does nothing with kd.feature none' taught --set kd.feature_weight=3 --out no
refused 2 'kd.feature_stop_epoch: does nothing with kd.feature none' taught --set kd.feature_stop_epoch=1 --out no
refused 2 'kd.feature_stop_epoch: does nothing with kd.feature_weight 0' taught --set kd.feature=mse \
    --set kd.feature_weight=0 --set kd.feature_stop_epoch=1 --out no
accepted taught --set kd.feature=mse --set kd.feature_weight=0 --dry-run --out no
for loss in rkd_distance sp pkt infonce dist; do
    refused 2 "kd.${loss}_weight: the term compares the samples of a batch; expected train.batch_size of 2 or more" \
        taught --set kd.${loss}_weight=1 --set train.batch_size=1 --out no
done
refused 2 'kd.rkd_angle_weight: .* expected train.batch_size of 3 or more, found 2' taught --set kd.rkd_angle_weight=1 \
    --set train.batch_size=2 --out no
accepted "$teacher" dump-logits --config t.yaml --weights "$configs/teacher/tiny_pretrained.safetensors" \
    --split train --out bare.logits.zst -q
refused 3 'bare.logits.zst: holds no features; .*leave out the terms that read features' train \
    --teacher-logits bare.logits.zst --set kd.sp_weight=1 --out no
finish
