/* The batch ring: any number of workers gives the same batches; order, padding, resume, faults,
 * cancel, memory. */
#include "distill/batch/loader.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
/* clang-format on */

static void ok(kd_status st, const kd_err *err)
{
    if (st != KD_OK) {
        fail_msg("%s: %s", kd_status_text(st), err->msg);
    }
}

/* ---- a producer that answers slowly and unevenly, and fails where told ----------------------- */

typedef struct fake {
    uint32_t samples;
    int32_t bad[4]; /* samples that cannot be read; -1: none */
    kd_status code;
    bool slow;
    atomic_int inside; /* calls in flight */
    atomic_int scratches;
    atomic_int opened; /* samples that a worker had not in hand */
} fake;

/* Work space of a worker: what it has in hand, as a decoded video is. */
typedef struct hand {
    int uses; /* a scratch shared by two threads would be a race */
    uint32_t sample, epoch;
} hand;

static float value(uint32_t sample, uint32_t view, uint32_t epoch, size_t i)
{
    return (float)(sample * 1000 + view * 100 + epoch * 10 + (uint32_t)i);
}

/* The second tensor: bytes, five a row, so that rows begin anywhere. */
enum { BYTES = 5 };
static uint8_t byte_value(uint32_t sample, uint32_t view, uint32_t epoch, size_t i)
{
    return (uint8_t)(1 + sample * 7 + view * 3 + epoch * 11 + (uint32_t)i);
}

static kd_status fake_fill(void *ctx, const kd_item *item, void *scratch, void *const *dst, kd_err *err)
{
    fake *f = ctx;
    hand *h = scratch;
    float *a = dst[0];
    uint8_t *b = dst[1];
    atomic_fetch_add(&f->inside, 1);
    if (f->slow) {
        const uint32_t micro = (item->sample * 2654435761u) >> 22;
        const struct timespec nap = {.tv_nsec = (long)micro * 1000};
        nanosleep(&nap, NULL);
    }
    if (h->uses++ == 0 || h->sample != item->sample || h->epoch != item->epoch) {
        atomic_fetch_add(&f->opened, 1);
    }
    h->sample = item->sample;
    h->epoch = item->epoch;
    kd_status st = KD_OK;
    for (int k = 0; k < 4; k++) {
        if (f->bad[k] == (int32_t)item->sample) {
            a[0] = 12345.0f;
            b[BYTES - 1] = 77;
            st = KD_FAIL(err, f->code, "s%u: cannot be read", item->sample);
        }
    }
    for (size_t i = 0; st == KD_OK && i < 3; i++) {
        a[i] = value(item->sample, item->view, item->epoch, i);
    }
    for (size_t i = 0; st == KD_OK && i < BYTES; i++) {
        b[i] = byte_value(item->sample, item->view, item->epoch, i);
    }
    atomic_fetch_sub(&f->inside, 1);
    return st;
}

static kd_status fake_scratch(void *ctx, void **scratch, kd_err *err)
{
    fake *f = ctx;
    *scratch = kd_calloc(1, sizeof(hand));
    if (*scratch == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory");
    }
    atomic_fetch_add(&f->scratches, 1);
    return KD_OK;
}

static void fake_scratch_free(void *ctx, void *scratch)
{
    fake *f = ctx;
    if (scratch != NULL) {
        atomic_fetch_sub(&f->scratches, 1);
    }
    kd_free(scratch);
}

/* Two labels a sample: several are the general case. */
static void fake_label(void *ctx, const kd_item *item, int32_t *dst)
{
    (void)ctx;
    dst[0] = (int32_t)(item->sample % 7);
    dst[1] = (int32_t)(item->sample % 5) - 1;
}

static const char *fake_id(void *ctx, uint32_t sample)
{
    (void)ctx;
    (void)sample;
    return "s";
}

static fake make_fake(uint32_t samples)
{
    return (fake){.samples = samples, .bad = {-1, -1, -1, -1}, .code = KD_E_FORMAT};
}

