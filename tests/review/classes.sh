#!/usr/bin/env bash
# Weights know the names of their classes: another order or other names are refused, or start a fresh classifier.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/setup.sh"
samples data
mkdir r o && cp -r data r/data && cp -r data o/data
sort -r data/classes.txt >r/data/classes.txt
sed 's/^/my /' data/classes.txt >o/data/classes.txt
tiny="--config $configs/teacher/tiny.yaml --set data.split.train=[1,2] --limit 16 --threads 1"

# shellcheck disable=SC2086
accepted "$teacher" finetune $tiny --data data --epochs 1 --out t -q
accepted "$teacher" eval --weights t --data data -q
refused 3 "class 0 is '.*' in the weights, '.*' in the data set \(the same names in another order\)" \
    "$teacher" eval --weights t --data r/data -q
refused 3 "class 0 is" "$teacher" eval --weights t --data o/data -q
refused 3 'another order' "$teacher" dump-logits --weights t --data r/data --split val --out s.logits.zst -q
absent s.logits.zst

# fine-tuning to other names starts the classifier afresh and says so
# shellcheck disable=SC2086
accepted "$teacher" finetune $tiny --data r/data --weights t --epochs 1 --out t2
grep -q 'the classifier starts fresh' err.txt || failed "a classifier of other classes was kept without a word"
grep -Eq 'left fresh: (head.weight, head.bias|head.bias, head.weight)' err.txt || failed "fresh tensors are not named"
# shellcheck disable=SC2086
accepted "$teacher" finetune $tiny --data data --weights t --epochs 1 --out t3
grep -q ' 0 left fresh' err.txt || failed "the classifier of the same classes was not kept"

# numbers are no names: such weights can be used on named classes
mkdir n && cp -r data n/data && rm n/data/classes.txt
# shellcheck disable=SC2086
accepted "$teacher" finetune $tiny --data n/data --epochs 1 --out numbered -q
accepted "$teacher" eval --weights numbered --data data
grep -q 'class names cannot be compared' err.txt || failed "nothing says that the names were not compared"

# a student likewise
student="--config $configs/student/last-e3-nano.yaml --set skeleton.frames=16 --set data.split.by=subject
    --set data.split.train=[1,2] --set data.num_classes=12 --set optim.warmup_epochs=0 --batch-size 8 --threads 1"
# shellcheck disable=SC2086
accepted "$distill" train $student --data data --epochs 1 --out st -q
refused 3 'another order' "$distill" eval --weights st --data r/data -q
refused 3 'another order' "$distill" dump-logits --weights st --data r/data --out st.logits.zst -q
finish
