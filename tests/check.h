/* The few lines of a test framework that tests on a bare GPU node get by with: no library.
 *
 *     static void adds(void) { CHECK(1 + 1 == 2); }
 *     int main(int argc, char **argv) { CHECK_RUN(adds); return check_end(); }
 *
 * A failed CHECK ends its test, not the program.  check_filter(argv[1]): run only tests whose name matches the shell
 * pattern. */
#ifndef KD_TESTS_CHECK_H
#define KD_TESTS_CHECK_H

#include <fnmatch.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

static struct {
    int run, failed, skipped;
    const char *filter;
    jmp_buf out;
} check_state;

#define CHECK(cond)                  \
    do {                             \
        if (!(cond)) {               \
            CHECK_FAIL("%s", #cond); \
        }                            \
    } while (0)

#define CHECK_FAIL(...)                          \
    do {                                         \
        printf("  %s:%d: ", __FILE__, __LINE__); \
        printf(__VA_ARGS__);                     \
        printf("\n");                            \
        longjmp(check_state.out, 1);             \
    } while (0)

#define CHECK_SKIP() longjmp(check_state.out, 2)

static inline void check_filter(const char *pattern)
{
    check_state.filter = pattern;
}

#define CHECK_RUN(test) check_run(#test, test)

static inline void check_run(const char *name, void (*test)(void))
{
    if (check_state.filter != NULL && fnmatch(check_state.filter, name, 0) != 0) {
        return;
    }
    check_state.run++;
    switch (setjmp(check_state.out)) {
    case 0:
        test();
        printf("ok      %s\n", name);
        break;
    case 1:
        check_state.failed++;
        printf("FAILED  %s\n", name);
        break;
    default:
        check_state.skipped++;
        printf("skipped %s\n", name);
    }
    (void)fflush(stdout);
}

/* Exit code: 1 a failure or nothing run at all, 77 everything skipped (ctest's SKIP_RETURN_CODE). */
static inline int check_end(void)
{
    printf("%d tests, %d failed, %d skipped\n", check_state.run, check_state.failed, check_state.skipped);
    if (check_state.failed > 0 || check_state.run == 0) {
        return 1;
    }
    return check_state.skipped == check_state.run ? 77 : 0;
}

#endif
