/* Linear layers through oneDNN: the only file that sees its headers.  Versions 2.6 (Debian 12)
 * and 3.x differ in how descriptors are made; the differences stay in the first part of this file.
 *
 * A primitive is made in prepare() for the call's shapes, with user-managed scratchpad (planned by
 * the program), so run() only binds addresses and executes.  Weights that stay constant (static_in)
 * are packed once into the layout the library likes. bf16 is offered only where the processor
 * multiplies bf16: the library would otherwise emulate it at a third of f32 speed.
 */
#include "kernels/fast/fast.h"
#include "kernels/fast/rows.h"
#include "kernels/kd_cpu.h"
#include "kernels/kd_ops.h"

#include <oneapi/dnnl/dnnl.h>

/* ---- the two generations of the interface ------------------------------------------------- */

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t md_t;
typedef const_dnnl_memory_desc_t md_ref;

static void md_free(md_t *md)
{
    if (*md != NULL) {
        dnnl_memory_desc_destroy(*md);
        *md = NULL;
    }
}

static md_ref md_of(const md_t *md)
{
    return *md;
}

static dnnl_status_t md_strided(md_t *md, const dnnl_dims_t dims, dnnl_data_type_t t,
                                const dnnl_dims_t strides)
{
    return dnnl_memory_desc_create_with_strides(md, 2, dims, t, strides);
}

static dnnl_status_t md_any(md_t *md, const dnnl_dims_t dims, dnnl_data_type_t t)
{
    return dnnl_memory_desc_create_with_tag(md, 2, dims, t, dnnl_format_tag_any);
}

static dnnl_status_t append_eltwise(dnnl_post_ops_t po, int32_t act)
{
    switch (act) {
    case KD_ACT_RELU:
        return dnnl_post_ops_append_eltwise(po, dnnl_eltwise_relu, 0.0f, 0.0f);
    case KD_ACT_GELU:
        return dnnl_post_ops_append_eltwise(po, dnnl_eltwise_gelu_erf, 0.0f, 0.0f);
    case KD_ACT_HARDSWISH:
        return dnnl_post_ops_append_eltwise(po, dnnl_eltwise_hardswish, 1.0f / 6.0f, 0.5f);
    case KD_ACT_SILU:
        return dnnl_post_ops_append_eltwise(po, dnnl_eltwise_swish, 1.0f, 0.0f);
    case KD_ACT_SIGMOID:
        return dnnl_post_ops_append_eltwise(po, dnnl_eltwise_logistic, 0.0f, 0.0f);
    default:
        return dnnl_unimplemented;
    }
}

static dnnl_status_t matmul_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t eng, const md_t *a,
                               const md_t *b, const md_t *bias, const md_t *c,
                               dnnl_primitive_attr_t attr)
{
    return dnnl_matmul_primitive_desc_create(pd, eng, *a, *b, bias != NULL ? *bias : NULL, *c,
                                             attr);
}
#else
typedef dnnl_memory_desc_t md_t;
typedef const dnnl_memory_desc_t *md_ref;

static void md_free(md_t *md)
{
    (void)md;
}

static md_ref md_of(const md_t *md)
{
    return md;
}

static dnnl_status_t md_strided(md_t *md, const dnnl_dims_t dims, dnnl_data_type_t t,
                                const dnnl_dims_t strides)
{
    return dnnl_memory_desc_init_by_strides(md, 2, dims, t, strides);
}

static dnnl_status_t md_any(md_t *md, const dnnl_dims_t dims, dnnl_data_type_t t)
{
    return dnnl_memory_desc_init_by_tag(md, 2, dims, t, dnnl_format_tag_any);
}

static dnnl_status_t append_eltwise(dnnl_post_ops_t po, int32_t act)
{
    switch (act) {
    case KD_ACT_RELU:
        return dnnl_post_ops_append_eltwise(po, 1.0f, dnnl_eltwise_relu, 0.0f, 0.0f);
    case KD_ACT_GELU:
        return dnnl_post_ops_append_eltwise(po, 1.0f, dnnl_eltwise_gelu_erf, 0.0f, 0.0f);
    case KD_ACT_HARDSWISH:
        return dnnl_post_ops_append_eltwise(po, 1.0f, dnnl_eltwise_hardswish, 0.0f, 0.0f);
    case KD_ACT_SILU:
        return dnnl_post_ops_append_eltwise(po, 1.0f, dnnl_eltwise_swish, 1.0f, 0.0f);
    case KD_ACT_SIGMOID:
        return dnnl_post_ops_append_eltwise(po, 1.0f, dnnl_eltwise_logistic, 0.0f, 0.0f);
    default:
        return dnnl_unimplemented;
    }
}

