#!/usr/bin/env bash
# --resume goes on with the same run or refuses and says what is different: recipe, data, labels, stores, weights.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/setup.sh"
student="--config $configs/student/last-e3-nano.yaml --config $configs/distill/ce_kd.yaml --set skeleton.frames=16
    --set data.split.by=subject --set data.split.train=[1,2] --set data.num_classes=12 --set optim.warmup_epochs=0
    --set optim.base_lr=0.01 --batch-size 8 --threads 1 -q"

samples data
# shellcheck disable=SC2086
accepted "$teacher" dump-logits --config "$configs/teacher/tiny.yaml" --data data --set 'data.split.train=[1,2]' \
    --weights "$configs/teacher/tiny_pretrained.safetensors" --split train --out a.logits.zst --threads 1 -q
accepted "$teacher" dump-logits --config "$configs/teacher/tiny.yaml" --data data --set 'data.split.train=[1,2]' \
    --weights "$configs/teacher/tiny_pretrained.safetensors" --split train --views 2x1 --out b.logits.zst --threads 1 -q

# shellcheck disable=SC2086
train() { "$distill" train $student "$@"; }

accepted train --data data --teacher-logits a.logits.zst --epochs 2 --out kd
accepted train --data data --epochs 2 --out ce

# the run as it was
same() { cp -r kd "$1" && cp -r kd/checkpoints/last "$1-last"; }
unharmed() { cmp -s kd/config.yaml "$1/config.yaml" && cmp -s kd/checkpoints/last/state.json \
    "$1/checkpoints/last/state.json" || failed "$1 was changed by a refused resume"; }

# teachers: none, one where there was none, another
same t
refused 3 'the run has a teacher .*; give --teacher-logits' train --data data --epochs 4 --out t --resume
unharmed t
refused 3 'the run has no teacher' train --data data --teacher-logits a.logits.zst --epochs 4 --out ce --resume
refused 3 'store 1 of 1: sha256 [0-9a-f]{12} then' train --data data --teacher-logits b.logits.zst --epochs 4 --out t \
    --resume
unharmed t
cp a.logits.zst renamed.logits.zst
accepted train --data data --teacher-logits renamed.logits.zst --epochs 3 --out t --resume # the content counts
[ "$(grep -c '"type":"epoch"' t/log.jsonl)" -eq 3 ] || failed "not 3 epochs in t"

# two teachers: both teach, in their order
accepted train --data data --teacher-logits a.logits.zst --teacher-logits b.logits.zst --epochs 1 --out two
[ "$(grep -o 'sha256[^,]*' two/checkpoints/last/state.json | sort -u | wc -l)" -eq 2 ] || failed "a teacher is dropped"
refused 3 'store 1 of 2: sha256' train --data data --teacher-logits b.logits.zst --teacher-logits a.logits.zst \
    --epochs 2 --out two --resume
refused 3 'stores of teachers: 2 then, 1 now' \
    train --data data --teacher-logits a.logits.zst --epochs 2 --out two --resume

# the hash of a recipe knows the stores
hash() { sed -n 's/.*"config_hash": "\([0-9a-f]*\)".*/\1/p' "$1/checkpoints/last/state.json"; }
[ "$(hash kd)" != "$(hash ce)" ] || failed "a run with a teacher and one without share a recipe hash"

# the recipe is that of the checkpoint, whatever became of config.yaml
same e
sed -i 's/base_lr: .*/base_lr: 0.02/' e/config.yaml
refused 2 'optim.base_lr: 0.01 then, 0.02 now' "$distill" train --config e/config.yaml --epochs 4 --out e --resume -q
accepted train --data data --teacher-logits a.logits.zst --epochs 3 --out e --resume
grep -q 'base_lr: 0.01$' e/config.yaml || failed "config.yaml is not that of the run again"

# data: a sample gone, one more, labels swapped, another data set, other classes
f=$(basename "$(find data/nturgb+d_skeletons -name '*P001*' | sort | head -1)")
cp -r data less && rm "less/nturgb+d_skeletons/$f" "less/nturgb+d_rgb/${f%.skeleton}_rgb.avi"
mkdir set && mv less set/data
refused 3 "training half: 24 samples then, 23 now; 1 gone \(${f%.skeleton}\)" \
    train --data set/data --teacher-logits a.logits.zst --epochs 4 --out kd --resume
