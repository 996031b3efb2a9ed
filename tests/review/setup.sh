# Sourced by every script of tests/review: `. "$(dirname "$0")/setup.sh"`.  Call: NAME.sh BUILD_DIR SOURCE_DIR
# A script works in a folder of its own, $work, and ends with `finish`.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/../cli/lib.sh"
configs=$source/configs

# samples DIR [OPTION...]: the made data set, NTU names, 12 actions; 36 clips of 3 persons unless told.
samples() {
    local dir=$1
    shift
    accepted "$kd" dataset sample --out "$dir" --clips 36 --replications 1 --cameras 1 --size 64x48 --threads 2 -q "$@"
}

# clip DEST N: the N-th video of ./data, which `samples data` made.
clip() {
    cp "$(find data/nturgb+d_rgb -name '*.avi' | sort | sed -n "${2}p")" "$1"
}

# lists [CLASSES]: L/{wave,clap}/v_CLASS_g0N_c01.avi, N = 1..6, four of a class in L/t.csv and two in L/v.csv, and the
# recipe lists.yaml over them (`--config lists.yaml --data L`).
lists() {
    local k g i=0 label
    rm -rf L && mkdir -p L/wave L/clap
    for k in wave clap; do
        label=$([ $k = wave ] && echo 0 || echo 1)
        for g in 1 2 3 4 5 6; do
            i=$((i + 1))
            clip "L/$k/v_${k}_g0${g}_c01.avi" $i
            echo "$k/v_${k}_g0${g}_c01.avi $label" >>"$([ $g -le 4 ] && echo L/t.csv || echo L/v.csv)"
        done
    done
    cat >lists.yaml <<Y
base: $configs/teacher/tiny.yaml
name: lists
data: {layout: list, split: list, train_list: t.csv, val_list: v.csv, num_classes: ${1:-2}}
train: {epochs: 1, batch_size: 4}
Y
}

# short_student EPOCHS: the recipe of a student on ./data that trains in a second, on standard output.
short_student() {
    cat <<Y
kind: student
data: {root: data, split: {by: subject, train: [1]}}
student: {name: last-e3-nano}
skeleton: {frames: 16, max_bodies: 1}
optim: {warmup_epochs: 1}
train: {epochs: $1, batch_size: 8, threads: 1, workers: 1}
Y
}

# two_view_teacher: the recipe of a teacher on ./data with two clips of each video, on standard output.
two_view_teacher() {
    cat <<Y
base: $configs/teacher/tiny.yaml
data: {root: data, split: {by: subject, train: [1, 2]}}
train: {threads: 1, workers: 1}
eval: {clips: 2, crops: 1, batch_size: 5}
Y
}
