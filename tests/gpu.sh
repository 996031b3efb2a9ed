#!/usr/bin/env bash
# Everything that needs a card, in one go: build, tests, parity, sanitizers, a long training run, the benchmark.
# Needs a CUDA toolkit, a C and C++ compiler, CMake and jansson; Python with PyTorch only for the benchmark's other
# side.
#
# usage: tests/gpu.sh [--out DIR] [--build DIR] [--fixtures DIR] [--stages LIST] [--quick] [--limit S] [--cmake ARG]...
#   --out DIR       logs, summary.md, bench.json, bench.md (default: build-gpu/report)
#   --build DIR     kept between calls (default: build-gpu)
#   --fixtures DIR  fixtures of `kd parity` beside those in tests/golden; may be repeated
#   --stages LIST   of build,test,parity,sanitize,train,bench (default: all, in this order)
#   --quick         a tenth of the time: a look, not a proof
#   --limit S       seconds a stage may take (default 570: each fits into ten minutes)
#   --cmake ARG     one more argument of the configuration; may be repeated
# Environment: CMAKE_PREFIX_PATH, where jansson is when it is not installed: an unpacked package will do (both
# libjansson4 and libjansson-dev below the same folder); CUDACXX or PATH, where nvcc is; PYTHON, the Python with PyTorch
# (default: python3).
#
# A stage that fails does not stop the next one, and results of stages of earlier calls with the same --out stay in the
# summary. Exit code: 0 all passed, 1 something failed, 2 wrong usage, 77 there is no card (only `build` is done then).
# shellcheck disable=SC2317 # stages are called by name
set -uo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
build=$root/build-gpu out='' quick='' limit=570 stages=build,test,parity,sanitize,train,bench
fixtures=() cmake_args=()
usage() {
    sed -n '2,/^# shellcheck /p' "$root/tests/gpu.sh" | sed '$d; s/^# \{0,1\}//'
}
while [ $# -gt 0 ]; do
    case $1 in
    --quick) quick=1 ;;
    --help | -h) usage && exit 0 ;;
    --out | --build | --fixtures | --stages | --limit | --cmake)
        [ $# -ge 2 ] || { echo "gpu.sh: $1 wants a value" >&2 && exit 2; }
        case $1 in
        --out) out=$2 ;;
        --build) build=$2 ;;
        --fixtures) fixtures+=("$2") ;;
        --stages) stages=$2 ;;
        --limit) limit=$2 ;;
        --cmake) cmake_args+=("$2") ;;
        esac
        shift
        ;;
    *) echo "gpu.sh: unknown argument $1; --help tells" >&2 && exit 2 ;;
    esac
    shift
done
out=${out:-$build/report}
mkdir -p "$build" "$out" || exit 2
build=$(cd "$build" && pwd) out=$(cd "$out" && pwd)
python=${PYTHON:-python3}
for s in ${stages//,/ }; do
    case $s in build | test | parity | sanitize | train | bench) ;;
    *) echo "gpu.sh: no stage '$s'" >&2 && exit 2 ;; esac
done
[[ $limit =~ ^[0-9]+$ ]] || { echo "gpu.sh: --limit wants seconds" >&2 && exit 2; }
failed=0

# ---- what is written down
# ----------------------------------------------------------------------------------------------------

# point NAME passed|failed|"left out" SECONDS WHY: one line of the summary
point() {
    printf '%s\t%s\t%s\t%s\t%s\n' "$stage" "$1" "$2" "$3" "${4//$'\t'/ }" >>"$out/$stage.points"
    printf '%-9s %-34s %-8s %4s s  %s\n' "$stage" "$1" "$2" "$3" "$4"
    [ "$2" != failed ] || failed=1
}

left() { # seconds of this stage that are left
    echo $((limit - (SECONDS - began)))
}

