#!/usr/bin/env bash
# Averaged weights: `kd weights average`, train.average_last, batch norm over the training half.
. "$(dirname "$0")/setup.sh"

samples data
short_student 6 >ce.yaml
figure() { sed -n "/\"metrics\"/,/}/s/.*\"$1\": \([0-9.e-]*\),*/\1/p" "$2"; }

# The last three of six epochs, kept and averaged by hand, are what training averages.
accepted "$distill" train --config ce.yaml --set train.keep=1 --out kept
accepted "$distill" train --config ce.yaml --set train.average_last=3 --out run
same_file kept/checkpoints/last/model.safetensors run/checkpoints/last/model.safetensors
k=kept/checkpoints
accepted "$kd" weights average $k/epoch-3 $k/epoch-4 $k/epoch-5 --out mean
grep -q '^3 weights, ' out.txt || failed "not told: $(cat out.txt)"
same_file mean/model.safetensors run/checkpoints/average/model.safetensors
[ "$(echo run/checkpoints/epoch-*)" = "$(echo run/checkpoints/epoch-{3,4,5})" ] || failed "not the three last epochs"
# The report is of the average, and so is an evaluation of it; the folder that kd made is a checkpoint with its recipe.
accepted "$distill" eval --weights mean --out mean.json
[ "$(figure nll mean.json)" = "$(figure nll run/report.json)" ] || failed "the report is not of the average"
[ "$(figure nll run/report.json)" != "$(figure nll kept/report.json)" ] || failed "the average is the last epoch"
# Files, and one weight twice is that weight.
accepted "$kd" weights average $k/epoch-3 $k/epoch-4 $k/epoch-5 --out mean.pth
accepted "$kd" weights diff mean mean.pth
accepted "$kd" weights average $k/last $k/last --out same.safetensors
accepted "$kd" weights diff $k/last same.safetensors

# Interrupted at its end or gone on with: the same bytes.
cp run/checkpoints/average/model.safetensors want.safetensors
rm -r run/report.json
accepted "$distill" train --config ce.yaml --set train.average_last=3 --out run --resume
same_file want.safetensors run/checkpoints/average/model.safetensors
[ "$(figure nll mean.json)" = "$(figure nll run/report.json)" ] ||
    failed "the report after a resume is not of the average"
accepted "$distill" train --config ce.yaml --set train.average_last=3 --epochs 5 --out short
accepted "$distill" train --config ce.yaml --set train.average_last=3 --epochs 7 --out run --resume
! cmp -s want.safetensors run/checkpoints/average/model.safetensors || failed "a longer run kept its old average"

# Batch norm: other statistics, the same weights.
accepted "$distill" train --config ce.yaml --set train.average_last=3 --set train.average_bn=recompute --out bn
"$kd" weights diff mean bn/checkpoints/average >diff.txt
grep -q running_mean diff.txt || failed "the statistics were not computed again: $(cat diff.txt)"
! grep '^value' diff.txt | grep -qv 'running_\(mean\|var\)' ||
    failed "more than the statistics changed: $(cat diff.txt)"
[ "$(figure nll bn/report.json)" != "$(figure nll run/report.json)" ] || failed "the report does not see the statistics"

# Refusals.
refused 2 'does nothing without train.average_last' \
    "$distill" train --config ce.yaml --set train.average_bn=recompute --out x -q
refused 2 'report is of one average' "$distill" train --config ce.yaml --set train.average_last=2 \
    --set train.eval_ema=true --set optim.ema_decay=0.9 --out x -q
accepted "$distill" train --config ce.yaml --set student.name=sfz-nano --epochs 1 --out sfz
refused 3 'average: ' "$kd" weights average sfz/checkpoints/last $k/last --out y -q
refused 2 'expected a checkpoint' "$kd" weights average $k/last same.safetensors --out y -q
refused 2 'exists' "$kd" weights average $k/last $k/last --out same.safetensors -q
refused 2 'out PATH is needed' "$kd" weights average $k/last $k/last -q
absent y
finish
