#!/usr/bin/env bash
# A full disk and a second writer: the run ends with its exit code and one message, and what was there before stays
# whole. shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$here/recipes.sh"

sample_set 48
teacher_recipe

# limited BYTES COMMAND...: no file may grow beyond BYTES (rounded up to KiB): writes behind it fail.
limited() {
    local kib=$((($1 + 1023) / 1024))
    shift
    (
        trap '' XFSZ # the write fails instead of ending the process
        ulimit -f $kib
        exec "$@"
    )
}

# ---- disk full: files may not grow
# ------------------------------------------------------------------------------------------
accepted "$teacher" finetune --config teacher.yaml --out whole -q
size=$(wc -c <whole/checkpoints/last/optim.safetensors)
finetune="$teacher finetune --config teacher.yaml -q"
refused 1 'optim\.safetensors: cannot write' limited $((size / 2)) $finetune --out cut
absent cut/report.json
absent cut/checkpoints/last/optim.safetensors
# The same run with room again starts over and ends as if nothing had happened.
accepted $finetune --out cut --resume
same_file whole/checkpoints/last/model.safetensors cut/checkpoints/last/model.safetensors
same_file whole/log.jsonl cut/log.jsonl

refused 1 'logits' limited 2048 "$teacher" dump-logits --weights whole --out small.logits.zst -q \
    --logits f32 --features fc_norm
absent small.logits.zst
accepted "$teacher" dump-logits --weights whole --out small.logits.zst -q \
    --logits f32 --features fc_norm --resume
accepted "$teacher" dump-logits --weights whole --out large.logits.zst -q \
    --logits f32 --features fc_norm
same_file small.logits.zst large.logits.zst
refused 1 'eval\.json' limited 2048 "$teacher" eval --weights whole --out eval.json -q
absent eval.json

# ---- disk full: a file system of its own
# ---------------------------------------------------------------------------------
mkdir disk
trap 'umount disk 2>/dev/null' EXIT
kept=0
if mount -t tmpfs -o size=16m none disk 2>/dev/null; then
    accepted $finetune --out disk/run --epochs 3
    need=$(du -sk disk/run | cut -f1)
    umount disk
    for share in 40 60 80; do # full at another moment each time
        mount -t tmpfs -o size=$((need * share / 100))k none disk
        refused 1 '(disk/run|No space)' $finetune --out disk/run
        [ ! -e disk/run/checkpoints/last/state.json ] || kept=$((kept + 1))
        for d in disk/run/checkpoints/*/; do # what stands under a final name is whole
            case $d in *last/ | *best/) [ ! -s "$d/state.json" ] || accepted "$kd" weights info "$d" -q ;; esac
        done
        mount -o remount,size=16m disk
        accepted $finetune --out disk/run --resume
        same_file whole/checkpoints/last/model.safetensors disk/run/checkpoints/last/model.safetensors
        same_file whole/log.jsonl disk/run/log.jsonl
        umount disk
    done
    [ $kept -ge 1 ] || failed "no full disk met a run that had a checkpoint"
else
    say "no right to mount: the full file system is left to root"
fi

# ---- two writers
# ----------------------------------------------------------------------------------------------------------
held shared/log.jsonl $finetune --out shared --epochs 100000
refused 6 'shared.*lock' $finetune --out shared --epochs 100000 --resume
refused 6 'shared.*lock' $finetune --out shared
released
dump="$teacher dump-logits --weights whole --out shared.logits.zst --views 64x16 -q"
held shared.logits.zst.part $dump
refused 6 'shared\.logits\.zst.*(another process|lock)' $dump --resume
released
finish
