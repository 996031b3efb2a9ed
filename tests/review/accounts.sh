#!/usr/bin/env bash
# Every listed sample has a fate: listed = done + failed + excluded, each named, in log, screen, store and report alike.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/setup.sh"
start=$configs/teacher/tiny_pretrained.safetensors
tiny="--config $configs/teacher/tiny.yaml --weights $start --threads 1"
skip="--set data.on_bad_sample=skip"

# 12 validation clips of person 3: three that cannot be read, one that is not there
samples data
cp -r data D
mapfile -t v < <(find D/nturgb+d_rgb -name '*P003*' | sort)
head -c 3000 "${v[1]}" >x && mv x "${v[1]}"
: >"${v[2]}"
echo "version https://git-lfs.github.com/spec/v1" >"${v[6]}"
rm "${v[4]}"
id() { basename "${v[$1]}" _rgb.avi; }

# account FILE: failed and excluded with their ids of a report
account() {
    python3 - "$1" <<'P'
import json, sys
d = json.load(open(sys.argv[1]))["data"]
assert d["listed"] == d["done"] + d["failed"] + d["excluded"], d
assert len(d["failed_ids"]) == len(d["failed_why"]) == d["failed"], d
assert len(d["excluded_ids"]) == len(d["excluded_why"]) == d["excluded"], d
print(d["listed"], d["done"], d["failed"], d["excluded"], *sorted(d["failed_ids"]), *sorted(set(d["failed_why"])))
P
}

# shellcheck disable=SC2086
eval_tiny() { "$teacher" eval $tiny --set 'data.split.train=[1,2]' "$@"; }
if command -v python3 >/dev/null; then
    accepted eval_tiny --data D $skip --out r.json
    grep -q '12 samples listed: 8 done, 4 failed, 0 excluded' out.txt || failed "eval counts: $(cat out.txt)"
    for i in 1 2 6; do grep -q "left out: $(id $i)" err.txt || failed "$(id $i) is not named on the screen"; done
    expected="12 8 4 0 $(id 1) $(id 2) $(id 4) $(id 6) no video unreadable"
    [ "$(account r.json)" = "$expected" ] || failed "report: $(account r.json), expected $expected"
    accepted eval_tiny --data data --limit 5 --out limit.json
    [ "$(account limit.json)" = "12 5 0 7" ] || failed "limit: $(account limit.json)"
fi
refused 3 "$(id 1)|$(id 2)|$(id 6)" eval_tiny --data D --out no.json -q
absent no.json

# the same numbers from dump-logits, and a run that goes on from it
# shellcheck disable=SC2086
dump() { "$teacher" dump-logits $tiny --data D --set 'data.split.train=[1,2]' "$@"; }
accepted dump $skip --split val --out val.logits.zst
grep -q '12 samples listed: 8 done, 4 failed, 0 excluded' out.txt || failed "dump counts: $(cat out.txt)"

# training: the log lists what was left out, the validation says what it could not read
# shellcheck disable=SC2086
accepted "$teacher" finetune $tiny --data D --set 'data.split.train=[1,2]' $skip --epochs 1 --out run
grep '"type":"data","half":"val"' run/log.jsonl |
    grep -q '"listed":12,"used":11,"left_out":\[{"id":"'"$(id 4)"'","why":"no video"' ||
    failed "log.jsonl does not list what the validation half lacks"
grep '"type":"val"' run/log.jsonl |
    grep -q '"failed":3,"failed_ids":\["'"$(id 1)"'","'"$(id 2)"'","'"$(id 6)"'"\]' ||
    failed "the validation does not name what it could not read"
if command -v python3 >/dev/null && [ "$(account run/report.json)" != "$expected" ]; then
    failed "run: $(account run/report.json)"
fi

# a half of which nothing can be read is refused also under skip; a batch of it has no loss that counts
lists
unread() { for f in "$@"; do echo no >"$f"; done; }
fit() { "$teacher" finetune --config lists.yaml --data L --threads 1 "$@"; }
unread L/*/*g0[123]*.avi # a batch of four without one that can be read
accepted fit $skip --out few
loss=$(sed -n 's/.*"type":"epoch".*"train_loss":\([0-9.]*\).*/\1/p' few/log.jsonl)
case $loss in 0.69*) ;; *) failed "mean loss of the samples that were read: $loss, expected 0.69" ;; esac
unread L/*/*g04*.avi
refused 3 'training half: none of 8 samples can be read, the first: v_(wave|clap)_g0' fit $skip --out none -q
lists
unread L/*/*g0[56]*.avi
refused 3 'none of 4 samples can be read, the first: v_clap_g05_c01: .*L/clap' fit $skip --out blind -q
refused 3 'none of 4 samples can be read, the first: v_clap_g05_c01: .*L/clap' "$teacher" dump-logits $skip \
    --config lists.yaml --data L --weights few --split val --out none.logits.zst --threads 1 -q
absent none.logits.zst

# a store that lacks samples of the half that a student learns from
mapfile -t t < <(find D/nturgb+d_rgb -name '*P001*' | sort)
head -c 3000 "${t[1]}" >x && mv x "${t[1]}"
rm "${t[2]}"
accepted dump $skip --split train --out train.logits.zst
student="--config $configs/student/last-e3-nano.yaml --config $configs/distill/ce_kd.yaml --set skeleton.frames=16
    --set data.split.by=subject --set data.split.train=[1,2] --set data.num_classes=12 --set optim.warmup_epochs=0
    --data D --teacher-logits train.logits.zst --batch-size 8 --threads 1 --epochs 1"
# shellcheck disable=SC2086
refused 3 "no record for 2 of 24 samples: $(basename "${t[1]}" _rgb.avi), $(basename "${t[2]}" _rgb.avi)" \
    "$distill" train $student --out s -q
# shellcheck disable=SC2086
accepted "$distill" train $student $skip --out s
grep -q '2 of 24 samples left out, no teacher record' err.txt || failed "the student does not say what it leaves out"
grep '"type":"data","half":"train","listed":24,"used":22' s/log.jsonl |
    grep -q '"left_out":\[{"id":"'"$(basename "${t[1]}" _rgb.avi)"'","why":"no teacher' ||
    failed "the student's log does not list what it leaves out"
finish
