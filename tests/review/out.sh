#!/usr/bin/env bash
# What --out names: never an input, nothing that is there without --force, regular files alone, asked before the work.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/setup.sh"

samples data
cat >t.yaml <<Y
base: $configs/teacher/tiny.yaml
data: {root: data, split: {by: subject, train: [1]}}
train: {epochs: 1, batch_size: 4, threads: 1, workers: 1}
eval: {clips: 1, crops: 1}
Y
short_student 1 >s.yaml
accepted "$teacher" finetune --config t.yaml --out t -q
accepted "$teacher" dump-logits --weights t --out s.logits.zst --split train -q
accepted "$distill" train --config s.yaml --out d -q

# kept FILE COMMAND...: the command is refused as a usage error, FILE is as it was.
kept() {
    local file=$1 pattern=$2
    shift 2
    cp -r "$file" kept.copy
    refused 2 "$pattern" "$@"
    diff -r "$file" kept.copy >/dev/null || failed "$file was changed by: $*"
    rm -rf kept.copy
}

# ---- an output never replaces an input, under whatever name
ln -s s.logits.zst link.logits.zst
ln s.logits.zst hard.logits.zst
for out in s.logits.zst ./s.logits.zst link.logits.zst hard.logits.zst; do
    kept s.logits.zst 'never replaces an input' "$kd" logits export s.logits.zst --out "$out" --force
    kept s.logits.zst 'never replaces an input' "$kd" logits merge s.logits.zst --out "$out" --force
