/* Training as a command: see training.h. */
#include "tools/commands/training.h"

#include "distill/train/train.h"
#include "tools/print.h"
#include "tools/process/process.h"
#include "tools/session.h"

#include <math.h>
#include <stdio.h>

static kd_status print_result(const kd_train_result *r, const char *out, bool json, kd_err *err)
{
    if (json) {
        char best[KD_CFG_NAME + 8];
        (void)snprintf(best, sizeof best, "best_%s", r->figure);
        kd_json *d = kd_json_object();
        kd_json_set_str(d, "type", "result");
        kd_json_set_i64(d, "epochs", r->epochs);
        if (r->phase[0] != '\0') {
            kd_json_set_str(d, "phase", r->phase);
        }
        kd_json_set_rounded(d, r->figure, r->last, 6);
        kd_json_set_rounded(d, best, r->best, 6);
        kd_json_set_i64(d, "best_epoch", r->best_epoch + 1); /* counted as in the lines of progress */
        kd_json_set_rounded(d, "train_loss", r->train_loss, 6);
        kd_json_set_i64(d, "steps_not_finite", r->skipped);
        kd_json_set_i64(d, "samples_lost", (int64_t)r->lost);
        kd_json_set_bool(d, "stopped_early", r->stopped);
        kd_json_set_rounded(d, "seconds", r->seconds, 1);
        return kd_print_json(d, err);
    }
    printf("%d epochs in %.1f s: train loss %.4f, %s (last), %s (best, epoch %d)%s\n", r->epochs, r->seconds,
           r->train_loss, r->last_text, r->best_text, r->best_epoch + 1, r->stopped ? ", ended early" : "");
    if (r->skipped > 0) {
        printf("%lld steps had no finite gradient and were left out\n", (long long)r->skipped);
    }
    if (r->lost > 0) {
        printf("%zu training samples could not be read and were left out, named above and in log.jsonl (lost)\n",
               r->lost);
    }
    printf("run directory %s\n", KD_SHOWN(out));
    return KD_OK;
}

/* FROM:TO:STEPS */
static kd_status read_range(const char *text, kd_find_lr *f, kd_err *err)
{
    int end = 0;
    const char *range = text != NULL ? text : "1e-6:10:100";
    if (sscanf(range, "%lf:%lf:%d%n", &f->from, &f->to, &f->steps, &end) != 3 || range[end] != '\0' ||
        !(f->from > 0.0 && f->to > f->from && f->to <= 1e6) || f->steps < 10 || f->steps > 100000) {
        return KD_FAIL(err, KD_E_ARG,
                       "--lr-range: expected FROM:TO:STEPS with 0 < FROM < TO and 10 to 100000 steps, such as "
                       "1e-6:10:100, got '%s'",
                       range);
    }
    return KD_OK;
}

static kd_status print_rates(const kd_train_result *r, const char *out, bool json, kd_err *err)
{
    if (json) {
        kd_json *d = kd_json_object();
        kd_json_set_str(d, "type", "result");
        kd_json_set_f64(d, "suggested_base_lr", r->suggested);
        kd_json_set_f64(d, "base_lr_of_least_loss", r->least);
        kd_json_set_f64(d, "last_base_lr", r->tried);
        kd_json_set_bool(d, "diverged", r->diverged);
        return kd_print_json(d, err);
    }
    if (isnan(r->suggested)) {
        printf("the loss falls at no rate up to optim.base_lr %.2g\n", r->tried);
    } else {
        printf("the loss falls steepest at optim.base_lr %.2g, is least at %.2g%s%.2g: try --set optim.base_lr=%.2g\n",
               r->suggested, r->least, r->diverged ? ", diverges at " : ", does not diverge up to ", r->tried,
               r->suggested);
    }
    printf("%s/lr_find.html\n", KD_SHOWN(out));
    return KD_OK;
}

static kd_status find_rate(const kd_training_opts *o, const kd_common *c, const kd_session *s, const kd_out *out,
                           kd_err *err)
{
    static const char *const files[] = {"lr_find.json", "lr_find.csv", "lr_find.html"};
    kd_find_lr f = {.dir = c->out};
    kd_train_result r = {0};
    KD_TRY(read_range(o->lr_range, &f, err));
    KD_TRY(kd_out_dir(out, c->out, files, KD_COUNTOF(files), err));
    const kd_train_opts to = {
        .task = s->task, .cfg = s->cfg, .command = c->typed, .find_lr = &f, .be = s->be, .progress = &s->progress};
    KD_TRY(kd_train(&to, &r, err));
    return print_rates(&r, c->out, c->json, err);
}

static kd_status train(const char *program, const kd_training_opts *o, const kd_common *c, kd_err *err)
{
    kd_session s = {0};
    kd_sets sets = {0};
    kd_train_result r = {0};
    kd_out out;
    kd_status st = KD_OK;
    KD_GO(kd_sets_make(c, "train", &sets, err));
    KD_GO(kd_sets_add_list(&sets, "kd.store", &o->store, err));
    KD_GO(kd_session_open(c, program, o->weights, KD_WEIGHTS_START, &sets, &s, err));
    kd_session_out(&s, c, o->weights, &out);
    if (o->find_lr) {
        st = find_rate(o, c, &s, &out, err);
        goto done;
    }
    if (c->out != NULL) {
        KD_GO(kd_out_run(&out, c->out, err));
    }
    KD_GO(kd_config_absolute(s.cfg, err));
    const kd_train_opts to = {.task = s.task,
                              .cfg = s.cfg,
                              .out_dir = c->out,
                              .command = c->typed,
                              .resume = c->resume,
                              .force = c->force,
                              .dry_run = c->dry_run,
                              .check = c->debug,
                              .be = s.be,
                              .progress = &s.progress};
    KD_GO(kd_train(&to, &r, err));
    if (!c->dry_run) {
        KD_GO(print_result(&r, c->out, c->json, err));
    }
done:
    kd_session_close(&s);
    kd_sets_free(&sets);
    return st;
}

int kd_training(const kd_cmd *cmd, const char *program, const char *example, int argc, char **argv)
{
    kd_training_opts o = {0};
    kd_common c;
    kd_err err = {0};
    const int rc = kd_args_parse(cmd, argc, argv, &o, &c, NULL);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    if (c.num_gpus > 1) {
        return kd_usage(cmd,
                        "--num-gpus %lld: expected 1: a run is one process on one device; for an effective batch as "
                        "large, --set optim.accumulation=N",
                        (long long)c.num_gpus);
    }
    if (o.find_lr ? c.resume || c.dry_run : o.lr_range != NULL) {
        return kd_usage(cmd, o.find_lr
                                 ? "--find-lr: expected neither --resume nor --dry-run: it keeps nothing to go on from"
                                 : "--lr-range does nothing without --find-lr");
    }
    if (c.out == NULL && !c.dry_run) {
        return kd_usage(cmd, "--out DIR is needed: the run directory");
    }
    if (c.config.count == 0) {
        return kd_usage(cmd, "--config FILE is needed: a recipe such as configs/%s", example);
    }
    kd_process_outlive_reader();
    return kd_cmd_end(cmd, train(program, &o, &c, &err), &err);
}
