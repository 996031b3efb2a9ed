#!/usr/bin/env bash
# Program listings against golden files: what graph, fusion and memory plan make of a student and of a 2-block ViT.
# Call: listings.sh BUILD_DIR SOURCE_DIR [--update]
# A change on purpose: run with --update and read the difference before committing it.
set -u
kd=$1/kd
golden=$2/tests/golden/listings
status=0

# The size of the arena counts the scratch of this machine's kernels; it is left out.
listing() {
    "$kd" model graph "$@" | sed '1s/, arena.*//'
}

# compare NAME ARGUMENTS...
compare() {
    local name=$1
    shift
    if [ "${update:-}" = 1 ]; then
        mkdir -p "$golden" && listing "$@" >"$golden/$name.txt"
    elif ! listing "$@" | diff -u "$golden/$name.txt" - >"$name.diff"; then
        echo "kd model graph $* differs from tests/golden/listings/$name.txt:"
        head -40 "$name.diff"
        status=1
    else
        rm -f "$name.diff"
    fi
}

[ "${3:-}" != --update ] || update=1
compare sfz-nano_eval sfz-nano
compare vit_2_blocks_train videomae2-tiny --depth 2 --phase train
exit $status
