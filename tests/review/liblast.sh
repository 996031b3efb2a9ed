#!/usr/bin/env bash
# liblast as a user meets it: installed, compiled against, called from Python; streams of frames; what is refused.
. "$(dirname "$0")/setup.sh"
# reads FILE COMMAND...: the command with the file as its standard input, for accepted and refused.
reads() {
    local file=$1
    shift
    "$@" <"$file"
}
samples data --skeletons-only
short_student 1 >s.yaml
accepted "$distill" train --config s.yaml --data data --out run -q
accepted "$distill" export --weights run --out s.safetensors -q
good=$(find data/nturgb+d_skeletons -name '*.skeleton' | sort | head -1)

# the file and the run answer alike, in files and in a stream of as many frames as the file has
frames=$(head -1 "$good")
accepted "$distill" predict --json --top 3 --weights run "$good" && cp out.txt run.txt
accepted "$distill" predict --json --top 3 --weights s.safetensors "$good" && cp out.txt file.txt
accepted reads "$good" "$distill" predict --json --top 3 --weights s.safetensors --window "$frames" - &&
    cp out.txt stream.txt
top() { sed 's/.*"top"/"top"/' "$1"; }
cmp -s <(top run.txt) <(top file.txt) || failed "run and file: $(cat run.txt file.txt)"
cmp -s <(top file.txt) <(top stream.txt) || failed "file and stream: $(cat file.txt stream.txt)"
grep -q "\"frame\":$frames" stream.txt || failed "stream: $(cat stream.txt)"

# results come while frames come: the window of 16 frames, then every 8, then what is left
{ echo 0 && tail -n +2 "$good"; } >open.txt
accepted reads open.txt "$distill" predict --weights s.safetensors --top 1 --every 8 -
grep -o '^frame [0-9]*' out.txt | tr -d 'a-z ' >seen.txt
{ seq 16 8 "$frames" && [ $(((frames - 16) % 8)) -eq 0 ] || echo "$frames"; } | cmp -s - seen.txt ||
    failed "results of a stream of $frames frames at $(tr '\n' ' ' <seen.txt)"
sed '40s/^[^ ]*/x/' open.txt >spoilt.txt
refused 3 'frame 2 left out: stdin:40: joint .*found .x.' \
    reads spoilt.txt "$distill" predict --weights s.safetensors --top 1 -
grep -q '^frame ' out.txt || failed 'a spoilt frame took the others along'
head -n 60 open.txt >cut.txt
refused 3 'stdin:61: expected a joint, found the end of the input' \
    reads cut.txt "$distill" predict --weights s.safetensors -
sed '30s/.*/two/' open.txt >count.txt
refused 3 'stdin:[0-9]*: expected a .* count' reads count.txt "$distill" predict --weights s.safetensors -
refused 3 'stdin:1: expected a frame count, found the end' "$distill" predict --weights s.safetensors -
rc=0
reads open.txt "$distill" predict --weights s.safetensors --every 8 - >/dev/full 2>err.txt || rc=$?
[ $rc -eq 1 ] && grep -q 'stdout: writing failed' err.txt ||
    failed "a stream with a full standard output: $rc, $(cat err.txt)"

# eight bits: a smaller file, nearly the same answer, on every level of processor
accepted "$distill" export --weights run --data data --int8 --int8-samples 8 --out s8.safetensors -q
[ "$(stat -c %s s8.safetensors)" -lt $(($(stat -c %s s.safetensors) * 2 / 3)) ] ||
    failed "$(ls -l s8.safetensors s.safetensors)"
for level in ref v3 v4 amx; do
    accepted env KD_CPU=$level "$distill" predict --json --top 12 --weights s8.safetensors "$good"
    cp out.txt $level.txt
done
accepted "$distill" predict --json --top 12 --weights s.safetensors "$good" && cp out.txt f32.txt
probabilities() { grep -o '"class":[0-9]*\|"probability":[0-9.e-]*' "$1" | cut -d: -f2 | paste - - | sort -n; }
for level in ref v3 v4 amx; do # 0.002 of a probability: one step of eight bits is 0.4 % of a layer's range
    paste <(probabilities $level.txt) <(probabilities f32.txt) |
        awk '{ d = $2 - $4; n++ } d > 0.002 || d < -0.002 { exit 1 } END { exit n != 12 }' ||
        failed "int8 on $level: $(cat $level.txt) f32: $(cat f32.txt)"
    paste <(probabilities $level.txt) <(probabilities ref.txt) |
        awk '{ d = $2 - $4 } d > 1e-5 || d < -1e-5 { exit 1 }' || failed "int8: $level differs from ref"
done

# options that would do nothing
refused 2 'carries its recipe' "$distill" predict --weights s.safetensors --set skeleton.clamp=1 "$good"
for option in '--dtype bf16' '--threads 2' '--device cuda'; do
    # shellcheck disable=SC2086 # an option and its value
    refused 2 "unknown option ${option% *}" "$distill" predict --weights s.safetensors $option "$good"
done
refused 2 'belong to a stream' "$distill" predict --weights s.safetensors --every 3 "$good"

