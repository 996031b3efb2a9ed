/* Memory of the CPU backend: aligned, zeroed however often it was used before, large blocks untouched until written. */
#include "kernels/kd_backend.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/resource.h>

#include <cmocka.h>
/* clang-format on */

static const size_t MIB = (size_t)1 << 20;

static void blocks(void **state)
{
    (void)state;
    const size_t sizes[] = {0,           1,           255,         256,          257,
                            100000,      2 * MIB - 1, 2 * MIB,     4 * MIB - 1,  4 * MIB,
                            4 * MIB + 1, 6 * MIB - 8, 8 * MIB + 4, 16 * MIB - 1, 16 * MIB + 4096};
    kd_backend *be = NULL;
    char *p[2][KD_COUNTOF(sizes)];
    assert_int_equal(kd_backend_cpu_open(1, &be, NULL), KD_OK);
    be->ops->free(be, NULL);
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < 2 * KD_COUNTOF(sizes); i++) {
            const size_t n = sizes[i / 2];
            void *at = NULL;
            assert_int_equal(be->ops->alloc(be, n, &at), KD_OK);
            assert_non_null(at);
            assert_int_equal((uintptr_t)at % 256, 0);
            p[i % 2][i / 2] = at;
            for (size_t k = 0; k < n; k++) {
                if (p[i % 2][i / 2][k] != 0) {
                    fail_msg("%zu bytes, byte %zu is not zero", n, k);
                }
            }
            memset(at, (int)i + 1, n); /* marks the block; used again in the next round */
        }
        for (size_t i = 0; i < 2 * KD_COUNTOF(sizes); i++) {
            const size_t n = sizes[i / 2];
            for (size_t k = 0; k < n; k++) {
                assert_int_equal(p[i % 2][i / 2][k], i + 1); /* no two overlap */
            }
            be->ops->free(be, p[i % 2][i / 2]);
        }
    }
    void *at = NULL;
    assert_int_equal(be->ops->alloc(be, SIZE_MAX - 100, &at), KD_E_OOM);
    assert_int_equal(be->ops->alloc(be, SIZE_MAX / 2, &at), KD_E_OOM);
    kd_backend_close(be);
}

static void large_is_lazy(void **state)
{
    (void)state;
    struct rusage before, after;
    kd_backend *be = NULL;
    void *at = NULL;
    assert_int_equal(kd_backend_cpu_open(1, &be, NULL), KD_OK);
    assert_int_equal(getrusage(RUSAGE_SELF, &before), 0);
    assert_int_equal(be->ops->alloc(be, 1024 * MIB, &at), KD_OK);
    ((char *)at)[777 * MIB] = 1;
    assert_int_equal(getrusage(RUSAGE_SELF, &after), 0);
    be->ops->free(be, at);
    kd_backend_close(be);
#if defined(__SANITIZE_ADDRESS__)
    skip(); /* from the heap there, and cleared by hand */
#endif
    assert_true(after.ru_maxrss - before.ru_maxrss < 64 * 1024); /* KiB */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(blocks), cmocka_unit_test(large_is_lazy)};
    return cmocka_run_group_tests_name("backend", tests, NULL, NULL);
}
