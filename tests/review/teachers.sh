#!/usr/bin/env bash
# Several teachers, labels that teachers give, training without labels.
. "$(dirname "$0")/setup.sh"
samples data
cat >t.yaml <<Y
base: $configs/teacher/tiny.yaml
data: {root: data, split: {by: subject, train: [1]}}
train: {threads: 1, workers: 1}
eval: {clips: 1, crops: 1, batch_size: 8}
Y
find data/nturgb+d_skeletons -name '*P001*' -printf '%f\n' | sed 's/\.skeleton$//' | sort >ids
sed -n '4,$p' ids >unlabelled
dump() { # dump STORE OPTION...: the answers of small weights
    "$teacher" dump-logits --config t.yaml --weights "$configs/teacher/tiny_pretrained.safetensors" --split train \
        --logits f32 --features fc_norm --out "$@" -q
}
accepted dump one.logits.zst
accepted dump two.logits.zst --set eval.clips=2
cp one.logits.zst same.logits.zst
sed -n 1,2p ids >q # a store that lacks two samples, and one that lacks the others
accepted dump ten.logits.zst --set data.quarantine=q
sed -n '3,$p' ids >q2
accepted dump rest.logits.zst --set data.quarantine=q2
short_student 1 | sed 's/batch_size: 8/batch_size: 4/' >s.yaml
train() { "$distill" train --config s.yaml --threads 1 --set train.log_interval=1 "$@"; }
stores() { printf 'kd.store=[%s]' "$(IFS=,; echo "$*")"; }
first() { grep -o "\"$2\":[0-9.e-]*" "$1/log.jsonl" | head -1 | cut -d: -f2; }
near() { # near A B: equal to f32 rounding
    awk -v a="$1" -v b="$2" 'BEGIN { d = a > b ? a - b : b - a; exit !(a != "" && b > 0 && d <= 1e-5 * b) }' ||
        failed "$1 is not $2: $3"
}

# ---- one teacher of two that answer alike is that teacher, by every rule; features stay one a store
accepted train --teacher-logits one.logits.zst --out one -q
for how in average confidence entropy correctness; do
    accepted train --set "$(stores one.logits.zst same.logits.zst)" --set "kd.combine=$how" \
        --set 'kd.store_weights=[1,3]' --set kd.feature=mse --out "$how" -q
    near "$(first "$how" loss_kd)" "$(first one loss_kd)" "kd.combine: $how"
    [ -n "$(first "$how" loss_feature_2)" ] || failed "$how: no feature term of the second store"
    [ -z "$(first "$how" loss_kd_2)" ] || failed "$how: each store has a KL term of its own"
done

# ---- each store by itself, with weights; another average is another number
accepted train --set "$(stores one.logits.zst two.logits.zst)" --set 'kd.store_weights=[1,0.5]' --out each
grep -q '0.5 T^2 KL(teacher || student) (store 1).*0.25 T^2 KL(teacher || student) (store 2)' err.txt out.txt ||
    failed "weights of stores do not show in the loss"
accepted train --set "$(stores one.logits.zst two.logits.zst)" --set kd.combine=average --set mixup.alpha=0.8 \
    --set kd.logit_mse_weight=0.1 --set kd.dkd_weight=0.1 --out averaged
grep -q 'KL(teacher || student) (stores combined)' err.txt out.txt || failed "the loss does not say what is combined"
[ "$(first averaged loss_kd)" != "$(first one loss_kd)" ] || failed "two teachers answer as the first does"

# ---- a store that lacks samples: the others answer for them; what none has is refused
accepted train --set "$(stores ten.logits.zst one.logits.zst)" --set kd.combine=average --out lacking
grep -q 'ten.logits.zst): joined 10 of 12' err.txt out.txt || failed "the join does not say that two are lacking"
accepted train --set "$(stores ten.logits.zst rest.logits.zst)" --set kd.combine=average --out halves -q
near "$(first halves loss_kd)" "$(first one loss_kd)" "two halves of a store"
refused 3 'ten.logits.zst: no record for 2 of 12' train --set "$(stores ten.logits.zst one.logits.zst)" --out no -q
refused 3 'ten.logits.zst and 1 more: no record for 2 of 12' train --set "$(stores ten.logits.zst ten.logits.zst)" \
    --set kd.combine=average --out no -q

