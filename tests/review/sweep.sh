#!/usr/bin/env bash
# `distill sweep`: a plan run, gone on with after an end and a kill, a run that fails, recipes that changed, tables.
. "$(dirname "$0")/setup.sh"

samples data
short_student 1 >ce.yaml
sed 's/epochs: 1/epochs: 4000/' ce.yaml >long.yaml

# plan BASE SEEDS >FILE
plan() {
    cat <<Y
name: two students
base: $1
axes:
  student: {nano: {}, sfz: {student.name: sfz-nano}}
  loss: {ce: {}, ls: {label_smoothing: 0.1}}
folds: {a: {data.split: {by: subject, train: [1, 2]}}, b: {data.split: {by: subject, train: [3]}}}
seeds: $2
baseline: {loss: ce}
exclude: [{student: sfz, loss: ls}]
Y
}
plan ce.yaml "[0, 1]" >plan.yaml

# The dry run names cells, runs and hours, and makes nothing.
accepted "$distill" sweep plan.yaml --out s --dry-run
absent s
grep -q '^nano ls  *4  *4  *[0-9.e-]*$' out.txt || failed "dry run: $(cat out.txt)"
grep -q '^3 cells, 12 runs, 0 done, 12 open: about [0-9.e-]* processor hours' out.txt ||
    failed "dry run: $(cat out.txt)"

# The plan, weights of finished runs given up.
accepted "$distill" sweep plan.yaml --out s --keep reports --bootstrap 200
[ "$(grep -c ': top-1 ' err.txt)" -eq 12 ] || failed "not a line a run: $(cat err.txt)"
[ "$(find s/runs -name report.json | wc -l)" -eq 12 ] || failed "not 12 reports"
[ "$(find s/pooled -name '*.json' | wc -l)" -eq 6 ] || failed "not 6 pooled reports"
absent s/runs/nano_ce/a/seed-0/checkpoints
for f in sweep.json sweep.md sweep.csv sweep.html; do present s/$f; done
grep -q '^| nano ls | nano ce | 2 | ' s/sweep.md || failed "no pair in the table"
grep -q '"samples": 36,' s/sweep.json || failed "the folds are not pooled"
[ "$(wc -l <s/sweep.csv)" -eq 4 ] || failed "sweep.csv: $(wc -l <s/sweep.csv) lines"

# Runs are run directories, pooled reports are reports: compare reads both.
a=s/runs/nano_ce/a
accepted "$distill" compare $a/seed-0 $a/seed-? s/runs/nano_ls/a/seed-? --bootstrap 100 --out cmp
accepted "$distill" compare s/pooled/nano_ce/seed-0.json s/pooled/nano_ls/seed-?.json --bootstrap 100 --out cmp2

# Everything is done: nothing is trained, the same findings.
cp s/sweep.csv before.csv
touch stamp
accepted "$distill" sweep plan.yaml --out s --bootstrap 200
same_file before.csv s/sweep.csv
[ -z "$(find s/runs -newer stamp -type f)" ] || failed "finished runs were run again"
plan ce.yaml "[0, 1, 2]" >plan3.yaml
accepted "$distill" sweep plan3.yaml --out s --dry-run
grep -q '18 runs, 12 done, 6 open' out.txt || failed "dry run: $(cat out.txt)"
grep -q 'cells with a finished run by its time' out.txt || failed "dry run does not use the finished runs"

# Another recipe in the same folder is refused before anything is trained; --force trains those runs anew.
sed -i 's/loss: {ce: {}, ls: {label_smoothing: 0.1}}/loss: {ce: {}, ls: {label_smoothing: 0.2}}/' plan.yaml
refused 2 'nano_ls.*another: label_smoothing: 0.1.*0.2' "$distill" sweep plan.yaml --out s -q
accepted "$distill" sweep plan.yaml --out s --force --bootstrap 200
[ "$(grep -c ': top-1 ' err.txt)" -eq 4 ] || failed "expected 4 runs anew: $(cat err.txt)"

