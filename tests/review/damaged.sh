#!/usr/bin/env bash
# 200 listed videos, 20 damaged in six ways, 10 absent: the check names all 30 and no other; training, evaluation and
# dumping account for every one.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/setup.sh"
accepted "$kd" dataset sample --out made --clips 40 --replications 1 --cameras 1 --size 64x48 --threads 2 -q
mkdir -p D/v
i=0
for copy in 1 2 3 4 5; do
    for clip in $(find made/nturgb+d_rgb -name '*.avi' | sort); do
        i=$((i + 1))
        cp "$clip" "D/v/c$(printf %03d $i).avi"
        echo "v/c$(printf %03d $i).avi $((i % 4))" >>"$([ $((i % 4)) = 0 ] && echo D/val.csv || echo D/train.csv)"
    done
done
[ $i -eq 200 ] || failed "$i videos were made"
# labels 0 to 3 in both lists
awk '{ print $1, NR % 4 }' D/val.csv >D/x && mv D/x D/val.csv
awk '{ print $1, NR % 4 }' D/train.csv >D/x && mv D/x D/train.csv
cat >d.yaml <<Y
base: $configs/teacher/tiny.yaml
name: d
data: {root: D, layout: list, split: list, train_list: train.csv, val_list: val.csv, num_classes: 4}
train: {epochs: 1, batch_size: 13, threads: 1, workers: 2}
eval: {clips: 1, crops: 1, batch_size: 16}
Y
# 143 training videos are there: 11 steps of 13 see every one of them
nth() { printf 'D/v/c%03d.avi' "$1"; }

# the damage: every fourth is a validation clip
for n in 3 4 5; do truncate -s $(($(stat -c %s "$(nth $n)") / 2)) "$(nth $n)"; done # cut in the middle
for n in 16 17 18; do : >"$(nth $n)"; done                                            # no bytes
for n in 24 25 26 27; do                                                              # garbage
    tail -c +$((n * 1000)) "$kd" | head -c 12000 >"$(nth $n)"
done
for n in 40 41 42; do echo 'version https://git-lfs.github.com/spec/v1' >"$(nth $n)"; done # a text
for n in 52 53 54; do                                                                      # pictures of zeros
    dd if=/dev/zero of="$(nth $n)" bs=1000 seek=4 count=4 conv=notrunc status=none
done
for n in 100 101 102 103; do # another codec than the header says
    cp "$(nth $n)" x
    LC_ALL=C sed -i 's/H264/MJPG/g' "$(nth $n)"
    cmp -s "$(nth $n)" x && failed "clip $n is as it was"
done
for n in 8 9 66 67 120 121 150 160 170 199; do rm "$(nth $n)"; done
bad=(3 4 5 16 17 18 24 25 26 27 40 41 42 52 53 54 100 101 102 103)
gone=(8 9 66 67 120 121 150 160 170 199)
for n in "${bad[@]}" "${gone[@]}"; do printf 'c%03d\n' "$n"; done | sort >expected.txt

# ---- the check: with the recipe's lists all 30, of the folder alone the 20
refused 3 '30 damaged or absent files, named in q/quarantine.tsv' "$kd" dataset check --config d.yaml --out q -q
tail -n +2 q/quarantine.tsv | cut -f1 | sort >named.txt
diff expected.txt named.txt >/dev/null || failed "the check names others: $(diff expected.txt named.txt | tr '\n' ' ')"
[ "$(grep -c "	absent	" q/quarantine.tsv)" -eq 10 ] || failed "absent: $(grep -c absent q/quarantine.tsv)"
refused 3 '20 damaged files' "$kd" dataset check --data D --out q2 -q
for n in "${bad[@]}"; do printf 'c%03d\n' "$n"; done | sort >damaged.txt
tail -n +2 q2/quarantine.tsv | cut -f1 | sort | diff - damaged.txt >/dev/null ||
    failed "the check of the folder names others"

# ---- training, evaluation and dumping
skip=(--set data.on_bad_sample=skip)
of() { awk -v half="$1" 'NR == FNR { in_half[$1] = 1; next } ("v/" $1 ".avi") in in_half' "D/$1.csv" expected.txt; }
of val >val.txt && of train >train.txt
[ $(($(wc -l <val.txt) + $(wc -l <train.txt))) -eq 30 ] || failed "halves of the damage"
accepted "$teacher" finetune --config d.yaml "${skip[@]}" --out run
grep -Eq '^[1-9][0-9]* training samples could not be read and were left out' out.txt || failed "lost: $(cat out.txt)"
accepted "$teacher" dump-logits --weights run "${skip[@]}" --split train,val --out d.logits.zst
grep -q '200 samples listed: 170 done, 30 failed, 0 excluded' out.txt || failed "dump: $(cat out.txt)"
cp err.txt dump.txt
while read -r id; do
    grep -q "$id" dump.txt || failed "the dump does not name $id"
done <damaged.txt
"$kd" logits info d.logits.zst | grep -q 'records    170 ' || failed "records: $("$kd" logits info d.logits.zst)"
accepted "$teacher" eval --weights run "${skip[@]}" --out eval.json
accepted "$kd" logits report d.logits.zst --config d.yaml "${skip[@]}" --out store.json
grep -q "50 samples listed: $((50 - $(wc -l <val.txt))) done, $(wc -l <val.txt) failed, 0 excluded" out.txt ||
    failed "report: $(cat out.txt)"
accepted "$teacher" finetune --config d.yaml --set data.quarantine=q/quarantine.tsv --out clean
if command -v python3 >/dev/null; then
    python3 - <<'P' || failed "an account"
import json
val, train = (open(f).read().split() for f in ("val.txt", "train.txt"))
for path in ("eval.json", "run/report.json", "store.json"):
    d = json.load(open(path))["data"]
    assert d["listed"] == 50 == d["done"] + d["failed"] + d["excluded"], (path, d)
    assert sorted(d["failed_ids"]) == sorted(val), (path, d["failed_ids"])
d = json.load(open("clean/report.json"))["data"]
assert d["excluded_ids"] == sorted(val) and d["failed"] == 0, d
named = set()
for line in open("run/log.jsonl"):
    e = json.loads(line)
    if e.get("half") == "train" and e["type"] == "data":
        named |= {x["id"] for x in e["left_out"]}
    if e["type"] == "lost":
        named.add(e["id"])
assert named == set(train), (sorted(named), train)
P
fi
finish
