/* `teacher finetune` and `distill train` as commands against PyTorch: what each step logs, and where the weights end.
 * tests/golden/training holds data, recipes and numbers, and the script that made the numbers. */
#include "formats/base/io.h"
#include "formats/base/json.h"
#include "formats/weights/safetensors.h"

#include <math.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* cmocka needs the headers above. */
#include <cmocka.h>

#define HERE KD_GOLDEN_DIR "/training/"

static char out[64];

static void run(const char *const *argv)
{
    pid_t pid = 0;
    int status = -1;
    char **words = (char **)(uintptr_t)argv;
    assert_int_equal(posix_spawn(&pid, argv[0], NULL, NULL, words, environ), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static kd_json *load(const char *path)
{
    kd_json *doc = NULL;
    kd_err err = {0};
    if (kd_json_load(path, &doc, &err) != KD_OK) {
        fail_msg("%s", err.msg);
    }
    return doc;
}

static double number(const kd_json *of, const char *key)
{
    double v = NAN;
    kd_err err = {0};
    if (kd_json_get_f64(of, key, &v, &err) != KD_OK) {
        print_error("%s\n", err.msg);
    }
    return v;
}

static int compare(const char *what, const char *key, double found, double expected, double allowed)
{
    if (fabs(found - expected) <= allowed) {
        return 0;
    }
    print_error("%s: %s is %.9g, expected %.9g, allowed difference %.2g\n", what, key, found, expected, allowed);
    return 1;
}

/* ---- what each step logs --------------------------------------------------------------------- */

static int compare_step(const kd_json *line, size_t step, const kd_json *golden)
{
    const kd_json *expected = kd_json_at(kd_json_get(golden, "steps"), step);
    const kd_json *allowed = kd_json_get(golden, "tolerance");
    int wrong = 0;
    char what[32];
    (void)snprintf(what, sizeof what, "step %zu", step + 1);
    for (size_t i = 0; i < kd_json_count(allowed); i++) { /* loss, its terms, rate, norm of the gradient */
        const char *key = kd_json_key(kd_json_at(allowed, i));
        wrong += compare(what, key, number(line, key), number(expected, key), number(allowed, key));
    }
    return wrong;
}

static int compare_log(const kd_json *golden)
{
    char path[128], *text = NULL;
    uint8_t *bytes = NULL;
    size_t n = 0, step = 0;
    int wrong = 0;
    kd_err err = {0};
    (void)snprintf(path, sizeof path, "%s/log.jsonl", out);
    assert_int_equal(kd_io_read_file(path, (size_t)1 << 20, &bytes, &n, &err), KD_OK);
    text = (char *)bytes;
    for (size_t at = 0, end; at < n; at = end + 1) {
        kd_json *line = NULL;
        const char *type = NULL;
        for (end = at; end < n && text[end] != '\n'; end++) {
        }
        assert_int_equal(kd_json_parse(text + at, end - at, path, &line, &err), KD_OK);
        assert_int_equal(kd_json_get_str(line, "type", &type, &err), KD_OK);
        if (strcmp(type, "train") == 0) {
            wrong += compare_step(line, step++, golden);
        }
        kd_json_free(line);
    }
    kd_free(bytes);
    assert_int_equal(step, kd_json_count(kd_json_get(golden, "steps")));
    return wrong;
}

/* ---- where the weights end ------------------------------------------------------------------- */

static int compare_tensor(const kd_st_file *f, const kd_json *expected)
{
    const char *name = kd_json_key(expected);
    const kd_st_entry *e = kd_st_find(f, name);
    const kd_json *at = kd_json_get(expected, "at"), *values = kd_json_get(expected, "values");
    const double allowed = number(expected, "tolerance"), n = number(expected, "numel");
    double sum = 0.0, squares = 0.0, value = NAN;
    int wrong = 0;
    assert_non_null(e);
    assert_true(e->dtype == KD_ST_F32 && (double)e->count == n && kd_json_count(at) > 0);
    float *x = kd_alloc(e->bytes);
    assert_non_null(x);
    memcpy(x, e->data, e->bytes);
    for (size_t i = 0; i < e->count; i++) {
        sum += (double)x[i];
        squares += (double)x[i] * (double)x[i];
    }
    for (size_t i = 0; i < kd_json_count(at); i++) {
        int64_t k = -1;
        assert_int_equal(kd_json_as_i64(kd_json_at(at, i), &k, NULL), KD_OK);
        assert_int_equal(kd_json_as_f64(kd_json_at(values, i), &value, NULL), KD_OK);
        assert_true(k >= 0 && k < (int64_t)e->count);
        wrong += compare(name, "an element", (double)x[k], value, allowed);
    }
    const double expect = number(expected, "squares");
    wrong += compare(name, "the sum", sum, number(expected, "sum"), n * allowed);
    wrong +=
        compare(name, "the sum of squares", squares, expect, 2.0 * allowed * sqrt(n * expect) + n * allowed * allowed);
    kd_free(x);
    return wrong;
}

static int compare_weights(const kd_json *golden)
{
    char path[128];
    kd_st_file *f = NULL;
    kd_err err = {0};
    const kd_json *weights = kd_json_get(golden, "weights");
    int wrong = 0;
    (void)snprintf(path, sizeof path, "%s/checkpoints/last/model.safetensors", out);
    assert_int_equal(kd_st_open(path, &f, &err), KD_OK);
    assert_int_equal(kd_st_count(f), kd_json_count(weights));
    for (size_t i = 0; i < kd_json_count(weights); i++) {
        wrong += compare_tensor(f, kd_json_at(weights, i));
    }
    kd_st_close(f);
    return wrong;
}

/* ---- the runs -------------------------------------------------------------------------------- */

static void compare_run(const char *golden_path)
{
    kd_json *golden = load(golden_path);
    const int of_steps = compare_log(golden), of_weights = compare_weights(golden);
    kd_json_free(golden);
    print_message("%d numbers of steps and %d of weights differ\n", of_steps, of_weights);
    assert_int_equal(of_steps + of_weights, 0);
}

static void finetunes_as_pytorch(void **state)
{
    (void)state;
    const char *const argv[] = {KD_BUILD_DIR "/teacher",
                                "finetune",
                                "--config",
                                HERE "teacher.yaml",
                                "--data",
                                HERE "data",
                                "--device",
                                "cpu",
                                "--out",
                                out,
                                "-q",
                                NULL};
    run(argv);
    compare_run(HERE "teacher.json");
}

static void distils_as_pytorch(void **state)
{
    (void)state;
    const char *const argv[] = {KD_BUILD_DIR "/distill",
                                "train",
                                "--config",
                                HERE "student.yaml",
                                "--teacher-logits",
                                HERE "teacher.logits.zst",
                                "--data",
                                HERE "data",
                                "--device",
                                "cpu",
                                "--out",
                                out,
                                "-q",
                                NULL};
    run(argv);
    compare_run(HERE "student.json");
}

/* Two thirds of the samples have no label, some batches none at all. */
static void distils_with_few_labels_as_pytorch(void **state)
{
    (void)state;
    const char *const argv[] = {KD_BUILD_DIR "/distill",
                                "train",
                                "--config",
                                HERE "student.yaml",
                                "--teacher-logits",
                                HERE "teacher.logits.zst",
                                "--data",
                                HERE "data",
                                "--set",
                                "data.unlabelled=unlabelled.txt",
                                "--set",
                                "kd.dkd_weight=0.2",
                                "--set",
                                "kd.dkd_temperature=3",
                                "--set",
                                "kd.dkd_beta=2",
                                "--device",
                                "cpu",
                                "--out",
                                out,
                                "-q",
                                NULL};
    run(argv);
    compare_run(HERE "student_few.json");
}

static void learns_from_its_average_as_pytorch(void **state)
{
    (void)state;
    const char *const argv[] = {KD_BUILD_DIR "/distill",
                                "train",
                                "--config",
                                HERE "student.yaml",
                                "--teacher-logits",
                                HERE "teacher.logits.zst",
                                "--data",
                                HERE "data",
                                "--set",
                                "optim.ema_decay=0.8",
                                "--set",
                                "kd.self_weight=0.5",
                                "--set",
                                "kd.self_temperature=2",
                                "--set",
                                "kd.self_warmup_epochs=2",
                                "--device",
                                "cpu",
                                "--out",
                                out,
                                "-q",
                                NULL};
    run(argv);
    compare_run(HERE "student_self.json");
}

/* Two students that learn from each other, the second with a rate, a drop path and a seed of its own. */
static void learn_from_each_other_as_pytorch(void **state)
{
    (void)state;
    const char *const argv[] = {
        KD_BUILD_DIR "/distill",
        "train",
        "--config",
        HERE "student.yaml",
        "--teacher-logits",
        HERE "teacher.logits.zst",
        "--data",
        HERE "data",
        "--set",
        "mutual=[{student: last-e3-nano, dropout: 0, drop_path: 0.2, base_lr: 0.9, init_seed: 11}]",
        "--set",
        "kd.mutual_weight=0.5",
        "--set",
        "kd.mutual_temperature=2",
        "--set",
        "kd.mutual_warmup_epochs=2",
        "--device",
        "cpu",
        "--out",
        out,
        "-q",
        NULL};
    run(argv);
    compare_run(HERE "student_mutual.json");
    const size_t n = strlen(out);
    (void)snprintf(out + n, sizeof out - n, "/peer-2");
    compare_run(HERE "student_mutual_2.json");
    out[n] = '\0';
}

static int new_folder(void **state)
{
    (void)state;
    (void)snprintf(out, sizeof out, "golden_run_XXXXXX");
    return mkdtemp(out) == NULL;
}

static int remove_folder(void **state)
{
    (void)state;
    kd_err err = {0};
    return kd_io_remove_tree(out, &err) != KD_OK;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(finetunes_as_pytorch, new_folder, remove_folder),
        cmocka_unit_test_setup_teardown(distils_as_pytorch, new_folder, remove_folder),
        cmocka_unit_test_setup_teardown(learns_from_its_average_as_pytorch, new_folder, remove_folder),
        cmocka_unit_test_setup_teardown(learn_from_each_other_as_pytorch, new_folder, remove_folder),
        cmocka_unit_test_setup_teardown(distils_with_few_labels_as_pytorch, new_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
