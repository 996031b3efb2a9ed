/* Command lines: values, refusals, suggestions, defaults. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>
#include <cmocka.h>
/* clang-format on */

#include "tools/args.h"

typedef struct opts {
    const char *weights, *mode;
    int64_t top;
    double rate;
    bool force;
    kd_arg_list list;
} opts;

static const kd_arg ARGS[] = {
    KD_OPT_STR(opts, weights, "weights", "PATH", NULL, "weights"),
    KD_OPT_CHOICE(opts, mode, "mode", "fast", "fast|slow", "mode"),
    KD_OPT_INT(opts, top, "top-k", "K", "5", 1, 1000, "classes"),
    KD_OPT_REAL(opts, rate, "rate", "R", "0.5", 0, 1, "rate"),
    KD_OPT_FLAG(opts, force, "force", "overwrite"),
    KD_OPT_LIST(opts, list, "add", "X", "repeatable"),
};

static const kd_cmd CMD = {.name = "test cmd",
                           .operands = "FILE...",
                           .about = "x",
                           .args = ARGS,
                           .arg_count = KD_COUNTOF(ARGS),
                           .common = KD_COMMON_BATCH_SIZE | KD_COMMON_SET | KD_COMMON_SEED,
                           .max_operands = 2};

enum { MAX_ARGS = 16 };

typedef struct run {
    opts o;
    kd_common c;
    kd_operands in;
    int rc;
    char text[1024]; /* stderr */
    int lines;
    char *argv[MAX_ARGS];
} run;

/* Parses the words after the verb and catches stderr. */
static void parse(run *r, const char *const *words)
{
    int argc = 1;
    memset(r, 0, sizeof *r);
    memset(&r->o, 0x5a, sizeof r->o); /* what the stack may hold */
    r->argv[0] = (char *)(uintptr_t) "verb";
    for (; words[argc - 1] != NULL; argc++) {
        r->argv[argc] = (char *)(uintptr_t)words[argc - 1];
    }
    FILE *f = tmpfile();
    assert_non_null(f);
    const int saved = dup(STDERR_FILENO);
    (void)fflush(stderr);
    assert_true(dup2(fileno(f), STDERR_FILENO) >= 0);
    r->rc = kd_args_parse(&CMD, argc, r->argv, &r->o, &r->c, &r->in);
    (void)fflush(stderr);
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    (void)close(saved);
    rewind(f);
    const size_t n = fread(r->text, 1, sizeof r->text - 1, f);
    (void)fclose(f);
    for (size_t i = 0; i < n; i++) {
        r->lines += r->text[i] == '\n';
    }
}

#define PARSE(r, ...)                                            \
    do {                                                         \
        static const char *const words_[] = {__VA_ARGS__, NULL}; \
        parse((r), words_);                                      \
    } while (0)

static void refused(const run *r, const char *part)
{
    assert_int_equal(r->rc, 2);
    assert_true(r->lines >= 1 && r->lines <= 3);
    if (strstr(r->text, part) == NULL) {
        fail_msg("'%s' does not say '%s'", r->text, part);
    }
}

static void test_values(void **state)
{
    (void)state;
    run r;
    PARSE(&r, "a", "--weights=w", "--top_k", "7", "--rate", "2.5e-1", "--force", "--batch_size=32", "b", "--add", "x",
          "--add=y=z", "--set", "a.b=1", "-v");
    assert_int_equal(r.rc, KD_ARGS_RUN);
    assert_string_equal(r.o.weights, "w");
    assert_int_equal(r.o.top, 7);
    assert_true(r.o.rate == 0.25);
    assert_true(r.o.force);
    assert_int_equal(r.c.batch_size, 32);
    assert_int_equal(r.o.list.count, 2);
    assert_string_equal(r.o.list.item[1], "y=z");
    assert_string_equal(r.c.set.item[0], "a.b=1");
    assert_true(r.c.verbose);
    assert_int_equal(r.in.count, 2);
    assert_string_equal(r.in.item[0], "a");
    assert_string_equal(r.in.item[1], "b");
    assert_int_equal(r.c.given & (KD_COMMON_BATCH_SIZE | KD_COMMON_SEED), KD_COMMON_BATCH_SIZE);
    assert_string_equal(r.c.typed, "test cmd a --weights=w --top_k 7 --rate 2.5e-1 --force --batch_size=32 b --add x "
                                   "--add=y=z --set a.b=1 -v");
}

static void test_defaults(void **state)
{
    (void)state;
    run r;
    PARSE(&r, "--", "--weights");
    assert_int_equal(r.rc, KD_ARGS_RUN);
    assert_null(r.o.weights);
    assert_string_equal(r.o.mode, "fast");
    assert_int_equal(r.o.top, 5);
    assert_true(r.o.rate == 0.5);
    assert_false(r.o.force);
    assert_int_equal(r.o.list.count, 0);
    assert_int_equal(r.c.given, 0);
    assert_string_equal(r.in.item[0], "--weights"); /* after "--" */
}

static void test_flags(void **state)
{
    (void)state;
    run r;
    PARSE(&r, "--force", "--no-force");
    assert_int_equal(r.rc, KD_ARGS_RUN);
    assert_false(r.o.force);
    PARSE(&r, "--force=false");
    assert_false(r.o.force);
    PARSE(&r, "--force=maybe");
    refused(&r, "true or false");
    PARSE(&r, "--no-weights");
    refused(&r, "unknown option");
}

static void test_refusals(void **state)
{
    (void)state;
    run r;
    PARSE(&r, "--wieghts", "x");
    refused(&r, "did you mean --weights?");
    PARSE(&r, "--epochs", "3"); /* common, but not of this command */
    refused(&r, "unknown option --epochs");
    PARSE(&r, "--top-k", "7x");
    refused(&r, "whole number from 1 to 1000, found '7x'");
    PARSE(&r, "--top-k", "");
    refused(&r, "whole number");
    PARSE(&r, "--top-k", " 7");
    refused(&r, "whole number");
    PARSE(&r, "--top-k", "0");
    refused(&r, "from 1 to 1000");
    PARSE(&r, "--top-k", "99999999999999999999");
    refused(&r, "whole number");
    PARSE(&r, "--rate", "nan");
    refused(&r, "a number from 0 to 1");
    PARSE(&r, "--rate", "1e999");
    refused(&r, "a number from 0 to 1");
    PARSE(&r, "--rate", "1.0001");
    refused(&r, "a number from 0 to 1");
    PARSE(&r, "--mode", "fas");
    refused(&r, "one of fast|slow");
    PARSE(&r, "--mode", "fast|slow");
    refused(&r, "one of fast|slow");
    PARSE(&r, "--weights");
    refused(&r, "expected a value");
    PARSE(&r, "--weights=");
    refused(&r, "empty");
    PARSE(&r, "a", "b", "c");
    refused(&r, "unexpected argument 'c'");
    PARSE(&r, "-x");
    refused(&r, "unknown option -x");
    PARSE(&r, "--we\nird\033[31m");
    refused(&r, "we\\nird\\x1b[31m");
}

static void test_long_input(void **state)
{
    (void)state;
    static char name[4000];
    memset(name, 'a', sizeof name - 1);
    name[0] = '-';
    name[1] = '-';
    const char *const words[] = {name, NULL};
    run r;
    parse(&r, words);
    refused(&r, "unknown option");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),   cmocka_unit_test(test_defaults),   cmocka_unit_test(test_flags),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_long_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
