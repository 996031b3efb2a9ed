/* A ViT training step by hand: see oracle_vit.h.  Written for being read beside the formulas, not for speed. */
#include "tests/models/oracle_vit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- layers: y and what backward needs; backward adds to dw and db, sets dx ------------------ */

/* y[r,o] = sum_i x[r,i] w[o,i] + b[o] */
static void linear(const double *x, const double *w, const double *b, double *y, int rows, int in, int out)
{
    for (int r = 0; r < rows; r++) {
        for (int o = 0; o < out; o++) {
            double s = b != NULL ? b[o] : 0.0;
            for (int i = 0; i < in; i++) {
                s += x[r * in + i] * w[o * in + i];
            }
            y[r * out + o] = s;
        }
    }
}

static void linear_back(const double *x, const double *w, const double *dy, double *dx, double *dw, double *db,
                        int rows, int in, int out)
{
    for (int i = 0; dx != NULL && i < rows * in; i++) {
        dx[i] = 0.0;
    }
    for (int r = 0; r < rows; r++) {
        for (int o = 0; o < out; o++) {
            const double d = dy[r * out + o];
            for (int i = 0; i < in; i++) {
                dw[o * in + i] += d * x[r * in + i];
                if (dx != NULL) {
                    dx[r * in + i] += d * w[o * in + i];
                }
            }
            if (db != NULL) {
                db[o] += d;
            }
        }
    }
}

static void mean_and_scale(const double *x, int c, double eps, double *mean, double *scale)
{
    double m = 0.0, v = 0.0;
    for (int i = 0; i < c; i++) {
        m += x[i] / c;
    }
    for (int i = 0; i < c; i++) {
        v += (x[i] - m) * (x[i] - m) / c;
    }
    *mean = m;
    *scale = 1.0 / sqrt(v + eps);
}

static void layernorm(const double *x, const double *g, const double *b, double eps, double *y, int rows, int c)
{
    for (int r = 0; r < rows; r++) {
        double mean, scale;
        mean_and_scale(x + r * c, c, eps, &mean, &scale);
        for (int i = 0; i < c; i++) {
            y[r * c + i] = (x[r * c + i] - mean) * scale * g[i] + b[i];
        }
    }
}

/* dx is added to: every norm sits at the start of a residual branch. */
static void layernorm_back(const double *x, const double *g, double eps, const double *dy, double *dx, double *dg,
                           double *db, int rows, int c)
{
    for (int r = 0; r < rows; r++) {
        double mean, scale, a = 0.0, ax = 0.0;
        mean_and_scale(x + r * c, c, eps, &mean, &scale);
        for (int i = 0; i < c; i++) {
            const double h = (x[r * c + i] - mean) * scale, d = dy[r * c + i];
            dg[i] += d * h;
            db[i] += d;
            a += d * g[i] / c;
            ax += d * g[i] * h / c;
        }
        for (int i = 0; i < c; i++) {
            const double h = (x[r * c + i] - mean) * scale;
            dx[r * c + i] += scale * (dy[r * c + i] * g[i] - a - h * ax);
        }
    }
}

static double gelu(double x)
{
    return 0.5 * x * (1.0 + erf(x / sqrt(2.0)));
}

static double gelu_slope(double x)
{
    return 0.5 * (1.0 + erf(x / sqrt(2.0))) + x * exp(-0.5 * x * x) / sqrt(2.0 * acos(-1.0));
}

/* One sample, one head: qkv rows of 3c, head at column h0; prob (n,n). */
static void attention(const double *qkv, double *prob, double *o, int n, int c, int h0, int d)
{
    for (int i = 0; i < n; i++) {
        double sum = 0.0;
        for (int j = 0; j < n; j++) {
            double s = 0.0;
            for (int k = 0; k < d; k++) {
                s += qkv[i * 3 * c + h0 + k] * qkv[j * 3 * c + c + h0 + k];
            }
            prob[i * n + j] = exp(s / sqrt((double)d));
            sum += prob[i * n + j];
        }
        for (int k = 0; k < d; k++) {
            o[i * c + h0 + k] = 0.0;
        }
        for (int j = 0; j < n; j++) {
            prob[i * n + j] /= sum;
            for (int k = 0; k < d; k++) {
                o[i * c + h0 + k] += prob[i * n + j] * qkv[j * 3 * c + 2 * c + h0 + k];
            }
        }
    }
}

