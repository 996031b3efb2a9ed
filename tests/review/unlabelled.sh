#!/usr/bin/env bash
# Samples without a label: named by data.unlabelled or by lists.  What reads labels passes them over; what reads a
# teacher does not; every account names them.
. "$(dirname "$0")/setup.sh"
samples data
cat >t.yaml <<Y
base: $configs/teacher/tiny.yaml
data: {root: data, split: {by: subject, train: [1]}}
train: {threads: 1, workers: 1}
eval: {clips: 1, crops: 1, batch_size: 8}
Y
find data/nturgb+d_skeletons -name '*P001*' -printf '%f\n' | sed 's/\.skeleton$//' | sort >ids
[ "$(wc -l <ids)" -eq 12 ] || failed "expected 12 training samples"
sed 3q ids >nine # the labels of the other nine are used
comm -23 ids nine >three
mv nine labelled && mv three unlabelled
dump() { "$teacher" dump-logits --config t.yaml --weights "$configs/teacher/tiny_pretrained.safetensors" --split train \
    --logits f32 -q "$@"; }
accepted dump --out t.logits.zst
short_student 1 | sed 's/batch_size: 8/batch_size: 4/' >s.yaml
train() { "$distill" train --config s.yaml --threads 1 --set train.log_interval=1 "$@"; }
few=(--set data.unlabelled=unlabelled)
steps() { grep -c '"type":"train"' "$1/log.jsonl"; }

# ---- accounts: summary, log, samples.tsv, checkpoint, report; steps of the full set
accepted train "${few[@]}" --teacher-logits t.logits.zst --set train.select=train --out few
said() { grep -q -- "$1" err.txt out.txt || failed "not said: $1"; }
said 'train: 12 samples of 12 listed, 9 of them without label'
said 'teacher top-1 on the 3 with a label'
grep -q '"half":"train","listed":12,"used":12,"unlabelled":9' few/log.jsonl || failed "log.jsonl does not say it"
[ "$(grep -c -P '^train\t.*\t-1\t' few/samples.tsv)" -eq 9 ] || failed "samples.tsv does not say it"
grep -q '"unlabelled": *9' few/checkpoints/last/state.json || failed "the checkpoint does not say it"
accepted train --teacher-logits t.logits.zst --out full -q
[ "$(steps few)" -eq "$(steps full)" ] || failed "other steps than with all labels"
accepted train "${few[@]}" --out ce_few -q # by validation: a report
grep -q '"unlabelled": *9' ce_few/report.json || failed "the report does not say it"
if grep -qi nan few/log.jsonl; then failed "a batch without a label gives NaN"; fi

# ---- 3 labels in 3 steps of 4: CE is the mean over labelled rows; KL does not see the difference in the first step
first() { grep -o "\"$2\":[0-9.e-]*" "$1/log.jsonl" | head -1; }
[ "$(first few loss_kd)" = "$(first full loss_kd)" ] || failed "KL counts the labelled rows alone"
grep -Eq '"train_top1":(0\.0|0\.33[0-9]*|0\.66[0-9]*|1\.0)[,}]' few/log.jsonl ||
    failed "the training top-1 counts others"

# ---- a list with labels of which nine are not used, and a list without the nine: the same bytes
while read -r id; do
    echo "nturgb+d_skeletons/$id.skeleton $((10#${id:17:3} - 1))"
done <ids >right
while read -r id; do
    echo "nturgb+d_skeletons/$id.skeleton $(grep -q "$id" unlabelled && echo -1 || echo $((10#${id:17:3} - 1)))"
done <ids >bare
find data/nturgb+d_skeletons -name '*P002*' -printf 'nturgb+d_skeletons/%f\n' | sort |
    while read -r p; do echo "$p $((10#${p:36:3} - 1))"; done >val
bylist() { train --set 'data.split={by: list}' --set "data.train_list=$work/$1" --set "data.val_list=$work/val" \
    --set data.num_classes=12 -q "${@:2}"; }
