#!/usr/bin/env bash
# Damaged videos and skeletons, met by every command that reads them: exit code 3, a message that names the file,
# nothing half-written left behind; with on_bad_sample: skip every listed sample is accounted for.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$here/recipes.sh"

sample_set 48
teacher_recipe
student_recipe sfz-nano
sed -i '/^base/s/_ce_kd_feature/_ce/' student.yaml
accepted "$teacher" finetune --config teacher.yaml --out t --epochs 1 -q
accepted "$distill" train --config student.yaml --out d --epochs 1 -q

# ---- videos
# --------------------------------------------------------------------------------------------------------------
good=s/nturgb+d_rgb/S003C001P001R001A001_rgb.avi
mkdir v
size=$(wc -c <$good)
head -c $((size * 2 / 3)) $good >v/truncated.avi
: >v/empty.avi
head -c 4096 /dev/zero >v/zeros.avi
{ # a RIFF WAVE file: sound without pictures
    printf 'RIFF\x24\x10\x00\x00WAVEfmt '
    printf '\x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00data\x00\x10\x00\x00'
    head -c 4096 /dev/zero
} >v/audio.avi
cp $good v/billion.avi # total frames of the main header
at=$(grep -abo avih $good | head -1 | cut -d: -f1)
printf '\x00\xca\x9a\x3b' | dd of=v/billion.avi bs=1 seek=$((at + 24)) conv=notrunc status=none
at=$(grep -abo strh $good | head -1 | cut -d: -f1)
printf '\x00\xca\x9a\x3b' | dd of=v/billion.avi bs=1 seek=$((at + 40)) conv=notrunc status=none
cp $good v/flipped.avi # a quarter of the file, from the middle on
head -c $((size / 4)) /dev/zero | tr '\0' '\125' | dd of=v/flipped.avi bs=1 seek=$((size / 2)) conv=notrunc status=none

look="$teacher predict --weights t -q"
refused 3 'truncated\.avi: .*(truncated|holds|ends|cut or corrupt)' $look v/truncated.avi
refused 3 'empty\.avi: expected a video, found an empty file' $look v/empty.avi
refused 3 'zeros\.avi: ' $look v/zeros.avi
refused 3 'audio\.avi: expected a video stream, found none \(1 audio\)' $look v/audio.avi
refused 3 'billion\.avi: .*claims 1000000000 frames' $look v/billion.avi
refused 3 'flipped\.avi: ' $look v/flipped.avi
refused 3 'nowhere\.avi: ' $look v/nowhere.avi
refused 3 ': ' $look v
if command -v ffmpeg >/dev/null; then
    for n in 64x48 96x64; do
        ffmpeg -v error -f lavfi -i testsrc=size=$n:duration=1:rate=8 -c:v mjpeg -f mjpeg $n.mjpeg
    done
    cat 64x48.mjpeg 96x64.mjpeg >v/resized.avi
    refused 3 'resized\.avi: frame 8 is 96x64, the frames before are 64x48' $look v/resized.avi
    ffmpeg -v error -f lavfi -i testsrc=size=64x48:duration=1:rate=1 -frames:v 1 -c:v mjpeg v/one.avi
    accepted $look v/one.avi # one frame is a video: the clip repeats it
else
    say "no ffmpeg command: change of size and one frame are left to test_video"
fi

# In a data set: training stops and names it, or skips it when told so; nobody loses count.
cp -r s hurt
victim=hurt/nturgb+d_rgb/S003C001P001R001A004_rgb.avi # training half
cp v/truncated.avi $victim
judged=$(find hurt/nturgb+d_rgb -name '*P003*' | sort | head -1) # validation half
cp v/audio.avi "$judged"
refused 3 'S003C001P001R001A004' "$teacher" finetune --config teacher.yaml --data hurt --out bad -q
absent bad/report.json
accepted "$teacher" finetune --config teacher.yaml --data hurt --out skipped --epochs 1 --set data.on_bad_sample=skip
grep -q 'S003C001P001R001A004' err.txt || failed "skip: the skipped sample is not named"
grep -q '"type":"lost".*S003C001P001R001A004' skipped/log.jsonl ||
    failed "skip: the log does not list the skipped sample"
present skipped/report.json
grep -q '"type":"val".*"samples":23,"failed":1' skipped/log.jsonl ||
    failed "skip: the validation's count is not 23 + 1"
refused 3 "$(basename "$judged" _rgb.avi)" "$teacher" eval --weights t --data hurt --out eval.json -q
absent eval.json
accepted "$teacher" eval --weights t --data hurt --json --set data.on_bad_sample=skip --out eval.json
grep -q '"listed":24,"done":23,"failed":1' out.txt || { failed "eval: listed is not done + failed"; cat out.txt; }
refused 3 'S003C001P001R001A004' "$teacher" dump-logits --weights t --data hurt --out hurt.logits.zst -q
absent hurt.logits.zst
accepted "$teacher" dump-logits --weights t --data hurt --out part.logits.zst --set data.on_bad_sample=skip --json
accepted "$kd" logits verify part.logits.zst
"$kd" dataset check --data hurt --out checked -q >out.txt 2>err.txt
[ $? -eq 3 ] || failed "dataset check: exit code of a damaged data set"
[ "$(grep -c 'A004\|'"$(basename "$judged" _rgb.avi)" checked/quarantine.tsv)" -eq 2 ] ||
    { failed "dataset check: quarantine.tsv"; cat checked/quarantine.tsv; }

# ---- skeletons
# -----------------------------------------------------------------------------------------------------------
while IFS=$'\t' read -r name says; do
    [ "$name" != pickle.skeleton ] || says=truncated # predict reads pickles: as an archive this one is cut
    refused 3 "$name" "$distill" predict --weights d -q "$source/tests/refuse/skeleton/$name"
    grep -qF -- "$says" err.txt || { failed "$name: message does not say '$says'"; cat err.txt; }
done <"$source/tests/refuse/skeleton/EXPECT"
one=s/nturgb+d_skeletons/S003C001P001R001A001.skeleton
sed 's/$/\r/' $one >crlf.skeleton
accepted "$distill" predict --weights d -q crlf.skeleton
victim=hurt/nturgb+d_skeletons/S003C001P001R001A004.skeleton
cp "$source/tests/refuse/skeleton/nan.skeleton" $victim
refused 3 'S003C001P001R001A004.*29: joint 24' "$distill" train --config student.yaml --data hurt --out bad-d -q
absent bad-d/report.json
accepted "$distill" train --config student.yaml --data hurt --out skipped-d --epochs 1 --set data.on_bad_sample=skip
grep -q 'S003C001P001R001A004' err.txt || failed "skip: the skipped skeleton is not named"
cp "$source/tests/refuse/skeleton/joints_24.skeleton" "hurt/nturgb+d_skeletons/$(basename "$judged" _rgb.avi).skeleton"
refused 3 "$(basename "$judged" _rgb.avi)"'.*expected 25 joints' "$distill" eval --weights d --data hurt --out e.json -q
absent e.json
accepted "$distill" eval --weights d --data hurt --json --set data.on_bad_sample=skip
grep -q '"listed":24,"done":23,"failed":1' out.txt || failed "distill eval: listed is not done + failed"
finish
