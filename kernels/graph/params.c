/* Parameter store: see kd_params.h. */
#include "kernels/kd_ops.h"
#include "kernels/kd_params.h"
#include "kernels/kd_rng.h"

#define KDI_PARAM_ALIGN 16

struct kd_params {
    kd_dtype stat, shadow_dtype;
    kd_param_info *info;
    int n, cap;
    int64_t slab, buffer_slab; /* elements */
    kd_backend *be;            /* set by alloc */
    void *value, *grad, *shadow, *buffer;
    uint64_t version;
    bool sealed;
};

uint32_t kd_crc32(const void *data, size_t bytes)
{
    const uint8_t *p = data;
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < bytes; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++) {
            crc = (crc >> 1) ^ (0xEDB88320u & (0u - (crc & 1u)));
        }
    }
    return ~crc;
}

kd_params *kd_params_create(kd_dtype stat)
{
    kd_params *p = kd_calloc(1, sizeof *p);
    if (p != NULL) {
        p->stat = stat;
        p->shadow_dtype = stat;
    }
    return p;
}

void kd_params_free(kd_params *p)
{
    if (p == NULL) {
        return;
    }
    for (int i = 0; i < p->n; i++) {
        kd_free(p->info[i].name);
        kd_free((void *)(uintptr_t)p->info[i].init.data);
    }
    kd_free(p->info);
    if (p->be != NULL) {
        p->be->ops->free(p->be, p->value);
        p->be->ops->free(p->be, p->grad);
        p->be->ops->free(p->be, p->shadow);
        p->be->ops->free(p->be, p->buffer);
    }
    kd_free(p);
}

/* ---- declaration ----------------------------------------------------------------------------- */

static kd_status append(kd_params *p, const char *name, const kd_shape *shape, const kd_init *init, unsigned flags,
                        bool buffer)
{
    if (p->n == p->cap) {
        const int cap = p->cap == 0 ? 128 : 2 * p->cap;
        kd_param_info *q = kd_realloc(p->info, (size_t)p->n * sizeof *q, (size_t)cap * sizeof *q);
        if (q == NULL) {
            return KD_E_OOM;
        }
        p->info = q;
        p->cap = cap;
    }
    kd_param_info e = {.name = kd_strdup(name), .shape = *shape, .init = *init, .flags = flags, .buffer = buffer};
    e.numel = kd_shape_numel(shape);
    e.lr_scale = 1.0f;
    e.decay = (flags & KD_PARAM_NO_DECAY) == 0;
    if (e.name == NULL) {
        return KD_E_OOM;
    }
    if (init->kind == KD_INIT_DATA) { /* the caller's array need not outlive the declaration */
        float *copy = kd_alloc((size_t)e.numel * sizeof *copy);
        if (copy == NULL) {
            kd_free(e.name);
            return KD_E_OOM;
        }
        memcpy(copy, init->data, (size_t)e.numel * sizeof *copy);
        e.init.data = copy;
    } else {
        e.init.data = NULL;
    }
    int64_t *slab = buffer ? &p->buffer_slab : &p->slab;
    e.offset = *slab;
    *slab += (e.numel + KDI_PARAM_ALIGN - 1) / KDI_PARAM_ALIGN * KDI_PARAM_ALIGN;
    p->info[p->n++] = e;
    return KD_OK;
}

int kd_params_declare(kd_params *p, const char *name, const kd_shape *shape, const kd_init *init, unsigned flags,
                      bool buffer, kd_err *err)
{
    const int i = kd_params_find(p, name);
    char a[KD_SHAPE_TEXT_MAX], b[KD_SHAPE_TEXT_MAX];
    if (i >= 0) {
        if (!kd_shape_equal(&p->info[i].shape, shape) || p->info[i].buffer != buffer) {
            (void)KD_FAIL(err, KD_E_SHAPE, "parameter %s: declared as %s, now asked for as %s", name,
                          kd_shape_text(&p->info[i].shape, a, sizeof a), kd_shape_text(shape, b, sizeof b));
            return -1;
        }
        return i;
    }
    if (p->sealed) {
        (void)KD_FAIL(err, KD_E_STATE, "parameter %s %s: not declared before the store was allocated", name,
                      kd_shape_text(shape, a, sizeof a));
        return -1;
    }
    if (append(p, name, shape, init, flags, buffer) != KD_OK) {
        (void)KD_FAIL(err, KD_E_OOM, "parameter %s: out of memory", name);
        return -1;
    }
    return p->n - 1;
}

