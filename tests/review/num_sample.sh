#!/usr/bin/env bash
# train.num_sample: clips of each sample in a batch.  Steps and learning rate do not count them, resume is exact, the
# forecast of memory counts them.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/setup.sh"
samples data
tune=("$teacher" finetune --config "$configs/teacher/tiny.yaml" --data data --set 'data.split.train=[1,2]' --threads 1
    --set data.num_classes=12 --set mixup.alpha=0.8 --set mixup.mode=pair --set video.spatial=rrc
    --set video.flip_prob=0.5 --set train.checkpoint_every_steps=2 --epochs 1 --batch-size 3)
tune() { "${tune[@]}" "$@"; }
fact() { grep -Eo "$1" err.txt | head -1; }

accepted tune --batch-size 4 --dry-run
steps=$(fact '[0-9]+ steps an epoch') one=$(fact 'lr = .*') memory=$(fact 'activations [0-9.]+')
accepted tune --batch-size 4 --dry-run --set train.num_sample=3
[ -n "$steps" ] && [ "$(fact '[0-9]+ steps an epoch')" = "$steps" ] || failed "steps: $(cat err.txt)"
[ -n "$one" ] && [ "$(fact 'lr = .*')" = "$one" ] || failed "lr: $(cat err.txt)"
awk "BEGIN { exit !($(fact 'activations [0-9.]+' | tr -dc 0-9.) > 1.5 * ${memory#activations }) }" ||
    failed "memory is not that of 12 rows: $(cat err.txt)"

# Mixup's partner is B-1-i over all clips: 3 x 2 pair, 3 x 3 do not.
refused 2 'even' tune --dry-run -q --set train.num_sample=3
accepted tune --set train.num_sample=2 --out whole --workers 1
accepted tune --set train.num_sample=2 --out other --workers 3
same_file whole/checkpoints/last/model.safetensors other/checkpoints/last/model.safetensors
asked INT cut/checkpoints/last/state.json cut "${tune[@]}" --set train.num_sample=2 --out cut --workers 2
[ "$rc" -eq 130 ] || failed "SIGINT: exit code $rc, expected 130"
accepted tune --set train.num_sample=2 --out cut --resume
same_file whole/checkpoints/last/model.safetensors cut/checkpoints/last/model.safetensors
same_file whole/checkpoints/last/optim.safetensors cut/checkpoints/last/optim.safetensors
accepted tune --batch-size 4 --out once
cmp -s whole/checkpoints/last/model.safetensors once/checkpoints/last/model.safetensors &&
    failed "repeats change nothing"

# Keys without effect are refused by name.
refused 2 'mixup.mode: expected batch where nothing is mixed' tune -q --dry-run --set mixup.alpha=0
refused 2 'mixup.partner: expected flip with mixup.mode pair' tune -q --dry-run --set mixup.partner=permute
refused 2 'video.out_of_bound: repeat_last, but sampler uniform_linspace' \
    tune -q --dry-run --set video.out_of_bound=repeat_last
refused 2 'video.sampling_rate: 2, but sampler uniform_linspace has none' tune -q --dry-run --set video.sampling_rate=2
refused 2 'video.sampling_rate: 2, but sampler segments has none' \
    tune -q --dry-run --set video.sampler=segments --set video.sampling_rate=2
refused 2 'eval.crops: expected 1 or 3 with eval.crop_rule corners, found 5' \
    tune -q --dry-run --set eval.crop_rule=corners --set eval.crops=5
refused 2 'num_sample' \
    "$distill" train --config "$configs/student/last-e3-nano.yaml" --set train.num_sample=2 --dry-run -q
finish
