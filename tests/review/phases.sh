#!/usr/bin/env bash
# A recipe in phases, the choice of the best epoch, early stop, training without a validation half.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/setup.sh"
samples data
short_student 1 >two.yaml
cat >>two.yaml <<'Y'
name: two
phases:
  - name: mixup
    train: {epochs: 2}
    optim: {base_lr: 1e-3}
    mixup: {alpha: 0.8, partner: permute}
  - {name: finish, start: best, keep_best: true, train: {epochs: 1}, optim: {base_lr: 1e-4}, label_smoothing: 0.1}
Y
train() { "$distill" train --config two.yaml -q "$@"; }
records() { grep -c "\"type\":\"$2\".*$3" "$1/log.jsonl"; }

# every reader knows the phase; weights, figures and the recipe are those of the run
accepted train --out run
[ "$(records run epoch '"phase":"mixup"')" = 2 ] && [ "$(records run epoch '"phase":"finish"')" = 1 ] ||
    failed "epochs of the phases"
[ "$(grep -c '"epoch":2,.*"train_loss"' run/log.jsonl)" = 1 ] || failed "epochs do not count on"
grep -q '"phase": "finish"' run/report.json || failed "the report does not name the phase"
grep -q '^phases: \[{name: mixup,' run/config.yaml || failed "config.yaml is not the recipe"
accepted "$distill" eval --weights run/checkpoints/last --out last.json -q
fact() { grep -m1 -E "$1" "$2"; }
for key in '"top1"' '"config": "[0-9a-f]*"' '"phase"'; do
    [ "$(fact "$key" run/report.json)" = "$(fact "$key" last.json)" ] || failed "eval of last: $key differs"
done
accepted "$distill" eval --weights run --out best.json -q
accepted "$distill" dump-logits --weights run --split train --out r.logits.zst -q
accepted "$distill" compare run/report.json last.json --out page
grep -q 'Phase of training</dt><dd>finish' page/*.html || failed "the page does not name the phase"

# keep_best: the best is better than that of the phase before, or it is that of the phase before
first=$(sed -n 's/.*"type":"val","phase":"mixup".*"top1":\([0-9.]*\),.*/\1/p' run/log.jsonl | sort -g | tail -1)
second=$(sed -n 's/.*"type":"val","phase":"finish".*"top1":\([0-9.]*\),.*/\1/p' run/log.jsonl)
want=$(awk -v a="$first" -v b="$second" 'BEGIN { print (b > a) ? "finish" : "mixup" }')
grep -q "\"phase\": \"$want\"" run/checkpoints/best/state.json || failed "best is not of $want"
accepted "$distill" train --config two.yaml --set phases.finish.keep_best=false --json --out anew
grep -q '"type":"result","epochs":3,"phase":"finish",' out.txt || failed "the result does not name the phase"
grep -q '"phase": "finish"' anew/checkpoints/best/state.json || failed "without keep_best the best is not the phase's"

# options and --set: of all phases, or of one by name; what two could mean is refused
refused 2 'phase mixup has a train.epochs of its own; use --set phases.mixup.train.epochs=5' train --epochs 5 --out no
refused 2 'expected the name of a phase \(mixup, finish\), found mix' train --set phases.mix.train.epochs=5 --out no
refused 2 "optm: unknown key; did you mean 'optim'" train --set phases.mixup.optm.eps=1 --out no
refused 2 'phases\[0\].data: all phases share it' train --set phases.mixup.data.limit=5 --out no
refused 2 'phases\[1\].skeleton: all phases share it' train --set phases.finish.skeleton.frames=8 --out no
refused 2 'phases\[1\].student.weights: all phases share it' train --set phases.finish.student.weights=x --out no
accepted "$kd" config show two.yaml --set phases.finish.student.dropout=0.1
printf 'phases: [{name: a}, {name: b, teacher: {patch: 8}}]\n' >patch.yaml
refused 2 'patch.yaml:1:[0-9]+: phases\[1\].teacher.patch: all phases share it' "$kd" config check patch.yaml
refused 2 'phases\[1\].kd.store: all phases share it' train --set phases.finish.kd.store=x --out no
accepted "$kd" config show two.yaml --set phases.mixup.train.epochs=5 --set optim.clip_grad=1
[ ! -e no ] || failed "a refused recipe left a folder"
# what is checked and filled is what a phase trains: a mode whose mixture the phase brings, a warm-up of its own length
accepted train --set mixup.mode=elem --set phases.mixup.mixup.partner=flip --set phases.finish.mixup.alpha=0.2 --dry-run
accepted train --set optim.warmup_epochs=2 --set phases.mixup.train.epochs=3 --set train.log_interval=1 --out warm
[ "$(sed -n 's/.*"type":"train","phase":"mixup".*"lr":\([^,]*\),.*/\1/p' warm/log.jsonl | tr '\n' ' ')" = \
    '0.0 0.001 0.001 ' ] || failed "a warm-up of two epochs is cut to the recipe's one"
