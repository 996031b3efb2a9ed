#include "tests/kernels/op_driver.h"

#include "kernels/kd_layers.h"
#include "kernels/kd_program.h"
#include "kernels/kd_rng.h"
#include "tests/kernels/f64_backend.h"
#include "tests/kernels/op_check.h"

#include <math.h>
#include <stdlib.h>

static struct {
    long hits[KD_OP_COUNT][KD_DTYPE_COUNT][SLOT_COUNT];
    int failures, shown;
    const char *op_name; /* case under way */
    int index;
    double k;
    kd_dtype act;
} state;

void op_complain(const char *what, const char *where)
{
    state.failures++;
    if (state.shown++ < 8) { /* per op */
        printf("FAIL %s case %d, %s: %s: %s\n", state.op_name, state.index, kd_dtype_name(state.act), where, what);
    }
}

void op_count(kd_op op, kd_dtype act, int slot)
{
    state.hits[op][act][slot]++;
}

int op_failures(void)
{
    return state.failures;
}

long op_hits(kd_op op, kd_dtype act, int slot)
{
    return state.hits[op][act][slot];
}

/* ---- the recording backend ------------------------------------------------------------------- */

#define KD_OP(ID, name, family, ins, outs, op_flags)             \
    static kd_status record_##name(const kd_call *c)             \
    {                                                            \
        return op_check_call(KD_OP_##ID, state.act, c, state.k); \
    }
#include "kernels/kd_op_list.inc"
#undef KD_OP

static const kd_kernel_def recorders[KD_OP_COUNT] = {
#define KD_OP(ID, name, family, ins, outs, op_flags) [KD_OP_##ID] = {.run = record_##name},
#include "kernels/kd_op_list.inc"
#undef KD_OP
};

static const kd_kernel_def *find_recorder(kd_backend *be, kd_op op, kd_dtype act, int rank)
{
    (void)be, (void)act;
    return rank == 0 ? &recorders[op] : NULL;
}

static kd_backend *recorder_open(void)
{
    static kd_backend_ops ops;
    kd_backend *be = NULL;
    if (kd_backend_cpu_open(1, &be, NULL) == KD_OK) {
        ops = *be->ops;
        ops.find = find_recorder;
        be->ops = &ops;
    }
    return be;
}

/* ---- operands -------------------------------------------------------------------------------- */

static void generate(const operand *o, kd_rng *r, double *v, int64_t n)
{
    const int64_t last = o->shape.rank > 0 ? o->shape.dim[o->shape.rank - 1] : 1;
    for (int64_t i = 0; i < n; i++) {
        switch (o->gen) {
        case G_RANGE:
        case G_PROB:
            v[i] = o->gen == G_PROB ? kd_rng_range(r, 0.05, 1.0) : kd_rng_range(r, o->a, o->b);
            break;
        case G_MASK:
            v[i] = i == 0 || kd_rng_below(r, 3) != 0;
            break;
        case G_NONE_VALID:
            v[i] = 0.0;
            break;
        case G_PERM:
            v[i] = (double)((i * 7 + 3) % n); /* n is not a multiple of 7 in the tables */
            break;
        default:
            v[i] = o->kind == INDEX   ? (double)kd_rng_below(r, (uint32_t)o->a)
                   : o->kind == BYTES ? (double)kd_rng_below(r, 256)
                                      : o->b + (o->a == 0.0 ? 1.0 : o->a) * kd_rng_normal(r);
        }
    }
    for (int64_t row = 0; o->gen == G_PROB && row < n; row += last) {
        double sum = 0.0;
        for (int64_t i = row; i < row + last; i++) {
            sum += v[i];
        }
        for (int64_t i = row; i < row + last; i++) {
            v[i] /= sum;
        }
    }
}

typedef struct built {
    kd_params *params;
    kd_program *prog;
    double *value[KD_MAX_IN]; /* what the operand holds */
    kd_val in[KD_MAX_IN];
    bool grad[KD_MAX_IN]; /* an input whose gradient is an output of the program */
} built;

static void name_of(char *buf, size_t size, int i)
{
    (void)snprintf(buf, size, "in%d", i);
}

static kd_val declare(kd_graph *g, const operand *o, int i, kd_dtype act)
{
    const kd_init zero = {.kind = KD_INIT_CONST};
    char name[16];
    name_of(name, sizeof name, i);
    switch (o->kind) {
    case ACT:
    case ACT_ND:
        return kd_input(g, name, act, o->shape);
    case STAT:
    case STAT_ND:
        return kd_input(g, name, kd_stat_dtype(act), o->shape);
    case MATRIX:
        return kd_param(g, name, o->shape, zero, KD_PARAM_MATRIX);
    case PARAM:
        return kd_param(g, name, o->shape, zero, 0);
    case BUFFER:
        return kd_buffer(g, name, o->shape, 0.0f);
    case INDEX:
        return kd_input(g, name, KD_I32, o->shape);
    case BYTES:
        return kd_input(g, name, KD_U8, o->shape);
    default:
        return KD_NONE;
    }
}

/* sum_i w_i y_i with fixed random weights; a scalar is its own loss. */
static kd_val loss_of(kd_graph *g, kd_val y)
{
    const kd_spec s = kd_spec_of(g, y);
    if (s.shape.rank == 0) {
        return y;
    }
    const int64_t n = kd_shape_numel(&s.shape);
    double *w = kd_alloc((size_t)n * sizeof *w);
    kd_rng r = kd_rng_make(5, KD_RNG_TEST, 2, 0);
    op_fill_normal(&r, w, n);
    void *data = kd_alloc((size_t)n * kd_dtype_size(s.dtype));
    op_from_f64(s.dtype, data, w, n);
    const kd_val c = kd_const(g, "weights", s.dtype, s.shape, data);
    kd_free(w);
    kd_free(data);
    const kd_val p = kd_reshape(g, kd_node2(g, KD_OP_MUL, NULL, y, c), kd_shape1(n));
    const kd_reduce_attr sum = {.kind = KD_REDUCE_SUM, .axes = 1};
    return kd_cast(g, kd_node1(g, KD_OP_REDUCE, &sum, p), kd_stat_dtype(kd_graph_dtype(g)));
}

/* The loss over output 0 and those of `also`, each with a weight of its own; absent ones count nothing. */
static kd_val losses_of(kd_graph *g, const kd_val *outs, int n_out, uint32_t also)
{
    kd_val loss = KD_NONE;
    for (int o = 0; o < n_out; o++) {
        if (outs[o].id == 0 || (o > 0 && ((also >> o) & 1u) == 0)) {
            continue;
        }
        const kd_val part = loss_of(g, outs[o]);
        loss = loss.id == 0 ? part : kd_add(g, loss, kd_scale(g, part, 0.75f));
    }
    return loss;
}

/* Put the operand's numbers where the program reads them. */
static kd_status load(built *b, const op_case *c, int i)
{
    const operand *o = &c->in[i];
    const int64_t n = kd_shape_numel(&o->shape);
    char name[16];
    name_of(name, sizeof name, i);
    if (o->kind == MATRIX || o->kind == PARAM || o->kind == BUFFER) {
        const int p = kd_params_find(b->params, name);
        op_from_f64(kd_params_dtype(b->params), kd_params_value(b->params, p), b->value[i], n);
        return kd_params_changed(b->params);
    }
    const kd_tensor t = kd_program_tensor(b->prog, name);
    if (t.data != NULL) { /* an operand only its gradient rule ignores may have been dropped */
        op_from_f64(t.dtype, t.data, b->value[i], n);
    }
    return KD_OK;
}

static void release(built *b)
{
    kd_program_free(b->prog);
    kd_params_free(b->params);
    for (int i = 0; i < KD_MAX_IN; i++) {
        kd_free(b->value[i]);
    }
}

static bool build(built *b, kd_op op, const op_case *c, kd_backend *be, kd_dtype act)
{
    kd_err err = {0};
    const kd_op_def *def = kd_op_get(op);
    int n_in = (int)def->n_in; /* trailing absent operands are left out */
    while (n_in > 0 && c->in[n_in - 1].kind == NO) {
        n_in--;
    }
    const bool diff = !c->no_diff && (def->flags & KD_OP_NODIFF) == 0 && def->grad != NULL;
    *b = (built){.params = kd_params_create(kd_stat_dtype(act))};
    kd_graph *g = kd_graph_create(&(kd_graph_opts){.params = b->params, .dtype = act, .training = true});
    kd_rng r = kd_rng_make(3, KD_RNG_TEST, (uint32_t)op, (uint32_t)state.index);
    kd_val wanted[KD_MAX_IN];
    int n_wanted = 0;
    bool any = false;
    for (int i = 0; i < (int)def->n_in; i++) {
        const operand *o = &c->in[i];
        b->in[i] = declare(g, o, i, act);
        const int64_t n = o->kind == NO ? 0 : kd_shape_numel(&o->shape);
        b->value[i] = kd_alloc((size_t)(n > 0 ? n : 1) * sizeof(double));
        generate(o, &r, b->value[i], n);
        b->grad[i] = diff && (o->kind == ACT || o->kind == STAT);
        any = any || b->grad[i] || o->kind == MATRIX || o->kind == PARAM;
        if (b->grad[i]) {
            wanted[n_wanted++] = b->in[i];
        }
    }
    kd_val outs[KD_MAX_OUT];
    (void)kd_node(g, op, c->attr, b->in, n_in, outs);
    kd_compile_opts opts = {.grad_inputs = wanted, .n_grad_inputs = n_wanted, .no_fuse = true, .poison = act != KD_F64};
    if (diff && any && kd_graph_error(g) == NULL) {
        opts.loss = losses_of(g, outs, (int)def->n_out, c->also);
        kd_output(g, "loss", opts.loss);
    } else { /* every output, or the compiler drops it */
        static const char *const names[KD_MAX_OUT] = {"y", "y1", "y2", "y3", "y4", "y5", "y6", "y7"};
        for (int o = 0; o < (int)def->n_out; o++) {
            kd_output(g, names[o], outs[o]);
        }
    }
    bool ok = kd_params_alloc(b->params, be, act, true, &err) == KD_OK &&
              kd_program_compile(g, be, &opts, &b->prog, &err) == KD_OK;
    for (int i = 0; ok && i < (int)def->n_in; i++) {
        ok = c->in[i].kind == NO || load(b, c, i) == KD_OK;
    }
    if (!ok) {
        op_complain(err.msg, "build");
    }
    return ok;
}

/* ---- gradient check -------------------------------------------------------------------------- */

static const kd_step the_step = {.seed = 11, .step = 3, .grad_scale = 1.0f};

static double loss_at(built *b)
{
    double v = NAN;
    const bool ok =
        kd_program_run(b->prog, &the_step) == KD_OK && kd_program_read(b->prog, "loss", &v, sizeof v) == KD_OK;
    return ok ? v : NAN;
}

static const double *gradient(built *b, const op_case *c, int i)
{
    char name[32];
    if (b->grad[i]) {
        (void)snprintf(name, sizeof name, "grad:in%d", i);
        return kd_program_tensor(b->prog, name).data;
    }
    name_of(name, sizeof name, i);
    return c->in[i].kind == MATRIX || c->in[i].kind == PARAM
               ? kd_params_grad(b->params, kd_params_find(b->params, name))
               : NULL;
}

/* (L(x + h d) - L(x - h d)) / 2h against g.d for one operand. */
static void check_direction(built *b, const op_case *c, int i, const double *g, const double *d, int64_t n)
{
    const double h = 1e-5;
    double *x = b->value[i];
    double want = 0.0, scale = 0.0;
    double *keep = kd_alloc((size_t)n * sizeof *keep);
    memcpy(keep, x, (size_t)n * sizeof *keep);
    for (int64_t j = 0; j < n; j++) {
        want += g[j] * d[j];
        scale += fabs(g[j] * d[j]);
        x[j] = keep[j] + h * d[j];
    }
    bool ok = load(b, c, i) == KD_OK;
    const double up = loss_at(b);
    for (int64_t j = 0; j < n; j++) {
        x[j] = keep[j] - h * d[j];
    }
    ok = load(b, c, i) == KD_OK && ok;
    const double down = loss_at(b);
    memcpy(x, keep, (size_t)n * sizeof *keep);
    ok = load(b, c, i) == KD_OK && ok;
    kd_free(keep);
    const double got = (up - down) / (2.0 * h);
    const double tol = 1e-6 * scale + 1e-8 * (fabs(up) + 1.0);
    if (!ok || !(fabs(got - want) <= tol)) {
        char text[160];
        (void)snprintf(text, sizeof text, "input %d: gradient says %.10g, differences say %.10g (tol %.2g)", i, want,
                       got, tol);
        op_complain(text, "gradient");
    }
}

static void check_gradients(kd_op op, const op_case *c)
{
    built b;
    kd_backend *be = kd_f64_backend_open();
    state.act = KD_F64;
    if (build(&b, op, c, be, KD_F64) && kd_program_tensor(b.prog, "loss").data != NULL) {
        kd_rng r = kd_rng_make(9, KD_RNG_TEST, 4, 0);
        if (kd_params_zero_grad(b.params) != KD_OK || !isfinite(loss_at(&b))) {
            op_complain("the loss is not finite", "gradient");
        }
        for (int i = 0; i < (int)kd_op_get(op)->n_in; i++) {
            const int64_t n = kd_shape_numel(&c->in[i].shape);
            const double *now = c->in[i].kind == NO ? NULL : gradient(&b, c, i);
            if (now == NULL || n == 0) {
                continue;
            }
            /* grad and direction: gradients of parameters grow with every run, so keep the first */
            double *g = kd_alloc((size_t)n * sizeof *g), *d = kd_calloc((size_t)n, sizeof *d);
            if (kd_params_zero_grad(b.params) == KD_OK) {
                (void)loss_at(&b);
            }
            memcpy(g, now, (size_t)n * sizeof *g);
            for (int k = 0; k < 3; k++) {
                op_fill_normal(&r, d, n);
                check_direction(&b, c, i, g, d, n);
            }
            memset(d, 0, (size_t)n * sizeof *d);
            for (int64_t k = 0; k < KD_MIN((int64_t)12, n); k++) {
                const int64_t j = n <= 12 ? k : (int64_t)kd_rng_below(&r, (uint32_t)n);
                d[j] = 1.0;
                check_direction(&b, c, i, g, d, n);
                d[j] = 0.0;
            }
            kd_free(g);
            kd_free(d);
        }
    }
    release(&b);
    kd_backend_close(be);
}

void op_run_case(kd_op op, const op_case *c, int index)
{
    state.shown = index == 0 ? 0 : state.shown;
    state.op_name = kd_op_get(op)->name;
    state.index = index;
    state.k = c->k == 0.0 ? 64.0 : c->k;
    if (op_gradients) {
        check_gradients(op, c);
    }
    for (int d = 0; d < op_dtype_count; d++) {
        built b;
        kd_backend *be = recorder_open();
        state.act = op_dtypes[d];
        if (build(&b, op, c, be, state.act) && kd_program_run(b.prog, &the_step) != KD_OK) {
            op_complain(kd_program_where(b.prog), "run");
        }
        release(&b);
        kd_backend_close(be);
    }
}

int op_coverage(FILE *f)
{
    static const char *const names[] = {
        NULL,
#define KD_OP(ID, name, family, ins, outs, op_flags) #name,
#include "kernels/kd_op_list.inc"
#undef KD_OP
    };
    int missing = 0;
    for (int op = 1; op < (int)KD_OP_COUNT; op++) {
        for (int d = 0; d < op_dtype_count; d++) {
            const long *hits = state.hits[op][op_dtypes[d]];
            for (int s = 0; op_slot_names[s] != NULL; s++) {
                if (op_has((kd_op)op, op_dtypes[d], s)) {
                    (void)fprintf(f, "%s %s %s %ld\n", names[op], kd_dtype_name(op_dtypes[d]), op_slot_names[s],
                                  hits[s]);
                }
            }
            missing += hits[0] == 0;
        }
    }
    return missing;
}
