#!/usr/bin/env bash
# AVI with chunks without bytes ("show the last picture again") is sound; a clip that is cut, emptied or no video at all
# is refused by name.
. "$(dirname "$0")/setup.sh"
make=$build/tests/make_media
[ -x "$make" ] || exit 77

mkdir sound
"$make" repeats sound/repeats_0.avi 40
"$make" clip sound/plain.avi 40
"$make" clip sound/plain2.mp4 40
accepted "$kd" dataset check --data sound --out sound_check
grep -q '3 videos decoded (120 frames).* 0 videos and 0 skeletons damaged' out.txt || failed "check: $(cat out.txt)"
tiny="--config $configs/teacher/tiny.yaml --weights $configs/teacher/tiny_pretrained.safetensors"
accepted "$teacher" predict $tiny sound/repeats_0.avi
# A repeat is no frame: the same pictures without repeats give the same answer.
tail -n +2 out.txt >with
accepted "$teacher" predict $tiny sound/plain.avi
tail -n +2 out.txt | diff - with >/dev/null || failed "repeats change the prediction"

mkdir hurt
size() { stat -c %s "$1"; }
a=sound/repeats_0.avi n=$(size sound/repeats_0.avi)
m=sound/plain2.mp4 k=$(size sound/plain2.mp4)
head -c $((n / 2)) $a >hurt/half.avi
head -c $((n - 1400)) $a >hurt/tail.avi
head -c $((k / 2)) $m >hurt/halved.mp4
: >hurt/empty.mp4
head -c 9000 /dev/zero >hurt/zeros.mp4
echo hello >hurt/text.avi
{ head -c $((n / 3)) $a; head -c 4000 /dev/zero; tail -c +$((n / 3 + 4001)) $a; } >hurt/hole.avi
mkdir hurt/dir.mp4
mkfifo hurt/fifo.mp4
ln -s /nonexistent hurt/link.mp4
refused 3 'damaged files' "$kd" dataset check --data hurt --out hurt_check
for f in half.avi tail.avi halved.mp4 empty.mp4 zeros.mp4 text.avi hole.avi dir.mp4 fifo.mp4 link.mp4; do
    grep -q "	$f	.*$f: " hurt_check/quarantine.tsv || failed "$f is not named with its reason"
done
finish
