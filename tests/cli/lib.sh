# Helpers of the command-line tests; sourced by them.  Call: NAME.sh BUILD_DIR SOURCE_DIR
# Every test works in a folder of its own below BUILD_DIR/tests/cli and leaves it there when it fails.
set -u
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd)
source=$(cd "$2" && pwd)
work=$build/tests/$(basename "$here")/$(basename "$0" .sh)
rm -rf "$work"
mkdir -p "$work" && cd "$work" || exit 1
kd=$build/kd
teacher=$build/teacher
distill=$build/distill
failures=0

# Messages must not depend on who runs the test.
export LC_ALL=C

say() { printf '%s\n' "$*"; }

failed() {
    printf 'FAILED: %s\n' "$*"
    failures=$((failures + 1))
}

finish() {
    [ "$failures" -eq 0 ] || { say "$failures checks failed; files in $work"; exit 1; }
    cd / && rm -rf "$work"
    say "all checks passed"
    exit 0
}

# refused CODE PATTERN COMMAND...: the command ends with CODE and says so in one to three lines of stderr (callers add
# -q, which leaves errors alone); PATTERN (extended regular expression) must match one of them.
refused() {
    local code=$1 pattern=$2 rc lines
    shift 2
    "$@" >out.txt 2>err.txt </dev/null
    rc=$?
    lines=$(wc -l <err.txt)
    if [[ $rc != $code ]]; then # a pattern: [34]
        failed "exit code $rc, expected $code: $*"
        head -5 err.txt
    elif [ "$lines" -lt 1 ] || [ "$lines" -gt 3 ]; then
        failed "$lines lines of message, expected 1 to 3: $*"
        head -5 err.txt
    elif ! grep -Eq -- "$pattern" err.txt; then
        failed "message does not match '$pattern': $*"
        cat err.txt
    fi
}

# accepted COMMAND...: ends with 0.
accepted() {
    "$@" >out.txt 2>err.txt </dev/null || {
        failed "exit code $?, expected 0: $*"
        head -5 err.txt
    }
}

same_file() { cmp -s "$1" "$2" || failed "$1 and $2 differ"; }

absent() { [ ! -e "$1" ] || failed "$1 is there, expected nothing"; }

present() { [ -e "$1" ] || failed "$1 is missing"; }

now_ms() { echo $(($(date +%s%N) / 1000000)); }

# flip FILE OFFSET: one bit of one byte.
flip() {
    local byte
    byte=$(od -An -tu1 -j "$2" -N 1 "$1" | tr -d ' ')
    printf "\\$(printf '%03o' $((byte ^ 16)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# begun FILE PID: waits until FILE has content, however long that takes; false when the process ended before.
begun() {
    until [ -s "$1" ]; do
        kill -0 "$2" 2>/dev/null || return 1
        sleep 0.01
    done
}

# held FILE COMMAND...: starts the command, which must be too long to end by itself, and freezes it once FILE has
# content.  Sets holder, its process.
held() {
    local file=$1
    shift
    "$@" >held.txt 2>&1 </dev/null &
    holder=$!
    begun "$file" $holder && kill -STOP $holder || failed "ended before it could be frozen: $*"
}

# released: the frozen command goes on, is asked to stop and must end as one that was.
released() {
    kill -CONT $holder
    kill -INT $holder
    wait $holder
    [ $? -eq 130 ] || { failed "the command that was frozen was disturbed"; tail -3 held.txt; }
}

# asked SIGNAL FILE OUT COMMAND...: sends the signal once FILE has content.  Where the command was done before the
# signal came, OUT is removed and the command begins anew.  Sets rc.
asked() {
    local signal=$1 file=$2 out=$3 pid
    shift 3
    for _ in $(seq 50); do
        rm -rf "$out" "$out.part" "$out.part.tail"
        "$@" >out.txt 2>err.txt </dev/null &
        pid=$!
        begun "$file" $pid
        kill -"$signal" $pid 2>/dev/null
        wait $pid
        rc=$?
        [ $rc -eq 0 ] || return
    done
}

# killed_until_done MS OUT COMMAND...: kills the command (SIGKILL) at a random moment, a fifth to four fifths of MS
# after its start, again and again, at most six times; then lets it finish.  Where it was done before the first kill
# came (MS was measured on a busier machine), OUT is removed and the moments come earlier.  Sets kills to the number of
# times that a kill met it alive.
killed_until_done() {
    local ms=$1 out=$2 pid rc
    shift 2
    kills=0
    for _ in 1 2 3 4 5 6; do
        "$@" >>out.txt 2>>err.txt </dev/null &
        pid=$!
        sleep "$(awk -v ms=$((ms / 5 + RANDOM % (ms * 3 / 5 + 1))) 'BEGIN { print ms / 1000 }')"
        kill -KILL "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
        rc=$?
        if [ "$rc" -eq 0 ] && [ $kills -eq 0 ] && [ "$ms" -gt 10 ]; then
            rm -rf "$out"
            ms=$((ms / 3))
            continue
        fi
        [ "$rc" -eq 137 ] || return "$rc"
        kills=$((kills + 1))
    done
    "$@" >>out.txt 2>>err.txt </dev/null
}