# ---- tables on the device
two=(--set "$(stores one.logits.zst two.logits.zst)" --set kd.combine=confidence)
accepted train "${two[@]}" --config "$configs/distill/ensemble.yaml" --out whole -q
accepted train "${two[@]}" --config "$configs/distill/ensemble.yaml" --set train.resident=on --out resident -q
same_file whole/checkpoints/last/model.safetensors resident/checkpoints/last/model.safetensors

# ---- pseudo-labels: counted, used by CE, sure ones alone
few=(--teacher-logits one.logits.zst --set data.unlabelled=unlabelled)
accepted train "${few[@]}" --set kd.pseudo=0.000001 --out all
grep -q 'pseudo-labels: 9 of 9 samples without label' err.txt out.txt || failed "pseudo-labels are not counted"
grep -q '"pseudo_labelled": *9' all/report.json || failed "the report does not count pseudo-labels"
grep -q '"pseudo_labelled":9' all/log.jsonl || failed "the log does not count pseudo-labels"
accepted train "${few[@]}" --config "$configs/distill/pseudo.yaml" --set kd.pseudo=1 --out none
grep -q 'pseudo-labels: 0 of 9' err.txt out.txt || failed "an unsure class became a label"
accepted train "${few[@]}" --set label_smoothing=0 --out without -q
same_file none/checkpoints/last/model.safetensors without/checkpoints/last/model.safetensors
if cmp -s all/checkpoints/last/model.safetensors without/checkpoints/last/model.safetensors; then
    failed "pseudo-labels change nothing"
fi
refused 2 'kd.pseudo: 0.9, but all 12 training samples have a label' train --teacher-logits one.logits.zst \
    --set kd.pseudo=0.9 --out no -q

# ---- no labels at all: terms that read a teacher alone, or nothing to learn
bare=(--set data.unlabelled=ids)
accepted train --teacher-logits one.logits.zst "${bare[@]}" --out free
grep -q 'loss_ce: no training sample has a label, so the term is 0' err.txt out.txt || failed "no word of an empty term"
[ "$(first free loss_ce)" = 0.0 ] || failed "CE without labels is not 0"
near "$(first free loss_kd)" "$(first one loss_kd)" "KL without labels"
accepted train --teacher-logits one.logits.zst "${bare[@]}" --config "$configs/distill/label_free.yaml" \
    --out recipe -q
accepted train --teacher-logits one.logits.zst "${bare[@]}" --set kd.pseudo=0.000001 --set kd.weight=0 --out pure -q
refused 3 'none of 12 training samples has a label, and no term reads a teacher alone' train "${bare[@]}" --out no -q
refused 3 'none of 12 training samples has a label' train --teacher-logits one.logits.zst "${bare[@]}" \
    --set kd.weight=0 --set kd.dkd_weight=1 --out no -q
refused 2 'train.select: train, but no training sample has a label' train --teacher-logits one.logits.zst "${bare[@]}" \
    --set train.select=train --out no -q

# ---- keys that do nothing
refused 2 'kd.combine: average, but kd.store has one store' train --teacher-logits one.logits.zst \
    --set kd.combine=average --out no -q
refused 2 'kd.combine: entropy, but no term reads logits' train --set "$(stores one.logits.zst two.logits.zst)" \
    --set kd.combine=entropy --set kd.weight=0 --set kd.feature=mse --out no -q
refused 2 'kd.store_weights: expected 2 numbers, one a store, found 3' train \
    --set "$(stores one.logits.zst two.logits.zst)" --set 'kd.store_weights=[1,1,1]' --out no -q
refused 2 'kd.store_weights: expected numbers above 0' train --set "$(stores one.logits.zst two.logits.zst)" \
    --set 'kd.store_weights=[1,0]' --out no -q
refused 2 'kd.nkd_temperature: expected 1 where' train --set "$(stores one.logits.zst two.logits.zst)" \
    --set kd.combine=average --set kd.nkd_weight=1 --set kd.nkd_temperature=2 --out no -q
finish
