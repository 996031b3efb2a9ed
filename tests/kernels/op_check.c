#include "tests/kernels/op_check.h"

#include "kernels/kd_ops.h"
#include "tests/kernels/f64_backend.h"
#include "tests/kernels/op_driver.h"

#include <math.h>
#include <stdlib.h>

/* ---- numbers --------------------------------------------------------------------------------- */

void op_fill_normal(kd_rng *r, double *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        v[i] = kd_rng_normal(r);
    }
}

void op_from_f64(kd_dtype t, void *dst, const double *src, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        switch (t) {
        case KD_F64:
            ((double *)dst)[i] = src[i];
            break;
        case KD_F32:
            ((float *)dst)[i] = (float)src[i];
            break;
        case KD_BF16:
            ((uint16_t *)dst)[i] = kd_f32_to_bf16((float)src[i]);
            break;
        case KD_F16:
            ((uint16_t *)dst)[i] = kd_f32_to_f16((float)src[i]);
            break;
        case KD_I64:
            ((int64_t *)dst)[i] = (int64_t)src[i];
            break;
        case KD_U8:
            ((uint8_t *)dst)[i] = (uint8_t)src[i];
            break;
        default:
            ((int32_t *)dst)[i] = (int32_t)src[i];
        }
    }
}

void op_to_f64(kd_dtype t, double *dst, const void *src, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        dst[i] = kd_element(t, src, i);
    }
}

static bool is_float(kd_dtype t)
{
    return t == KD_F32 || t == KD_BF16 || t == KD_F16 || t == KD_F64;
}

/* ---- operands of one execution, each between two fences -------------------------------------- */

enum { FENCE = 256, FENCE_BYTE = 0xA5 };

typedef struct fenced {
    void *block;         /* as allocated */
    unsigned char *base; /* 256-byte aligned: fence, bytes, fence */
    size_t bytes;
} fenced;

typedef struct exec {
    kd_call c;
    kd_tensor in[KD_MAX_IN], out[KD_MAX_OUT];
    fenced mem[KD_MAX_IN + KD_MAX_OUT];
    bool oracle;                         /* on the host, whatever is tested */
    void *there[KD_MAX_IN + KD_MAX_OUT]; /* on the device, while it runs */
} exec;

static void *fenced_alloc(fenced *f, size_t bytes, int fill)
{
    f->bytes = bytes;
    f->block = kd_alloc(256 + FENCE + bytes + FENCE);
    KD_ASSERT(f->block != NULL);
    f->base = (unsigned char *)f->block + (256 - (uintptr_t)f->block % 256);
    memset(f->base, FENCE_BYTE, FENCE + bytes + FENCE);
    memset(f->base + FENCE, fill, bytes);
    return f->base + FENCE;
}

static bool fences_whole(const fenced *f)
{
    for (size_t i = 0; f->base != NULL && i < FENCE; i++) {
        if (f->base[i] != FENCE_BYTE || f->base[FENCE + f->bytes + i] != FENCE_BYTE) {
            return false;
        }
    }
    return true;
}

typedef struct variation {
    int nan_in;     /* >= 0: this input carries NaN */
    int64_t nan_at; /* element, or -1: all of them */
    int absent_out; /* >= 0: this output is not wanted */
    int in_place;   /* >= 0: out[0] is this input */
} variation;

static const variation plain = {-1, -1, -1, -1};

static kd_dtype as(kd_dtype t, bool f64)
{
    return f64 && is_float(t) ? KD_F64 : t;
}

/* What an accumulated output holds before the call. */
static double before(int64_t i)
{
    return 0.25 * (double)(i % 9) - 1.0;
}

static size_t bytes_of(const kd_tensor *t)
{
    return (size_t)kd_shape_numel(&t->shape) * kd_dtype_size(t->dtype);
}

