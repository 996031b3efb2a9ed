#!/usr/bin/env bash
# Students that teach students: every store, checkpoint and report of a chain says who taught whom.
. "$(dirname "$0")/setup.sh"
samples data
short_student 1 | sed "s/warmup_epochs: 1/warmup_epochs: 0/" >s.yaml
link() { # link NAME OPTION...: trains NAME and lets it answer
    local name=$1
    shift
    accepted "$distill" train --config s.yaml --out "$name" -q "$@"
    accepted "$distill" dump-logits --weights "$name" --split train --out "$name.logits.zst" -q
}
sha() { sha256sum "$1/checkpoints/last/model.safetensors" | cut -c1-12; }
link first
link second --teacher-logits first.logits.zst
link third --teacher-logits second.logits.zst --set student.name=sfz-nano
one="last-e3-nano (weights $(sha first))"
two="last-e3-nano (weights $(sha second), taught by $one)"
says() { grep -qF -- "$1" "$2" || failed "$2 does not say: $1"; }
info() { "$kd" logits info "$1.logits.zst" >"$1.txt" || failed "info $1"; }
info first && info second && info third
if grep -q chain first.txt; then failed "the first of a chain was taught by nobody"; fi
says "chain      taught by $one" second.txt
says "chain      taught by $two" third.txt
says "\"taught_by\": \"$one\"" second/report.json
says "\"taught_by\": \"$two\"" third/report.json
says "taught by $one" third/checkpoints/last/state.json
if grep -q taught_by first/report.json; then failed "a report names a teacher where there was none"; fi

accepted "$distill" compare second third --out cmp -q
says "$two" cmp/report.json
says "$two" cmp/report.html
accepted "$kd" logits verify third.logits.zst
accepted "$distill" train --config s.yaml --set student.name=sfz-nano --teacher-logits second.logits.zst --out third \
    --epochs 2 --resume -q
finish
