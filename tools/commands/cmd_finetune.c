/* `teacher finetune`. */
#include "tools/commands/commands.h"
#include "tools/commands/training.h"

int kd_cmd_finetune(int argc, char **argv)
{
    static const kd_arg args[] = {
        KD_OPT_LIST(
            kd_training_opts, store, "teacher-logits", "STORE",
            "logit store of another teacher (repeatable): adds the KD terms of the recipe (default: the config's)"),
        KD_OPT_STR(kd_training_opts, weights, "weights", "PATH", NULL,
                   "start from these weights: safetensors, .pth, Hugging Face, a run directory (default: the config's; "
                   "none: random)"),
        KD_TRAINING_FIND_LR,
    };
    static const kd_cmd cmd = {
        .name = "teacher finetune",
        .about = "Fine-tune the video teacher; writes a run directory.",
        .args = args,
        .arg_count = KD_COUNTOF(args),
        .common = KD_TRAINING_COMMON,
        .notes = "Ctrl-C saves the state; the same command with --resume continues to the same bytes.",
        .examples = "teacher finetune --config configs/teacher/tiny.yaml --weights "
                    "configs/teacher/tiny_pretrained.safetensors --data sample --out runs/teacher"};
    return kd_training(&cmd, "teacher", "teacher/tiny.yaml", argc, argv);
}
