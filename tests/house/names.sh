#!/usr/bin/env bash
# Export prefixes: a global symbol of our libraries begins with kd_ (public) or kdi_ (shared between the files of a
# room). usage: names.sh BUILD_DIR
set -u
cd "$1" || exit 1
command -v nm >/dev/null || { echo "skipped: nm is missing"; exit 77; }
libraries=$(find . -name 'libkd_*.a' -not -path './tests/*' | sort)
symbols=0
bad=0
for library in $libraries; do
    while read -r symbol; do
        symbols=$((symbols + 1))
        case $symbol in
        kd_* | kdi_*) ;;
        *) echo "$library: $symbol lacks kd_ or kdi_" && bad=$((bad + 1)) ;;
        esac
    done < <(nm -g --defined-only "$library" 2>/dev/null | # but the compiler's own
        awk 'NF == 3 && $3 !~ /^(_Z|__|\.)/ { print $3 }')
done
[ "$symbols" -ge 500 ] || { echo "$symbols symbols found, expected 500 or more: is anything built?"; exit 1; }
echo "$symbols symbols, $bad without a prefix"
[ "$bad" -eq 0 ]