/* Copy the call's operands (in f64 for the oracle); outputs start as NaN so that an element left out shows. */
static void prepare(exec *e, kd_op op, const kd_call *c, bool f64, const variation *v)
{
    const bool own_state = (kd_op_get(op)->flags & KD_OP_EFFECT) != 0; /* out[i] is in[i] there */
    memset(e, 0, sizeof *e);
    e->c = *c;
    e->oracle = f64;
    for (int i = 0; i < c->n_in; i++) {
        e->in[i] = c->in[i];
        const bool factors = (op == KD_OP_ADAMW || op == KD_OP_SGD) && i == c->n_in - 2; /* f32 in every program */
        e->in[i].dtype = as(c->in[i].dtype, f64 && !factors);
        if (c->in[i].data == NULL) {
            continue;
        }
        const int64_t n = kd_shape_numel(&c->in[i].shape);
        double *tmp = kd_alloc((size_t)(n + 1) * sizeof *tmp);
        op_to_f64(c->in[i].dtype, tmp, c->in[i].data, n);
        for (int64_t j = 0; v->nan_in == i && j < n; j++) {
            tmp[j] = v->nan_at < 0 || v->nan_at == j ? (double)NAN : tmp[j];
        }
        e->in[i].data = fenced_alloc(&e->mem[i], bytes_of(&e->in[i]), 0);
        op_from_f64(e->in[i].dtype, e->in[i].data, tmp, n);
        kd_free(tmp);
    }
    for (int o = 0; o < c->n_out; o++) {
        e->out[o] = c->out[o];
        e->out[o].dtype = as(c->out[o].dtype, f64);
        if (c->out[o].data == NULL || o == v->absent_out) {
            e->out[o].data = NULL;
            continue;
        }
        const bool own = own_state && o < c->n_in && c->out[o].data == c->in[o].data;
        if (own || (o == 0 && v->in_place >= 0)) {
            e->out[o].data = e->in[own ? o : v->in_place].data;
            continue;
        }
        const int64_t n = kd_shape_numel(&c->out[o].shape);
        e->out[o].data = fenced_alloc(&e->mem[KD_MAX_IN + o], bytes_of(&e->out[o]), 0xFF);
        for (int64_t j = 0; ((c->accum >> o) & 1u) != 0 && j < n; j++) {
            const double x = before(j);
            op_from_f64(e->out[o].dtype, (char *)e->out[o].data + (size_t)j * kd_dtype_size(e->out[o].dtype), &x, 1);
        }
    }
    e->c.in = e->in;
    e->c.out = e->out;
    e->c.prep = NULL;
    e->c.scratch = NULL;
    e->c.static_in = 0;
}

static void finish(exec *e)
{
    for (size_t i = 0; i < KD_COUNTOF(e->mem); i++) {
        kd_free(e->mem[i].block);
    }
}

/* Operands, outputs and scratch of one execution as the device sees them: op_enter may move them. */
static void enter(exec *e)
{
    for (size_t i = 0; i < KD_COUNTOF(e->mem); i++) {
        if (e->mem[i].base == NULL) {
            continue;
        }
        char *host = (char *)e->mem[i].base;
        char *there = op_to_device(host, FENCE + e->mem[i].bytes + FENCE);
        for (int k = 0; k < KD_MAX_IN + KD_MAX_OUT; k++) {
            kd_tensor *t = k < KD_MAX_IN ? &e->in[k] : &e->out[k - KD_MAX_IN];
            if (t->data == host + FENCE) {
                t->data = there + FENCE;
            }
        }
        e->there[i] = there;
    }
    if (e->c.step != NULL) {
        static kd_step step; /* a kernel may read it until op_from_device() has waited */
        step = *e->c.step;
        e->c.step = op_to_device(&step, sizeof step);
    }
}

static void leave(exec *e)
{
    for (size_t i = 0; i < KD_COUNTOF(e->mem); i++) {
        if (e->mem[i].base == NULL) {
            continue;
        }
        char *host = (char *)e->mem[i].base;
        for (int k = 0; k < KD_MAX_IN + KD_MAX_OUT; k++) {
            kd_tensor *t = k < KD_MAX_IN ? &e->in[k] : &e->out[k - KD_MAX_IN];
            if (t->data == (char *)e->there[i] + FENCE) {
                t->data = host + FENCE;
            }
        }
        op_from_device(host, e->there[i], FENCE + e->mem[i].bytes + FENCE);
    }
}