static dnnl_status_t matmul_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t eng, const md_t *a,
                               const md_t *b, const md_t *bias, const md_t *c,
                               dnnl_primitive_attr_t attr)
{
    dnnl_matmul_desc_t d;
    const dnnl_status_t st = dnnl_matmul_desc_init(&d, a, b, bias, c);
    return st != dnnl_success ? st : dnnl_primitive_desc_create(pd, &d, attr, eng, NULL);
}
#endif

/* ---- one matrix product ------------------------------------------------------------------- */

enum { A, B, BIAS, C, OPERANDS };

/* C (m,n) = act(A (m,k) B (k,n) + bias (n)), or C += A B. */
typedef struct product {
    int64_t m, n, k;
    bool a_t, b_t; /* stored (k,m), (n,k) */
    kd_dtype in, out;
    bool bias, add, pack_b;
    int32_t act;
} product;

typedef struct built { /* what is needed to make the primitive; freed once it is made */
    dnnl_engine_t engine;
    dnnl_primitive_attr_t attr;
    dnnl_post_ops_t post;
    md_t md[OPERANDS];
    bool has[OPERANDS];
    dnnl_primitive_desc_t pd;
} built;

typedef struct prep {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t primitive;
    dnnl_memory_t mem[OPERANDS], scratch;
    void *packed; /* B in the library's layout, or NULL */
    bool own_act; /* GELU runs afterwards, by our kernel */
} prep;

static bool dtype_of(kd_dtype t, dnnl_data_type_t *out)
{
    *out = t == KD_BF16 ? dnnl_bf16 : dnnl_f32;
    return (t == KD_F32 && kd_cpu_has(KD_CPU_V3)) || (t == KD_BF16 && kd_cpu_has(KD_CPU_BF16));
}

static void built_free(built *b)
{
    for (int i = 0; i < OPERANDS; i++) {
        if (b->has[i]) {
            md_free(&b->md[i]);
        }
    }
    if (b->pd != NULL) {
        dnnl_primitive_desc_destroy(b->pd);
    }
    if (b->post != NULL) {
        dnnl_post_ops_destroy(b->post);
    }
    if (b->attr != NULL) {
        dnnl_primitive_attr_destroy(b->attr);
    }
    if (b->engine != NULL) {
        dnnl_engine_destroy(b->engine);
    }
}

/* Our GELU is faster than the library's, where it exists. */
static bool gelu_is_ours(const product *p)
{
#if defined(KD_HAVE_V4_KERNELS)
    return p->act == KD_ACT_GELU && kd_cpu_has(KD_CPU_V4);
#else
    (void)p;
    return false;
#endif
}

static bool describe(const product *p, built *b)
{
    dnnl_data_type_t in, out;
    if (!dtype_of(p->in, &in) || p->m < 1 || p->n < 1 || p->k < 1) {
        return false;
    }
    out = p->out == KD_BF16 ? dnnl_bf16 : dnnl_f32;
    const dnnl_dims_t da = {p->m, p->k}, sa = {p->a_t ? 1 : p->k, p->a_t ? p->m : 1};
    const dnnl_dims_t db = {p->k, p->n}, sb = {p->b_t ? 1 : p->n, p->b_t ? p->k : 1};
    const dnnl_dims_t dc = {p->m, p->n}, sc = {p->n, 1};
    const dnnl_dims_t dv = {1, p->n}, sv = {p->n, 1};
    b->has[A] = md_strided(&b->md[A], da, in, sa) == dnnl_success;
    b->has[B] =
        (p->pack_b ? md_any(&b->md[B], db, in) : md_strided(&b->md[B], db, in, sb)) == dnnl_success;
    b->has[C] = md_strided(&b->md[C], dc, out, sc) == dnnl_success;
    b->has[BIAS] = p->bias && md_strided(&b->md[BIAS], dv, dnnl_f32, sv) == dnnl_success;
    return b->has[A] && b->has[B] && b->has[C] && b->has[BIAS] == p->bias;
}

