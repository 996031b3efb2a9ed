/* Text of others in messages: lists of numbers as runs, texts that differ somewhere behind, ends of long ones. */
#include "kernels/kd_base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void is_shown(const char *text, const char *want)
{
    char out[256];
    assert_string_equal(kd_show_lists(out, sizeof out, text), want);
}

static void lists(void **state)
{
    (void)state;
    is_shown("", "");
    is_shown("train", "train");
    is_shown("train=1,2", "train=1,2");
    is_shown("train=1,2,3,7 val=others", "train=1-3,7 val=others");
    is_shown("[5, 6, 7, 9]", "[5-7, 9]");
    is_shown("1,3,5,7,9,11,13,15,17,19,21,23,25", "1,3,5,7,9,11,13,15,17,19,... (13 numbers)");
}

static void pairs(void **state)
{
    char a[KD_SHOWN_PAIR], b[KD_SHOWN_PAIR];
    (void)state;
    kd_show_pair(a, b, "", "x");
    assert_string_equal(a, "");
    assert_string_equal(b, "x");
    kd_show_pair(a, b, "train=1,2,3,9", "train=1,2,3,8");
    assert_string_equal(a, "train=1-3,9");
    assert_string_equal(b, "train=1-3,8");
}

static void ends(void **state)
{
    char out[40];
    (void)state;
    assert_string_equal(kd_show_ends(out, sizeof out, "short"), "short");
    (void)kd_show_ends(out, sizeof out, "the beginning of a long message, its middle, and what to do");
    assert_true(strlen(out) < sizeof out);
    assert_string_equal(out + strlen(out) - strlen("what to do"), "what to do");
    assert_memory_equal(out, "the beginning", strlen("the beginning"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lists), cmocka_unit_test(pairs), cmocka_unit_test(ends)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
