/* formats/weights/weights: every container and naming gives the same tensors under the official names. */
#include "formats/base/io.h"
#include "formats/weights/checkpoint.h"
#include "formats/weights/npy_write.h"
#include "formats/weights/weights.h"
#include "teacher/model/vit_names.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* cmocka needs the first three */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
/* clang-format on */

#define GOLDEN KD_GOLDEN_DIR "/pth/"

static char root[64];

static int setup(void **state)
{
    (void)state;
    (void)snprintf(root, sizeof root, "/tmp/kd_weights_XXXXXX");
    return mkdtemp(root) != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return kd_io_remove_tree(root, NULL) == KD_OK ? 0 : -1;
}

static void in_root(char out[160], const char *name)
{
    (void)snprintf(out, 160, "%s/%s", root, name);
}

static kd_weights *open_ok(const char *path)
{
    kd_weights *w = NULL;
    kd_err err = {0};
    if (kd_weights_open(path, &kd_vit_names, &w, &err) != KD_OK) {
        fail_msg("%s", err.msg);
    }
    return w;
}

static void expect_refusal(const char *path, kd_status st, const char *text)
{
    kd_weights *w = NULL;
    kd_err err = {0};
    const kd_status found = kd_weights_open(path, &kd_vit_names, &w, &err);
    if (found != st || strstr(err.msg, text) == NULL) {
        fail_msg("%d %s", (int)found, err.msg);
    }
    assert_null(w);
}

/* round: bf16 (2), fp16 (1) or exact (0) images of a's values must be those of b */
static void expect_same(kd_weights *a, kd_weights *b, int round)
{
    assert_int_equal(kd_weights_count(a), kd_weights_count(b));
    for (size_t i = 0; i < kd_weights_count(a); i++) {
        const kd_weight *x = kd_weights_at(a, i);
        const kd_weight *y = kd_weights_find(b, x->name);
        if (y == NULL) {
            fail_msg("%s is missing", x->name);
        }
        assert_int_equal(x->rank, y->rank);
        assert_memory_equal(x->dim, y->dim, x->rank * sizeof x->dim[0]);
        float *p = kd_alloc(x->count * 4 + 4);
        float *q = kd_alloc(x->count * 4 + 4);
        assert_int_equal(kd_weights_read_f32(a, x, p, NULL), KD_OK);
        assert_int_equal(kd_weights_read_f32(b, y, q, NULL), KD_OK);
        for (size_t k = 0; k < x->count; k++) {
            const float e = round == 2   ? kd_bf16_to_f32(kd_f32_to_bf16(p[k]))
                            : round == 1 ? kd_f16_to_f32(kd_f32_to_f16(p[k]))
                                         : p[k];
            if (!(e == q[k])) {
                fail_msg("%s[%zu]: %g, %g", x->name, k, (double)e, (double)q[k]);
            }
        }
        kd_free(p);
        kd_free(q);
    }
}

static void test_official(void **state)
{
    (void)state;
    kd_weights *f = open_ok(GOLDEN "finetuned_model_f32.pth");
    assert_string_equal(kd_weights_format(f), "pth");
    assert_string_equal(kd_weights_key(f), "model");
    assert_int_equal(kd_weights_dialect(f), KD_VIT_OFFICIAL);
    assert_true(kd_weights_mapped(f));
    assert_int_equal(kd_weights_count(f), 32);
    assert_non_null(kd_weights_find(f, "blocks.1.attn.qkv.weight"));
    assert_null(kd_weights_find(f, "blocks.2.attn.qkv.weight"));
    kd_weights *h = open_ok(GOLDEN "deepspeed_module_f16.pth");
    expect_same(f, h, 1);
    kd_weights_close(h);
    h = open_ok(GOLDEN "model_bf16.pth");
    expect_same(f, h, 2);
    kd_weights_close(h);
    h = open_ok(GOLDEN "legacy_nonzip_f32.pth");
    expect_same(f, h, 0);
    kd_weights_close(h);
    kd_weights_close(f);
}

