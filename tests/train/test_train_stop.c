/* Training stopped by the user, at every moment it asks: between training batches and between validation batches.  Each
 * time it ends at once with its state saved, and the resumed run ends with the bytes of one that nobody stopped. */
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

enum { EPOCHS = 2, TRAIN_BATCHES = 3, VAL_BATCHES = 3, POLLS = EPOCHS * (TRAIN_BATCHES + VAL_BATCHES) };

/* One performer of twelve clips in each half, four to a batch; averaged weights are measured, so a stop meets them
 * swapped in. */
static const char *const recipe[] = {
    "kind=student",          "student.name=sfz-nano", "skeleton.frames=16",  "data.root=" OUT "/data",
    "data.split.by=subject", "data.split.train=[1]",  "kd.weight=0",         "optim.name=sgd",
    "optim.warmup_epochs=1", "optim.ema_decay=0.9",   "train.eval_ema=true", "train.epochs=2",
    "train.batch_size=4",    "train.log_interval=1",  "train.workers=1",     "eval.batch_size=4"};

static void ok(kd_status st, const kd_err *err)
{
    if (st != KD_OK) {
        fail_msg("%s: %s", kd_status_text(st), err->msg);
    }
}

typedef struct asker {
    int polls, yes_from;
} asker;

static bool stop(void *user)
{
    asker *a = user;
    return a->polls++ >= a->yes_from;
}

static kd_status train(const kd_config *cfg, kd_backend *be, const char *dir, bool resume, asker *a, kd_err *err)
{
    const kd_progress progress = {.user = a, .stop = stop};
    const kd_train_opts o = {.task = kd_task_of(cfg),
                             .cfg = cfg,
                             .out_dir = dir,
                             .command = "test",
                             .resume = resume,
                             .be = be,
                             .progress = &progress};
    return kd_train(&o, NULL, err);
}

static void same_file(const char *name, int at)
{
    kd_err err = {0};
    uint8_t *data[2];
    size_t bytes[2];
    for (int i = 0; i < 2; i++) {
        char path[512];
        (void)snprintf(path, sizeof path, OUT "/%s/%s", i == 0 ? "whole" : "stopped", name);
        ok(kd_io_read_file(path, 64u << 20, &data[i], &bytes[i], &err), &err);
    }
    if (bytes[0] != bytes[1] || memcmp(data[0], data[1], bytes[0]) != 0) {
        fail_msg("stopped at poll %d of %d: %s differs", at, POLLS, name);
    }
    kd_free(data[0]);
    kd_free(data[1]);
}

static void stopped_anywhere(void **state)
{
    (void)state;
    static const char *const files[] = {"checkpoints/last/model.safetensors", "checkpoints/last/optim.safetensors",
                                        "checkpoints/last/state.json", "checkpoints/best/model.safetensors",
                                        "log.jsonl"};
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
    asker never = {0, POLLS + 1};
    kd_config *cfg = kd_calloc(1, sizeof *cfg);
    assert_non_null(cfg);
    kd_log_set_level(KD_LOG_WARN);
    ok(kd_io_remove_tree(OUT, &err), &err);
    ok(kd_sample_write(OUT "/data", &so, NULL, &made, &err), &err);
    ok(kd_config_load(NULL, 0, recipe, KD_COUNTOF(recipe), cfg, &err), &err);
    ok(kd_backend_cpu_open(1, &be, &err), &err);
    ok(train(cfg, be, OUT "/whole", false, &never, &err), &err);
    assert_int_equal(never.polls, POLLS); /* once a batch, validation included */
    for (int at = 0; at < POLLS; at++) {
        asker once = {0, at};
        ok(kd_io_remove_tree(OUT "/stopped", &err), &err);
        assert_int_equal(train(cfg, be, OUT "/stopped", false, &once, &err), KD_E_CANCELLED);
        assert_int_equal(once.polls, at + 1);
        assert_non_null(strstr(err.msg, "state saved, continue with --resume"));
        err = (kd_err){0};
        never.polls = 0;
        ok(train(cfg, be, OUT "/stopped", true, &never, &err), &err);
        for (size_t i = 0; i < KD_COUNTOF(files); i++) {
            same_file(files[i], at);
        }
    }
    kd_backend_close(be);
    kd_free(cfg);
    ok(kd_io_remove_tree(OUT, &err), &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(stopped_anywhere)};
    return cmocka_run_group_tests_name("train_stop", tests, NULL, NULL);
}