static kd_producer producer(fake *f, uint32_t views, int grain)
{
    return (kd_producer){.ctx = f,
                         .samples = f->samples,
                         .views = views,
                         .n_tensors = 2,
                         .tensor = {kd_row_spec_of("a", KD_F32, 1, (const int64_t[]){3}),
                                    kd_row_spec_of("b", KD_U8, 2, (const int64_t[]){BYTES, 1})},
                         .grain = grain,
                         .scratch_new = fake_scratch,
                         .scratch_free = fake_scratch_free,
                         .fill = fake_fill,
                         .n_labels = 2,
                         .label = fake_label,
                         .id = fake_id};
}

static kd_loader *open_loader(const kd_loader_opts *o, const kd_producer *p)
{
    kd_err err = {0};
    kd_loader *l = NULL;
    ok(kd_loader_open(o, p, &l, &err), &err);
    return l;
}

static void seek(kd_loader *l, uint32_t epoch, uint64_t batch)
{
    kd_err err = {0};
    ok(kd_loader_seek(l, epoch, batch, &err), &err);
}

static const kd_batch *next(kd_loader *l)
{
    kd_err err = {0};
    const kd_batch *b = NULL;
    ok(kd_loader_next(l, &b, &err), &err);
    return b;
}

static void check_row(const kd_batch *b, int row)
{
    const bool good = b->valid[row] > 0.0f;
    const float *a = (const float *)b->tensor[0] + (size_t)row * 3;
    const uint8_t *c = (const uint8_t *)b->tensor[1] + (size_t)row * BYTES;
    for (size_t i = 0; i < 3; i++) {
        assert_true(a[i] == (good ? value(b->sample[row], b->view[row], b->epoch, i) : 0.0f));
    }
    for (size_t i = 0; i < BYTES; i++) {
        assert_int_equal(c[i], good ? byte_value(b->sample[row], b->view[row], b->epoch, i) : 0);
    }
    int32_t label[2] = {0, 0};
    if (good) {
        fake_label(NULL, &(kd_item){.sample = b->sample[row]}, label);
    }
    assert_memory_equal(b->label + 2 * (size_t)row, label, sizeof label);
}

/* ---- order ----------------------------------------------------------------------------------- */

static void training_order(void **state)
{
    (void)state;
    enum { N = 53, B = 8, BATCHES = N / B };
    fake f = make_fake(N);
    uint32_t want[3][BATCHES][B];
    static const int WORKERS[] = {0, 1, 2, 5}, GRAIN[] = {1, 3, 8, 100};
    for (int run = 0; run < 4; run++) {
        f.slow = run > 0;
        const kd_producer p = producer(&f, 1, GRAIN[run]);
        const kd_loader_opts o = {.batch_size = B, .workers = WORKERS[run], .train = true, .seed = 9};
        kd_loader *l = open_loader(&o, &p);
        assert_int_equal(kd_loader_batches(l), BATCHES);
        assert_int_equal(kd_loader_items(l), BATCHES * B);
        seek(l, 0, 0);
        for (uint32_t e = 0; e < 3; e++) {
            bool seen[N] = {false};
            for (uint64_t i = 0; i < BATCHES; i++) {
                const kd_batch *b = next(l);
                assert_int_equal(b->epoch, e);
                assert_int_equal(b->index, i);
                assert_int_equal(b->last, i + 1 == BATCHES);
                assert_int_equal(b->valid_rows, B);
                for (int r = 0; r < B; r++) {
                    check_row(b, r);
                    assert_false(seen[b->sample[r]]);
                    seen[b->sample[r]] = true;
                    if (run == 0) {
                        want[e][i][r] = b->sample[r];
                    }
                    assert_int_equal(b->sample[r], want[e][i][r]);
                }
            }
        }
        /* continued anywhere, the same batches follow */
        seek(l, 1, 4);
        assert_memory_equal(next(l)->sample, want[1][4], sizeof want[1][4]);
        seek(l, 0, BATCHES);
        assert_memory_equal(next(l)->sample, want[1][0], sizeof want[1][0]);
        kd_loader_close(l);
    }
    assert_true(memcmp(want[0], want[1], sizeof want[0]) != 0);
    assert_int_equal(f.scratches, 0);
}

