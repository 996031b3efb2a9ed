#!/usr/bin/env bash
# Options of VideoMAE, MMAction2 and Hugging Face are answered with the name that the same thing has here, and every
# name in those answers exists.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/setup.sh"

for o in lr finetune output_dir data_path data-set nb_classes update_freq input_size num_frames \
    sampling_rate test_num_segment test_num_crop drop_path opt opt_betas clip_grad weight_decay layer_decay \
    warmup_lr min_lr warmup_epochs model_ema smoothing mixup cutmix mixup_prob mixup_switch_prob reprob model \
    save_ckpt_freq num_workers auto_resume dist_eval enable_deepspeed work-dir cfg-options amp launcher no-validate \
    learning_rate num_train_epochs per_device_train_batch_size gradient_accumulation_steps max_grad_norm \
    logging_steps overwrite_output_dir model_name_or_path fp16 report_to validate gpu-ids ann_file workers_per_gpu \
    use_cpu train_file validation_file max_train_samples ignore_mismatched_sizes ddp_backend cache_dir; do
    refused 2 "unknown option --$o; here: " "$teacher" finetune --$o 1
done
refused 2 'here: --teacher-logits STORE' "$distill" train --teacher_ckpt x
refused 2 'did you mean --batch-size' "$teacher" finetune --batchsize 4
accepted "$teacher" finetune --batch_size 4 --config "$configs/teacher/tiny.yaml" --data . --help

# the keys and options that the answers name
{ "$kd" config show --docs --kind teacher; "$kd" config show --docs --kind student; } >docs.txt
"$kd" config show --kind teacher >t.yaml && "$kd" config show --kind student >s.yaml
key() { # a.b of a resolved recipe
    awk -v want="$1" '/^[a-z]/ { split($1, a, ":"); at = a[1]; if (at == want) found = 1 }
        /^  [a-z]/ { split($1, a, ":"); if (at "." a[1] == want) found = 1 } END { exit !found }' t.yaml s.yaml
}
sections='optim|data|teacher|student|video|eval|train|mixup|kd|skeleton'
grep -oE "($sections)\.[a-z_]+" "$source/tools/foreign.inc" | sort -u |
    while read -r k; do
        key "$k" || echo "$k"
    done >unknown.txt
[ ! -s unknown.txt ] || failed "keys that the table names and no recipe has: $(tr '\n' ' ' <unknown.txt)"
{ "$teacher" finetune --help; "$teacher" eval --help; "$distill" train --help; "$kd" weights convert --help; } >help.txt
grep -oE -- '--[a-z][a-z-]+' "$source/tools/foreign.inc" | sort -u | while read -r o; do
    grep -q -- "$o" help.txt || echo "$o"
done >unknown.txt
[ ! -s unknown.txt ] || failed "options that the table names and no command has: $(tr '\n' ' ' <unknown.txt)"
finish
