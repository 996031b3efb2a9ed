#!/usr/bin/env bash
# What a killed command leaves can be gone on with or repeated, and goes away by itself.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/setup.sh"

samples data --clips 24
short_student 1 >s.yaml
accepted "$distill" train --config s.yaml --out d -q
accepted "$distill" dump-logits --weights d --out s.logits.zst --split train,val -q

cat >name.c <<'C'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* Kills the process behind its FAULT_AT-th creation of a file. */
static void count(int flags)
{
    static int n;
    const char *at = getenv("FAULT_AT");
    if (at != NULL && (flags & O_CREAT) != 0 && ++n == atoi(at)) {
        kill(getpid(), SIGKILL);
    }
}
#define WRAP(name)                                                        \
    int name(const char *path, int flags, ...)                            \
    {                                                                     \
        va_list a;                                                        \
        va_start(a, flags);                                               \
        const int mode = (flags & O_CREAT) != 0 ? va_arg(a, int) : 0;     \
        va_end(a);                                                        \
        int (*real)(const char *, int, ...) =                             \
            (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name);     \
        const int fd = real(path, flags, mode);                           \
        count(strncmp(path, "/dev", 4) != 0 ? flags : 0);                 \
        return fd;                                                        \
    }
WRAP(open)
WRAP(open64)
C
command -v cc >/dev/null || exit 77
cc -shared -fPIC -o kill.so name.c -ldl 2>cc.txt || { say "no shared library can be made here"; exit 77; }
case $(ldd "$kd") in *asan* | *tsan*) exit 77 ;; esac

# killed N COMMAND...: killed behind the N-th file that it makes.
killed() {
    local at=$1
    shift
    { FAULT_AT=$at LD_PRELOAD=$PWD/kill.so "$@"; } >/dev/null 2>&1 # and bash's word of it
    [ $? -eq 137 ] || failed "not killed at file $at: $*"
}

nothing_left() {
    local left
    left=$(find "$@" \( -name '*.tmp' -o -name '*.part' -o -name '*.tail' -o -name '*.old' \))
    [ -z "$left" ] || failed "left behind: $left"
}

mkdir m && killed 1 "$kd" logits merge s.logits.zst --out m/m.logits.zst
[ -n "$(ls m)" ] || failed "the killed merge left nothing: this shows nothing"
accepted "$kd" logits merge s.logits.zst --out m/m.logits.zst
same_file m/m.logits.zst s.logits.zst
nothing_left m

for at in 1 2 3 4 5 6 7; do
    killed $at "$kd" dataset sample --out s$at --clips 3 --size 64x48 --threads 1 -q
    accepted "$kd" dataset sample --out s$at --clips 3 --size 64x48 --threads 1 --resume -q
    nothing_left s$at
    diff -r s1 s$at >/dev/null || failed "the data set that was resumed at file $at differs"
done

mkdir c && killed 1 "$kd" weights convert d c/w.pth
accepted "$kd" weights convert d c/w.pth
nothing_left c

for at in 2 3 4 5 6 7 8; do
    killed $at "$distill" train --config s.yaml --out r$at -q
    accepted "$distill" train --config s.yaml --out r$at --resume -q
    same_file d/checkpoints/last/model.safetensors r$at/checkpoints/last/model.safetensors
    nothing_left r$at
done

killed 3 "$distill" dump-logits --weights d --out u.logits.zst --split train,val -q
refused 2 'u.logits.zst.part: an unfinished store: go on with it by --resume, or start over with --force' \
    "$distill" dump-logits --weights d --out u.logits.zst -q
accepted "$distill" dump-logits --weights d --out u.logits.zst --split train,val --force -q
same_file u.logits.zst s.logits.zst
nothing_left . -maxdepth 1
finish
