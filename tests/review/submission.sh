#!/usr/bin/env bash
# `teacher predict --submission`: every id of the list has its row, or the command says which has none.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/setup.sh"
make=$build/tests/make_media
[ -x "$make" ] || exit 77
names=$(for i in $(seq 0 11); do printf '"move %d",' $i; done)
tiny="--config $configs/teacher/tiny.yaml --weights $configs/teacher/tiny_pretrained.safetensors --threads 1"
for id in 10 2 07; do
    "$make" frames "test/$id" $((20 + ${id#0}))
done
printf '10\n07\n2\n' >ids.txt
# shellcheck disable=SC2086
submit() {
    "$teacher" predict $tiny --set "data.classes=[${names%,}]" --data test --ids ids.txt --submission out.csv "$@"
}

# One row an id, sorted as numbers, and the class that `predict` finds.
accepted submit
grep -q '^3 ids listed: 3 rows written, 0 failed' out.txt || failed "account: $(cat out.txt)"
for id in 2 07 10; do
    # shellcheck disable=SC2086
    accepted "$teacher" predict $tiny --top 1 --json "test/$id"
    sed "s/.*\"class\":\([0-9]*\).*/$id,move \1/" out.txt
done >rows
{ echo id,class && cat rows; } | cmp - out.csv || failed "rows: $(cat out.csv)"
cp out.csv want.csv
refused 2 'out.csv' submit -q
# A server's example, paths, a folder, other batches and workers: the same bytes.
printf 'id,class\r\n2,clap\r\n07,clap\r\n10,clap\r\n' >ids.txt
accepted submit --force --batch-size 3 --workers 2
same_file out.csv want.csv
# shellcheck disable=SC2086
accepted "$teacher" predict $tiny --set "data.classes=[${names%,}]" --ids test --submission out.csv --force
same_file out.csv want.csv
# a folder of the folder that is no video has a name
"$make" frames test/11 1
# shellcheck disable=SC2086
folder() { "$teacher" predict $tiny --set "data.classes=[${names%,}]" --ids test --submission out.csv --force "$@"; }
refused 3 'test/11: expected a video, or two numbered pictures and more' folder -q
accepted folder --set data.on_bad_sample=skip
grep -q '^4 ids listed: 3 rows written, 1 failed and without a row' out.txt || failed "account: $(cat out.txt)"
same_file out.csv want.csv
rm -r test/11
mkdir more && mv test more/a
printf 'a/2/\n10\na\\07\n' >ids.txt
accepted submit --data more --force
same_file out.csv want.csv
# Views of the recipe: six of them average to other logits, and each id still has one row.
accepted submit --data more --force --set eval.crops=3 --set eval.flips=true --set eval.crop_rule=corners \
    --set video.short_side=112 --set eval.merge=score
[ "$(wc -l <out.csv)" -eq 4 ] || failed "six views: $(cat out.csv)"

# Fields that need quotes.
printf 'a/2\n' >ids.txt
quoted=$(for i in $(seq 0 11); do printf "'say \"%d\", loud'," $i; done)
accepted submit --data more --force --set "data.classes=[${quoted%,}]"
sed 1d out.csv | grep -Eq '^2,"say ""[0-9]+"", loud"$' || failed "quotes: $(cat out.csv)"

# Broken and absent ids: refused and nothing written; under skip named, counted, without a row.
rm out.csv
printf '2\n10\n99\n' >ids.txt
refused 3 "ids.txt:3: 99: expected a video or a folder of pictures below more, found none" submit --data more -q
absent out.csv
printf '2\n10\n07\n' >ids.txt
rm more/a/10/img_00003.png
refused 3 '10: .*picture 3 is missing' submit --data more -q
absent out.csv
printf '2\n99\n10\n07\n' >ids.txt
accepted submit --data more --set data.on_bad_sample=skip
grep -q '^4 ids listed: 2 rows written, 2 failed' out.txt || failed "skip: $(cat out.txt)"
grep -q 'left out: ids.txt:2: 99' err.txt && grep -q 'left out: 10: ' err.txt || failed "not named: $(cat err.txt)"
grep -v '^10,' want.csv | cmp - out.csv || failed "rows under skip: $(cat out.csv)"

printf '2\na/2\n' >ids.txt
refused 3 'id 2 is there twice' submit --data more --force -q
: >ids.txt
refused 3 'expected ids of videos below more, found none' submit --data more --force -q
printf '2\n' >ids.txt
# shellcheck disable=SC2086
refused 3 'expected the names of its 12 classes' \
    "$teacher" predict $tiny --data more --ids ids.txt --submission o.csv -q
# shellcheck disable=SC2086
refused 2 'belong to --submission' "$teacher" predict $tiny --ids ids.txt more/a/2
refused 2 'takes its videos from --ids' submit --data more --force more/a/2
finish
