#!/usr/bin/env bash
# Wrong recipes, lists, stores, checkpoints and weight files, met by the commands that read them: the exit code of the
# kind of fault, a message that names file and place, and nothing half-written left behind.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$here/recipes.sh"

sample_set 48
teacher_recipe
student_recipe sfz-nano
accepted "$teacher" finetune --config teacher.yaml --out t --epochs 1 -q
accepted "$teacher" dump-logits --weights t --out whole.logits.zst --features fc_norm -q
train="$distill train --config student.yaml --epochs 1 -q --out never"

# Verification lists every fault, a line each.
verify_fails() {
    "$kd" logits verify "$1" -q >out.txt 2>err.txt
    case $? in 3 | 4) ;; *) failed "logits verify $1: exit code of a damaged store" ;; esac
    grep -q "$1: " err.txt || failed "logits verify does not name $1"
}

# ---- recipes
# -------------------------------------------------------------------------------------------------------------
for f in "$source"/tests/refuse/config/*.yaml; do
    refused 2 "(${f##*/}|cycle.*\\.yaml):[0-9]+:[0-9]+: " "$teacher" finetune --config "$f" --out never -q
done
refused 2 "did you mean 'optim\.base_lr'" \
    "$teacher" finetune --config teacher.yaml --set optim.base_lrr=1 --out never -q
refused 2 "train\.epochs: expected an integer" \
    "$teacher" finetune --config teacher.yaml --set train.epochs=few --out never -q
refused 2 '(--epochs|train\.epochs)' "$teacher" finetune --config teacher.yaml --epochs few --out never -q
refused '[23]' 'nowhere\.yaml' "$teacher" finetune --config nowhere.yaml --out never -q
refused 2 'recipe of a student' "$teacher" finetune --config student.yaml --out never -q
refused 2 'recipe of a teacher' "$distill" train --config teacher.yaml --out never -q
refused 2 '.' "$teacher" finetune --config teacher.yaml --outt never
refused 2 '.' "$teacher" finetoon

# ---- data sets
# -----------------------------------------------------------------------------------------------------------
refused 3 'nowhere' "$teacher" finetune --config teacher.yaml --data nowhere --out never -q
refused 3 '(label|A012|num_classes)' "$teacher" finetune --config teacher.yaml --set data.num_classes=5 --out never -q
cp -r s named && sed -i '12d' named/classes.txt # eleven names for twelve actions
refused 3 'label 11' "$teacher" finetune --config teacher.yaml --data named --out never -q
cp -r s twice && cp twice/nturgb+d_rgb/S003C001P001R001A001_rgb.{avi,mp4}
refused 3 'S003C001P001R001A001' "$teacher" finetune --config teacher.yaml --data twice --out never1 -q
lists="--set data.layout=list --set data.split=list"
lists+=" --set data.train_list=$PWD/train.csv --set data.val_list=$PWD/val.csv"
for f in s/nturgb+d_rgb/*P001*; do echo "${f#s/} 0"; done >val.csv
for f in s/nturgb+d_rgb/*P002*; do echo "${f#s/} 1"; done >train.csv
cp train.csv good.csv
head -1 good.csv >>train.csv
# shellcheck disable=SC2086
refused 3 '(train\.csv|S003C001P002R001A003)' "$teacher" finetune --config teacher.yaml $lists --data s --out never2 -q
sed '2s/1$/70000000/' good.csv >train.csv
# shellcheck disable=SC2086
refused 3 'train\.csv:2' "$teacher" finetune --config teacher.yaml $lists --data s --out never2 -q
sed '2s/1$/-2/' good.csv >train.csv
# shellcheck disable=SC2086
refused 3 'train\.csv:2' "$teacher" finetune --config teacher.yaml $lists --data s --out never2 -q

# ---- stores
# --------------------------------------------------------------------------------------------------------------
size=$(wc -c <whole.logits.zst)
accepted "$kd" logits verify whole.logits.zst
for share in 1 30 60 90 99; do
    head -c $((size * share / 100)) whole.logits.zst >hurt.zst
    verify_fails hurt.zst
    refused '[34]' 'hurt\.zst' $train --teacher-logits hurt.zst
done
for share in 0 10 25 50 75 90 99; do
    cp whole.logits.zst hurt.zst
    flip hurt.zst $((size * share / 100))
    verify_fails hurt.zst
    # Training reads what it needs: a flipped bit is refused there, or lies where training never looks.
    $train --teacher-logits hurt.zst --dry-run >out.txt 2>err.txt
    case $? in 0 | 3 | 4) ;; *) failed "store flipped at $share %: exit code of training"; head -3 err.txt ;; esac
done
: >hurt.zst
refused '[34]' 'hurt\.zst' $train --teacher-logits hurt.zst
refused 3 'nowhere\.zst' $train --teacher-logits nowhere.zst
refused '[34]' 'student\.yaml' $train --teacher-logits student.yaml
refused 3 'split' $train --teacher-logits whole.logits.zst --set 'data.split={by: subject, train: [1]}'
refused 3 'class' $train --teacher-logits whole.logits.zst --data named
cp -r s renamed && sed -i '3s/.*/another name/' renamed/classes.txt
refused 3 "class 2 is 'phone call', in the data set it is 'another name'" \
    $train --teacher-logits whole.logits.zst --data renamed
