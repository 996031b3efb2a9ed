#!/usr/bin/env bash
# Numbers that two commands give must be the same number: validation during training and `eval` of the best checkpoint,
# with plain and with averaged weights; the teacher's accuracy by `eval`, by `dump-logits` and by the student's join;
# any number of threads and workers, any batch size of the evaluation; training data fed or kept on the device.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$here/recipes.sh"

# number KEY FILE: the value of the last "KEY": of a JSON text.
number() { grep -o "\"$1\":[-0-9.e]*" "$2" | tail -1 | cut -d: -f2; }

# near A B WHAT: equal to what both print.
near() {
    awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; if (d < 0) d = -d; exit !(a != "" && b != "" && d <= 2e-6) }' ||
        failed "$3: $1 and $2"
}

percent() { awk -v t="$1" 'BEGIN { printf "%.2f", 100 * t }'; }

sample_set 48
teacher_recipe
student_recipe sfz-nano

for ema in false true; do
    accepted "$distill" train --config student.yaml --set kd.weight=0 --set kd.feature=none --out "ema-$ema" \
        --set train.eval_ema=$ema --epochs 2 -q
    best=$(grep -o '"best_epoch": [0-9]*' "ema-$ema/checkpoints/last/state.json" | grep -o '[0-9]*$')
    grep "\"type\":\"val\",\"epoch\":$best," "ema-$ema/log.jsonl" >val.json
    accepted "$distill" eval --weights "ema-$ema" --json -q
    near "$(number nll val.json)" "$(number nll out.txt)" "eval_ema $ema: NLL of the validation and of eval"
    near "$(number top1 val.json)" "$(number top1 out.txt)" "eval_ema $ema: top-1 of the validation and of eval"
done
cmp -s ema-false/checkpoints/best/model.safetensors ema-true/checkpoints/best/model.safetensors &&
    failed "averaged and plain weights are the same file"

accepted "$teacher" finetune --config teacher.yaml --out t -q
for how in '--batch-size 1 --threads 1 --workers 0' '--batch-size 7 --threads 2 --workers 2'; do
    # shellcheck disable=SC2086
    accepted "$teacher" eval --weights t --views 2x1 --split train --json -q $how
    near "$(number nll out.txt)" "${nll:-$(number nll out.txt)}" "NLL of the teacher with $how"
    near "$(number top1 out.txt)" "${top1:-$(number top1 out.txt)}" "top-1 of the teacher with $how"
    nll=$(number nll out.txt)
    top1=$(number top1 out.txt)
done
accepted "$teacher" dump-logits --weights t --views 2x1 --out t.logits.zst --features fc_norm -q
grep -q "training half: $(percent "$top1") %" out.txt ||
    { failed "dump-logits tells another top-1 than $top1"; cat out.txt; }
accepted "$teacher" dump-logits --weights t --views 2x1 --split train --out half.logits.zst --json -q
near "$(number top1_train out.txt)" "$top1" "dump-logits --json: top-1 of the training half"
grep -q '"top1_val":null}' out.txt ||
    { failed "dump-logits --json: a top-1 for a half that was not dumped"; cat out.txt; }
accepted "$distill" train --config student.yaml --teacher-logits t.logits.zst --epochs 1 --out d
grep -q "joined 24 of 24 training samples, teacher top-1 on them $(percent "$top1") %" err.txt ||
    { failed "the student's join tells another top-1 than $top1"; grep joined err.txt; }

# Training data fed batch by batch or kept on the device (here: the processor's memory): the same bytes, teacher's rows
# included.
for mixup in 0 0.8; do
    for resident in off on; do
        accepted "$distill" train --config student.yaml --teacher-logits t.logits.zst --epochs 1 \
            --out "r-$mixup-$resident" \
            --set train.resident=$resident --set mixup.alpha=$mixup
        grep -q 'training data on the device: 24 sequences' err.txt && [ $resident = off ] &&
            failed "resident: off is not off"
        [ $resident = off ] || grep -q 'training data on the device: 24 sequences' err.txt ||
            failed "resident: on is not on"
    done
    for f in checkpoints/last/model.safetensors checkpoints/last/optim.safetensors log.jsonl; do
        same_file "r-$mixup-off/$f" "r-$mixup-on/$f"
    done
done
finish
