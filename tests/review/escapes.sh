#!/usr/bin/env bash
# Text of others (names of tensors, files, classes, fields of manifests) never commands a terminal or forges a row.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/setup.sh"

esc=$'\033' bel=$'\a' nl=$'\n' tab=$'\t' rlo=$'\xe2\x80\xae' c1=$'\xc2\x9b' bad=$'\xff'
evil="a${esc}[31mE${esc}]0;p${bel}${nl}x${tab}y${rlo}z${c1}w${bad}v"
seen='a\\x1b\[31mE\\x1b\]0;p\\x07\\nx\\ty\\u202ez\\u009bw\\xffv'

samples data --clips 24

# clean COMMAND...: neither of its outputs holds a raw byte of $evil.
clean() {
    "$@" >out.txt 2>err.txt </dev/null
    ! LC_ALL=C grep -qP '[\x00-\x08\x0b-\x1f\x7f]|\xe2\x80\xae|\xc2\x9b|\xff' out.txt err.txt ||
        { failed "raw bytes: $*"; cat -v out.txt err.txt | head -5; }
}
shows() {
    cat out.txt err.txt | grep -qE -- "$1" || { failed "does not show '$1'"; cat -v out.txt err.txt | head -5; }
}

# ---- tensor names
header='{"a\u001b[31mE\u001b]0;p\u0007\nx\ty\u202ez\u009bw":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
{
    printf "\\x$(printf %x ${#header})\\0\\0\\0\\0\\0\\0\\0%s" "$header"
    printf '\0\0\0\0'
} >names.safetensors
name='a\\x1b\[31mE\\x1b\]0;p\\x07\\nx\\ty\\u202ez\\u009bw'
clean "$kd" weights info names.safetensors --tensors
shows "$name"
printf '\x48\0\0\0\0\0\0\0%-72s\0\0\0\0' '{"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}' >plain.safetensors
clean "$kd" weights diff names.safetensors plain.safetensors
shows "$name"

# ---- names of files, in messages and in results
cp plain.safetensors "$evil.safetensors"
clean "$kd" weights info "$evil.safetensors"
shows "$name"
clean "$kd" weights convert "$evil.safetensors" "$evil.pth"
shows "$seen"
for command in "weights info" "logits info" "logits verify" "config check" "config show" "model info" \
    "dataset scan --data" "weights info --json" "logits verify --json"; do
    # shellcheck disable=SC2086
    clean "$kd" $command "no-$evil"
done
clean "$kd" "$evil"
clean "$kd" config show "--$evil"
clean "$teacher" predict --weights "$evil" "$evil"

# ---- a recipe's text, a manifest's fields, names of classes
cat >s.yaml <<'Y'
kind: student
name: "a\e[31mE\nx"
data:
  root: data
  split: {by: subject, train: [1]}
  classes: ["c\e[31mE\nx", b, c, d, e, f, g, h, i, j, k, l]
student: {name: last-e3-nano}
skeleton: {frames: 16, max_bodies: 1}
optim: {warmup_epochs: 1}
train: {epochs: 1, batch_size: 8, threads: 1, workers: 1}
Y
clean "$kd" config check s.yaml
shows 'a\\x1b\[31mE\\nx'
clean "$kd" config show s.yaml
if "$distill" train --config s.yaml --out d >out.txt 2>err.txt; then
    clean "$distill" train --config s.yaml --out d2
    clean "$distill" dump-logits --weights d --out s.logits.zst
    clean "$kd" logits info s.logits.zst
    clean "$distill" predict --weights d "$(find data -name '*.skeleton' | sort | sed -n 1p)" --top 12
    shows 'c\\x1b\[31mE\\nx'
    clean "$distill" compare d d2 --out c
    clean "$distill" predict --weights d --json "$(find data -name '*.skeleton' | sort | sed -n 1p)"
else # names of classes with control characters may be refused as well: in clean words
    clean "$distill" train --config s.yaml --out d
fi

# ---- a row of a table is one row
mkdir -p odd && cp "$(find data -name '*.avi' | sort | sed -n 1p)" "odd/$evil.avi"
head -c 3000 "odd/$evil.avi" >"odd/${evil}2.avi"
clean "$kd" dataset check --data odd --out q
if [ -e q/quarantine.tsv ]; then
    [ -z "$(awk -F'\t' 'NF != 4' q/quarantine.tsv)" ] || failed "quarantine.tsv: rows of another number of columns"
    ! LC_ALL=C grep -qP '[\x00-\x08\x0b-\x1f\x7f]' q/quarantine.tsv || failed "quarantine.tsv: raw bytes"
fi
clean "$kd" dataset scan --data odd
finish
