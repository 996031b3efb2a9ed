/* Matrix products through oneDNN: the only file that sees its headers.  Versions 2.6 (Debian 12)
 * and 3.x differ in how descriptors are made; the differences stay in the first part of this file.
 * What is multiplied for which op stands in onednn_linear.c.
 *
 * A primitive is made in prepare() for the call's shapes, with user-managed scratchpad (planned by
 * the program), so run() only binds addresses and executes.  Weights that stay constant (static_in)
 * are packed once into the layout the library likes. bf16 is offered only where the processor
 * multiplies bf16: the library would otherwise emulate it at a third of f32 speed.
 */
#include "kernels/fast/onednn.h"

#include "kernels/fast/rows.h"
#include "kernels/kd_cpu.h"
#include "kernels/kd_ops.h"

#include <oneapi/dnnl/dnnl.h>

/* ---- the two generations of the interface ---------------------------------------------------- */

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

static dnnl_status_t md_strided(md_t *md, const dnnl_dims_t dims, dnnl_data_type_t t, const dnnl_dims_t strides)
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

static dnnl_status_t matmul_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t eng, const md_t *a, const md_t *b,
                               const md_t *bias, const md_t *c, dnnl_primitive_attr_t attr)
{
    return dnnl_matmul_primitive_desc_create(pd, eng, *a, *b, bias != NULL ? *bias : NULL, *c, attr);
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

static dnnl_status_t md_strided(md_t *md, const dnnl_dims_t dims, dnnl_data_type_t t, const dnnl_dims_t strides)
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

static dnnl_status_t matmul_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t eng, const md_t *a, const md_t *b,
                               const md_t *bias, const md_t *c, dnnl_primitive_attr_t attr)
{
    dnnl_matmul_desc_t d;
    const dnnl_status_t st = dnnl_matmul_desc_init(&d, a, b, bias, c);
    return st != dnnl_success ? st : dnnl_primitive_desc_create(pd, &d, attr, eng, NULL);
}
#endif

/* ---- one matrix product ---------------------------------------------------------------------- */

enum { A, B, BIAS, C, OPERANDS };

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
    int64_t gelu; /* numbers of C our GELU is applied to afterwards */
    bool gelu_bf16;
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
static bool gelu_is_ours(const kd_dnnl_product *p)
{
#if defined(KD_HAVE_V4_KERNELS)
    return p->act == KD_ACT_GELU && kd_cpu_has(KD_CPU_V4);
#else
    (void)p;
    return false;
#endif
}

static bool describe(const kd_dnnl_product *p, built *b)
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
    b->has[B] = (p->pack_b ? md_any(&b->md[B], db, in) : md_strided(&b->md[B], db, in, sb)) == dnnl_success;
    b->has[C] = md_strided(&b->md[C], dc, out, sc) == dnnl_success;
    b->has[BIAS] = p->bias && md_strided(&b->md[BIAS], dv, dnnl_f32, sv) == dnnl_success;
    return b->has[A] && b->has[B] && b->has[C] && b->has[BIAS] == p->bias;
}

static bool build(const kd_dnnl_product *p, built *b)
{
    memset(b, 0, sizeof *b);
    if (!describe(p, b) || dnnl_engine_create(&b->engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_primitive_attr_create(&b->attr) != dnnl_success ||
        dnnl_primitive_attr_set_scratchpad_mode(b->attr, dnnl_scratchpad_mode_user) != dnnl_success ||
        dnnl_post_ops_create(&b->post) != dnnl_success) {
        return false;
    }
    if (p->act != KD_ACT_NONE && !gelu_is_ours(p) && append_eltwise(b->post, p->act) != dnnl_success) {
        return false;
    }
    if (p->add && dnnl_post_ops_append_sum(b->post, 1.0f) != dnnl_success) {
        return false;
    }
    return dnnl_primitive_attr_set_post_ops(b->attr, b->post) == dnnl_success &&
           matmul_pd(&b->pd, b->engine, &b->md[A], &b->md[B], p->bias ? &b->md[BIAS] : NULL, &b->md[C], b->attr) ==
               dnnl_success;
}

size_t kd_dnnl_scratch(const kd_dnnl_product *p)
{
    built b;
    const size_t n =
        build(p, &b) ? dnnl_memory_desc_get_size(dnnl_primitive_desc_query_md(b.pd, dnnl_query_scratchpad_md, 0)) : 0;
    built_free(&b);
    return n;
}

void kd_dnnl_release(kd_call *c)
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
static bool pack(const kd_dnnl_product *how, const built *b, prep *p, void *data, bool ahead)
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
    bool ok =
        (ahead || p->packed != NULL) &&
        dnnl_memory_create(&p->mem[B], want, p->engine, ahead ? DNNL_MEMORY_NONE : p->packed) == dnnl_success &&
        dnnl_memory_create(&from, md_of(&plain), p->engine, data) == dnnl_success &&
        dnnl_reorder_primitive_desc_create(&pd, md_of(&plain), p->engine, want, p->engine, NULL) == dnnl_success &&
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

static bool bind(const kd_dnnl_product *how, const built *b, prep *p)
{
    md_ref scratch = dnnl_primitive_desc_query_md(b->pd, dnnl_query_scratchpad_md, 0);
    for (int i = 0; i < OPERANDS; i++) {
        if ((i == BIAS && !how->bias) || p->mem[i] != NULL) {
            continue;
        }
        if (dnnl_memory_create(&p->mem[i], md_of(&b->md[i]), p->engine, DNNL_MEMORY_NONE) != dnnl_success) {
            return false;
        }
    }
    return dnnl_memory_create(&p->scratch, scratch, p->engine, DNNL_MEMORY_NONE) == dnnl_success;
}

kd_status kd_dnnl_prepare(kd_call *c, kd_dnnl_product how, void *constant)
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
    p->gelu = gelu_is_ours(&how) ? how.m * how.n : 0;
    p->gelu_bf16 = how.out == KD_BF16;
    p->engine = b.engine; /* the primitive refers to it as long as it lives */
    b.engine = NULL;
    if (!described || dnnl_stream_create(&p->stream, p->engine, dnnl_stream_default_flags) != dnnl_success ||
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
        kd_dnnl_release(c);
    }
    return st;
}

kd_status kd_dnnl_run(const kd_call *c, void *a, void *b, void *bias, void *out)
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
        if ((i != B || p->packed == NULL) && dnnl_memory_set_data_handle(p->mem[i], data[i]) != dnnl_success) {
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
#if defined(KD_HAVE_V4_KERNELS)
    if (p->gelu > 0) {
        kd_fast_gelu_v4(out, out, p->gelu, p->gelu_bf16);
    }
#endif
    return KD_OK;
}
