/* Position tables of another grid: see vit.h. */
#include "teacher/model/vit.h"

#include <math.h>

/* Keys' cubic convolution with the constant that PyTorch uses. */
#define CUBIC (-0.75)

/* Weights of the four source positions floor(x) - 1 .. floor(x) + 2, t = x - floor(x). */
static void cubic_weights(double t, double w[4])
{
    const double far[2] = {1.0 + t, 2.0 - t}, near[2] = {t, 1.0 - t};
    for (int i = 0; i < 2; i++) {
        w[3 * i] = ((CUBIC * far[i] - 5.0 * CUBIC) * far[i] + 8.0 * CUBIC) * far[i] - 4.0 * CUBIC;
        w[1 + i] = ((CUBIC + 2.0) * near[i] - (CUBIC + 3.0)) * near[i] * near[i] + 1.0;
    }
}

/* What an output position reads of its axis. */
typedef struct tap {
    int64_t at[4];
    double w[4];
} tap;

/* Half-pixel centres; the cubic reads beyond the edge, where the last value repeats. */
static tap cubic_tap(int64_t in, int64_t out, int64_t i)
{
    const double x = (double)in / (double)out * ((double)i + 0.5) - 0.5, low = floor(x);
    tap t;
    cubic_weights(x - low, t.w);
    for (int k = 0; k < 4; k++) {
        t.at[k] = KD_MAX(0, KD_MIN((int64_t)low - 1 + k, in - 1));
    }
    return t;
}

/* The linear rule clamps the position itself at 0. */
static tap linear_tap(int64_t in, int64_t out, int64_t i)
{
    const double x = fmax((double)in / (double)out * ((double)i + 0.5) - 0.5, 0.0), low = floor(x);
    tap t = {.at = {KD_MIN((int64_t)low, in - 1), KD_MIN((int64_t)low + 1, in - 1)}, .w = {1.0 - (x - low), x - low}};
    return t;
}

/* Rows (side, side, dim) of one time step to (to, to, dim). */
static void resize_space(const float *in, int side, int to, int64_t dim, float *out)
{
    for (int y = 0; y < to; y++) {
        const tap ty = cubic_tap(side, to, y);
        for (int x = 0; x < to; x++) {
            const tap tx = cubic_tap(side, to, x);
            for (int64_t c = 0; c < dim; c++) {
                double sum = 0.0;
                for (int k = 0; k < 16; k++) {
                    sum += ty.w[k / 4] * tx.w[k % 4] * (double)in[(ty.at[k / 4] * side + tx.at[k % 4]) * dim + c];
                }
                out[((int64_t)y * to + x) * dim + c] = (float)sum;
            }
        }
    }
}

/* Rows (steps, n) to (to, n). */
static void resize_time(const float *in, int steps, int to, int64_t n, float *out)
{
    for (int i = 0; i < to; i++) {
        const tap t = linear_tap(steps, to, i);
        for (int64_t k = 0; k < n; k++) {
            out[i * n + k] = (float)(t.w[0] * (double)in[t.at[0] * n + k] + t.w[1] * (double)in[t.at[1] * n + k]);
        }
    }
}

kd_status kd_vit_table_resize(const float *in, kd_vit_grid from, kd_vit_grid to, int64_t dim, float *out)
{
    const int64_t rows = (int64_t)to.side * to.side * dim, old = (int64_t)from.side * from.side * dim;
    float *spread = kd_alloc((size_t)(from.steps * rows) * sizeof *spread);
    if (spread == NULL) {
        return KD_E_OOM;
    }
    for (int s = 0; s < from.steps; s++) {
        if (from.side == to.side) {
            memcpy(spread + s * rows, in + s * old, (size_t)rows * sizeof *in);
        } else {
            resize_space(in + s * old, from.side, to.side, dim, spread + s * rows);
        }
    }
    if (from.steps == to.steps) {
        memcpy(out, spread, (size_t)(to.steps * rows) * sizeof *out);
    } else {
        resize_time(spread, from.steps, to.steps, rows, out);
    }
    kd_free(spread);
    return KD_OK;
}

kd_vit_grid kd_vit_grid_of(const kd_vit_cfg *c)
{
    return (kd_vit_grid){c->frames / c->tubelet, c->img_size / c->patch};
}

kd_vit_grid kd_vit_grid_published(const kd_vit_cfg *c)
{
    return (kd_vit_grid){16 / c->tubelet, 224 / c->patch};
}

static bool square_of(int64_t tokens, int steps, kd_vit_grid *out)
{
    const int64_t area = steps > 0 && tokens % steps == 0 ? tokens / steps : 0;
    const int64_t side = (int64_t)lround(sqrt((double)area));
    *out = (kd_vit_grid){steps, (int)side};
    return side > 0 && side * side * steps == tokens;
}

bool kd_vit_grid_of_tokens(const kd_vit_cfg *c, int64_t tokens, kd_vit_grid *out)
{
    const kd_vit_grid own = kd_vit_grid_of(c), published = kd_vit_grid_published(c);
    const int64_t area = (int64_t)own.side * own.side;
    if (square_of(tokens, own.steps, out)) {
        return true;
    }
    if (tokens > 0 && tokens % area == 0) { /* the same pictures, another number of frames */
        *out = (kd_vit_grid){(int)(tokens / area), own.side};
        return true;
    }
    return square_of(tokens, published.steps, out);
}

bool kd_vit_is_sinusoid(const float *table, int64_t tokens, int64_t dim)
{
    const double half = 0x1p-8; /* a table may have been kept in bf16 */
    for (int64_t n = 0; n < tokens; n++) {
        for (int64_t j = 0; j < dim; j++) {
            const int64_t pair = j / 2;
            const double angle = (double)n / pow(10000.0, 2.0 * (double)pair / (double)dim);
            if (!(fabs((double)table[n * dim + j] - (j % 2 == 0 ? sin(angle) : cos(angle))) <= half)) {
                return false;
            }
        }
    }
    return true;
}
