#!/usr/bin/env bash
# --find-lr: rates grow, the loss tells; files, no weights, nothing that a run later feels.
. "$(dirname "$0")/setup.sh"

samples data
short_student 1 >ce.yaml
two_view_teacher >teacher.yaml

accepted "$distill" train --config ce.yaml --find-lr --lr-range 1e-4:100:30 --out run
said='^the loss falls steepest at optim.base_lr [0-9.e-]+, is least at [0-9.e-]+, diverges at [0-9.e+]+: try '
grep -Eq "$said" out.txt ||
    failed "no suggestion: $(cat out.txt)"
[ "$(ls run)" = "$(printf 'lr_find.csv\nlr_find.html\nlr_find.json')" ] || failed "more than the three files: $(ls run)"
head -n 1 run/lr_find.csv | grep -qx 'step,base_lr,loss,smoothed_loss' ||
    failed "lr_find.csv: $(head -n 1 run/lr_find.csv)"
sed -n 2p run/lr_find.csv | grep -q '^1,0.0001,' || failed "the first rate is not FROM"
rows=$(($(wc -l <run/lr_find.csv) - 1))
[ "$rows" -lt 30 ] || failed "rate 100 did not end the test"
grep -q '<svg' run/lr_find.html || failed "no picture"
# Twice the same numbers; there already; a run into the folder is the run that it would have been.
accepted "$distill" train --config ce.yaml --find-lr --lr-range 1e-4:100:30 --out again
same_file run/lr_find.csv again/lr_find.csv
refused 2 'exist' "$distill" train --config ce.yaml --find-lr --out run -q
accepted "$distill" train --config ce.yaml --out run
accepted "$distill" train --config ce.yaml --out plain
same_file run/checkpoints/last/model.safetensors plain/checkpoints/last/model.safetensors
accepted "$distill" train --config ce.yaml --out run --force
absent run/lr_find.csv
# optim.base_lr is what the recipe scales; accumulation is a step.
accepted "$distill" train --config ce.yaml --find-lr --lr-range 1e-4:1e-2:10 --set optim.scale_lr=true \
    --set train.batch_size=4 --set optim.accumulation=2 --json --out scaled
grep -q '"last_base_lr": *0.01' out.txt || failed "not the recipe's rate: $(cat out.txt)"
# The same for a teacher.
accepted "$teacher" finetune --config teacher.yaml --find-lr --lr-range 1e-5:1e-1:10 --out teacher
present teacher/lr_find.html
absent teacher/checkpoints

refused 2 'FROM:TO:STEPS' "$distill" train --config ce.yaml --find-lr --lr-range 1:0.1:20 --out x -q
refused 2 'FROM:TO:STEPS' "$distill" train --config ce.yaml --find-lr --lr-range 1e-6:1 --out x -q
refused 2 'does nothing without --find-lr' "$distill" train --config ce.yaml --lr-range 1e-6:1:20 --out x -q
refused 2 'keeps nothing' "$distill" train --config ce.yaml --find-lr --resume --out x -q
refused 2 'out DIR is needed' "$distill" train --config ce.yaml --find-lr -q
absent x
finish