static void test_pretrain(void **state)
{
    (void)state;
    kd_weights *w = open_ok(GOLDEN "pretrain_encoder_f32.pth");
    assert_non_null(kd_weights_find(w, "patch_embed.proj.weight"));
    assert_non_null(kd_weights_find(w, "norm.weight"));
    assert_non_null(kd_weights_find(w, "decoder.head.weight"));
    assert_non_null(kd_weights_find(w, "encoder_to_decoder.weight"));
    assert_string_equal(kd_weights_find(w, "norm.weight")->file_name, "encoder.norm.weight");
    kd_weights_close(w);
}

static void test_convert(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        int dialect;
        const char *name; /* one that must be in the file */
        const char *format;
        const char *key;
    } c[] = {
        {"hf.safetensors", KD_VIT_HF, "videomae.encoder.layer.1.attention.attention.value.weight", "safetensors", ""},
        {"hf.bin", KD_VIT_HF, "videomae.encoder.layer.0.intermediate.dense.bias", "pth", ""},
        {"mm.pth", KD_VIT_MMACTION, "backbone.blocks.1.mlp.layers.0.0.weight", "pth", "state_dict"},
        {"mm.safetensors", KD_VIT_MMACTION, "cls_head.fc_cls.weight", "safetensors", ""},
        {"of.pt", KD_VIT_OFFICIAL, "blocks.0.mlp.fc2.weight", "pth", "model"},
        {"of.safetensors", KD_VIT_OFFICIAL, "head.bias", "safetensors", ""},
    };
    const kd_dtype bf16 = KD_BF16;
    const kd_dtype f16 = KD_F16;
    const kd_dtype *const dtype[3] = {NULL, &f16, &bf16};
    kd_weights *f = open_ok(GOLDEN "finetuned_model_f32.pth");
    for (size_t i = 0; i < KD_COUNTOF(c); i++) {
        for (int d = 0; d < 3; d++) {
            char path[160];
            in_root(path, c[i].file);
            kd_err err = {0};
            if (kd_weights_save(f, path, c[i].dialect, dtype[d], &err) != KD_OK) {
                fail_msg("%s", err.msg);
            }
            kd_weights *g = open_ok(path);
            assert_int_equal(kd_weights_dialect(g), c[i].dialect);
            assert_string_equal(kd_weights_format(g), c[i].format);
            assert_string_equal(kd_weights_key(g), c[i].key);
            expect_same(f, g, d);
            bool seen = false;
            for (size_t k = 0; k < kd_weights_count(g); k++) {
                seen = seen || strcmp(kd_weights_at(g, k)->file_name, c[i].name) == 0;
            }
            /* a stacked tensor shows the name of its first part only */
            assert_true(seen || strstr(c[i].name, "value") != NULL);
            kd_weights_close(g);
        }
    }
    char a[160];
    char b[160];
    in_root(a, "of.safetensors");
    in_root(b, "again.safetensors"); /* there and back: the same bytes */
    assert_int_equal(kd_weights_save(f, a, KD_VIT_OFFICIAL, NULL, NULL), KD_OK);
    char hf[160];
    in_root(hf, "hf.safetensors");
    assert_int_equal(kd_weights_save(f, hf, KD_VIT_HF, NULL, NULL), KD_OK);
    kd_weights *h = open_ok(hf);
    assert_int_equal(kd_weights_save(h, b, KD_VIT_OFFICIAL, NULL, NULL), KD_OK);
    kd_weights_close(h);
    char sha[2][KD_SHA256_HEX];
    kd_weights *x = open_ok(a);
    kd_weights *y = open_ok(b);
    assert_int_equal(kd_weights_sha256(x, sha[0], NULL), KD_OK);
    assert_int_equal(kd_weights_sha256(y, sha[1], NULL), KD_OK);
    assert_string_equal(sha[0], sha[1]);
    kd_weights_close(x);
    kd_weights_close(y);
    kd_weights_close(f);
}

static kd_st_tensor vec(const char *name, const float *data, int64_t *dim)
{
    return (kd_st_tensor){name, KD_ST_F32, 1, dim, data};
}

#define HF_ATT "encoder.layer.0.attention.attention."

