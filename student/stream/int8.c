/* Layers in eight bits: see int8.h. */
#include "student/stream/int8.h"

#include <math.h>
#include <stdio.h>

/* Tensor "int8.<i>.<what>" of this dtype and shape. */
static kd_status need(const kd_last_file *f, int32_t i, const char *what, const char *dtype, int rank, int64_t rows,
                      int64_t cols, const void **out, kd_err *err)
{
    char name[48];
    (void)snprintf(name, sizeof name, "int8.%d.%s", (int)i, what);
    const kd_last_tensor *t = kd_last_file_find(f, name);
    if (t == NULL) {
        return KD_FAIL(err, KD_E_FORMAT, "tensor %s is missing", name);
    }
    if (strcmp(t->dtype, dtype) != 0 || t->rank != rank || t->dim[0] != rows || (rank == 2 && t->dim[1] != cols)) {
        return KD_FAIL(err, KD_E_FORMAT, "tensor %s: expected %s (%lld%s%.0lld), found another dtype or shape", name,
                       dtype, (long long)rows, rank == 2 ? "," : "", rank == 2 ? (long long)cols : 0LL);
    }
    *out = f->data + t->begin;
    return KD_OK;
}

static bool positive(float v)
{
    return v >= 1e-30f && v <= 1e30f;
}

static kd_status open_layer(const kd_program *p, const kd_quant_layer *l, const kd_last_file *f, int32_t i,
                            kd_int8 *out, kd_err *err)
{
    const kd_walk_node n = kd_walk_node_at(p, l->node);
    const kd_tensor in[2] = {{.shape = kd_walk_value_at(p, n.in[0]).spec.shape},
                             {.shape = kd_walk_value_at(p, n.in[1]).spec.shape}};
    const kd_tensor y = {.shape = kd_walk_value_at(p, n.out[0]).spec.shape};
    const kd_call c = {.in = in, .out = &y, .n_in = 2, .n_out = 1, .attr = n.attr};
    const void *weight, *scales, *input;
    float range[2];
    KD_TRY(need(f, i, "weight", "I8", 2, l->rows, l->cols, &weight, err));
    KD_TRY(need(f, i, "scale", "F32", 1, l->rows, 0, &scales, err));
    KD_TRY(need(f, i, "input", "F32", 1, 2, 0, &input, err));
    memcpy(range, input, sizeof range);
    if (!positive(range[0]) || !(range[1] >= 0.0f && range[1] <= 255.0f) || range[1] != floorf(range[1])) {
        return KD_FAIL(err, KD_E_FORMAT,
                       "tensor int8.%d.input: expected a scale above 0 and a zero point from 0 to 255, "
                       "found %g and %g",
                       (int)i, (double)range[0], (double)range[1]);
    }
    float *scale = kd_alloc((size_t)l->rows * sizeof *scale);
    if (scale == NULL) {
        return KD_FAIL(err, KD_E_OOM, "out of memory");
    }
    memcpy(scale, scales, (size_t)l->rows * sizeof *scale);
    kd_status st = KD_OK;
    for (int64_t r = 0; r < l->rows && st == KD_OK; r++) {
        st = positive(scale[r]) ? KD_OK
                                : KD_FAIL(err, KD_E_FORMAT, "tensor int8.%d.scale: row %lld: expected a number above 0",
                                          (int)i, (long long)r);
    }
    if (st == KD_OK && kd_int8_make(l->op, &c, weight, scale, range[0], (uint8_t)range[1], out) != KD_OK) {
        st = KD_FAIL(err, KD_E_OOM, "out of memory");
    }
    kd_free(scale);
    return st;
}

kd_status kd_last_int8_open(kd_program *p, const kd_quant *q, const kd_last_file *f, kd_last_int8 *out, kd_err *err)
{
    size_t scratch = 64;
    *out = (kd_last_int8){.n = q->n, .layer = kd_calloc((size_t)q->n + 1, sizeof *out->layer)};
    if (out->layer == NULL) {
        return KD_FAIL(err, KD_E_OOM, "out of memory");
    }
    for (int32_t i = 0; i < q->n; i++) {
        KD_TRY(open_layer(p, &q->layer[i], f, i, &out->layer[i], err));
        scratch = KD_MAX(scratch, kd_int8_scratch(&out->layer[i]));
    }
    out->scratch = kd_calloc(scratch, 1);
    if (out->scratch == NULL) {
        return KD_FAIL(err, KD_E_OOM, "out of memory");
    }
    for (int32_t i = 0; i < q->n; i++) {
        out->layer[i].scratch = out->scratch;
        kd_walk_replace(p, q->layer[i].node, &kd_int8_def, &out->layer[i]);
    }
    return KD_OK;
}

void kd_last_int8_close(kd_last_int8 *e)
{
    for (int32_t i = 0; e->layer != NULL && i < e->n; i++) {
        kd_int8_free(&e->layer[i]);
    }
    kd_free(e->layer);
    kd_free(e->scratch);
    *e = (kd_last_int8){.n = 0};
}
