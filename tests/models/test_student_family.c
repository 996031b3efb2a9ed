/* The student family without running it: graph matrices and shift tables against the reference's,
 * registry and parameter counts, decay groups, constants of checkpoints, initial values, refusals. */
#include "formats/weights/safetensors.h"
#include "kernels/kd_layers.h"
#include "student/model/skeleton_graph.h"
#include "student/model/student.h"

/* clang-format off */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
/* clang-format on */

enum { CLASSES = 60, FRAMES = 64, BODIES = 2, JOINTS = 25, ADJ = JOINTS * JOINTS };

static kd_student_cfg config_of(const char *name)
{
    const kd_student_info *s = kd_student_find(name);
    assert_non_null(s);
    return (kd_student_cfg){
        .model = s, .classes = CLASSES, .frames = FRAMES, .bodies = BODIES, .dropout = 0.0f, .drop_path = 0.0f};
}

/* ---- graphs and tables ----------------------------------------------------------------------- */

static void check_table(const kd_st_file *f, const char *name, const void *mine, size_t bytes, double tol)
{
    const kd_st_entry *e = kd_st_find(f, name);
    assert_non_null(e);
    assert_int_equal(e->bytes, bytes);
    if (e->dtype == KD_ST_I32) {
        assert_memory_equal(e->data, mine, bytes);
        return;
    }
    const float *a = (const float *)(const void *)e->data, *b = mine;
    for (size_t i = 0; i < bytes / sizeof *a; i++) {
        if (!(fabs((double)a[i] - (double)b[i]) <= tol)) {
            fail_msg("%s[%zu]: %.9g, expected %.9g", name, i, (double)b[i], (double)a[i]);
        }
    }
}

static void graph_matrices(void **state)
{
    (void)state;
    static float a[KD_MAX_PARTS * ADJ];
    const size_t one = ADJ * sizeof *a;
    kd_st_file *f = NULL;
    assert_int_equal(kd_st_open(KD_GOLDEN_DIR "/last/graphs.safetensors", &f, NULL), KD_OK);
    kd_skel_semantic(kd_layout_ntu25(), a);
    check_table(f, "semantic_raw", a, 3 * one, 0.0);
    kd_skel_norm_sym_full(a, 3, JOINTS);
    check_table(f, "semantic_sym_full", a, 3 * one, 1e-7);
    kd_skel_spatial(kd_layout_ntu25(), 1, a);
    check_table(f, "spatial_hop1_raw", a, 3 * one, 0.0);
    kd_skel_norm_sym_full(a, 3, JOINTS);
    check_table(f, "spatial_hop1_sym_full", a, 3 * one, 1e-7);
    kd_skel_spatial(kd_layout_ntu25(), 1, a);
    kd_skel_norm_columns(a, 3, JOINTS);
    check_table(f, "spatial_hop1_per_partition_digraph", a, 3 * one, 1e-7);
    kd_skel_spatial(kd_layout_ntu25(), 1, a);
    kd_skel_norm_columns_of_sum(a, 3, JOINTS);
    check_table(f, "spatial_hop1_digraph_then_partition", a, 3 * one, 1e-7);
    kd_skel_spatial(kd_layout_ntu25(), 2, a);
    check_table(f, "spatial_hop2_raw", a, 5 * one, 0.0);
    kd_skel_norm_sym_full(a, 5, JOINTS);
    check_table(f, "spatial_hop2_sym_full", a, 5 * one, 1e-7);
    int32_t parts[JOINTS];
    kd_skel_parts(kd_layout_ntu25(), false, parts);
    check_table(f, "part_joints", parts, sizeof parts, 0.0);
    double sum = 0.0;
    kd_skel_v1_physical(kd_layout_ntu25(), a);
    for (int i = 0; i < ADJ; i++) {
        sum += (double)a[i];
    }
    assert_true(fabs(sum - 24.680258) <= 1e-5);
    kd_st_close(f);
}