static kd_status run_prepared(const kd_kernel_def *def, kd_call *c, bool oracle)
{
    fenced area = {NULL, NULL, 0};
    const size_t bytes = def->scratch != NULL ? def->scratch(c) : 0;
    char *there = NULL;
    if (bytes != 0) { /* its start is 256-byte aligned, as every fenced block's on the device */
        (void)fenced_alloc(&area, bytes, 0xFF);
        there = oracle ? (char *)area.base : op_to_device(area.base, FENCE + bytes + FENCE);
        c->scratch = there + FENCE;
    }
    const kd_status st = def->run(c);
    if (bytes != 0) {
        if (!oracle) {
            op_from_device(area.base, there, FENCE + bytes + FENCE);
        }
        if (!fences_whole(&area)) {
            op_complain("writes outside its scratch", "scratch");
        }
        kd_free(area.block);
    }
    return st;
}

/* KD_E_UNSUPPORTED: this candidate passes the call on. */
static kd_status execute(const kd_kernel_def *def, exec *e)
{
    kd_call *c = &e->c;
    if (!e->oracle) {
        enter(e);
        c->stream = op_stream();
    }
    kd_status st = def->prepare != NULL ? def->prepare(c, NULL) : KD_OK;
    if (st == KD_OK) {
        st = run_prepared(def, c, e->oracle);
        if (def->release != NULL) {
            def->release(c);
        }
    }
    if (!e->oracle) {
        leave(e);
    }
    return st;
}

/* ---- the checks ------------------------------------------------------------------------------ */

typedef struct job {
    kd_op op;
    kd_dtype act;
    const kd_call *c;
    double k;
    const kd_kernel_def *def;
    int slot;
    bool rounds;
    char where[96];
} job;

/* What rounding is measured against: the largest output, but for a sum that may cancel what it adds up. */
static double magnitude(const job *j, const kd_tensor *want)
{
    const int64_t n = kd_shape_numel(&want->shape);
    double big = 0.0;
    for (int64_t i = 0; i < n; i++) {
        big = fmax(big, fabs(((const double *)want->data)[i]));
    }
    if (j->op == KD_OP_REDUCE || j->op == KD_OP_SUM_LEAD) {
        const kd_tensor *x = &j->c->in[0];
        const int64_t m = kd_shape_numel(&x->shape);
        const bool mean = j->op == KD_OP_REDUCE && ((const kd_reduce_attr *)j->c->attr)->kind == KD_REDUCE_MEAN;
        double *v = kd_alloc((size_t)(m + 1) * sizeof *v), top = 0.0;
        op_to_f64(x->dtype, v, x->data, m);
        for (int64_t i = 0; i < m; i++) {
            top = fmax(top, fabs(v[i]));
        }
        kd_free(v);
        big = fmax(big, top * sqrt((double)m / (double)n) * (mean ? (double)n / (double)m : 1.0));
    }
    return big;
}

static void compare(const job *j, int o, const kd_tensor *got, const kd_tensor *want)
{
    const int64_t n = kd_shape_numel(&got->shape);
    double *a = kd_alloc((size_t)(n + 1) * sizeof *a), *b = kd_alloc((size_t)(n + 1) * sizeof *b);
    op_to_f64(got->dtype, a, got->data, n);
    op_to_f64(want->dtype, b, want->data, n);
    const double big = magnitude(j, want);
    const double u = got->dtype == KD_BF16 ? 0x1p-8 : got->dtype == KD_F16 ? 0x1p-10 : 0x1p-22;
    const double least = got->dtype == KD_F16 ? 0x1p-24 : 1e-30;   /* fp16 has denormals worth seeing */
    const bool rounds = j->rounds || j->op == KD_OP_ADD_LAYERNORM; /* of a sum as it is stored */
    const double wide = !rounds || j->act == KD_F32 ? j->k * 0x1p-24 : 4.0 * (j->act == KD_BF16 ? 0x1p-8 : 0x1p-11);
    for (int64_t i = 0; i < n; i++) {
        const double tol = u * fabs(b[i]) + wide * big + least;
        const bool alike = a[i] == b[i] || (isnan(a[i]) && isnan(b[i])); /* the check of NaN is elsewhere */
        if (!alike && !(fabs(a[i] - b[i]) <= tol)) {
            char text[160];
            (void)snprintf(text, sizeof text, "out %d[%lld] is %.9g, expected %.9g, off by %.3g of %.3g allowed", o,
                           (long long)i, a[i], b[i], fabs(a[i] - b[i]), tol);
            op_complain(text, j->where);
            break;
        }
    }
    kd_free(a);
    kd_free(b);
}