accepted "$teacher" dump-logits --weights t --split val --out val.logits.zst -q
refused 3 'val\.logits\.zst' $train --teacher-logits val.logits.zst # records of the other half alone
accepted "$teacher" dump-logits --weights t --out plain.logits.zst -q
refused 3 'no features' $train --teacher-logits plain.logits.zst
absent never/report.json
absent never/checkpoints/last/model.safetensors
# A store that is there stays when another dump meets it.
cp whole.logits.zst kept.logits.zst
"$teacher" dump-logits --weights t --out kept.logits.zst --views 1x1 -q >out.txt 2>err.txt
[ $? -ne 0 ] || failed "dump-logits over a finished store: exit code 0"
same_file whole.logits.zst kept.logits.zst

# ---- checkpoints
# ---------------------------------------------------------------------------------------------------------
look="$teacher eval -q --limit 2 --weights"
model=t/checkpoints/best/model.safetensors
size=$(wc -c <$model)
for share in 0 1 20 60 99; do
    rm -rf hurt && cp -r t hurt
    flip hurt/checkpoints/best/model.safetensors $((size * share / 100))
    refused '[34]' 'hurt' $look hurt
    head -c $((size * share / 100)) $model >hurt/checkpoints/best/model.safetensors
    refused '[34]' 'hurt' $look hurt
done
rm -rf hurt && cp -r t hurt
sed -i 's/"epoch": 1/"epoch": 2/' hurt/checkpoints/last/state.json
"$teacher" finetune --config teacher.yaml --epochs 1 --out hurt --resume -q >out.txt 2>err.txt
[ $? -eq 0 ] || [ $? -eq 4 ] || failed "state.json changed by hand: neither refused nor replaced by the one before"
rm -rf hurt && cp -r t hurt
for n in last last.prev; do
    [ ! -d hurt/checkpoints/$n ] || flip hurt/checkpoints/$n/optim.safetensors 5000
done
cp -r hurt hurt.before
refused 4 'optim\.safetensors' "$teacher" finetune --config teacher.yaml --epochs 1 --out hurt --resume -q
same_file hurt/checkpoints/last/model.safetensors hurt.before/checkpoints/last/model.safetensors
same_file hurt/log.jsonl hurt.before/log.jsonl
refused 2 'already holds a run' "$teacher" finetune --config teacher.yaml --epochs 1 --out t -q
refused 2 'optim\.base_lr' \
    "$teacher" finetune --config teacher.yaml --epochs 1 --out t --resume --set optim.base_lr=1e-2 -q
refused 3 'nowhere' $look nowhere
accepted "$distill" train --config student.yaml --set kd.feature=none --epochs 1 --out d -q
refused 2 'weights of a student' $look d

# ---- weight files
# --------------------------------------------------------------------------------------------------------
printf '\x80\x02cposix\nsystem\nX\x0d\x00\x00\x00touch hostile\x85R.' >hostile.pth
refused 3 'hostile\.pth' "$kd" weights info hostile.pth -q
refused 3 'hostile\.pth' "$teacher" finetune --config teacher.yaml --weights hostile.pth --out never3 -q
absent hostile
pth=$source/tests/golden/pth/finetuned_model_f32.pth
size=$(wc -c <"$pth")
for share in 0 10 50 90 99; do
    head -c $((size * share / 100)) "$pth" >hurt.pth
    refused '[34]' 'hurt\.pth' "$kd" weights info hurt.pth -q
done
cp "$pth" hurt.pth && flip hurt.pth $((size / 2))
refused '[34]' 'hurt\.pth' "$kd" weights convert hurt.pth hurt.safetensors -q
absent hurt.safetensors
{ printf '\xff\xff\xff\xff\xff\xff\xff\x7f'; echo '{}'; } >huge.safetensors
refused 3 'huge\.safetensors' "$kd" weights info huge.safetensors -q
finish