static bool build(const product *p, built *b)
{
    memset(b, 0, sizeof *b);
    if (!describe(p, b) || dnnl_engine_create(&b->engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_primitive_attr_create(&b->attr) != dnnl_success ||
        dnnl_primitive_attr_set_scratchpad_mode(b->attr, dnnl_scratchpad_mode_user) !=
            dnnl_success ||
        dnnl_post_ops_create(&b->post) != dnnl_success) {
        return false;
    }
    if (p->act != KD_ACT_NONE && !gelu_is_ours(p) &&
        append_eltwise(b->post, p->act) != dnnl_success) {
        return false;
    }
    if (p->add && dnnl_post_ops_append_sum(b->post, 1.0f) != dnnl_success) {
        return false;
    }
    return dnnl_primitive_attr_set_post_ops(b->attr, b->post) == dnnl_success &&
           matmul_pd(&b->pd, b->engine, &b->md[A], &b->md[B], p->bias ? &b->md[BIAS] : NULL,
                     &b->md[C], b->attr) == dnnl_success;
}

static size_t product_scratch(const product *p)
{
    built b;
    const size_t n = build(p, &b) ? dnnl_memory_desc_get_size(dnnl_primitive_desc_query_md(
                                        b.pd, dnnl_query_scratchpad_md, 0))
                                  : 0;
    built_free(&b);
    return n;
}

static void product_release(kd_call *c)
{
    prep *p = c->prep;
    if (p == NULL) {
        return;
    }
    for (int i = 0; i < OPERANDS; i++) {
        if (p->mem[i] != NULL) {
            dnnl_memory_destroy(p->mem[i]);
        }
    }
    if (p->scratch != NULL) {
        dnnl_memory_destroy(p->scratch);
    }
    if (p->primitive != NULL) {
        dnnl_primitive_destroy(p->primitive);
    }
    if (p->stream != NULL) {
        dnnl_stream_destroy(p->stream);
    }
    if (p->engine != NULL) {
        dnnl_engine_destroy(p->engine);
    }
    kd_free(p->packed);
    kd_free(p);
    c->prep = NULL;
}

/* Reorder the constant operand B into p->packed.  Ahead of the values only see that it can be done. */
static bool pack(const product *how, const built *b, prep *p, void *data, bool ahead)
{
    const dnnl_dims_t db = {how->k, how->n}, sb = {how->b_t ? 1 : how->n, how->b_t ? how->k : 1};
    dnnl_data_type_t t;
    md_t plain;
    if (!dtype_of(how->in, &t) || md_strided(&plain, db, t, sb) != dnnl_success) {
        return false;
    }
    md_ref want = dnnl_primitive_desc_query_md(b->pd, dnnl_query_weights_md, 0);
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t reorder = NULL;
    dnnl_memory_t from = NULL;
    p->packed = ahead ? NULL : kd_alloc(dnnl_memory_desc_get_size(want));
    bool ok = (ahead || p->packed != NULL) &&
              dnnl_memory_create(&p->mem[B], want, p->engine, ahead ? DNNL_MEMORY_NONE : p->packed) == dnnl_success &&
              dnnl_memory_create(&from, md_of(&plain), p->engine, data) == dnnl_success &&
              dnnl_reorder_primitive_desc_create(&pd, md_of(&plain), p->engine, want, p->engine,
                                                 NULL) == dnnl_success &&
              dnnl_primitive_create(&reorder, pd) == dnnl_success;
    if (ok && !ahead) {
        const dnnl_exec_arg_t args[2] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, p->mem[B]}};
        ok = dnnl_primitive_execute(reorder, p->stream, 2, args) == dnnl_success &&
             dnnl_stream_wait(p->stream) == dnnl_success;
    }
    if (reorder != NULL) {
        dnnl_primitive_destroy(reorder);
    }
    if (pd != NULL) {
        dnnl_primitive_desc_destroy(pd);
    }
    if (from != NULL) {
        dnnl_memory_destroy(from);
    }
    md_free(&plain);
    return ok;
}

