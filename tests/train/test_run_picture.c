/* The confusion matrix as a picture: names in the margins, shares in the cells. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
/* clang-format on */

#include "distill/run/run_internal.h"

static const int64_t COUNTS[9] = {4, 0, 0, 2, 2, 0, 0, 0, 0};

/* Dots of a part of the picture that are not white. */
static int inked(const kdi_picture *p, int x0, int y0, int x1, int y1)
{
    int n = 0;
    for (int y = y0; y < y1; y++) {
        for (int x = x0; x < x1; x++) {
            const uint8_t *px = p->rgb + 3 * (y * p->width + x);
            n += px[0] != 255 || px[1] != 255 || px[2] != 255;
        }
    }
    return n;
}

static void test_names(void **state)
{
    (void)state;
    static const char *const NAME[3] = {"eat", "wave a flag", "\xc3\xa4"};
    kdi_picture p;
    assert_int_equal(kdi_run_draw_confusion(COUNTS, 3, NAME, &p, NULL), KD_OK);
    const int margin = 11 * 6 + 6, cell = 160;
    assert_int_equal(p.width, margin + 3 * cell);
    assert_int_equal(p.height, margin + 3 * cell);
    for (int k = 0; k < 3; k++) { /* each name beside its row and below its column */
        assert_true(inked(&p, 0, k * cell, margin, (k + 1) * cell) > 20);
        assert_true(inked(&p, margin + k * cell, 3 * cell, margin + (k + 1) * cell, p.height) > 20);
    }
    const int dots = cell * cell;
    assert_int_equal(inked(&p, margin, 0, margin + cell, cell), dots);
    assert_int_equal(inked(&p, margin + cell, 0, p.width, cell), 0);
    assert_int_equal(inked(&p, margin, cell, margin + 2 * cell, 2 * cell), 2 * dots);
    assert_int_equal(inked(&p, margin, 2 * cell, p.width, 3 * cell), 0); /* a class without samples */
    const uint8_t *all = p.rgb + 3 * margin, *half = all + (size_t)3 * (size_t)p.width * (size_t)cell;
    assert_true(all[0] < half[0]);
    kd_free(p.rgb);
    kd_alloc_fail_at(1);
    assert_int_equal(kdi_run_draw_confusion(COUNTS, 3, NAME, &p, NULL), KD_E_OOM);
    kd_alloc_fail_at(0);
}

static void test_sizes(void **state)
{
    (void)state;
    enum { MANY = 200, SOME = 60 };
    static int64_t counts[MANY * MANY];
    static const char *name[MANY];
    kdi_picture p;
    for (int k = 0; k < MANY; k++) {
        name[k] = "put something into a pocket (of another person)";
    }
    assert_int_equal(kdi_run_draw_confusion(COUNTS, 3, NULL, &p, NULL), KD_OK);
    assert_int_equal(p.width, 480);
    kd_free(p.rgb);
    assert_int_equal(kdi_run_draw_confusion(counts, SOME, name, &p, NULL), KD_OK);
    assert_int_equal(p.width, 22 * 6 + 6 + SOME * 10); /* cells as high as a letter */
    kd_free(p.rgb);
    assert_int_equal(kdi_run_draw_confusion(counts, MANY, name, &p, NULL), KD_OK);
    assert_int_equal(p.width, 2 * MANY); /* too many for names */
    kd_free(p.rgb);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_names), cmocka_unit_test(test_sizes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
