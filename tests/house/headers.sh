#!/usr/bin/env bash
# Every header compiles alone: it includes what it needs.  Device headers (.cuh) compile as C++ over the SIMT shim.
# usage: headers.sh SOURCE_DIR [JOBS]
set -u
cd "$1" || exit 1
vector="-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512cd -mavx512bf16 -mamx-tile -mamx-bf16"
one() {
    case $1 in
    *.cuh | tests/simt/*) compile=("${CXX:-g++}" -x c++ -std=c++17 -I tests/simt) ;;
    *) compile=("${CC:-gcc}" -x c -std=c11 $vector) ;;
    esac
    printf '#include "%s"\n' "$1" |
        "${compile[@]}" -fsyntax-only -Wall -Wextra -Werror -Wno-unused-function -Wno-unused-variable \
            -Wno-unused-const-variable -Wno-unknown-pragmas -D_GNU_SOURCE -I . - 2>&1 | head -n 8 | sed "s|^|$1: |"
}
export -f one
export vector
# op rows and variants of kernels are compiled by what includes them, with macros set: kernels/cpu/README.md
bad=$(git ls-files '*.h' '*.cuh' | xargs -P "${2:-2}" -I {} bash -c 'one {}')
[ -z "$bad" ] && { echo "$(git ls-files '*.h' '*.cuh' | wc -l) headers compile alone"; exit 0; }
printf '%s\n' "$bad"
exit 1