static bool bind(const product *how, const built *b, prep *p)
{
    md_ref scratch = dnnl_primitive_desc_query_md(b->pd, dnnl_query_scratchpad_md, 0);
    for (int i = 0; i < OPERANDS; i++) {
        if ((i == BIAS && !how->bias) || p->mem[i] != NULL) {
            continue;
        }
        if (dnnl_memory_create(&p->mem[i], md_of(&b->md[i]), p->engine, DNNL_MEMORY_NONE) !=
            dnnl_success) {
            return false;
        }
    }
    return dnnl_memory_create(&p->scratch, scratch, p->engine, DNNL_MEMORY_NONE) == dnnl_success;
}

/* Sets c->prep.  `constant` is B's data when it may be packed. */
static kd_status product_prepare(kd_call *c, product how, void *constant)
{
    built b;
    kd_status st = KD_E_UNSUPPORTED;
    how.pack_b = constant != NULL;
    prep *p = kd_calloc(1, sizeof *p);
    c->prep = p;
    const bool described = build(&how, &b);
    if (p == NULL) {
        st = KD_E_OOM;
        goto done;
    }
    p->own_act = gelu_is_ours(&how);
    p->engine = b.engine; /* the primitive refers to it as long as it lives */
    b.engine = NULL;
    if (!described ||
        dnnl_stream_create(&p->stream, p->engine, dnnl_stream_default_flags) != dnnl_success ||
        dnnl_primitive_create(&p->primitive, b.pd) != dnnl_success) {
        goto done;
    }
    if (how.pack_b && !pack(&how, &b, p, constant, c->ahead)) {
        st = p->packed == NULL && !c->ahead ? KD_E_OOM : KD_E_UNSUPPORTED;
        goto done;
    }
    st = bind(&how, &b, p) ? KD_OK : KD_E_UNSUPPORTED;
done:
    built_free(&b);
    if (st != KD_OK) {
        product_release(c);
    }
    return st;
}

static kd_status product_run(const kd_call *c, void *a, void *b, void *bias, void *out)
{
    const prep *p = c->prep;
    void *const data[OPERANDS] = {a, b, bias, out};
    static const int name[OPERANDS] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DST};
    dnnl_exec_arg_t args[OPERANDS + 1];
    int n = 0;
    for (int i = 0; i < OPERANDS; i++) {
        if (p->mem[i] == NULL) {
            continue;
        }
        if ((i != B || p->packed == NULL) &&
            dnnl_memory_set_data_handle(p->mem[i], data[i]) != dnnl_success) {
            return KD_E_DEVICE;
        }
        args[n].arg = name[i];
        args[n++].memory = p->mem[i];
    }
    if (dnnl_memory_set_data_handle(p->scratch, c->scratch) != dnnl_success) {
        return KD_E_DEVICE;
    }
    args[n].arg = DNNL_ARG_SCRATCHPAD;
    args[n++].memory = p->scratch;
    if (dnnl_primitive_execute(p->primitive, p->stream, n, args) != dnnl_success ||
        dnnl_stream_wait(p->stream) != dnnl_success) {
        return KD_E_DEVICE;
    }
    return KD_OK;
}

/* ---- linear ------------------------------------------------------------------------------- */

static bool weight_is_static(const kd_call *c)
{
    return (c->static_in & 2u) != 0;
}

static product linear_of(const kd_call *c)
{
    const kd_linear_attr *at = c->attr;
    const int64_t co = c->in[1].shape.dim[0], ci = c->in[1].shape.dim[1];
    return (product){.m = kd_shape_numel(&c->in[0].shape) / ci,
                     .n = co,
                     .k = ci,
                     .b_t = true,
                     .in = c->in[0].dtype,
                     .out = c->out[0].dtype,
                     .act = at->act,
                     .bias = c->n_in > 2 && c->in[2].shape.rank >= 0 && c->in[2].data != NULL};
}

static size_t linear_scratch(const kd_call *c)
{
    product p = linear_of(c);
    p.bias = c->n_in > 2 && c->in[2].shape.rank >= 0;
    p.pack_b = weight_is_static(c);
    return product_scratch(&p);
}

