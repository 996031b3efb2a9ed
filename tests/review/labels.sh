#!/usr/bin/env bash
# Labels that cannot be meant: counted from 1, halves that disagree, numbers of actions, several a row, wrong counts of
# frames; classes without a sample are said.
. "$(dirname "$0")/setup.sh"
samples data
run=("$teacher" finetune --config lists.yaml --data L --dry-run)
from_1() { sed -i 's/ 1$/ 2/;s/ 0$/ 1/' "$@"; }

lists 0
from_1 L/t.csv L/v.csv
refused 3 't.csv: labels from 1 to 2.*data.label_base: 1' "${run[@]}" -q
accepted "${run[@]}" --set data.label_base=1
grep -q ', 2 classes' err.txt out.txt || failed "label_base 1: expected 2 classes"
accepted "${run[@]}" --set data.num_classes=3
grep -q '1 of 3 classes have no training sample (the first: 0' err.txt || failed "an empty class is not said"
refused 3 'label 2 of .*expected 0 to 1.*data.label_base: 1' "${run[@]}" -q --set data.num_classes=2
lists 0
refused 3 't.csv:1: label 0, but data.label_base is 1' "${run[@]}" -q --set data.label_base=1

from_1 L/t.csv
refused 3 'one list counts from 0 and the other from 1' "${run[@]}" -q
lists 0 # the same folders, other numbers
sed -i 's/ 1$/ 2/;s/ 0$/ 1/;s/ 2$/ 0/' L/v.csv
refused 3 'holds class.*number the classes differently' "${run[@]}" -q
lists 0
sed -i 's/ [01]$/ 5/' L/v.csv
refused 3 'has no class of the training half' "${run[@]}" -q
lists 60
accepted "${run[@]}"
grep -q '58 of 60 classes have no training sample' err.txt || failed "58 empty classes are not said"

# folders of classes against the names of the classes
lists
refused 3 "t.csv:[0-9]+: clap/ has label 1, which is 'wave'; its name is that of class 0" "${run[@]}" -q \
    --set 'data.classes=[clap,wave]'
accepted "${run[@]}" --set 'data.classes=[Wave,CLAP]'
accepted "${run[@]}" --set 'data.classes=[a,b]'
printf 'clap\nwave\n' >L/classes.txt
refused 3 "clap/ has label 1, which is 'wave'" "${run[@]}" -q
printf '1 clap\n0 wave\n' >L/classes.txt
refused 3 "classes.txt:1: '1 clap': names are numbered by their lines" "${run[@]}" -q
printf '0 wave\n1 clap\n' >L/classes.txt
accepted "${run[@]}"
rm L/classes.txt
sed -i '1s/ 0$/ 1/' L/t.csv # a clip that was labelled anew: the folders are no classes
accepted "${run[@]}" --set 'data.classes=[wave,clap]'

# NTU names: the label is the action minus 1, or one number an action
ntu() {
    find data/nturgb+d_rgb -name "*$1*.avi" -printf '%P\n' | sort | awk -v e="$2" '{
        a = substr($1, 18, 3) + 0
        print "nturgb+d_rgb/" $1 " " (e == "half" ? int((a - 1) / 2) : a - e)
    }'
}
cat >ntu.yaml <<Y
base: $configs/teacher/tiny.yaml
data: {split: list, train_list: $work/t, val_list: $work/v, num_classes: 0}
Y
named=("$teacher" finetune --config ntu.yaml --data data --dry-run)
{ ntu P001 1 && ntu P002 1; } >t
ntu P003 1 >v
accepted "${named[@]}"
ntu P003 0 >v
refused 3 '/v:1: label .* is the number of its action.*label_base: 1' "${named[@]}" -q
{ ntu P001 0 && ntu P002 0; } >t
refused 3 '/t:1: label .* is the number of its action' "${named[@]}" -q
accepted "${named[@]}" --set data.label_base=1
{ ntu P001 half && ntu P002 half; } >t # actions numbered anew
ntu P003 half >v
accepted "${named[@]}"
{ ntu P001 1 && ntu P002 1 | sed '3s/ [0-9]*$/ 9/'; } >t
ntu P003 1 >v
refused 3 '/t:[0-9]+: label 9 of .*1 rows are wrong' "${named[@]}" -q

# keys of lists where no list is read
unlisted() { refused 2 "data.$1: only where layout or split is list" "$teacher" finetune --dry-run -q --data data \
    --config "$configs/teacher/tiny.yaml" --set 'data.split={by: subject, train: [1, 2]}' --set "data.$1=$2"; }
unlisted train_list t.csv
unlisted val_list v.csv
unlisted label_base 1

# rows of more than a path and a label
row() { # row SCRIPT PATTERN
    lists
    sed -i "$1" L/t.csv
    refused 3 "$2" "${run[@]}" -q
}
row 's/ [01]$/ 0 1/' 't.csv:1: .*several labels'
row 's/ [01]$/,0,1/' 't.csv:1: .*several labels'
row 's/ \([01]\)$/ 1 40 \1/' 't.csv:1: .*path start frames label'
row '3s/ \([01]\)$/ \1 1/' 't.csv:3: expected 1 number behind the path.*several labels'
lists # frame counts are held against the video when it is opened
sed -i 's/ \([01]\)$/ 3 \1/' L/t.csv
refused 3 'the list says 3 frames, the video holds [0-9]+: .*L/' \
    "$teacher" finetune --config lists.yaml --data L --out o -q

# boxes and single frames are no lists of clips
printf -- '-5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,80,1\n-5KQ66BBWC4,0903,0.332,0.194,0.481,0.891,12,0\n' >L/t.csv
refused 3 't.csv:1: a row of AVA' "${run[@]}" -q
printf -- '-5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,,\n' >L/t.csv
refused 3 't.csv:1: a row of AVA' "${run[@]}" -q
printf 'original_vido_id video_id frame_id path labels\nx 0 0 x/x_000001.jpg ""\n' >L/t.csv
refused 3 't.csv:1: a list of single frames' "${run[@]}" -q

finish
