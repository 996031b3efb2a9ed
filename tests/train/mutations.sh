#!/usr/bin/env bash
# Does a test notice?  Each line of mutations.txt breaks one place between a recipe and a training step, in a copy of
# the source; test_golden_runs must fail on every one of them.
# usage: mutations.sh SOURCE_DIR FOLDER [NAME...]     FOLDER: for the copy and its build, kept for the next time
set -euo pipefail
source=$(cd "$1" && pwd)
mkdir -p "$2"
copy=$(cd "$2" && pwd)
shift 2
list=$source/tests/train/mutations.txt

# The copy has the files of the source as they are now; times are kept, so that ninja builds what differs.
rm -rf "$copy/source"
mkdir "$copy/source"
(cd "$source" && git ls-files --cached --others --exclude-standard -z | tar -c --null -T -) | tar -x -C "$copy/source"
launch=()
command -v ccache >/dev/null && launch=(-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
cmake -S "$copy/source" -B "$copy/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DKD_TESTS=ON "${launch[@]}" >/dev/null

noticed() {
    if ! ninja -C "$copy/build" teacher distill test_golden_runs >"$copy/build.log" 2>&1; then
        echo "the mutated source does not compile: $copy/build.log" >&2
        exit 2
    fi
    (cd "$copy/build/tests" && ! timeout 120 ./test_golden_runs >"$copy/test.log" 2>&1)
}

! noticed || { echo "the test fails on the source as it is: $copy/test.log" >&2 && exit 2; }
alive=0 dead=0
while IFS=$'\t' read -r name file from to; do
    case $name in '' | '#'*) continue ;; esac
    [ $# -eq 0 ] || [[ " $* " = *" $name "* ]] || continue
    path=$copy/source/$file
    [ "$(grep -cF -- "$from" "$path")" -eq 1 ] ||
        { echo "$name: '$from' does not stand in $file once" >&2 && exit 2; }
    FROM=$from TO=$to perl -pi -e 's/\Q$ENV{FROM}\E/$ENV{TO}/' "$path"
    if noticed; then
        dead=$((dead + 1))
        echo "noticed   $name: $(grep -m1 -E ', expected|killed' "$copy/test.log" || echo 'no run')"
    else
        alive=$((alive + 1))
        echo "UNNOTICED $name"
    fi
    cp "$source/$file" "$path"
done <"$list"
echo "$dead mutations noticed, $alive unnoticed"
[ $dead -gt 0 ] && [ $alive -eq 0 ]
