#!/usr/bin/env bash
# CutMix of sequences: a run of the partner's frames, alone and beside mixup (numbers: tests/data/test_mixup.c).
. "$(dirname "$0")/setup.sh"
samples data
short_student 2 | sed 's/batch_size: 8/batch_size: 4/; s/warmup_epochs: 1/warmup_epochs: 0/' >s.yaml
train() { "$distill" train --config s.yaml --threads 1 --set train.log_interval=1 -q "$@"; }
cut=(--set mixup.cutmix_alpha=1)
loss() { grep -o '"loss":[0-9.e-]*' "$1/log.jsonl"; }

accepted train --out plain
accepted train "${cut[@]}" --out cut
accepted train "${cut[@]}" --set mixup.alpha=0.8 --set mixup.switch_prob=0 --out never
accepted train --set mixup.alpha=0.8 --out mixup
accepted train "${cut[@]}" --set mixup.mode=elem --set mixup.prob=0.5 --out elem
[ "$(loss cut)" != "$(loss plain)" ] || failed "CutMix changes nothing"
[ "$(loss cut)" != "$(loss mixup)" ] || failed "CutMix is mixup"
[ "$(loss elem)" != "$(loss cut)" ] || failed "mode elem changes nothing"
same_file never/checkpoints/last/model.safetensors mixup/checkpoints/last/model.safetensors # switch_prob 0: mixup alone
if grep -qi nan cut/log.jsonl elem/log.jsonl; then failed "NaN"; fi
accepted train "${cut[@]}" --set train.resident=on --out resident
same_file cut/checkpoints/last/model.safetensors resident/checkpoints/last/model.safetensors

# ---- one epoch and one more are two
steady=("${cut[@]}" --set optim.schedule=multistep --set 'optim.milestones=[50]')
accepted train "${steady[@]}" --epochs 2 --out two
accepted train "${steady[@]}" --epochs 1 --out more
accepted train "${steady[@]}" --epochs 2 --out more --resume
same_file two/checkpoints/last/model.safetensors more/checkpoints/last/model.safetensors
finish