# places in the file
fault() { sed "$1" two.yaml >fault.yaml && refused 2 "$2" "$kd" config check fault.yaml; }
fault 's/base_lr: 1e-3/base_rl: 1e-3/' "fault.yaml:[0-9]+:[0-9]+: optim.base_rl: unknown key"
fault 's/epochs: 2/epochs: two/' "fault.yaml:[0-9]+:[0-9]+: train.epochs: expected an integer"
fault 's/name: finish/name: mixup/' 'phases\[1\].name: another phase has the same'
fault 's/name: mixup/name: mixup\n    keep_best: true/' 'phases\[0\].keep_best: there is no phase before'
fault 's/name: finish,/name: finish, kind: teacher,/' 'phases\[1\].kind: all phases share it'
fault 's/label_smoothing: 0.1/mixup: {mode: pair}/' 'phase finish: mixup.mode: expected batch'
sed 's/1e-4}/1e-4, rules: [{match: nothing., lr_scale: 2}]}/' two.yaml >late.yaml
refused 2 'phase finish: optim.rules\[0\].match: no parameter' "$distill" train --config late.yaml --out late -q
late() { refused "$1" "phase finish: $2" train --set phases.finish."$3" --out late; }
late 3 '12 training samples do not fill one step of batch 50 x accumulation 1' train.batch_size=50
late 2 'class_weights: expected 12 numbers' class_weights=[1,2]
refused 3 'phase finish: train.select: val, but the validation half is empty' train --out late \
    --set phases.mixup.train.select=train --set phases.finish.keep_best=false --set data.split.train=[1,2,3,4,5,6,7,8,9]
refused 3 'phase finish: .*: holds no features' train --out late --teacher-logits r.logits.zst \
    --set phases.finish.kd.feature=mse --set phases.finish.kd.feature_weight=1
[ ! -e late/checkpoints ] || failed "a phase that cannot run was found late"

# a run goes on, or says what is different
refused 2 'phases\[1\] \(finish\): label_smoothing: 0.1 then, 0.2 now' \
    train --set phases.finish.label_smoothing=0.2 --out run --resume
refused 2 'phases\[0\] \(mixup\): train.epochs: 2 then, 3 now' \
    train --set phases.mixup.train.epochs=3 --out run --resume
accepted train --out run --resume
[ "$(records run epoch '')" = 3 ] || failed "a finished run trained on"
"$distill" train --config two.yaml --out dry --dry-run >out.txt 2>err.txt || failed "dry run: $?"
grep -q 'phase 2 of 2: finish' err.txt || failed "a dry run forgets a phase"

# another figure chooses; the smallest NLL
sed '/^name: two/,$d' two.yaml >one.yaml
short() { "$distill" train --config one.yaml -q "$@"; }
accepted short --epochs 3 --set train.metric=nll --out nll
least=$(sed -n 's/.*"type":"val","epoch":\([0-9]*\),.*"nll":\([0-9.]*\),.*/\2 \1/p' nll/log.jsonl | sort -g |
    sed -n '1s/.* //p')
