/* Student training whose data stay on the device, on the CPU: the same bytes as with batches that are fed, over every
 * draw and mixup, with a sample that is lost, stopped and continued in either way; and a device without room says so
 * before anything is trained.  With KD_TEST_SIMT: an epoch on the SIMT shim's card beside one on the processor. */
#include "distill/task/tasks.h"
#include "distill/train/train.h"
#include "formats/base/io.h"
#include "tools/sample/sample.h"

#include <math.h>

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
/* clang-format on */

#ifdef KD_TEST_SIMT
#    define OUT KD_BUILD_DIR "/tests/resident-simt-out"
#else
#    define OUT KD_BUILD_DIR "/tests/resident-out"
#endif

static const char *const recipe[] = {"kind=student",
                                     "student.name=sfz-nano",
                                     "student.dropout=0.2",
                                     "skeleton.frames=8",
                                     "skeleton_aug.rotate_deg=20",
                                     "skeleton_aug.scale=[0.9, 1.1]",
                                     "skeleton_aug.shear=0.1",
                                     "skeleton_aug.flip_prob=0.5",
                                     "skeleton_aug.time_flip_prob=0.5",
                                     "skeleton_aug.speed=[0.7, 1.2]",
                                     "skeleton_aug.speed_prob=0.7",
                                     "skeleton_aug.noise_joint=0.01",
                                     "skeleton_aug.noise_velocity=0.002",
                                     "skeleton_aug.noise_bone=0.005",
                                     "skeleton_aug.joint_mask=0.1",
                                     "data.root=" OUT "/data",
                                     "data.split.by=subject",
                                     "data.split.train=[1]",
                                     "data.on_bad_sample=skip",
                                     "mixup.alpha=0.8",
                                     "kd.weight=0",
                                     "optim.name=sgd",
                                     "optim.warmup_epochs=1",
                                     "optim.accumulation=1",
#ifdef KD_TEST_SIMT
                                     "data.limit=8",
                                     "train.epochs=1",
#else
                                     "train.epochs=2",
#endif
                                     "train.batch_size=4",
                                     "train.log_interval=1",
                                     "train.workers=1",
                                     "eval.batch_size=4"};

static void ok(kd_status st, const kd_err *err)
{
    if (st != KD_OK) {
        fail_msg("%s: %s", kd_status_text(st), err->msg);
    }
}

/* Says stop at poll `yes_at` of the training, and counts how often skeletons went to the device. */
typedef struct asker {
    int polls, yes_at;
    bool reading; /* they are on their way */
    int phases;   /* of that kind */
} asker;

static void begin(void *user, const char *phase, const char *unit, uint64_t first, uint64_t total)
{
    (void)unit, (void)first, (void)total;
    asker *a = user;
    a->reading = strstr(phase, "device") != NULL;
    a->phases += a->reading;
}

static bool stop(void *user)
{
    asker *a = user;
    return !a->reading && a->polls++ == a->yes_at;
}

static kd_config *config(kd_cfg_resident resident)
{
    kd_err err = {0};
    kd_config *cfg = kd_calloc(1, sizeof *cfg);
    assert_non_null(cfg);
    ok(kd_config_load(NULL, 0, recipe, KD_COUNTOF(recipe), cfg, &err), &err);
    cfg->train.resident = resident;
    return cfg;
}

static kd_status train(kd_backend *be, kd_cfg_resident resident, const char *dir, bool resume, asker *a, kd_err *err)
{
    const kd_progress progress = {.user = a, .begin = begin, .stop = stop};
    kd_config *cfg = config(resident);
    const kd_train_opts o = {.task = kd_task_of(cfg),
                             .cfg = cfg,
                             .out_dir = dir,
                             .command = "test",
                             .resume = resume,
                             .be = be,
                             .progress = &progress};
    const kd_status st = kd_train(&o, NULL, err);
    kd_free(cfg);
    return st;
}

