#!/usr/bin/env bash
# kd dataset pack: videos written anew stand in the place of the data set's own, and every artefact says so.
. "$(dirname "$0")/setup.sh"
samples data
lists
tiny=(--config lists.yaml --data L --threads 1 --workers 1 -q)
pack=("$kd" dataset pack --data L --workers 1 -q)
accepted "$teacher" finetune "${tiny[@]}" --out first
eval_on() { accepted "$teacher" eval "${tiny[@]}" --weights first --set train.batch_size=4 --out "$1" "${@:2}"; }

# Raw frames of the source's size are the source's frames: every logit is the same.
accepted "${pack[@]}" --out raw --codec raw
eval_on plain.json
eval_on raw.json --set data.video_dir="$PWD/raw"
logits() { grep -o '"logits": \[[^]]*\]' "$1"; }
[ -n "$(logits plain.json)" ] || logits() { grep -A3 '"logits' "$1"; }
[ -n "$(logits plain.json)" ] && [ "$(logits plain.json)" = "$(logits raw.json)" ] || failed "raw pack: other logits"
hash=$(sed -n 's/.*"sha256": "\([0-9a-f]*\)".*/\1/p' raw/pack.json)
grep -q "pack $hash" raw.json || failed "the report does not name the pack"
grep -q 'pack [0-9a-f]' plain.json && failed "a pack that is not there is named"

# H.264 at half the size: the same number of frames each; the checkpoint, the store and a resume know the pack.
accepted "${pack[@]}" --out small --short-side 32
[ "$(awk 'NR > 1 {print $4}' small/pack.tsv | sort -u)" = 32 ] || failed "heights: $(cat small/pack.tsv)"
[ "$(cut -f1,2 small/pack.tsv)" = "$(cut -f1,2 raw/pack.tsv)" ] || failed "other paths or numbers of frames"
cmp -s small/pack.json raw/pack.json && failed "two recipes, one head"
run=("$teacher" finetune "${tiny[@]}" --out run)
accepted "${run[@]}" --set data.video_dir="$PWD/small"
grep -q '"pack": "[0-9a-f]\{64\}"' run/checkpoints/last/state.json || failed "the checkpoint does not name the pack"
refused 3 'videos of the pack [0-9a-f]* then, of the pack [0-9a-f]* now' "${run[@]}" --resume --epochs 2 \
    --set data.video_dir="$PWD/raw"
accepted "$teacher" dump-logits --config lists.yaml --data L --weights run --split val --out s.logits.zst -q \
    --set data.video_dir="$PWD/small"
"$kd" logits info s.logits.zst | grep -q '; pack [0-9a-f]' || failed "the store does not name the pack"

# Going on: what is there stays, what changed in the source is made anew, an unfinished pack is not read.
accepted "${pack[@]}" --out small --short-side 32 --resume --json
grep -q '"made":0' out.txt || failed "made again: $(cat out.txt)"
cp L/wave/v_wave_g02_c01.avi L/wave/v_wave_g01_c01.avi
(sed 1d small/pack.tsv && printf 'clap/v_cl') >small/pack.part && rm small/pack.tsv
refused 1 'the pack is not finished' "$teacher" eval "${tiny[@]}" --weights first --out x.json \
    --set data.video_dir="$PWD/small"
accepted "${pack[@]}" --out small --short-side 32 --resume --json
grep -q '"made":1,' out.txt || failed "one source changed: $(cat out.txt)"
[ ! -e small/pack.part ] || failed "pack.part is left"
refused 2 'holds this pack already' "${pack[@]}" --out small --short-side 32
refused 2 'a pack of another recipe' "${pack[@]}" --out small --short-side 48 --resume
mkdir mine && echo x >mine/thesis.txt
refused 2 'is not empty and holds no pack' "${pack[@]}" --out mine
sed -i 's/"short_side": 32/"short_side": 33/' small/pack.json
refused 3 'it was changed' "$teacher" eval "${tiny[@]}" --weights first --out x.json --set data.video_dir="$PWD/small"

