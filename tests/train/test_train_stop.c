/* Training stopped by the user, at every moment it asks (between training batches and between validation batches), and
 * killed before and after every epoch, also between two phases.  Each time it ends with its state saved, and the
 * resumed run ends with the bytes of one that nobody stopped. */
#include "distill/task/tasks.h"
#include "distill/train/train.h"
#include "formats/base/io.h"
#include "tools/sample/sample.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
/* clang-format on */

#define OUT KD_BUILD_DIR "/tests/train-stop-out"

enum { EPOCHS = 2, TRAIN_BATCHES = 3, VAL_BATCHES = 3, KILLS = 16, MORE = 6 };

/* One performer of twelve clips in each half, four to a batch. */
static const char *const common[] = {
    "kind=student",          "student.name=sfz-nano", "skeleton.frames=16", "data.root=" OUT "/data",
    "data.split.by=subject", "data.split.train=[1]",  "kd.weight=0",        "optim.name=sgd",
    "optim.warmup_epochs=1", "train.batch_size=4",    "train.workers=1",    "train.log_interval=1",
    "eval.batch_size=4"};

typedef struct run {
    const char *name;
    int epochs, val_batches; /* of the run in all; of a validation */
    int every;               /* polls between stops */
    const char *set[MORE];   /* NULL-terminated where there are fewer */
} run;

static const run runs[] = {
    /* averaged weights are measured, so a stop meets them swapped in */
    {"ema", EPOCHS, VAL_BATCHES, 1, {"train.epochs=2", "optim.ema_decay=0.9", "train.eval_ema=true"}},
    {"phases",
     3,
     VAL_BATCHES,
     4,
     {"phases=[{name: one, train: {epochs: 1}, mixup: {alpha: 0.8}}, {name: two, keep_best: true, train: {epochs: 1}, "
      "optim: {base_lr: 1e-4}}, {name: three, start: last, train: {epochs: 1}, label_smoothing: 0.1}]"}},
    {"training chooses",
     3,
     VAL_BATCHES,
     7,
     {"train.select=train", "train.patience=2", "train.epochs=9", "optim.base_lr=0.02", "optim.schedule=hf_cosine",
      "optim.weight_decay_end=0.5"}},
    {"no validation",
     2,
     0,
     2,
     {"train.select=train", "train.epochs=2", "data.split.train=[1, 2]", "data.limit=12", "mixup.alpha=0.8",
      "class_balance=true"}},
};

static void ok(kd_status st, const kd_err *err)
{
    if (st != KD_OK) {
        fail_msg("%s: %s", kd_status_text(st), err->msg);
    }
}

/* Who asks for a stop from a poll on, and who takes copies of the run: what a kill at that moment would leave. */
typedef struct listener {
    int polls, yes_from;
    bool copies;
    int copied;
} listener;

static bool stop(void *user)
{
    listener *a = user;
    return a->polls++ >= a->yes_from;
}

static void copy(listener *a)
{
    char line[3 * 512];
    if (!a->copies) {
        return;
    }
    assert_true(a->copied < KILLS);
    (void)snprintf(line, sizeof line, "cp -r '%s/whole' '%s/killed-%d'", OUT, OUT, a->copied++);
    assert_int_equal(system(line), 0);
}

static void begun(void *user, const char *phase, const char *unit, uint64_t first, uint64_t total)
{
    (void)phase, (void)unit, (void)first, (void)total;
    copy(user);
}

static void ended(void *user, const char *summary)
{
    (void)summary;
    copy(user);
}

static kd_status train(const kd_config *cfg, kd_backend *be, const char *dir, bool resume, listener *a,
                       kd_train_result *result, kd_err *err)
{
    const kd_progress progress = {.user = a, .stop = stop, .begin = begun, .end = ended};
    const kd_train_opts o = {.task = kd_task_of(cfg),
                             .cfg = cfg,
                             .out_dir = dir,
                             .command = "test",
                             .resume = resume,
                             .be = be,
                             .progress = &progress};
    return kd_train(&o, result, err);
}

