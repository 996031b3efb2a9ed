/* slice, concat, permute, qkv_bias: elements moved, perhaps converted or added. */
#include "kernels/cpu/chunk.h"

/* Copy n elements x[from..] to output `out` at `to`. */
static void move_to(const kd_call *c, int out, const kd_tensor *x, int64_t from, int64_t to, int64_t n)
{
    real v[KD_CHUNK];
    for (int64_t o = 0; o < n; o += KD_CHUNK) {
        const int64_t len = KD_MIN((int64_t)KD_CHUNK, n - o);
        kd_load(v, x, from + o, len);
        kd_store(c, out, to + o, v, len);
    }
}

static void move(const kd_call *c, const kd_tensor *x, int64_t from, int64_t to, int64_t n)
{
    move_to(c, 0, x, from, to, n);
}

static void fill_zero(const kd_call *c, int64_t to, int64_t n)
{
    const real v[KD_CHUNK] = {0};
    for (int64_t o = 0; o < n; o += KD_CHUNK) {
        kd_store(c, 0, to + o, v, KD_MIN((int64_t)KD_CHUNK, n - o));
    }
}

static kd_status slice_run(const kd_call *c)
{
    const kd_slice_attr *at = c->attr;
    const kd_shape *s = &c->in[0].shape;
    const int64_t outer = kd_shape_span(s, 0, at->axis), inner = kd_shape_span(s, at->axis + 1, s->rank);
    const int64_t full = s->dim[at->axis] * inner, part = at->len * inner;
    KD_FOR
    for (int64_t o = 0; o < outer; o++) {
        move(c, &c->in[0], o * full + at->start * inner, o * part, part);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(slice) = {.run = slice_run};

static kd_status slice_bwd_run(const kd_call *c)
{
    const kd_slice_attr *at = c->attr;
    const kd_shape *s = &c->in[0].shape;
    const int64_t outer = kd_shape_span(s, 0, at->axis), inner = kd_shape_span(s, at->axis + 1, s->rank);
    const int64_t full = at->full * inner, part = at->len * inner, start = at->start * inner;
    KD_FOR
    for (int64_t o = 0; o < outer; o++) {
        fill_zero(c, o * full, start);
        move(c, &c->in[0], o * part, o * full + start, part);
        fill_zero(c, o * full + start + part, full - start - part);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(slice_bwd) = {.run = slice_bwd_run};

static kd_status concat_run(const kd_call *c)
{
    const kd_concat_attr *at = c->attr;
    const kd_shape *s = &c->out[0].shape;
    const int64_t outer = kd_shape_span(s, 0, at->axis), inner = kd_shape_span(s, at->axis + 1, s->rank);
    const int64_t full = s->dim[at->axis] * inner;
    KD_FOR
    for (int64_t o = 0; o < outer; o++) {
        int64_t to = o * full;
        for (int i = 0; i < c->n_in && c->in[i].data != NULL; i++) {
            const int64_t part = c->in[i].shape.dim[at->axis] * inner;
            move(c, &c->in[i], o * part, to, part);
            to += part;
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(concat) = {.run = concat_run};

static kd_status concat_bwd_run(const kd_call *c)
{
    const kd_concat_attr *at = c->attr;
    const kd_shape *s = &c->in[0].shape;
    const int64_t outer = kd_shape_span(s, 0, at->axis), inner = kd_shape_span(s, at->axis + 1, s->rank);
    const int64_t full = s->dim[at->axis] * inner;
    KD_FOR
    for (int64_t o = 0; o < outer; o++) {
        int64_t from = o * full;
        for (int i = 0; i < at->n; i++) {
            const int64_t part = at->part[i] * inner;
            if (c->out[i].data != NULL) {
                move_to(c, i, &c->in[0], from, o * part, part);
            }
            from += part;
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(concat_bwd) = {.run = concat_bwd_run};

/* One row of the output at a time: its elements lie `step` apart in x. */
static kd_status permute_run(const kd_call *c)
{
    const kd_permute_attr *at = c->attr;
    const kd_shape *xs = &c->in[0].shape, *ys = &c->out[0].shape;
    const int rank = xs->rank;
    int64_t stride[KD_MAX_RANK];
    for (int i = 0; i < rank; i++) {
        stride[i] = kd_shape_span(xs, at->perm[i] + 1, rank);
    }
    const int64_t n = ys->dim[rank - 1], rows = n > 0 ? numel(&c->out[0]) / n : 0, step = stride[rank - 1];
    KD_FOR
    for (int64_t r = 0; r < rows; r++) {
        real v[KD_CHUNK];
        int64_t from = 0, rest = r;
        for (int i = rank - 2; i >= 0; i--) {
            from += rest % ys->dim[i] * stride[i];
            rest /= ys->dim[i];
        }
        if (step == 1) {
            move(c, &c->in[0], from, r * n, n);
            continue;
        }
        for (int64_t o = 0; o < n; o += KD_CHUNK) {
            const int64_t len = KD_MIN((int64_t)KD_CHUNK, n - o);
            for (int64_t j = 0; j < len; j++) {
                v[j] = ld_any(&c->in[0], from + (o + j) * step);
            }
            kd_store(c, 0, r * n + o, v, len);
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(permute) = {.run = permute_run};

/* ---- qkv_bias -------------------------------------------------------------------------------- */

static kd_status qkv_bias_run(const kd_call *c)
{
    const int64_t C = numel(&c->in[0]);
    move(c, &c->in[0], 0, 0, C);
    fill_zero(c, C, C);
    move(c, &c->in[1], 0, 2 * C, C);
    return KD_OK;
}

const kd_kernel_def KD_K(qkv_bias) = {.run = qkv_bias_run};

static kd_status qkv_bias_bwd_run(const kd_call *c)
{
    const int64_t C = numel(&c->in[0]) / 3;
    for (int o = 0; o < 2; o++) {
        if (c->out[o].data != NULL) {
            kd_store(c, o, 0, (const real *)c->in[0].data + (o == 0 ? 0 : 2 * C), C);
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(qkv_bias_bwd) = {.run = qkv_bias_bwd_run};
