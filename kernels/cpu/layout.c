/* slice, concat, permute, patchify, qkv_bias: elements moved, perhaps converted or added. */
#include "kernels/cpu/chunk.h"

/* Copy n elements x[from..] to output 0 at `to`. */
static void move(const kd_call *c, const kd_tensor *x, int64_t from, int64_t to, int64_t n)
{
    real v[KD_CHUNK];
    for (int64_t o = 0; o < n; o += KD_CHUNK) {
        const int64_t len = KD_MIN((int64_t)KD_CHUNK, n - o);
        kd_load(v, x, from + o, len);
        kd_store(c, 0, to + o, v, len);
    }
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
    const int64_t outer = kd_shape_span(s, 0, at->axis),
                  inner = kd_shape_span(s, at->axis + 1, s->rank);
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
    const int64_t outer = kd_shape_span(s, 0, at->axis),
                  inner = kd_shape_span(s, at->axis + 1, s->rank);
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
    const int64_t outer = kd_shape_span(s, 0, at->axis),
                  inner = kd_shape_span(s, at->axis + 1, s->rank);
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
    const int64_t n = ys->dim[rank - 1], rows = n > 0 ? numel(&c->out[0]) / n : 0,
                  step = stride[rank - 1];
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

/* ---- patchify --------------------------------------------------------------------------------------------------- */

typedef struct patches {
    int64_t B, C, T, H, W, t, p, Gt, Gh, Gw;
} patches;

static patches patches_of(const kd_shape *x, const kd_patchify_attr *at)
{
    patches g = {x->dim[0],   x->dim[1], x->dim[2], x->dim[3], x->dim[4],
                 at->tubelet, at->patch, 0,         0,         0};
    g.Gt = g.T / g.t;
    g.Gh = g.H / g.p;
    g.Gw = g.W / g.p;
    return g;
}

/* Move patch row k (of B*N) between the clip and the rows; p pixels lie together in both. */
static void patch_row(const kd_call *c, const patches *g, int64_t k, bool back)
{
    const int64_t gx = k % g->Gw, gy = k / g->Gw % g->Gh, gt = k / (g->Gw * g->Gh) % g->Gt;
    const int64_t b = k / (g->Gw * g->Gh * g->Gt);
    int64_t row = k * g->C * g->t * g->p * g->p;
    real v[KD_CHUNK];
    for (int64_t ch = 0; ch < g->C; ch++) {
        for (int64_t dt = 0; dt < g->t; dt++) {
            int64_t px =
                (((b * g->C + ch) * g->T + gt * g->t + dt) * g->H + gy * g->p) * g->W + gx * g->p;
            for (int64_t dy = 0; dy < g->p; dy++, px += g->W, row += g->p) {
                kd_load(v, &c->in[0], back ? row : px, g->p);
                kd_store(c, 0, back ? px : row, v, g->p);
            }
        }
    }
}

static kd_status patchify_run(const kd_call *c)
{
    const patches g = patches_of(&c->in[0].shape, c->attr);
    KD_FOR
    for (int64_t k = 0; k < g.B * g.Gt * g.Gh * g.Gw; k++) {
        patch_row(c, &g, k, false);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(patchify) = {.run = patchify_run};

static kd_status patchify_bwd_run(const kd_call *c)
{
    const kd_patchify_attr *at = c->attr;
    const patches g = patches_of(&at->x_shape, at);
    KD_FOR
    for (int64_t k = 0; k < g.B * g.Gt * g.Gh * g.Gw; k++) {
        patch_row(c, &g, k, true);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(patchify_bwd) = {.run = patchify_bwd_run};

/* ---- qkv_bias --------------------------------------------------------------------------------------------------- */

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
