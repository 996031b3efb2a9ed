#!/usr/bin/env bash
# From scan to report as people walk: another working directory in between, commands given twice, and words and figures
# that agree from one step to the next.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/setup.sh"
says() { grep -Eq -- "$1" "$2" || { failed "expected '$1' in $2"; cat "$2"; }; }

samples data
lists

# A run over lists is understood from everywhere; its lists may be named by another path.
mv L/t.csv t.csv # found as it stands; L/v.csv below the root
accepted "$teacher" finetune --config lists.yaml --data L --out runs/t --threads 1 -q
mkdir elsewhere
cd elsewhere || exit 1
accepted "$teacher" eval --weights ../runs/t --split train --threads 1
says '8 samples listed: 8 done' out.txt
cd ..
ln -s t.csv renamed.csv
accepted "$teacher" finetune --config lists.yaml --data L --out runs/t --threads 1 \
    --resume --set data.train_list=renamed.csv
says 'runs/t/checkpoints/last: all 1 epochs are done; --epochs N' err.txt
sed '1d' t.csv >fewer.csv # other contents are another run
refused 3 'training half: 8 samples then, 7 now' "$teacher" finetune --config lists.yaml --data L --out runs/t \
    --threads 1 --resume --set data.train_list=fewer.csv -q
hash() { sed -n 's/.*"config_hash": "\([0-9a-f]*\)".*/\1/p' "$1/checkpoints/last/state.json"; }
accepted "$teacher" finetune --config lists.yaml --data L --out runs/same --threads 1 -q \
    --set data.train_list=renamed.csv
[ "$(hash runs/t)" = "$(hash runs/same)" ] || failed "the path of a list is in the recipe's hash"
accepted "$teacher" finetune --config lists.yaml --data L --out runs/fewer --threads 1 -q \
    --set data.train_list=fewer.csv
[ "$(hash runs/t)" != "$(hash runs/fewer)" ] || failed "runs over other lists share a recipe hash"