static void shift_tables(void **state)
{
    (void)state;
    enum { MOST = 192 };
    static int32_t brasp[MOST * JOINTS], sgp[MOST * JOINTS], both[MOST * JOINTS];
    static const struct {
        int channels;
        uint32_t brasp, sgp; /* CRC-32 of the reference's tables */
    } known[] = {{24, 0x12e7f950, 0xbc5ce8e7},  {32, 0x81af020c, 0x96588446},  {40, 0xfe579af0, 0xb0607e14},
                 {64, 0x0680ac52, 0x04ed480d},  {80, 0x2d9a13ff, 0xe96c1b79},  {96, 0x0c319945, 0xff54d5dc},
                 {128, 0x931c52ab, 0x0b1f28c2}, {144, 0x8a7a3335, 0xe791200d}, {160, 0x5d34a523, 0x5c83e3f0},
                 {192, 0x8afd0322, 0xb0d5e9c8}};
    for (size_t k = 0; k < KD_COUNTOF(known); k++) {
        const int c = known[k].channels;
        const size_t bytes = (size_t)(c * JOINTS) * sizeof *brasp;
        kd_skel_brasp(kd_layout_ntu25(), c, brasp);
        kd_skel_sgp(kd_layout_ntu25(), c, sgp);
        kd_skel_brasp_sgp(kd_layout_ntu25(), c, both);
        assert_int_equal(kd_crc32(brasp, bytes), known[k].brasp);
        assert_int_equal(kd_crc32(sgp, bytes), known[k].sgp);
        for (int i = 0; i < c * JOINTS; i++) {
            assert_int_equal(both[i], brasp[i / JOINTS * JOINTS + sgp[i]]);
        }
    }
}

/* ---- the registry ---------------------------------------------------------------------------- */

/* Parameters of a student, declared by building it. */
static kd_params *declare(const kd_student_cfg *cfg, kd_status expect, const char *words)
{
    kd_params *p = kd_params_create(KD_F32);
    kd_graph *g = kd_graph_create(&(kd_graph_opts){.params = p, .dtype = KD_F32, .training = true});
    kd_val in[KD_STUDENT_MAX_STREAMS] = {{0}};
    for (int i = 0; i < cfg->model->n_streams; i++) {
        in[i] = kd_input(g, cfg->model->streams[i], KD_F32,
                         kd_shape5(2, 3, FRAMES, cfg->layout != NULL ? cfg->layout->joints : JOINTS, BODIES));
    }
    const kd_student_out out = kd_student_build(g, cfg, in);
    const kd_err *e = kd_graph_error(g);
    assert_int_equal(e != NULL ? e->code : KD_OK, expect);
    if (expect != KD_OK) {
        assert_int_equal(out.logits.id, 0);
        assert_non_null(strstr(e->msg, words));
    } else {
        const kd_spec z = kd_spec_of(g, out.logits), v = kd_spec_of(g, out.feature);
        assert_int_equal((int)z.shape.dim[0], 2);
        assert_int_equal((int)z.shape.dim[1], cfg->classes);
        assert_int_equal((int)v.shape.dim[0], 2);
        assert_int_equal((int)v.shape.dim[1], cfg->model->feature_dim);
    }
    kd_graph_free(g);
    return p;
}

static void registry(void **state)
{
    (void)state;
    assert_null(kd_student_find("last"));
    assert_null(kd_student_at(kd_student_count()));
    for (int i = 0; i < kd_student_count(); i++) {
        const kd_student_info *s = kd_student_at(i);
        assert_ptr_equal(kd_student_find(s->name), s);
        const kd_student_cfg cfg = config_of(s->name);
        kd_params *p = declare(&cfg, KD_OK, "");
        assert_int_equal((int)kd_params_numel(p), (int)s->params);
        kd_params_free(p);
    }
    kd_student_cfg bad = config_of("sfz-nano");
    bad.dropout = 1.5f;
    kd_params_free(declare(&bad, KD_E_CONFIG, "dropout 1.5"));
    bad = config_of("last-e3-nano");
    bad.bodies = 1;
    kd_params_free(declare(&bad, KD_E_SHAPE, "stream joint"));
}

static bool decays(kd_params *p, const char *name)
{
    const int i = kd_params_find(p, name);
    assert_true(i >= 0);
    return kd_params_at(p, i)->decay;
}

static void decay_groups(void **state)
{
    (void)state;
    kd_student_cfg cfg = config_of("sfz-nano");
    kd_params *p = declare(&cfg, KD_OK, "");
    kd_student_param_groups(p, cfg.model, 0);
    assert_true(decays(p, "shared_a_learned.0"));
    assert_true(decays(p, "stages.0.0.gcn_convs.0.weight"));
    assert_false(decays(p, "stages.0.0.residual.1.weight"));
    assert_false(decays(p, "stages.2.0.tla.gate"));
    assert_false(decays(p, "stages.1.0.je.embed.weight"));
    kd_params_free(p);
    cfg = config_of("last-v1-small");
    p = declare(&cfg, KD_OK, "");
    kd_student_param_groups(p, cfg.model, 0);
    assert_true(decays(p, "stem.1.weight")); /* the reference goes by name, and this one has no "bn" in it */
    assert_false(decays(p, "blocks.blocks.0.agcn.A_learned"));
    kd_params_free(p);
}

