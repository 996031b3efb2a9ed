#!/usr/bin/env bash
# A store dumped in parts is, merged, the store dumped at once; a store is what its weights give, computed again.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/setup.sh"
samples data
two_view_teacher >t.yaml
start=$configs/teacher/tiny_pretrained.safetensors
dump() { "$teacher" dump-logits --config t.yaml --weights "$start" --features fc_norm "$@"; }
accepted dump --out whole.logits.zst

# ---- parts of a half end inside batches and between the views of a batch
for k in 1 2 3 4 5; do
    accepted dump --out p$k.logits.zst --shard $k/5
    cat out.txt >>parts.txt
done
[ "$(awk '/listed:/ { l += $1; d += $4 } END { print l, d }' parts.txt)" = "36 36" ] || failed "accounts: \
    $(cat parts.txt)"
accepted "$kd" logits merge p4.logits.zst p1.logits.zst p5.logits.zst p[32].logits.zst --out m.logits.zst
same_file m.logits.zst whole.logits.zst
"$kd" logits info p2.logits.zst | grep -q 'shard      2/5' || failed "info does not say which shard"
refused 3 'each of its 5 shards once, found 0 of shard 3/5' "$kd" logits merge p[1245].logits.zst --out no.logits.zst
accepted dump --out q.logits.zst --shard 2/4
refused 3 "shard '1/5' and shard '2/4' are not of one dump" "$kd" logits merge p1.logits.zst q.logits.zst \
    --out no.logits.zst
refused 3 'id S.* is in' "$kd" logits merge p1.logits.zst p1.logits.zst --out no.logits.zst
for bad in 0/2 3/2 2 a/b 1/2x; do
    refused 2 'shard: expected K/N' dump --out no.logits.zst --shard $bad -q
done
# interrupted: the same bytes
head -c $(($(stat -c %s p2.logits.zst) * 2 / 3)) p2.logits.zst >r.logits.zst.part
accepted dump --out r.logits.zst --shard 2/5 --resume
same_file r.logits.zst p2.logits.zst
head -c 100 p2.logits.zst >o.logits.zst.part
refused 3 'expects what the store began with' dump --out r.logits.zst --shard 3/5 --resume -q

# ---- computed again
again() { "$kd" logits verify "$1" --config t.yaml --weights "$start" "${@:2}"; }
accepted again whole.logits.zst --recompute 10%
grep -q '4 of 36 records computed again: 0 differ' out.txt || failed "10 %: $(cat out.txt)"
accepted again whole.logits.zst --recompute 7 --json
grep -q '"recomputed": *7, *"differing": *0' out.txt || failed "7: $(cat out.txt)"
accepted again m.logits.zst --recompute 100% --batch-size 3
# other pictures under one name: that record, by its id
mapfile -t v < <(find data/nturgb+d_rgb -name '*.avi' | sort)
cp "${v[20]}" kept && cp "${v[3]}" "${v[20]}"
refused 4 "$(basename "${v[20]}" _rgb.avi): view .: logit of class" again whole.logits.zst --recompute 36 -q
grep -q '36 of 36 records computed again: 1 differ' out.txt || failed "other pictures: $(cat out.txt)"
: >"${v[20]}"
refused 4 "$(basename "${v[20]}" _rgb.avi)" again whole.logits.zst --recompute 36 -q
mv kept "${v[20]}"
accepted "$kd" dataset pack --data data --out pack --codec raw -q
refused 3 'made with the videos of the data set, this run reads those of pack [0-9a-f]{12}: data.video_dir' \
    again whole.logits.zst --recompute 1 --set "data.video_dir=$PWD/pack" -q
refused 3 "views '2x1', found '1x1'" again whole.logits.zst --recompute 1 --set eval.clips=1 -q
refused 3 'split' again whole.logits.zst --recompute 1 --set 'data.split.train=[1]' -q
refused 2 'expected a number of records or a share' again whole.logits.zst --recompute 0 -q
refused 2 'options of a model are for --recompute' "$kd" logits verify whole.logits.zst --config t.yaml
refused 2 'expected --weights' "$kd" logits verify whole.logits.zst --recompute 1
accepted "$teacher" finetune --config t.yaml --epochs 1 --out run -q
refused 3 'weights of SHA-256' "$kd" logits verify whole.logits.zst --weights run --recompute 1 -q --set eval.clips=2
# a student's store too
short_student 1 >s.yaml
accepted "$distill" train --config s.yaml --out s -q
accepted "$distill" dump-logits --weights s --out s.logits.zst --logits f32
accepted "$kd" logits verify s.logits.zst --weights s --recompute 50%
grep -q '18 of 36 records computed again: 0 differ' out.txt || failed "student: $(cat out.txt)"
finish
