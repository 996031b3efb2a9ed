#!/usr/bin/env bash
# Names of samples outside NTU: equal file names, dots, blanks, quotes, long ones, other scripts; text files with BOM
# and CRLF; lists that annotate writes.
. "$(dirname "$0")/setup.sh"
samples data
lists
run=("$teacher" finetune --config lists.yaml --data L --dry-run)
scan() { accepted "$kd" dataset scan --data "$1"; }

# wave/1.avi and clap/1.avi
mkdir same && (cd L && find . -name '*.avi') | while read -r f; do
    mkdir -p "same/$(dirname "$f")" && cp "L/$f" "same/$(dirname "$f")/${f: -9:1}.avi"
done
sed -E 's#v_.*_g0([0-9])_c01#\1#' L/t.csv >same/t.csv
sed -E 's#v_.*_g0([0-9])_c01#\1#' L/v.csv >same/v.csv
scan same
grep -q '12 samples.*12 videos' out.txt && grep -q 'named by their paths' out.txt || failed "equal file names in a scan"
accepted "${run[@]}" --data same
grep -q 'train: 8 samples of 8' err.txt out.txt || failed "equal file names in a list"
grep -q 'samples are named by their paths' err.txt || failed "the rule of names is not said"
refused 3 'lies there twice.*data.key: path|stands in line' "${run[@]}" --data same -q --set data.key=stem
accepted "${run[@]}" --data same --set data.key=path

# dots, blanks, quotes, commas
mkdir dots
i=0
for name in 'Walking.11111111' 'Walking.22222222' 'Walking 1.11111111' 2021-05-03_12.30.15 2021-05-03_12.31.40 v1.0 \
    v1.1 clip.final 'say "hi"' 'a,b' '#1' "it's"; do
    i=$((i + 1))
    clip "dots/$name.avi" $i
    printf '"%s.avi",%d\r\n' "${name//\"/\"\"}" $((i % 2)) >>"dots/all.csv"
done
scan dots
grep -q '12 samples.*12 videos' out.txt || failed "names with dots: $(head -1 out.txt)"
{ printf '\357\273\277path,label\r\n' && head -8 dots/all.csv; } >dots/t.csv
tail -4 dots/all.csv >dots/v.csv
printf '\357\273\277one\r\ntwo\r\n\r\n' >dots/classes.txt
accepted "${run[@]}" --data dots
grep -q 'train: 8 samples of 8' err.txt out.txt || failed "names with dots, quotes and commas in a list"
grep -q 'val: 4 samples of 4' err.txt out.txt || failed "names with quotes in the validation list"

# long names: titles, other scripts, 255 bytes
mkdir long
n=$(printf 'x%.0s' {1..120})
clip "long/${n}_1234567.avi" 1
clip "long/$(printf '\350\247\206%.0s' {1..45}).avi" 2
clip "long/$(printf 'y%.0s' {1..251}).avi" 3
clip long/ok.avi 4
scan long
grep -q '4 samples.*4 videos' out.txt || failed "long names: $(head -1 out.txt)"
(cd long && ls ./*.avi) | awk '{ print $0 " " NR % 2 }' >long/t.csv
mkdir long/wave long/clap && clip long/wave/1.avi 5 && clip long/clap/1.avi 6 # names of paths go into stores too
printf 'wave/1.avi 0\nclap/1.avi 1\n' >long/v.csv
accepted "$teacher" finetune --config lists.yaml --data long --out lo -q
accepted "$teacher" dump-logits --weights lo --config lists.yaml --data long --split train,val --out l.logits.zst -q
accepted "$kd" logits verify l.logits.zst
accepted "$kd" logits export l.logits.zst --out l.npz

# what annotate writes is read back, from any folder
annotated() { # annotated ROOT OPTION...: lists of ROOT in ann; the recipe that reads them
    local root=$1
    shift
    rm -rf ann
    accepted "$kd" dataset annotate --data "$root" --out ann "$@"
    cat >ann.yaml <<Y
base: $configs/teacher/tiny.yaml
data: {layout: list, split: list, train_list: $work/ann/train.csv, val_list: $work/ann/val.csv, num_classes: 12}
Y
    accepted "$teacher" finetune --config ann.yaml --data "$root" --dry-run
    grep -q 'train: 24 samples of 24' err.txt out.txt || failed "annotate $root $*: $(grep train: err.txt out.txt)"
}
annotated data
annotated data --relative
annotated ./data --format csv
mkdir 'My Drive' && mv data 'My Drive/data'
annotated 'My Drive/data'
annotated 'My Drive/data' --relative
refused 3 'holds a blank.*--format csv' "$kd" dataset annotate --data 'My Drive/data' --out ann2 --format list

finish