static void attention_back(const double *qkv, const double *prob, const double *go, double *dqkv, int n, int c, int h0,
                           int d)
{
    for (int i = 0; i < n; i++) {
        double dot = 0.0;
        for (int pass = 0; pass < 2; pass++) { /* first the sum that softmax subtracts */
            for (int j = 0; j < n; j++) {
                const double *v = qkv + j * 3 * c + 2 * c + h0;
                double dp = 0.0;
                for (int k = 0; k < d; k++) {
                    dp += go[i * c + h0 + k] * v[k];
                }
                if (pass == 0) {
                    dot += dp * prob[i * n + j];
                    continue;
                }
                const double ds = prob[i * n + j] * (dp - dot) / sqrt((double)d);
                for (int k = 0; k < d; k++) {
                    dqkv[i * 3 * c + h0 + k] += ds * qkv[j * 3 * c + c + h0 + k];
                    dqkv[j * 3 * c + c + h0 + k] += ds * qkv[i * 3 * c + h0 + k];
                    dqkv[j * 3 * c + 2 * c + h0 + k] += prob[i * n + j] * go[i * c + h0 + k];
                }
            }
        }
    }
}

/* ---- the model ------------------------------------------------------------------------------- */

enum { MAX_DEPTH = 4 };

/* Activations of one block, kept from forward to backward. */
typedef struct block_mem {
    double *x, *n1, *qkv, *prob, *o, *y, *n2, *h, *a;
} block_mem;

typedef struct model {
    const kd_vit_cfg *c;
    kd_params *p;
    double *grad;
    int batch, tokens, rows; /* rows = batch * tokens */
} model;

static double *zeros(size_t n)
{
    double *v = calloc(n, sizeof *v);
    if (v == NULL) {
        abort();
    }
    return v;
}

static int index_of(const model *m, int block, const char *name)
{
    char full[80];
    (void)snprintf(full, sizeof full, "blocks.%d.%s", block, name);
    const int i = kd_params_find(m->p, block < 0 ? name : full);
    if (i < 0) {
        (void)fprintf(stderr, "no parameter %s\n", block < 0 ? name : full);
        abort();
    }
    return i;
}

static const double *value(const model *m, int block, const char *name)
{
    return kd_params_value(m->p, index_of(m, block, name));
}

static double *slope(const model *m, int block, const char *name)
{
    return m->grad + kd_params_at(m->p, index_of(m, block, name))->offset;
}

/* x (rows, dim) -> out (rows, dim) */
static void block_forward(const model *m, int k, block_mem *b, double *out)
{
    const int c = m->c->dim, r = m->rows, n = m->tokens, f = m->c->mlp_hidden, d = c / m->c->heads;
    const double eps = (double)m->c->eps;
    double *bias = zeros((size_t)(3 * c));
    for (int i = 0; i < c; i++) { /* k has none */
        bias[i] = value(m, k, "attn.q_bias")[i];
        bias[2 * c + i] = value(m, k, "attn.v_bias")[i];
    }
    layernorm(b->x, value(m, k, "norm1.weight"), value(m, k, "norm1.bias"), eps, b->n1, r, c);
    linear(b->n1, value(m, k, "attn.qkv.weight"), bias, b->qkv, r, c, 3 * c);
    for (int s = 0; s < m->batch; s++) {
        for (int h = 0; h < m->c->heads; h++) {
            attention(b->qkv + s * n * 3 * c, b->prob + (s * m->c->heads + h) * n * n, b->o + s * n * c, n, c, h * d,
                      d);
        }
    }
    linear(b->o, value(m, k, "attn.proj.weight"), value(m, k, "attn.proj.bias"), b->y, r, c, c);
    for (int i = 0; i < r * c; i++) {
        b->y[i] += b->x[i];
    }
    layernorm(b->y, value(m, k, "norm2.weight"), value(m, k, "norm2.bias"), eps, b->n2, r, c);
    linear(b->n2, value(m, k, "mlp.fc1.weight"), value(m, k, "mlp.fc1.bias"), b->h, r, c, f);
    for (int i = 0; i < r * f; i++) {
        b->a[i] = gelu(b->h[i]);
    }
    linear(b->a, value(m, k, "mlp.fc2.weight"), value(m, k, "mlp.fc2.bias"), out, r, f, c);
    for (int i = 0; i < r * c; i++) {
        out[i] += b->y[i];
    }
    free(bias);
}

