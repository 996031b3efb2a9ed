#!/usr/bin/env bash
# `distill fuse`: a fused report is a report; weights are chosen on other samples or said to be.
. "$(dirname "$0")/setup.sh"

samples data
short_student 1 >ce.yaml
for name in last-e3-nano sfz-nano; do
    accepted "$distill" train --config ce.yaml --set student.name=$name --out $name
    accepted "$distill" eval --weights $name/checkpoints/last --split train --out $name.train.json
done

accepted "$distill" fuse last-e3-nano:0.6 sfz-nano:0.4 --out f.json
grep -q '^24 samples that all 2 reports have, 0 others left out$' out.txt ||
    failed "coverage is not told: $(cat out.txt)"
grep -q '"label": "last-e3-nano 0.6 + sfz-nano 0.4"' f.json || failed "the label does not name the parts"
accepted "$distill" compare f.json last-e3-nano sfz-nano --bootstrap 100 --out cmp

# Weight 0 leaves the other report's predictions.
accepted "$distill" fuse last-e3-nano:1 sfz-nano:0 --json --out one.json
top1=$(sed -n 's/.*"top1": *\([0-9.]*\),.*/\1/p' out.txt)
grep -q "\"top1\":" out.txt || failed "no JSON: $(cat out.txt)"
want=$("$distill" fuse last-e3-nano:1 last-e3-nano:1 --json --out twice.json 2>err.txt)
grep -q 'fuse: .*last-e3-nano/report.json and .* hold the same answers, which count twice' err.txt ||
    failed "nothing is said of a report that is fused with itself: $(cat err.txt)"
[ "$(grep -o '"top1":[^,]*' out.txt)" = "$(grep -o '"top1":[^,]*' <<<"$want")" ] ||
    failed "weight 0 changes answers: $top1"

# Weights from the training half, judged on the other one; never from the judged samples without a word.
accepted "$distill" fuse last-e3-nano sfz-nano --space prob --fit last-e3-nano.train.json \
    --fit sfz-nano.train.json --out fit.json
grep -q '^weights chosen on 12 samples' out.txt || failed "the choice is not told: $(cat out.txt)"
grep -q '"selected_on": null' fit.json || failed "chosen elsewhere, and yet flattered"
refused 3 'expected other samples than those that are judged, found 24' \
    "$distill" fuse last-e3-nano sfz-nano --fit last-e3-nano --fit sfz-nano --out same.json -q
absent same.json
accepted "$distill" fuse last-e3-nano sfz-nano --fit last-e3-nano --fit sfz-nano --same-samples --out same.json
grep -q '"selected_on": "val"' same.json || failed "chosen on the judged samples, and not said"

# Refusals.
refused 3 "half is 'val'.*'train'" "$distill" fuse last-e3-nano sfz-nano.train.json --out x.json -q
refused 2 'weight of 0 or more' "$distill" fuse last-e3-nano:-1 sfz-nano --out x.json -q
refused 2 'expected one above 0' "$distill" fuse last-e3-nano:0 sfz-nano:0 --out x.json -q
refused 2 'one report for each of the 2' "$distill" fuse last-e3-nano sfz-nano --fit sfz-nano --out x.json -q
refused 2 'a:1: expected a report without a weight' "$distill" fuse a:1 sfz-nano --fit last-e3-nano.train.json \
    --fit sfz-nano.train.json --out x.json -q
refused 3 'last-e3-nano/report.json \(.*; give the reports in the order' "$distill" fuse last-e3-nano sfz-nano \
    --fit sfz-nano.train.json --fit last-e3-nano.train.json --out x.json -q
refused 2 'does nothing without --fit' "$distill" fuse last-e3-nano sfz-nano --same-samples --out x.json -q
refused 2 'f.json exists' "$distill" fuse last-e3-nano sfz-nano --out f.json -q
refused 2 'FILE.json is needed' "$distill" fuse last-e3-nano sfz-nano -q
absent x.json
finish