accepted bylist right "${few[@]}" --out a
accepted bylist bare --out b
same_file a/checkpoints/last/model.safetensors b/checkpoints/last/model.safetensors
refused 3 'has no label: expected one, the validation half' train --set 'data.split={by: list}' \
    --set "data.train_list=$work/right" --set "data.val_list=$work/bare" --out no -q

# ---- resume is exact; other unlabelled samples are another run
accepted train "${few[@]}" --teacher-logits t.logits.zst --epochs 2 --out two -q
accepted train "${few[@]}" --teacher-logits t.logits.zst --epochs 1 --out one -q
head -8 unlabelled >eight
refused 3 'training half.*of other ids or labels' train --set data.unlabelled=eight --teacher-logits t.logits.zst \
    --out one --resume -q

# ---- a store of unlabelled samples: records without label; a report measures the labelled
accepted dump "${few[@]}" --out bare.logits.zst
accepted "$kd" logits verify bare.logits.zst
accepted train "${few[@]}" --teacher-logits bare.logits.zst --out from_bare -q
same_file few/checkpoints/last/model.safetensors from_bare/checkpoints/last/model.safetensors
accepted "$kd" logits report bare.logits.zst --split train --out bare.json -q
grep -q '"excluded": *9' bare.json || failed "a report of the store measures samples without label"
accepted "$distill" eval --weights few/checkpoints/last --data data "${few[@]}" --split train --out train.json -q
grep -q '"excluded": *9' train.json || failed "an evaluation measures samples without label"
grep -q '"no label"' train.json || failed "the evaluation does not say why"

# ---- what is refused
sed 1q ids | sed 's/P001/P002/' >val_id
refused 3 'val_id: expected samples of the training half, found .*P002.*validation half' train \
    --set data.unlabelled=val_id --out no -q
echo S009C009P009R009A009 >nobody
refused 3 'nobody: expected ids of the 12 training samples' train --set data.unlabelled=nobody --out no -q
cat unlabelled nobody >most
accepted train --set data.unlabelled=most --out no --dry-run
said 'most: 1 of 10 ids are no sample of the training half, the first: S009'

# ---- the list is found from everywhere: the recipe of a run names it by an absolute path
(cd / && "$distill" train --config "$work/few/config.yaml" --out "$work/few" --resume --dry-run -q) \
    >out.txt 2>err.txt || failed "a resumed run does not find its list from elsewhere: $(cat err.txt)"

# ---- all of it with mixed batches, class weights, every label-reading term, accumulation
accepted train "${few[@]}" --teacher-logits t.logits.zst --set mixup.alpha=0.8 --set class_balance=true \
    --set kd.dkd_weight=0.1 --set kd.nkd_weight=0.1 --set optim.accumulation=3 --out all -q
if grep -qi nan all/log.jsonl; then failed "NaN with mixed batches"; fi
# ---- a share of each class (numbers: tests/data/test_dataset.c)
cp -r data more && for f in more/nturgb+d_skeletons/*P001*; do
    for p in 4 5 6; do cp "$f" "${f/P001/P00$p}"; done
done
share=(--data more --set 'data.split.train=[1,4,5,6]' --set data.unlabelled=0.5)
accepted train "${share[@]}" --out share
said 'data.unlabelled: 0.5, seed 0: 24 of 48 listed training samples keep their label, at least 2 a class'
[ "$(grep -c -P '^train\t.*\t-1\t' share/samples.tsv)" -eq 24 ] || failed "samples.tsv does not name the share"
accepted train "${share[@]}" --set data.unlabelled_seed=1 --out draw -q
if cmp -s share/samples.tsv draw/samples.tsv; then failed "another seed draws the same samples"; fi
refused 2 'data.unlabelled_seed: 0 then, 1 now' train "${share[@]}" --set data.unlabelled_seed=1 --out share --resume -q
refused 2 'data.unlabelled_seed: 1, but' train "${few[@]}" --set data.unlabelled_seed=1 --out no -q
refused 2 'above 0 and below 1, or a file of ids, found 1.5' train --set data.unlabelled=1.5 --out no -q
finish
