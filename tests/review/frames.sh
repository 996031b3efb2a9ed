#!/usr/bin/env bash
# A folder of numbered pictures is a video.
. "$(dirname "$0")/setup.sh"
make=$build/tests/make_media
[ -x "$make" ] || exit 77
tiny="--config $configs/teacher/tiny.yaml --weights $configs/teacher/tiny_pretrained.safetensors"
"$make" frames f/v1 40
accepted "$teacher" predict $tiny f/v1
grep -q '^f/v1 ' out.txt || failed "predict: $(cat out.txt)"
"$make" frames f/v2 40
rm f/v2/img_00007.png
refused 3 'f/v2: picture 7 is missing: img_00006.png is followed by img_00008.png' "$teacher" predict $tiny f/v2
"$make" frames f/v3 40
mv f/v3/img_00040.png f/v3/img_00040.jpg
refused 3 'expected pictures of one name and ending' "$teacher" predict $tiny f/v3
"$make" frames f/v4 40
echo oops >f/v4/img_00040.png
refused 3 'f/v4/img_00040.png: expected png, found something else' "$teacher" predict $tiny f/v4
mkdir f/v5
refused 3 'f/v5: .*a folder without pictures' "$teacher" predict $tiny f/v5
finish
