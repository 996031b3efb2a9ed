/* Operations of skeleton models, put together from those of ONNX: see onnx_internal.h.  Formulas: kernels/kd_ops.h. */
#include "distill/export/onnx_internal.h"

#include <math.h>

/* ---- joints ---------------------------------------------------------------------------------- */

static void joint_mix(kdi_onnx *w)
{
    const kd_joint_mix_attr *a = w->node.attr;
    const kd_shape x = kdi_on_shape(w, 0), m = kdi_on_shape(w, 1);
    const int64_t t = x.dim[2], v = x.dim[3], one = 1;
    const int64_t turn[2] = {1, 0}, turn_each[3] = {0, 2, 1};
    const char *y = kdi_on_in(w, 0), *adj = kdi_on_in(w, 1);
    if (a->transpose) {
        adj = kdi_on_permute(w, adj, m.rank == 2 ? turn : turn_each, m.rank);
    }
    switch (a->mode) {
    case KD_MIX_SHARED:
        y = kdi_on2(w, "MatMul", y, adj);
        break;
    case KD_MIX_SAMPLE:
        y = kdi_on2(w, "MatMul", y, kdi_on_unsqueeze(w, adj, &one, 1));
        break;
    default: { /* EXPAND repeats x for each of the K matrices, GROUPED has a group of channels for each */
        const int64_t k = m.dim[0], c = a->mode == KD_MIX_EXPAND ? x.dim[1] : x.dim[1] / k;
        const int64_t split[5] = {-1, k, c, t, v}, join[4] = {-1, k * c, t, v};
        y = a->mode == KD_MIX_EXPAND ? kdi_on_unsqueeze(w, y, &one, 1) : kdi_on_reshape(w, y, split, 5);
        y = kdi_on2(w, "MatMul", y, kdi_on_unsqueeze(w, adj, &one, 1));
        y = kdi_on_reshape(w, y, join, 4);
    }
    }
    kdi_on_out(w, 0, y);
}

static void group_sum(kdi_onnx *w)
{
    const kd_group_sum_attr *a = w->node.attr;
    const kd_shape z = kdi_on_shape(w, 0);
    const int64_t split[5] = {-1, a->parts, z.dim[1] / a->parts, z.dim[2], z.dim[3]}, one = 1, cell[3] = {2, 3, 4};
    const char *y = kdi_on_reshape(w, kdi_on_in(w, 0), split, 5);
    if (kdi_on_has(w, 1)) {
        y = kdi_on2(w, "Mul", y, kdi_on_unsqueeze(w, kdi_on_in(w, 1), cell, 3));
    }
    y = kdi_on_reduce(w, "ReduceSum", y, &one, 1, false);
    kdi_on_out(w, 0, a->scale != 1.0f ? kdi_on2(w, "Mul", y, kdi_on_f32(w, a->scale)) : y);
}

static void adj_norm(kdi_onnx *w)
{
    const kd_adj_norm_attr *a = w->node.attr;
    const int64_t row = 1, turn[2] = {1, 0};
    const char *l = kdi_on_in(w, 0), *s = NULL;
    if (a->mode == KD_ADJ_V1) { /* an infinite factor becomes 0 */
        s = kdi_on1(w, "Reciprocal", kdi_on1(w, "Sqrt", kdi_on_reduce(w, "ReduceSum", l, &row, 1, true)));
        s = kdi_on3(w, "Where", kdi_on1(w, "IsInf", s), kdi_on_f32(w, 0.0f), s);
    } else {
        l = kdi_on1(w, "Abs", kdi_on_has(w, 1) ? kdi_on2(w, "Add", kdi_on_in(w, 1), l) : l);
        s = kdi_on2(w, "Max", kdi_on_reduce(w, "ReduceSum", l, &row, 1, true), kdi_on_f32(w, 1e-6f));
        s = kdi_on1(w, "Reciprocal", kdi_on1(w, "Sqrt", s));
    }
    l = kdi_on2(w, "Mul", l, s);
    kdi_on_out(w, 0, kdi_on2(w, "Mul", l, kdi_on_permute(w, s, turn, 2)));
}