/* ---- repairs --------------------------------------------------------------------------------- */

static unsigned fixes_of(const char *name, const char *list, kd_status expect, const char *words)
{
    unsigned fix = 0;
    kd_err err = {0};
    assert_int_equal(kd_student_fixes(kd_student_find(name), list, "student.fix", &fix, &err), expect);
    assert_true(expect == KD_OK || strstr(err.msg, words) != NULL);
    return fix;
}

static void names_of_repairs(void **state)
{
    (void)state;
    assert_int_equal(fixes_of("sfz-nano", "", KD_OK, ""), 0);
    assert_int_equal(fixes_of("sfz-small", "part_joints, empty_body,adjacency_start,shared_decay", KD_OK, ""), 15);
    assert_int_equal(fixes_of("last-v2-base", "empty_body,adjacency_start", KD_OK, ""), 6);
    assert_int_equal(fixes_of("sfz-x", "part_joints", KD_OK, ""), KD_FIX_PART_JOINTS);
    (void)fixes_of("sfz-nano", "part_joints", KD_E_CONFIG, "part_joints does nothing, since sfz-nano has no attention");
    (void)fixes_of("sfz-large", "adjacency_start", KD_E_CONFIG, "sfz-large has no learned adjacency");
    (void)fixes_of("sfz-medium", "shared_decay", KD_E_CONFIG, "sfz-medium has no shared_a_learned");
    (void)fixes_of("last-e2-nano", "adjacency_start", KD_E_CONFIG, "does nothing");
    (void)fixes_of("last-v1-base", "empty_body", KD_E_CONFIG, "last-v1-base does not average bodies");
    (void)fixes_of("sfz-nano", "empty_body,empty_body", KD_E_CONFIG, "empty_body is there twice");
    (void)fixes_of("sfz-nano", "empty_body,", KD_E_CONFIG, "expected names of part_joints");
    (void)fixes_of("sfz-nano", "empty_body shared_decay", KD_E_CONFIG, "found 'empty_body shared_decay'");
}

static void repaired_decay(void **state)
{
    (void)state;
    const kd_student_cfg cfg = config_of("sfz-nano");
    kd_params *p = declare(&cfg, KD_OK, "");
    kd_student_param_groups(p, cfg.model, KD_FIX_SHARED_DECAY);
    assert_false(decays(p, "shared_a_learned.0"));
    assert_true(decays(p, "stages.0.0.gcn_convs.0.weight"));
    kd_params_free(p);
}

static kd_status part_table(void *user, const char *name, kd_dtype dtype, kd_shape shape, const void *data,
                            const char *of)
{
    (void)dtype, (void)shape, (void)of;
    if (strcmp(name, "backbone_a.stages.2.0.part_att.joints") == 0) {
        memcpy(user, data, JOINTS * sizeof(int64_t));
    }
    return KD_OK;
}

/* Neck and head belong to the torso, and every joint after them to its own part. */
static void repaired_parts(void **state)
{
    (void)state;
    static const int64_t want[JOINTS] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 0, 1, 1, 2, 2};
    int64_t have[JOINTS] = {-1};
    kd_student_cfg cfg = config_of("sfz-small");
    cfg.fix = KD_FIX_PART_JOINTS;
    kd_params *p = declare(&cfg, KD_OK, "");
    assert_int_equal(kd_student_extras(&cfg, p, part_table, have), KD_OK);
    assert_memory_equal(have, want, sizeof want);
    kd_params_free(p);
    cfg.layout = kd_layout_find("kinect20");
    kd_params_free(declare(&cfg, KD_E_CONFIG, "part_joints does nothing with layout kinect20"));
}

