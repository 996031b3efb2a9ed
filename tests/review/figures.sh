#!/usr/bin/env bash
# Figures that mean what they say: memory with everything that is held, the time of the whole run, verdicts and
# intervals, latency in one go, the teacher that taught, the half by which weights were chosen.
# Call: figures.sh BUILD_DIR SOURCE_DIR
. "$(dirname "$0")/setup.sh"

# says PATTERN [FILE]: in what the last command wrote.
says() { grep -Eq -- "$1" "${2:-err.txt}" || { failed "'$1' is not said"; head -5 "${2:-err.txt}"; }; }
silent() { ! grep -Eq -- "$1" "${2:-err.txt}" || failed "'$1' is said in ${2:-err.txt}"; }

samples data
student=(--config "$configs/demo/student.yaml" --data data --set 'data.split.train=[1,2]' --threads 1 --workers 0
    --set train.batch_size=8 --set optim.warmup_epochs=1)

# Memory: parameters, gradients, moments and activations, and the sum of them.
accepted "$kd" model info videomae2-s --phase train --json
awk -F'[:,}]' '{ for (i = 1; i < NF; i++) v[$i] = $(i + 1)
    sum = v["\"arena_bytes\""] + v["\"parameter_bytes\""] + v["\"gradient_bytes\""] + v["\"moment_bytes\""]
    slab = 4 * v["\"parameters\""]
    exit !(sum == v["\"memory_bytes\""] && v["\"gradient_bytes\""] >= slab && v["\"moment_bytes\""] >= 2 * slab) }' \
    out.txt || failed "memory of videomae2-s: $(cat out.txt)"
accepted "$kd" model info videomae2-s
says '^memory .*parameters [0-9.]+ MiB, activations' out.txt

# A dry run says how long the run takes; a run says when all of it ends.
accepted "$distill" train "${student[@]}" --epochs 3 --dry-run
says 'memory [0-9.]+ [MG]iB \(parameters .*gradients .*moments .*activations'
says 'a batch of 8 takes [0-9.e-]+ s to compute: about [0-9]+ (s|min|h) .* 3 epochs'
accepted "$distill" train "${student[@]}" --epochs 2 --out one
says 'epoch 1/2  [1-9][0-9]* samples .*ETA of the run [0-9:]+'
silent 'epoch 2/2 .*ETA of the run'
# An epoch of one step has samples, too.
accepted "$distill" train "${student[@]}" --epochs 1 --limit 8 --out short
says 'epoch 1/1  8 samples'

# A report says how right each person, camera and setup is, where all ids tell them; the sums are those of all samples.
report() { tr -d ' \n' <one/report.json | grep -Eo "\"$1\":\[[^]]*\]"; }
total() { report "$1" | grep -Eo "\"$2\":[0-9]+" | awk -F: '{ n += $2 } END { print n + 0 }'; }
[ "$(report per_person | grep -Eo 'P[0-9]+' | tr '\n' ' ')" = 'P003 ' ] || failed "persons: $(report per_person)"
for table in per_person per_camera per_setup; do
    [ "$(total $table samples)" -eq 12 ] && [ "$(total $table correct)" -eq "$(total per_class correct)" ] ||
        failed "$table: $(report $table)"
done

# TensorBoard: all figures of a validation, loss and speed of an epoch, histograms on request.
for tag in val/top1 val/top5 val/ece epoch/train_loss epoch/samples_per_second val/confusion; do
    says "$tag" one/events.out.*
done
silent 'weights/' one/events.out.*
accepted "$distill" train "${student[@]}" --epochs 2 --set train.histograms=2 --out spread
says 'weights/.*weight' spread/events.out.*
same_file one/log.jsonl spread/log.jsonl

# Which half the weights were chosen on.
accepted "$distill" eval --weights one --data data --threads 1 --out best.json
accepted "$distill" eval --weights one/checkpoints/last --data data --threads 1 --out last.json
says '"selected_on": "val"' best.json
says '"selected_on": null' last.json
says '"selected_on": null' one/report.json

