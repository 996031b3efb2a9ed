#!/usr/bin/env bash
# Signals of schedulers, shells and limits: the state is saved, or the command ends cleanly; files never suffer.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/setup.sh"

samples data --clips 24
cat >s.yaml <<'Y'
kind: student
data: {root: data, split: {by: subject, train: [1]}}
student: {name: last-e3-nano}
skeleton: {frames: 16, max_bodies: 1}
optim: {warmup_epochs: 1}
train: {epochs: 3, batch_size: 8, threads: 1, workers: 1, eval_every: 1000}
Y
cat >t.yaml <<Y
base: $configs/teacher/tiny.yaml
data: {root: data, split: {by: subject, train: [1]}}
train: {epochs: 1, batch_size: 4, threads: 1, workers: 1}
eval: {clips: 1, crops: 1}
Y
accepted "$distill" train --config s.yaml --out whole -q
accepted "$teacher" finetune --config t.yaml --out t -q

# soon COMMAND...: waits until the command holds, for a minute at most.
soon() {
    local i
    for ((i = 0; i < 6000; i++)); do
        "$@" && return 0
        sleep 0.01
    done
    failed "not in a minute: $*"
}

ended() { ! kill -0 "$pid" 2>/dev/null; }
logged() { [ -s "$1/log.jsonl" ]; }

# ended_with CODE WHAT
ended_with() {
    wait "$pid"
    local rc=$?
    [ $rc -eq "$1" ] || { failed "$2: exit code $rc, expected $1"; tail -2 err.txt; }
}

# ---- training saves its state: exit code 130
for signal in INT TERM XCPU USR1 HUP; do
    (trap - INT HUP && exec "$distill" train --config s.yaml --epochs 100000 --out r$signal 2>err.txt >out.txt) &
    pid=$!
    soon logged r$signal
    kill -$signal $pid
    ended_with 130 "$signal"
    grep -q 'state saved' err.txt || failed "$signal: no word of the state"
    present r$signal/checkpoints/last/state.json
done

# ---- HUP under nohup is nothing; USR2 saves and goes on; what was saved is a checkpoint like any other
(trap '' HUP && exec "$distill" train --config s.yaml --epochs 100000 --set train.checkpoint_every=100000 --out rhup \
    2>err.txt >out.txt) &
pid=$!
soon logged rhup
kill -HUP $pid
before=$(cat rhup/checkpoints/last/state.json 2>/dev/null)
another() { [ -e rhup/checkpoints/last/state.json ] && [ "$(cat rhup/checkpoints/last/state.json)" != "$before" ]; }
kill -USR2 $pid
soon another
soon grep -q 'checkpoint saved as asked' err.txt
ended && failed "HUP or USR2 ended a run that ignores the one and saves at the other"
"$kd" weights info rhup/checkpoints/last >/dev/null || failed "what USR2 saved cannot be read"
kill -TERM $pid
ended_with 130 "TERM after USR2"

# ---- a second INT in the same moment, as `timeout` sends it, does not end the saving
(trap - INT && exec "$distill" train --config s.yaml --epochs 100000 --out rtwice 2>err.txt >out.txt) &
pid=$!
soon logged rtwice
kill -INT $pid && kill -INT $pid 2>/dev/null
ended_with 130 "INT twice"
grep -q 'state saved' err.txt || failed "INT twice: the state was not saved"

# ---- dump-logits: what is there is kept
cat >views.yaml <<Y
base: t.yaml
eval: {clips: 64, crops: 3}
Y
for signal in USR1 HUP; do
    (trap - HUP && exec "$teacher" dump-logits --config views.yaml --weights t --out $signal.logits.zst \
        2>err.txt >out.txt) &
    pid=$!
    soon test -s $signal.logits.zst.part
    kill -$signal $pid
    ended_with 130 "dump-logits, $signal"
    present $signal.logits.zst.part
done

# ---- commands without a state end with 130: here one that waits to write into a full pipe
mkfifo full && exec 7<>full
dd if=/dev/zero of=full oflag=nonblock bs=4096 2>dd.txt
waits() { grep -qE '\((kd|exe)\) S' "/proc/$pid/stat" 2>/dev/null; }
for signal in INT TERM XCPU USR1 HUP; do
    (trap - INT HUP && exec "$kd" config show s.yaml 2>err.txt >full) &
    pid=$!
    soon waits
    kill -$signal $pid
    ended_with 130 "kd config show, $signal"
    grep -q 'interrupted' err.txt || failed "kd config show, $signal: no word"
done
exec 7<&-

# ---- a file may not grow: an error with its name
limited() {
    local kib=$1
    shift
    (ulimit -f "$kib" && exec "$@")
}
refused 1 'checkpoints/[^ ]*safetensors: cannot write: File too large.*ulimit' \
    limited 64 "$distill" train --config s.yaml --out xfsz -q
refused 1 'big.pth: cannot write: File too large' limited 64 "$kd" weights convert whole big.pth
absent big.pth

# ---- a mapped file that is cut: an error with its name, exit code 3
cat >cut.c <<'C'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
/* Cuts a file of the folder cut/ to 100 bytes as soon as it is mapped. */
void *mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset)
{
    void *(*real)(void *, size_t, int, int, int, off_t) =
        (void *(*)(void *, size_t, int, int, int, off_t))dlsym(RTLD_NEXT, "mmap");
    void *p = real(at, n, prot, flags, fd, offset);
    char link[64], path[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t k = fd >= 0 ? readlink(link, path, sizeof path - 1) : -1;
    if (k > 0) {
        path[k] = 0;
        if (strstr(path, "/cut/") != NULL && truncate(path, 100) != 0) {
            perror(path);
        }
    }
    return p;
}
C
if cc -shared -fPIC -o cut.so cut.c -ldl 2>cc.txt && ! ldd "$kd" | grep -qE 'asan|tsan'; then
    mkdir cut && cp -r whole cut/run
    refused 3 'cut/run/checkpoints/best/model.safetensors: expected the bytes from [0-9]+ on, found none' \
        env LD_PRELOAD="$PWD/cut.so" "$kd" weights convert cut/run o.pth
    [ -z "$(find . -name 'o.pth*')" ] || failed "left behind: $(find . -name 'o.pth*')"
fi
finish