static void dyn_adj(kdi_onnx *w)
{
    const int64_t channels = 1, turn[3] = {0, 2, 1};
    const char *e = kdi_on_in(w, 0);
    const char *norm = kdi_on_reduce(w, "ReduceL2", e, &channels, 1, true);
    const char *u = kdi_on2(w, "Div", e, kdi_on2(w, "Add", norm, kdi_on_f32(w, 1e-8f)));
    const char *y = kdi_on1(w, "Softmax", kdi_on2(w, "MatMul", kdi_on_permute(w, u, turn, 3), u));
    kdi_on_int(w, "axis", -1);
    kdi_on_out(w, 0, y);
}

/* Channels [from, to) of x moved by a frame; the edge frame is kept. */
static const char *moved(kdi_onnx *w, const char *x, int64_t from, int64_t to, int64_t frames, bool later)
{
    const char *part = kdi_on_slice(w, x, 1, from, to);
    const char *edge = later ? kdi_on_slice(w, part, 2, 0, 1) : kdi_on_slice(w, part, 2, frames - 1, frames);
    const char *rest = later ? kdi_on_slice(w, part, 2, 0, frames - 1) : kdi_on_slice(w, part, 2, 1, frames);
    const char *y = later ? kdi_on2(w, "Concat", edge, rest) : kdi_on2(w, "Concat", rest, edge);
    kdi_on_int(w, "axis", 2);
    return y;
}

static void time_shift(kdi_onnx *w)
{
    const kd_time_shift_attr *a = w->node.attr;
    const kd_shape s = kdi_on_shape(w, 0);
    const int64_t n = a->channels, t = s.dim[2];
    const char *x = kdi_on_in(w, 0);
    if (n == 0) {
        kdi_on_out(w, 0, x);
        return;
    }
    const char *later = moved(w, x, 0, n, t, true), *sooner = moved(w, x, n, 2 * n, t, false);
    const bool rest = 2 * n < s.dim[1];
    const char *const part[3] = {later, sooner, rest ? kdi_on_slice(w, x, 1, 2 * n, s.dim[1]) : ""};
    const char *y = kdi_on_n(w, "Concat", part, rest ? 3 : 2);
    kdi_on_int(w, "axis", 1);
    kdi_on_out(w, 0, y);
}

/* x (N,C,T,V) read at idx (C,V): one Gather over the flat axis of channels and joints. */
static const char *gathered(kdi_onnx *w, const char *x, const kd_shape *s, const int32_t *idx)
{
    const int64_t c = s->dim[1], t = s->dim[2], v = s->dim[3], cells = c * v;
    const int64_t frames_first[4] = {0, 2, 1, 3}, flat[3] = {-1, t, cells}, apart[4] = {-1, t, c, v};
    bool moves = false;
    int64_t *from = kd_alloc((size_t)cells * sizeof *from);
    if (from == NULL) {
        kdi_on_fail(w, KD_E_OOM, "out of memory");
        return x;
    }
    for (int64_t i = 0; i < cells; i++) {
        from[i] = i / v * v + idx[i];
        moves = moves || from[i] != i;
    }
    if (moves) {
        const char *table = kd_onnx_text(w->m, "%s/joint_gather_%d.indices", w->node.scope, (int)w->k);
        kd_onnx_tensor(w->m, table, KD_ONNX_I64, &cells, 1, from);
        x = kdi_on_reshape(w, kdi_on_permute(w, x, frames_first, 4), flat, 3);
        x = kdi_on2(w, "Gather", x, table);
        kdi_on_int(w, "axis", 2);
        x = kdi_on_permute(w, kdi_on_reshape(w, x, apart, 4), frames_first, 4);
    }
    kd_free(from);
    return x;
}

static void joint_gather(kdi_onnx *w)
{
    const kd_shape s = kdi_on_shape(w, 0);
    const int64_t turn[2] = {1, 0}, place[2] = {0, 2};
    const char *y = gathered(w, kdi_on_in(w, 0), &s, kd_walk_value_at(w->p, w->node.in[1]).data);
    if (kdi_on_has(w, 2)) {
        y = kdi_on2(w, "Add", y, kdi_on_unsqueeze(w, kdi_on_permute(w, kdi_on_in(w, 2), turn, 2), place, 2));
    }
    kdi_on_out(w, 0, y);
}

