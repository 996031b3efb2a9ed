/* The .pth row of `distill export`: the whole state_dict of the reference's module, so that
 * load_state_dict(strict=True) takes the file: parameters and running statistics, the constants that the module keeps
 * as buffers, the counters of its batch norms, and shared parameters under each of their names. */
#include "distill/export/export_internal.h"
#include "formats/base/io.h"
#include "formats/weights/pth.h"

typedef struct state_dict {
    kd_st_tensor *t; /* names, dims and data are owned */
    size_t n, room;
    kd_err *err;
} state_dict;

static void close_state(state_dict *d)
{
    for (size_t i = 0; i < d->n; i++) {
        kd_free((void *)(uintptr_t)d->t[i].name);
        kd_free((void *)(uintptr_t)d->t[i].dim);
        kd_free((void *)(uintptr_t)d->t[i].data);
    }
    kd_free(d->t);
    *d = (state_dict){.n = 0};
}

static kd_status out_of_memory(const state_dict *d, const char *name)
{
    return KD_FAIL(d->err, KD_E_OOM, "state_dict: out of memory for %s", name);
}

/* Append a tensor; *data: its bytes, to be filled. */
static kd_status append(state_dict *d, const char *name, kd_dtype dtype, const kd_shape *shape, void **data)
{
    if (d->n == d->room) {
        const size_t room = 2 * d->room + 64;
        kd_st_tensor *t = kd_realloc(d->t, d->room * sizeof *t, room * sizeof *t);
        if (t == NULL) {
            return out_of_memory(d, name);
        }
        d->t = t;
        d->room = room;
    }
    const size_t bytes = (size_t)kd_shape_numel(shape) * kd_dtype_size(dtype);
    char *own = kd_strdup(name);
    int64_t *dim = kd_calloc((size_t)shape->rank + 1, sizeof *dim);
    *data = kd_calloc(bytes + 1, 1);
    if (own == NULL || dim == NULL || *data == NULL) {
        kd_free(own);
        kd_free(dim);
        kd_free(*data);
        return out_of_memory(d, name);
    }
    memcpy(dim, shape->dim, (size_t)shape->rank * sizeof *dim);
    d->t[d->n++] = (kd_st_tensor){.name = own,
                                  .dtype = dtype == KD_I64 ? KD_ST_I64 : KD_ST_F32,
                                  .rank = (size_t)shape->rank,
                                  .dim = dim,
                                  .data = *data};
    return KD_OK;
}

static kd_status add_param(state_dict *d, kd_params *p, int i, const char *name)
{
    const kd_param_info *info = kd_params_at(p, i);
    void *data = NULL;
    KD_TRY(append(d, name, KD_F32, &info->shape, &data));
    return kd_params_read(p, i, data, info->numel);
}

typedef struct extras {
    state_dict *d;
    kd_params *params;
} extras;

static kd_status add_extra(void *user, const char *name, kd_dtype dtype, kd_shape shape, const void *from,
                           const char *of)
{
    const extras *x = user;
    void *data = NULL;
    if (of != NULL) {
        return add_param(x->d, x->params, kd_params_find(x->params, of), name);
    }
    KD_TRY(append(x->d, name, dtype, &shape, &data));
    memcpy(data, from, (size_t)kd_shape_numel(&shape) * kd_dtype_size(dtype));
    return KD_OK;
}

kd_status kdi_export_pth(const kd_export_opts *o, kd_export_result *r, kd_err *err)
{
    kdi_subject s;
    state_dict d = {.err = err};
    kd_status st = kdi_subject_open(o, &s, err);
    extras x = {&d, s.model.params};
    for (int i = 0; st == KD_OK && i < kd_params_count(s.model.params); i++) {
        st = add_param(&d, s.model.params, i, kd_params_at(s.model.params, i)->name);
    }
    st = st == KD_OK ? o->task->extras(&s.model, add_extra, &x) : st;
    st = st == KD_OK ? kd_pth_write(o->out, "model", d.t, d.n, err) : st;
    r->tensors = (int64_t)d.n;
    close_state(&d);
    kdi_subject_close(&s);
    return st;
}
