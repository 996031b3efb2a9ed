#!/usr/bin/env bash
# Listed samples whose files are absent: refused with the number, the first ids and the paths that were tried, or left
# out and named; in both halves alike.
. "$(dirname "$0")/setup.sh"
samples data
lists
run=("$teacher" finetune --config lists.yaml --data L --dry-run)
skip=(--set data.on_bad_sample=skip)

accepted "${run[@]}"
grep -q 'train: 8 samples of 8 listed.*left out: nothing' err.txt out.txt || failed "a sound list is not whole"

echo "wave/v_wave_g99_c01.avi 0" >>L/t.csv
refused 3 'training half: of 9 listed samples: 1 no video .*v_wave_g99_c01 \(tried .*L/wave/v_wave_g99.*avi\)' \
    "${run[@]}" -q
accepted "${run[@]}" "${skip[@]}"
grep -q 'left out of 9 listed samples: 1 no video: v_wave_g99_c01' err.txt || failed "skip does not name the sample"
grep -q 'train: 8 samples of 9 listed.*left out: 1 no video' err.txt out.txt || failed "skip does not count the sample"

lists # frames that a list says are those of the video
sed -i 's/ / 999 /' L/t.csv
refused 3 '8 damaged files, named in q/quarantine.tsv' "$kd" dataset check --config lists.yaml --data L --out q -q
grep -q 'the list says 999 frames, the video holds [0-9]' q/quarantine.tsv || failed "check: $(cat q/quarantine.tsv)"

lists # half of the list
sed -i 's#^wave/#wawe/#' L/t.csv
refused 3 '4 no video.*wawe/v_wave_g01_c01.avi.* and 1 more' "${run[@]}" -q
accepted "${run[@]}" "${skip[@]}"

lists # the validation half
echo "clap/none.avi 1" >>L/v.csv
refused 3 'validation half: of 5 listed samples: 1 no video.*clap/none.avi' "${run[@]}" -q

lists # all of them
sed -i 's#^#/mnt/old/#' L/t.csv
refused 3 '8 no video.*tried /mnt/old/clap/v_clap_g01_c01.avi' "${run[@]}" -q
refused 3 'L: the training half is empty.*8 no video, tried /mnt/old/' "${run[@]}" "${skip[@]}" -q

lists # a sample behind the limit is not asked for
echo "wave/zz.avi 0" >>L/t.csv
accepted "${run[@]}" --limit 4

# Without lists the samples are what is found: one that lacks a needed file is left out and told in the same words.
rm "$(find data/nturgb+d_skeletons -name '*.skeleton' | sort | head -1)"
accepted "$distill" train --config "$configs/distill/ce.yaml" --config "$configs/student/sfz-nano.yaml" --data data \
    --set 'data.split={by: subject, train: [1, 2]}' --set train.batch_size=4 --dry-run
grep -q 'left out of 24 listed samples: 1 no skeleton: S.* (tried .*data/nturgb+d_skeletons/S.*\.skeleton)' err.txt ||
    failed "a recording without a skeleton is not named"
grep -q 'train: 23 samples of 24 listed.*left out: 1 no skeleton' err.txt out.txt || failed "nor counted"

finish
