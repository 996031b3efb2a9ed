#!/usr/bin/env bash
# Self-distillation: a student that learns from its own running average; runs that end and go on, bit for bit.
. "$(dirname "$0")/setup.sh"
samples data
short_student 1 | sed 's/batch_size: 8/batch_size: 4/; s/warmup_epochs: 1/warmup_epochs: 0/' >s.yaml
train() { "$distill" train --config s.yaml --threads 1 --set train.log_interval=1 -q "$@"; }
own=(--config "$configs/distill/self.yaml" --set optim.warmup_epochs=0)
terms() { grep -o "\"$2\":[0-9.e-]*" "$1/log.jsonl" | cut -d: -f2; }

# ---- logged, ramped, with and without a teacher, mixed; a fixed average is the start
accepted train "${own[@]}" --epochs 2 --out own
[ "$(terms own loss_self | wc -l)" -eq 6 ] || failed "loss_self is not logged in each of 6 steps"
[ "$(terms own loss_self | awk '$1 > 0' | wc -l)" -eq 6 ] || failed "loss_self is 0"
grep -q 'KL(average || student) at T = 1 (weight by schedule)' <(
    "$distill" train --config s.yaml "${own[@]}" --set kd.self_warmup_epochs=1 --dry-run --out no 2>&1) ||
    failed "the loss does not name the average"
accepted train "${own[@]}" --set mixup.alpha=0.8 --set optim.accumulation=3 --out mixed
if grep -qi nan mixed/log.jsonl; then failed "NaN with mixed batches"; fi

# ---- one epoch and one more are two epochs: rates that do not know the end
steady=(--set optim.schedule=multistep --set 'optim.milestones=[50]')
accepted train "${own[@]}" "${steady[@]}" --epochs 2 --out two
accepted train "${own[@]}" "${steady[@]}" --epochs 1 --out more
accepted train "${own[@]}" "${steady[@]}" --epochs 2 --out more --resume
same_file two/checkpoints/last/model.safetensors more/checkpoints/last/model.safetensors
same_file two/checkpoints/last/optim.safetensors more/checkpoints/last/optim.safetensors

# ---- several teachers and pseudo-labels go on likewise
cat >t.yaml <<Y
base: $configs/teacher/tiny.yaml
data: {root: data, split: {by: subject, train: [1]}}
eval: {clips: 1, crops: 1, batch_size: 8}
Y
for clips in 1 2; do
    accepted "$teacher" dump-logits --config t.yaml --weights "$configs/teacher/tiny_pretrained.safetensors" \
        --split train --logits f32 --set eval.clips=$clips --threads 1 --out $clips.logits.zst -q
done
find data/nturgb+d_skeletons -name '*P001*' -printf '%f\n' | sed 's/\.skeleton$//' | sort | sed 5d >bare
many=(--set 'kd.store=[1.logits.zst,2.logits.zst]' --set kd.combine=entropy --set data.unlabelled=bare
    --set kd.pseudo=0.1)
accepted train "${many[@]}" "${steady[@]}" --epochs 2 --out many
accepted train "${many[@]}" "${steady[@]}" --epochs 1 --out again
accepted train "${many[@]}" "${steady[@]}" --epochs 2 --out again --resume
same_file many/checkpoints/last/model.safetensors again/checkpoints/last/model.safetensors

# ---- what is refused
refused 2 'kd.self_weight: 1, but the model has no running average' train --set kd.self_weight=1 --out no
refused 2 'kd.self_temperature: does nothing with kd.self_weight 0' train --set kd.self_temperature=2 --out no
refused 2 'train.resident: expected off or auto with kd.self_weight' train "${own[@]}" --set train.resident=on --out no
finish
