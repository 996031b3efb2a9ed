#!/usr/bin/env bash
# A key of the recipe that does nothing for the model at hand is refused, by name.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/setup.sh"
samples data
plan() { "$distill" train --config "$configs/student/$1.yaml" --data data --set 'data.split={by: subject, train: [1]}' \
    --set data.num_classes=12 --set skeleton.frames=16 --batch-size 2 --threads 1 --dry-run -q --set "$2=0.2"; }
idle() { refused 2 "$2: 0.2, but $1 $3; set it to 0" plan "$1" "$2"; }
busy() { accepted plan "$1" "$2"; }

idle last-v1-small student.drop_path 'has no residual branch to drop'
idle last-v1-small skeleton_aug.noise_velocity 'takes no velocities'
idle last-v1-small skeleton_aug.noise_bone 'takes no bones'
idle last-v1-small kd.ib_weight 'has no information bottleneck'
idle last-e3-nano kd.ib_weight 'has no information bottleneck'
busy last-e3-base kd.ib_weight
busy last-v1-small skeleton_aug.noise_joint
for key in student.drop_path skeleton_aug.noise_velocity skeleton_aug.noise_bone skeleton_aug.noise_joint; do
    busy last-e3-nano $key
done
finish