static void evaluation_order(void **state)
{
    (void)state;
    fake f = make_fake(5);
    f.slow = true;
    for (int workers = 0; workers < 4; workers++) {
        const kd_producer p = producer(&f, 3, 3);
        const kd_loader_opts o = {.batch_size = 4, .workers = workers};
        kd_loader *l = open_loader(&o, &p);
        for (uint32_t epoch = 0; epoch < 2; epoch++) {
            uint32_t at = 0;
            seek(l, epoch, 0);
            for (const kd_batch *b = next(l); b != NULL; b = next(l)) {
                for (int r = 0; r < 4; r++, at++) {
                    check_row(b, r);
                    const bool there = at < 15;
                    assert_int_equal(b->valid[r] > 0.0f, there);
                    assert_int_equal(b->sample[r], there ? at / 3 : UINT32_MAX);
                    assert_int_equal(b->view[r], there ? at % 3 : 0);
                }
                assert_int_equal(b->valid_rows, at <= 15 ? 4 : 3);
                assert_int_equal(b->last, at == 16);
            }
            assert_int_equal(at, 16);
            assert_null(next(l));
        }
        kd_loader_close(l);
    }
}

/* All views of a sample are one worker's, however batches cut them: a video is decoded once. */
static void views_are_one_workers(void **state)
{
    (void)state;
    static const struct {
        int batch, workers, depth;
    } CASE[] = {{4, 3, 0}, {1, 2, 0}, {1, 2, 2}, {7, 4, 2}, {30, 2, 0}, {4, 1, 0}, {4, 0, 0}};
    for (size_t k = 0; k < KD_COUNTOF(CASE); k++) {
        fake f = make_fake(31);
        f.slow = k % 2 == 0;
        const kd_producer p = producer(&f, 6, 6);
        const kd_loader_opts o = {.batch_size = CASE[k].batch, .workers = CASE[k].workers, .depth = CASE[k].depth};
        kd_loader *l = open_loader(&o, &p);
        uint32_t at = 0;
        seek(l, 0, 0);
        for (const kd_batch *b = next(l); b != NULL; b = next(l)) {
            for (int r = 0; r < b->rows && at < 6 * 31; r++, at++) {
                check_row(b, r);
                assert_true(b->valid[r] > 0.0f && b->sample[r] == at / 6 && b->view[r] == at % 6);
            }
        }
        assert_int_equal(at, 6 * 31);
        assert_int_equal(f.opened, 31);
        seek(l, 0, kd_loader_batches(l) / 2); /* into the middle of a sample, as a resumed dump does */
        for (const kd_batch *b = next(l); b != NULL; b = next(l)) {
            for (int r = 0; r < b->rows; r++) {
                check_row(b, r);
            }
        }
        kd_loader_close(l);
    }
}

/* Repeated augmentation: a1 a2 b1 b2, in the order and the batches of a run without repeats. */
static void repeats_follow_each_other(void **state)
{
    (void)state;
    enum { N = 29, B = 4 };
    for (int workers = 0; workers < 4; workers++) {
        fake f = make_fake(N), g = make_fake(N);
        f.slow = true;
        const kd_producer one = producer(&g, 1, 1), three = producer(&f, 3, 3);
        kd_loader *plain = open_loader(&(kd_loader_opts){.batch_size = B, .train = true, .seed = 8}, &one);
        kd_loader *l =
            open_loader(&(kd_loader_opts){.batch_size = 3 * B, .workers = workers, .train = true, .seed = 8}, &three);
        assert_int_equal(kd_loader_batches(l), kd_loader_batches(plain));
        seek(plain, 1, 2);
        seek(l, 1, 2);
        for (int i = 0; i < 9; i++) {
            const kd_batch *b = next(l), *want = next(plain);
            assert_true(b->epoch == want->epoch && b->index == want->index && b->rows == 3 * B);
            for (int r = 0; r < 3 * B; r++) {
                check_row(b, r);
                assert_int_equal(b->sample[r], want->sample[r / 3]);
                assert_int_equal(b->view[r], r % 3);
            }
        }
        assert_true(workers > 0 || f.opened == 9 * B);
        kd_loader_close(l);
        kd_loader_close(plain);
        kd_loader *none = NULL;
        assert_int_equal(kd_loader_open(&(kd_loader_opts){.batch_size = 4, .train = true}, &three, &none, NULL),
                         KD_E_ARG);
    }
}

