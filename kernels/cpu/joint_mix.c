/* joint_mix and its gradients, group_sum and its gradient.
 *
 * An adjacency is held in blocks of KD_COLS columns padded with zeros, so that the 25 joints of a
 * row cost whole vectors and no tail.  Rows (one per sample, channel and frame) go four at a time. */
#include "kernels/cpu/chunk.h"

#define KD_COLS  32
#define KD_ROWS  4
#define KD_BLOCK 64 /* rows summed before a store */

typedef struct mix_dims {
    int64_t n, k, c, t, v; /* c: channels of one slice */
    int64_t xs, ys;        /* channels of x and y */
    int mode, transpose;
} mix_dims;

static mix_dims dims_of(const kd_joint_mix_attr *a, const kd_shape *x, const kd_shape *adj)
{
    mix_dims d = {.n = x->dim[0],
                  .k = a->mode == KD_MIX_EXPAND || a->mode == KD_MIX_GROUPED ? adj->dim[0] : 1,
                  .t = x->dim[2],
                  .v = x->dim[3],
                  .xs = x->dim[1],
                  .mode = a->mode,
                  .transpose = a->transpose};
    d.c = a->mode == KD_MIX_GROUPED ? d.xs / d.k : d.xs;
    d.ys = d.c * d.k;
    return d;
}

/* Columns [w0, w0+KD_COLS) of matrix `at`, transposed when asked, zero beyond V. */
static void load_block(const kd_tensor *adj, int64_t at, int64_t v, bool transpose, int64_t w0,
                       real (*restrict b)[KD_COLS])
{
    for (int64_t i = 0; i < v; i++) {
        for (int64_t j = 0; j < KD_COLS; j++) {
            const int64_t w = w0 + j;
            b[i][j] = w < v ? ld_any(adj, at * v * v + (transpose ? w * v + i : i * v + w)) : R(0.0);
        }
    }
}

/* acc[r][:] += sum_i x[r][i] b[i][:] for KD_ROWS rows of V. */
static void mix_rows(const act_t *restrict x, int64_t v, const real (*restrict b)[KD_COLS],
                     real (*restrict acc)[KD_COLS])
{
    real *restrict a0 = acc[0], *restrict a1 = acc[1], *restrict a2 = acc[2], *restrict a3 = acc[3];
    for (int64_t i = 0; i < v; i++) {
        const real p = ld(x, i), q = ld(x, v + i), r = ld(x, 2 * v + i), s = ld(x, 3 * v + i);
        const real *restrict row = b[i];
        for (int j = 0; j < KD_COLS; j++) {
            a0[j] += p * row[j];
            a1[j] += q * row[j];
            a2[j] += r * row[j];
            a3[j] += s * row[j];
        }
    }
}

static void mix_one_row(const act_t *restrict x, int64_t v, const real (*restrict b)[KD_COLS], real *restrict acc)
{
    for (int64_t i = 0; i < v; i++) {
        const real p = ld(x, i);
        for (int j = 0; j < KD_COLS; j++) {
            acc[j] += p * b[i][j];
        }
    }
}

/* acc (rows, KD_COLS) += x (rows, V) b */
static void mix_block(const act_t *x, int64_t rows, int64_t v, const real (*b)[KD_COLS], real (*acc)[KD_COLS])
{
    int64_t r = 0;
    for (; r + KD_ROWS <= rows; r += KD_ROWS) {
        mix_rows(x + r * v, v, b, acc + r);
    }
    for (; r < rows; r++) {
        mix_one_row(x + r * v, v, b, acc[r]);
    }
}

/* y (rows, V) = sum over `terms` of x_k (rows, V) A[first + k]; x_k lies `stride` elements further
 * each time.  Blocks of rows are summed over all terms before they are stored, so that bf16 rounds
 * once.  plus: (rows, V) that are added to it, or NULL. */
static void mix_slice(const act_t *x, const act_t *plus, act_t *y, int64_t rows, int64_t v, const kd_tensor *adj,
                      int64_t first, int64_t terms, int64_t stride, bool transpose)
{
    for (int64_t w0 = 0; w0 < v; w0 += KD_COLS) {
        real b[KD_MAX_JOINTS][KD_COLS];
        const int64_t nw = KD_MIN((int64_t)KD_COLS, v - w0);
        if (terms == 1) {
            load_block(adj, first, v, transpose, w0, b);
        }
        for (int64_t r0 = 0; r0 < rows; r0 += KD_BLOCK) {
            real acc[KD_BLOCK][KD_COLS] = {{0}};
            const int64_t nr = KD_MIN((int64_t)KD_BLOCK, rows - r0);
            for (int64_t k = 0; k < terms; k++) {
                if (terms > 1) {
                    load_block(adj, first + k, v, transpose, w0, b);
                }
                mix_block(x + k * stride + r0 * v, nr, v, (const real(*)[KD_COLS])b, acc);
            }
            for (int64_t r = 0; r < nr; r++) {
                for (int64_t j = 0; j < nw; j++) {
                    const int64_t at = (r0 + r) * v + w0 + j;
                    st(y, at, acc[r][j] + (plus != NULL ? ld(plus, at) : R(0.0)));
                }
            }
        }
    }
}

