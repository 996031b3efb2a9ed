#!/usr/bin/env bash
# Skeleton archives in the place of .skeleton files: listing, check, training, evaluation; every row is accounted for.
. "$(dirname "$0")/setup.sh"
cp -r "$source/tests/golden/skeletons" G

cat >student.yaml <<Y
kind: student
data: {split: ntu60-xsub, num_classes: 60}
student: {name: last-e3-nano}
skeleton: {frames: 8}
optim: {warmup_epochs: 1}
train: {epochs: 2, batch_size: 4, threads: 1, workers: 1}
eval: {batch_size: 4}
Y
sed 's/split: ntu60-xsub, num_classes: 60/split: list, num_classes: 4/' student.yaml >lists.yaml
train=("$distill" train --config student.yaml -q)

# the forms hold the same people: a split by name is the same, and so is what is learnt of equal numbers
for f in pyskl_p2.pkl pyskl_p5.pkl ctrgcn.npz last; do
    names=()
    [ $f != ctrgcn.npz ] || names=(--set data.names=G/ctrgcn_names.txt)
    accepted "${train[@]}" --data G/$f --out run-$f "${names[@]}"
    grep -q '"top1"' run-$f/report.json || failed "$f: no report"
    accepted "$distill" eval --weights run-$f --data G/$f --out e.json --force -q "${names[@]}"
done
cmp run-pyskl_p2.pkl/checkpoints/last/model.safetensors run-pyskl_p5.pkl/checkpoints/last/model.safetensors ||
    failed "the protocol of a pickle changes what is learnt"

# halves that a file names itself; an id without a skeleton is listed and left out
split=(--config lists.yaml --set data.train_list=xsub_train --set data.val_list=xsub_val)
refused 3 'of 3 listed samples: 1 no skeleton .*S001C001P003R001A003 \(tried .*/G/pyskl_p4.pkl\)' \
    "$distill" train "${split[@]}" --data G/pyskl_p4.pkl --out no -q
accepted "$distill" train "${split[@]}" --data G/pyskl_p4.pkl --out own --set data.on_bad_sample=skip
grep -q 'val: 2 samples of 3 listed (0 videos, 2 skeletons, 0 pairs); left out: 1 no skeleton' err.txt ||
    failed "own halves: $(cat err.txt)"
refused 3 'xset_train' "$distill" train --config lists.yaml --set data.train_list=xset_train --data G/pyskl_p4.pkl \
    --out no -q

# rows without ids
refused 3 'its rows have no ids, only numbers \(train-000000\), so split ntu60-xsub cannot place them; data.names' \
    "${train[@]}" --data G/ctrgcn.npz --out no
accepted "$distill" train --config lists.yaml --data G/ctrgcn.npz --out rows \
    --set data.train_list=train --set data.val_list=test
grep -q 'it names none, so a store is joined by row numbers alone' err.txt || failed "numbered rows: $(cat err.txt)"
head -5 G/ctrgcn_names.txt >five.txt
refused 3 'five.txt: expected 6 names, one a row of .*/G/ctrgcn.npz, found 5' \
    "${train[@]}" --data G/ctrgcn.npz --out no --set data.names=five.txt
sort -r G/ctrgcn_names.txt >mixed.txt
refused 3 'the rows have another order than .*/mixed.txt' "${train[@]}" --data G/ctrgcn.npz --out no \
    --set data.names=mixed.txt

# a list of names in the order of the data set, as CTR-GCN's skes_available_name.txt: the rows follow it by subject
{ sed -n 5,6p G/ctrgcn_names.txt && sed -n 3,4p G/ctrgcn_names.txt && sed -n 1,2p G/ctrgcn_names.txt; } >available.txt
accepted "$distill" train --config student.yaml --data G/ctrgcn.npz --out avail --set data.names=available.txt
grep -q 'available.txt: the rows of .*ctrgcn.npz follow it half by half by subject' err.txt ||
    failed "order of names: $(cat err.txt)"
cmp avail/checkpoints/last/model.safetensors run-ctrgcn.npz/checkpoints/last/model.safetensors ||
    failed 'names in another order change what is learnt'

# data.skeleton_file beside --data; scale, missing value and channels of arrays; keys that do nothing
mkdir root
mm=(--set data.skeleton_file=G/ids.npz --set data.skeleton_scale=0.001 --set data.skeleton_missing=-32768
    --set 'data.skeleton_channels=[3,4,5]')
accepted "${train[@]}" --data root --out mm "${mm[@]}"
refused 3 'expected x, y and z of a joint, found 6 numbers; data.skeleton_channels' \
    "${train[@]}" --data G/ids.npz --out no
refused 2 'data.skeleton_channels: expected the places of x, y and z, found 2' \
    "${train[@]}" --data root --out no --set data.skeleton_file=G/ids.npz --set 'data.skeleton_channels=[1,2]'
refused 2 'data.skeleton_scale: only with data.skeleton_file' "${train[@]}" --data root --out no \
    --set data.skeleton_scale=2
