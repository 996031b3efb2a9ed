/* stc_pool and its gradient.  A piece is some whole frames of one sample with all their joints: its sums stay in the
 * first-level cache while the channels go by, one long run of positions each, so that both loops vectorise whatever the
 * number of joints. */
#include "kernels/cpu/chunk.h"

typedef struct pieces {
    int64_t C, T, V;
    int64_t frames, per; /* frames of a piece, pieces of a sample */
    int64_t count;       /* of all samples */
} pieces;

_Static_assert(KD_CHUNK >= 2 * KD_MAX_JOINTS, "a piece has two frames at least");

/* As many frames as KD_CHUNK positions hold, a multiple of 16 where that leaves any. */
static pieces pieces_of(const kd_shape *s)
{
    const int64_t most = KD_CHUNK / s->dim[3];
    pieces p = {s->dim[1], s->dim[2], s->dim[3], most >= 16 ? most / 16 * 16 : most, 0, 0};
    p.per = (p.T + p.frames - 1) / p.frames;
    p.count = s->dim[0] * p.per;
    return p;
}

/* Piece k: its sample, its frames, and where channel 0 of its first position lies. */
typedef struct piece {
    int64_t n, from, frames, len, at;
} piece;

static piece piece_at(const pieces *p, int64_t k)
{
    const int64_t n = k / p->per, from = k % p->per * p->frames;
    const int64_t frames = KD_MIN(p->frames, p->T - from);
    return (piece){n, from, frames, frames * p->V, (n * p->C * p->T + from) * p->V};
}

/* Sum, maximum and how often the maximum occurs, position by position. */
typedef struct marks {
    real sum[KD_CHUNK], top[KD_CHUNK], ties[KD_CHUNK];
} marks;

/* Two loops a channel: in one, compilers for AVX2 leave the comparisons to branches.  No mark beyond len is garbage. */
static void over_channels(marks *m, const act_t *restrict x, int64_t len, int64_t channels, int64_t step)
{
    real *restrict sum = m->sum, *restrict top = m->top, *restrict ties = m->ties;
    real next[KD_CHUNK];
    for (int64_t j = 0; j < KD_CHUNK; j++) {
        sum[j] = ties[j] = R(0.0);
        top[j] = -(real)INFINITY;
    }
    for (int64_t c = 0; c < channels; c++, x += step) {
        for (int64_t j = 0; j < len; j++) {
            sum[j] += ld(x, j);
            next[j] = kd_max_nan(top[j], ld(x, j));
        }
        for (int64_t j = 0; j < len; j++) {
            ties[j] =
                (kd_is_max(top[j], next[j]) ? ties[j] : R(0.0)) + (kd_is_max(ld(x, j), next[j]) ? R(1.0) : R(0.0));
            top[j] = next[j];
        }
    }
}

/* Mean, maximum and ties of the frames, over their joints. */
static void frames_out(const kd_call *c, const pieces *p, const piece *here, const marks *m)
{
    act_t *time = c->out[0].data;
    real *ties_out = c->out[2].data;
    for (int64_t f = 0; f < here->frames; f++) {
        const int64_t t = here->from + f, row = f * p->V;
        real sum = R(0.0), top = m->top[row], ties = R(0.0);
        for (int64_t v = row; v < row + p->V; v++) {
            sum += m->sum[v];
            top = kd_max_nan(top, m->top[v]);
        }
        for (int64_t v = row; v < row + p->V; v++) {
            ties += kd_is_max(m->top[v], top) ? m->ties[v] : R(0.0);
        }
        if (time != NULL) {
            st(time, here->n * 2 * p->T + t, sum / (real)(p->C * p->V));
            st(time, (here->n * 2 + 1) * p->T + t, top);
        }
        if (ties_out != NULL) {
            ties_out[here->n * p->T + t] = ties;
        }
    }
}

/* Sums of the joints over a piece's frames. */
static void joint_sums(real *restrict to, int64_t V, int64_t frames, const real *restrict sum)
{
    for (int64_t v = 0; v < V; v++) {
        to[v] = R(0.0);
    }
    for (int64_t f = 0; f < frames; f++) {
        for (int64_t v = 0; v < V; v++) {
            to[v] += sum[f * V + v];
        }
    }
}