static bool effect(const job *j)
{
    return (kd_op_get(j->op)->flags & KD_OP_EFFECT) != 0;
}

/* May the op write operand i in place?  (batchnorm: running statistics.) */
static bool is_state(const job *j, int i)
{
    return effect(j) || (j->op == KD_OP_BATCHNORM && i >= 4);
}

static void check_values(const job *j, const exec *e, const exec *oracle)
{
    for (int o = 0; o < e->c.n_out; o++) {
        if (e->out[o].data != NULL) {
            compare(j, o, &e->out[o], &oracle->out[o]);
        }
    }
    for (int i = 0; i < e->c.n_in; i++) {
        const size_t bytes = e->in[i].data == NULL ? 0 : bytes_of(&e->in[i]);
        if (is_state(j, i) && bytes != 0 && is_float(e->in[i].dtype) && oracle->in[i].dtype == KD_F64) {
            compare(j, 100 + i, &e->in[i], &oracle->in[i]);
        } else if (bytes != 0 && memcmp(e->in[i].data, j->c->in[i].data, bytes) != 0) {
            op_complain("changes an input", j->where);
        }
    }
    for (size_t i = 0; i < KD_COUNTOF(e->mem); i++) {
        if (!fences_whole(&e->mem[i])) {
            op_complain("writes outside its operands", j->where);
        }
    }
}

/* The same bits as `first` in every output that both have, and in the state that an op changes in place. */
static void check_same(const job *j, const exec *first, const variation *v, const char *what)
{
    exec e;
    prepare(&e, j->op, j->c, false, v);
    const kd_status st = execute(j->def, &e);
    if (st != KD_OK && st != KD_E_UNSUPPORTED) { /* unsupported: passed on to the next candidate */
        char text[128];
        (void)snprintf(text, sizeof text, "fails %s", what);
        op_complain(text, j->where);
    } else if (st == KD_OK) {
        for (int o = 0; o < e.c.n_out; o++) {
            if (e.out[o].data != NULL && first->out[o].data != NULL &&
                memcmp(e.out[o].data, first->out[o].data, bytes_of(&e.out[o])) != 0) {
                char text[128];
                (void)snprintf(text, sizeof text, "out %d differs: %s", o, what);
                op_complain(text, j->where);
            }
        }
        for (int i = 0; i < e.c.n_in; i++) {
            if (is_state(j, i) && e.in[i].data != NULL &&
                memcmp(e.in[i].data, first->in[i].data, bytes_of(&e.in[i])) != 0) {
                char text[128];
                (void)snprintf(text, sizeof text, "state %d differs: %s", i, what);
                op_complain(text, j->where);
            }
        }
    }
    finish(&e);
}

/* Where the f64 reference is NaN, this candidate is too. */
static void check_nan(const job *j, const variation *v)
{
    exec e, oracle;
    prepare(&e, j->op, j->c, false, v);
    prepare(&oracle, j->op, j->c, true, v);
    if (execute(j->def, &e) == KD_OK && execute(kd_cpu_table_ref_f64(j->op), &oracle) == KD_OK) {
        for (int o = 0; o < e.c.n_out; o++) {
            const int64_t n = e.out[o].data == NULL ? 0 : kd_shape_numel(&e.out[o].shape);
            for (int64_t i = 0; i < n; i++) {
                double got, want = ((double *)oracle.out[o].data)[i];
                op_to_f64(e.out[o].dtype, &got, (char *)e.out[o].data + (size_t)i * kd_dtype_size(e.out[o].dtype), 1);
                if (isnan(want) && !isnan(got)) {
                    char text[96];
                    (void)snprintf(text, sizeof text, "NaN in input %d is lost in out %d", v->nan_in, o);
                    op_complain(text, j->where);
                    o = e.c.n_out;
                    break;
                }
            }
        }
    }
    finish(&e);
    finish(&oracle);
}

