#!/usr/bin/env bash
# From a bare Debian 12 machine to the demo's report: packages, build, `kd demo`.
# usage: tools/quickstart.sh [OUT]      (default: demo-out)
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-demo-out}
tools/packages.sh
cmake --preset release -DKD_TESTS=OFF >/dev/null
cmake --build --preset release
build/kd demo --out "$out"
echo "open $(cd "$out" && pwd)/report/report.html in a browser"
