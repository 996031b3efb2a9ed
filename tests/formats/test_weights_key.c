/* Files that hold several weights, and wrappers in front of names. */
#include "formats/base/io.h"
#include "formats/weights/pth.h"
#include "formats/weights/weights.h"
#include "teacher/model/vit_names.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

/* cmocka needs the first three */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
/* clang-format on */

static char path[64], torch_path[72];

static int set_path(void **state)
{
    (void)state;
    (void)snprintf(path, sizeof path, "test_weights_key.%ld", (long)getpid());
    (void)snprintf(torch_path, sizeof torch_path, "%s.pth", path);
    return 0;
}

static int drop_path(void **state)
{
    (void)state;
    return unlink(path) + unlink(torch_path);
}

/* One number a tensor: 1, 2, ... in the order of the names. */
static void write_names(const char *const *name, size_t n)
{
    static const float v[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    static const int64_t dim[1] = {1};
    kd_st_tensor t[8];
    assert_true(n <= KD_COUNTOF(t));
    for (size_t i = 0; i < n; i++) {
        t[i] = (kd_st_tensor){name[i], KD_ST_F32, 1, dim, &v[i]};
    }
    assert_int_equal(kd_st_write(path, t, n, NULL, NULL), KD_OK);
}

/* The value of a tensor; NAN: there is none. */
static float value(const char *file, const char *key, const char *name)
{
    kd_weights *w = NULL;
    kd_err err = {0};
    float v = NAN;
    if (kd_weights_open_key(file, key, &kd_vit_names, &w, &err) != KD_OK) {
        fail_msg("%s", err.msg);
    }
    const kd_weight *t = kd_weights_find(w, name);
    if (t != NULL) {
        assert_int_equal(kd_weights_read_f32(w, t, &v, NULL), KD_OK);
    }
    kd_weights_close(w);
    return v;
}

static void refused(const char *file, const char *key, const char *says)
{
    kd_weights *w = NULL;
    kd_err err = {0};
    assert_int_equal(kd_weights_open_key(file, key, &kd_vit_names, &w, &err), KD_E_DATA);
    if (strstr(err.msg, says) == NULL) {
        fail_msg("says '%s', expected '%s'", err.msg, says);
    }
}

static void test_wrappers(void **state)
{
    static const char *const wrapper[] = {"",     "module.",  "_orig_mod.module.", "model.",  "model_ema.module.",
                                          "ema.", "teacher.", "student.backbone.", "encoder."};
    static const char *const other[] = {"", "ema.module.", "teacher.", "model."};
    char a[80], b[80];
    (void)state;
    for (size_t i = 0; i < KD_COUNTOF(wrapper); i++) {
        (void)snprintf(a, sizeof a, "%spatch_embed.proj.weight", wrapper[i]);
        (void)snprintf(b, sizeof b, "%sblocks.0.norm1.bias", wrapper[i]);
        write_names((const char *const[]){a, b}, 2);
        assert_true(value(path, "", "patch_embed.proj.weight") == 1.0f);
        assert_true(value(path, "", "blocks.0.norm1.bias") == 2.0f);
    }
    for (size_t i = 0; i < KD_COUNTOF(other); i++) { /* names that other code gives */
        (void)snprintf(a, sizeof a, "%sbackbone.patch_embed.projection.weight", other[i]);
        (void)snprintf(b, sizeof b, "%scls_head.fc_cls.bias", other[i]);
        write_names((const char *const[]){a, b}, 2);
        assert_true(value(path, "", "patch_embed.proj.weight") == 1.0f && value(path, "", "head.bias") == 2.0f);
        (void)snprintf(a, sizeof a, "%svideomae.embeddings.patch_embeddings.projection.weight", other[i]);
        (void)snprintf(b, sizeof b, "%svideomae.encoder.layer.0.layernorm_before.bias", other[i]);
        write_names((const char *const[]){a, b}, 2);
        assert_true(value(path, "", "patch_embed.proj.weight") == 1.0f);
        assert_true(value(path, "", "blocks.0.norm1.bias") == 2.0f);
    }
}

static void test_several(void **state)
{
    static const char *const names[] = {"teacher.patch_embed.proj.weight", "teacher.head.bias",
                                        "student.patch_embed.proj.weight", "student.head.bias", "step"};
    (void)state;
    write_names(names, KD_COUNTOF(names));
    refused(path, "", "a key (--key, teacher.weights_key) says which");
    assert_true(value(path, "teacher", "head.bias") == 2.0f && value(path, "student", "head.bias") == 4.0f);
    assert_true(isnan(value(path, "student", "step")));
    refused(path, "model_ema", "no weights of key 'model_ema'");
    refused(path, "teach", "no weights of key 'teach'");
}

/* A torch file: the key is a dictionary's, or as above. */
static void test_torch(void **state)
{
    static const int64_t dim[1] = {1};
    const float v[2] = {1, 2};
    const kd_st_tensor t[2] = {{"module.patch_embed.proj.weight", KD_ST_F32, 1, dim, &v[0]},
                               {"module.head.bias", KD_ST_F32, 1, dim, &v[1]}};
    kd_weights *w = NULL;
    (void)state;
    assert_int_equal(kd_pth_write(torch_path, "averages", t, 2, NULL), KD_OK);
    assert_int_not_equal(kd_weights_open(torch_path, &kd_vit_names, &w, NULL), KD_OK); /* no key that is searched */
    assert_true(value(torch_path, "averages", "head.bias") == 2.0f);
    assert_int_equal(kd_pth_write(torch_path, "model", t, 2, NULL), KD_OK);
    assert_true(value(torch_path, "model", "head.bias") == 2.0f);
    assert_true(value(torch_path, "module", "head.bias") == 2.0f);
    refused(torch_path, "averages", "no weights of key 'averages'");
}

/* Folders as DeepSpeed and older versions of transformers leave them. */
static void test_folders(void **state)
{
    static const char *const file[][2] = {{"mp_rank_00_model_states.pt", "module"}, {"pytorch_model.bin", NULL}};
    static const int64_t dim[1] = {1};
    const float v[2] = {1, 2};
    const kd_st_tensor t[2] = {{"patch_embed.proj.weight", KD_ST_F32, 1, dim, &v[0]},
                               {"head.bias", KD_ST_F32, 1, dim, &v[1]}};
    (void)state;
    for (size_t i = 0; i < KD_COUNTOF(file); i++) {
        char folder[72], name[160];
        (void)snprintf(folder, sizeof folder, "%s.d", path);
        (void)snprintf(name, sizeof name, "%s/%s", folder, file[i][0]);
        assert_int_equal(kd_io_mkdirs(folder, NULL), KD_OK);
        assert_int_equal(kd_pth_write(name, file[i][1], t, 2, NULL), KD_OK);
        assert_true(value(folder, "", "head.bias") == 2.0f);
        assert_int_equal(kd_io_remove_tree(folder, NULL), KD_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrappers),
        cmocka_unit_test(test_several),
        cmocka_unit_test(test_torch),
        cmocka_unit_test(test_folders),
    };
    return cmocka_run_group_tests_name("weights_key", tests, set_path, drop_path);
}
