#!/usr/bin/env bash
# Split files as they are downloaded: UCF101, HMDB51, Kinetics, Something-Something v2; lists of class names.
. "$(dirname "$0")/setup.sh"
samples data
run=("$teacher" finetune --config lists.yaml --data L --dry-run)
halves() { # halves WHAT TRAIN VAL CLASSES: as the run says
    grep -q "train: $2 samples of $2" err.txt out.txt && grep -q "val: $3 samples of $3" err.txt out.txt &&
        grep -q ", $4 classes" err.txt out.txt || failed "$1: $(grep -hE 'train:|val:|classes' err.txt out.txt)"
}

# UCF101: labels from 1, none in the test list
lists 0
sed -i 's/ 1$/ 2/;s/ 0$/ 1/' L/t.csv
sed -i 's/ .$//' L/v.csv
refused 3 'v.csv:1: .*classInd.txt' "${run[@]}" -q
printf '1 wave\r\n2 clap\r\n' >L/classInd.txt
accepted "${run[@]}"
halves UCF101 8 4 2
sed -i '1s/ 1$/ 2/' L/t.csv
refused 3 't.csv:1: .* has label 2; classInd.txt numbers its class 1' "${run[@]}" -q
rm L/classInd.txt

# HMDB51: a file a class, 1 train, 2 test, 0 unused
lists 0
mkdir S
for k in wave clap; do
    for s in 1 2; do
        for f in L/$k/*.avi; do
            case $f in *g0[123]*) m=1 ;; *g0[45]*) m=2 ;; *) m=0 ;; esac
            printf '%s %d \n' "$(basename "$f")" $m
        done >S/${k}_test_split$s.txt
    done
done
hmdb=("${run[@]}" --set data.val_list=)
accepted "${hmdb[@]}" --set "data.train_list=S/*_test_split1.txt"
halves 'HMDB51, pattern' 6 4 2
refused 3 'several splits.*test_split1' "${hmdb[@]}" -q --set data.train_list=S
rm S/*_test_split2.txt
accepted "${hmdb[@]}" --set data.train_list=S
halves 'HMDB51, folder' 6 4 2
mkdir flat && cp L/*/*.avi flat
accepted "${hmdb[@]}" --data flat --set data.train_list=S
halves 'HMDB51, flat' 6 4 2
cp S/wave_test_split1.txt flat/t.csv && cp flat/t.csv flat/v.csv
refused 3 'looks like a split file of HMDB51' "${run[@]}" --data flat -q

# Kinetics: names of classes, ids and times
mkdir -p K/kicking K/reading
{
    echo 'label,youtube_id,time_start,time_end,split'
    for i in 1 2 3 4; do
        clip "K/kicking/-kick_id_$i""_00000$i""_00001$i.mp4" "$i"
        clip "K/reading/read_id_$i""_00002$i""_00003$i.mp4" $((i + 4))
        part=$([ $i -lt 4 ] && echo train || echo val)
        echo "kicking a ball,-kick_id_$i,$i,1$i,$part"
        echo "\"reading, aloud\",read_id_$i,2$i,3$i,$part"
    done
} >K/all.csv
cp K/all.csv K/t.csv && cp K/all.csv K/v.csv
accepted "${run[@]}" --data K --set data.num_classes=0
halves Kinetics 6 2 2

# Something-Something v2: JSON and its labels
mkdir V
for i in 1 2 3 4 5 6; do clip V/10$i.webm $i; done
row() { printf '{"id":"%d","label":"x","template":"Holding [something] %s","placeholders":["x"]}' "$1" "$2"; }
echo "[$(row 101 up),$(row 102 up),$(row 103 down),$(row 104 down)]" >V/t.csv
echo "[$(row 105 up),$(row 106 down)]" >V/v.csv
echo '{"Holding something up":"1","Holding something down":"0","Never seen":"2"}' >V/labels.json
accepted "${run[@]}" --data V --set data.num_classes=0
halves SSv2 4 2 3
sed -i 's/\[something\] up/[something] sideways/' V/v.csv
refused 3 "'Holding something sideways' is none of the 3 classes" "${run[@]}" --data V -q --set data.num_classes=0

# names of classes under a heading, numbered by the alphabet or by classes.txt
lists 0
for f in t v; do sed -i 's/ 0$/,waving/;s/ 1$/,"clapping, both hands"/;1i path,label' L/$f.csv; done
accepted "${run[@]}"
halves 'class names' 8 4 2
printf 'waving\njumping\nclapping, both hands\n' >L/classes.txt
accepted "${run[@]}"
halves 'classes.txt' 8 4 3
sed -i '2s/waving/weaving/' L/t.csv
refused 3 "t.csv:2: 'weaving' is none of the 3 classes" "${run[@]}" -q

# folders of pictures: path frames label
lists
rm L/t.csv
for k in wave clap; do
    for g in 1 2 3 4; do
        mkdir -p L/frames && "$build/tests/make_media" frames L/frames/$k$g 3
        echo "frames/$k$g 3 $([ $k = wave ] && echo 0 || echo 1)" >>L/t.csv
    done
done
accepted "${run[@]}"
halves 'folders of pictures' 8 4 2

finish
