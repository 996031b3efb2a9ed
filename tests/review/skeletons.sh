#!/usr/bin/env bash
# Recordings without a body: no body at all, or all joints 0.  One judgement for check, render, training and predict.
. "$(dirname "$0")/setup.sh"
samples data --skeletons-only
good=$(find data/nturgb+d_skeletons -name '*.skeleton' | sort | head -1)
zero='0 0 0 0 0 0 0 0 0 0 0 0'
mkdir K
awk -v z="$zero" 'NF == 12 { print z; next } { print }' "$good" >K/S001C001P001R001A001.skeleton
awk -v z="$zero" 'NF == 12 { c++; if (int((c - 1) / 25) % 3 == 1) { print z; next } } { print }' "$good" \
    >K/S001C001P002R001A001.skeleton # every third body
{ head -1 "$good" && for _ in $(seq "$(head -1 "$good")"); do echo 0; done; } >K/S001C001P003R001A001.skeleton
cp "$good" K/S001C001P004R001A001.skeleton

refused 3 '2 damaged files' "$kd" dataset check --data K --out q -q
[ "$(grep -c 'no body: expected a body, found' q/quarantine.tsv)" -eq 2 ] || failed "check: $(cat q/quarantine.tsv)"
refused 3 '2 of 4 files could not be drawn, the first: K/S001C001P001R001A001.skeleton: no body' \
    "$kd" dataset render --data K --out r --videos-only -q
"$kd" dataset render --data K --out r2 --videos-only >out.txt 2>err.txt
[ "$(grep -c 'no body: expected a body, found' err.txt)" -eq 2 ] || failed "render: $(cat err.txt)"

cat >student.yaml <<Y
base: [$configs/distill/ce.yaml, $configs/student/sfz-nano.yaml]
data: {split: {by: subject, train: [1, 2]}, num_classes: 12}
train: {epochs: 1, batch_size: 4}
Y
train=("$distill" train --config student.yaml --data data --limit 8 -q)
cp K/S001C001P001R001A001.skeleton "$good"
refused 3 'no body: expected a body, found' "${train[@]}" --out a
accepted "${train[@]}" --out b --set data.on_bad_sample=skip
grep -q "no body" b/log.jsonl || failed "the lost sample is not in the log"
refused 3 'no body: expected a body, found' "$distill" predict --weights b K/S001C001P001R001A001.skeleton
accepted "$distill" predict --weights b K/S001C001P002R001A001.skeleton

# an evaluation gives the reason in its report
v=$(find data/nturgb+d_skeletons -name '*P003*' | sort | head -1)
cp K/S001C001P003R001A001.skeleton "$v"
accepted "$distill" eval --weights b --data data --out e.json --set data.on_bad_sample=skip -q
grep -q '"no body"' e.json || failed "the report does not say why a sample is not in it"

# skeletons as arrays, whatever they are called
printf '\223NUMPY\1\0v\0{}' >K/x.npy
printf '\200\4\225\0\0' >K/x.pkl
for f in npy pkl; do
    says='data.skeleton_file read skeleton arrays'
    [ $f = npy ] || says='K/x.pkl: pickle byte 2: the data end inside this value'
    refused 3 "$says" "$distill" predict --weights b K/x.$f
    ! LC_ALL=C grep -q '[^ -~]' err.txt || failed "raw bytes in the message about K/x.$f"
done

finish