# A run that fails is named with its words, whole; the others go on, and the end says so.
mkdir broken && cp -r data broken/data
for f in broken/data/nturgb+d_skeletons/*P001*; do # the first one is read before anything is trained
    [[ $f == *A001.skeleton ]] || { head -c 3000 "$f" >cut && mv cut "$f"; }
done
cat >fail.yaml <<Y
base: ce.yaml
axes: {root: {good: {}, bad: {data.root: broken/data}}}
seeds: [0]
Y
"$distill" sweep fail.yaml --out f >out.txt 2>err.txt
[ $? -eq 1 ] || failed "a failed run: exit code"
grep -q '^[12]/2 bad/seed-0: failed, exit code 3: .*P001R001A0.*truncated' err.txt ||
    failed "the failed run is not named: $(cat err.txt)"
grep -q '^distill sweep: 1 of 2 runs failed' err.txt || failed "the end does not say so"
grep -q '^| good | 1 | ' f/sweep.md || failed "the other run is not in the table"
grep -q '^| bad | 0 | ' f/sweep.md || failed "the failed cell is not in the table"

# A mistake that no training heals is found before the first run.
# mistaken CODE PATTERN AXIS_VALUE...: a plan of a good cell and this one.
mistaken() {
    printf 'base: ce.yaml\naxes: {x: {good: {}, bad: {%s}}}\nseeds: [0, 1]\n' "$3" >bad.yaml
    refused "$1" "$2" "$distill" sweep bad.yaml --out b -q
    refused "$1" "$2" "$distill" sweep bad.yaml --out b -q --dry-run
    absent b/runs
}
mistaken 3 'bad/seed-0: .*nowhere' 'data.root: nowhere'
mistaken 3 'bad/seed-0: .*expected 17 joints' 'skeleton.layout: coco17'
mistaken 3 'bad/seed-0: .*none.logits.zst' 'kd.store: none.logits.zst, kd.weight: 0.5'
mistaken 3 'bad/seed-0: .*stranger.txt' 'data.unlabelled: stranger.txt'
echo S009C001P009R001A001 >stranger.txt
mistaken 3 'bad/seed-0: .*S009C001P009R001A001' 'data.unlabelled: stranger.txt'
mistaken 3 "one validation half: data.split is .*train=1 val=others' in good/seed-0, .*train=2 val=others'" \
    'data.split.train: [2]'
cat >twins.yaml <<Y
base: ce.yaml
axes: {a: {x_y: {}, x: {}}, b: {z: {}, y_z: {}}}
seeds: [0]
Y
refused 2 "folder of its own for every cell, found x_y_z for 'x_y z' and for 'x y_z'" \
    "$distill" sweep twins.yaml --out b -q

# A list that a recipe names by path is part of what a run is made of.
find data -name '*P001*.skeleton' | sed 's|.*/||; s|\.skeleton||' | sort >all.txt
head -5 all.txt >few.txt
printf 'base: ce.yaml\nrecipe: {data.unlabelled: few.txt}\naxes: {x: {a: {}}}\nseeds: [0]\n' >few.yaml
accepted "$distill" sweep few.yaml --out few
head -6 all.txt >few.txt
refused 2 'a/seed-0: expected .*its training half had other samples or labels' "$distill" sweep few.yaml --out few -q

# Asked to stop: all runs save and end; the same command goes on.  A killed sweep leaves no run behind.
plan long.yaml "[0]" >long_plan.yaml
for signal in TERM KILL; do
    rm -rf l/logs
    "$distill" sweep long_plan.yaml --jobs 2 --threads 2 --out l >long.txt 2>&1 &
    pid=$!
    for cell in nano_ce nano_ls; do
        until grep -qs '^epoch' l/logs/$cell/a/seed-0.log; do
            kill -0 $pid 2>/dev/null || { failed "$signal: the sweep ended early: $(cat long.txt)"; break; }
            sleep 0.01
        done
    done
    refused 6 'lock' "$distill" sweep long_plan.yaml --out l -q
    runs=$(pgrep -P $pid)
    [ "$(wc -w <<<"$runs")" -eq 2 ] || failed "$signal: expected 2 runs at once, found '$runs'"
    kill -$signal $pid
    wait $pid 2>/dev/null
    rc=$?
    [ $signal = KILL ] || [ $rc -eq 130 ] || failed "asked to stop: exit code $rc"
    for run in $runs; do
        while kill -0 "$run" 2>/dev/null; do sleep 0.01; done # a killed sweep's runs save after its end
    done
    grep -q 'interrupted in epoch' l/logs/nano_ce/a/seed-0.log || failed "$signal: the run did not save its state"
done
grep -q 'resumed from' l/logs/nano_ce/a/seed-0.log || failed "the second command did not resume"

# Plans that are refused.
mkdir bad
echo 'axis: {}' >bad/plan.yaml
refused 2 'bad/plan.yaml:1:1: axis: unknown key' "$distill" sweep bad/plan.yaml --out x -q
refused 2 'out DIR is needed' "$distill" sweep plan.yaml -q
echo 'axes: {a: {x: {optim.base_lrr: 1}}}
seeds: [0]' >bad/plan.yaml
refused 2 "cell x: .*optim.base_lrr: unknown key; did you mean 'optim.base_lr'" \
    "$distill" sweep bad/plan.yaml --out x -q
finish