static void test_hf_variants(void **state)
{
    (void)state;
    const float v[4] = {1, 2, 3, 4};
    int64_t d1[1] = {2};
    int64_t d2[2] = {2, 2};
    const float table[4] = {0.0f, 1.0f, 0.841470985f, 0.540302306f}; /* sine and cosine of 0 and 1 */
    int64_t d3[3] = {1, 2, 2};
    char path[160];
    in_root(path, "v5.safetensors");
    /* transformers 5: biases of their own, base model without "videomae." */
    kd_st_tensor t[] = {
        vec("embeddings.patch_embeddings.projection.weight", v, d1),
        {"embeddings.position_embeddings", KD_ST_F32, 3, d3, table},
        {HF_ATT "key.weight", KD_ST_F32, 2, d2, v},
        {HF_ATT "query.weight", KD_ST_F32, 2, d2, v},
        {HF_ATT "value.weight", KD_ST_F32, 2, d2, v},
        vec(HF_ATT "query.bias", v, d1),
        vec(HF_ATT "key.bias", v, d1),
        vec(HF_ATT "value.bias", v + 2, d1),
    };
    assert_int_equal(kd_st_write(path, t, 8, NULL, NULL), KD_OK);
    kd_weights *w = open_ok(path);
    assert_int_equal(kd_weights_dropped(w), 2);
    assert_int_equal(kd_weights_count(w), 4);
    float out[12];
    const kd_weight *b = kd_weights_find(w, "blocks.0.attn.v_bias");
    assert_non_null(b);
    assert_int_equal(kd_weights_read_f32(w, b, out, NULL), KD_OK);
    assert_true(out[0] == 3.0f && out[1] == 4.0f);
    const kd_weight *qkv = kd_weights_find(w, "blocks.0.attn.qkv.weight");
    assert_int_equal(qkv->dim[0], 6);
    assert_int_equal(kd_weights_read_f32(w, qkv, out, NULL), KD_OK);
    for (int i = 0; i < 12; i++) {
        assert_true(out[i] == v[i % 4]);
    }
    kd_weights_close(w);
    t[1].data = v; /* a table of other values means something */
    assert_int_equal(kd_st_write(path, t, 8, NULL, NULL), KD_OK);
    w = open_ok(path);
    assert_int_equal(kd_weights_dropped(w), 1);
    assert_non_null(kd_weights_find(w, "pos_embed"));
    kd_weights_close(w);
    assert_int_equal(kd_st_write(path, t, 4, NULL, NULL), KD_OK); /* no value matrix */
    expect_refusal(path, KD_E_DATA, "one is missing");
    t[0] = vec("patch_embed.proj.weight", v, d1);
    t[1] = vec("encoder.patch_embed.proj.weight", v, d1);
    assert_int_equal(kd_st_write(path, t, 2, NULL, NULL), KD_OK);
    expect_refusal(path, KD_E_DATA, "are patch_embed.proj.weight");
}

/* Other models keep their names: a LAST student really has modules called backbone. */
static void test_student(void **state)
{
    (void)state;
    const float v[2] = {1, 2};
    int64_t d[1] = {2};
    char path[160];
    in_root(path, "student.safetensors");
    const kd_st_tensor t[] = {vec("module.backbone.0.weight", v, d), vec("module.fc.bias", v, d)};
    assert_int_equal(kd_st_write(path, t, 2, NULL, NULL), KD_OK);
    kd_weights *w = open_ok(path);
    assert_false(kd_weights_mapped(w));
    assert_non_null(kd_weights_find(w, "backbone.0.weight"));
    assert_non_null(kd_weights_find(w, "fc.bias"));
    char out[160];
    in_root(out, "student.pth");
    assert_int_equal(kd_weights_save(w, out, KD_VIT_OFFICIAL, NULL, NULL), KD_OK);
    kd_weights *back = open_ok(out);
    expect_same(w, back, 0);
    kd_weights_close(back);
    kd_weights_close(w);
}

