/* What `teacher finetune` and `distill train` share: one command over tasks, with two tables of options. */
#ifndef KD_TOOLS_COMMANDS_TRAINING_H
#define KD_TOOLS_COMMANDS_TRAINING_H

#include "tools/args.h"

typedef struct kd_training_opts {
    const char *weights;
    kd_arg_list store;
    const char *lr_range;
    bool find_lr;
} kd_training_opts;

/* The options of the search for a rate, which both commands have. */
#define KD_TRAINING_FIND_LR                                                                                            \
    KD_OPT_FLAG(kd_training_opts, find_lr, "find-lr",                                                                  \
                "instead of training: grow the rate step by step and see which one learns; writes lr_find.html, .csv " \
                "and .json to --out, and no weights"),                                                                 \
        KD_OPT_STR(kd_training_opts, lr_range, "lr-range", "FROM:TO:STEPS", NULL,                                      \
                   "of --find-lr: optim.base_lr at the first and the last step (default: 1e-6:10:100)")

enum {
    KD_TRAINING_COMMON = KD_COMMON_CONFIG | KD_COMMON_SET | KD_COMMON_DATA | KD_COMMON_OUT | KD_COMMON_COMPUTE |
                         KD_COMMON_SEED | KD_COMMON_WORKERS | KD_COMMON_EPOCHS | KD_COMMON_BATCH_SIZE |
                         KD_COMMON_LIMIT | KD_COMMON_NUM_GPUS | KD_COMMON_RESUME | KD_COMMON_FORCE | KD_COMMON_DRY_RUN |
                         KD_COMMON_JSON
};

/* Parse into kd_training_opts, train, print the result.  program: whose tasks the recipe may name; example: a recipe
 * for the message that --config is missing.  The result is the process's exit code. */
int kd_training(const kd_cmd *cmd, const char *program, const char *example, int argc, char **argv);

#endif
