#!/bin/sh
# kd dataset from the outside: files, counts, exit codes, one-line messages.
# usage: dataset.sh KD DIR
set -u
kd=$1
dir=$2/cli-dataset
failed=0
rm -rf "$dir"
mkdir -p "$dir"

# expect CODE TEXT COMMAND...: exit code, and TEXT somewhere in what it prints
expect() {
    code=$1
    text=$2
    shift 2
    "$@" >"$dir/out" 2>&1
    got=$?
    if [ $got -ne "$code" ] || ! grep -q -- "$text" "$dir/out"; then
        echo "FAILED ($got instead of $code, or no '$text'): $*"
        cat "$dir/out"
        failed=1
    fi
}

# one_line COMMAND...: an error is at most three lines on stderr, nothing on stdout
one_line() {
    "$@" >"$dir/out" 2>"$dir/err"
    lines=$(wc -l <"$dir/err")
    if [ -s "$dir/out" ] || [ "$lines" -lt 1 ] || [ "$lines" -gt 3 ]; then
        echo "FAILED (not one to three lines on stderr alone): $*"
        failed=1
    fi
}

expect 0 '"clips": 50' "$kd" dataset sample --out "$dir/s" --clips 50 --size 64x48 --json -q
expect 0 '50 videos, 50 skeletons, 50 pairs' "$kd" dataset scan --data "$dir/s"
expect 0 '"pairs": 50' "$kd" dataset scan --data "$dir/s" --json
expect 0 '50 videos decoded' "$kd" dataset check --data "$dir/s" --out "$dir/q" -q
expect 0 'train 38, val 12' "$kd" dataset annotate --data "$dir/s" --out "$dir/a"
expect 2 'unlike\|expected ntu60' "$kd" dataset annotate --data "$dir/s" --out "$dir/a" --split nonsense
expect 2 'other options' "$kd" dataset sample --out "$dir/s" --seed 1
expect 2 'is not empty' "$kd" dataset sample --out "$dir"
expect 2 'did you mean --clips' "$kd" dataset sample --clip 3 --out "$dir/x"
expect 2 "did you mean 'scan'" "$kd" dataset scam
expect 3 'cannot\|No such' "$kd" dataset scan --data "$dir/none"

# every line of a list names a file that is there, and no sample is on both sides
while read -r path label; do
    [ -f "$path" ] && [ "$label" -ge 0 ] && [ "$label" -lt 12 ] || {
        echo "FAILED: $path $label"
        failed=1
    }
done <"$dir/a/train.csv"
if cut -d' ' -f1 "$dir/a/train.csv" "$dir/a/val.csv" | sort | uniq -d | grep .; then
    echo "FAILED: on both sides"
    failed=1
fi

# damage: a video cut in the middle, a skeleton with a letter in a number, a skeleton that is gone
video="$dir/s/nturgb+d_rgb/S003C001P001R001A003_rgb.avi"
[ -f "$video" ] || video=$(ls "$dir"/s/nturgb+d_rgb/*.avi | head -1)
size=$(wc -c <"$video")
head -c $((size / 2)) "$video" >"$dir/half" && mv "$dir/half" "$video"
skeleton=$(ls "$dir"/s/nturgb+d_skeletons/*.skeleton | sed -n 7p)
sed '9s/[0-9]/x/' "$skeleton" >"$dir/bad" && mv "$dir/bad" "$skeleton"
rm "$(ls "$dir"/s/nturgb+d_skeletons/*.skeleton | sed -n 20p)"
expect 3 '2 damaged files' "$kd" dataset check --data "$dir/s" --out "$dir/q" --force -q
for name in "$(basename "$video")" "$(basename "$skeleton")"; do
    if ! grep -q "$name" "$dir/q/quarantine.tsv"; then
        echo "FAILED: quarantine.tsv does not name $name"
        failed=1
    fi
done
expect 0 '1 no skeleton' "$kd" dataset annotate --data "$dir/s" --out "$dir/a" --force
expect 0 '0 no skeleton' "$kd" dataset annotate --data "$dir/s" --out "$dir/a" --with-missing --force
expect 3 '1 of 49 files could not be drawn' "$kd" dataset render --data "$dir/s" --out "$dir/r" --size 32x32 -q
expect 0 '48 videos, 48 skeletons, 48 pairs' "$kd" dataset scan --data "$dir/r"

one_line "$kd" dataset render --out "$dir/r"
one_line "$kd" dataset scan --data "$dir/none"
one_line "$kd" dataset sample --out "$dir/s" --seed 1
one_line "$kd" nonsense

rm -rf "$dir"
[ $failed -eq 0 ] && echo "all as expected"
exit $failed
