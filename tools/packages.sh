#!/usr/bin/env bash
# Debian packages: what the build needs; with --tests what the tests use; with --ci what .ci/run adds.  Installs what is
# missing; sudo only if not root.
set -euo pipefail
build=(gcc g++ cmake ninja-build pkg-config git ca-certificates libdnnl-dev libavformat-dev libavcodec-dev
    libswscale-dev libavutil-dev libzstd-dev libxxhash-dev zlib1g-dev libssl-dev libyaml-dev libjansson-dev
    libprotobuf-c-dev protobuf-c-compiler libcmocka-dev)
tests=(zstd python3 python3-numpy ffmpeg chromium groff-base clang-format-14)
ci=(clang-14 libclang-rt-14-dev clang-tidy-14 ccache)
want=("${build[@]}")
case ${1:-} in
'') ;;
--tests) want+=("${tests[@]}") ;;
--ci) want+=("${tests[@]}" "${ci[@]}") ;;
*) echo "packages.sh: expected nothing, --tests or --ci, found '$1'" >&2 && exit 2 ;;
esac
missing=()
for p in "${want[@]}"; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q "install ok installed" || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0
run=()
[ "$(id -u)" -eq 0 ] || run=(sudo)
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${run[@]}" apt-get update -qq
"${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
