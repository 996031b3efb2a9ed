# Recipes and data of the command-line tests: a teacher and a student that train in a second; sourced after lib.sh.

# sample_set CLIPS: the sample data set in ./s, small.
sample_set() {
    accepted "$kd" dataset sample --clips "$1" --size 64x48 --out s --quiet
}

# Everything with a state or a draw: crop, flip, erasing, drop path, dropout, mixup and CutMix, accumulation, momentum,
# averaged weights, running statistics.
teacher_recipe() {
    cat >teacher.yaml <<'END'
name: small-teacher
kind: teacher
data: {root: s, split: {by: subject, train: [1, 2]}}
teacher:
  {variant: custom, img_size: 32, patch: 16, tubelet: 2, frames: 4, dim: 32, depth: 2, heads: 2, mlp_hidden: 64,
   drop_path: 0.1, head_drop: 0.1, init_scale: 1}
video: {spatial: short_side_crop, train_short_side: 36, erase_prob: 0.5}
mixup: {alpha: 0.8, cutmix_alpha: 1}
optim: {base_lr: 1e-3, warmup_epochs: 1, ema_decay: 0.9, clip_grad: 1, accumulation: 2}
train: {epochs: 3, batch_size: 2, checkpoint_every_steps: 2, log_interval: 1, threads: 1}
eval: {clips: 2, crops: 1}
END
}

# student_recipe NAME: with both distillation terms
student_recipe() {
    cat >student.yaml <<END
base: [$source/configs/student/$1.yaml, $source/configs/distill/ce_kd_feature.yaml]
name: small-student
data: {root: s, split: {by: subject, train: [1, 2]}}
skeleton: {frames: 16}
optim: {warmup_epochs: 1, ema_decay: 0.9}
train: {epochs: 2, batch_size: 4, checkpoint_every_steps: 2, log_interval: 1, threads: 1}
END
}
