/* Writing weights under other names, in other files, in another dtype: see weights.h. */
#include "formats/base/io.h"
#include "formats/weights/pth.h"
#include "formats/weights/weights_priv.h"

#include <stdio.h>

typedef struct output {
    kd_weights *w;
    kd_st_tensor *t;
    size_t *from; /* index of the weight */
    int *part;    /* third of its rows, -1: all */
    char (*name)[160];
    int64_t *dims; /* KD_WEIGHTS_MAX_RANK a tensor */
    size_t count;
    size_t cap;
    uint8_t *scratch[2]; /* as read; as converted */
} output;

static bool is_float(kd_st_dtype t)
{
    return t == KD_ST_F32 || t == KD_ST_F16 || t == KD_ST_BF16 || t == KD_ST_F64;
}

static size_t bytes_of(kd_st_dtype t, size_t count)
{
    return count * (kd_st_dtype_bits(t) / 8);
}

static kd_status add(output *o, size_t from, int dialect, int part, const kd_dtype *dtype, kd_err *err)
{
    const kd_weight *s = kd_weights_at(o->w, from);
    const size_t i = o->count++;
    KD_ASSERT(i < o->cap);
    if (strlen(s->name) >= sizeof o->name[0]) {
        return KD_FAIL(err, KD_E_ARG, "tensor name of more than %zu letters: %s", sizeof o->name[0] - 1, s->name);
    }
    const kd_name_map *map = kdi_weights_map(o->w);
    if (map == NULL || !map->write(dialect, s->name, part, o->name[i], sizeof o->name[i])) {
        if (map != NULL && map->known(s->name)) {
            return KD_FAIL(err, KD_E_ARG, "tensor %s has no name in the %s naming", s->name, map->dialect[dialect]);
        }
        memcpy(o->name[i], s->name, strlen(s->name) + 1); /* of a decoder, of another model */
    }
    int64_t *dim = o->dims + i * KD_WEIGHTS_MAX_RANK;
    memcpy(dim, s->dim, sizeof s->dim);
    if (part >= 0) {
        dim[0] /= 3;
    }
    const kd_st_dtype to = dtype != NULL && is_float(s->dtype) ? kd_st_dtype_from(*dtype) : s->dtype;
    o->t[i] = (kd_st_tensor){o->name[i], to, s->rank, dim, NULL};
    o->from[i] = from;
    o->part[i] = part;
    return KD_OK;
}

static kd_status plan(output *o, int dialect, const kd_dtype *dtype, kd_err *err)
{
    const size_t n = kd_weights_count(o->w);
    const kd_name_map *map = kdi_weights_map(o->w);
    size_t largest = 0;
    o->cap = 3 * n + 1;
    o->t = kd_calloc(o->cap, sizeof *o->t);
    o->from = kd_calloc(o->cap, sizeof *o->from);
    o->part = kd_calloc(o->cap, sizeof *o->part);
    o->name = kd_calloc(o->cap, sizeof *o->name);
    o->dims = kd_calloc(o->cap, KD_WEIGHTS_MAX_RANK * sizeof *o->dims);
    if (o->t == NULL || o->from == NULL || o->part == NULL || o->name == NULL || o->dims == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory for a table of %zu tensors", n);
    }
    for (size_t i = 0; i < n; i++) {
        const kd_weight *s = kd_weights_at(o->w, i);
        largest = KD_MAX(largest, KD_MAX(s->bytes, s->count * 4));
        const bool split = map != NULL && map->in_parts(dialect, s->name);
        if (split && (s->rank != 2 || s->dim[0] % 3 != 0)) {
            return KD_FAIL(err, KD_E_SHAPE, "tensor %s cannot be split into query, key, value", s->name);
        }
        for (int part = split ? 0 : -1; part < (split ? 3 : 0); part++) {
            KD_TRY(add(o, i, dialect, part, dtype, err));
        }
    }
    for (int k = 0; k < 2; k++) {
        o->scratch[k] = kd_alloc(largest + 1);
        if (o->scratch[k] == NULL) {
            return KD_FAIL(err, KD_E_OOM, "no memory for a tensor");
        }
    }
    return KD_OK;
}

static void narrow(kd_st_dtype to, const float *src, size_t n, uint16_t *dst)
{
    for (size_t i = 0; i < n; i++) {
        dst[i] = to == KD_ST_BF16 ? kd_f32_to_bf16(src[i]) : kd_f32_to_f16(src[i]);
    }
}

static kd_status fetch(void *ctx, size_t i, const void **data, kd_err *err)
{
    output *o = ctx;
    const kd_weight *s = kd_weights_at(o->w, o->from[i]);
    const kd_st_dtype to = o->t[i].dtype;
    const uint8_t *p = o->scratch[0];
    if (to == s->dtype) {
        KD_TRY(kd_weights_read_raw(o->w, s, o->scratch[0], err));
    } else {
        KD_TRY(kd_weights_read_f32(o->w, s, (float *)(void *)o->scratch[0], err));
        if (to != KD_ST_F32) {
            narrow(to, (const float *)(const void *)o->scratch[0], s->count, (uint16_t *)(void *)o->scratch[1]);
            p = o->scratch[1];
        }
    }
    if (o->part[i] > 0) {
        p += (size_t)o->part[i] * bytes_of(to, s->count / 3);
    }
    *data = p;
    return KD_OK;
}

static kd_status save_safetensors(output *o, const char *path, kd_err *err)
{
    kd_st_writer *w = NULL;
    kd_status st = KD_OK;
    kd_json *meta = kd_json_object();
    kd_json_set_str(meta, "format", "pt");
    if (!kd_json_ok(meta)) {
        st = KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
        goto done;
    }
    KD_GO(kd_st_writer_open(path, o->t, o->count, meta, &w, err));
    for (size_t k = 0; k < o->count; k++) {
        const size_t i = kd_st_writer_order(w, k);
        const kd_weight *s = kd_weights_at(o->w, o->from[i]);
        const void *data = NULL;
        KD_GO(fetch(o, i, &data, err));
        const size_t count = o->part[i] >= 0 ? s->count / 3 : s->count;
        KD_GO(kd_st_writer_put(w, data, bytes_of(o->t[i].dtype, count), err));
    }
    st = kd_st_writer_commit(w, err);
    w = NULL;
done:
    kd_st_writer_abort(w);
    kd_json_free(meta);
    return st;
}

kd_status kd_weights_save(kd_weights *w, const char *path, int dialect, const kd_dtype *dtype, kd_err *err)
{
    const kd_name_map *map = kdi_weights_map(w);
    const char *key = map != NULL ? map->torch_key[dialect] : "model";
    output o = {.w = w};
    const bool torch =
        kd_path_has_suffix(path, ".pth") || kd_path_has_suffix(path, ".pt") || kd_path_has_suffix(path, ".bin");
    if (!torch && !kd_path_has_suffix(path, ".safetensors")) {
        return KD_FAIL(err, KD_E_ARG, "%s: expected a name ending in .safetensors, .pth, .pt or .bin%s", path,
                       kd_path_has_suffix(path, ".onnx") ? "; ONNX is not written" : "");
    }
    kd_status st = plan(&o, dialect, dtype, err);
    if (st == KD_OK) {
        st = torch ? kd_pth_write_from(path, key, o.t, o.count, fetch, &o, err) : save_safetensors(&o, path, err);
    }
    kd_free(o.t);
    kd_free(o.from);
    kd_free(o.part);
    kd_free(o.name);
    kd_free(o.dims);
    kd_free(o.scratch[0]);
    kd_free(o.scratch[1]);
    return st;
}
