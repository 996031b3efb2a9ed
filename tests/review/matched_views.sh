#!/usr/bin/env bash
# A student of skeletons that sees what the teacher saw: time window and mirror of the views of a store.  The numbers
# are those of tests/data/test_sequence.c.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/setup.sh"
samples data
cat >t.yaml <<Y
base: $configs/teacher/tiny.yaml
data: {root: data, split: {by: subject, train: [1, 2]}}
teacher: {drop_path: 0, head_drop: 0}
train: {threads: 1, workers: 1, seed: 3}
Y
dump() {
    "$teacher" dump-logits --config t.yaml --weights "$configs/teacher/tiny_pretrained.safetensors" --split train "$@"
}
window=(--views train:2 --set video.sampler=official_dense --set video.sampling_rate=1 --set video.flip_prob=0.5)
accepted dump --views train:2 --out whole.logits.zst # frames over whole clips, never mirrored
accepted dump "${window[@]}" --out window.logits.zst
accepted dump "${window[@]}" --out other.logits.zst --set train.seed=4
accepted dump --views 1x1 --out plain.logits.zst

short_student 2 >s.yaml
train() {
    "$distill" train --config s.yaml --set 'data.split.train=[1,2]' --config "$configs/distill/ce_kd.yaml" -q \
        --set "kd.store=[$1]" --out "$2" "${@:3}"
}
loss() { sed -n 's/.*"type":"epoch".*"train_loss":\([-0-9.e]*\).*/\1/p' "$1/log.jsonl" | tr '\n' ' '; }
match=(--set skeleton_aug.match_views=true)
accepted train whole.logits.zst a
accepted train whole.logits.zst b "${match[@]}"
[ "$(loss a)" = "$(loss b)" ] || failed "views of whole clips are other rows: $(loss a), $(loss b)"
accepted train window.logits.zst c
accepted train window.logits.zst d "${match[@]}"
[ "$(loss c)" != "$(loss d)" ] || failed "match_views changes nothing: $(loss c)"

# ---- one epoch and one more are two
steady=("${match[@]}" --set optim.schedule=multistep --set 'optim.milestones=[50]')
accepted train window.logits.zst two "${steady[@]}" --epochs 2
accepted train window.logits.zst more "${steady[@]}" --epochs 1 --set train.workers=2
accepted train window.logits.zst more "${steady[@]}" --epochs 2 --resume
same_file two/checkpoints/last/model.safetensors more/checkpoints/last/model.safetensors

# ---- what is refused
cut() { refused "$1" "$2" train "$3" no "${match[@]}" "${@:4}"; }
cut 2 'flip_prob: 0.5, but with skeleton_aug.match_views' window.logits.zst --set skeleton_aug.flip_prob=0.5
cut 2 'skeleton_aug.speed_prob: 0.5, but' window.logits.zst --set skeleton_aug.speed_prob=0.5
cut 2 'match_views: data.denoise leaves frames out' window.logits.zst --set data.denoise=ctrgcn
cut 2 'match_views: expected a store of training views' plain.logits.zst
cut 2 'match_views: expected a store of training views' ''
cut 2 'train.resident: expected off or auto' window.logits.zst --set train.resident=on
cut 3 'expected 2 views of seed 3 as the store before it has, found 2 of seed 4' window.logits.zst,other.logits.zst
finish