# step NAME SECONDS COMMAND...: run with that limit (or what the stage has left), log to OUT/STAGE.NAME.log, note the
# outcome. The outcome is also $? : 0 passed.
step() {
    local name=$1 most=$2 rc start=$SECONDS log
    shift 2
    log=$out/$stage.${name//[^a-zA-Z0-9_-]/-}.log
    [ "$(left)" -ge "$most" ] || most=$(left)
    if [ "$most" -lt 5 ]; then
        point "$name" "left out" 0 "no time left; call again with --stages $stage"
        return 1
    fi
    printf '+ %s\n' "$*" >"$log"
    timeout -k 10 "$most" "$@" >>"$log" 2>&1
    rc=$?
    case $rc in
    0) point "$name" passed $((SECONDS - start)) "$(last_line "$log")" ;;
    77) point "$name" "left out" $((SECONDS - start)) "skipped: $(last_line "$log")" ;;
    124 | 137) point "$name" failed $((SECONDS - start)) "not done after $most s, see $(basename "$log")" ;;
    *) point "$name" failed $((SECONDS - start)) "exit code $rc, see $(basename "$log"): $(last_line "$log")" ;;
    esac
    return "$rc"
}

last_line() {
    grep -v '^[[:space:]]*$' "$1" | tail -n 1 | cut -c 1-160
}

have_card() {
    nvidia-smi -L 2>/dev/null | grep -q GPU || [ -e /dev/nvidia0 ]
}

card() {
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit \
        --format=csv,noheader 2>/dev/null ||
        echo "no card"
}

# ---- build
# -------------------------------------------------------------------------------------------------------------------

