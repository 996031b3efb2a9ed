/* The mean of weights: PyTorch's of three steps, value by value; what does not go together is refused. */
#include "formats/base/io.h"
#include "formats/weights/weights.h"

#include <string.h>

/* cmocka needs the first three */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
/* clang-format on */

#define GOLDEN KD_GOLDEN_DIR "/average/"

static kd_weights *open_ok(const char *path)
{
    kd_weights *w = NULL;
    kd_err err = {0};
    if (kd_weights_open(path, NULL, &w, &err) != KD_OK) {
        fail_msg("%s", err.msg);
    }
    return w;
}

static void test_mean(void **state)
{
    (void)state;
    kd_weights *w[3] = {open_ok(GOLDEN "step0.pth"), open_ok(GOLDEN "step1.pth"), open_ok(GOLDEN "step2.pth")};
    kd_err err = {0};
    assert_int_equal(kd_weights_average(w, 3, &err), KD_OK);
    assert_int_equal(kd_weights_save(w[2], "average.safetensors", 0, NULL, &err), KD_OK);
    kd_weights *got = open_ok("average.safetensors"), *want = open_ok(GOLDEN "mean.pth");
    assert_int_equal(kd_weights_count(got), kd_weights_count(want));
    assert_int_equal(kd_weights_count(got), 9);
    for (size_t i = 0; i < kd_weights_count(want); i++) {
        const kd_weight *b = kd_weights_at(want, i), *a = kd_weights_find(got, b->name);
        uint8_t x[128], y[128];
        assert_non_null(a);
        assert_int_equal(a->dtype, b->dtype); /* num_batches_tracked stays an integer */
        assert_int_equal(a->bytes, b->bytes);
        assert_true(a->bytes <= sizeof x);
        assert_int_equal(kd_weights_read_raw(got, a, x, &err), KD_OK);
        assert_int_equal(kd_weights_read_raw(want, b, y, &err), KD_OK);
        assert_memory_equal(x, y, a->bytes);
    }
    for (int i = 0; i < 3; i++) {
        kd_weights_close(w[i]);
    }
    kd_weights_close(got);
    kd_weights_close(want);
}

static void test_refused(void **state)
{
    (void)state;
    const int64_t one = 1;
    const float v = 1.0f;
    kd_err err = {0};
    kd_weights *w[2] = {open_ok(GOLDEN "step0.pth"), open_ok(GOLDEN "step1.pth")};
    assert_int_equal(kd_weights_add(w[1], "more", &one, 1, &v, &err), KD_OK);
    assert_int_equal(kd_weights_average(w, 2, &err), KD_E_DATA);
    assert_non_null(strstr(err.msg, "has 9 tensors"));
    err = (kd_err){0};
    assert_int_equal(kd_weights_add(w[0], "other", &one, 1, &v, &err), KD_OK);
    assert_int_equal(kd_weights_average(w, 2, &err), KD_E_DATA);
    assert_non_null(strstr(err.msg, "more is in"));
    kd_weights_close(w[0]);
    kd_weights_close(w[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_mean), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