/* R ranks of B rows take together what one rank of R B rows takes. */
static void ranks_share_a_batch(void **state)
{
    (void)state;
    fake f = make_fake(40);
    const kd_producer p = producer(&f, 1, 1);
    kd_loader *whole = open_loader(&(kd_loader_opts){.batch_size = 6, .train = true, .seed = 4}, &p);
    kd_loader *part[3];
    seek(whole, 0, 0);
    for (int r = 0; r < 3; r++) {
        part[r] = open_loader(
            &(kd_loader_opts){.batch_size = 2, .train = true, .seed = 4, .rank = r, .ranks = 3, .workers = 1}, &p);
        assert_int_equal(kd_loader_batches(part[r]), kd_loader_batches(whole));
        seek(part[r], 0, 0);
    }
    for (uint64_t i = 0; i < kd_loader_batches(whole); i++) {
        const kd_batch *b = next(whole);
        for (int r = 0; r < 3; r++) {
            assert_memory_equal(next(part[r])->sample, b->sample + 2 * r, 2 * sizeof *b->sample);
        }
    }
    for (int r = 0; r < 3; r++) {
        kd_loader_close(part[r]);
    }
    kd_loader_close(whole);
}

/* ---- faults ---------------------------------------------------------------------------------- */

static void fail_policy_names_the_first(void **state)
{
    (void)state;
    for (int workers = 0; workers < 4; workers++) {
        fake f = make_fake(40);
        f.bad[0] = 21;
        f.bad[1] = 18;
        f.bad[2] = 30;
        f.slow = true;
        const kd_producer p = producer(&f, 1, 1);
        kd_loader *l = open_loader(&(kd_loader_opts){.batch_size = 8, .workers = workers}, &p);
        seek(l, 0, 0);
        assert_non_null(next(l));
        assert_non_null(next(l));
        kd_err err = {0};
        const kd_batch *b;
        assert_int_equal(kd_loader_next(l, &b, &err), KD_E_FORMAT);
        assert_string_equal(err.msg, "s18: cannot be read (data.on_bad_sample: skip leaves it out)");
        assert_null(b);
        assert_int_equal(kd_loader_next(l, &b, NULL), KD_E_FORMAT); /* and again */
        seek(l, 0, 0);                                              /* usable after it */
        assert_non_null(next(l));
        kd_loader_close(l);
    }
}

static void skip_policy_leaves_out(void **state)
{
    (void)state;
    for (int workers = 0; workers < 4; workers++) {
        fake f = make_fake(40);
        f.bad[0] = 21;
        f.bad[1] = 18;
        f.slow = true;
        const kd_producer p = producer(&f, 1, 2);
        kd_loader *l = open_loader(
            &(kd_loader_opts){.batch_size = 8, .workers = workers, .train = true, .seed = 2, .on_bad = KD_BAD_SKIP},
            &p);
        seek(l, 0, 0);
        int lost = 0;
        for (int i = 0; i < 10; i++) {
            const kd_batch *b = next(l);
            int valid = 0;
            for (int r = 0; r < 8; r++) {
                check_row(b, r);
                valid += b->valid[r] > 0.0f;
                assert_int_equal(b->valid[r] > 0.0f, b->sample[r] != 21 && b->sample[r] != 18);
            }
            assert_int_equal(valid, b->valid_rows);
            lost += 8 - valid;
        }
        const kd_bad_sample *bad;
        assert_int_equal(kd_loader_bad(l, &bad), 2);
        assert_int_equal(lost, 4); /* two samples in two epochs */
        assert_int_equal(bad[0].times + bad[1].times, 4);
        assert_non_null(strstr(bad[0].message, "cannot be read"));
        kd_loader_close(l);
        /* memory is not bad input */
        f.code = KD_E_OOM;
        l = open_loader(&(kd_loader_opts){.batch_size = 40, .workers = workers, .on_bad = KD_BAD_SKIP}, &p);
        seek(l, 0, 0);
        const kd_batch *b;
        assert_int_equal(kd_loader_next(l, &b, NULL), KD_E_OOM);
        kd_loader_close(l);
    }
}

