#!/usr/bin/env bash
# Training pixels by recipe: RandAugment, crops resized as bytes, whole random erasing, labels that follow the mirror.
# Each changes what is trained, whatever the number of loader threads; keys that say nothing are refused by name.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/setup.sh"
samples data
tune=("$teacher" finetune --config "$configs/teacher/tiny.yaml" --data data --set 'data.split.train=[1,2]' --threads 1
    --set data.num_classes=12 --set video.flip_prob=0.5 --epochs 1 --batch-size 8 -q)
tune() { "${tune[@]}" "$@"; }
# differs NAME OPTION...: trains as OPTION says with 1 and 3 loader threads: the same weights, not those of `plain`
differs() {
    local name=$1
    shift
    accepted tune --out "$name" --workers 1 "$@"
    accepted tune --out "$name-3" --workers 3 "$@"
    same_file "$name/checkpoints/last/model.safetensors" "$name-3/checkpoints/last/model.safetensors"
    cmp -s plain/checkpoints/last/model.safetensors "$name/checkpoints/last/model.safetensors" &&
        failed "$name: $* changes nothing"
}

accepted tune --out plain --workers 1
differs augmented --set video.rand_augment=rand-m9-n3-mstd0.5-inc1 --set video.rand_augment_interpolation=random \
    --set video.spatial=rrc_u8 --set video.resizer=pillow_bilinear --set video.train_short_side=0
differs erased --set video.erase_prob=0.8 --set video.erase_mode=rand --set video.erase_count=3 \
    --set video.erase_cube=false
differs mirrored --set 'video.flip_labels=[0,1,2,3]'

no() {
    local text=$1
    shift
    refused 2 "$text" tune --dry-run "$@"
}
no "video.rand_augment: expected the parts m, n, mstd, inc and w, found 'mmax9'" --set video.rand_augment=rand-m7-mmax9
no "found 'inc0'; leave the part out to turn it off" --set video.rand_augment=rand-m7-inc0
no 'video.rand_augment_interpolation: only with video.rand_augment' --set video.rand_augment_interpolation=random
no 'video.erase_count: nothing is erased with video.erase_prob 0' --set video.erase_count=2
no 'video.resizer: expected pillow_bilinear' --set video.spatial=multi_scale
no 'video.flip_labels: expected pairs of labels, found 1' --set 'video.flip_labels=[1]'
no 'video.flip_labels: nothing is mirrored' --set 'video.flip_labels=[1,2]' --set video.flip_prob=0
no 'video.flip_labels: expected labels from 0 to 11, found 12' --set 'video.flip_labels=[1,12]'
finish
