#!/usr/bin/env bash
# Which op was checked in which dtype by which implementation; fails on a hole.
# usage: coverage.sh BUILD [CUDA_BUILD]
#   BUILD/tests/coverage_{cpu,simt}.txt: calls checked by test_ops and test_simt
#   CUDA_BUILD: a build by nvcc; its column is left out, and named as left out, where there is none
set -euo pipefail
build=$1 cuda=${2:-}
compiled=$(mktemp)
trap 'rm -f "$compiled"' EXIT
if [ -d "$cuda/kernels" ]; then
    find "$cuda/kernels" -name '*.cu.o' -exec nm {} + |
        awk '$3 ~ /^kd_cuda_/ { print substr($3, 9) }' | sort -u > "$compiled"
    echo "nvcc column: $(wc -l < "$compiled") ops compiled in $cuda"
else
    echo "nvcc column: left out, no build by nvcc in ${cuda:-(not given)}"
fi
awk -v nvcc="$([ -s "$compiled" ] && echo 1 || echo 0)" '
    FILENAME ~ /coverage_cpu/ {
        fast += $3 == "ref" ? 0 : $4
        n[$1, $3 == "ref" ? "ref" : "fast", $2] += $4
        if (!($1 in seen)) { seen[$1]; op[++ops] = $1 }
        next
    }
    FILENAME ~ /coverage_simt/ { n[$1, "shim", $2] += $4; next }
    { for (d = 1; d <= 3; d++) n[$1, "nvcc", t[d]] = "yes" }
    BEGIN { split("f32 bf16 fp16", t, " ") }
    function cell(o, how, d,   v) {
        v = n[o, how, d]
        if (how == "fast" && (!fast || v == "")) { return sprintf("%7s", "-") } # cold families: reference alone
        if (v == "" || v == 0) { holes++; v = "HOLE" }
        return sprintf("%7s", v)
    }
    END {
        printf "%-24s|%14s|%14s|%21s|%21s\n", "", "reference", "fast CPU", "SIMT shim", "nvcc"
        printf "%-24s|%7s%7s|%7s%7s|%7s%7s%7s|%7s%7s%7s\n",
            "calls checked", "f32", "bf16", "f32", "bf16", "f32", "bf16", "fp16", "f32", "bf16", "fp16"
        for (i = 1; i <= ops; i++) {
            o = op[i]
            line = sprintf("%-24s|%s%s|%s%s|%s%s%s|", o,
                cell(o, "ref", "f32"), cell(o, "ref", "bf16"), cell(o, "fast", "f32"),
                cell(o, "fast", "bf16"), cell(o, "shim", "f32"), cell(o, "shim", "bf16"), cell(o, "shim", "fp16"))
            if (nvcc) { line = line cell(o, "nvcc", "f32") cell(o, "nvcc", "bf16") cell(o, "nvcc", "fp16") }
            print line (nvcc ? "" : "      -      -      -")
        }
        if (!fast) { print "fast CPU column: left out, this build or processor has no such kernels" }
        printf "%d ops (forward and backward are rows of their own), %d holes\n", ops, holes
        exit holes > 0 || ops == 0
    }' "$build/tests/coverage_cpu.txt" "$build/tests/coverage_simt.txt" "$compiled"
