#!/usr/bin/env bash
# Every C, C++ and CUDA file is as clang-format 14 writes it (.clang-format).  Other versions format otherwise.
# usage: format.sh SOURCE_DIR
set -u
cd "$1" || exit 1
tool=
for name in clang-format-14 clang-format; do
    if command -v $name >/dev/null && $name --version | grep -q 'version 14\.'; then
        tool=$name
        break
    fi
done
[ -n "$tool" ] || { echo "skipped: clang-format 14 is missing (Debian: clang-format-14)"; exit 77; }
files=$(git ls-files '*.c' '*.h' '*.cpp' '*.cu' '*.cuh')
bad=$(printf '%s\n' "$files" | xargs -P 2 -n 40 $tool --dry-run 2>&1 |
    sed -n 's/^\([^: ]*\):\([0-9]*\):.*warning.*/\1:\2/p')
count=$(printf '%s\n' "$files" | wc -l)
[ "$count" -ge 300 ] || { echo "$count files found, expected 300 or more"; exit 1; }
if [ -n "$bad" ]; then
    printf '%s\n' "$bad" | head -n 40
    echo "$(printf '%s\n' "$bad" | cut -d: -f1 | sort -u | wc -l) files are not formatted: $tool -i FILE"
    exit 1
fi
echo "$count files are formatted"