/* What a state_dict carries besides parameters; and which parameters are the classifier's. */
static void other_names(void **state)
{
    (void)state;
    const kd_student_info *sfz = kd_student_find("sfz-nano"), *e3 = kd_student_find("last-e3-nano");
    assert_true(kd_student_is_constant(sfz, "stages.1.0.brasp.shift_indices"));
    assert_true(kd_student_is_constant(sfz, "stages.2.0.A_learned.1"));
    assert_true(kd_student_is_constant(sfz, "stages.2.0._A_fixed_0"));
    const kd_student_info *late = kd_student_find("sfz-small"), *own = kd_student_find("sfz-medium");
    assert_true(kd_student_is_constant(late, "backbone_b.stages.1.1.A_learned.1"));
    assert_false(kd_student_is_constant(late, "backbone_b.stages.0.0.A_learned.1"));
    assert_false(kd_student_is_constant(own, "backbone_b.stages.1.1.A_learned.1"));
    assert_true(kd_student_is_constant(own, "backbone_a.stages.2.0.part_att.joints"));
    assert_true(kd_student_is_head("backbone_a.classifier.1.weight"));
    assert_true(kd_student_is_constant(kd_student_find("sfz-x"), "stream_stems.2.gcn._A_fixed_1"));
    assert_true(kd_student_is_constant(sfz, "A_flat") && !kd_student_is_constant(sfz, "A"));
    assert_true(kd_student_is_constant(kd_student_find("last-e1-nano"), "stage3.2.gcn.A_2"));
    assert_true(kd_student_is_constant(e3, "A") && !kd_student_is_constant(e3, "A_flat"));
    assert_true(kd_student_is_constant(e3, "head_bn.num_batches_tracked"));
    assert_true(kd_student_is_constant(kd_student_find("last-v1-base"), "blocks.blocks.3.agcn.A_physical"));
    assert_false(kd_student_is_constant(e3, "fc.weight"));
    assert_true(kd_student_is_head("fc.bias") && kd_student_is_head("classifier.1.weight"));
    assert_false(kd_student_is_head("head_bn.weight"));
}

typedef struct seen {
    int n;
    double sum;
    int64_t indices;
} seen;

static kd_status count_constant(void *user, const char *name, kd_dtype dtype, kd_shape shape, const void *data,
                                const char *of)
{
    seen *s = user;
    s->n += of == NULL && strstr(name, "num_batches_tracked") == NULL;
    for (int64_t i = 0; of == NULL && i < kd_shape_numel(&shape); i++) {
        if (dtype == KD_I64) {
            s->indices += ((const int64_t *)data)[i];
        } else {
            s->sum += (double)((const float *)data)[i];
        }
    }
    return strcmp(name, "stages.2.0._A_fixed_2") == 0 ? KD_E_CANCELLED : KD_OK;
}

static seen count_constants(const char *name, kd_status expect)
{
    seen s = {0};
    const kd_student_cfg cfg = config_of(name);
    kd_params *p = declare(&cfg, KD_OK, "");
    assert_int_equal(kd_student_extras(&cfg, p, count_constant, &s), expect);
    kd_params_free(p);
    return s;
}

static void checkpoint_constants(void **state)
{
    (void)state;
    seen s = count_constants("last-v1-base", KD_OK);
    assert_int_equal(s.n, 4);
    assert_true(fabs(s.sum - 4 * 24.680258) <= 1e-4);
    assert_int_equal(count_constants("last-e3-nano", KD_OK).n, 4);
    s = count_constants("sfz-nano", KD_E_CANCELLED);
    assert_int_equal(s.n, 3 + 3 * 5);
    assert_true(fabs(s.sum - (19.1044 + 1.5926 + 127 + 3 * 127)) <= 1e-3);
    assert_true(s.indices > 0);
}

/* ---- whole state_dicts ----------------------------------------------------------------------- */

enum { LINE = 160, MOST_LINES = 2048 };

typedef struct keys {
    char (*line)[LINE]; /* [n] "float32 [64,3,1,1] stem.0.weight" */
    int n;
    const kd_student_info *student;
    kd_params *params;
} keys;

static void add_key(keys *k, const char *name, kd_dtype dtype, const kd_shape *shape)
{
    assert_true(k->n < MOST_LINES);
    char *line = k->line[k->n++];
    int at = snprintf(line, LINE, "%s [", dtype == KD_I64 ? "int64" : "float32");
    for (int i = 0; i < shape->rank; i++) {
        at += snprintf(line + at, (size_t)(LINE - at), "%s%lld", i > 0 ? "," : "", (long long)shape->dim[i]);
    }
    at += snprintf(line + at, (size_t)(LINE - at), "] %s", name);
    assert_true(at < LINE);
}

static kd_status add_extra(void *user, const char *name, kd_dtype dtype, kd_shape shape, const void *data,
                           const char *of)
{
    keys *k = user;
    assert_true((data != NULL) != (of != NULL));
    assert_true(of == NULL || kd_params_find(k->params, of) >= 0);
    assert_int_equal(kd_params_find(k->params, name), -1);
    assert_true(kd_student_is_constant(k->student, name));
    add_key(k, name, dtype, &shape);
    return KD_OK;
}