/* Slices are cut into channel pieces so that small batches fill all threads. */
#define KD_PIECE 16

static int64_t pieces_of(int64_t channels)
{
    return (channels + KD_PIECE - 1) / KD_PIECE;
}

static kd_status joint_mix_run(const kd_call *c)
{
    const mix_dims d = dims_of(c->attr, &c->in[0].shape, &c->in[1].shape);
    const act_t *x = c->in[0].data;
    act_t *y = c->out[0].data;
    const int64_t np = pieces_of(d.c), plane = d.t * d.v;
    KD_FOR
    for (int64_t it = 0; it < d.n * d.k * np; it++) {
        const int64_t c0 = it % np * KD_PIECE, k = it / np % d.k, s = it / np / d.k;
        const int64_t nc = KD_MIN((int64_t)KD_PIECE, d.c - c0);
        const int64_t xc = (d.mode == KD_MIX_GROUPED ? k * d.c : 0) + c0;
        mix_slice(x + (s * d.xs + xc) * plane, NULL, y + (s * d.ys + k * d.c + c0) * plane, nc * d.t, d.v, &c->in[1],
                  d.mode == KD_MIX_SAMPLE ? s : k, 1, 0, d.transpose != 0);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(joint_mix) = {.run = joint_mix_run};

static kd_status joint_mix_bwd_x_run(const kd_call *c)
{
    const mix_dims d = dims_of(c->attr, &c->out[0].shape, &c->in[1].shape);
    const act_t *dy = c->in[0].data, *plus = kd_in(c, 2);
    act_t *dx = c->out[0].data;
    const int64_t np = pieces_of(d.c), plane = d.t * d.v;
    const int64_t groups = d.mode == KD_MIX_GROUPED ? d.k : 1;
    const int64_t terms = d.mode == KD_MIX_EXPAND ? d.k : 1;
    KD_FOR
    for (int64_t it = 0; it < d.n * groups * np; it++) {
        const int64_t c0 = it % np * KD_PIECE, k = it / np % groups, s = it / np / groups;
        const int64_t nc = KD_MIN((int64_t)KD_PIECE, d.c - c0);
        const int64_t at = (s * d.xs + k * d.c + c0) * plane;
        mix_slice(dy + (s * d.ys + k * d.c + c0) * plane, plus != NULL ? plus + at : NULL, dx + at, nc * d.t, d.v,
                  &c->in[1], d.mode == KD_MIX_SAMPLE ? s : k, terms, d.c * plane, d.transpose == 0);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(joint_mix_bwd_x) = {.run = joint_mix_bwd_x_run};

/* p (V, KD_COLS) += sum over rows of x[r][i] dy[r][w0 + j]. */
static void outer_rows(const act_t *restrict x, const act_t *restrict dy, int64_t rows, int64_t v, int64_t w0,
                       real (*restrict p)[KD_COLS])
{
    const int64_t nw = KD_MIN((int64_t)KD_COLS, v - w0);
    for (int64_t r0 = 0; r0 < rows; r0 += KD_ROWS) {
        real d[KD_ROWS][KD_COLS] = {{0}};
        const int64_t nr = KD_MIN((int64_t)KD_ROWS, rows - r0);
        for (int64_t r = 0; r < nr; r++) {
            kd_load_act(d[r], dy + (r0 + r) * v + w0, nw);
        }
        const act_t *src = x + r0 * v;
        for (int64_t i = 0; i < v; i++) {
            real q[KD_ROWS] = {0};
            for (int64_t r = 0; r < nr; r++) {
                q[r] = ld(src, r * v + i);
            }
            for (int j = 0; j < KD_COLS; j++) {
                p[i][j] += q[0] * d[0][j] + q[1] * d[1][j] + q[2] * d[2][j] + q[3] * d[3][j];
            }
        }
    }
}

/* One matrix per (sample, partition) in scratch (SAMPLE: straight into dA), then samples are added
 * in order. */
static kd_status joint_mix_bwd_a_run(const kd_call *c)
{
    const mix_dims d = dims_of(c->attr, &c->in[1].shape, &c->out[0].shape);
    const act_t *dy = c->in[0].data, *x = c->in[1].data;
    const int64_t plane = d.t * d.v, vv = d.v * d.v;
    real *parts = c->scratch;
    KD_FOR
    for (int64_t it = 0; it < d.n * d.k; it++) {
        const int64_t k = it % d.k, s = it / d.k;
        const act_t *xs = x + (s * d.xs + (d.mode == KD_MIX_GROUPED ? k * d.c : 0)) * plane;
        const act_t *ys = dy + (s * d.ys + k * d.c) * plane;
        for (int64_t w0 = 0; w0 < d.v; w0 += KD_COLS) {
            real p[KD_MAX_JOINTS][KD_COLS];
            memset(p, 0, (size_t)d.v * sizeof p[0]);
            outer_rows(xs, ys, d.c * d.t, d.v, w0, p);
            for (int64_t i = 0; i < d.v; i++) {
                for (int64_t j = w0; j < KD_MIN(d.v, w0 + KD_COLS); j++) {
                    parts[it * vv + (d.transpose != 0 ? j * d.v + i : i * d.v + j)] = p[i][j - w0];
                }
            }
        }
    }
    if (d.mode == KD_MIX_SAMPLE) {
        kd_store(c, 0, 0, parts, d.n * vv);
        return KD_OK;
    }
    KD_FOR
    for (int64_t it = 0; it < d.k * d.v; it++) {
        real sum[KD_MAX_JOINTS] = {0};
        for (int64_t s = 0; s < d.n; s++) {
            const real *row = parts + (s * d.k * d.v + it) * d.v;
            for (int64_t j = 0; j < d.v; j++) {
                sum[j] += row[j];
            }
        }
        kd_store(c, 0, it * d.v, sum, d.v);
    }
    return KD_OK;
}

static size_t joint_mix_bwd_a_scratch(const kd_call *c)
{
    const mix_dims d = dims_of(c->attr, &c->in[1].shape, &c->out[0].shape);
    return (size_t)(d.n * d.k * d.v * d.v) * sizeof(real);
}

const kd_kernel_def KD_K(joint_mix_bwd_a) = {.run = joint_mix_bwd_a_run, .scratch = joint_mix_bwd_a_scratch};

/* ---- group_sum ------------------------------------------------------------------------------- */

static kd_status group_sum_run(const kd_call *c)
{
    const kd_group_sum_attr *at = c->attr;
    const kd_shape *s = &c->out[0].shape;
    const int64_t n = s->dim[0], ch = s->dim[1], l = s->dim[2] * s->dim[3], k = at->parts;
    const act_t *z = c->in[0].data, *a = kd_in(c, 1);
    act_t *y = c->out[0].data;
    KD_ASSERT(k > 0);
    KD_FOR
    for (int64_t it = 0; it < n * ch; it++) {
        const int64_t b = it / ch, i = it % ch;
        for (int64_t p = 0; p < l; p += KD_CHUNK) {
            real acc[KD_CHUNK];
            const int64_t len = KD_MIN((int64_t)KD_CHUNK, l - p);
            for (int64_t q = 0; q < k; q++) {
                const act_t *restrict src = z + ((b * k + q) * ch + i) * l + p;
                const real w = (real)at->scale * (a != NULL ? ld(a, b * k + q) : R(1.0));
                for (int64_t j = 0; j < len; j++) {
                    acc[j] = (q == 0 ? R(0.0) : acc[j]) + w * ld(src, j);
                }
            }
            for (int64_t j = 0; j < len; j++) {
                st(y + it * l + p, j, acc[j]);
            }
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(group_sum) = {.run = group_sum_run};

static kd_status group_sum_bwd_run(const kd_call *c)
{
    const kd_group_sum_attr *at = c->attr;
    const kd_shape *s = &c->in[0].shape;
    const int64_t n = s->dim[0], ch = s->dim[1], l = s->dim[2] * s->dim[3], k = at->parts;
    const act_t *dy = c->in[0].data, *z = kd_in(c, 1), *a = kd_in(c, 2);
    act_t *dz = c->out[0].data, *da = c->n_out > 1 ? c->out[1].data : NULL;
    KD_FOR
    for (int64_t it = 0; it < n * k; it++) {
        const act_t *restrict src = dy + it / k * ch * l;
        if (dz != NULL) {
            const real w = (real)at->scale * (a != NULL ? ld(a, it) : R(1.0));
            act_t *restrict dst = dz + it * ch * l;
            for (int64_t j = 0; j < ch * l; j++) {
                st(dst, j, w * ld(src, j));
            }
        }
        if (da != NULL) {
            real sum = R(0.0);
            for (int64_t i = 0; i < ch; i++) {
                sum += kd_dot_acts(src + i * l, z + (it * ch + i) * l, l);
            }
            st(da, it, (real)at->scale * sum);
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(group_sum_bwd) = {.run = group_sum_bwd_run};
