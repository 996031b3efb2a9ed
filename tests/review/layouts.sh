#!/usr/bin/env bash
# Folders as people have them: NTU's below other names, nested, in upper case; folders of pictures; files that are there
# and not looked at; skeletons as arrays.
. "$(dirname "$0")/setup.sh"
samples data
tree() { # tree DIR VIDEOS SKELETONS: four samples
    mkdir -p "$1/$2" "$1/$3"
    find data/nturgb+d_rgb -name '*.avi' | sort | awk 'NR % 9 == 1' | xargs cp -t "$1/$2"
    find data/nturgb+d_skeletons -name '*.skeleton' | sort | awk 'NR % 9 == 1' | xargs cp -t "$1/$3"
}
pairs() { # pairs DIR: all four are found and paired
    accepted "$kd" dataset scan --data "$1"
    grep -q '^4 samples .*4 videos, 4 skeletons, 4 pairs' out.txt || failed "$1: $(head -1 out.txt)"
}
tree a nturgb+d_rgb/S003 nturgb+d_skeletons && pairs a
tree b nturgb+d_rgb skeletons && pairs b
tree c nturgb+d_rgb nturgb+d_skeletons/nturgb+d_skeletons && pairs c
tree d nturgb+d_rgb_s003 nturgb+d_skeletons && pairs d
tree e NTURGB+D_RGB NTURGB+D_SKELETONS && pairs e
tree f rgb skel && pairs f
for t in a b c d e; do
    accepted "$teacher" finetune --config "$configs/teacher/tiny.yaml" --data $t --dry-run \
        --set 'data.split={by: subject, train: [1]}' --set train.batch_size=1
done

# a copy beside the layout's folder is told, not read
cp -r a/nturgb+d_rgb a/nturgb+d_rgb_small
accepted "$kd" dataset scan --data a
grep -q '4 files in folders not looked at (the first: nturgb+d_rgb_small/' out.txt || failed "files aside are not told"
# the layout's folder is empty, the videos lie elsewhere
mkdir -p g/nturgb+d_rgb g/other && cp a/nturgb+d_rgb/S003/*.avi g/other
refused 3 'no video .*folders of its layout, but elsewhere \(other/' "$kd" dataset scan --data g

# folders of pictures
mkdir -p h/wave/one h/wave/two
for n in 1 2 3; do : >"h/wave/one/img_0000$n.jpg" && : >"h/wave/two/000$n.png"; done
accepted "$kd" dataset scan --data h
grep -q '2 samples .*2 videos' out.txt && grep -q '2 of the videos are folders of pictures' out.txt ||
    failed "folders of pictures: $(head -2 out.txt)"

# skeletons as arrays
mkdir -p n/m && printf '\223NUMPY\1\0v\0{}' >n/m/S001C001P001R001A001.npy && printf '\200\4\225' >n/ntu60_3danno.pkl
refused 3 'a file of skeleton arrays is read as --data FILE or by data.skeleton_file \(' "$kd" dataset scan --data n
refused 3 'ntu60_3danno.pkl: pickle byte 2: the data end inside this value' "$kd" dataset scan --data n/ntu60_3danno.pkl
cp n/ntu60_3danno.pkl data/
accepted "$kd" dataset scan --data data
accepted "$kd" dataset scan --data data --json

finish
