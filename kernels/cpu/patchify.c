/* patchify: normalised, placed, mixed and cut into rows in one pass over the clip. */
#include "kernels/cpu/chunk.h"
#include "kernels/kd_pixels.h"

_Static_assert(KD_MAX_PATCH <= KD_CHUNK, "a row of a patch is one chunk");

typedef struct patches {
    int64_t B, C, T, H, W, t, p, Gt, Gh, Gw;
} patches;

static patches patches_of(const kd_shape *x, bool pictures, const kd_patchify_attr *at)
{
    const int64_t *d = x->dim;
    patches g = {.B = d[0], .C = d[1], .T = d[2], .H = d[3], .W = d[4], .t = at->tubelet, .p = at->patch};
    if (pictures) {
        g.C = d[4];
        g.T = d[1];
        g.H = d[2];
        g.W = d[3];
    }
    g.Gt = g.T / g.t;
    g.Gh = g.H / g.p;
    g.Gw = g.W / g.p;
    return g;
}

/* Where patch k (of B*N) begins. */
typedef struct corner {
    int64_t b, t, y, x;
} corner;

static corner corner_of(const patches *g, int64_t k)
{
    return (corner){.x = k % g->Gw * g->p,
                    .y = k / g->Gw % g->Gh * g->p,
                    .t = k / (g->Gw * g->Gh) % g->Gt * g->t,
                    .b = k / (g->Gw * g->Gh * g->Gt)};
}

/* ---- pixels ---------------------------------------------------------------------------------- */

/* A run of pixels of a row, channel after channel: v[ch * KD_CHUNK + j].  Pictures give 3 channels at once, clips of
 * floats one. */
enum { CHANNELS = 3 };

typedef struct clips {
    patches g;
    const kd_tensor *x;
    const real *table, *lam;
    const int32_t *place, *perm, *cut;
    int32_t boxes; /* of a sample */
} clips;

static clips clips_of(const kd_call *c)
{
    const bool placed = kd_in(c, 2) != NULL;
    return (clips){.g = patches_of(&c->in[0].shape, c->in[0].dtype == KD_U8, c->attr),
                   .x = &c->in[0],
                   .table = kd_in(c, 1),
                   .place = kd_in(c, 2),
                   .perm = kd_in(c, 3),
                   .lam = kd_in(c, 4),
                   .cut = kd_in(c, 5),
                   .boxes = placed ? (int32_t)((c->in[2].shape.dim[1] - KD_PLACE) / KD_BOX) : 0};
}

static void reverse(real *v, int64_t n)
{
    for (int64_t i = 0, j = n - 1; i < j; i++, j--) {
        const real t = v[i];
        v[i] = v[j];
        v[j] = t;
    }
}

static void look_up(const real *restrict table, const uint8_t *restrict px, int64_t n, real *restrict v)
{
    for (int64_t j = 0; j < n; j++) {
        v[j] = table[px[3 * j]];
        v[KD_CHUNK + j] = table[256 + px[3 * j + 1]];
        v[2 * KD_CHUNK + j] = table[512 + px[3 * j + 2]];
        __asm__ volatile(""); /* one by one: vectors gather such values more slowly */
    }
}

/* Box k over channels [ch, ch + channels) of the n pixels from `at` on, which the box meets. */
static void erase(const clips *s, const int32_t *place, int32_t k, int64_t ch, int64_t channels, corner at, int64_t n,
                  real *v)
{
    const patches *g = &s->g;
    const int32_t *box = kd_place_box(place, k);
    const int64_t pixel = (at.t * g->H + at.y) * g->W + at.x, patch = at.t * s->boxes + k;
    for (int64_t j = 0; j < n; j++) {
        for (int64_t q = 0; q < channels && kd_within(at.x + j, box[KD_BOX_LEFT], box[KD_BOX_WIDTH]); q++) {
            v[q * KD_CHUNK + j] = (real)kd_place_fill(place, (pixel + j) * g->C + ch + q, patch * g->C + ch + q);
        }
    }
}