/* The body with the most frames in which something is not zero. */
static const char *active_body(kdi_onnx *w, const char *x)
{
    const int64_t cell[2] = {1, 3}, frames = 1, bodies_first[5] = {0, 4, 1, 2, 3};
    const char *there = kdi_on_reduce(w, "ReduceSum", kdi_on1(w, "Abs", x), cell, 2, false);
    there = kdi_on1(w, "Cast", kdi_on2(w, "Greater", there, kdi_on_f32(w, 0.0f)));
    kdi_on_int(w, "to", KD_ONNX_F32);
    const char *best = kdi_on1(w, "ArgMax", kdi_on_reduce(w, "ReduceSum", there, &frames, 1, false));
    kdi_on_int(w, "axis", 1);
    kdi_on_int(w, "keepdims", 1);
    const char *y = kdi_on2(w, "GatherND", kdi_on_permute(w, x, bodies_first, 5), best);
    kdi_on_int(w, "batch_dims", 1);
    return y;
}

static void body_select(kdi_onnx *w)
{
    const kd_body_select_attr *a = w->node.attr;
    const kd_shape s = kdi_on_shape(w, 0);
    const char *x = kdi_on_in(w, 0), *y = NULL;
    if (a->mode == KD_BODY_ACTIVE) {
        y = active_body(w, x);
    } else if (a->mode == KD_BODY_FIRST) {
        const int64_t bodies = 4;
        y = kdi_on2(w, "Squeeze", kdi_on_slice(w, x, bodies, 0, 1), kdi_on_i64(w, &bodies, 1));
    } else {
        const int64_t first[5] = {4, 0, 1, 2, 3}, rows[4] = {-1, s.dim[1], s.dim[2], s.dim[3]};
        y = kdi_on_reshape(w, kdi_on_permute(w, x, first, 5), rows, 4);
    }
    kdi_on_out(w, 0, y);
}

/* ---- attention ------------------------------------------------------------------------------- */

/* A third of qkv as heads: (S,H,T,D). */
static const char *heads_of(kdi_onnx *w, const char *qkv, int third, const kd_shape *s, int64_t heads)
{
    const int64_t c = s->dim[2] / 3, apart[4] = {-1, s->dim[1], heads, c / heads}, turn[4] = {0, 2, 1, 3};
    const char *x = kdi_on_slice(w, qkv, 2, third * c, (third + 1) * c);
    return kdi_on_permute(w, kdi_on_reshape(w, x, apart, 4), turn, 4);
}

/* elu(x) + 1 */
static const char *phi(kdi_onnx *w, const char *x)
{
    return kdi_on2(w, "Add", kdi_on1(w, "Elu", x), kdi_on_f32(w, 1.0f));
}

static void linear_attention(kdi_onnx *w)
{
    const kd_linear_attention_attr *a = w->node.attr;
    const kd_shape s = kdi_on_shape(w, 0);
    const int64_t frames = 2, last = 3, turn[4] = {0, 1, 3, 2}, back[4] = {0, 2, 1, 3};
    const int64_t join[3] = {-1, s.dim[1], s.dim[2] / 3};
    const char *qkv = kdi_on_in(w, 0);
    const char *q = phi(w, heads_of(w, qkv, 0, &s, a->heads)), *k = phi(w, heads_of(w, qkv, 1, &s, a->heads));
    const char *v = heads_of(w, qkv, 2, &s, a->heads);
    const char *kv = kdi_on2(w, "MatMul", kdi_on_permute(w, k, turn, 4), v);
    const char *sum = kdi_on_reduce(w, "ReduceSum", k, &frames, 1, true);
    const char *z = kdi_on_reduce(w, "ReduceSum", kdi_on2(w, "Mul", q, sum), &last, 1, true);
    z = a->guard == KD_GUARD_ADD ? kdi_on2(w, "Add", z, kdi_on_f32(w, 1e-6f))
                                 : kdi_on2(w, "Max", z, kdi_on_f32(w, 1e-4f));
    const char *o = kdi_on2(w, "Div", kdi_on2(w, "MatMul", q, kv), z);
    kdi_on_out(w, 0, kdi_on_reshape(w, kdi_on_permute(w, o, back, 4), join, 3));
}

