#!/usr/bin/env bash
# A Git LFS pointer, a web page, a server's answer or an empty file in the place of any file that is read.
. "$(dirname "$0")/setup.sh"
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:%064d\nsize 1220000000\n' 7 >lfs
printf '\xef\xbb\xbf\n<!DOCTYPE html><html><title>Sign in</title></html>\n' >html
printf 'Entry not found' >answer
: >empty
declare -A says=([lfs]='a Git LFS pointer, not the file: run .git lfs pull' [html]='a web page, not the file'
    [answer]='the answer of a server' [empty]='(an empty file|end of the file|found none|end of file)')
tiny="--config $configs/teacher/tiny.yaml"
for k in lfs html answer empty; do
    for e in safetensors pth npz bin pt; do
        cp $k w.$e
        refused 3 "w.$e: .*${says[$k]}" "$kd" weights info w.$e
    done
    cp $k s.logits.zst
    refused 3 "s.logits.zst: .*${says[$k]}" "$kd" logits info s.logits.zst
    rm -rf v && mkdir v && cp $k v/a.mp4 && cp $k v/b.skeleton
    refused 3 'damaged files' "$kd" dataset check --data v --out q --force
    grep -Eq "a.mp4: .*${says[$k]}" q/quarantine.tsv || failed "$k as a video: $(cat q/quarantine.tsv)"
    grep -Eq "b.skeleton:.*${says[$k]}" q/quarantine.tsv || failed "$k as a skeleton: $(cat q/quarantine.tsv)"
    rm -rf hf && mkdir hf && cp $k hf/model.safetensors
    refused 3 "hf/model.safetensors: .*${says[$k]}" "$teacher" predict $tiny --weights hf v/a.mp4
    cp $k report.json
    refused 3 "report.json: .*${says[$k]}" "$distill" compare report.json report.json --out c
    cp $k c.yaml
    [ $k = empty ] || refused 3 "c.yaml: .*${says[$k]}" "$kd" config check c.yaml # an empty recipe is all defaults
    cp $k l.csv
    printf 'base: %s/teacher/tiny.yaml\ndata: {layout: list, split: list, num_classes: 2, %s}\n' "$configs" \
        'train_list: l.csv, val_list: l.csv' >list.yaml
    refused '[34]' "l.csv: .*${says[$k]}" "$teacher" finetune --config list.yaml --data v --out run
done
# ---- files of other kinds in the place of weights
printf '\10\10\22\6lastkd' >w.onnx
refused 3 'w.onnx: expected weights .*, found an ONNX file: take the checkpoint' "$kd" weights info w.onnx
refused 3 'found an ONNX file' "$distill" predict --weights w.onnx v/b.skeleton # nor is a recipe asked for
printf '\211HDF\r\n\032\n\0\0\0\0' >w.h5
refused 3 'w.h5: expected weights .*, found an HDF5 file' "$kd" weights info w.h5
printf '\120\52\115\30\165\6\0\0{"format":' >w.zst
refused 3 'w.zst: expected weights .*, found a store of logits' "$kd" weights info w.zst
finish