static void check_candidate(const job *j)
{
    const kd_op_def *def = kd_op_get(j->op);
    exec e, oracle;
    prepare(&e, j->op, j->c, false, &plain);
    const kd_status st = execute(j->def, &e);
    if (st != KD_OK) {
        if (st != KD_E_UNSUPPORTED) {
            op_complain(kd_status_text(st), j->where);
        }
        finish(&e);
        return;
    }
    prepare(&oracle, j->op, j->c, true, &plain);
    if (execute(kd_cpu_table_ref_f64(j->op), &oracle) != KD_OK) {
        op_complain("the f64 reference fails", j->where);
    }
    check_values(j, &e, &oracle);
    check_same(j, &e, &plain, "run twice");
    const char *how;
    for (int v = 1; (how = op_schedule(v)) != NULL; v++) {
        check_same(j, &e, &plain, how);
    }
    (void)op_schedule(0);
    if (!effect(j)) {
        for (int o = 0; j->c->n_out > 1 && o < j->c->n_out; o++) { /* a recomputed forward op may lose any of them */
            variation v = plain;
            v.absent_out = o;
            check_same(j, &e, &v, "with an absent output");
        }
        variation v = plain;
        v.in_place = kd_op_in_place(def);
        if (v.in_place >= 0 && v.in_place < j->c->n_in && (j->c->accum & 1u) == 0 &&
            j->c->in[v.in_place].data != NULL && j->c->out[0].dtype == j->c->in[v.in_place].dtype) {
            check_same(j, &e, &v, "in place");
        }
        for (int i = 0; i < j->c->n_in; i++) {
            const int64_t n = j->c->in[i].data == NULL ? 0 : kd_shape_numel(&j->c->in[i].shape);
            if (n > 0 && is_float(j->c->in[i].dtype)) {
                check_nan(j, &(variation){i, -1, -1, -1});
                check_nan(j, &(variation){i, n / 2, -1, -1});
            }
        }
    }
    op_count(j->op, j->act, j->slot);
    finish(&e);
    finish(&oracle);
}

static void candidate(void *user, const kd_kernel_def *def, int slot, bool rounds, const char *name)
{
    job *j = user;
    (void)snprintf(j->where, sizeof j->where, "%s, %s", kd_op_get(j->op)->name, name);
    j->def = def;
    j->slot = slot;
    j->rounds = rounds;
    check_candidate(j);
}

/* What the program goes on with where no kernel can run in its memory: the f64 reference, rounded. */
static kd_status go_on_in_f64(kd_op op, const kd_call *c)
{
    exec e;
    prepare(&e, op, c, true, &plain);
    for (int o = 0; o < c->n_out; o++) { /* what accumulated outputs really hold */
        if (e.out[o].data != NULL && ((c->accum >> o) & 1u) != 0) {
            op_to_f64(c->out[o].dtype, e.out[o].data, c->out[o].data, kd_shape_numel(&c->out[o].shape));
        }
    }
    const kd_status st = execute(kd_cpu_table_ref_f64(op), &e);
    for (int o = 0; o < c->n_out; o++) {
        if (e.out[o].data != NULL && is_float(c->out[o].dtype)) {
            op_from_f64(c->out[o].dtype, c->out[o].data, e.out[o].data, kd_shape_numel(&c->out[o].shape));
        }
    }
    finish(&e);
    return st;
}

kd_status op_check_call(kd_op op, kd_dtype act, const kd_call *c, double k)
{
    job j = {.op = op, .act = act, .c = c, .k = k};
    op_candidates(op, act, candidate, &j);
    const kd_kernel_def *def = op_plain(op, act);
    exec e = {.c = *c, .oracle = true};
    return def != NULL ? execute(def, &e) : go_on_in_f64(op, c);
}