done
[ -L link.logits.zst ] || failed "the link was replaced"
best=t/checkpoints/best/model.safetensors
kept $best 'never replaces an input' "$kd" weights convert t $best --force
kept $best 'never replaces an input' "$kd" weights convert $best $best --force
kept d 'never replaces an input' "$distill" eval --weights d --out d/checkpoints/best/model.safetensors --force -q
kept d 'never replaces an input' "$distill" eval --weights d --out d/config.yaml --force -q
kept s.yaml 'never replaces an input' "$distill" eval --weights d --config s.yaml --out s.yaml --force -q
video=$(find data -name '*.avi' | sort | sed -n 1p)
kept "$video" 'never replaces an input' "$teacher" eval --weights t --out "$video" --force -q
# a data set of links: its folders, or its files
mkdir -p linked/folders linked/files/nturgb+d_rgb
ln -s "$PWD"/data/* linked/folders && ln -s "$PWD"/data/nturgb+d_rgb/* linked/files/nturgb+d_rgb
for set in folders files; do
    kept "$video" 'never replaces an input' "$teacher" eval --weights t --data linked/$set --force -q \
        --out "linked/$set/nturgb+d_rgb/$(basename "$video")"
done
# lists, pictures, folders and the quarantine of a recipe, as they stand or below the data set
lists
mv L/t.csv L/t.lst && mkdir side L/clap/frames && printf 'no_sample\n' >side/q.list
echo picture >L/clap/frames/img_00001.jpg
cp -r data/nturgb+d_rgb side/rgb && cp "$video" side/rgb/clip.bin
reading=(--config lists.yaml --data L --set data.train_list=t.lst --set data.quarantine=side/q.list
    --set data.video_dir="$PWD/side/rgb" --weights t --force -q)
for file in L/t.lst L/v.csv L/clap/frames/img_00001.jpg side/q.list side/rgb/clip.bin; do
    kept $file 'never replaces an input' "$teacher" eval "${reading[@]}" --out $file
done
kept t 'never replaces an input' "$distill" compare t d --out t --force -q
kept d 'never replaces an input' "$distill" compare t d --out d --force -q
for out in data ./data/nturgb+d_rgb/..; do
    kept data 'never replaces an input' "$kd" dataset render --data data --out "$out" --force -q
    kept data 'never replaces an input' "$kd" dataset render data/nturgb+d_skeletons/*A001.skeleton --out "$out" \
        --force --videos-only -q
done
kept t 'which --force would replace' "$teacher" finetune --config t.yaml --weights t --out t --force -q

# ---- what is there is replaced with --force alone
cp s.yaml mine.txt
kept mine.txt 'mine.txt exists' "$distill" eval --weights d --out mine.txt -q
kept mine.txt 'mine.txt exists' "$kd" logits export s.logits.zst --out mine.txt
kept mine.txt 'mine.txt exists' "$kd" logits merge s.logits.zst --out mine.txt
kept mine.txt 'mine.txt exists' "$kd" weights convert t mine.txt
kept mine.txt 'mine.txt exists' "$teacher" dump-logits --weights t --out mine.txt -q
kept d/report.json 'exists' "$distill" eval --weights d --out d/report.json -q
mkdir there && echo mine | tee there/train.csv there/quarantine.tsv there/report.html >/dev/null
kept there 'quarantine.tsv exists' "$kd" dataset check --data data --out there -q
kept there 'train.csv exists' "$kd" dataset annotate --data data --out there -q
kept there 'report.html exists' "$distill" compare t d --out there -q
kept data 'holds this sample data set' "$kd" dataset sample --out data --clips 36 --replications 1 --cameras 1 \
    --size 64x48 -q
kept data 'exists: choose another name, go on with --resume' "$kd" dataset render --data data --out data -q
kept t 'already holds a run' "$teacher" finetune --config t.yaml --out t -q
refused 2 'one of the two' "$teacher" finetune --config t.yaml --out t --resume --force -q
accepted "$distill" eval --weights d --out mine.txt --force -q
grep -q '"top1"' mine.txt || failed "--force wrote no report"
accepted "$distill" eval --weights d --out d/report.json --force -q
accepted "$kd" dataset check --data data --out there --force -q
accepted "$kd" dataset annotate --data data --split s.yaml --out there --force
accepted "$distill" compare t d --out there --force -q
accepted "$kd" logits merge s.logits.zst --out m.logits.zst
accepted "$kd" logits merge s.logits.zst --out m.logits.zst --force
same_file m.logits.zst s.logits.zst
accepted "$teacher" dump-logits --weights t --out s2.logits.zst --split train -q
accepted "$teacher" dump-logits --weights t --out s2.logits.zst --split train --force -q
same_file s2.logits.zst s.logits.zst

# ---- a name that promises a file of another kind
for out in x.csv x.zst x; do
    refused 2 "$out: expected a name ending in .npz" "$kd" logits export s.logits.zst --out $out
    absent $out
done
for out in x.npz x.NPY x.json x.csv x.pth x.safetensors; do
    refused 2 "$out: expected the name of a logit store" "$kd" logits merge s.logits.zst --out $out
    refused 2 "$out: expected the name of a logit store" "$teacher" dump-logits --weights t --out $out -q
    absent $out
done

# ---- a failure names the file that was asked for, not a temporary one
refused 1 'merge: full.logits.zst: cannot write: File too large' \
    bash -c 'ulimit -f 1 && exec "$0" "$@"' "$kd" logits merge s.logits.zst --out full.logits.zst
absent full.logits.zst

# ---- a link stays a link, its file is written
echo old >real.json && ln -s real.json link.json
kept real.json 'exists' "$distill" eval --weights d --out link.json -q
accepted "$distill" eval --weights d --out link.json --force -q
[ -L link.json ] || failed "link.json was replaced by a file"
grep -q '"top1"' real.json || failed "the file behind link.json was not written"
ln -s nowhere dangling.json
refused 2 'leads to no file' "$distill" eval --weights d --out dangling.json -q

# ---- no place for a file: pipes, sockets, devices, directories, an empty name
# The devices of the machine are named only by a user who could not harm them if the rule broke.
mkfifo pipe
mkdir -p dir
devices=/proc/self/fd/1
if [ "$(id -u)" -ne 0 ]; then
    devices="$devices /dev/null /dev/stdout /dev/full"
elif mknod char c 1 3 2>err.txt; then
    devices="$devices char"
fi
for out in pipe dir dir/ new/ $devices; do
    for force in '' --force; do
        refused 2 "$out: expected" "$distill" eval --weights d --out $out $force -q
        refused 2 "$out: expected" "$kd" logits export s.logits.zst --out $out $force
        refused 2 "$out: expected" "$kd" weights convert t $out $force
        refused 2 "$out: expected" "$teacher" dump-logits --weights t --out $out $force -q
    done
done
[ -p pipe ] || failed "the pipe is gone"
[ ! -e char ] || [ -c char ] || failed "the device is gone"
refused 2 'expected PATH' "$distill" eval --weights d --out '' -q
for out in mine.txt pipe; do
    refused 2 "$out: expected a directory" "$distill" train --config s.yaml --out $out -q
    refused 2 "$out: expected a directory" "$kd" dataset check --data data --out $out -q
    refused 2 "$out: expected a directory" "$distill" compare t d --out $out -q
done
refused 2 'expected a directory' "$distill" eval --weights d --out mine.txt/report.json -q

# ---- asked before the work: the data set is not even looked at
refused 2 'mine.txt exists' "$distill" eval --weights d --data nowhere --out mine.txt -q
refused 2 'quarantine.tsv exists' "$kd" dataset check --data nowhere --out there -q
refused 2 'there/report.[a-z]* exists' "$distill" compare nowhere.json neither.json --out there -q
refused '[12]' '/proc/[^ ]*: ' "$distill" eval --weights d --data nowhere --out /proc/x/report.json -q
refused 2 'expected the name of a file' "$distill" compare t d --out /proc/report -q
accepted "$distill" eval --weights d --out deep/er/report.json -q

# ---- a directory of somebody else is never taken over
for force in '' --resume --force; do
    rm -rf fd && mkdir -p fd/checkpoints/last
    for f in config.yaml log.jsonl report.json checkpoints/last/mine.txt; do echo "mine: 1" >fd/$f; done
    kept fd 'somebody else' "$distill" train --config s.yaml --out fd $force -q
    rm fd/config.yaml
    kept fd 'expected the config.yaml' "$distill" train --config s.yaml --out fd $force -q
    rm -rf fd && mkdir fd && echo mine >fd/notes.txt
    kept fd 'somebody else' "$distill" train --config s.yaml --out fd $force -q
    rm -rf fd && mkdir fd && cp s.yaml fd/config.yaml
    kept fd 'somebody else|would replace' "$distill" train --config fd/config.yaml --out fd $force -q
    rm -rf gone && cp -r d gone && rm gone/config.yaml
    kept gone 'expected the config.yaml' "$distill" train --config s.yaml --out gone $force -q
done
mkdir foreign && echo mine >foreign/notes.txt
kept foreign 'is not empty' "$kd" dataset sample --out foreign --clips 2 -q

# ---- a run that is replaced stays until the new one can start; what is not of a run stays altogether
cp -r d again && echo mine >again/notes.txt && rm -rf d.copy && cp -r again d.copy
refused 3 'nowhere' "$distill" train --config s.yaml --data nowhere --out again --force -q
for f in config.yaml log.jsonl checkpoints/last/model.safetensors report.json; do same_file again/$f d.copy/$f; done
accepted "$distill" train --config s.yaml --seed 3 --out again --force -q
present again/notes.txt
grep -q 'seed: 3' again/config.yaml || failed "--force: the recipe is the old one"
[ "$(grep -c '"type":"epoch"' again/log.jsonl)" -eq 1 ] || failed "--force: the log goes on with the old one"
cmp -s again/checkpoints/last/model.safetensors d/checkpoints/last/model.safetensors && failed "--force: old weights"

# ---- somebody's files beside the outputs: temporary names of old and of others
for f in r.json.tmp u/lock u/log.jsonl.tmp d.tmp; do mkdir -p "$(dirname "$f")" && echo mine >"$f"; done
accepted "$distill" eval --weights d --out r.json -q
ln -s ../mine.txt u/link && rm -rf u && mkdir u && ln -s ../mine.txt u/lock
cp mine.txt mine.copy
refused '[12]' 'lock' "$distill" train --config s.yaml --out u -q
same_file mine.txt mine.copy
[ "$(cat r.json.tmp)" = mine ] || failed "r.json.tmp was taken for ours"
echo mine >p.logits.zst.part
kept p.logits.zst.part 'unfinished store' "$teacher" dump-logits --weights t --out p.logits.zst -q
refused 1 'p.logits.zst.part: expected the unfinished part' "$teacher" dump-logits --weights t --out p.logits.zst \
    --force -q
[ "$(cat p.logits.zst.part)" = mine ] || failed "p.logits.zst.part was taken for ours"
rm p.logits.zst.part && echo mine >p.logits.zst.part.tail
refused 1 'p.logits.zst.part.tail: expected the unfinished part' "$teacher" dump-logits --weights t \
    --out p.logits.zst -q
[ "$(cat p.logits.zst.part.tail)" = mine ] || failed "p.logits.zst.part.tail was taken for ours"
[ -z "$(find . -name '*-*-*.tmp')" ] || failed "temporary files stay: $(find . -name '*-*-*.tmp')"
finish