# One seed is no verdict, nor is one report given three times; latency is there when it was asked for.
as() { sed "s/\"label\": \"[^\"]*\"/\"label\": \"$2\"/" last.json >"$1"; }
as a.json A && as b.json B
accepted "$distill" compare best.json a.json b.json --out few --bootstrap 100
says 'no verdict, 1 seed of A \(2 missing\) and 1 seed of B \(2 missing\), and a verdict takes 3 a side' out.txt
says 'chosen that did best on the half that is reported'
accepted "$distill" compare best.json a.json a.json a.json b.json b.json b.json --out thrice --bootstrap 100
says 'no verdict, 1 seed of A' out.txt
for file in few/report.md few/report.html few/report.json thrice/report.html; do
    says 'no verdict' $file
    silent 'verdict": "(better|worse)|[:>] ?(better|worse)\b' $file
done
silent 'faster' few/report.html
silent '"latency"' few/report.json
accepted "$distill" compare best.json a.json --latency --threads 1 --out timed --bootstrap 100
says 'one view in [0-9.e+-]+ ms \(99 % below' out.txt
says '"p99_ms"' timed/report.json
says 'by turns in one process' timed/report.html
# A report that holds no recipe cannot be measured.
sed 's/^  "config": .*/  "config": null,/' a.json >bare.json
refused 3 'no recipe' "$distill" compare best.json bare.json --latency --out timed2 --bootstrap 100

# Persons: three of them; of one, no interval by person can be given.
says 'by person' few/report.md
says '"name": "P003"' few/report.json
accepted "$distill" train "${student[@]}" --set 'data.split={by: subject, train: [1], val: [2]}' --epochs 1 --out single
accepted "$distill" compare single/report.json single/report.json --out alone --bootstrap 100
says 'one person: no interval by person can be given'
says 'one person: no interval by person can be given' alone/report.html
silent 'top1_interval_by_person' alone/report.json

# A student of another teacher is refused with both hashes, or compared with a warning in every output.
other=$(printf 'ab%.0s' {1..32})
sed "s/\"teacher_weights\": [^,]*/\"teacher_weights\": \"$other\"/" a.json >taught.json
hash=$(sed -n 's/.*"weights": "\([0-9a-f]\{12\}\).*/\1/p' best.json | head -1)
refused 4 "abababababab.*$hash.*--any-teacher" "$distill" compare best.json taught.json --out other
absent other
accepted "$distill" compare best.json taught.json --any-teacher --out other --bootstrap 100
says 'taught by other weights \(abababababab\)'
for file in report.md report.html report.json; do
    says 'taught by other weights \(abababababab\)' other/$file
done

# The same of real runs: a student that was taught by one run, beside that run and beside another.
accepted "$distill" dump-logits --weights one/checkpoints/last --data data --split train --threads 1 \
    --out one.logits.zst
accepted "$distill" train "${student[@]}" --epochs 1 --teacher-logits one.logits.zst --out kd
accepted "$distill" train "${student[@]}" --epochs 1 --seed 1 --out two
accepted "$distill" compare one kd --out right --bootstrap 100
silent 'taught by'
refused 4 'taught by the weights' "$distill" compare two kd --out wrong --bootstrap 100
absent wrong

# Of several teachers each is one that taught.
accepted "$distill" dump-logits --weights two/checkpoints/last --data data --split train --threads 1 \
    --out two.logits.zst
accepted "$distill" train "${student[@]}" --epochs 1 --teacher-logits one.logits.zst --teacher-logits two.logits.zst \
    --out both
for teacher in one two; do
    accepted "$distill" compare $teacher both --out both-$teacher --bootstrap 100
    silent 'taught by'
done
refused 4 'taught by the weights [0-9a-f]{12} and others' "$distill" compare kd both --out both-kd \
    --bootstrap 100

# Learning curves, from the log beside the report.
accepted "$distill" compare one one --out curves --bootstrap 100
says 'Training loss' curves/report.html
silent 'Training loss' few/report.html

finish
