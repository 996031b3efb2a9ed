#!/usr/bin/env bash
# run.sh PYTHON SCRIPT BUILD_DIR SOURCE_DIR [VARIABLE=PATH]...: run a comparison; 77 where something is not given.
set -u
python=$1
script=$2
shift 2
if [ -z "$python" ]; then
    echo "skipped: no KD_ORACLE_PYTHON, a Python with torch, timm and transformers"
    exit 77
fi
for given in "${@:3}"; do
    if [ -z "${given#*=}" ]; then
        echo "skipped: no ${given%%=*}"
        exit 77
    fi
done
exec "$python" "$script" "$1" "$2" "${@:3}"