/* Performer 1 trains with twelve clips, three batches of four; the first of them is damaged. */
static void make_data(void)
{
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
    ok(kd_io_remove_tree(OUT, &err), &err);
    ok(kd_sample_write(OUT "/data", &so, NULL, &made, &err), &err);
    FILE *f = fopen(OUT "/data/nturgb+d_skeletons/S003C001P001R001A003.skeleton", "w");
    assert_non_null(f);
    assert_true(fputs("3\n1\nnonsense\n", f) >= 0);
    assert_int_equal(fclose(f), 0);
}

#ifndef KD_TEST_SIMT
static void same_runs(const char *a, const char *b)
{
    static const char *const files[] = {"checkpoints/last/model.safetensors", "checkpoints/last/optim.safetensors",
                                        "checkpoints/best/model.safetensors", "log.jsonl"};
    kd_err err = {0};
    for (size_t i = 0; i < KD_COUNTOF(files); i++) {
        uint8_t *data[2];
        size_t bytes[2];
        for (int k = 0; k < 2; k++) {
            char path[512];
            (void)snprintf(path, sizeof path, "%s/%s", k == 0 ? a : b, files[i]);
            ok(kd_io_read_file(path, 64u << 20, &data[k], &bytes[k], &err), &err);
        }
        if (bytes[0] != bytes[1] || memcmp(data[0], data[1], bytes[0]) != 0) {
            fail_msg("%s differs between %s and %s", files[i], a, b);
        }
        if (i == 3) { /* the lost sample is in both logs */
            assert_non_null(strstr((const char *)data[0], "\"type\":\"lost\""));
        }
        kd_free(data[0]);
        kd_free(data[1]);
    }
}

static void same_bytes(void **state)
{
    kd_backend *be = *state;
    kd_err err = {0};
    asker never = {.yes_at = -1};
    ok(train(be, KD_RESIDENT_AUTO, OUT "/fed", false, &never, &err), &err); /* on the CPU only when asked for */
    assert_int_equal(never.phases, 0);
    ok(train(be, KD_RESIDENT_ON, OUT "/kept", false, &never, &err), &err);
    assert_int_equal(never.phases, 1);
    same_runs(OUT "/fed", OUT "/kept");
    for (int way = 0; way < 2; way++) { /* stopped and continued; the continuation may be of the other kind */
        asker once = {.yes_at = 1 + way};
        const kd_cfg_resident then = way == 0 ? KD_RESIDENT_ON : KD_RESIDENT_OFF;
        ok(kd_io_remove_tree(OUT "/stopped", &err), &err);
        assert_int_equal(train(be, KD_RESIDENT_ON, OUT "/stopped", false, &once, &err), KD_E_CANCELLED);
        err = (kd_err){0};
        ok(train(be, then, OUT "/stopped", true, &never, &err), &err);
        same_runs(OUT "/fed", OUT "/stopped");
    }
}

/* data.on_bad_sample: fail ends the run with the same words. */
static void same_failure(void **state)
{
    kd_backend *be = *state;
    char said[2][600];
    for (int i = 0; i < 2; i++) {
        kd_err err = {0};
        kd_config *cfg = config(i == 0 ? KD_RESIDENT_OFF : KD_RESIDENT_ON);
        cfg->data.on_bad_sample = KD_BAD_FAIL;
        const kd_train_opts o = {
            .task = kd_task_of(cfg), .cfg = cfg, .out_dir = OUT "/failed", .command = "test", .be = be};
        const kd_status st = kd_train(&o, NULL, &err);
        assert_true(st == KD_E_FORMAT || st == KD_E_DATA);
        (void)snprintf(said[i], sizeof said[i], "%d %s", (int)st, err.msg);
        assert_non_null(strstr(said[i], "S003C001P001R001A003"));
        kd_free(cfg);
        ok(kd_io_remove_tree(OUT "/failed", &err), &err);
    }
    assert_string_equal(said[0], said[1]);
}

static void expect_words(const kd_err *err, const char *words)
{
    if (strstr(err->msg, words) == NULL) {
        fail_msg("'%s' does not say '%s'", err->msg, words);
    }
}

static size_t room;

