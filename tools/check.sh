#!/usr/bin/env bash
# Packages, build, every test that needs no GPU.  The last lines are ctest's.
# usage: tools/check.sh [ctest options]
set -euo pipefail
cd "$(dirname "$0")/.."
tools/packages.sh --tests
cmake --preset release -DKD_TESTS=ON -DKD_WERROR=ON >/dev/null
cmake --build --preset release
export OMP_WAIT_POLICY=passive
ctest --test-dir build --output-on-failure -LE gpu -j 2 "$@"
