#!/usr/bin/env bash
# Exact resume: runs killed with SIGKILL at random points and continued with --resume end with the bytes of a run that
# nobody touched: weights, optimiser state, log; whatever the number of workers.  The logit store likewise.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$here/recipes.sh"

total_kills=0

same_run() {
    for f in checkpoints/last/model.safetensors checkpoints/last/optim.safetensors \
        checkpoints/best/model.safetensors log.jsonl; do
        same_file "$1/$f" "$2/$f"
    done
    # The state holds the recipe, in which the number of workers is written; all else must agree.
    for run in "$1" "$2"; do
        grep -Ev '"(config|xxh64)":' "$run/checkpoints/last/state.json" >"$run/state.txt"
    done
    same_file "$1/state.txt" "$2/state.txt"
}

# sweep NAME COMMAND...: the run without a kill, then for several worker counts with kills.
sweep() {
    local name=$1 start took
    shift
    start=$(now_ms)
    accepted "$@" --out "$name" --workers 1
    took=$(($(now_ms) - start))
    for workers in 0 1 3; do
        killed_until_done $took "$name-$workers" "$@" --out "$name-$workers" --workers $workers --resume ||
            { failed "$name with $workers workers: resumed run ended with $?"; tail -3 err.txt; }
        total_kills=$((total_kills + kills))
        same_run "$name" "$name-$workers"
        say "$name: $workers workers, $kills kills, one run ${took} ms"
    done
}

# The store: one file, compared whole.
sweep_store() {
    local start took
    start=$(now_ms)
    accepted "$@" --out whole.logits.zst
    took=$(($(now_ms) - start))
    accepted "$kd" logits verify whole.logits.zst
    for workers in 0 3; do
        killed_until_done $took "cut-$workers.logits.zst" "$@" \
            --out "cut-$workers.logits.zst" --workers $workers --resume ||
            { failed "dump-logits with $workers workers: resumed run ended with $?"; tail -3 err.txt; }
        total_kills=$((total_kills + kills))
        same_file whole.logits.zst "cut-$workers.logits.zst"
        say "dump-logits: $workers workers, $kills kills, one run ${took} ms"
    done
}

sample_set 48
teacher_recipe
sweep teacher "$teacher" finetune --config teacher.yaml
sweep_store "$teacher" dump-logits --weights teacher --split train,val --views 2x1 --features fc_norm
for name in sfz-nano last-e3-nano; do
    student_recipe $name
    sweep $name "$distill" train --config student.yaml --teacher-logits whole.logits.zst
done

# The training data on the device: killed and continued, the bytes of the run whose batches were fed.
student_recipe sfz-nano
killed_until_done 1000 kept "$distill" train --config student.yaml --teacher-logits whole.logits.zst \
    --set train.resident=on \
    --out kept --resume || { failed "training with resident data: resumed run ended with $?"; tail -3 err.txt; }
total_kills=$((total_kills + kills))
same_run sfz-nano kept
say "sfz-nano with resident data: $kills kills"
[ "$total_kills" -ge 6 ] || failed "only $total_kills kills met a run alive: the sweep shows nothing"

# SIGINT: the state is saved, exit 130, and the run continues to the same bytes.
asked INT asked/log.jsonl asked "$teacher" finetune --config teacher.yaml --out asked \
    --set train.checkpoint_every_steps=0
[ $rc -eq 130 ] || failed "SIGINT: exit code $rc, expected 130"
grep -q 'state saved' err.txt || failed "SIGINT: no word of the state"
present asked/checkpoints/last/optim.safetensors
accepted "$teacher" finetune --config teacher.yaml --out asked --set train.checkpoint_every_steps=0 --resume
same_file teacher/checkpoints/last/model.safetensors asked/checkpoints/last/model.safetensors
same_file teacher/log.jsonl asked/log.jsonl

# The dump likewise; what is there is continued by the same dump alone.
dump="$teacher dump-logits --weights teacher --out asked.logits.zst -q"
asked INT asked.logits.zst.part asked.logits.zst $dump --views 8x3
[ $rc -eq 130 ] || failed "dump-logits, SIGINT: exit code $rc, expected 130"
refused 3 '\.part: --resume expects what the store began with: views: "8x3" then, "2x1" now' \
    $dump --views 2x1 --resume
accepted $dump --views 8x3 --resume
accepted "$kd" logits verify asked.logits.zst
finish