static kd_status memory(kd_backend *be, size_t *free_bytes, size_t *total_bytes)
{
    (void)be;
    *free_bytes = room;
    *total_bytes = (size_t)1 << 40;
    return KD_OK;
}

static void describe(kd_backend *be, char *buf, size_t size)
{
    (void)be;
    (void)snprintf(buf, size, "a card");
}

/* A device that counts its memory: `on` is refused with the sizes, `auto` keeps the data there or goes on without. */
static void room_for_it(void **state)
{
    kd_backend *be = *state;
    const kd_backend_ops *real = be->ops;
    static kd_backend_ops card; /* outlives a test that fails */
    card = *real;
    card.name = "card";
    card.memory = memory;
    card.describe = describe;
    be->ops = &card;
    kd_err err = {0};
    asker never = {.yes_at = -1};
    room = 150000; /* for 12 sequences of 4800 bytes, not for the training besides */
    assert_int_equal(train(be, KD_RESIDENT_ON, OUT "/refused", false, &never, &err), KD_E_OOM);
    expect_words(&err, "not even a batch of 1 fits");
    room = 40000;
    err = (kd_err){0};
    assert_int_equal(train(be, KD_RESIDENT_ON, OUT "/refused", false, &never, &err), KD_E_OOM);
    expect_words(&err, "train.resident: on: 12 sequences take 0.1 MiB and the teacher's rows 0.0 MiB");
    expect_words(&err, "card has 0.0 MiB free");
    assert_int_equal(never.phases, 0);
    room = (size_t)4 << 30;
    err = (kd_err){0};
    ok(train(be, KD_RESIDENT_AUTO, OUT "/card", false, &never, &err), &err);
    assert_int_equal(never.phases, 1);
    same_runs(OUT "/fed", OUT "/card");
    be->ops = real;
}

#else
/* The first train_loss of a run's log. */
static double first_loss(const char *dir)
{
    kd_err err = {0};
    char path[512];
    uint8_t *data;
    size_t bytes;
    (void)snprintf(path, sizeof path, "%s/log.jsonl", dir);
    ok(kd_io_read_file(path, 64u << 20, &data, &bytes, &err), &err);
    const char *at = strstr((const char *)data, "\"train_loss\":");
    assert_non_null(at);
    const double loss = strtod(at + strlen("\"train_loss\":"), NULL);
    kd_free(data);
    return loss;
}

/* On a card the data go there by themselves, and an epoch has the processor's loss. */
static void on_a_card(void **state)
{
    kd_err err = {0};
    kd_backend *card = NULL;
    asker never = {.yes_at = -1};
    ok(train(*state, KD_RESIDENT_OFF, OUT "/fed", false, &never, &err), &err);
    assert_int_equal(never.phases, 0);
    ok(kd_backend_cuda_open(NULL, &card, &err), &err);
    ok(train(card, KD_RESIDENT_AUTO, OUT "/card", false, &never, &err), &err);
    assert_int_equal(never.phases, 1);
    const double want = first_loss(OUT "/fed"), got = first_loss(OUT "/card");
    print_message("  loss %.7f, on the processor %.7f\n", got, want);
    assert_true(fabs(got - want) <= 1e-4 * want);
    kd_backend_close(card);
}
#endif

static int open_all(void **state)
{
    kd_err err = {0};
    kd_backend *be = NULL;
    kd_log_set_level(KD_LOG_ERROR);
    make_data();
    ok(kd_backend_cpu_open(1, &be, &err), &err);
    *state = be;
    return 0;
}

static int close_all(void **state)
{
    kd_backend_close(*state);
    return kd_io_remove_tree(OUT, NULL) == KD_OK ? 0 : -1;
}

int main(void)
{
#ifndef KD_TEST_SIMT
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_bytes), cmocka_unit_test(same_failure),
                                       cmocka_unit_test(room_for_it)};
#else
    const struct CMUnitTest tests[] = {cmocka_unit_test(on_a_card)};
#endif
    return cmocka_run_group_tests_name("resident", tests, open_all, close_all);
}