# Machines read one key of every line, and count epochs as the lines do.
accepted "$teacher" finetune --config lists.yaml --data L --out runs/json --threads 1 --json
says '^\{"type": "done", "phase": "epoch 1/1", ' out.txt
says '^\{"type":"result","epochs":1,.*"best_epoch":1,' out.txt
typed() { [ "$(grep -c '^{"type": *"' out.txt)" -eq "$(wc -l <out.txt)" ] || failed "a line without its type: $*"; }
for command in 'check --data L' 'render --data data --limit 1 --out drawn' 'annotate --data data --out lists' \
    'sample --clips 1 --size 64x48 --out one-clip'; do
    # shellcheck disable=SC2086
    accepted "$kd" dataset $command --json
    typed "$command"
done

# What a store holds is told alike by dump-logits, its repetition and `kd logits info`.
dump="$teacher dump-logits --weights runs/t --split train --out t.logits.zst --threads 1"
accepted $dump --dry-run
says 'dry run: nothing was dumped or written' err.txt
absent t.logits.zst
accepted $dump
top1=$(sed -n 's/^top-1 on the training half: //p' out.txt)
accepted $dump --resume
says "^top-1 on the training half: $top1\$" out.txt
says ' 8 of 8 samples, 0 failed' err.txt
accepted "$kd" logits info t.logits.zst
says "^accuracy +top-1 $top1," out.txt
refused 3 '--resume expects what the store began with: views: "1x1" then, "2x1" now' $dump --views 2x1 --resume -q
refused 2 'train.seed: 0 then, 5 now; give that, or another --out' "$teacher" finetune --config lists.yaml --data L \
    --out runs/t --seed 5 --resume -q

refused 3 'nothere.zst: expected a logit store' "$kd" logits verify nothere.zst
says '^nothere.zst: UNREADABLE, ' out.txt
cp t.logits.zst bad.logits.zst && flip bad.logits.zst $(($(stat -c %s bad.logits.zst) * 6 / 10))
refused 4 'bad.logits.zst: [0-9]+ fault' "$kd" logits verify bad.logits.zst
says '^bad.logits.zst: DAMAGED, ' out.txt

# A student and its teacher: other classes, another split; splits by many subjects differ somewhere behind.
student=("$distill" train --config "$configs/student/last-e3-nano.yaml" --config "$configs/distill/ce_kd.yaml"
    --set skeleton.frames=16 --data data --epochs 1 --batch-size 8 --threads 1)
many=$(seq -s, 1000 1200)
by() { echo "--set data.split.by=subject --set data.split.train=[1,2,$1]"; }
# shellcheck disable=SC2046
accepted "$teacher" dump-logits --config "$configs/teacher/tiny.yaml" --data data $(by "$many") --threads 1 \
    --weights "$configs/teacher/tiny_pretrained.safetensors" --split train --out many.logits.zst -q
# shellcheck disable=SC2046
refused 3 "expected the split of the data set, '...1200,1300 val=others', found '...1200 val=others'" \
    "${student[@]}" $(by "$many,1300") --teacher-logits many.logits.zst --out runs/s -q
refused 3 'expected the 60 classes of the data set, found 12: .*data.num_classes' "${student[@]}" \
    --teacher-logits many.logits.zst --out runs/s -q
# shellcheck disable=SC2046
accepted "${student[@]}" $(by "$many") --teacher-logits many.logits.zst --out runs/s --dry-run
says 'split subject train=1,2,1000-1200 val=others, 12 classes' err.txt

# A file that is damaged between two steps.
cp -r L damaged && head -c 300 L/wave/v_wave_g05_c01.avi >damaged/wave/v_wave_g05_c01.avi
refused 3 'v_wave_g05_c01: .*\(data.on_bad_sample: skip leaves it out\)' "$teacher" eval --weights runs/t \
    --data damaged --threads 1 -q
accepted "$teacher" eval --weights runs/t --data damaged --threads 1 --set data.on_bad_sample=skip
says '4 samples listed: 3 done, 1 failed, 0 excluded; views 1x1; one view in' out.txt

# Once is enough; nothing is half written.
accepted "$teacher" finetune --config lists.yaml --data L --weights runs/t --set optim.warmup_epochs=9 --dry-run
[ "$(grep -c 'optim.warmup_epochs: 9 is more than' err.txt)" -eq 1 ] || failed "a warning is not said once"
refused 3 'train.csv would be empty: of 36 samples 0 fall to train, 36 to val' "$kd" dataset annotate --data data \
    --split ntu60-xview --out ann -q
absent ann
mkdir one && cp -r data one/data && find one -name '*P003*' -delete
refused 3 'val.csv would be empty' "$kd" dataset annotate --data one/data --out ann -q
absent ann
refused 3 'train.csv would be empty: .* 12 without an NTU name' "$kd" dataset annotate --data L --out ann -q

# A teacher sees what has no skeleton: the reports are of other samples, and the message says how they become alike.
cp -r data gaps && rm "$(find gaps/nturgb+d_skeletons -name '*P003*' | sort | head -1)"
split=(--set data.split.by=subject --set 'data.split.train=[1,2]')
accepted "$teacher" eval --config "$configs/teacher/tiny.yaml" "${split[@]}" --data gaps --threads 1 \
    --weights "$configs/teacher/tiny_pretrained.safetensors" --out all.json -q
accepted "${student[@]}" --data gaps "${split[@]}" --out runs/gaps -q
refused 3 'is in all.json only \(12 samples against 11\).*kd dataset annotate' "$distill" compare all.json runs/gaps \
    --out r -q
accepted "$kd" dataset annotate --data gaps --out gaps --relative -q
list=(--set data.layout=list --set data.split=list --set data.train_list=train.csv --set data.val_list=val.csv)
accepted "$teacher" eval --config "$configs/teacher/tiny.yaml" "${list[@]}" --data gaps --threads 1 \
    --weights "$configs/teacher/tiny_pretrained.safetensors" --out both.json -q
accepted "${student[@]}" --data gaps "${list[@]}" --set data.num_classes=12 --out runs/both -q
accepted "$distill" compare both.json runs/both --out r --latency --threads 1 -q
says ' cpu, 1 thread, f32' r/report.md
says ' cpu, 1 thread, f32' r/report.html

finish