static void *cancel_later(void *l)
{
    const struct timespec nap = {.tv_nsec = 3000000};
    nanosleep(&nap, NULL);
    kd_loader_cancel(l);
    return NULL;
}

static void cancel_and_close(void **state)
{
    (void)state;
    fake f = make_fake(1000);
    f.slow = true;
    const kd_producer p = producer(&f, 1, 1);
    kd_loader *l = open_loader(&(kd_loader_opts){.batch_size = 500, .workers = 2, .train = true}, &p);
    const kd_batch *b;
    assert_int_equal(kd_loader_next(l, &b, NULL), KD_E_STATE);
    seek(l, 0, 0);
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, cancel_later, l), 0);
    kd_status st = KD_OK;
    for (int i = 0; st == KD_OK && i < 1000; i++) {
        st = kd_loader_next(l, &b, NULL);
    }
    assert_int_equal(st, KD_E_CANCELLED);
    pthread_join(t, NULL);
    kd_loader_close(l); /* in the middle of a batch */
    assert_int_equal(f.inside, 0);
    assert_int_equal(f.scratches, 0);
    l = open_loader(&(kd_loader_opts){.batch_size = 4, .workers = 3}, &p);
    kd_loader_close(l); /* never started */
    kd_loader_close(NULL);
}

static void refusals(void **state)
{
    (void)state;
    fake f = make_fake(3);
    const kd_producer p = producer(&f, 1, 1);
    kd_loader *l = NULL;
    kd_err err = {0};
    assert_int_equal(kd_loader_open(&(kd_loader_opts){.batch_size = 4, .train = true}, &p, &l, &err), KD_E_DATA);
    assert_non_null(strstr(err.msg, "batch"));
    assert_null(l);
    assert_int_equal(kd_loader_open(&(kd_loader_opts){.batch_size = 0}, &p, &l, NULL), KD_E_ARG);
    l = open_loader(
        &(kd_loader_opts){
            .batch_size = 4,
        },
        &p);
    seek(l, 0, 0);
    assert_int_equal(next(l)->valid_rows, 3);
    assert_int_equal(kd_loader_seek(l, 0, 2, NULL), KD_E_ARG);
    kd_loader_close(l);
    f = make_fake(0);
    const kd_producer none = producer(&f, 1, 1);
    assert_int_equal(kd_loader_open(&(kd_loader_opts){.batch_size = 1}, &none, &l, NULL), KD_E_DATA);
}

/* No allocation once it runs; every allocation that fails while opening is reported and leaks
 * nothing. */
static void memory(void **state)
{
    (void)state;
    fake f = make_fake(64);
    const kd_producer p = producer(&f, 1, 4);
    const kd_loader_opts o = {.batch_size = 8, .workers = 2, .train = true};
    kd_loader *l = open_loader(&o, &p);
    seek(l, 0, 0);
    const uint64_t before = kd_alloc_calls();
    for (int i = 0; i < 50; i++) {
        (void)next(l);
    }
    assert_int_equal(kd_alloc_calls(), before);
    kd_loader_close(l);
    kd_status st = KD_E_OOM;
    for (uint64_t n = 1; st == KD_E_OOM; n++) {
        kd_err err = {0};
        kd_alloc_fail_at(n);
        st = kd_loader_open(&o, &p, &l, &err);
        kd_alloc_fail_at(0);
        assert_true(st == KD_OK || (st == KD_E_OOM && err.msg[0] != '\0'));
    }
    kd_loader_close(l);
    assert_int_equal(f.scratches, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(training_order),
                                       cmocka_unit_test(evaluation_order),
                                       cmocka_unit_test(views_are_one_workers),
                                       cmocka_unit_test(repeats_follow_each_other),
                                       cmocka_unit_test(ranks_share_a_batch),
                                       cmocka_unit_test(fail_policy_names_the_first),
                                       cmocka_unit_test(skip_policy_leaves_out),
                                       cmocka_unit_test(cancel_and_close),
                                       cmocka_unit_test(refusals),
                                       cmocka_unit_test(memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
