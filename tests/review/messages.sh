#!/usr/bin/env bash
# Messages about long things: whole from their beginning to what to do, lists of numbers as runs, what is cut says so.
. "$(dirname "$0")/setup.sh"

samples data
short_student 1 >s.yaml
many=$(seq -s, 1 300)
odd=$(seq -s, 1 3 900)
split() { echo "data.split={by: subject, train: [$1]}"; }

# A split by hundreds of persons: the counts behind it are there.
refused 3 'validation half is empty \(split subject train=1-300 val=others: 0 listed; left out: nothing; 0 found' \
    "$distill" train --config s.yaml --set "$(split "$many")" --out a -q

# What differs is shown, not what both lists share.
accepted "$distill" train --config s.yaml --set "$(split "1,$(seq -s, 11 2 300)")" --out b -q
refused 2 'train: \[1, 11, 13, .*, \.\.\. \(146 numbers\)\] then, \[1-300\] now; give that, or another --out' \
    "$distill" train --config s.yaml --set "$(split "$many")" --resume --out b -q
refused 2 'data.split.train: \.\.\.[0-9]*, 299\] then, .* now; give that' \
    "$distill" train --config s.yaml --set "$(split "1,$(seq -s, 11 2 298)")" --resume --out b -q

# The same of a store and of reports.
accepted "$distill" dump-logits --weights b --split train --out t.logits.zst -q
accepted "$kd" logits info t.logits.zst
grep -q '^data .*train=1,11,13,.*,\.\.\. (146 numbers) val=others' out.txt || failed "info: $(grep '^data' out.txt)"
refused 3 "the split of the data set, '.*train=1,4,7.* \(300 numbers\) val=.*, found '.*146 numbers.*dump it with" \
    "$distill" train --config s.yaml --set "$(split "$odd")" --set kd.store=t.logits.zst --set kd.weight=1 --out c -q
accepted "$distill" train --config s.yaml --out d -q
refused 3 "split is '.*146 numbers\) val=others' in b/report.json, 'subject train=1 val=others' in d/report.json" \
    "$distill" compare b d --bootstrap 100 --out cmp -q

# A long path in the middle of a message leaves its end.
deep=$(printf 'x%.0s' $(seq 200))
mkdir -p "$deep/$deep" && cp b/checkpoints/last/model.safetensors "$deep/$deep/w.safetensors"
refused 2 '^distill eval: x+/x*\.\.\.x*.*: name the recipe with --config$' \
    "$distill" eval --weights "$deep/$deep/w.safetensors"
finish
