/* `distill train`. */
#include "tools/commands/commands.h"
#include "tools/commands/training.h"

int kd_cmd_distill_train(int argc, char **argv)
{
    static const kd_arg args[] = {
        KD_OPT_LIST(kd_training_opts, store, "teacher-logits", "STORE",
                    "teacher's logit store (repeatable: several teachers): adds the KD terms of the recipe (default: "
                    "the config's; none: cross-entropy alone)"),
        KD_OPT_STR(kd_training_opts, weights, "weights", "PATH", NULL,
                   "start from these weights (default: the config's; none: random)"),
        KD_TRAINING_FIND_LR,
    };
    static const kd_cmd cmd = {
        .name = "distill train",
        .about = "Train a skeleton student with cross-entropy and distillation.",
        .args = args,
        .arg_count = KD_COUNTOF(args),
        .common = KD_TRAINING_COMMON,
        .notes = "loss = kd.ce_weight CE + kd.weight T^2 KL(teacher || student) + kd.feature_weight feature term",
        .examples = "distill train --config configs/distill/sfz-nano_ce_kd.yaml --data sample "
                    "--teacher-logits teacher.logits.zst --seed 0 --out runs/kd-0\n"
                    "distill train --config configs/distill/sfz-nano_ce.yaml --data sample --set optim.base_lr=0.05 "
                    "--out runs/ce-0\n"
                    "distill train --config configs/distill/sfz-nano_ce.yaml --data sample --find-lr --out runs/rates"};
    return kd_training(&cmd, "distill", "distill/sfz-nano_ce_kd.yaml", argc, argv);
}
