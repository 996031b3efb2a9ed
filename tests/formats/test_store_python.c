/* The reader in formats/README.md, exactly as printed there, against a store; `zstd -t` as well.
 * Exit code 77 (skipped) where python3 or zstd is missing. */
#include "formats/base/io.h"
#include "formats/store/logit_store.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

/* cmocka needs the first three */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
/* clang-format on */

static const char CHECK[] = "import sys\n"
                            "rows = list(read_store(sys.argv[1]))\n"
                            "want = [l.split() for l in open(sys.argv[2])]\n"
                            "assert len(rows) == len(want) > 0\n"
                            "for (name, label, prob, logits, feat), w in zip(rows, want):\n"
                            "    assert name == w[0] and label == int(w[1]) and len(logits) == int(w[2])\n"
                            "    got = list(prob) + [x for v in logits for x in v] + list(feat)\n"
                            "    assert len(got) == len(w) - 3\n"
                            "    for a, b in zip(got, map(float, w[3:])):\n"
                            "        assert abs(a - b) <= 1e-6 * (1 + abs(b)), (name, a, b)\n"
                            "brief = [(name, label, prob) for name, label, prob, _, _ in rows]\n"
                            "assert list(read_probs(sys.argv[1])) == brief\n"
                            "print(len(rows), 'records')\n";

static char dir[64];

static char *in_dir(const char *name)
{
    char *p = kd_path_join(dir, name);
    assert_non_null(p);
    return p;
}

static void write_store(const char *path, const char *list, kd_dtype logit, kd_dtype feature)
{
    enum { C = 4, D = 6, N = 37 };
    static const char *names[C] = {"a", "b", "c", "d"};
    const kd_store_manifest m = {.merge = "prob",
                                 .feature = "fc_norm",
                                 .classes = names,
                                 .n_classes = C,
                                 .logit_dtype = logit,
                                 .feature_dim = D,
                                 .feature_dtype = feature,
                                 .block_records = 16};
    kd_store_writer *w = NULL;
    kd_store *s = NULL;
    kd_store_cursor *c = NULL;
    kd_store_record r;
    assert_int_equal(kd_store_writer_open(path, &m, KD_STORE_NEW, &w, NULL, NULL), KD_OK);
    for (int i = 0; i < N; i++) {
        char id[32];
        const int32_t frames[3] = {i, i + 4, i + 8};
        float x[2 * C], f[D];
        kd_store_view v[2] = {{.n_frames = 3, .frames = frames}, {.n_frames = 1, .frames = frames}};
        (void)snprintf(id, sizeof id, "clip%d", i * i);
        for (int k = 0; k < 2 * C; k++) {
            x[k] = sinf((float)(i * 8 + k));
        }
        for (int k = 0; k < D; k++) {
            f[k] = cosf((float)(i + k));
        }
        r = (kd_store_record){.id = id,
                              .order = (uint64_t)i,
                              .label = i % C,
                              .n_views = 1 + i % 2,
                              .logits = x,
                              .feature = f,
                              .views = v};
        assert_int_equal(kd_store_append(w, &r, NULL), KD_OK);
    }
    assert_int_equal(kd_store_writer_close(w, NULL), KD_OK);
    FILE *out = fopen(list, "w");
    assert_non_null(out);
    assert_int_equal(kd_store_open(path, &s, NULL), KD_OK);
    assert_int_equal(kd_store_cursor_new(s, &c, NULL), KD_OK);
    for (int i = 0; i < N; i++) {
        assert_int_equal(kd_store_read(c, i, &r, NULL), KD_OK);
        fprintf(out, "%s %d %d", r.id, r.label, r.n_views);
        for (int k = 0; k < C; k++) {
            fprintf(out, " %.9g", (double)r.prob[k]);
        }
        for (int k = 0; k < r.n_views * C; k++) {
            fprintf(out, " %.9g", (double)r.logits[k]);
        }
        for (int k = 0; k < D; k++) {
            fprintf(out, " %.9g", (double)r.feature[k]);
        }
        fprintf(out, "\n");
    }
    assert_int_equal(fclose(out), 0);
    kd_store_cursor_free(c);
    kd_store_close(s);
}

/* All ```python blocks of the README, and the check behind them. */
static void write_script(const char *path)
{
    uint8_t *text = NULL;
    size_t n = 0;
    int blocks = 0;
    assert_int_equal(kd_io_read_file(KD_SOURCE_DIR "/formats/README.md", (size_t)1 << 20, &text, &n, NULL), KD_OK);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    char *at = (char *)text;
    while ((at = strstr(at, "```python\n")) != NULL) {
        at += strlen("```python\n");
        char *end = strstr(at, "```");
        assert_non_null(end);
        assert_int_equal(fwrite(at, 1, (size_t)(end - at), f), (size_t)(end - at));
        at = end + 3;
        blocks++;
    }
    assert_int_equal(blocks, 2);
    fputs(CHECK, f);
    assert_int_equal(fclose(f), 0);
    kd_free(text);
}

static void test_reader(void **state)
{
    (void)state;
    static const kd_dtype TYPES[3][2] = {{KD_F16, KD_BF16}, {KD_F32, KD_F16}, {KD_F32, KD_F32}};
    char *store = in_dir("s.logits.zst");
    char *list = in_dir("want.txt");
    char *script = in_dir("read.py");
    write_script(script);
    for (size_t i = 0; i < KD_COUNTOF(TYPES); i++) {
        write_store(store, list, TYPES[i][0], TYPES[i][1]);
        char *cmd = kd_strf("zstd -tq '%s' && python3 '%s' '%s' '%s'", store, script, store, list);
        assert_int_equal(system(cmd), 0);
        kd_free(cmd);
        assert_int_equal(remove(store), 0);
    }
    kd_free(store);
    kd_free(list);
    kd_free(script);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reader)};
    if (system("python3 -c pass >/dev/null 2>&1 && zstd --version >/dev/null 2>&1") != 0) {
        printf("skipped: python3 or zstd is not installed\n");
        return 77;
    }
    (void)snprintf(dir, sizeof dir, "/tmp/kd_py_XXXXXX");
    if (mkdtemp(dir) == NULL) {
        return 1;
    }
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return kd_io_remove_tree(dir, NULL) == KD_OK ? failed : 1;
}
