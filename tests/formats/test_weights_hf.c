/* Weights as Hugging Face keeps them: several files with an index, class names of config.json. */
#include "formats/base/io.h"
#include "formats/weights/hf.h"
#include "formats/weights/pth.h"
#include "formats/weights/weights.h"

#include <stdio.h>
#include <unistd.h>

/* cmocka needs the first three */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
/* clang-format on */

static char root[64];

static const char *in_root(const char *name)
{
    static char buf[16][160];
    static unsigned next;
    char *p = buf[next++ % 16];
    (void)snprintf(p, sizeof buf[0], "%s/%s", root, name);
    return p;
}

static void text(const char *name, const char *s)
{
    assert_int_equal(kd_io_write_file(in_root(name), s, strlen(s), NULL), KD_OK);
}

static int make_root(void **state)
{
    (void)state;
    (void)snprintf(root, sizeof root, "test_weights_hf.%ld", (long)getpid());
    return kd_io_mkdirs(root, NULL) == KD_OK ? 0 : -1;
}

static int drop_root(void **state)
{
    (void)state;
    return kd_io_remove_tree(root, NULL) == KD_OK ? 0 : -1;
}

/* Two files: a, b in the first, c in the second; value of element i of tensor k: 10 k + i. */
static void make_shards(bool torch)
{
    float v[3][4];
    const int64_t dim[1] = {4};
    for (int k = 0; k < 3; k++) {
        for (int i = 0; i < 4; i++) {
            v[k][i] = (float)(10 * k + i);
        }
    }
    const kd_st_tensor t[3] = {
        {"a", KD_ST_F32, 1, dim, v[0]}, {"b", KD_ST_F32, 1, dim, v[1]}, {"c", KD_ST_F32, 1, dim, v[2]}};
    if (torch) {
        assert_int_equal(kd_pth_write(in_root("pytorch_model-1-of-2.bin"), NULL, t, 2, NULL), KD_OK);
        assert_int_equal(kd_pth_write(in_root("pytorch_model-2-of-2.bin"), NULL, t + 2, 1, NULL), KD_OK);
        text("pytorch_model.bin.index.json",
             "{\"metadata\":{\"total_size\":48},\"weight_map\":{\"a\":\"pytorch_model-1-of-2.bin\","
             "\"b\":\"pytorch_model-1-of-2.bin\",\"c\":\"pytorch_model-2-of-2.bin\"}}");
    } else {
        assert_int_equal(kd_st_write(in_root("model-1-of-2.safetensors"), t, 2, NULL, NULL), KD_OK);
        assert_int_equal(kd_st_write(in_root("model-2-of-2.safetensors"), t + 2, 1, NULL, NULL), KD_OK);
        text("model.safetensors.index.json",
             "{\"metadata\":{\"total_size\":48},\"weight_map\":{\"a\":\"model-1-of-2.safetensors\","
             "\"b\":\"model-1-of-2.safetensors\",\"c\":\"model-2-of-2.safetensors\"}}");
    }
}

static void expect_abc(const char *path, char sha[KD_SHA256_HEX])
{
    static const char *const name[] = {"a", "b", "c"};
    kd_weights *w = NULL;
    kd_err err = {0};
    if (kd_weights_open(path, NULL, &w, &err) != KD_OK) {
        fail_msg("%s", err.msg);
    }
    assert_int_equal(kd_weights_count(w), 3);
    assert_string_equal(kd_weights_format(w), "sharded");
    for (int k = 2; k >= 0; k--) {
        float v[4];
        const kd_weight *t = kd_weights_find(w, name[k]);
        assert_non_null(t);
        assert_int_equal(kd_weights_read_f32(w, t, v, &err), KD_OK);
        assert_true(v[0] == (float)(10 * k) && v[3] == (float)(10 * k + 3));
    }
    assert_int_equal(kd_weights_sha256(w, sha, NULL), KD_OK);
    kd_weights_close(w);
}

static void refused(const char *path, kd_status want, const char *says)
{
    kd_weights *w = NULL;
    kd_err err = {0};
    const kd_status st = kd_weights_open(path, NULL, &w, &err);
    if (st != want || strstr(err.msg, says) == NULL) {
        fail_msg("%s: status %d, says '%s', expected %d '%s'", path, st, err.msg, want, says);
    }
}