# damaged files
head -c 3000 s.safetensors >short.safetensors
refused 3 'short.safetensors' "$distill" predict --weights short.safetensors "$good"

# installed: what is there, what it needs, what it exports
accepted cmake --install "$build" --component last --prefix "$work/root"
so=$(find root -name 'liblast.so') && archive=$(find root -name 'liblast.a')
if ! grep -qE '^KD_SANITIZE:STRING=.+' "$build/CMakeCache.txt"; then
    if grep -q '^CMAKE_BUILD_TYPE:STRING=Release' "$build/CMakeCache.txt"; then
        for f in "$so" "$archive"; do
            [ "$(stat -Lc %s "$f")" -lt 1000000 ] || failed "$f has $(stat -Lc %s "$f") bytes"
        done
    fi
    needed=$(readelf -d "$so" | sed -n 's/.*NEEDED.*\[\(.*\)\].*/\1/p' | grep -vE '^lib[cm]\.so\.6$|^ld-linux')
    [ -z "$needed" ] || failed "liblast.so needs $needed"
    nm "$archive" | awk '$1 == "U" { print $2 }' | grep -E '^(omp_|GOMP|dnnl|json_|pthread_|malloc_)' &&
        failed 'liblast.a needs more than the C library'
fi
nm -D --defined-only "$so" | awk '{ print $3 }' | sort >so.txt
nm -g --defined-only "$archive" | awk 'NF == 3 { print $3 }' | grep -vE '^(__|_Z|\.)' | sort >a.txt
grep -oE 'kd_last_[a-z_]+\(' "$source/student/stream/last.h" | tr -d '(' | sort -u >h.txt
grep -v '^kd_last_' so.txt a.txt && failed 'names that are not of last.h'
for n in so a; do
    comm -13 $n.txt h.txt | grep . && failed "last.h declares what the library ($n) lacks"
done
[ $(($(wc -l <so.txt) + $(wc -l <a.txt))) -gt 40 ] || failed 'nothing is exported'

# the examples: the same bits from C, shared and static, from Python and from the command
awk 'NR > 1 && NF == 12 { print $1, $2, $3 }' "$good" >joints.txt
awk 'NR > 1 && NF == 1 && $1 != 25' "$good" | sort -u | grep -qx 1 || failed "the sample has frames without one body"
export PKG_CONFIG_PATH=$(dirname "$(find root -name last.pc)")
cc=${CC:-cc}
if command -v pkg-config >/dev/null && ! grep -qE '^KD_SANITIZE:STRING=.+' "$build/CMakeCache.txt"; then
    # shellcheck disable=SC2046 # several words
    accepted "$cc" "$source/student/stream/examples/classify.c" -o shared $(pkg-config --cflags --libs last)
    # shellcheck disable=SC2046
    accepted "$cc" "$source/student/stream/examples/classify.c" -o static $(pkg-config --cflags last) "$archive" -lm
    head -n $((25 * 16)) joints.txt >window.txt
    for p in shared static; do
        LD_LIBRARY_PATH=$(dirname "$so") accepted reads window.txt ./$p s.safetensors && cp out.txt $p.txt
    done
    head -c 500 joints.txt >part.txt
    (cat window.txt && echo spoilt) >word.txt
    refused 1 'whole frames of numbers' reads part.txt ./static s.safetensors
    refused 1 'whole frames of numbers' reads word.txt ./static s.safetensors
    cmp -s shared.txt static.txt || failed "shared $(cat shared.txt), static $(cat static.txt)"
    if command -v python3 >/dev/null; then
        accepted reads window.txt python3 "$source/student/stream/examples/classify.py" "$so" s.safetensors
        cmp -s out.txt shared.txt || failed "Python $(cat out.txt), C $(cat shared.txt)"
        refused 1 'whole frames of numbers' reads part.txt \
            python3 "$source/student/stream/examples/classify.py" "$so" s.safetensors
        accepted reads joints.txt python3 "$source/student/stream/examples/classify.py" "$so" s.safetensors
        want=$(sed 's/.*"top":\[{[^}]*"probability":\([^}]*\)}.*/\1/' file.txt)
        awk -v a="$want" -v b="$(awk '{ print $NF }' out.txt)" 'BEGIN { exit !(a - b < 1e-9 && b - a < 1e-9) }' ||
            failed "Python $(cat out.txt), distill predict $want"
    fi
    mkdir user && cat >user/CMakeLists.txt <<Y
cmake_minimum_required(VERSION 3.18)
project(user C)
find_package(last 0.1 REQUIRED)
add_executable(user $source/student/stream/examples/classify.c)
target_link_libraries(user last::last)
add_executable(user_static $source/student/stream/examples/classify.c)
target_link_libraries(user_static last::static)
Y
    accepted cmake -S user -B user/b -Dlast_DIR="$(dirname "$(find "$work/root" -name lastConfig.cmake)")"
    accepted cmake --build user/b
    accepted reads window.txt user/b/user_static s.safetensors
    cmp -s out.txt shared.txt || failed "by CMake $(cat out.txt), C $(cat shared.txt)"
fi
finish