/* dx: in, the gradient of the block's output; out, of its input. */
static void block_backward(const model *m, int k, const block_mem *b, double *dx)
{
    const int c = m->c->dim, r = m->rows, n = m->tokens, f = m->c->mlp_hidden, d = c / m->c->heads;
    const double eps = (double)m->c->eps;
    double *da = zeros((size_t)(r * f)), *dn = zeros((size_t)(r * c)), *go = zeros((size_t)(r * c));
    double *dqkv = zeros((size_t)(3 * r * c)), *dbias = zeros((size_t)(3 * c));
    linear_back(b->a, value(m, k, "mlp.fc2.weight"), dx, da, slope(m, k, "mlp.fc2.weight"), slope(m, k, "mlp.fc2.bias"),
                r, f, c);
    for (int i = 0; i < r * f; i++) {
        da[i] *= gelu_slope(b->h[i]);
    }
    linear_back(b->n2, value(m, k, "mlp.fc1.weight"), da, dn, slope(m, k, "mlp.fc1.weight"),
                slope(m, k, "mlp.fc1.bias"), r, c, f);
    layernorm_back(b->y, value(m, k, "norm2.weight"), eps, dn, dx, slope(m, k, "norm2.weight"),
                   slope(m, k, "norm2.bias"), r, c);
    linear_back(b->o, value(m, k, "attn.proj.weight"), dx, go, slope(m, k, "attn.proj.weight"),
                slope(m, k, "attn.proj.bias"), r, c, c);
    for (int s = 0; s < m->batch; s++) {
        for (int h = 0; h < m->c->heads; h++) {
            attention_back(b->qkv + s * n * 3 * c, b->prob + (s * m->c->heads + h) * n * n, go + s * n * c,
                           dqkv + s * n * 3 * c, n, c, h * d, d);
        }
    }
    linear_back(b->n1, value(m, k, "attn.qkv.weight"), dqkv, dn, slope(m, k, "attn.qkv.weight"), dbias, r, c, 3 * c);
    for (int i = 0; i < c; i++) {
        slope(m, k, "attn.q_bias")[i] += dbias[i];
        slope(m, k, "attn.v_bias")[i] += dbias[2 * c + i];
    }
    layernorm_back(b->x, value(m, k, "norm1.weight"), eps, dn, dx, slope(m, k, "norm1.weight"),
                   slope(m, k, "norm1.bias"), r, c);
    free(da);
    free(dn);
    free(go);
    free(dqkv);
    free(dbias);
}

/* Tubelet rows: token (t,h,w) of a sample, its pixels in the order (channel, dt, dy, dx). */
static void patches(const model *m, const double *clip, double *rows)
{
    const kd_vit_cfg *c = m->c;
    const int side = c->img_size / c->patch;
    for (int s = 0; s < m->batch; s++) {
        for (int tok = 0; tok < m->tokens; tok++) {
            const int t0 = tok / (side * side) * c->tubelet;
            const int y0 = tok / side % side * c->patch, x0 = tok % side * c->patch;
            for (int ch = 0; ch < 3; ch++) {
                for (int t = 0; t < c->tubelet; t++) {
                    for (int y = 0; y < c->patch; y++) {
                        for (int x = 0; x < c->patch; x++) {
                            const int frame = (s * 3 + ch) * c->frames + t0 + t;
                            *rows++ = clip[(frame * c->img_size + y0 + y) * c->img_size + x0 + x];
                        }
                    }
                }
            }
        }
    }
}