# A damaged source is named and not in the pack; runs treat the sample as one without a video.
head -c 3000 L/clap/v_clap_g05_c01.avi >half && mv half L/clap/v_clap_g05_c01.avi
"${pack[@]}" --out part >out.txt 2>err.txt
[ $? -eq 3 ] || failed "exit code with a damaged source"
grep -q 'v_clap_g05_c01.avi: ' err.txt || failed "not named: $(cat err.txt)"
[ "$(wc -l <part/pack.tsv)" -eq 12 ] || failed "rows: $(cat part/pack.tsv)"
refused 3 'v_clap_g05_c01' "$teacher" eval "${tiny[@]}" --weights first --out y.json --set data.video_dir="$PWD/part"
eval_on y.json --set data.video_dir="$PWD/part" --set data.on_bad_sample=skip
grep -q 'v_clap_g05_c01' y.json || failed "the report does not name the sample left out"

# Sources are never written to, whatever the spelling of their folder, and a pack under either spelling is read.
mkdir src && cp L/wave/*.avi src
md5sum src/* >src.md5
for dir in "$PWD/src//" ../src//; do
    rm -rf slash
    accepted "$kd" dataset pack --data L --video-dir "$dir" --out slash -q --workers 1 --limit 2
    md5sum -c --quiet src.md5 >/dev/null 2>&1 || failed "--video-dir $dir: the sources were written to"
    present slash/v_wave_g01_c01.avi
    cut -f1 slash/pack.tsv | grep -q / && failed "--video-dir $dir: $(cat slash/pack.tsv)"
done
eval_on slashes.json --set data.video_dir="$PWD/raw//"

rm slash/v_wave_g01_c01.avi && ln -s ../src/v_wave_g01_c01.avi slash/
refused 2 'slash/v_wave_g01_c01.avi: a link leads to the source src/v_wave' "$kd" dataset pack --data src --out slash \
    --force -q --workers 1 --limit 1
md5sum -c --quiet src.md5 >/dev/null 2>&1 || failed "a link of the pack: the source was written to"

# --limit packs the first ones and takes nothing away; another data set's pack is not taken over.
more=("$kd" dataset pack --data src --workers 1 -q --codec raw --out more)
accepted "${more[@]}" --limit 2
accepted "${more[@]}" --resume
cp more/pack.tsv all.tsv
accepted "${more[@]}" --resume --limit 2
same_file all.tsv more/pack.tsv
refused 2 'the pack of another data set, with v_wave_g01_c01.avi, and nothing of L' "${pack[@]}" --codec raw \
    --out more --resume
same_file all.tsv more/pack.tsv
rm src/v_wave_g03_c01.avi
accepted "${more[@]/-q/-v}" --resume
grep -q '1 videos of the pack are not in the data set any more and leave it, the first: v_wave_g03' err.txt ||
    failed "not named: $(cat err.txt)"

# A pack made again holds its own files alone; one of a pack says so; its videos are read as those of a pack only.
accepted "$kd" dataset pack --data data --out again -q --limit 8 --short-side 40
accepted "$kd" dataset pack --data data --out again -q --limit 5 --short-side 32 --force
[ "$(ls again/nturgb+d_rgb | wc -l)" -eq 5 ] || failed "5 videos, but the pack holds $(ls again/nturgb+d_rgb)"
accepted "$kd" dataset pack --data again --out twice -q --short-side 32
grep -q '"source_pack": "[0-9a-f]\{64\}"' twice/pack.json || failed "the pack of a pack is as one of the originals"
tiny=(--config "$configs/teacher/tiny.yaml" --set 'data.split={by: subject, train: [1]}' --dry-run -q --out no)
refused 2 "data.root: $work/again is a pack of .*; name the pack itself, data.video_dir: $work/again" \
    "$teacher" finetune "${tiny[@]}" --data "$work/again"
refused 2 "data.video_dir: .*/again/nturgb.d_rgb is inside of a pack of" \
    "$teacher" finetune "${tiny[@]}" --data data --set "data.video_dir=$work/again/nturgb+d_rgb"

# A refused folder gets no file; a pack among the videos would be found as videos.
[ "$(ls mine)" = thesis.txt ] || failed "left behind: $(ls mine)"
refused 2 'src/pack: lies in src, where the data set' "$kd" dataset pack --data src --out src/pack -q
absent src/pack
accepted "$kd" dataset pack --data data --out data/pack -q --limit 1
refused 2 'lies in data/nturgb.d_rgb' "$kd" dataset pack --data data --out data/nturgb+d_rgb/pack -q --limit 1
refused 2 'gop: says nothing of mjpeg' "${pack[@]}" --out no --codec mjpeg --gop 4
refused 2 'quality: raw frames are not compressed' "${pack[@]}" --out no --codec raw --quality 4
absent no
finish