grep -q "\"best_epoch\": $least" nll/checkpoints/last/state.json || failed "not the epoch of the smallest NLL, $least"
refused 2 'train.metric: nll, but select: train knows top1 alone' \
    short --set train.metric=nll --set train.select=train --out no
# patience
"$distill" train --config one.yaml --epochs 9 --set train.patience=1 --set optim.base_lr=0 --set optim.min_lr=0 \
    --out stop >out.txt 2>err.txt || failed "patience: $?"
grep -q 'training ends early, after epoch 2: no better top1 in 1' err.txt || failed "an early stop is not said"
[ "$(records stop stop '"best_epoch":0')" = 1 ] && [ -f stop/report.json ] || failed "an early stop without a report"
# no validation half
none="--set data.split.train=[1,2,3,4,5,6,7,8,9]"
refused 3 'the validation half is empty' short $none --out no
accepted short $none --set train.select=train --epochs 2 --out none
[ "$(records none epoch train_top1)" = 2 ] && [ ! -e none/report.json ] || failed "training without a validation half"
accepted "$distill" eval --weights none --split train --out none.json -q
grep -q '"selected_on": "train"' none.json || failed "not chosen on the training half"

# rates and decay of every step, against the formulas: Hugging Face's cosine over int(batches x epochs / accumulation),
# of which the steps that fill no accumulation are left out; 12 samples, batch 1, accumulation 5: 2 steps an epoch
accepted short --batch-size 1 --epochs 3 --set optim.accumulation=5 --set optim.schedule=hf_cosine \
    --set optim.warmup_ratio=0.3 --set optim.min_lr=0 --set optim.weight_decay_end=0.5 --set train.log_interval=1 \
    --set optim.warmup_steps=-1 --out rates
sed -n 's/.*"type":"train".*"lr":\([^,]*\),.*"weight_decay":\([^}]*\)}/\1 \2/p' rates/log.jsonl | awk '
    BEGIN { pi = atan2(0, -1); total = int(12 * 3 / 5); warm = int(0.3 * total) }
    {
        k = NR - 1
        lr = 1e-3 * (k < warm ? k / warm : (1 + cos(pi * (k - warm) / (total - warm))) / 2)
        wd = 0.5 + (0.05 - 0.5) * (1 + cos(pi * k / 6)) / 2
        if (lr - $1 > 1e-12 || $1 - lr > 1e-12 || wd - $2 > 1e-12 || $2 - wd > 1e-12) bad++
    }
    END { exit bad > 0 || NR != 6 }' || failed "rates: $(grep '"train"' rates/log.jsonl | cut -c1-200)"
refused 2 'optim.warmup_ratio: 0.1, but schedule constant' short --set optim.warmup_ratio=0.1 \
    --set optim.schedule=constant --out no
refused 2 'optim.cosine_end: only the schedules mmengine' short --set optim.cosine_end=3 --out no
refused 2 'optim.warmup_start_lr: 0.0001, but schedule hf_cosine starts from 0' short \
    --set optim.warmup_start_lr=1e-4 --set optim.schedule=hf_cosine --out no
refused 2 'optim.milestones: only schedule multistep obeys them, found cosine_step' short --set optim.milestones=[3] \
    --out no
refused 2 'optim.weight_decay_end: expected -1 \(not set\) or at least 0, found -0.5' short \
    --set optim.weight_decay_end=-0.5 --out no
refused 2 'optim.warmup_ratio: expected -1' short --set optim.warmup_ratio=-0.5 --out no
refused 2 'class_weights: all 12 are 0' short --set class_weights=[0,0,0,0,0,0,0,0,0,0,0,0] --out no
# mmengine's from a rate of 0, where its own recursion divides by 0; a peak of 0; a warm-up longer than the cosine
rate() { sed -n 's/.*"type":"train".*"lr":\([^,]*\),.*/\1/p' "$1/log.jsonl" | tr '\n' ' '; }
mm() { short --set optim.schedule=mmengine_epoch --set train.log_interval=1 --set optim.min_lr=0 "$@"; }
accepted mm --set optim.warmup_steps=3 --set optim.cosine_begin=3 --epochs 4 --out mm
[ "$(rate mm)" = '0.0 0.0005 0.001 0.001 ' ] || failed "mmengine's warm-up from 0: $(rate mm)"
accepted short --set optim.schedule=cosine_epoch --set optim.base_lr=0 --set optim.min_lr=0 --set train.log_interval=1 \
    --out flat