/* Mean over tokens, fc_norm, head, loss; dx becomes the gradient of the last block's output. */
static double head(const model *m, const double *x, const double *target, double *dx)
{
    const int c = m->c->dim, n = m->tokens, k = m->c->classes, b = m->batch;
    const double eps = (double)m->c->fc_norm_eps;
    double *pool = zeros((size_t)(b * c)), *norm = zeros((size_t)(b * c)), *z = zeros((size_t)(b * k));
    double *dz = zeros((size_t)(b * k)), *dn = zeros((size_t)(b * c)), *dp = zeros((size_t)(b * c)), loss = 0.0;
    for (int i = 0; i < b * n * c; i++) {
        pool[i / (n * c) * c + i % c] += x[i] / n;
    }
    layernorm(pool, value(m, -1, "fc_norm.weight"), value(m, -1, "fc_norm.bias"), eps, norm, b, c);
    linear(norm, value(m, -1, "head.weight"), value(m, -1, "head.bias"), z, b, c, k);
    for (int s = 0; s < b; s++) {
        double sum = 0.0, mass = 0.0;
        for (int j = 0; j < k; j++) {
            sum += exp(z[s * k + j]);
            mass += target[s * k + j];
        }
        for (int j = 0; j < k; j++) {
            loss -= target[s * k + j] * (z[s * k + j] - log(sum)) / b;
            dz[s * k + j] = (mass * exp(z[s * k + j]) / sum - target[s * k + j]) / b;
        }
    }
    linear_back(norm, value(m, -1, "head.weight"), dz, dn, slope(m, -1, "head.weight"), slope(m, -1, "head.bias"), b, c,
                k);
    layernorm_back(pool, value(m, -1, "fc_norm.weight"), eps, dn, dp, slope(m, -1, "fc_norm.weight"),
                   slope(m, -1, "fc_norm.bias"), b, c);
    for (int i = 0; i < b * n * c; i++) {
        dx[i] = dp[i / (n * c) * c + i % c] / n;
    }
    free(pool);
    free(norm);
    free(z);
    free(dz);
    free(dn);
    free(dp);
    return loss;
}

static void block_memory(const model *m, block_mem *b, bool make)
{
    const size_t rc = (size_t)(m->rows * m->c->dim), rf = (size_t)(m->rows * m->c->mlp_hidden);
    const size_t nn = (size_t)(m->rows * m->tokens * m->c->heads);
    double **const part[] = {&b->x, &b->n1, &b->o, &b->y, &b->n2, &b->qkv, &b->prob, &b->h, &b->a};
    const size_t size[] = {rc, rc, rc, rc, rc, 3 * rc, nn, rf, rf};
    for (size_t i = 0; i < KD_COUNTOF(part); i++) {
        if (make) {
            *part[i] = zeros(size[i]);
        } else {
            free(*part[i]);
        }
    }
}

double oracle_vit_step(const kd_vit_cfg *c, kd_params *p, int batch, const double *clip, const double *target,
                       double *grad)
{
    const int tokens = (int)kd_vit_tokens(c), width = 3 * c->tubelet * c->patch * c->patch;
    const model m = {c, p, grad, batch, tokens, batch * tokens};
    block_mem b[MAX_DEPTH];
    if (c->depth > MAX_DEPTH) {
        abort();
    }
    for (int k = 0; k < c->depth; k++) {
        block_memory(&m, &b[k], true);
    }
    double *rows = zeros((size_t)(m.rows * width)), *out = zeros((size_t)(m.rows * c->dim));
    double *dx = zeros((size_t)(m.rows * c->dim));
    patches(&m, clip, rows);
    linear(rows, value(&m, -1, "patch_embed.proj.weight"), value(&m, -1, "patch_embed.proj.bias"), b[0].x, m.rows,
           width, c->dim);
    for (int i = 0; i < m.rows * c->dim; i++) {
        const int at = i / c->dim % tokens, j = i % c->dim;
        const double angle = at / pow(10000.0, 2.0 * (double)(j / 2) / c->dim);
        b[0].x[i] += (double)(float)(j % 2 == 0 ? sin(angle) : cos(angle)); /* the table is f32 */
    }
    for (int k = 0; k < c->depth; k++) {
        block_forward(&m, k, &b[k], k + 1 < c->depth ? b[k + 1].x : out);
    }
    const double loss = head(&m, out, target, dx);
    for (int k = c->depth - 1; k >= 0; k--) {
        block_backward(&m, k, &b[k], dx);
    }
    linear_back(rows, NULL, dx, NULL, slope(&m, -1, "patch_embed.proj.weight"), slope(&m, -1, "patch_embed.proj.bias"),
                m.rows, width, c->dim);
    for (int k = 0; k < c->depth; k++) {
        block_memory(&m, &b[k], false);
    }
    free(rows);
    free(out);
    free(dx);
    return loss;
}

void oracle_adamw(double *w, const double *g, double *m, double *v, int64_t n, double lr, double b1, double b2,
                  double eps, double decay, int t)
{
    for (int64_t i = 0; i < n; i++) {
        w[i] -= lr * decay * w[i];
        m[i] = b1 * m[i] + (1.0 - b1) * g[i];
        v[i] = b2 * v[i] + (1.0 - b2) * g[i] * g[i];
        w[i] -= lr * (m[i] / (1.0 - pow(b1, t))) / (sqrt(v[i] / (1.0 - pow(b2, t))) + eps);
    }
}
