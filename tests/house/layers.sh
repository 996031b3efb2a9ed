#!/usr/bin/env bash
# Who may include whom, room by room; no circle of rooms; no crowded room; third-party headers in source files alone,
# one file a library.
# Call: layers.sh SOURCE_DIR
set -u
cd "$1" || exit 1
bad=0

complain() {
    printf '%s\n' "$*"
    bad=$((bad + 1))
}

# One line a room, or two: its folder, the rooms it may include besides itself.  X/ stands for all rooms below X; X+y is
# the file X/y alone.  A room without a line is refused.
rooms='
kernels
kernels/graph        kernels
kernels/op           kernels
kernels/cpu          kernels kernels/op
kernels/fast         kernels kernels/op
kernels/cuda         kernels kernels/op kernels/cuda/
kernels/cuda/device  kernels
kernels/cuda/library kernels kernels/cuda
kernels/int8         kernels kernels/cpu kernels/fast
kernels/optim        kernels
kernels/comm         kernels
formats/base         kernels+kd_base.h
formats/base/python  kernels+kd_base.h formats/base
formats/base/zstd    kernels+kd_base.h formats/base
formats/weights      kernels+kd_base.h kernels+kd_names.h formats/base formats/base/
formats/video        kernels+kd_base.h formats/base
formats/skeleton     kernels+kd_base.h formats/base formats/base/
formats/store        kernels+kd_base.h formats/base formats/base/
formats/log          kernels+kd_base.h formats/base
formats/onnx         kernels+kd_base.h formats/base
formats/data/sets    kernels+kd_base.h kernels+kd_options.h kernels+kd_options_struct.inc
formats/data/lists   kernels+kd_base.h formats/base formats/data/sets
formats/data         kernels+kd_base.h kernels+kd_options.h kernels+kd_options_struct.inc formats/base formats/data/
teacher/model        kernels
teacher/clip         kernels teacher/model formats/
student/layout       kernels
student/model        kernels student/layout
student/skeleton     kernels formats/ student/layout
student/stream       kernels kernels/int8 student/layout student/model student/skeleton
configs/yaml         kernels+kd_base.h formats/base
configs/schema       configs/yaml kernels kernels/optim formats/ teacher/ student/ distill/batch distill/kd
distill/report       kernels formats/
distill/batch        kernels formats/
distill/kd           kernels formats/
distill/store        kernels formats/ distill/kd distill/report
distill/study        kernels formats/ configs/yaml configs/schema distill/report
distill/run          kernels formats/ configs/schema
distill/model        kernels formats/ configs/schema distill/kd distill/batch
distill/eval         kernels kernels/int8 formats/ configs/schema distill/batch distill/model distill/report distill/run
distill/eval         distill/store
distill/export       kernels formats/ configs/schema student/ distill/eval distill/model distill/run
distill/task         kernels formats/ configs/schema teacher/ student/ distill/kd distill/model distill/report
distill/train        kernels kernels/optim formats/ configs/schema teacher/ student/ distill/
tools/process        kernels formats/
tools/sample         kernels formats/ distill/run
tools/parity         kernels formats/ configs/schema teacher/ student/ distill/
tools/bench          kernels formats/ configs/schema teacher/ student/ distill/ tools
tools                kernels formats/ configs/schema teacher/ student/ distill/ tools/commands tools/process
tools/logits         kernels formats/ configs/schema distill/ tools tools/commands tools/process
tools/predict        kernels formats/ configs/schema student/stream distill/ tools tools/commands tools/process
tools/study          kernels formats/ configs/schema distill/ tools tools/commands tools/process
tools/dataset        kernels formats/ configs/schema distill/ tools tools/commands tools/process tools/sample
tools/commands       kernels formats/ configs/schema teacher/ student/ distill/ tools tools/
'

# "room room/file" of every include of our own; the room is the folder of the file that includes.
all='kernels formats teacher student configs distill tools'
includes=$(grep -roE '^[[:space:]]*#[[:space:]]*include[[:space:]]+"[^"]+"' $all \
    --include='*.c' --include='*.h' --include='*.cu' --include='*.cuh' --include='*.inc' | sort -u)

