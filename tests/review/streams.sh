#!/usr/bin/env bash
# A student of one stream on each of them: it learns what a student learns whose joints are that stream.
. "$(dirname "$0")/setup.sh"
cp -r "$source/tests/golden/skeletons" G
cat >student.yaml <<Y
kind: student
data: {split: ntu60-xsub, num_classes: 60}
student: {name: last-v1-small}
skeleton: {frames: 8, normalize: none, bone_scale: false}
optim: {warmup_epochs: 1}
train: {epochs: 1, batch_size: 4, threads: 1, workers: 1}
eval: {batch_size: 4}
Y
train=("$distill" train --config student.yaml -q)
for s in joint velocity bone bone_velocity; do
    accepted "${train[@]}" --data G/last --out $s --set student.stream=$s
    accepted "$distill" predict --weights $s G/last --json
    cp out.txt $s.txt
    folder=G/last_$s
    [ $s != joint ] || folder=G/last
    accepted "${train[@]}" --data $folder --out as-$s
    cmp $s/checkpoints/last/model.safetensors as-$s/checkpoints/last/model.safetensors ||
        failed "$s: the student learns something else"
    accepted "$distill" predict --weights as-$s $folder --json
    diff <(sed 's/"latency_ms":[^,]*,//' out.txt) <(sed 's/"latency_ms":[^,]*,//' $s.txt) >diff.txt ||
        failed "$s: predict sees another stream: $(head -4 diff.txt)"
done
! cmp -s joint/checkpoints/last/model.safetensors bone/checkpoints/last/model.safetensors || failed 'joints are bones'

# sequences that are fed, not kept on the device, give the same
accepted "${train[@]}" --data G/last --out fed --set student.stream=bone_velocity --set train.resident=off
cmp fed/checkpoints/last/model.safetensors bone_velocity/checkpoints/last/model.safetensors ||
    failed 'fed: other numbers'

refused 2 'student.stream: bone, but sfz-nano reads 3 streams of its own' \
    "${train[@]}" --data G/last --out no --set student.name=sfz-nano --set student.stream=bone
refused 2 'student.stream: expected .*joint' "${train[@]}" --data G/last --out no --set student.stream=motion
refused 2 'skeleton_aug.noise_joint: 0.1, but last-v1-small takes no joints' "${train[@]}" --data G/last --out no \
    --set student.stream=bone --set skeleton_aug.noise_joint=0.1
refused 2 'skeleton_aug.noise_bone_velocity: 0.1, but last-v1-small takes no velocities of bones' "${train[@]}" \
    --data G/last --out no --set skeleton_aug.noise_bone_velocity=0.1
accepted "${train[@]}" --data G/last --out noisy --set student.stream=bone_velocity \
    --set skeleton_aug.noise_bone_velocity=0.1
! cmp -s noisy/checkpoints/last/model.safetensors bone_velocity/checkpoints/last/model.safetensors ||
    failed 'noise on velocities of bones does nothing'

finish
