/* What `teacher finetune` and `distill train` share: one command over tasks, with two tables of options. */
#ifndef KD_TOOLS_COMMANDS_TRAINING_H
#define KD_TOOLS_COMMANDS_TRAINING_H

#include "tools/args.h"

typedef struct kd_training_opts {
    const char *weights;
    kd_arg_list store;
} kd_training_opts;

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