static kd_status linear_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    if (kd_fast_keeps_pre(c) || ((const kd_linear_attr *)c->attr)->act == KD_ACT_RELU) { /* oneDNN's turns NaN into 0 */
        return KD_E_UNSUPPORTED;
    }
    return product_prepare(c, linear_of(c), weight_is_static(c) ? c->in[1].data : NULL);
}

static kd_status linear_run(const kd_call *c)
{
    const prep *p = c->prep;
    void *bias = c->n_in > 2 ? c->in[2].data : NULL;
    KD_TRY(product_run(c, c->in[0].data, c->in[1].data, bias, c->out[0].data));
#if defined(KD_HAVE_V4_KERNELS)
    if (p->own_act) {
        kd_fast_gelu_v4(c->out[0].data, c->out[0].data, kd_shape_numel(&c->out[0].shape),
                        c->out[0].dtype == KD_BF16);
    }
#else
    (void)p;
#endif
    return KD_OK;
}

/* dx (m,ci) = dy (m,co) W (co,ci) */
static product bwd_x_of(const kd_call *c)
{
    const int64_t co = c->in[1].shape.dim[0], ci = c->in[1].shape.dim[1];
    return (product){.m = kd_shape_numel(&c->in[0].shape) / co,
                     .n = ci,
                     .k = co,
                     .in = c->in[0].dtype,
                     .out = c->out[0].dtype};
}

static size_t bwd_x_scratch(const kd_call *c)
{
    const product p = bwd_x_of(c);
    return product_scratch(&p);
}

static kd_status bwd_x_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    /* dy of a layer whose output is stat while W is bf16: mixed products are the reference's
     * business */
    return c->in[0].dtype == c->in[1].dtype && !kd_fast_takes_pre(c)
               ? product_prepare(c, bwd_x_of(c), NULL)
               : KD_E_UNSUPPORTED;
}

static kd_status bwd_x_run(const kd_call *c)
{
    return product_run(c, c->in[0].data, c->in[1].data, NULL, c->out[0].data);
}

/* dW (co,ci) (+)= dy (m,co)^T x (m,ci) */
static product bwd_w_of(const kd_call *c)
{
    const kd_shape *dy = &c->in[0].shape, *x = &c->in[1].shape;
    const int64_t co = dy->dim[dy->rank - 1], ci = x->dim[x->rank - 1];
    return (product){.m = co,
                     .n = ci,
                     .k = kd_shape_numel(x) / ci,
                     .a_t = true,
                     .in = c->in[0].dtype,
                     .out = KD_F32,
                     .add = (c->accum & 1u) != 0};
}

static size_t bwd_w_scratch(const kd_call *c)
{
    const product p = bwd_w_of(c);
    return product_scratch(&p);
}

static kd_status bwd_w_prepare(kd_call *c, kd_err *err)
{
    (void)err;
    const product p = bwd_w_of(c);
    const int64_t divided =
        (int64_t)1 << 20; /* for smaller results oneDNN divides k among threads: other bits */
    if (c->in[0].dtype != c->in[1].dtype || c->out[0].data == NULL || p.m * p.n < divided) {
        return KD_E_UNSUPPORTED;
    }
    return product_prepare(c, p, NULL);
}

static kd_status bwd_w_run(const kd_call *c)
{
    const product p = bwd_w_of(c);
    KD_TRY(product_run(c, c->in[0].data, c->in[1].data, NULL, c->out[0].data));
    if (c->n_out > 1 && c->out[1].data != NULL) {
        kd_fast_column_sum(c->in[0].data, p.k, p.m, c->in[0].dtype == KD_BF16, (c->accum & 2u) != 0,
                           c->out[1].data);
    }
    return KD_OK;
}

const kd_kernel_def kd_fast_linear_dnnl = {.run = linear_run,
                                           .scratch = linear_scratch,
                                           .prepare = linear_prepare,
                                           .release = product_release};
const kd_kernel_def kd_fast_linear_bwd_x_dnnl = {.run = bwd_x_run,
                                                 .scratch = bwd_x_scratch,
                                                 .prepare = bwd_x_prepare,
                                                 .release = product_release};
const kd_kernel_def kd_fast_linear_bwd_w_dnnl = {.run = bwd_w_run,
                                                 .scratch = bwd_w_scratch,
                                                 .prepare = bwd_w_prepare,
                                                 .release = product_release};