static size_t stc_pool_scratch(const kd_call *c)
{
    const pieces p = pieces_of(&c->in[0].shape);
    return (size_t)(p.count * p.V) * sizeof(real);
}

static kd_status stc_pool_run(const kd_call *c)
{
    const pieces p = pieces_of(&c->in[0].shape);
    const act_t *x = c->in[0].data;
    real *part = c->scratch;
    act_t *joint = c->out[1].data;
    KD_FOR
    for (int64_t k = 0; k < p.count; k++) {
        const piece here = piece_at(&p, k);
        marks m;
        over_channels(&m, x + here.at, here.len, p.C, p.T * p.V);
        frames_out(c, &p, &here, &m);
        joint_sums(part + k * p.V, p.V, here.frames, m.sum);
    }
    if (joint == NULL) {
        return KD_OK;
    }
    KD_FOR
    for (int64_t i = 0; i < p.count / p.per * p.V; i++) {
        const real *mine = part + i / p.V * p.per * p.V + i % p.V;
        real sum = R(0.0);
        for (int64_t k = 0; k < p.per; k++) {
            sum += mine[k * p.V];
        }
        st(joint, i, sum / (real)(p.C * p.T));
    }
    return KD_OK;
}

const kd_kernel_def KD_K(stc_pool) = {.run = stc_pool_run, .scratch = stc_pool_scratch};

/* ---- gradient -------------------------------------------------------------------------------- */

/* What every channel gets at a position, what the maximum is there, and what a maximum gets on top. */
typedef struct shares {
    real all[KD_CHUNK], top[KD_CHUNK], tied[KD_CHUNK];
} shares;

static void shares_of(const kd_call *c, const pieces *p, const piece *here, shares *s)
{
    const act_t *dtime = c->in[0].data, *djoint = c->in[1].data;
    const act_t *time = kd_in(c, 3);
    const real *ties = kd_in(c, 4);
    for (int64_t f = 0; f < here->frames; f++) {
        const int64_t t = here->from + f, mean = here->n * 2 * p->T + t, max = mean + p->T;
        const bool timed = dtime != NULL;
        const real frame = timed ? ld(dtime, mean) / (real)(p->C * p->V) : R(0.0);
        const real top = timed ? ld(time, max) : R(0.0);
        const real tied = timed ? ld(dtime, max) / ties[here->n * p->T + t] : R(0.0);
        for (int64_t v = 0; v < p->V; v++) {
            const real joint = djoint != NULL ? ld(djoint, here->n * p->V + v) / (real)(p->C * p->T) : R(0.0);
            s->all[f * p->V + v] = frame + joint;
            s->top[f * p->V + v] = top;
            s->tied[f * p->V + v] = tied;
        }
    }
}

static kd_status stc_pool_bwd_run(const kd_call *c)
{
    const pieces p = pieces_of(&c->in[2].shape);
    const act_t *x = c->in[2].data, *plus = kd_in(c, 5);
    KD_FOR
    for (int64_t k = 0; k < p.count; k++) {
        const piece here = piece_at(&p, k);
        shares s = {{R(0.0)}, {R(0.0)}, {R(0.0)}};
        shares_of(c, &p, &here, &s);
        for (int64_t ch = 0; ch < p.C; ch++) {
            const int64_t at = here.at + ch * p.T * p.V;
            real v[KD_CHUNK];
            for (int64_t j = 0; j < here.len; j++) {
                v[j] = s.all[j] + (kd_is_max(ld(x, at + j), s.top[j]) ? s.tied[j] : R(0.0));
            }
            for (int64_t j = 0; plus != NULL && j < here.len; j++) {
                v[j] += ld(plus, at + j);
            }
            kd_store(c, 0, at, v, here.len);
        }
    }
    return KD_OK;
}

const kd_kernel_def KD_K(stc_pool_bwd) = {.run = stc_pool_bwd_run};
