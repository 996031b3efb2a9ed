#!/usr/bin/env bash
# Joint layouts: a student trains on each, from files of its joints and from files of another layout by name; files,
# weights and keys of another layout are refused by name; layouts of one's own, and what is wrong with them.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/setup.sh"
samples data
short_student 1 >s.yaml
train() { "$distill" train --config s.yaml --threads 1 --set train.log_interval=1 -q "$@"; }

# joints DIR N: the recordings of ./data with N joints a body; those beyond 25 are copies, moved a little.
joints() {
    local f
    mkdir -p "$1/nturgb+d_skeletons"
    for f in data/nturgb+d_skeletons/*.skeleton; do
        awk -v n="$2" '
            NR == 1 { print; next }
            NF == 1 && left == 0 && !body { bodies = $1; print; body = bodies > 0; next }
            NF == 10 { print; next }
            NF == 1 { print n; left = $1; k = 0; next }
            NF == 12 {
                row[k++] = $0; left--
                if (left == 0) {
                    for (i = 0; i < n; i++) { $0 = row[i % 25]; if (i >= 25) $1 += 0.01; print }
                    if (--bodies == 0) body = 0
                }
            }' "$f" >"$1/nturgb+d_skeletons/$(basename "$f")"
    done
}

# ---- every layout, every family somewhere
while read -r layout n student; do
    joints "j$n" "$n"
    accepted train --data "j$n" --set "skeleton.layout=$layout" --set "student.name=$student" --out "$layout"
    grep -q "\"layout\": *\"$layout\"" "$layout/report.json" || failed "$layout: not in its report"
    grep -rq "\"layout\": *\"$layout\"" "$layout"/checkpoints/last/state.json || failed "$layout: not in its checkpoint"
done <<'L'
ntu25 25 last-e3-nano
kinect20 20 last-e3-nano
openpose18 18 last-v1-small
coco17 17 sfz-nano
mediapipe33 33 last-e1-nano
L

# ---- by name from files of another layout: Kinect v1's joints are NTU's first twenty
accepted train --data data --set skeleton.layout=kinect20 --set skeleton.file_layout=ntu25 --out named
cmp -s kinect20/checkpoints/last/model.safetensors named/checkpoints/last/model.safetensors ||
    failed "kinect20 by name from ntu25 is not kinect20"
refused 2 'skeleton.file_layout: layout coco17 cannot be made of ntu25.*missing: nose' \
    train --data data --set skeleton.layout=coco17 --set skeleton.file_layout=ntu25 --out no

# ---- files, weights and resumes of another layout
refused 3 'skeleton:[0-9]+: expected 20 joints \(layout kinect20\), found 25' \
    train --data data --set skeleton.layout=kinect20 --out no
refused 3 'trained on skeletons of layout kinect20, the recipe.s are of openpose18' \
    "$distill" eval --config s.yaml --data j18 --weights kinect20 --set skeleton.layout=openpose18 --out no.json -q
refused 2 'skeleton.layout' train --data data --set skeleton.layout=ntu26 --out no
refused 2 "did you mean 'ntu25'" train --data data --set skeleton.layout=ntu26 --out no
accepted "$distill" eval --data j17 --weights coco17 --out coco17.json -q

# ---- checked as a recipe means them; without one a .skeleton file has NTU's joints
accepted "$kd" dataset check --config s.yaml --data j17 --set skeleton.layout=coco17
refused 3 'expected 33 joints \(layout mediapipe33\), found 17' \
    "$kd" dataset check --limit 1 --config s.yaml --data j17 --set skeleton.layout=mediapipe33
refused 3 'expected 25 joints, found 17' "$kd" dataset check --limit 1 --data j17

# ---- x, y and a confidence: what needs depth is refused by name, and so is a file that has none
flat() { train --data data --set skeleton.channels=xy_score --out no "$@"; }
refused 2 'skeleton_aug.rotate_deg: 15, but joints have no depth' flat --set skeleton_aug.rotate_deg=15
refused 2 'skeleton_aug.shear: 0.1, but joints have no depth' flat --set skeleton_aug.shear=0.1
refused 2 'skeleton.yaw: corrected, but joints have no depth' flat --set skeleton.yaw=corrected
refused 3 'expected joints of x, y and a confidence, found a .skeleton text' flat

# ---- a layout of one's own: a star of 26 joints
{
    echo 'name: star'
    echo "joints: [$(seq -s, -f 'j%.0f' 0 25)]"
    echo "edges: [$(for i in $(seq 1 25); do printf '[0, j%d],' "$i"; done)]"
    echo 'parts: {torso: [0, 1, 2, 3, 4, 5], left_arm: [6, 8, 10, 12, 14], right_arm: [7, 9, 11, 13, 15],'
    echo '  left_leg: [16, 18, 20, 22, 24], right_leg: [17, 19, 21, 23, 25]}'
    echo "mirror: [$(for i in 6 8 10 12 14 16 18 20 22 24; do printf '[%d, %d],' "$i" $((i + 1)); done)]"
    echo 'centre: j0'
    echo 'top: [1, 2]'
    echo 'shoulders: [j6, j7]'
} >star.yaml
joints j26 26
accepted train --data j26 --set skeleton.layout=star.yaml --set student.name=sfz-small \
    --set skeleton_aug.flip_prob=0.5 --out star
grep -Eq '"layout": *"star@[0-9a-f]{8}"' star/report.json || failed "star is not in its report"
accepted "$distill" eval --data j26 --weights star --out star.json -q
wrong() { # wrong TEXT EDIT: the layout after `sed EDIT` is refused
    sed "$2" star.yaml >bad.yaml
    refused 2 "$1" train --data j26 --set skeleton.layout=bad.yaml --out no
}
wrong 'skeleton.layout: bad.yaml:.*unknown key' 's/^centre/center/'
wrong 'bad.yaml:[0-9]+:[0-9]+: .*missing' '/^centre/d'
wrong 'bad.yaml: edges: expected a connected graph, found no way from j0 to j25' 's/\[0, j25\],//'
wrong 'bad.yaml:3:[0-9]+: expected one of the 26 joints, by name or number from 0, found .j26' 's/j25\],\]/j26]]/'
wrong 'bad.yaml:[0-9]+:[0-9]+: expected every joint in one part, found j5 in none' 's/4, 5\]/4]/'
wrong 'bad.yaml: mirror: .*j24 and j24' 's/\[24, 25\],//'
wrong 'bad.yaml:[0-9]+:[0-9]+: expected every joint in one pair at most, found j6 again' 's/\[24, 25\],/[6, 25],/'
wrong 'skeleton.bone_scale: true, but top and origin of layout star are one point' '/^top/d'
wrong 'bad.yaml:1:[0-9]+: expected a name of its own' 's/^name: star/name: ntu25/'
sed -i 's/top: .*/top: [3, 4]/' star.yaml # the file of the run's recipe has changed since
refused 3 'trained on skeletons of layout star@[0-9a-f]+, the recipe.s are of star@[0-9a-f]+' \
    "$distill" eval --data j26 --weights star --out no.json -q
refused 2 'skeleton.layout: .*none.yaml' train --data data --set skeleton.layout=none.yaml --out no
refused 2 'skeleton.frames: expected at least 13 for last-e3-large, found 8' \
    train --data data --set student.name=last-e3-large --set skeleton.frames=8 --out no
finish