/* The anchors are parameters, so the interpolation is a matrix (K,T) of known numbers. */
static void landmark_interp(kdi_onnx *w)
{
    const int64_t t = kdi_on_shape(w, 0).dim[1], k = kdi_on_shape(w, 1).dim[0], dim[2] = {k, t};
    const float *anchor = kd_walk_value_at(w->p, w->node.in[1]).data;
    float *m = kd_calloc((size_t)(k * t), sizeof *m);
    if (m == NULL || !kd_walk_value_at(w->p, w->node.in[1]).fixed) {
        kd_free(m);
        kdi_on_fail(w, m == NULL ? KD_E_OOM : KD_E_UNSUPPORTED, "%s: landmarks that are no parameters", w->node.scope);
        return;
    }
    for (int64_t i = 0; i < k; i++) {
        const float p = 1.0f / (1.0f + expf(-anchor[i])) * (float)(t - 1);
        const int64_t f = KD_MIN(p >= 0.0f && p < (float)t ? (int64_t)p : 0, t - 2);
        m[i * t + f] = 1.0f - (p - (float)f);
        m[i * t + f + 1] = p - (float)f;
    }
    kdi_on_out(w, 0, kdi_on2(w, "MatMul", kdi_on_tensor(w, "frames", dim, 2, m), kdi_on_in(w, 0)));
    kd_free(m);
}

static void landmark_attention(kdi_onnx *w)
{
    const int64_t turn[3] = {0, 2, 1}, d = kdi_on_shape(w, 0).dim[2];
    const char *s = kdi_on2(w, "MatMul", kdi_on_in(w, 0), kdi_on_permute(w, kdi_on_in(w, 1), turn, 3));
    const char *p = kdi_on1(w, "Softmax", kdi_on2(w, "Mul", s, kdi_on_f32(w, (float)(1.0 / sqrt((double)d)))));
    kdi_on_int(w, "axis", -1);
    kdi_on_out(w, 0, kdi_on2(w, "MatMul", p, kdi_on_in(w, 2)));
    kdi_on_out(w, 1, p);
}

/* ---- gates ----------------------------------------------------------------------------------- */

static void motion(kdi_onnx *w)
{
    const int64_t t = kdi_on_shape(w, 0).dim[2], cell[2] = {2, 3};
    const char *x = kdi_on_in(w, 0), *next = kdi_on_slice(w, x, 2, 1, t);
    const char *d = kdi_on2(w, "Sub", next, kdi_on_slice(w, x, 2, 0, t - 1));
    kdi_on_out(w, 0, kdi_on_reduce(w, "ReduceMean", kdi_on1(w, "Abs", d), cell, 2, false));
}

/* x + alpha (gated - x), alpha a channel. */
static const char *blend(kdi_onnx *w, const char *x, const char *gated, const char *alpha)
{
    const int64_t cell[2] = {1, 2};
    const char *d = kdi_on2(w, "Sub", gated, x);
    return kdi_on2(w, "Add", x, kdi_on2(w, "Mul", d, kdi_on_unsqueeze(w, alpha, cell, 2)));
}

static void channel_gate(kdi_onnx *w)
{
    const int64_t cell[2] = {2, 3};
    const char *x = kdi_on_in(w, 0), *y = kdi_on2(w, "Mul", x, kdi_on_unsqueeze(w, kdi_on_in(w, 1), cell, 2));
    kdi_on_out(w, 0, blend(w, x, y, kdi_on_in(w, 2)));
}

static void st_gate(kdi_onnx *w)
{
    const int64_t joint = 3, frame = 2;
    const char *x = kdi_on_in(w, 0), *y = kdi_on2(w, "Mul", x, kdi_on_unsqueeze(w, kdi_on_in(w, 1), &joint, 1));
    y = kdi_on2(w, "Mul", y, kdi_on_unsqueeze(w, kdi_on_in(w, 2), &frame, 1));
    kdi_on_out(w, 0, blend(w, x, y, kdi_on_in(w, 3)));
}

static void stc_pool(kdi_onnx *w)
{
    const int64_t cell[2] = {1, 3}, over[2] = {1, 2}, place[2] = {1, 3};
    const char *x = kdi_on_in(w, 0);
    const char *mean = kdi_on_unsqueeze(w, kdi_on_reduce(w, "ReduceMean", x, cell, 2, false), place, 2);
    const char *most = kdi_on_unsqueeze(w, kdi_on_reduce(w, "ReduceMax", x, cell, 2, false), place, 2);
    kdi_on_out(w, 0, kdi_on2(w, "Concat", mean, most));
    kdi_on_int(w, "axis", 1);
    if (w->node.out[1] != 0) {
        kdi_on_out(w, 1, kdi_on_reduce(w, "ReduceMean", x, over, 2, false));
    }
}