/* Channels [ch, ch + channels) of the n pixels from `at` on, as the model sees them before mixing. */
static void pixels(const clips *s, int64_t ch, int64_t channels, corner at, int64_t n, real *v)
{
    const patches *g = &s->g;
    const int32_t *place = s->place != NULL ? s->place + at.b * (KD_PLACE + KD_BOX * s->boxes) : NULL;
    const bool flip = place != NULL && place[KD_PLACE_FLIP] != 0;
    const int64_t x = flip ? g->W - n - at.x : at.x;
    if (s->table != NULL) {
        look_up(s->table, (const uint8_t *)s->x->data + (((at.b * g->T + at.t) * g->H + at.y) * g->W + x) * 3, n, v);
    } else {
        kd_load(v, s->x, (((at.b * g->C + ch) * g->T + at.t) * g->H + at.y) * g->W + x, n);
    }
    for (int64_t k = 0; k < channels && flip; k++) {
        reverse(v + k * KD_CHUNK, n);
    }
    for (int32_t k = 0; k < s->boxes; k++) {
        if (kd_box_meets(kd_place_box(place, k), at.t, at.y, at.x, n)) {
            erase(s, place, k, ch, channels, at, n, v);
        }
    }
}

static void mix(const clips *s, int64_t ch, int64_t channels, corner at, int64_t n, real *restrict v)
{
    const int32_t *box = s->cut != NULL ? s->cut + 4 * at.b : NULL;
    const bool cut = box != NULL && box[2] > 0 && box[3] > 0;
    if (cut && !(kd_within(at.y, box[0], box[2]) && kd_meets(at.x, n, box[1], box[3]))) {
        return;
    }
    real other[CHANNELS * KD_CHUNK];
    const real a = s->lam[at.b], b = R(1.0) - a;
    at.b = s->perm[at.b];
    pixels(s, ch, channels, at, n, other);
    for (int64_t k = 0; k < channels; k++) {
        real *restrict mine = v + k * KD_CHUNK;
        const real *restrict theirs = other + k * KD_CHUNK;
        for (int64_t j = 0; j < n && cut; j++) {
            mine[j] = kd_within(at.x + j, box[1], box[3]) ? theirs[j] : mine[j];
        }
        for (int64_t j = 0; j < n && !cut; j++) {
            mine[j] = a * mine[j] + b * theirs[j];
        }
    }
}

/* Row `dy` of frame `dt` of the patches from k on, as many as n pixels have. */
static void patch_lines(const kd_call *c, const clips *s, int64_t k, int64_t dt, int64_t dy, int64_t n)
{
    const patches *g = &s->g;
    const int64_t channels = s->table != NULL ? CHANNELS : 1;
    corner at = corner_of(g, k);
    real v[CHANNELS * KD_CHUNK];
    at.t += dt;
    at.y += dy;
    for (int64_t ch = 0; ch < g->C; ch += channels) {
        pixels(s, ch, channels, at, n, v);
        if (s->perm != NULL) {
            mix(s, ch, channels, at, n, v);
        }
        for (int64_t i = 0; i < n / g->p; i++) {
            for (int64_t q = 0; q < channels; q++) {
                const int64_t to = ((((k + i) * g->C + ch + q) * g->t + dt) * g->p + dy) * g->p;
                const real *line = v + q * KD_CHUNK + i * g->p;
                kd_store(c, 0, to, line, g->p);
            }
        }
    }
}

static kd_status patchify_run(const kd_call *c)
{
    const clips s = clips_of(c);
    const patches *g = &s.g;
    const int64_t together = KD_CHUNK / g->p; /* patches of a run */
    KD_FOR
    for (int64_t band = 0; band < g->B * g->Gt * g->Gh; band++) {
        for (int64_t gx = 0; gx < g->Gw; gx += together) {
            const int64_t n = KD_MIN(together, g->Gw - gx) * g->p;
            for (int64_t line = 0; line < g->t * g->p; line++) {
                patch_lines(c, &s, band * g->Gw + gx, line / g->p, line % g->p, n);
            }
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(patchify) = {.run = patchify_run};

static kd_status patchify_bwd_run(const kd_call *c)
{
    const kd_patchify_attr *at = c->attr;
    const patches g = patches_of(&at->x_shape, false, at);
    KD_FOR
    for (int64_t k = 0; k < g.B * g.Gt * g.Gh * g.Gw; k++) {
        const corner to = corner_of(&g, k);
        int64_t row = k * g.C * g.t * g.p * g.p;
        real v[KD_CHUNK];
        for (int64_t ch = 0; ch < g.C; ch++) {
            for (int64_t dt = 0; dt < g.t; dt++) {
                int64_t px = (((to.b * g.C + ch) * g.T + to.t + dt) * g.H + to.y) * g.W + to.x;
                for (int64_t dy = 0; dy < g.p; dy++, px += g.W, row += g.p) {
                    kd_load(v, &c->in[0], row, g.p);
                    kd_store(c, 0, px, v, g.p);
                }
            }
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(patchify_bwd) = {.run = patchify_bwd_run};
