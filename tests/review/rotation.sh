#!/usr/bin/env bash
# Clips with a rotation tag are turned, which is said once and counted.
. "$(dirname "$0")/setup.sh"
make=$build/tests/make_media
[ -x "$make" ] || exit 77
tiny="--config $configs/teacher/tiny.yaml --weights $configs/teacher/tiny_pretrained.safetensors --top 3"
mkdir d
for turn in 0 90 180 270; do
    "$make" rotated d/r$turn.mp4 $turn
done
answer() { sed -n '/^ *1\./,$p' out.txt; }
for turn in 0 90 180 270; do
    accepted "$teacher" predict $tiny d/r$turn.mp4
    answer >p$turn
    if [ $turn = 0 ]; then
        grep -q rotated err.txt && failed "an upright clip is said to be turned"
    else
        grep -q "d/r$turn.mp4: rotated by $turn degrees as its tag says" err.txt || failed "r$turn: $(cat err.txt)"
        cmp -s p0 p$turn && failed "the tag of $turn degrees changes nothing"
    fi
done
accepted "$teacher" predict $tiny d/r90.mp4 d/r180.mp4 d/r270.mp4
[ "$(grep -c 'rotated by' err.txt)" = 1 ] || failed "said $(grep -c 'rotated by' err.txt) times, expected once"
accepted "$kd" dataset check --data d --out q
grep -q '3 videos rotated as their tags say' out.txt || failed "check: $(cat out.txt)"
accepted "$kd" dataset check --data d --out q --force --json
grep -q '"rotated": 3' out.txt || failed "check --json: $(cat out.txt)"
finish
