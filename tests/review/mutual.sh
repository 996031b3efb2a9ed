#!/usr/bin/env bash
# Students that learn from each other: a run each, the same rows, runs that are cut and go on, bit for bit.
. "$(dirname "$0")/setup.sh"
samples data
short_student 2 | sed 's/batch_size: 8/batch_size: 4/; s/warmup_epochs: 1/warmup_epochs: 0/' >s.yaml
train() { "$distill" train --config s.yaml --threads 1 --set train.log_interval=1 -q "$@"; }
two=(--set 'mutual=[{student: sfz-nano, base_lr: 0.02}]')
same_run() {
    for dir in "" peer-2/; do
        for file in model optim; do
            same_file "$1/${dir}checkpoints/last/$file.safetensors" "$2/${dir}checkpoints/last/$file.safetensors"
        done
        same_file <(grep '"type":"train"' "$1/${dir}log.jsonl") <(grep '"type":"train"' "$2/${dir}log.jsonl")
    done
}

# ---- every student has a run of its own; equal students of one seed have nothing to learn from each other
accepted "$distill" train --config s.yaml --threads 1 --set train.log_interval=1 "${two[@]}" --out two
grep -q "memory of the 2 students:" err.txt || failed "no forecast of the memory of both"
for file in config.yaml log.jsonl samples.tsv report.json checkpoints/best/model.safetensors; do
    [ -s "two/peer-2/$file" ] || failed "two/peer-2 has no $file"
done
grep -q '"name": *"sfz-nano"' two/peer-2/report.json || failed "the report of peer-2 is not of its student"
grep -q '"loss_mutual":' two/log.jsonl || failed "loss_mutual is not logged"
grep -q '"loss_mutual":' two/peer-2/log.jsonl || failed "loss_mutual of peer-2 is not logged"
accepted train --set 'mutual=[{init_seed: 0}]' --out equal
[ "$(grep -o '"loss_mutual":[^,]*' equal/log.jsonl | grep -vcE ':-?0(\.0)?$')" -eq 0 ] ||
    failed "equal students differ: $(grep -o '"loss_mutual":[^,]*' equal/log.jsonl | sort -u | head -3)"
same_file equal/checkpoints/last/model.safetensors equal/peer-2/checkpoints/last/model.safetensors
accepted train --set 'mutual=[{}, {student: sfz-nano}]' --set mixup.alpha=0.8 --set optim.accumulation=3 --out three
grep -q '"loss_mutual_2":' three/peer-3/log.jsonl || failed "three students: no loss_mutual_2"
if grep -qi nan three/log.jsonl three/peer-?/log.jsonl; then failed "NaN with three students"; fi
accepted "$distill" compare two/report.json two/peer-2/report.json --out cmp -q
accepted "$distill" eval --weights two/peer-2/checkpoints/last --data data --threads 1 --out e.json -q

# ---- the recipe of peer-2 describes the same group, seen from there
cp two/peer-2/config.yaml turned.yaml
accepted "$distill" train --config turned.yaml --data data --out turned -q
same_file turned/checkpoints/last/model.safetensors two/peer-2/checkpoints/last/model.safetensors
same_file turned/peer-2/checkpoints/last/model.safetensors two/checkpoints/last/model.safetensors

# ---- one epoch and one more are two; so is a run whose first student is a checkpoint behind
steady=("${two[@]}" --set optim.schedule=multistep --set 'optim.milestones=[50]')
accepted train "${steady[@]}" --epochs 2 --out whole
accepted train "${steady[@]}" --epochs 1 --out parts
cp -r parts behind
cp -r parts aside && rm -rf aside/peer-2/checkpoints/last.prev # killed before the new checkpoint had its name
mv aside/peer-2/checkpoints/last aside/peer-2/checkpoints/last.prev
accepted train "${steady[@]}" --epochs 2 --out parts --resume
same_run whole parts
rm -rf behind/peer-2
cp -r parts/peer-2 behind/peer-2
accepted train "${steady[@]}" --epochs 2 --out behind --resume
same_run whole behind
accepted train "${steady[@]}" --epochs 2 --out aside --resume
same_run whole aside
rm -rf behind/peer-2/checkpoints behind/checkpoints/last.prev
refused 3 'peer-2: expected a checkpoint of the same step' train "${steady[@]}" --epochs 3 --out behind --resume
accepted train --epochs 1 --out whole --force
[ ! -e whole/peer-2 ] || failed "--force leaves the other student of the run before"

# ---- what is refused
refused 2 'kd.mutual_weight: there is no other student' train --set kd.mutual_weight=1 --out no
refused 2 'kd.mutual_temperature: there is no other student' train --set kd.mutual_temperature=2 --out no
refused 2 'kd.mutual_weight: 0, so that no student of mutual learns' train "${two[@]}" --set kd.mutual_weight=0 --out no
refused 2 'mutual\[0\].student: expected a name as of student.name' train --set 'mutual=[{student: none}]' --out no
refused 2 'mutual\[0\].dropout: one more of' train --set 'mutual=[{dropout: 0.1}]' --out no
refused 2 'train.patience: 2, but students of mutual' train "${two[@]}" --set train.patience=2 --out no
refused 2 'student.weights: all students of mutual begin with drawn weights' train "${two[@]}" --weights two --out no
finish