refused 2 'data.skeleton_score_scale: only with data.skeleton_file' "${train[@]}" --data root --out no \
    --set data.skeleton_score_scale=0.001 --set skeleton.channels=xy_score --set skeleton.layout=coco17
refused 2 'skeleton_score_scale: 0.001, but joints have no confidence' "${train[@]}" --data G/ids.npz --out no \
    --set data.skeleton_score_scale=0.001
refused 2 'data.skeleton_dir: x, but data.skeleton_file' "${train[@]}" --data root --out no \
    --set data.skeleton_file=G/ids.npz --set data.skeleton_dir=x
refused 2 'names its samples itself' "${train[@]}" --data G/pyskl_p4.pkl --out no --set data.names=G/ctrgcn_names.txt

# a run knows its rows: the same ids with other recordings are other data
two=(--set data.split.by=camera --set "data.split.train=[1]" --set data.num_classes=4 --set train.batch_size=1)
cp G/ids_metres.npz two.npz
accepted "${train[@]}" --data two.npz --out two "${two[@]}" --epochs 1
accepted "${train[@]}" --data two.npz --out two "${two[@]}" --epochs 2 --resume
cp G/ids.npz two.npz
refused 3 'training half: 1 samples then, 3 now' "${train[@]}" --data two.npz --out two "${two[@]}" --epochs 3 --resume

# every sample of an archive, by its id; the arrays of one as the run's data are read
accepted "$distill" predict --weights run-last G/last
[ "$(grep -c '^S001C00.P00.R001A00' out.txt)" -eq 6 ] || failed "predict: $(cat out.txt)"
accepted "$distill" predict --weights mm G/ids.npz --top 1
refused 3 'G/ids.npz: S001.*: expected x, y and z of a joint, found 6 numbers' \
    "$distill" predict --weights run-last G/ids.npz

# joints in a picture, with a confidence: the run and its file know what an archive has to hold
flat=(--set data.split.by=camera --set "data.split.train=[1]" --set data.num_classes=4 --set train.batch_size=1
    --set skeleton.layout=coco17 --set skeleton.channels=xy_score)
accepted "${train[@]}" --data G/hrnet.pkl --out flat "${flat[@]}"
accepted "$distill" export --weights flat --out flat.safetensors -q
accepted "$distill" predict --weights flat G/hrnet.pkl --json && sed 's/.*"top"/"top"/' out.txt >flat.txt
accepted "$distill" predict --weights flat.safetensors G/hrnet.pkl --json
sed 's/.*"top"/"top"/' out.txt | cmp -s - flat.txt ||
    failed "a run and its file answer otherwise: $(cat flat.txt out.txt)"
[ "$(wc -l <flat.txt)" -eq 2 ] || failed "predict: $(cat out.txt)"
refused 3 'stdin: expected joints of x, y and a confidence' "$distill" predict --weights flat.safetensors -

# CTR-GCN's denoising
accepted "${train[@]}" --data G/pyskl_p4.pkl --out clean --set data.denoise=ctrgcn --set data.on_bad_sample=skip
grep -q 'no body' clean/log.jsonl || failed "denoise: nobody is lost of two bodies of at most 11 frames"
accepted "$distill" predict --weights clean G/ids.npz --set 'data.skeleton_channels=[3,4,5]' \
    --set data.skeleton_scale=0.001 --set data.skeleton_missing=-32768
refused 3 'S001C002P001R001A002: no body: expected a body of more than 11 frames, found 2 shorter ones' \
    "$distill" predict --weights clean G/pyskl_p4.pkl
refused 2 'skeleton.bodies: tracked, but data.denoise' "${train[@]}" --data G/last --out no \
    --set data.denoise=ctrgcn --set skeleton.bodies=tracked

# joints of a picture are no x, y, z
refused 3 "expected 25 joints" "${train[@]}" --data G/hrnet.pkl --out no --set data.split.by=camera \
    --set "data.split.train=[1]" --set data.num_classes=4 --set train.batch_size=1
accepted "$kd" dataset check --data G/hrnet.pkl
accepted "$kd" dataset check --data G/nwucla

# listing and check
accepted "$kd" dataset scan --data G/pyskl_p4.pkl
grep -q 'as ntu60-xsub   train 4, val 2' out.txt && grep -q 'split xview_val      1 samples' out.txt ||
    failed "scan: $(cat out.txt)"
accepted "$kd" dataset check --data G/last
grep -q '6 skeletons parsed: 0 videos and 0 skeletons damaged' out.txt || failed "check: $(cat out.txt)"
cp "$source/tests/refuse/archive/frames_differ.pkl" .
refused 3 "1 damaged files" "$kd" dataset check --data frames_differ.pkl --out q -q
grep -q "'total_frames' is 4, 'keypoint' has 3 frames" q/quarantine.tsv || failed "check: $(cat q/quarantine.tsv)"
cp "$source/tests/refuse/archive/call.pkl" .
refused 3 'call of posix.system' "$kd" dataset scan --data call.pkl
absent evil
refused 3 'expected skeletons as a CTR-GCN npz' "$kd" dataset scan --data student.yaml

finish
