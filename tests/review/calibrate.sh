#!/usr/bin/env bash
# `distill eval --calibrate`: a temperature fitted on one half, applied to the other, kept with the weights.
. "$(dirname "$0")/setup.sh"

samples data
short_student 12 >ce.yaml
accepted "$distill" train --config ce.yaml --out run
last=run/checkpoints/last
figure() { sed -n "/\"metrics\"/,/}/s/.*\"$1\": \([0-9.e-]*\),*/\1/p" "$2"; }

# The validation half fits, the training half is judged: NLL of the fit falls, top-1 stays, the report says what it was.
accepted "$distill" eval --weights $last --out fit.json
accepted "$distill" eval --weights $last --split train --out plain.json
accepted "$distill" eval --weights $last --split train --calibrate fit.json --out scaled.json
grep -q '^temperature [0-9.]*, fitted on 24 samples: NLL [0-9.]* before, [0-9.]* after' err.txt ||
    failed "not told: $(cat err.txt)"
awk '/fitted on/ { gsub(/[^0-9. ]/, " "); exit !($4 < $3) }' err.txt ||
    failed "NLL did not fall: $(grep fitted err.txt)"
t=$(sed -n 's/.*"temperature": \([0-9.]*\),$/\1/p' scaled.json)
[ -n "$t" ] || failed "the report does not name the temperature"
[ "$(figure top1 plain.json)" = "$(figure top1 scaled.json)" ] || failed "top-1 changed"
[ "$(figure nll plain.json)" != "$(figure nll scaled.json)" ] || failed "NLL did not change"
before=$(sed -n '/"uncalibrated"/,/}/s/.*"nll": \([0-9.]*\),.*/\1/p' scaled.json)
awk -v a="$before" -v b="$(figure nll plain.json)" 'BEGIN { exit !(a - b < 1e-5 && b - a < 1e-5) }' ||
    failed "NLL before calibration: $before, expected $(figure nll plain.json)"
grep -q 'NLL before calibration' out.txt || failed "before and after are not printed: $(cat out.txt)"

# Kept with the weights: whoever reads them has it, the run's own recipe and the other checkpoint have not.
grep -q "temperature: $(cut -c1-6 <<<"$t")" $last/config.yaml || failed "not kept with the weights"
grep -q 'temperature: 1$' run/config.yaml || failed "the run's recipe changed"
accepted "$distill" eval --weights $last --split train --out again.json
[ "$(figure nll again.json)" = "$(figure nll scaled.json)" ] || failed "eval forgot the temperature"
accepted "$distill" dump-logits --weights $last --split train --logits f32 --out cal.logits.zst
accepted "$kd" logits report cal.logits.zst --config ce.yaml --split train --out store.json
awk -v a="$(figure nll store.json)" -v b="$(figure nll scaled.json)" 'BEGIN { exit !(a - b < 1e-4 && b - a < 1e-4) }' ||
    failed "the store is not calibrated: NLL $(figure nll store.json), expected $(figure nll scaled.json)"
file=$(find data -name '*.skeleton' | head -n 1)
accepted "$distill" predict "$file" --weights $last --json
cp out.txt scaled.txt
accepted "$distill" predict "$file" --weights $last --set eval.temperature=1 --json
! cmp -s out.txt scaled.txt || failed "predict does not apply the temperature"
# Fitting a calibrated report finds the same temperature of the model's own logits.
accepted "$distill" eval --weights $last --out fit2.json
accepted "$distill" eval --weights $last --split train --calibrate fit2.json --out twice.json
t2=$(sed -n 's/.*"temperature": \([0-9.]*\),$/\1/p' twice.json)
awk -v a="$t" -v b="$t2" 'BEGIN { exit !(a / b < 1.001 && b / a < 1.001) }' || failed "fitted again: $t2, expected $t"
# A number; 1 takes it away; the run goes on.
accepted "$distill" eval --weights $last --split train --calibrate 1 --out one.json
[ "$(figure nll one.json)" = "$(figure nll plain.json)" ] || failed "--calibrate 1 does not take it away"
accepted "$distill" train --config ce.yaml --epochs 13 --out run --resume
absent $last/config.yaml

# Never fitted and judged on the same samples without a word, nor with other weights.
accepted "$distill" eval --weights $last --out fit.json --force
refused 3 'expected other samples than those that are judged, found 24' \
    "$distill" eval --weights $last --calibrate fit.json -q
accepted "$distill" eval --weights $last --calibrate fit.json --same-samples
grep -q 'flattered' err.txt || failed "judged on the samples of the fit, and not said"
accepted "$distill" train --config ce.yaml --seed 1 --epochs 1 --out other
refused 4 'expected a report of the weights' \
    "$distill" eval --weights other/checkpoints/last --split train --calibrate fit.json -q
refused 2 'a temperature from 0.05 to 20' "$distill" eval --weights $last --calibrate 0 -q
refused 2 'does nothing without --calibrate' "$distill" eval --weights $last --same-samples -q
finish
