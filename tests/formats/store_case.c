/* See store_case.h. */
#include "tests/formats/store_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

char root[64];
const char *const NAMES[CLASSES] = {"drink", "eat", "brush \"teeth\"", "comb", "drop"};

const char *in_root(const char *name)
{
    static char buf[64][160];
    char path[160];
    (void)snprintf(path, sizeof path, "%s/%s", root, name);
    for (size_t i = 0; i < KD_COUNTOF(buf); i++) {
        if (buf[i][0] == '\0') {
            memcpy(buf[i], path, sizeof path);
        }
        if (strcmp(buf[i], path) == 0) {
            return buf[i];
        }
    }
    fail_msg("too many names");
    return NULL;
}

/* In memory where the system has a place for that: the faults are ours, flushing a disk thousands of times shows
 * nothing. */
int make_root(void **state)
{
    static const char *const dirs[] = {"/dev/shm", "/tmp"};
    (void)state;
    for (size_t i = 0; i < KD_COUNTOF(dirs); i++) {
        (void)snprintf(root, sizeof root, "%s/kd_store_XXXXXX", dirs[i]);
        if (mkdtemp(root) != NULL) {
            return 0;
        }
    }
    return -1;
}

int drop_root(void **state)
{
    (void)state;
    return kd_io_remove_tree(root, NULL) == KD_OK ? 0 : -1;
}

kd_store_manifest manifest(kd_dtype t)
{
    return (kd_store_manifest){.teacher = "tiny",
                               .teacher_sha256 = "00ff",
                               .config_hash = "aa",
                               .data_set = "sample",
                               .split = "ntu60-xsub",
                               .parts = "train,val",
                               .views = "3x1",
                               .merge = "prob",
                               .decoder = "libavcodec 59",
                               .feature = "fc_norm",
                               .classes = NAMES,
                               .n_classes = CLASSES,
                               .logit_dtype = t,
                               .feature_dim = DIM,
                               .feature_dtype = t == KD_F16 ? KD_BF16 : KD_F32,
                               .block_records = 4};
}

void make_sample(int i, sample *s)
{
    (void)snprintf(s->id, sizeof s->id, "S001C%03dP001R001A%03d", i, i % CLASSES + 1);
    const int views = 1 + i % VIEWS;
    for (int k = 0; k < views * CLASSES; k++) {
        s->logits[k] = (float)(((i * 37 + k * 11) % 29) - 14) * 0.375f;
    }
    for (int k = 0; k < DIM; k++) {
        s->feature[k] = (float)(i - k) * 0.25f;
    }
    for (int v = 0; v < views; v++) {
        for (int f = 0; f < FRAMES; f++) {
            s->frames[v][f] = i + 4 * f + v;
        }
        s->views[v] = (kd_store_view){.clip = v,
                                      .crop = 1,
                                      .crop_x = -3,
                                      .crop_y = 70000,
                                      .flip = v == 1,
                                      .seed = 0x123456789abcdef0u + (unsigned)i,
                                      .n_frames = FRAMES - v,
                                      .frames = s->frames[v]};
    }
    s->rec = (kd_store_record){.id = s->id,
                               .order = (uint64_t)i,
                               .label = i % CLASSES,
                               .n_views = views,
                               .logits = s->logits,
                               .feature = s->feature,
                               .views = s->views};
}

void ok(kd_status st, const kd_err *err)
{
    if (st != KD_OK) {
        fail_msg("%s: %s", kd_status_text(st), err->msg);
    }
}

void write_some(const char *path, const kd_store_manifest *m, int from, int to, int step, bool resume, bool finish)
{
    kd_err err = {0};
    kd_store_writer *w = NULL;
    ok(kd_store_writer_open(path, m, resume ? KD_STORE_RESUME : KD_STORE_NEW, &w, NULL, &err), &err);
    for (int i = from; i < to; i += step) {
        sample s;
        make_sample(i, &s);
        if (!kd_store_has(w, s.id)) {
            ok(kd_store_append(w, &s.rec, &err), &err);
        }
        assert_true(kd_store_has(w, s.id));
    }
    if (finish) {
        ok(kd_store_writer_close(w, &err), &err);
    } else {
        kd_store_writer_abandon(w);
    }
}

void spill(const char *path, const uint8_t *p, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

uint8_t *slurp(const char *path, size_t *n)
{
    uint8_t *p = NULL;
    kd_err err = {0};
    ok(kd_io_read_file(path, (size_t)1 << 26, &p, n, &err), &err);
    return p;
}

void assert_same_file(const char *a, const char *b)
{
    size_t na, nb;
    uint8_t *pa = slurp(a, &na);
    uint8_t *pb = slurp(b, &nb);
    assert_int_equal(na, nb);
    assert_memory_equal(pa, pb, na);
    kd_free(pa);
    kd_free(pb);
}

void check_record(const kd_store_record *r, int i)
{
    sample s;
    make_sample(i, &s);
    assert_string_equal(r->id, s.id);
    assert_int_equal(r->label, i % CLASSES);
    assert_true(r->order == (uint64_t)i);
    assert_int_equal(r->n_views, 1 + i % VIEWS);
    assert_memory_equal(r->logits, s.logits, (size_t)r->n_views * CLASSES * 4); /* exact in f16 too */
    assert_memory_equal(r->feature, s.feature, sizeof s.feature);
    for (int v = 0; v < r->n_views; v++) {
        const kd_store_view *a = &r->views[v];
        assert_true(a->clip == v && a->crop == 1 && a->crop_x == -3 && a->crop_y == 70000);
        assert_true(a->flip == (v == 1) && a->seed == s.views[v].seed);
        assert_int_equal(a->n_frames, FRAMES - v);
        assert_memory_equal(a->frames, s.frames[v], (size_t)(FRAMES - v) * 4);
    }
    for (int k = 0; k < CLASSES; k++) { /* mean of softmaxes */
        double p = 0;
        for (int v = 0; v < r->n_views; v++) {
            double sum = 0;
            for (int j = 0; j < CLASSES; j++) {
                sum += exp((double)s.logits[v * CLASSES + j] - (double)s.logits[v * CLASSES + k]);
            }
            p += 1.0 / sum / r->n_views;
        }
        assert_true(fabs((double)r->prob[k] - p) <= 1e-6);
    }
}
