#!/usr/bin/env bash
# One fuzz target for some seconds over its corpus and the files of ours that are like it.
# usage: run.sh TARGET SECONDS       (TARGET: BUILD/fuzz/fuzz_X)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
name=$(basename "$1")
seeds=()
case $name in
fuzz_skeleton) seeds=("$here/../refuse/skeleton") ;;
fuzz_archive) seeds=("$here/../refuse/archive" "$here/../golden/skeletons") ;;
fuzz_last) seeds=("$here/../refuse/last") ;;
fuzz_config) seeds=("$here/../refuse/config") ;;
fuzz_pickle) seeds=("$here/../golden/pth") ;;
fuzz_parity) seeds=("$here/../golden/parity/other_values/model" "$here/../golden/parity/losses") ;;
fuzz_video) seeds=("$here/../golden/training/data") ;;
esac
mkdir -p "$1.corpus"
log=$1.log
if "$1" -max_total_time="$2" -rss_limit_mb=1024 -timeout=10 -artifact_prefix="$1." "$1.corpus" "${seeds[@]}" \
    >"$log" 2>&1; then
    echo "$name: $(grep -E '^Done ' "$log" || tail -n 1 "$log")"
else
    echo "$name: FAILED, see $log"
    tail -n 30 "$log"
    exit 1
fi
