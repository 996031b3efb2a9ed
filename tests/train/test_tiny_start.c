/* The weights that come with the project (configs/teacher/tiny_pretrained.safetensors): they are what the recipes that
 * start from them describe, tensor by tensor, and a damaged copy is refused. */
#include "distill/task/tasks.h"
#include "formats/base/hash.h"
#include "formats/base/io.h"

/* clang-format off */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
/* clang-format on */

#define PRESETS KD_SOURCE_DIR "/configs/teacher/"
#define START   PRESETS "tiny_pretrained.safetensors"
#define COPY    KD_BUILD_DIR "/tests/tiny-start.safetensors"

enum { SAMPLE_ACTIONS = 12, MSR_ACTIONS = 20, MOST_BYTES = 1200000 };

static void must(kd_status st, const kd_err *err)
{
    if (st != KD_OK) {
        fail_msg("%s", err->msg);
    }
}

/* The recipe's model for `classes` classes, freshly drawn, and START loaded into it as a fine-tuning run does. */
static kd_load_report load_into(const char *recipe, int classes, kd_backend *be, kd_model *m)
{
    kd_config *cfg = kd_calloc(1, sizeof *cfg);
    kd_load_report r;
    kd_err err = {0};
    assert_non_null(cfg);
    must(kd_config_load(&(const char *){recipe}, 1, NULL, 0, cfg, &err), &err);
    must(kd_model_open(kd_task_of(cfg), cfg, classes, be, m, &err), &err);
    must(kd_model_init(m, NULL, 1, &err), &err);
    must(kd_model_load(m, START, "", true, NULL, &r, &err), &err);
    kd_load_report_free(&r); /* the names; the counts stay */
    kd_free(cfg);
    return r;
}

static void expect_learned(const kd_model *m)
{
    for (int i = 0; i < kd_params_count(m->params); i++) {
        const kd_param_info *e = kd_params_at(m->params, i);
        float *v = kd_alloc((size_t)e->numel * sizeof *v);
        double size = 0.0;
        assert_non_null(v);
        assert_int_equal(kd_params_read(m->params, i, v, e->numel), KD_OK);
        for (int64_t k = 0; k < e->numel; k++) {
            assert_true(isfinite(v[k]));
            size += fabs((double)v[k]);
        }
        if (!(size > 0.0)) {
            fail_msg("%s is zero", e->name);
        }
        kd_free(v);
    }
}

static void fits_the_recipes(void **state)
{
    (void)state;
    kd_backend *be = NULL;
    assert_int_equal(kd_backend_cpu_open(1, &be, NULL), KD_OK);
    static const char *const same[] = {PRESETS "tiny.yaml", PRESETS "tiny_pretrained.yaml"};
    for (size_t i = 0; i < KD_COUNTOF(same); i++) {
        kd_model m;
        const kd_load_report r = load_into(same[i], SAMPLE_ACTIONS, be, &m);
        assert_int_equal(r.matched, kd_params_count(m.params));
        assert_int_equal(r.missing + r.reshaped + r.unexpected, 0);
        expect_learned(&m);
        kd_model_close(&m);
    }
    kd_model m;
    const kd_load_report r = load_into(PRESETS "msr_tiny.yaml", MSR_ACTIONS, be, &m);
    assert_int_equal(r.reshaped, 2); /* weight and bias of the head */
    assert_int_equal(r.matched, kd_params_count(m.params) - 2);
    assert_int_equal(r.missing + r.unexpected, 0);
    kd_model_close(&m);
    kd_backend_close(be);
}

static void refused_when_damaged(void **state)
{
    (void)state;
    uint8_t *data = NULL;
    size_t bytes = 0;
    kd_err err = {0};
    kd_config *cfg = kd_calloc(1, sizeof *cfg);
    kd_backend *be = NULL;
    kd_model m;
    kd_load_report r;
    assert_non_null(cfg);
    assert_int_equal(kd_backend_cpu_open(1, &be, NULL), KD_OK);
    must(kd_io_read_file(START, MOST_BYTES, &data, &bytes, &err), &err);
    must(kd_config_load(&(const char *){PRESETS "tiny.yaml"}, 1, NULL, 0, cfg, &err), &err);
    must(kd_model_open(kd_task_of(cfg), cfg, SAMPLE_ACTIONS, be, &m, &err), &err);
    must(kd_model_init(&m, NULL, 1, &err), &err);
    const size_t cut[] = {bytes - 1, bytes / 2, 100, 4};
    for (size_t i = 0; i < KD_COUNTOF(cut); i++) {
        must(kd_io_write_file(COPY, data, cut[i], &err), &err);
        assert_int_not_equal(kd_model_load(&m, COPY, "", true, NULL, &r, &err), KD_OK);
        assert_non_null(strstr(err.msg, "tiny-start.safetensors"));
        memset(&err, 0, sizeof err);
    }
    must(kd_io_write_file(COPY, data, bytes, &err), &err);
    must(kd_model_load(&m, COPY, "", true, NULL, &r, &err), &err);
    kd_load_report_free(&r);
    kd_free(data);
    kd_model_close(&m);
    kd_backend_close(be);
    kd_free(cfg);
}

/* The text beside the file speaks of this file: its SHA-256 is in it. */
static void described(void **state)
{
    (void)state;
    uint8_t *text = NULL;
    size_t bytes = 0;
    char hex[KD_SHA256_HEX];
    kd_err err = {0};
    must(kd_sha256_file(START, hex, &err), &err);
    must(kd_io_read_file(PRESETS "tiny_pretrained.md", 1 << 20, &text, &bytes, &err), &err);
    if (memmem(text, bytes, hex, strlen(hex)) == NULL) {
        fail_msg("tiny_pretrained.md does not name %s", hex);
    }
    kd_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(fits_the_recipes), cmocka_unit_test(refused_when_damaged),
                                       cmocka_unit_test(described)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