# KD_OPTIONS names a list that kernels/kd_options_struct.inc and configs/schema/rows.inc include.
breaches=$(printf '%s\n' "$includes" | awk -v rooms="$rooms" '
    function dir(path) { sub("/[^/]*$", "", path); return path }
    BEGIN {
        n = split(rooms, line, "\n")
        for (i = 1; i <= n; i++)
            if (split(line[i], word, " ") > 0) {
                known[word[1]] = 1
                may[word[1]] = may[word[1]] " " line[i] " "
            }
    }
    {
        file = $0; sub(":.*", "", file)
        target = $0; sub("^[^\"]*\"", "", target); sub("\"$", "", target)
        from = dir(file); to = dir(target); name = target; sub(".*/", "", name)
        if (target !~ "/") { print file ": \"" target "\" is not a path from the root"; next }
        if (!(from in known)) { print file ": the room " from " has no line in tests/house/layers.sh"; next }
        ok = index(may[from], " " to " ") > 0 || index(may[from], " " to "+" name " ") > 0
        for (up = to; !ok && up ~ "/"; ) { up = dir(up); ok = index(may[from], " " up "/ ") > 0 }
        if (!ok) print file " includes " target ": " from " must not know " to
    }')
[ -z "$breaches" ] || complain "includes against the order:
$breaches"

# A circle of rooms.  The main files put the commands together and are left out.
circles=$(printf '%s\n' "$includes" | grep -vE '^tools/main_[a-z]+\.c:' |
    sed -E 's|^(.*)/[^/:]+:[^"]*"(.*)/[^/]+"$|\1 \2|' | awk '$1 != $2' | sort -u | tsort 2>&1 >/dev/null |
    sed 's/^tsort: //')
[ -z "$circles" ] || complain "rooms that include each other in a circle:
$circles"

# No room with more than 25 source files of its own; 32 where it is one file a family of ops.
while read -r count room; do
    most=25
    case $room in kernels/op | kernels/cpu | kernels/cuda) most=32 ;; esac
    [ "$count" -le $most ] || complain "$room has $count files, at most $most"
done < <(find $all -type f -regex '.*\.\(c\|h\|cu\|cuh\|inc\)' | sed 's|/[^/]*$||' | sort | uniq -c)

# Headers of libraries: the C standard, POSIX and Linux are no libraries.
system='(assert|ctype|dirent|errno|fcntl|float|inttypes|limits|locale|math|poll|pthread|sched|setjmp|signal|stdarg'
system="$system|stdatomic|stdbool|stddef|stdint|stdio|stdlib|string|strings|time|unistd|dlfcn|glob|sys/[a-z_]+"
system="$system|immintrin|cpuid|omp)"
system="(cmath|$system\\.h)"
libraries=$(grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]+<' $all \
    --include='*.[ch]' --include='*.cu' --include='*.cuh' | grep -vE "<$system>" |
    grep -v '^student/stream/examples/') # programs of users of liblast
headers=$(printf '%s\n' "$libraries" | grep -E '^[^:]+\.(h|cuh):' | grep -v '^kernels/cuda/') # those are its own
[ -z "$headers" ] || complain "headers of ours that include a library's:
$headers"

# one LIBRARY PATTERN FOLDER [FILES]: PATTERN is included below FOLDER only, by at most FILES files (1; -: any number).
one() {
    local files count
    files=$(printf '%s\n' "$libraries" | grep -E "<$2" | cut -d: -f1 | sort -u)
    [ -n "$files" ] || return 0
    count=$(printf '%s\n' "$files" | wc -l)
    [ "${4:-1}" = - ] || [ "$count" -le "${4:-1}" ] || complain "$1 is included by $count files:
$files"
    files=$(printf '%s\n' "$files" | grep -v "^$3/")
    [ -z "$files" ] || complain "$1 is included outside $3/:
$files"
}

one FFmpeg 'lib(av|sw)' formats/video 6
one zstd 'zstd' formats/base
one xxHash 'xxhash' formats/base
one libyaml 'yaml' configs/yaml
one jansson 'jansson' formats/base
one zlib 'zlib' formats 3
one libcrypto 'openssl/' formats/base
one oneDNN '(oneapi/|dnnl)' kernels/fast
one CUDA 'cu(da|blas|dnn)' kernels/cuda -
one MPI 'mpi' kernels/comm
known='lib(av|sw)|zstd|xxhash|yaml|jansson|zlib|openssl/|oneapi/|dnnl|cu(da|blas|dnn)|mpi'
unknown=$(printf '%s\n' "$libraries" | grep . | grep -vE "<($known)")
[ -z "$unknown" ] || complain "unknown library headers:
$unknown"

[ $bad -eq 0 ] || { echo "$bad breaches of the layers"; exit 1; }
echo "layers hold"
