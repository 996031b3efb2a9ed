#!/bin/sh
# kd parity from outside: parity.sh golden|refuse|reference KD DIR [DIR...]
#   golden     every fixture below the directories passes, in f32 and in bf16
#   refuse     DIR DIR: a teacher fixture and a trajectory; changed, unusable and unknown ones must not pass
#   reference  like golden in f32; what is covered is what parity_covered.txt lists, and of the students and the losses
#              nothing is left out; 77 (skipped) when the directory does not exist
set -u
mode=$1 kd=$2
shift 2

fail() {
    echo "FAIL: $*" >&2
    exit 1
}

# expect CODE TEXT: the last run gave that exit code and a line with that text
expect() {
    [ "$code" -eq "$1" ] || { cat "$tmp/out" >&2; fail "exit code $code, expected $1 ($2)"; }
    grep -q -- "$2" "$tmp/out" || { cat "$tmp/out" >&2; fail "no line with '$2'"; }
}

run() {
    "$kd" parity "$@" >"$tmp/out" 2>&1
    code=$?
}

# stopped: the last run printed one failed item and nothing behind it but the fixture's and the run's last lines
stopped() {
    [ "$(grep -c 'FAIL$' "$tmp/out")" -eq 1 ] || { cat "$tmp/out" >&2; fail "expected one failed item"; }
    [ "$(sed -n '/FAIL$/,$p' "$tmp/out" | wc -l)" -eq 4 ] || { cat "$tmp/out" >&2; fail "expected the end after it"; }
}

# changed NAME SED: a copy of the fixture whose manifest went through sed, and its run
changed() {
    cp -R "$source" "$tmp/$1"
    sed "$2" "$source/manifest.json" >"$tmp/$1/manifest.json"
    cmp -s "$source/manifest.json" "$tmp/$1/manifest.json" && fail "$1: sed changed nothing"
    run "$tmp/$1"
}

# changed_run NAME SED: the same of the trajectory
changed_run() {
    mkdir "$tmp/$1"
    sed "$2" "$steps" >"$tmp/$1/steps.json"
    cmp -s "$steps" "$tmp/$1/steps.json" && fail "$1: sed changed nothing"
    run "$tmp/$1"
}

tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT

case $mode in
golden)
    "$kd" parity "$@" || fail "f32"
    "$kd" parity --dtype bf16 --device cpu "$@" >"$tmp/out" 2>&1 || { grep -v " ok$" "$tmp/out" >&2; fail "bf16"; }
    tail -n 1 "$tmp/out"
    ;;
reference)
    [ -d "$1" ] || { echo "no fixtures at $1: skipped"; exit 77; }
    run "$@"
    cat "$tmp/out"
    [ "$code" -eq 0 ] || fail "f32"
    grep -E "^$1/(last|losses)[^:]*: not covered" "$tmp/out" && fail "fixtures of students or losses are not covered"
    sed -n "s|^$1/||p" "$tmp/out" | grep -vE ' items, |: not covered' | LC_ALL=C sort >"$tmp/covered"
    diff "$(dirname "$0")/parity_covered.txt" "$tmp/covered" || fail "parity_covered.txt lists other fixtures"
    ;;