static void same_file(const char *run_name, const char *dir, const char *name)
{
    kd_err err = {0};
    uint8_t *data[2];
    size_t bytes[2];
    for (int i = 0; i < 2; i++) {
        char path[512];
        (void)snprintf(path, sizeof path, OUT "/%s/%s", i == 0 ? "whole" : dir, name);
        ok(kd_io_read_file(path, 64u << 20, &data[i], &bytes[i], &err), &err);
    }
    if (bytes[0] != bytes[1] || memcmp(data[0], data[1], bytes[0]) != 0) {
        fail_msg("%s: %s/%s differs from that of a run that nobody stopped", run_name, dir, name);
    }
    kd_free(data[0]);
    kd_free(data[1]);
}

static void resumes(const run *r, const kd_config *cfg, kd_backend *be, const char *dir)
{
    static const char *const files[] = {"checkpoints/last/model.safetensors", "checkpoints/last/optim.safetensors",
                                        "checkpoints/last/state.json", "checkpoints/best/model.safetensors",
                                        "log.jsonl"};
    char path[512];
    kd_err err = {0};
    listener never = {.yes_from = 1 << 30};
    (void)snprintf(path, sizeof path, OUT "/%s", dir);
    ok(train(cfg, be, path, true, &never, NULL, &err), &err);
    for (size_t i = 0; i < KD_COUNTOF(files); i++) {
        same_file(r->name, dir, files[i]);
    }
    ok(kd_io_remove_tree(path, &err), &err);
}

static void stopped_anywhere(const run *r, const kd_config *cfg, kd_backend *be)
{
    kd_err err = {0};
    listener whole = {.yes_from = 1 << 30, .copies = true};
    kd_train_result result;
    ok(kd_io_remove_tree(OUT "/whole", &err), &err);
    ok(train(cfg, be, OUT "/whole", false, &whole, &result, &err), &err);
    assert_int_equal(result.epochs, r->epochs);
    assert_int_equal(result.stopped, strcmp(r->name, "training chooses") == 0);
    const int polls = r->epochs * (TRAIN_BATCHES + r->val_batches); /* once a batch, validation included */
    assert_int_equal(whole.polls, polls);
    assert_int_equal(whole.copied, 2 * r->epochs);
    for (int i = 0; i < whole.copied; i++) {
        char dir[32];
        (void)snprintf(dir, sizeof dir, "killed-%d", i);
        resumes(r, cfg, be, dir);
    }
    for (int at = 0; at < polls; at += r->every) {
        listener once = {.yes_from = at};
        assert_int_equal(train(cfg, be, OUT "/stopped", false, &once, NULL, &err), KD_E_CANCELLED);
        assert_int_equal(once.polls, at + 1);
        assert_non_null(strstr(err.msg, "state saved, continue with --resume"));
        err = (kd_err){0};
        resumes(r, cfg, be, "stopped");
    }
}

static void all_runs(void **state)
{
    (void)state;
    const kd_sample_opts so = {.seed = 7,
                               .performers = 2,
                               .cameras = 1,
                               .replications = 1,
                               .width = 64,
                               .height = 48,
                               .threads = 1,
                               .skeletons_only = true};
    kd_sample_result made;
    kd_err err = {0};
    kd_backend *be = NULL;
    kd_config *cfg = kd_calloc(1, sizeof *cfg);
    assert_non_null(cfg);
    kd_log_set_level(KD_LOG_WARN);
    ok(kd_io_remove_tree(OUT, &err), &err);
    ok(kd_sample_write(OUT "/data", &so, NULL, &made, &err), &err);
    ok(kd_backend_cpu_open(1, &be, &err), &err);
    for (size_t i = 0; i < KD_COUNTOF(runs); i++) {
        const char *sets[KD_COUNTOF(common) + MORE];
        size_t n = 0;
        for (size_t k = 0; k < KD_COUNTOF(common); k++) {
            sets[n++] = common[k];
        }
        for (size_t k = 0; k < MORE && runs[i].set[k] != NULL; k++) {
            sets[n++] = runs[i].set[k];
        }
        ok(kd_config_load(NULL, 0, sets, n, cfg, &err), &err);
        stopped_anywhere(&runs[i], cfg, be);
    }
    kd_backend_close(be);
    kd_free(cfg);
    ok(kd_io_remove_tree(OUT, &err), &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_runs)};
    return cmocka_run_group_tests_name("train_stop", tests, NULL, NULL);
}
