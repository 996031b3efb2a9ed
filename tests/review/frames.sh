#!/usr/bin/env bash
# A folder of numbered pictures is a video.
. "$(dirname "$0")/setup.sh"
make=$build/tests/make_media
[ -x "$make" ] || exit 77
tiny="--config $configs/teacher/tiny.yaml --weights $configs/teacher/tiny_pretrained.safetensors"
"$make" frames f/v1 40
accepted "$teacher" predict $tiny f/v1
grep -q '^f/v1 ' out.txt || failed "predict: $(cat out.txt)"
"$make" frames f/v2 40
rm f/v2/img_00007.png
refused 3 'f/v2: picture 7 is missing: img_00006.png is followed by img_00008.png' "$teacher" predict $tiny f/v2
"$make" frames f/v3 40
mv f/v3/img_00040.png f/v3/img_00040.jpg
refused 3 'expected pictures of one name and ending' "$teacher" predict $tiny f/v3
"$make" frames f/v4 40
echo oops >f/v4/img_00040.png
refused 3 'f/v4/img_00040.png: expected png, found something else' "$teacher" predict $tiny f/v4

# video.start_index is the number of the first frame's picture: MMAction2 and VideoMAE begin at 1 whatever lies before.
"$make" frames f/v6 40
cp f/v6/img_00040.png f/v6/img_00000.png
start() { accepted "$teacher" predict $tiny --set video.start_index="$1" f/v6 && tail -n +2 out.txt; }
accepted "$teacher" predict $tiny f/v1
tail -n +2 out.txt >plain
accepted "$teacher" predict $tiny f/v6
tail -n +2 out.txt | diff - plain >/dev/null && failed "picture 0 is passed over without a word"
start 1 | diff - plain >/dev/null || failed "start_index 1 does not begin at picture 1"
rm f/v6/img_0000[0-4].png
refused 3 'f/v6: expected pictures numbered from 0 or 1, the first is img_00005.png' "$teacher" predict $tiny f/v6
start 5 >later
start 6 | diff - later >/dev/null && failed "start_index 6 is that of 5"
refused 3 'expected a picture of number 2 .*found as the first one img_00005.png' \
    "$teacher" predict $tiny --set video.start_index=2 f/v6
refused 3 'expected a picture of number 41 .*found smaller numbers alone' \
    "$teacher" predict $tiny --set video.start_index=41 f/v6
# `dataset check` of a recipe reads folders as the recipe does.
echo 'v6 0' >f/l.csv
check() {
    "$kd" dataset check --config "$configs/teacher/tiny.yaml" --data f --set data.layout=list --set data.split=list \
        --set data.train_list=l.csv --set data.num_classes=12 "$@"
}
refused 3 'damaged files' check --out bad -q
grep -q 'numbered from 0 or 1, the first is img_00005.png' bad/quarantine.tsv ||
    failed "check: $(cat bad/quarantine.tsv)"
accepted check --set video.start_index=5
mkdir f/v5
refused 3 'f/v5: .*a folder without pictures' "$teacher" predict $tiny f/v5
finish