static void stc_gates(kdi_onnx *w)
{
    const int64_t taps = kdi_on_shape(w, 2).dim[2], v = kdi_on_shape(w, 3).dim[0], t = kdi_on_shape(w, 0).dim[2];
    const int64_t last = 3, rows[2] = {-1, t}, turn[2] = {1, 0}, pads[2] = {taps / 2, taps / 2};
    const char *time = kdi_on2(w, "Squeeze", kdi_on_in(w, 0), kdi_on_i64(w, &last, 1));
    const char *at = kdi_on2(w, "Conv", time, kdi_on_in(w, 2));
    kdi_on_ints(w, "kernel_shape", &taps, 1);
    kdi_on_ints(w, "pads", pads, 2);
    kdi_on_out(w, 0, kdi_on1(w, "Sigmoid", kdi_on_reshape(w, at, rows, 2)));
    const char *z = kdi_on2(w, "MatMul", kdi_on_in(w, 1), kdi_on_permute(w, kdi_on_in(w, 3), turn, 2));
    const char *av = kdi_on1(w, "Softmax", z);
    kdi_on_int(w, "axis", -1);
    kdi_on_out(w, 1, kdi_on2(w, "Mul", av, kdi_on_f32(w, (float)v)));
}

static void stc_gate(kdi_onnx *w)
{
    static const int64_t place[3][2] = {{1, 3}, {1, 2}, {2, 3}}; /* at (N,T), av (N,V), ac (N,C) in (N,C,T,V) */
    const char *x = kdi_on_in(w, 0), *p = x, *s = kdi_on1(w, "Sigmoid", kdi_on_in(w, 4));
    for (int i = 0; i < 3; i++) {
        p = kdi_on_has(w, 1 + i) ? kdi_on2(w, "Mul", p, kdi_on_unsqueeze(w, kdi_on_in(w, 1 + i), place[i], 2)) : p;
    }
    const char *rest = kdi_on2(w, "Mul", x, kdi_on2(w, "Sub", kdi_on_f32(w, 1.0f), s));
    kdi_on_out(w, 0, kdi_on2(w, "Add", rest, kdi_on2(w, "Mul", p, s)));
}

static void gated_add(kdi_onnx *w)
{
    const int64_t joint = 3;
    const char *o = kdi_on_unsqueeze(w, kdi_on_in(w, 1), &joint, 1);
    o = kdi_on2(w, "Mul", o, kdi_on1(w, "Sigmoid", kdi_on_in(w, 2)));
    kdi_on_out(w, 0, kdi_on2(w, "Add", kdi_on_in(w, 0), o));
}

static void gate_mix(kdi_onnx *w)
{
    const char *s = kdi_on1(w, "Sigmoid", kdi_on_in(w, 2)), *a = kdi_on2(w, "Mul", kdi_on_in(w, 0), s);
    const char *b = kdi_on2(w, "Mul", kdi_on_in(w, 1), kdi_on2(w, "Sub", kdi_on_f32(w, 1.0f), s));
    kdi_on_out(w, 0, kdi_on2(w, "Add", a, b));
}

kdi_on_writer kdi_on_skeleton(kd_op op)
{
    static const struct {
        kd_op op;
        kdi_on_writer write;
    } row[] = {
        {KD_OP_JOINT_MIX, joint_mix},
        {KD_OP_GROUP_SUM, group_sum},
        {KD_OP_ADJ_NORM, adj_norm},
        {KD_OP_DYN_ADJ, dyn_adj},
        {KD_OP_TIME_SHIFT, time_shift},
        {KD_OP_JOINT_GATHER, joint_gather},
        {KD_OP_BODY_SELECT, body_select},
        {KD_OP_LINEAR_ATTENTION, linear_attention},
        {KD_OP_LANDMARK_INTERP, landmark_interp},
        {KD_OP_LANDMARK_ATTENTION, landmark_attention},
        {KD_OP_MOTION, motion},
        {KD_OP_CHANNEL_GATE, channel_gate},
        {KD_OP_ST_GATE, st_gate},
        {KD_OP_STC_POOL, stc_pool},
        {KD_OP_STC_GATES, stc_gates},
        {KD_OP_STC_GATE, stc_gate},
        {KD_OP_GATED_ADD, gated_add},
        {KD_OP_GATE_MIX, gate_mix},
    };
    for (size_t i = 0; i < KD_COUNTOF(row); i++) {
        if (row[i].op == op) {
            return row[i].write;
        }
    }
    return NULL;
}