[ "$(rate flat)" = '0.0 ' ] || failed "a peak of 0: $(rate flat)"
refused 2 'optim.warmup_steps: expected at most the 2 steps after which the cosine has come down, found 9 steps' \
    mm --set optim.warmup_steps=9 --epochs 4 --set optim.cosine_epochs=2 --out no

# losses and gradients that are not finite
accepted short --set class_balance=true --out balance
weights() { accepted short --epochs 2 --set train.log_interval=1 "$@"; }
same() { cmp -s "$1/checkpoints/last/model.safetensors" "$2/checkpoints/last/model.safetensors"; }
weights --out plain
weights --set class_weights=[2,2,2,2,2,2,2,2,2,2,2,2] --out twos
weights --set class_weights=[2,1,2,1,2,1,2,1,2,1,2,1] --out odd
weights --set optim.weight_decay_end=0.05 --out level
weights --set optim.weight_decay_end=5 --out rising
same plain twos || failed "equal weights of classes change the weights"
same plain odd && failed "weights of classes change nothing"
same plain level || failed "a decay that ends where it starts is another"
same plain rising && failed "a decay that rises changes nothing"
refused 2 'class_weights: expected 12 numbers, one a class, found 2' short --set class_weights=[1,2] --out no
refused 1 'step [0-9]+: loss .*train.on_nonfinite is fail: the last good state is in fail/checkpoints/last' \
    short --set optim.base_lr=100 --set optim.warmup_epochs=0 --set optim.weight_decay=10 --epochs 40 \
    --set train.on_nonfinite=fail --set optim.name=sgd --set train.eval_every=40 --out fail

# the table of published pairs names every file, and no other
table=$configs/teacher/README.md
for file in "$configs"/teacher/published/*.yaml; do
    name=$(basename "$file" .yaml)
    grep -q "…${name#videomae2_}\`" "$table" || failed "$name is not in the table"
done
names=$(grep -o '…[a-z]_[a-z0-9_]*' "$table" | sort -u | wc -l)
[ "$names" -eq "$(find "$configs/teacher/published" -name '*.yaml' | wc -l)" ] ||
    failed "the table names files that are not there"

# the two-phase recipe of HMDB51, small: folders of pictures, no validation half, six views
make=$build/tests/make_media
if [ -x "$make" ]; then
    for k in 0 1; do
        for i in 1 2 3 4; do
            "$make" frames "h/c$k/v$k$i" 20 && echo "c$k/v$k$i $k" >>h/train_list.txt
        done
    done
    small="--set teacher.variant=tiny --set data.num_classes=2 --set video.train_short_side=72 --set video.short_side=72
        --set optim.accumulation=2 --set phases.mixup.train.epochs=1 --set phases.finish.train.epochs=1 --batch-size 2"
    # shellcheck disable=SC2086
    accepted "$teacher" finetune --config "$configs/teacher/hmdb51_two_phase.yaml" $small --data h --out hmdb \
        --threads 1 -q
    accepted "$teacher" eval --weights hmdb --split train --out hmdb.json -q
    grep -q '"merge": "score"' hmdb.json && grep -q '"views": "1x3' hmdb.json ||
        failed "not six views of averaged logits"
    # one device
    # shellcheck disable=SC2086
    refused 2 'num-gpus 2: expected 1' "$teacher" finetune --config "$configs/teacher/hmdb51_two_phase.yaml" $small \
        --data h --out no --num_gpus 2 -q
    accepted "$teacher" finetune --config "$configs/teacher/hmdb51_two_phase.yaml" $small --data h --num_gpus 1 \
        --dry-run -q
fi
finish
