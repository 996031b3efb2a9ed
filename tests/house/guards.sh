#!/usr/bin/env bash
# Include guards: a header a/b.h is guarded by KD_A_B_H, so that no two headers share a guard and a moved header is
# noticed. usage: guards.sh SOURCE_DIR [--fix]
set -euo pipefail
cd "$1"
bad=0
while read -r header; do
    want=$(printf 'KD_%s' "$header" | tr 'a-z/.-' 'A-Z___')
    have=$(sed -n 's/^# *ifndef \([A-Za-z0-9_]*\).*/\1/p' "$header" | head -n 1)
    [ "$have" = "$want" ] && grep -q "^#define $want\$" "$header" && continue
    if [ "${2:-}" = "--fix" ] && [ -n "$have" ]; then
        sed -i "s/\b$have\b/$want/g" "$header"
        continue
    fi
    echo "$header: expected the guard $want, found ${have:-none}"
    bad=1
done < <(git ls-files '*.h' '*.cuh')
[ "$bad" = 0 ] && echo "include guards: ok"
exit "$bad"
