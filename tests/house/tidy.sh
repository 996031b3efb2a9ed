#!/usr/bin/env bash
# clang-tidy (.clang-tidy) over the written sources of every room but tests, each file once: kernels that are compiled
# several times are read in the first of their variants.  The analyser takes three quarters of the time: it reads the
# files that were changed since a commit, or all.  Needs clang-tidy 14, python3 and git.
# usage: tidy.sh BUILD_DIR [JOBS [COMMIT|all]]
set -euo pipefail
build=$1 jobs=${2:-2} since=${3:-all}
mkdir -p "$build/tidy" "$build/tidy-analyser"
python3 - "$build" "$since" <<'END'
import json
import os
import subprocess
import sys

build, since = sys.argv[1:]
changed = None
if since != "all":
    git = subprocess.run(["git", "diff", "--name-only", since], capture_output=True, text=True)
    if git.returncode == 0:  # else: a clone without so much history
        changed = {os.path.abspath(name) for name in git.stdout.split("\n")}
seen, every = set(), []
for entry in json.load(open(build + "/compile_commands.json")):
    file = entry["file"]
    if file.endswith(".c") and "/tests/" not in file and "/generated/" not in file and file not in seen:
        seen.add(file)
        entry["command"] = entry["command"].replace("/usr/bin/ccache ", "", 1).replace("ccache ", "", 1)
        every.append(entry)
analysed = [entry for entry in every if changed is None or entry["file"] in changed]
json.dump([entry for entry in every if entry not in analysed], open(build + "/tidy/compile_commands.json", "w"))
json.dump(analysed, open(build + "/tidy-analyser/compile_commands.json", "w"))
print(len(every), "files,", len(analysed), "of them by the analyser too")
END
rc=0
# pass FOLDER CHECKS: over the files of FOLDER; CHECKS are added to those of .clang-tidy.
pass() {
    run-clang-tidy-14 -p "$1" -j "$jobs" -quiet "-checks=$2" >"$1/log" 2>&1 || rc=1
    sed 's/\x1b\[[0-9;]*m//g' "$1/log" | grep -E '^/.*(warning|error): ' || true
}
pass "$build/tidy" '-clang-analyzer-*' >"$build/tidy/found"
pass "$build/tidy-analyser" '' >>"$build/tidy/found"
sort -u "$build/tidy/found"
echo "$(sort -u "$build/tidy/found" | wc -l) findings"
exit "$rc"
