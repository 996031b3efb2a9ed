#!/usr/bin/env bash
# Output that is lost is an error: a full device, a closed descriptor; a reader that goes away is none.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/setup.sh"

samples data --clips 24
short_student 2 >s.yaml
accepted "$distill" train --config s.yaml --out d -q
accepted "$distill" dump-logits --weights d --out s.logits.zst -q
skeleton=$(find data -name '*.skeleton' | sort | sed -n 1p)

# ---- no space: exit code 1 and a message, whatever the command
n=0
lost() {
    n=$((n + 1))
    "$@" >/dev/full 2>err.txt </dev/null
    rc=$?
    [ $rc -eq 1 ] || failed "exit code $rc, expected 1, with a full standard output: $*"
    grep -q 'standard output: cannot write: No space left' err.txt || failed "no word of standard output: $*"
}
for program in "$kd" "$teacher" "$distill"; do
    lost "$program" --help
    lost "$program" --version
done
lost "$kd" config show s.yaml
lost "$kd" config check s.yaml
lost "$kd" logits info s.logits.zst
lost "$kd" logits info --json s.logits.zst
lost "$kd" logits verify s.logits.zst
lost "$kd" logits merge s.logits.zst --out m.logits.zst
lost "$kd" logits export s.logits.zst --out m.npz
lost "$kd" weights info d
lost "$kd" weights diff d d
lost "$kd" weights convert d w.pth
lost "$kd" model info last-e3-nano
lost "$kd" model graph last-e3-nano
lost "$kd" dataset scan --data data
lost "$kd" dataset annotate --data data --split s.yaml --out lists
lost "$kd" dataset check --data data --out q
lost "$distill" predict --weights d "$skeleton"
lost "$distill" eval --weights d
lost "$distill" compare d d --out c
lost "$distill" dump-logits --weights d --out l.logits.zst
lost "$distill" train --config s.yaml --out l
lost "$distill" train --config s.yaml --out lj --json
present l/report.json

# ---- closed: an error where something is to be written, and nowhere else; no file of ours takes the number
"$kd" config show s.yaml >&- 2>err.txt
[ $? -eq 1 ] || failed "closed standard output: no error"
grep -q 'standard output: cannot write' err.txt || failed "closed standard output: no message"
"$kd" config show nowhere.yaml >&- 2>err.txt
[ $? -eq 2 ] || failed "closed standard output and nothing to write: another exit code"
for how in '>&-' '2>&-' '<&-' '>&- 2>&-' '<&- >&- 2>&-'; do
    rm -rf cl
    eval "\"$distill\" train --config s.yaml --out cl $how" >/dev/null 2>&1
    [ "$(grep -cv '^{.*}$' cl/log.jsonl)" -eq 0 ] || failed "$how: other text in log.jsonl"
    cmp -s d/log.jsonl cl/log.jsonl || failed "$how: another log"
    same_file d/checkpoints/last/model.safetensors cl/checkpoints/last/model.safetensors
    grep -aq 'epoch 1/2' cl/events* && failed "$how: text in the events"
done

# ---- a reader that went away: training goes on with its files, other commands end without a word
mkfifo fifo && exec 4<>fifo 5>fifo 4<&- # 5 writes to a pipe that nobody reads
for trap in - ''; do                    # as a shell leaves SIGPIPE, and as some programs that start others do
    rm -rf piped
    (trap "$trap" PIPE && exec "$distill" train --config s.yaml --out piped --json >&5 2>err.txt)
    rc=$?
    [ $rc -eq 0 ] || failed "training ended with $rc as its reader went away"
    same_file d/checkpoints/last/model.safetensors piped/checkpoints/last/model.safetensors
    present piped/report.json
    rm -rf piped
    (trap "$trap" PIPE && exec "$distill" train --config s.yaml --out piped >&5 2>&5)
    present piped/report.json
    (trap "$trap" PIPE && exec "$kd" config show s.yaml >&5 2>err.txt)
    rc=$?
    [ $rc -eq 141 ] || failed "exit code $rc, expected 141, as the reader went away"
    [ ! -s err.txt ] || failed "a word to a reader that went away: $(head -1 err.txt)"
done
exec 5>&-
say "$n commands with a full standard output"
finish
