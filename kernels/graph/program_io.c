/* A compiled program from outside: its named inputs and outputs, and its sizes.  See kd_program.h. */
#include "kernels/graph/program_internal.h"

kd_tensor kd_program_tensor(const kd_program *p, const char *name)
{
    for (int32_t v = 1; v < p->g->n_values; v++) {
        const kdi_value *val = &p->g->values[v];
        if (val->name != NULL && val->kind != KDI_CONST && strcmp(val->name, name) == 0) {
            return (kd_tensor){kdi_address(p, v), val->spec.dtype, val->spec.shape};
        }
    }
    return (kd_tensor){NULL, KD_F32, kd_shape_absent()};
}

kd_status kd_program_write(kd_program *p, const char *name, const void *src, size_t bytes)
{
    const kd_tensor t = kd_program_tensor(p, name);
    const kd_spec spec = {t.dtype, t.shape};
    if (t.data == NULL) {
        return KD_E_ARG;
    }
    return kd_spec_bytes(&spec) == bytes ? p->be->ops->feed(p->be, t.data, src, bytes) : KD_E_SHAPE;
}

kd_status kd_program_read(kd_program *p, const char *name, void *dst, size_t bytes)
{
    const kd_tensor t = kd_program_tensor(p, name);
    const kd_spec spec = {t.dtype, t.shape};
    if (t.data == NULL) {
        return KD_E_ARG;
    }
    return kd_spec_bytes(&spec) == bytes ? p->be->ops->download(p->be, dst, t.data, bytes) : KD_E_SHAPE;
}

kd_status kd_program_read_f32(kd_program *p, const char *name, float *dst, int64_t n)
{
    const kd_tensor t = kd_program_tensor(p, name);
    if (t.data == NULL) {
        return KD_E_ARG;
    }
    if (kd_shape_numel(&t.shape) != n) {
        return KD_E_SHAPE;
    }
    const size_t bytes = (size_t)n * kd_dtype_size(t.dtype);
    if (t.dtype == KD_F32) {
        return p->be->ops->download(p->be, dst, t.data, bytes);
    }
    void *raw = kd_alloc(bytes);
    if (raw == NULL) {
        return KD_E_OOM;
    }
    const kd_status st = p->be->ops->download(p->be, raw, t.data, bytes);
    for (int64_t i = 0; i < n && st == KD_OK; i++) {
        dst[i] = (float)kd_element(t.dtype, raw, i);
    }
    kd_free(raw);
    return st;
}

size_t kd_program_arena_bytes(const kd_program *p)
{
    return p->arena_bytes + p->scratch_bytes;
}

size_t kd_program_sum_bytes(const kd_program *p)
{
    return p->sum_bytes;
}

int kd_program_nodes(const kd_program *p)
{
    return p->g->n_nodes;
}
