/* CTR-GCN's denoising against the reference's own run on made recordings; what it stops at. */
#include "formats/base/python/npy.h"
#include "formats/skeleton/denoise.h"

#include <math.h>
#include <stdio.h>

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>
/* clang-format on */

#define GOLDEN KD_TEST_DIR "/golden/denoise/"

static float *floats_of(kd_npz *z, const char *name, kd_npy *a)
{
    kd_err err = {0};
    if (kd_npz_get(z, name, a, &err) != KD_OK) {
        fail_msg("%s", err.msg);
    }
    float *x = kd_alloc(KD_MAX(a->count, 1) * sizeof *x);
    assert_non_null(x);
    assert_int_equal(kd_npy_to_f32(a, x, NULL), KD_OK);
    return x;
}

/* Millimetres to the metres that a file of three decimals gives. */
static float metres(float mm)
{
    return (float)((double)mm / 1000.0);
}

static kd_skeleton recording(kd_npz *z, const char *name)
{
    char key[64];
    kd_npy a;
    kd_skeleton s;
    (void)snprintf(key, sizeof key, "%s_frame", name);
    float *frame = floats_of(z, key, &a);
    const size_t n = a.count - 1;
    (void)snprintf(key, sizeof key, "%s_id", name);
    float *id = floats_of(z, key, &a);
    (void)snprintf(key, sizeof key, "%s_xyz", name);
    float *xyz = floats_of(z, key, &a);
    assert_int_equal(kd_skeleton_alloc((size_t)frame[0], n, &s, NULL), KD_OK);
    size_t b = 0;
    for (size_t t = 0; t < s.frames; t++) {
        s.first[t] = (uint32_t)b;
        for (; b < n && (size_t)frame[b + 1] == t; b++) {
            s.body[b].id = (uint64_t)id[b];
            for (size_t i = 0; i < 75; i++) {
                s.body[b].xyz[i / 3][i % 3] = metres(xyz[b * 75 + i]);
            }
        }
    }
    s.first[s.frames] = (uint32_t)b;
    assert_int_equal(b, n);
    kd_free(frame);
    kd_free(id);
    kd_free(xyz);
    return s;
}

static void test_golden(void **state)
{
    (void)state;
    kd_npz *in, *golden;
    kd_err err = {0};
    assert_int_equal(kd_npz_open(GOLDEN "recordings.npz", (size_t)1 << 20, &in, NULL), KD_OK);
    assert_int_equal(kd_npz_open(GOLDEN "golden.npz", (size_t)1 << 20, &golden, NULL), KD_OK);
    assert_int_equal(kd_npz_count(golden), 10);
    for (size_t k = 0; k < kd_npz_count(golden); k++) {
        const char *name = kd_npz_name(golden, k);
        kd_npy want;
        float *x = floats_of(golden, name, &want);
        kd_skeleton s = recording(in, name);
        if (kd_skeleton_denoise(&s, &err) != KD_OK) {
            fail_msg("%s: %s", name, err.msg);
        }
        if (s.frames != (size_t)want.dim[0]) {
            fail_msg("%s: %zu frames, expected %lld", name, s.frames, (long long)want.dim[0]);
        }
        for (size_t t = 0; t < s.frames; t++) {
            for (size_t i = 0; i < (size_t)want.dim[1]; i++) {
                const size_t m = i / 75, j = i % 75;
                const bool there = m < s.first[t + 1] - s.first[t];
                const float got = there ? s.body[s.first[t] + m].xyz[j / 3][j % 3] : 0.0f;
                if (got != x[t * (size_t)want.dim[1] + i]) {
                    fail_msg("%s: frame %zu, body %zu, number %zu: %g, expected %g", name, t, m, j, (double)got,
                             (double)x[t * (size_t)want.dim[1] + i]);
                }
            }
        }
        kd_skeleton_free(&s);
        kd_free(x);
    }
    kd_npz_close(in);
    kd_npz_close(golden);
}

/* Two bodies of `frames` frames each, one after another; the same id: in the same frames. */
static kd_skeleton pair(size_t frames, bool together)
{
    kd_skeleton s;
    assert_int_equal(kd_skeleton_alloc(together ? frames : 2 * frames, 2 * frames, &s, NULL), KD_OK);
    for (size_t b = 0; b < 2 * frames; b++) {
        s.body[b].id = together ? 1 : b / frames;
        s.body[b].xyz[0][1] = 1.0f + (float)b;
    }
    for (size_t t = 0; t <= s.frames; t++) {
        s.first[t] = (uint32_t)(together ? 2 * t : t);
    }
    return s;
}

static void refused(kd_skeleton s, const char *says)
{
    kd_err err = {0};
    const size_t frames = s.frames;
    assert_int_equal(kd_skeleton_denoise(&s, &err), KD_E_DATA);
    assert_non_null(strstr(err.msg, says));
    assert_int_equal(s.frames, frames); /* as it was */
    kd_skeleton_free(&s);
}

static void test_refused(void **state)
{
    (void)state;
    refused(pair(11, false), "no body: expected a body of more than 11 frames, found 2 shorter ones");
    refused(pair(12, true), "body 1 is there twice in a frame");
    kd_skeleton s = pair(12, false);
    assert_int_equal(kd_skeleton_denoise(&s, NULL), KD_OK);
    assert_int_equal(s.frames, 24);
    kd_skeleton_free(&s);
}

static void test_no_memory(void **state)
{
    (void)state;
    kd_status st = KD_E_OOM;
    for (uint64_t k = 1; st != KD_OK; k++) {
        kd_skeleton s = pair(12, false);
        kd_alloc_fail_at(k);
        st = kd_skeleton_denoise(&s, NULL);
        kd_alloc_fail_at(0);
        assert_true(st == KD_OK || (st == KD_E_OOM && s.frames == 24 && s.body[0].id == 0));
        kd_skeleton_free(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden), cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_no_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