# cuDNN that came with PyTorch's wheels, where the system has none: arguments for CMake.
wheel_cudnn() {
    local toolkit at
    toolkit=$(dirname "$(command -v "${CUDACXX:-nvcc}" || echo /usr/local/cuda/bin/nvcc)")/..
    for at in "$toolkit/include" /usr/include /usr/include/*-linux-gnu; do
        [ ! -e "$at/cudnn_version.h" ] || return 0
    done
    at=$("$python" -c 'import nvidia.cudnn as c; print(list(c.__path__)[0])' 2>/dev/null) || return 0
    if [ -e "$at/include/cudnn_version.h" ] && [ -e "$at/lib/libcudnn.so.9" ]; then
        printf '%s\n' "-DCUDNN_INCLUDE=$at/include" "-DCUDNN_LIBRARY=$at/lib/libcudnn.so.9"
    fi
}

stage_build() {
    local args=() arch at prefix=''
    arch=$(have_card && echo native || echo "80-real;90-real")
    mapfile -t args < <(wheel_cudnn)
    if [ -n "${CMAKE_PREFIX_PATH:-}" ]; then
        # The .pc file of an unpacked package names /usr; CMake's own search goes where it is told.
        args+=(-DCMAKE_DISABLE_FIND_PACKAGE_PkgConfig=ON)
        for at in ${CMAKE_PREFIX_PATH//[:;]/ }; do
            prefix+="${prefix:+;}$at"
            [ ! -d "$at/usr" ] || prefix+=";$at/usr"
        done
        args+=("-DCMAKE_PREFIX_PATH=$prefix")
    fi
    step configure 120 cmake -S "$root" --preset cuda-bare -B "$build" -DKD_GPU_TESTS=ON \
        "-DCMAKE_CUDA_ARCHITECTURES=$arch" \
        ${args[@]+"${args[@]}"} ${cmake_args[@]+"${cmake_args[@]}"}
    if [ -e "$build/CMakeCache.txt" ]; then
        step compile "$limit" cmake --build "$build" -j "$(nproc)" --target kd test_cuda_ops test_cuda &&
            step version 20 "$build/kd" --version
    fi
}

built() {
    [ -x "$build/kd" ] && [ -x "$build/tests/test_cuda" ] && [ -x "$build/tests/test_cuda_ops" ] && return 0
    point "$stage" failed 0 "nothing is built in $build"
    return 1
}

# ---- tests
# -------------------------------------------------------------------------------------------------------------------

stage_test() {
    built || return
    step ctest "$limit" ctest --test-dir "$build" -L gpu --output-on-failure
    if grep -q '\*\*\*Skipped' "$out/test.ctest.log"; then # ctest calls that a success
        point "no test skipped" failed 0 \
            "$(grep -c '\*\*\*Skipped' "$out/test.ctest.log") skipped on a machine with a card"
    fi
}

# ---- parity
# ------------------------------------------------------------------------------------------------------------------

# fp16 is judged on forward passes: `kd parity` has no loss scaling, so what follows from gradients in fp16 underflows
# by design and proves nothing (training in fp16 is tested with its scaler in test_cuda).  Every item is in the log all
# the same.
judge_fp16() {
    local said rc
    said=$(awk '
        /^{"fixtures"/ { seen = 1; if ($0 !~ /"unusable":0}/) bad++; next }
        !/^{"fixture"/ { next }
        /"item":"[^"]*grad|"item":"(ls|soft|step|final|ema) |"item":"logits of the trained/ { backward++; next }
        { items++ }
        !/"ok":true/ { bad++; print }
        END {
            printf "fp16: %d items of forward passes, %d bad; %d items that come of gradients not judged\n",
                items, bad, backward
            exit bad > 0 || items == 0 || !seen
        }' "$1")
    rc=$?
    point "fp16 forward" "$([ "$rc" -eq 0 ] && echo passed || echo failed)" 0 "${said##*$'\n'}"
}

stage_parity() {
    built || return
    local golden=("$root/tests/golden/parity" "$root/tests/golden/last" "$root/tests/golden/pth") all
    all=("${golden[@]}")
    if [ -n "$quick" ]; then
        step "f32" 60 "$build/kd" parity --device cuda "${golden[@]}"
        return
    fi
    [ ${#fixtures[@]} -eq 0 ] || all+=("${fixtures[@]}")
    step "f32" 200 "$build/kd" parity --device cuda "${all[@]}"
    step "bf16" 150 "$build/kd" parity --device cuda --dtype bf16 "${all[@]}"
    # shellcheck disable=SC2016
    step "fp16 runs" 100 sh -c '"$@"; [ $? -le 1 ]' sh \
            "$build/kd" parity --device cuda --dtype fp16 --json "${all[@]}" &&
        judge_fp16 "$out/parity.fp16-runs.log"
    step "f32 plain kernels" 100 "$build/kd" parity --device cuda --plain-kernels "${golden[@]}"
    step "f32 without graphs" 60 "$build/kd" parity --device cuda --no-graphs "${golden[@]}"
    [ ${#fixtures[@]} -gt 0 ] || point "further fixtures" "left out" 0 "none given (--fixtures)"
}

# ---- sanitizers
# --------------------------------------------------------------------------------------------------------------

# Patterns of test names that together are every op; test_coverage is left out, it is about whole runs.
groups=('test_[ab]*' 'test_c[!o]*' 'test_co[!v]*' 'test_[d-k]*' 'test_l*' 'test_[m-r]*' 'test_s*' 'test_[t-z]*')

# sanitize TOOL SECONDS: as many groups as fit.  A group that did not end is left out, unless something was found in it.
sanitize() {
    local tool=$1 end=$((SECONDS + $2)) g rc log start time
    for g in "${groups[@]}"; do
        time=$((end - SECONDS)) start=$SECONDS
        log=$out/sanitize.$tool.${g//[^a-z]/}.log
        if [ "$time" -lt 15 ]; then
            point "$tool $g" "left out" 0 "no time left"
            continue
        fi
        # what the libraries ask of the driver and are refused is their business; ours is checked in the backend
        (cd "$out" && exec timeout -k 10 "$time" compute-sanitizer --tool "$tool" --error-exitcode 9 \
            --report-api-errors no \
            "$build/tests/test_cuda_ops" "$g") >"$log" 2>&1
        rc=$?
        wrong='^=+ +(Invalid|Uninitialized|Misaligned|(Error|Warning): (Race|Potential))'
        if grep -Eq "$wrong|SUMMARY: [1-9][0-9]* (error|hazard)" "$log" ||
            [ "$rc" -eq 9 ]; then
            point "$tool $g" failed $((SECONDS - start)) "findings in $(basename "$log")"
        elif [ "$rc" -eq 124 ] || [ "$rc" -eq 137 ]; then
            point "$tool $g" "left out" $((SECONDS - start)) "not done after $time s; nothing found till then"
        elif [ "$rc" -ne 0 ]; then
            point "$tool $g" failed $((SECONDS - start)) "exit code $rc, see $(basename "$log"): $(last_line "$log")"
        else
            point "$tool $g" passed $((SECONDS - start)) "$(last_line "$log")"
        fi
    done
}

stage_sanitize() {
    built || return
    if ! command -v compute-sanitizer >/dev/null; then
        PATH=$PATH:/usr/local/cuda/bin
        PATH=$PATH:$(dirname "$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)")/../compute-sanitizer
    fi
    if ! command -v compute-sanitizer >/dev/null; then
        point compute-sanitizer "left out" 0 "not in this toolkit"
        return
    fi
    if [ -n "$quick" ]; then
        groups=('test_l*')
        sanitize memcheck 60
        return
    fi
    sanitize memcheck $((limit * 2 / 5))
    sanitize racecheck $((limit * 2 / 5))
    sanitize initcheck $(($(left) - 5))
}

# ---- training
# ----------------------------------------------------------------------------------------------------------------

stage_train() {
    built || return
    local steps=${quick:+40}
    step "losses are the CPU's" "$limit" env KD_TEST_STEPS="${steps:-200}" "$build/tests/test_cuda" 'steps_are_the_cpus'
    step "graphs change nothing" 100 "$build/tests/test_cuda" 'graphs_change_nothing'
}

# ---- benchmark
# ---------------------------------------------------------------------------------------------------------------

stage_bench() {
    built || return
    local start=$SECONDS kind phase batch
    if command -v "$python" >/dev/null; then
        step "beside PyTorch" "$limit" "$python" "$root/tools/bench/gpu_torch.py" --kd "$build/kd" --out "$out/bench" \
            --rounds 2 --budget $((limit > 300 ? limit - 150 : limit / 2)) ${quick:+--quick}
        ! grep -q 'PyTorch left out' "$out/bench.beside-PyTorch.log" ||
            point "PyTorch's side" "left out" 0 "not found, or no card for it"
        return
    fi
    for phase in train eval; do # no Python: our side alone
        for batch in 8 32 64; do
            for kind in videomae2-l videomae2-b; do
                step "$kind $phase $batch" 100 \
                    "$build/kd" bench model "$kind" --phase "$phase" --batch "$batch" --device cuda --dtype bf16
            done
        done
    done
    point "beside PyTorch" "left out" $((SECONDS - start)) "there is no Python"
}

# ---- all of it
# ---------------------------------------------------------------------------------------------------------------

summary() {
    local s f passed_too
    {
        printf '# tests/gpu.sh\n\n%s, %s, %s\n\n' "$(date -u +%Y-%m-%d)" "$(card)" \
            "$([ -x "$build/kd" ] && "$build/kd" --version 2>/dev/null | head -n 1)"
        printf '| stage | point | outcome | seconds | |\n|---|---|---|---|---|\n'
        for s in build test parity sanitize train bench; do
            f=$out/$s.points
            if [ -e "$f" ]; then
                sed 's/|/\\|/g; s/\t/ | /g; s/^/| /; s/$/ |/' "$f"
            else
                printf '| %s | all | not run | | |\n' "$s"
            fi
        done
        [ ! -e "$out/bench.md" ] || { echo && cat "$out/bench.md"; }
    } >"$out/summary.md"
    passed_too=$(cat "$out"/*.points | awk -F'\t' '{ n[$3]++ }
        END { printf "%d passed, %d failed, %d left out", n["passed"], n["failed"], n["left out"] }')
    echo "$passed_too; $out/summary.md"
}

no_card=
for stage in ${stages//,/ }; do
    began=$SECONDS
    rm -f "$out/$stage.points"
    if [ "$stage" != build ] && ! have_card; then
        no_card=1
        point all "left out" 0 "there is no card"
        continue
    fi
    "stage_$stage"
done
summary
[ $failed -eq 0 ] || exit 1
[ -z "$no_card" ] || exit 77
exit 0