/* By the key, as Python sorts. */
static int by_key(const void *a, const void *b)
{
    return strcmp(strrchr((const char *)a, ' '), strrchr((const char *)b, ' '));
}

/* Every key of the authors' module with dtype and shape, buffers and second names included, and no other. */
static void whole_state_dicts(void **state)
{
    (void)state;
    keys k = {.line = kd_calloc(MOST_LINES, LINE)};
    assert_non_null(k.line);
    for (int s = 0; s < kd_student_count(); s++) {
        const kd_student_cfg cfg = config_of(kd_student_name(s));
        char path[512], want[LINE];
        k.n = 0;
        k.params = declare(&cfg, KD_OK, "");
        k.student = cfg.model;
        for (int i = 0; i < kd_params_count(k.params); i++) {
            const kd_param_info *info = kd_params_at(k.params, i);
            add_key(&k, info->name, KD_F32, &info->shape);
        }
        assert_int_equal(kd_student_extras(&cfg, k.params, add_extra, &k), KD_OK);
        qsort(k.line, (size_t)k.n, LINE, by_key);
        (void)snprintf(path, sizeof path, "%s/last/keys/%s.txt", KD_GOLDEN_DIR, cfg.model->name);
        FILE *f = fopen(path, "r");
        if (f == NULL) {
            fail_msg("%s: no list of the keys of %s", path, cfg.model->name);
        }
        for (int i = 0; i < k.n; i++) {
            assert_non_null(fgets(want, sizeof want, f));
            want[strcspn(want, "\n")] = '\0';
            assert_string_equal(k.line[i], want);
        }
        assert_null(fgets(want, sizeof want, f)); /* no key more */
        (void)fclose(f);
        kd_params_free(k.params);
    }
    kd_free(k.line);
}

/* Initial values: gates, identity + noise, fan-out rule, and the same noise for the same seed. */
static void initial_values(void **state)
{
    (void)state;
    kd_backend *be = NULL;
    kd_err err = {0};
    assert_int_equal(kd_backend_cpu_open(1, &be, &err), KD_OK);
    float first[ADJ], again[ADJ];
    for (int pass = 0; pass < 3; pass++) {
        kd_student_cfg cfg = config_of("last-v1-small");
        cfg.seed = pass < 2 ? 5 : 6;
        kd_params *p = declare(&cfg, KD_OK, "");
        assert_int_equal(kd_params_alloc(p, be, KD_F32, false, &err), KD_OK);
        assert_int_equal(kd_params_init(p, 1, &err), KD_OK);
        const int i = kd_params_find(p, "blocks.blocks.1.agcn.A_learned");
        assert_int_equal(kd_params_read(p, i, pass == 0 ? first : again, ADJ), KD_OK);
        kd_params_free(p);
        assert_int_equal(pass == 0 || memcmp(first, again, sizeof first) == 0, pass < 2);
    }
    double noise = 0.0;
    for (int i = 0; i < ADJ; i++) {
        const double d = (double)first[i] - (i % (JOINTS + 1) == 0 ? 1.0 : 0.0);
        noise += d * d / ADJ;
    }
    assert_true(sqrt(noise) > 0.008 && sqrt(noise) < 0.012);
    kd_student_cfg cfg = config_of("last-e3-nano");
    kd_params *p = declare(&cfg, KD_OK, "");
    assert_int_equal(kd_params_alloc(p, be, KD_F32, false, &err), KD_OK);
    assert_int_equal(kd_params_init(p, 1, &err), KD_OK);
    static float w[64 * 2 * 5];
    assert_int_equal(kd_params_read(p, kd_params_find(p, "stages.2.0.tcns.0.depth_conv.0.weight"), w, 128 * 5), KD_OK);
    double square = 0.0;
    for (int i = 0; i < 128 * 5; i++) {
        square += (double)w[i] * (double)w[i] / (128 * 5);
    }
    assert_true(fabs(square / (2.0 / (128 * 5)) - 1.0) < 0.2); /* fan_out = 128 channels x 5, not divided by groups */
    kd_params_free(p);
    kd_backend_close(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(graph_matrices), cmocka_unit_test(shift_tables),      cmocka_unit_test(registry),
        cmocka_unit_test(decay_groups),   cmocka_unit_test(other_names),       cmocka_unit_test(checkpoint_constants),
        cmocka_unit_test(initial_values), cmocka_unit_test(whole_state_dicts), cmocka_unit_test(names_of_repairs),
        cmocka_unit_test(repaired_decay), cmocka_unit_test(repaired_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
