#!/bin/sh
# kd parity from outside: parity.sh golden|refuse|reference KD DIR [DIR...]
#   golden     every fixture below the directories passes, in f32 and in bf16
#   refuse     DIR is a teacher fixture: changed, unusable and unknown ones must not pass
#   reference  like golden in f32; 77 (skipped) when the first directory does not exist
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
    "$kd" parity "$@" || fail "f32"
    ;;
refuse)
    source=$1
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
    # a weight whose checksum is another one
    cp -R "$source" "$tmp/crc"
    sed 's/"crc32": "[0-9a-f]/"crc32": "g/' "$source/manifest.json" >"$tmp/crc/manifest.json"
    run "$tmp/crc"
    expect 1 "^weights: CRC.*FAIL"
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