refuse)
    source=$1 steps=$2
    cp -R "$source" "$tmp/same"
    run "$tmp/same"
    expect 0 " 0 failed"
    # a loss that is another one
    cp -R "$source" "$tmp/loss"
    tr -d '\n' <"$source/manifest.json" | sed 's/\("losses": *{[^}]*"ce": *[0-9]*\.[0-9][0-9]\)[0-9]*/\1/' \
        >"$tmp/loss/manifest.json"
    run "$tmp/loss"
    expect 1 "^loss.ce .*FAIL"
    # a loss that is NaN
    cp -R "$source" "$tmp/nan"
    tr -d '\n' <"$source/manifest.json" | sed 's/\("losses": *{[^}]*"ce": *\)[0-9.]*/\1null/' >"$tmp/nan/manifest.json"
    run "$tmp/nan"
    expect 1 "^loss.ce .*FAIL"
    # the last golden activation replaced by a NaN, then by another number
    for bytes in '\377\377\377\377' '\000\000\050\102'; do
        rm -rf "$tmp/tensor"
        cp -R "$source" "$tmp/tensor"
        f=$tmp/tensor/fixture.safetensors
        size=$(wc -c <"$f")
        printf "$bytes" | dd of="$f" bs=1 seek=$((size - 4)) conv=notrunc 2>/dev/null
        run "$tmp/tensor"
        expect 1 "^act.*FAIL"
    done
    # weights and an input of other checksums, scales, offsets, shapes and names: the fixture ends there, in one line
    changed crc 's/"crc32": "[0-9a-f]/"crc32": "g/g'
    expect 1 "^weights: CRC of patch_embed.proj.weight: expected g[0-9a-f]*, found [0-9a-f]*; stopped .*FAIL"
    stopped
    changed scale 's/\("head.weight": {[^}]*"scale": \)[0-9.]*/\10.5/'
    expect 1 "^weights: CRC of head.weight: .*FAIL"
    stopped
    changed offset 's/\("fc_norm.weight": {[^}]*"offset": \)[0-9.]*/\10.5/'
    expect 1 "^weights: CRC of fc_norm.weight: .*FAIL"
    stopped
    changed generator 's/"gen_name": "other.blocks.1.gamma_1"/"gen_name": "another"/'
    expect 1 "^weights: CRC of blocks.1.gamma_1: .*FAIL"
    stopped
    changed shape 's/\("head.bias": {"shape": \[\)5/\17/'
    expect 1 "^weights: names and shapes: expected head.bias .*FAIL"
    stopped
    changed name 's/"head.bias": {"shape"/"head.other": {"shape"/'
    expect 1 "^weights: names and shapes: expected head.bias .*, found none; stopped .*FAIL"
    stopped
    for change in 's/clip.of.mine/input/' 's/\("input": {[^}]*"scale": \)[0-9.]*/\12/' \
        's/\("input": {[^}]*"offset": \)-[0-9.]*/\10/'; do
        rm -rf "$tmp/input"
        changed input "$change"
        expect 1 "^input: CRC: .*FAIL"
        stopped
    done
    # what the manifest says of losses is obeyed
    changed smoothing 's/"smoothing": 0.25/"smoothing": 0.1/'
    expect 1 "^loss.ls .*FAIL"
    changed lam 's/"lam": 0.35/"lam": 0.4/'
    expect 1 "^loss.soft .*FAIL"
    changed eps 's/"ln_eps": 1e-05/"ln_eps": 0.01/'
    expect 1 "^logits .*FAIL"
    # a key that nobody reads is named
    changed keys 's/^"batch"/"colour": 3, "batch"/; s/"offset"/"hue": 1, "offset"/g; s/"depth"/"width": 2, "depth"/'
    expect 0 "^colour .* a key of the manifest that this build does not read"
    expect 0 "^params/\*/hue .*does not read"
    expect 0 "^input/hue .*does not read"
    expect 0 "^config/width .*does not read"
    [ "$(grep -c 'does not read' "$tmp/out")" -eq 4 ] || fail "a key of many tensors was named more than once"
    # a trajectory: rates, smoothing, scale of the input, decay
    changed_run rates 's/"final_value": 0.0002/"final_value": 0.0003/'
    expect 1 "^learning rates: .*FAIL"
    changed_run unstated 's/^"schedule"/"timetable"/'
    expect 0 "^learning rates: 3 + 17 steps, 0.0005 to 0.004 to 0.0002 .* ok"
    expect 0 "^timetable .*does not read"
    changed_run steps_smoothing 's/"smoothing": 0.15/"smoothing": 0.1/'
    expect 1 "^step 0 batch 0 loss .*FAIL"
    changed_run steps_scale 's/"scale": 1.25, "offset": 0.1/"scale": 2.0, "offset": 0.1/'
    expect 1 "^step 0 batch 0 loss .*FAIL"
    changed_run steps_decay 's/"layer_decay": 0.6/"layer_decay": 0.7/'
    expect 1 "^final weights.*FAIL"
    # unusable: no safetensors; broken JSON; nothing; a kind nobody knows
    mkdir "$tmp/bare" "$tmp/broken" "$tmp/empty" "$tmp/other"
    cp "$source/manifest.json" "$tmp/bare/"
    run "$tmp/bare"
    expect 3 "no safetensors file"
    printf '{"config": [' >"$tmp/broken/manifest.json"
    run "$tmp/broken"
    expect 3 "broken/manifest.json"
    run "$tmp/empty"
    expect 3 "no fixture"
    printf '{"colour": 3}' >"$tmp/other/manifest.json"
    run "$tmp/other"
    expect 3 "no fixture"
    run "$tmp/absent"
    expect 3 "absent"
    # among others, an unknown kind is only counted
    cp -R "$source" "$tmp/other/known"
    run "$tmp/other"
    expect 0 "1 not covered"
    run
    expect 2 "usage\|expected"
    ;;
*)
    fail "unknown mode $mode"
    ;;
esac