int kd_params_count(const kd_params *p)
{
    return p->n;
}

kd_param_info *kd_params_at(kd_params *p, int i)
{
    return &p->info[i];
}

int kd_params_find(const kd_params *p, const char *name)
{
    for (int i = 0; i < p->n; i++) {
        if (strcmp(p->info[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

int64_t kd_params_numel(const kd_params *p)
{
    int64_t n = 0;
    for (int i = 0; i < p->n; i++) {
        n += p->info[i].buffer ? 0 : p->info[i].numel;
    }
    return n;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static kd_status slab(kd_params *p, void **at, int64_t numel, kd_dtype dtype, kd_err *err)
{
    if (*at != NULL || numel == 0) {
        return KD_OK;
    }
    size_t bytes;
    if (!kd_size_mul((size_t)numel, kd_dtype_size(dtype), &bytes) || p->be->ops->alloc(p->be, bytes, at) != KD_OK) {
        return KD_FAIL(err, KD_E_OOM, "parameters: no memory for %lld values of %s", (long long)numel,
                       kd_dtype_name(dtype));
    }
    return KD_OK;
}

kd_status kd_params_alloc(kd_params *p, kd_backend *be, kd_dtype act, bool grads, kd_err *err)
{
    if (p->be != NULL && p->be != be) {
        return KD_FAIL(err, KD_E_STATE, "parameters: already allocated on another backend");
    }
    const bool fresh = p->value == NULL; /* all zero then, and so is the copy */
    p->be = be;
    p->sealed = true;
    KD_TRY(slab(p, &p->value, p->slab, p->stat, err));
    KD_TRY(slab(p, &p->buffer, p->buffer_slab, p->stat, err));
    if (grads) {
        KD_TRY(slab(p, &p->grad, p->slab, p->stat, err));
    }
    if (act != p->stat && p->shadow == NULL) {
        KD_TRY(slab(p, &p->shadow, p->slab, act, err));
        p->shadow_dtype = act;
        if (!fresh) {
            KD_TRY(kd_params_changed(p));
        }
    } else if (act != p->stat && act != p->shadow_dtype) {
        return KD_FAIL(err, KD_E_STATE, "parameters: one low-precision copy a store (%s, asked for %s)",
                       kd_dtype_name(p->shadow_dtype), kd_dtype_name(act));
    }
    return KD_OK;
}

static void *slot(kd_params *p, int i, void *slab_of, kd_dtype dtype)
{
    return slab_of == NULL ? NULL : (char *)slab_of + (size_t)p->info[i].offset * kd_dtype_size(dtype);
}

void *kd_params_value(kd_params *p, int i)
{
    return slot(p, i, p->info[i].buffer ? p->buffer : p->value, p->stat);
}

void *kd_params_shadow(kd_params *p, int i, kd_dtype act)
{
    return act == p->stat || p->info[i].buffer ? kd_params_value(p, i) : slot(p, i, p->shadow, p->shadow_dtype);
}

void *kd_params_grad(kd_params *p, int i)
{
    return p->info[i].buffer ? NULL : slot(p, i, p->grad, p->stat);
}

void *kd_params_value_slab(kd_params *p)
{
    return p->value;
}

void *kd_params_grad_slab(kd_params *p)
{
    return p->grad;
}

void *kd_params_shadow_slab(kd_params *p)
{
    return p->shadow;
}

void *kd_params_buffer_slab(kd_params *p)
{
    return p->buffer;
}

int64_t kd_params_slab_numel(const kd_params *p)
{
    return p->slab;
}

int64_t kd_params_buffer_numel(const kd_params *p)
{
    return p->buffer_slab;
}

kd_dtype kd_params_dtype(const kd_params *p)
{
    return p->stat;
}

kd_dtype kd_params_shadow_dtype(const kd_params *p)
{
    return p->shadow_dtype;
}

kd_backend *kd_params_backend(const kd_params *p)
{
    return p->be;
}

uint64_t kd_params_version(const kd_params *p)
{
    return p->version;
}

void kd_params_updated(kd_params *p)
{
    p->version++;
}

void kd_params_buffers_changed(kd_params *p)
{
    p->version++;
}

/* ---- values ---------------------------------------------------------------------------------- */

kd_status kd_params_zero_grad(kd_params *p)
{
    return p->grad == NULL ? KD_OK : p->be->ops->zero(p->be, p->grad, (size_t)p->slab * kd_dtype_size(p->stat));
}

void kd_params_rest_grad(kd_params *p)
{
    if (p->grad != NULL && p->be->ops->rest != NULL) {
        p->be->ops->rest(p->be, p->grad, (size_t)p->slab * kd_dtype_size(p->stat));
    }
}

kd_status kd_params_changed(kd_params *p)
{
    p->version++;
    if (p->shadow == NULL) {
        return KD_OK;
    }
    const kd_cast_attr attr = {(int32_t)p->shadow_dtype};
    const kd_tensor in = {p->value, p->stat, kd_shape1(p->slab)};
    const kd_tensor out = {p->shadow, p->shadow_dtype, kd_shape1(p->slab)};
    kd_call c = {.in = &in, .out = &out, .n_in = 1, .n_out = 1, .attr = &attr};
    return kd_backend_call(p->be, KD_OP_CAST, p->shadow_dtype, &c);
}

static kd_status copy_in(kd_params *p, void *dst, const float *src, int64_t n)
{
    if (p->stat == KD_F32) {
        return p->be->ops->upload(p->be, dst, src, (size_t)n * sizeof(float));
    }
    double *wide = kd_alloc((size_t)n * sizeof(double));
    if (wide == NULL) {
        return KD_E_OOM;
    }
    for (int64_t i = 0; i < n; i++) {
        wide[i] = (double)src[i];
    }
    const kd_status st = p->be->ops->upload(p->be, dst, wide, (size_t)n * sizeof(double));
    kd_free(wide);
    return st;
}

static kd_status copy_out(kd_params *p, float *dst, const void *src, int64_t n)
{
    if (p->stat == KD_F32) {
        return p->be->ops->download(p->be, dst, src, (size_t)n * sizeof(float));
    }
    double *wide = kd_alloc((size_t)n * sizeof(double));
    if (wide == NULL) {
        return KD_E_OOM;
    }
    const kd_status st = p->be->ops->download(p->be, wide, src, (size_t)n * sizeof(double));
    for (int64_t i = 0; i < n && st == KD_OK; i++) {
        dst[i] = (float)wide[i];
    }
    kd_free(wide);
    return st;
}

kd_status kd_params_read(kd_params *p, int i, float *dst, int64_t n)
{
    return n == p->info[i].numel ? copy_out(p, dst, kd_params_value(p, i), n) : KD_E_SHAPE;
}

kd_status kd_params_read_grad(kd_params *p, int i, float *dst, int64_t n)
{
    if (n != p->info[i].numel || kd_params_grad(p, i) == NULL) {
        return KD_E_SHAPE;
    }
    return copy_out(p, dst, kd_params_grad(p, i), n);
}

kd_status kd_params_write(kd_params *p, int i, const float *src, int64_t n)
{
    return n == p->info[i].numel ? copy_in(p, kd_params_value(p, i), src, n) : KD_E_SHAPE;
}

static float draw(const kd_init *init, kd_rng *r, int64_t k)
{
    switch (init->kind) {
    case KD_INIT_CONST:
        return init->a;
    case KD_INIT_UNIFORM:
        return (float)kd_rng_range(r, -(double)init->a, (double)init->a);
    case KD_INIT_NORMAL:
        return (float)((double)init->b + (double)init->a * kd_rng_normal(r));
    case KD_INIT_TRUNC_NORMAL:
        for (;;) {
            const double x = (double)init->a * kd_rng_normal(r);
            if (x >= -2.0 && x <= 2.0) {
                return (float)x;
            }
        }
    case KD_INIT_DATA:
        return init->data[k];
    }
    return 0.0f;
}

kd_status kd_params_init(kd_params *p, uint64_t seed, kd_err *err)
{
    for (int i = 0; i < p->n; i++) {
        const kd_param_info *e = &p->info[i];
        float *v = kd_alloc((size_t)e->numel * sizeof *v);
        if (v == NULL) {
            return KD_FAIL(err, KD_E_OOM, "parameter %s: out of memory", e->name);
        }
        kd_rng r = kd_rng_make(seed, KD_RNG_INIT, kd_crc32(e->name, strlen(e->name)), 0);
        const float scale = e->init.scale == 0.0f ? 1.0f : e->init.scale;
        for (int64_t k = 0; k < e->numel; k++) {
            v[k] = scale * draw(&e->init, &r, k);
        }
        const kd_status st = kd_params_write(p, i, v, e->numel);
        kd_free(v);
        if (st != KD_OK) {
            return KD_FAIL(err, st, "parameter %s: cannot be written", e->name);
        }
    }
    return kd_params_changed(p);
}
