#!/usr/bin/env bash
# clang-tidy (.clang-tidy) over the written sources of every room but tests, each file once: kernels that are compiled
# several times are read in the first of their variants.  Needs clang-tidy 14 and python3.
# usage: tidy.sh BUILD_DIR [JOBS]
set -euo pipefail
mkdir -p "$1/tidy"
python3 - "$1" <<'END'
import json
import sys

seen, commands = set(), []
for entry in json.load(open(sys.argv[1] + "/compile_commands.json")):
    file = entry["file"]
    if file.endswith(".c") and "/tests/" not in file and "/generated/" not in file and file not in seen:
        seen.add(file)
        entry["command"] = entry["command"].replace("ccache ", "", 1)
        commands.append(entry)
json.dump(commands, open(sys.argv[1] + "/tidy/compile_commands.json", "w"))
print(len(commands), "files")
END
log=$1/tidy/log
rc=0
run-clang-tidy-14 -p "$1/tidy" -j "${2:-2}" -quiet >"$log" 2>&1 || rc=1
sed 's/\x1b\[[0-9;]*m//g' "$log" | grep -E '^/.*(warning|error): ' | sort -u >"$log.found" || true
cat "$log.found"
echo "$(wc -l <"$log.found") findings"
exit "$rc"
