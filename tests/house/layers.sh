#!/usr/bin/env bash
# Who may include whom: the direction of dependencies, and third-party headers in source files alone, one file a library.
# Call: layers.sh SOURCE_DIR
set -u
cd "$1" || exit 1
bad=0

complain() {
    printf '%s\n' "$*"
    bad=$((bad + 1))
}

# allowed FOLDER PATTERN: includes of our own headers in FOLDER match PATTERN.
allowed() {
    local lines
    lines=$(grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]+"' "$1" --include='*.[ch]' --include='*.cu' --include='*.cuh' --include='*.inc' |
        grep -vE "include[[:space:]]+\"($2)")
    [ -z "$lines" ] || complain "$1/ includes what it must not know:
$lines"
}

allowed kernels 'kernels/'
allowed teacher 'teacher/|kernels/'
allowed student 'student/|kernels/'
allowed formats 'formats/|kernels/kd_base\.h"'
allowed configs 'configs/|formats/|kernels/kd_base\.h"'
allowed distill 'distill/|teacher/|student/|configs/|formats/|kernels/'
allowed tools 'tools/|distill/|teacher/|student/|configs/|formats/|kernels/'

# Headers of libraries: the C standard, POSIX and Linux are no libraries.
system='(cmath|(assert|ctype|dirent|errno|fcntl|float|inttypes|limits|locale|math|poll|pthread|sched|setjmp|signal|stdarg|stdatomic|stdbool|stddef|stdint|stdio|stdlib|string|strings|time|unistd|dlfcn|glob|sys/[a-z_]+|immintrin|cpuid|omp)\.h)'
libraries=$(grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]+<' kernels teacher student formats configs distill tools \
    --include='*.[ch]' --include='*.cu' --include='*.cuh' | grep -vE "<$system>")
headers=$(printf '%s\n' "$libraries" | grep -E '^[^:]+\.(h|cuh):' | grep -v '^kernels/cuda/') # those are that folder's own
[ -z "$headers" ] || complain "headers of ours that include a library's:
$headers"

# one LIBRARY PATTERN FOLDER [FILES]: PATTERN is included in FOLDER only, by at most FILES files (1).
one() {
    local files count
    files=$(printf '%s\n' "$libraries" | grep -E "<$2" | cut -d: -f1 | sort -u)
    [ -n "$files" ] || return 0
    count=$(printf '%s\n' "$files" | wc -l)
    [ "$count" -le "${4:-1}" ] || complain "$1 is included by $count files:
$files"
    files=$(printf '%s\n' "$files" | grep -v "^$3/")
    [ -z "$files" ] || complain "$1 is included outside $3/:
$files"
}

one FFmpeg 'lib(av|sw)' formats 4
one zstd 'zstd' formats
one xxHash 'xxhash' formats
one libyaml 'yaml' configs
one jansson 'jansson' formats
one libzip 'zip\.h' formats
one zlib 'zlib' formats 3
one libcrypto 'openssl/' formats
one oneDNN '(oneapi/|dnnl)' kernels
one CUDA 'cu(da|blas|dnn)' kernels 99
one MPI 'mpi' kernels
printf '%s\n' "$libraries" | grep -vE '<(lib(av|sw)|zstd|xxhash|yaml|jansson|zip\.h|zlib|openssl/|oneapi/|dnnl|cu(da|blas|dnn)|mpi)' | grep . >/tmp/kd_layers.$$ &&
    complain "unknown library headers:
$(cat /tmp/kd_layers.$$)"
rm -f /tmp/kd_layers.$$

[ $bad -eq 0 ] || { echo "$bad breaches of the layers"; exit 1; }
echo "layers hold"
