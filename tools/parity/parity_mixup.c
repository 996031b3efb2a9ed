/* Parity of mixup and CutMix: pictures mixed by the teacher's first op, boxes, targets. */
#include "distill/batch/mixup.h"
#include "formats/base/hash.h"
#include "kernels/kd_graph.h"
#include "kernels/kd_ops.h"
#include "tools/parity/parity.h"

#include <stdio.h>

enum { MOST_ROWS = 256 };

typedef struct mixed {
    int64_t dim[5]; /* B, C, T, H, W */
    size_t pixels;  /* T H W */
    float *x, *rows, *got;
    kd_params *params;
    kd_program *program;
    int32_t perm[MOST_ROWS], cut[4 * MOST_ROWS], label[MOST_ROWS];
    float lam[MOST_ROWS];
    int classes;
    double smoothing;
} mixed;

static size_t numel(const mixed *m)
{
    return (size_t)m->dim[0] * (size_t)m->dim[1] * m->pixels;
}

/* patchify with patches of one pixel: rows (B, T H W, C). */
static kd_status build(parity *p, mixed *m, kd_err *err)
{
    const kd_patchify_attr one = {.tubelet = 1, .patch = 1};
    m->params = kd_params_create(KD_F32);
    kd_graph *g = kd_graph_create(&(kd_graph_opts){.params = m->params, .dtype = p->dtype});
    if (m->params == NULL || g == NULL) {
        kd_graph_free(g);
        return KD_FAIL(err, KD_E_OOM, "parity: out of memory");
    }
    const int64_t *d = m->dim;
    const kd_val in[6] = {kd_input(g, "clip", KD_F32, kd_shape5(d[0], d[1], d[2], d[3], d[4])),
                          KD_NONE,
                          KD_NONE,
                          kd_input(g, "perm", KD_I32, kd_shape1(d[0])),
                          kd_input(g, "lam", KD_F32, kd_shape1(d[0])),
                          kd_input(g, "cut", KD_I32, kd_shape2(d[0], 4))};
    kd_output(g, "rows", kd_node(g, KD_OP_PATCHIFY, &one, in, 6, NULL));
    return kd_program_compile(g, p->be, &(kd_compile_opts){0}, &m->program, err);
}

static kd_status put(const mixed *m, const char *name, const void *data, size_t bytes, kd_err *err)
{
    const kd_status st = kd_program_write(m->program, name, data, bytes);
    return st == KD_OK ? KD_OK : KD_FAIL(err, st, "mixup: input %s", name);
}

static kd_status run(mixed *m, kd_err *err)
{
    const size_t b = (size_t)m->dim[0], c = (size_t)m->dim[1], n = numel(m);
    KD_TRY(put(m, "clip", m->x, n * sizeof *m->x, err));
    KD_TRY(put(m, "perm", m->perm, b * sizeof *m->perm, err));
    KD_TRY(put(m, "lam", m->lam, b * sizeof *m->lam, err));
    KD_TRY(put(m, "cut", m->cut, 4 * b * sizeof *m->cut, err));
    kd_status st = kd_program_run(m->program, NULL);
    st = st == KD_OK ? kd_program_read_f32(m->program, "rows", m->rows, (int64_t)n) : st;
    if (st != KD_OK) {
        return KD_FAIL(err, st, "mixup: %s", kd_program_where(m->program));
    }
    for (size_t i = 0; i < n; i++) {
        const size_t clip = i / (c * m->pixels), ch = i / m->pixels % c, at = i % m->pixels;
        m->got[i] = m->rows[(clip * m->pixels + at) * c + ch];
    }
    return KD_OK;
}

/* Lambda and box of a case: given, or those of CutMix round a centre. */
static kd_status draw(parity *p, const kd_json *c, mixed *m, kd_err *err)
{
    double lam = 0.0, corrected = 0.0, left = 0.0;
    bool cutmix = false;
    int32_t box[4] = {0};
    int64_t centre[2], edge[4];
    char text[160];
    KD_TRY(kd_json_get_f64(c, "lam", &lam, err));
    KD_TRY(kd_json_get_f64(c, "lam_corrected", &corrected, err));
    KD_TRY(kd_json_get_bool(c, "cutmix", &cutmix, err));
    left = lam;
    if (cutmix) {
        KD_TRY(kd_json_get_i64s(c, "center_yx", centre, 2, err));
        KD_TRY(kd_json_get_i64s(c, "box_yl_yh_xl_xh", edge, 4, err));
        left = kd_cut_box((int)m->dim[3], (int)m->dim[4], lam, (int)centre[0], (int)centre[1], box);
        (void)snprintf(text, sizeof text, "%s: box", kd_json_key(c));
        kd_parity_check(
            p, text, box[0] == edge[0] && box[0] + box[2] == edge[1] && box[1] == edge[2] && box[1] + box[3] == edge[3],
            NULL);
    }
    (void)snprintf(text, sizeof text, "%s: lambda", kd_json_key(c));
    kd_parity_item(p, text, left - corrected < 0.0 ? corrected - left : left - corrected, 0x1p-52);
    for (int64_t i = 0; i < m->dim[0]; i++) {
        m->perm[i] = (int32_t)(m->dim[0] - 1 - i);
        m->lam[i] = (float)left;
        memcpy(m->cut + 4 * i, box, sizeof box);
    }
    return KD_OK;
}

