/* `teacher finetune` and `distill train`. */
#include "distill/train/train.h"
#include "tools/commands/commands.h"
#include "tools/session.h"

#include <stdio.h>

typedef struct opts {
    const char *weights, *store;
} opts;

enum {
    COMMON = KD_COMMON_CONFIG | KD_COMMON_SET | KD_COMMON_DATA | KD_COMMON_OUT | KD_COMMON_COMPUTE | KD_COMMON_SEED |
             KD_COMMON_WORKERS | KD_COMMON_EPOCHS | KD_COMMON_BATCH_SIZE | KD_COMMON_LIMIT | KD_COMMON_RESUME |
             KD_COMMON_DRY_RUN | KD_COMMON_JSON
};

static void print_result(const kd_train_result *r, const char *out, bool json)
{
    if (json) {
        printf(
            "{\"type\":\"result\",\"epochs\":%d,\"top1\":%.6f,\"best_top1\":%.6f,\"best_epoch\":%d,\"train_loss\":%.6f,"
            "\"seconds\":%.1f}\n",
            r->epochs, r->top1, r->best_top1, r->best_epoch, r->train_loss, r->seconds);
        return;
    }
    printf(
        "%d epochs in %.1f s: train loss %.4f, val top-1 %.2f %% (last), %.2f %% (best, epoch %d)\nrun directory %s\n",
        r->epochs, r->seconds, r->train_loss, 100.0 * r->top1, 100.0 * r->best_top1, r->best_epoch + 1, out);
}

static kd_status train(const kd_cmd *cmd, const opts *o, const kd_common *c, bool student, int argc, char **argv,
                       kd_err *err)
{
    kd_session s = {0};
    kd_sets sets;
    kd_train_result r = {0};
    kd_status st = KD_OK;
    KD_GO(kd_sets_make(c, "train.batch_size", &sets, err));
    KD_GO(kd_sets_add(&sets, student ? "student.weights" : "teacher.weights", o->weights, err));
    KD_GO(kd_sets_add(&sets, "kd.store", o->store, err));
    KD_GO(kd_session_open(c, c->config, NULL, &sets, argc, argv, student ? "distill" : "teacher", &s, err));
    if ((s.cfg->kind == KD_KIND_STUDENT) != student) {
        st = KD_FAIL(err, KD_E_CONFIG, "%s: a %s recipe; `%s` expects kind: %s",
                     c->config != NULL ? c->config : "config", student ? "teacher" : "student", cmd->name,
                     student ? "student" : "teacher");
        goto done;
    }
    const kd_train_opts to = {.cfg = s.cfg,
                              .out_dir = c->out,
                              .command = s.command,
                              .resume = c->resume,
                              .dry_run = c->dry_run,
                              .check = c->debug,
                              .be = s.be,
                              .progress = &s.progress};
    KD_GO(kd_train(&to, &r, err));
    if (!c->dry_run) {
        print_result(&r, c->out, c->json);
    }
done:
    kd_session_close(&s);
    kd_sets_free(&sets);
    return st;
}

static int run(const kd_cmd *cmd, bool student, int argc, char **argv)
{
    opts o = {0};
    kd_common c;
    kd_err err = {0};
    char *typed[64];
    const int n = KD_MIN(argc, (int)KD_COUNTOF(typed));
    memcpy(typed, argv, (size_t)n * sizeof *typed); /* parsing moves operands */
    const int rc = kd_args_parse(cmd, argc, argv, &o, &c, NULL);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    if (c.out == NULL && !c.dry_run) {
        return kd_usage(cmd, "--out DIR is needed: the run directory");
    }
    if (c.config == NULL) {
        return kd_usage(cmd, "--config FILE is needed: a recipe such as configs/%s",
                        student ? "distill/sfz-nano_ce_kd.yaml" : "teacher/tiny.yaml");
    }
    return kd_cmd_end(cmd, train(cmd, &o, &c, student, n, typed, &err), &err);
}

int cmd_finetune(int argc, char **argv)
{
    static const kd_arg args[] = {
        KD_OPT_STR(opts, weights, "weights", "PATH", NULL,
                   "start from these weights: safetensors, .pth, Hugging Face, a run directory (default: the config's; "
                   "none: random)"),
    };
    static const kd_cmd cmd = {
        .name = "teacher finetune",
        .about = "Fine-tune the video teacher; writes a run directory.",
        .args = args,
        .arg_count = KD_COUNTOF(args),
        .common = COMMON,
        .notes = "Ctrl-C saves the state; the same command with --resume continues to the same bytes.\n"};
    return run(&cmd, false, argc, argv);
}

int cmd_distill_train(int argc, char **argv)
{
    static const kd_arg args[] = {
        KD_OPT_STR(opts, store, "teacher-logits", "STORE", NULL,
                   "teacher's logit store: adds the KD terms of the recipe (default: the config's; none: cross-entropy "
                   "alone)"),
        KD_OPT_STR(opts, weights, "weights", "PATH", NULL,
                   "start from these weights (default: the config's; none: random)"),
    };
    static const kd_cmd cmd = {
        .name = "distill train",
        .about = "Train a skeleton student with cross-entropy and distillation.",
        .args = args,
        .arg_count = KD_COUNTOF(args),
        .common = COMMON,
        .notes = "loss = kd.ce_weight CE + kd.weight T^2 KL(teacher || student) + kd.feature_weight feature term\n"};
    return run(&cmd, true, argc, argv);
}