cp -r data more && mkdir other && mv more other/data
cp "other/data/nturgb+d_skeletons/$f" "other/data/nturgb+d_skeletons/${f/R001/R002}"
refused 3 "1 new \\(S[0-9]{3}C001P001R002" train --data other/data --epochs 4 --out ce --resume
mkdir foreign && cp -r data foreign/data
for k in foreign/data/nturgb+d_skeletons/*; do mv "$k" "${k/R001/R002}"; done
refused 3 '24 gone' train --data foreign/data --epochs 4 --out ce --resume
mkdir swapped && cp -r data swapped/data
mapfile -t k < <(find swapped/data/nturgb+d_skeletons -type f | sort)
cp "${k[1]}" "${k[0]}"
refused 3 "1 of another size \\($(basename "${k[0]}" .skeleton)" train --data swapped/data --epochs 4 --out ce --resume
mkdir renamed && cp -r data renamed/elsewhere
refused 3 "data set: 'data' then, 'elsewhere' now" train --data renamed/elsewhere --epochs 4 --out ce --resume
mkdir sorted && cp -r data sorted/data && sort -r data/classes.txt >sorted/data/classes.txt
refused 3 'class names or their order' train --data sorted/data --epochs 4 --out ce --resume

lists
fit() { "$teacher" finetune --config lists.yaml --data L --threads 1 -q "$@"; }
accepted fit --out l
cp L/t.csv keep.csv
sed -i '1s/0$/1/' L/t.csv
refused 3 '1 with another label \(v_wave_g01_c01: 0 then, 1 now\)' fit --out l --epochs 2 --resume
awk '{print $1" "1-$2}' keep.csv >L/t.csv
cp L/v.csv keep_v.csv && awk '{print $1" "1-$2}' keep_v.csv >L/v.csv
refused 3 '8 with another label' fit --out l --epochs 2 --resume
cp keep.csv L/t.csv && cp keep_v.csv L/v.csv
accepted fit --out l --epochs 2 --resume

# weights
start=$configs/teacher/tiny_pretrained.safetensors
tune() { "$teacher" finetune --config "$configs/teacher/tiny.yaml" --data data --set data.split.train=[1,2] \
    --threads 1 --limit 16 --set optim.base_lr=1e-5 -q "$@"; }
accepted tune --weights "$start" --epochs 1 --out w
accepted tune --epochs 1 --out r
refused 2 'began with random weights' tune --weights "$start" --epochs 2 --out r --resume
refused 2 'began with weights of sha256' tune --weights r --epochs 2 --out w --resume
cp "$start" copy.safetensors
accepted tune --weights copy.safetensors --epochs 2 --out w --resume
rm copy.safetensors
accepted tune --weights copy.safetensors --epochs 3 --out w --resume # not needed any more

# more epochs, also where the warm-up had been cut to the length of the run
accepted train --data data --set optim.warmup_epochs=10 --epochs 1 --out long
accepted train --data data --set optim.warmup_epochs=10 --epochs 3 --out long --resume
[ "$(grep -c '"type":"epoch"' long/log.jsonl)" -eq 3 ] || failed "not 3 epochs in long"

# fewer epochs than the run has; a new directory; lost checkpoints
refused 2 'train.epochs: 2 then, 1 now' train --data data --teacher-logits a.logits.zst --epochs 1 --out kd --resume
"$distill" train ${student/-q/} --data data --epochs 1 --out new --resume 2>err.txt >out.txt || failed "new: $?"
grep -q 'new holds no run yet: --resume starts one' err.txt || failed "a resume in a new directory says nothing"
cp -r kd gone && rm -r gone/checkpoints/last gone/checkpoints/last.prev
refused 3 'expected checkpoints/last, found a log.jsonl without it' \
    train --data data --teacher-logits a.logits.zst --epochs 4 --out gone --resume
cp -r kd state && rm state/checkpoints/last/state.json && rm -r state/checkpoints/last.prev
refused 3 'state.json' train --data data --teacher-logits a.logits.zst --epochs 4 --out state --resume
cp -r kd bare && rm bare/config.yaml
refused 2 'config.yaml' train --data data --teacher-logits a.logits.zst --epochs 4 --out bare --resume

# a run that its data ended before the first batch leaves the folder free
cp L/t.csv keep.csv
sed -i 's/ \([01]\)$/ 3 \1/' L/t.csv
refused 3 'the list says 3 frames' fit --out early
cp keep.csv L/t.csv
accepted fit --out early

# no other checkpoint than the one that was meant
cp -r kd nobest && rm -r nobest/checkpoints/best
refused 3 'checkpoints/best is gone' "$distill" eval --weights nobest --data data -q
cp -r kd cutbest && rm cutbest/checkpoints/best/state.json
refused 3 'best/state.json' "$distill" eval --weights cutbest --data data -q

# a run is understood from everywhere: its recipe names its data by an absolute path
(cd / && "$distill" eval --weights "$work/kd" -q) >out.txt 2>err.txt || failed "eval from elsewhere: $(cat err.txt)"

# a dry run says what it would go on from, and leaves the run as it is
"$distill" train ${student/-q/} --data data --teacher-logits a.logits.zst --epochs 2 --out kd --resume --dry-run \
    >out.txt 2>err.txt || failed "dry run: $?"
grep -q 'would resume from kd/checkpoints/last' err.txt || failed "a dry run with --resume does not say from where"
refused 3 '24 gone' train --data foreign/data --epochs 2 --out ce --resume --dry-run
finish