/* Arrays of NumPy by name: the same numbers as from any other file, official names or another dialect's. */
static void test_npz(void **state)
{
    (void)state;
    char path[160];
    kd_weights *f = open_ok(GOLDEN "finetuned_model_f32.pth");
    kd_st_tensor t[64];
    const size_t n = kd_weights_count(f);
    assert_true(n <= KD_COUNTOF(t));
    for (size_t i = 0; i < n; i++) {
        const kd_weight *w = kd_weights_at(f, i);
        float *v = kd_alloc(w->bytes + 1);
        assert_int_equal(kd_weights_read_raw(f, w, v, NULL), KD_OK);
        t[i] = (kd_st_tensor){w->name, w->dtype, w->rank, w->dim, v};
    }
    in_root(path, "weights.bin"); /* told by content */
    assert_int_equal(kd_npz_write(path, t, n, NULL), KD_OK);
    kd_weights *z = open_ok(path);
    assert_string_equal(kd_weights_format(z), "npz");
    assert_true(kd_weights_mapped(z));
    expect_same(f, z, 0);
    char out[160];
    in_root(out, "npz.safetensors");
    assert_int_equal(kd_weights_save(z, out, KD_VIT_HF, NULL, NULL), KD_OK);
    kd_weights *back = open_ok(out);
    assert_int_equal(kd_weights_dialect(back), KD_VIT_HF);
    expect_same(f, back, 0);
    kd_weights_close(back);
    kd_weights_close(z);
    kd_weights_close(f);
    for (size_t i = 0; i < n; i++) {
        kd_free((void *)(uintptr_t)t[i].data);
    }
    assert_int_equal(truncate(path, 2000), 0);
    expect_refusal(path, KD_E_FORMAT, "weights.bin");
}

static void save_checkpoint(const char *dir, float value)
{
    const int64_t d[1] = {1};
    const kd_st_tensor t = {"head.bias", KD_ST_F32, 1, d, &value};
    const kd_ckpt_group g = {"model", &t, 1};
    kd_json *s = kd_json_object();
    kd_json_set_str(s, "model", "tiny");
    assert_int_equal(kd_ckpt_save(dir, &g, 1, s, false, NULL), KD_OK);
    kd_json_free(s);
}

static void expect_weight(const char *path, float value)
{
    kd_weights *w = open_ok(path);
    float v = 0;
    assert_string_equal(kd_weights_format(w), "checkpoint");
    assert_int_equal(kd_weights_read_f32(w, kd_weights_find(w, "head.bias"), &v, NULL), KD_OK);
    assert_true(v == value);
    const char *model = NULL;
    assert_int_equal(kd_json_get_str(kd_weights_meta(w), "model", &model, NULL), KD_OK);
    assert_string_equal(model, "tiny");
    char sha[KD_SHA256_HEX];
    assert_int_equal(kd_weights_sha256(w, sha, NULL), KD_OK);
    kd_weights_close(w);
}

static void test_directories(void **state)
{
    (void)state;
    char path[160];
    expect_refusal(root, KD_E_IO, "no weights in this directory");
    in_root(path, "checkpoints/last");
    save_checkpoint(path, 1.0f);
    expect_weight(root, 1.0f);
    expect_weight(path, 1.0f);
    in_root(path, "checkpoints/best");
    save_checkpoint(path, 2.0f);
    expect_weight(root, 2.0f); /* the best one of a run */
    in_root(path, "checkpoints/best/model.safetensors");
    assert_int_equal(truncate(path, 20), 0);
    expect_refusal(root, KD_E_INTEGRITY, "best/model.safetensors"); /* never quietly another one */
    in_root(path, "hub");
    assert_int_equal(kd_io_mkdirs(path, NULL), KD_OK);
    char file[160];
    in_root(file, "hub/model.safetensors");
    kd_weights *f = open_ok(GOLDEN "finetuned_model_f32.pth");
    assert_int_equal(kd_weights_save(f, file, KD_VIT_HF, NULL, NULL), KD_OK);
    kd_weights *g = open_ok(path);
    expect_same(f, g, 0);
    kd_weights_close(f);
    kd_weights_close(g);
    in_root(file, "text.pth");
    assert_int_equal(kd_io_write_file(file, "hello world", 11, NULL), KD_OK);
    expect_refusal(file, KD_E_FORMAT, "text.pth");
    expect_refusal("/nonexistent", KD_E_IO, "No such file");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_official, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pretrain, setup, teardown),
        cmocka_unit_test_setup_teardown(test_convert, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hf_variants, setup, teardown),
        cmocka_unit_test_setup_teardown(test_student, setup, teardown),
        cmocka_unit_test_setup_teardown(test_npz, setup, teardown),
        cmocka_unit_test_setup_teardown(test_directories, setup, teardown),
    };
    return cmocka_run_group_tests_name("weights", tests, NULL, NULL);
}