static kd_status one_case(parity *p, const kd_st_file *f, const kd_json *c, mixed *m, kd_err *err)
{
    const size_t k = (size_t)m->classes, rows = (size_t)m->dim[0];
    char name[128], text[160];
    double *want = NULL;
    float *target = kd_calloc(rows * k, sizeof *target);
    kd_status st = target != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "parity: out of memory");
    KD_GO(st);
    KD_GO(draw(p, c, m, err));
    KD_GO(run(m, err));
    (void)snprintf(name, sizeof name, "%.100s.x", kd_json_key(c));
    KD_GO(kd_parity_tensor(f, name, numel(m), &want, err));
    (void)snprintf(text, sizeof text, "%s: pictures", kd_json_key(c));
    kd_parity_f32(p, text, m->got, want, numel(m), 0.0);
    kd_free(want);
    want = NULL;
    (void)snprintf(name, sizeof name, "%.100s.t", kd_json_key(c));
    KD_GO(kd_parity_tensor(f, name, rows * k, &want, err));
    kd_targets(m->label, NULL, (int)rows, (int)k, m->smoothing, m->perm, m->lam, target);
    (void)snprintf(text, sizeof text, "%s: targets", kd_json_key(c));
    kd_parity_f32(p, text, target, want, rows * k, 0.0);
done:
    kd_free(want);
    kd_free(target);
    return st;
}

static kd_status read_fixture(parity *p, const kd_st_file *f, mixed *m, kd_err *err)
{
    const kd_json *input = NULL;
    const char *name = NULL;
    int64_t *label = NULL, classes = 0;
    double scale = 1.0;
    KD_TRY(kd_json_get_object(p->manifest, "input", &input, err));
    KD_TRY(kd_json_get_str(input, "name", &name, err));
    KD_TRY(kd_json_get_f64(input, "scale", &scale, err));
    KD_TRY(kd_json_get_i64s(input, "shape", m->dim, 5, err));
    KD_TRY(kd_json_get_range(p->manifest, "num_classes", 1, 65536, &classes, err));
    KD_TRY(kd_json_opt_f64(p->manifest, "smoothing", 0.1, &m->smoothing, err));
    for (int i = 0; i < 5; i++) {
        if (m->dim[i] < 1 || m->dim[i] > MOST_ROWS) {
            return KD_FAIL(err, KD_E_DATA, "input.shape: expected (B,C,T,H,W) of 1 to %d each", MOST_ROWS);
        }
    }
    m->classes = (int)classes;
    m->pixels = (size_t)m->dim[2] * (size_t)m->dim[3] * (size_t)m->dim[4];
    KD_TRY(kd_parity_ints(f, "labels", (size_t)m->dim[0], &label, err));
    for (int64_t i = 0; i < m->dim[0]; i++) {
        m->label[i] = (int32_t)label[i];
    }
    kd_free(label);
    m->x = kd_calloc(numel(m), sizeof *m->x);
    m->rows = kd_calloc(numel(m), sizeof *m->rows);
    m->got = kd_calloc(numel(m), sizeof *m->got);
    if (m->x == NULL || m->rows == NULL || m->got == NULL) {
        return KD_FAIL(err, KD_E_OOM, "parity: out of memory");
    }
    kd_parity_fill(name, (float)scale, 0.0f, m->x, numel(m));
    return KD_OK;
}

kd_status kd_parity_mixup(parity *p, kd_err *err)
{
    mixed m = {.program = NULL};
    kd_st_file *f = NULL;
    kd_status st = KD_OK;
    KD_GO(kd_parity_open(p, "labels", &f, err));
    KD_GO(read_fixture(p, f, &m, err));
    KD_GO(build(p, &m, err));
    for (size_t i = 0; i < kd_json_count(p->manifest); i++) {
        const kd_json *c = kd_json_at(p->manifest, i);
        if (kd_json_get(c, "lam_corrected") != NULL) {
            KD_GO(one_case(p, f, c, &m, err));
        }
    }
done:
    kd_program_free(m.program);
    kd_params_free(m.params);
    kd_st_close(f);
    kd_free(m.x);
    kd_free(m.rows);
    kd_free(m.got);
    return st;
}
