#!/usr/bin/env bash
# Views of a test: clips x crops, each mirrored too; the same in `eval`, in a store and in `predict`, on any number of
# workers and in any batches.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/setup.sh"
samples data --clips 24
six=(--config "$configs/teacher/tiny.yaml" --weights "$configs/teacher/tiny_pretrained.safetensors" --threads 1
    --set eval.crop_rule=corners --set video.short_side=112 --set eval.merge=score)
data=(--data data --set 'data.split.train=[1]' --set data.num_classes=12)

accepted "$teacher" eval "${six[@]}" "${data[@]}" --views 1x3x2 --out six.json
grep -q 'views 1x3x2' out.txt || failed "eval: $(cat out.txt)"
accepted "$teacher" dump-logits "${six[@]}" "${data[@]}" --views 1x3x2 --split val --out six.logits.zst --batch-size 4 \
    --workers 3
accepted "$kd" logits verify six.logits.zst
accepted "$kd" logits info six.logits.zst
grep -Eq '^views +1x3x2, merged by score' out.txt && grep -q '12 with 72 views' out.txt ||
    failed "store: $(cat out.txt)"
accepted "$teacher" dump-logits "${six[@]}" "${data[@]}" --set eval.clips=1 --set eval.crops=3 --set eval.flips=true \
    --split val --out again.logits.zst --batch-size 7 --workers 1
same_file six.logits.zst again.logits.zst

# What a store averages is what the report says: the same logits to the last digit that is written.
accepted "$kd" logits export six.logits.zst --out six.npz
video=$(find data/nturgb+d_rgb -name '*P002*' | sort | head -1)
accepted "$teacher" predict "${six[@]}" --set eval.clips=1 --set eval.crops=3 --set eval.flips=true --top 1 --json \
    "$video"
class=$(sed 's/.*"class":\([0-9]*\).*/\1/' out.txt)
id=$(basename "$video" _rgb.avi)
tr -d ' \n' <six.json | awk -v id="$id" '{
    match($0, /"predictions":\{"ids":\[[^]]*\]/); n = split(substr($0, RSTART, RLENGTH), ids, "\"")
    for (i = at = 0; i <= n; i++) { if (ids[i] ~ /^S[0-9]+C/) { at++; if (ids[i] == id) want = at } }
    match($0, /"logits":\[\[.*\]\]/); split(substr($0, RSTART + 10, RLENGTH - 11), rows, "],\\[")
    gsub(/[][]/, "", rows[want]); m = split(rows[want], x, ",")
    for (best = k = 1; k <= m; k++) { if (x[k] + 0 > x[best] + 0) best = k }
    print best - 1 }' >best
[ "$(cat best)" = "$class" ] || failed "$id: predict finds $class, the report $(cat best)"

# Other views are other numbers, and what cannot be is refused.
accepted "$teacher" dump-logits "${six[@]}" "${data[@]}" --views 1x3 --split val --out three.logits.zst
accepted "$kd" logits info three.logits.zst
grep -q '12 with 36 views' out.txt || failed "three views: $(cat out.txt)"
accepted "$teacher" eval "${six[@]}" "${data[@]}" --set eval.flips=true --views 2x1 # the recipe's flips stay
grep -q 'views 2x1x2' out.txt || failed "flips of the recipe: $(cat out.txt)"
refused 2 "expected CLIPSxCROPS such as 5x3, or 5x3x2" "$teacher" eval "${six[@]}" "${data[@]}" --views 1x3x3 -q
refused 2 'eval.crops: expected 1 or 3' "$teacher" eval "${six[@]}" "${data[@]}" --views 1x5 -q
refused 2 'video.short_side: expected 0 or at least img_size' \
    "$teacher" eval "${six[@]}" "${data[@]}" --set video.short_side=64 -q
finish
