#!/usr/bin/env bash
# student.fix: repairs by name; what does nothing for the model is refused; a run goes on with its own repairs alone,
# and everything made of its weights has them.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/setup.sh"
samples data
recipe="--set data.split.by=subject --set data.split.train=[1,2] --set data.num_classes=12 --set skeleton.frames=16
    --set optim.warmup_epochs=0 --batch-size 12 --threads 1 -q"
# shellcheck disable=SC2086
train() { "$distill" train --config "$configs/student/$1.yaml" --data data $recipe "${@:2}"; }

refused 2 'student.fix: part_joints does nothing, since sfz-nano has no attention over body parts; remove it' \
    train sfz-nano --set student.fix=part_joints --dry-run
refused 2 'student.fix: empty_body does nothing, since last-e3-nano does not average bodies' \
    train last-e3-nano --set student.fix=empty_body --dry-run
refused 2 "student.fix: expected names of part_joints, .*, found 'bodies'" \
    train sfz-nano --set student.fix=bodies --dry-run

accepted train sfz-nano --set student.fix=empty_body,shared_decay --epochs 1 --out run
grep -q 'fix: .*empty_body,shared_decay' run/config.yaml || failed "config.yaml of the run does not name its repairs"
refused 2 'student.fix: "empty_body,shared_decay" then, "" now' train sfz-nano --epochs 2 --out run --resume
accepted train sfz-nano --set student.fix=empty_body,shared_decay --epochs 2 --out run --resume

# the same weights with and without: other logits of the samples, which have one person
nll() { "$distill" eval --weights run --data data --threads 1 -q --out "$1.json" "${@:2}" >/dev/null &&
    grep -o '"nll": *[0-9.]*' "$1.json" | head -n 1; }
with=$(nll with) || failed "no evaluation of the run"
without=$(nll without --set student.fix=) || failed "no evaluation without repairs"
if [ -z "$with" ] || [ "$with" = "$without" ]; then
    failed "the repairs change nothing: '$with' and '$without'"
fi
finish