static void test_shards(void **state)
{
    (void)state;
    char one[KD_SHA256_HEX], two[KD_SHA256_HEX];
    make_shards(true);
    expect_abc(root, one);
    expect_abc(in_root("pytorch_model.bin.index.json"), two);
    assert_string_equal(one, two);
    make_shards(false);
    expect_abc(root, two); /* safetensors before torch */
    assert_string_not_equal(one, two);
}

static void test_shards_refused(void **state)
{
    (void)state;
    make_shards(false);
    const char *index = in_root("model.safetensors.index.json");
    text("model.safetensors.index.json", "{\"weight_map\":{\"a\":\"model-1-of-2.safetensors\",\"d\":"
                                         "\"model-2-of-2.safetensors\"}}");
    refused(index, KD_E_DATA, "expected tensor d in model-2-of-2.safetensors, found none");
    text("model.safetensors.index.json", "{\"weight_map\":{\"a\":\"../a.safetensors\"}}");
    refused(index, KD_E_DATA, "expected the name of a file beside the index, found '../a.safetensors'");
    text("model.safetensors.index.json", "{\"weight_map\":{}}");
    refused(index, KD_E_DATA, "found an empty one");
    text("model.safetensors.index.json", "{\"metadata\":{}}");
    refused(index, KD_E_FORMAT, "weight_map");
    make_shards(false);
    assert_int_equal(unlink(in_root("model-2-of-2.safetensors")), 0);
    refused(index, KD_E_DATA, "model-2-of-2.safetensors is missing beside it; fetch all of its 2 files");
    text("model-2-of-2.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n");
    refused(index, KD_E_FORMAT, "a Git LFS pointer");
    make_shards(false);
}

static void test_class_names(void **state)
{
    (void)state;
    static const struct {
        const char *config, *first; /* NULL: no names */
        const char *says;           /* NULL: sound */
    } c[] = {
        {"{\"model_type\":\"videomae\",\"id2label\":{\"1\":\"wave\",\"0\":\"clap\"}}", "clap", NULL},
        {"{\"model_type\":\"videomae\",\"id2label\":{\"0\":\"LABEL_0\",\"1\":\"LABEL_1\"}}", NULL, NULL},
        {"{\"model_type\":\"videomae\"}", NULL, NULL},
        {"{\"id2label\":{\"0\":\"clap\"}}", NULL, NULL}, /* another tool's config.json */
        {"{\"model_type\":\"videomae\",\"id2label\":{\"0\":\"clap\",\"2\":\"wave\"}}", NULL, "label 1 is missing"},
        {"{\"model_type\":\"videomae\",\"id2label\":{\"0\":\"clap\",\"1\":\"wave\"},\"label2id\":{\"clap\":1}}", NULL,
         "expected 0, as id2label says, found 1"},
        {"{\"model_type\":", NULL, "config.json"},
    };
    make_shards(false);
    for (size_t i = 0; i < KD_COUNTOF(c); i++) {
        text("config.json", c[i].config);
        kd_weights *w = NULL;
        kd_err err = {0};
        const kd_status st = kd_weights_open(root, NULL, &w, &err);
        assert_int_equal(st == KD_OK, c[i].says == NULL);
        if (st != KD_OK) {
            assert_non_null(strstr(err.msg, c[i].says));
            continue;
        }
        const kd_json *names = kd_json_get(kd_weights_meta(w), "classes");
        const char *first = NULL;
        assert_int_equal(kd_json_as_str(kd_json_at(names, 0), &first, NULL) == KD_OK, c[i].first != NULL);
        if (c[i].first != NULL) {
            assert_string_equal(first, c[i].first);
        }
        kd_weights_close(w);
    }
    assert_int_equal(unlink(in_root("config.json")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shards),
        cmocka_unit_test(test_shards_refused),
        cmocka_unit_test(test_class_names),
    };
    return cmocka_run_group_tests_name("Hugging Face weights", tests, make_root, drop_root);
}
