/* Names of weights: those of a file in a model's words, and writing under other names, in other files, in another
 * dtype.  See weights.h. */
#include "formats/base/io.h"
#include "formats/weights/pth.h"
#include "formats/weights/weights_priv.h"

#include <stdlib.h>

#define MAX_TENSORS 65536

/* ---- names of a file -------------------------------------------------------------------------- */

/* The map applies if one name gives its dialect away. */
static void detect(kd_weights *w, const kd_name_map *map)
{
    for (size_t i = 0; map != NULL && i < kdi_weights_raw_count(w); i++) {
        const int dialect = map->tell(kdi_weights_raw(w, i).name);
        if (dialect >= 0) {
            w->map = map;
            w->dialect = dialect;
            return;
        }
    }
}

/* Length of the wrapper prefix that every name carries. */
static size_t common_wrapper(const kd_weights *w)
{
    static const char *const prefix[] = {"module.", "_orig_mod."};
    size_t used = 0;
    for (size_t k = 0; k < KD_COUNTOF(prefix) && kdi_weights_raw_count(w) > 0;) {
        const size_t n = strlen(prefix[k]);
        bool all = true;
        for (size_t i = 0; i < kdi_weights_raw_count(w) && all; i++) {
            const char *name = kdi_weights_raw(w, i).name;
            all = strlen(name) > used && strncmp(name + used, prefix[k], n) == 0;
        }
        used += all ? n : 0;
        k = all ? 0 : k + 1;
    }
    return used;
}

/* Add tensor i of the file under `name`, or stack it onto the one that has that name already. */
static kd_status add_named(kd_weights *w, size_t i, const char *name, int part, kd_err *err)
{
    const kdi_raw r = kdi_weights_raw(w, i);
    kd_weight *t = NULL;
    /* the parts of one stack are neighbours or nearly so: look back a little, then everywhere */
    for (size_t k = w->count; part >= 0 && k-- > 0 && t == NULL;) {
        if (strcmp(w->t[k].name, name) == 0) {
            t = &w->t[k];
        }
    }
    if (r.rank > KD_WEIGHTS_MAX_RANK) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: tensor %s: rank %zu, at most %d", w->file, r.name, r.rank,
                       KD_WEIGHTS_MAX_RANK);
    }
    if (t == NULL) {
        t = &w->t[w->count];
        t->name = kd_strdup(name);
        if (t->name == NULL) {
            return KD_FAIL(err, KD_E_OOM, "%s: out of memory", w->file);
        }
        w->count++;
        t->file_name = r.name;
        t->dtype = r.dtype;
        t->rank = r.rank;
        if (r.rank > 0) {
            memcpy(t->dim, r.dim, r.rank * sizeof *r.dim);
        }
        t->count = r.count;
        t->bytes = r.bytes;
        t->part[0] = t->part[1] = t->part[2] = -1;
        t->part[part >= 0 ? part : 0] = (int)i;
        return KD_OK;
    }
    const kd_weight *first = t;
    if (r.dtype != first->dtype || r.rank != 2 || first->rank != 2 || r.dim[1] != first->dim[1] || t->part[part] >= 0) {
        return KD_FAIL(err, KD_E_DATA, "%s: tensor %s: does not fit the others of %s", w->file, r.name, name);
    }
    t->part[part] = (int)i;
    t->dim[0] += r.dim[0];
    t->count += r.count;
    t->bytes += r.bytes;
    return KD_OK;
}

static int name_order(const void *a, const void *b, void *ctx)
{
    const kd_weight *t = ctx;
    return strcmp(t[*(const size_t *)a].name, t[*(const size_t *)b].name);
}

static kd_status check_names(kd_weights *w, kd_err *err)
{
    for (size_t i = 0; i < w->count; i++) {
        w->by_name[i] = i;
        const kd_weight *t = &w->t[i];
        const bool stacked =
            t->part[1] >= 0 || t->part[2] >= 0 || (w->map != NULL && w->map->in_parts(w->dialect, t->name));
        if (stacked && (t->part[0] < 0 || t->part[1] < 0 || t->part[2] < 0)) {
            return KD_FAIL(err, KD_E_DATA, "%s: %s needs query, key and value; one is missing", w->file, t->name);
        }
    }
    if (w->count > 1) {
        qsort_r(w->by_name, w->count, sizeof *w->by_name, name_order, w->t);
    }
    for (size_t i = 1; i < w->count; i++) {
        const kd_weight *a = &w->t[w->by_name[i - 1]];
        const kd_weight *b = &w->t[w->by_name[i]];
        if (strcmp(a->name, b->name) == 0) {
            return KD_FAIL(err, KD_E_DATA, "%s: both %s and %s are %s; a key (--key, teacher.weights_key) says which",
                           w->file, a->file_name, b->file_name, a->name);
        }
    }
    return KD_OK;
}

/* Name of tensor i without the prefix that was asked for; NULL: it lacks the prefix. */
static const char *wanted_name(const kd_weights *w, size_t i)
{
    const char *name = kdi_weights_raw(w, i).name;
    const size_t n = strlen(w->wanted);
    if (n == 0 || strcmp(kd_weights_key(w), w->wanted) == 0) { /* the dictionary of that name */
        return name;
    }
    return strncmp(name, w->wanted, n) == 0 && name[n] == '.' ? name + n + 1 : NULL;
}

/* A constant of the map's model that the file holds besides. */
static kd_status drop_fixed(kd_weights *w, kd_err *err)
{
    if (w->map == NULL || w->map->is_fixed == NULL) {
        return KD_OK;
    }
    for (size_t i = 0; i < w->count; i++) {
        kd_weight *t = &w->t[i];
        if (!w->map->may_be_fixed(t->name)) {
            continue;
        }
        float *v = kd_alloc(t->count * sizeof *v + 1);
        kd_status st = v != NULL ? kd_weights_read_f32(w, t, v, err) : KD_FAIL(err, KD_E_OOM, "%s: no memory", w->file);
        const bool fixed = st == KD_OK && w->map->is_fixed(t->name, t->dim, t->rank, v);
        kd_free(v);
        KD_TRY(st);
        if (fixed) {
            kd_free(t->name);
            memmove(t, t + 1, (w->count - i - 1) * sizeof *t);
            w->count--;
            w->dropped++;
            i--;
        }
    }
    return KD_OK;
}

kd_status kdi_weights_name(kd_weights *w, const kd_name_map *map, kd_err *err)
{
    const size_t n = kdi_weights_raw_count(w);
    if (n > MAX_TENSORS) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: %zu tensors, at most %d are accepted", w->file, n, MAX_TENSORS);
    }
    w->t = kd_calloc(n + 1, sizeof *w->t);
    w->by_name = kd_calloc(n + 1, sizeof *w->by_name);
    if (w->t == NULL || w->by_name == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for %zu tensors", w->file, n);
    }
    detect(w, map);
    const size_t wrapper = w->wanted[0] == '\0' ? common_wrapper(w) : 0;
    for (size_t i = 0; i < n; i++) {
        const char *name = wanted_name(w, i);
        if (name == NULL) {
            w->aside++;
            continue;
        }
        name += wrapper;
        kd_name_match m = {.plain = name, .part = -1};
        if (w->map != NULL) {
            w->map->read(w->dialect, name, &m);
        }
        if (m.drop) {
            w->dropped++;
        } else {
            KD_TRY(add_named(w, i, m.official[0] != '\0' ? m.official : m.plain, m.part, err));
        }
    }
    if (w->aside > 0 && w->aside == n) {
        return KD_FAIL(err, KD_E_DATA,
                       "%s: no weights of key '%s': neither a dictionary nor the start of a name is '%s' "
                       "(the first is %s)",
                       w->file, w->wanted, w->wanted, kdi_weights_raw(w, 0).name);
    }
    KD_TRY(drop_fixed(w, err));
    return check_names(w, err);
}

kd_status kd_weights_add(kd_weights *w, const char *name, const int64_t *dim, size_t rank, const float *v, kd_err *err)
{
    if (kd_weights_find(w, name) != NULL) {
        return KD_FAIL(err, KD_E_DATA, "%s: holds %s already", w->file, name);
    }
    kd_weight t = {.file_name = "", .dtype = KD_ST_F32, .rank = rank, .count = 1, .part = {-1, -1, -1}};
    KD_ASSERT(rank <= KD_WEIGHTS_MAX_RANK);
    for (size_t i = 0; i < rank; i++) {
        t.dim[i] = dim[i];
        t.count *= (size_t)dim[i];
    }
    t.bytes = t.count * sizeof *v;
    kd_weight *more = kd_realloc(w->t, w->count * sizeof *more, (w->count + 2) * sizeof *more);
    w->t = more != NULL ? more : w->t;
    size_t *order = kd_realloc(w->by_name, w->count * sizeof *order, (w->count + 2) * sizeof *order);
    w->by_name = order != NULL ? order : w->by_name;
    t.name = kd_strdup(name);
    t.own = kd_alloc(t.bytes + 1);
    if (more == NULL || order == NULL || t.name == NULL || t.own == NULL) {
        kd_free(t.name);
        kd_free(t.own);
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for %s", w->file, name);
    }
    memcpy(t.own, v, t.bytes);
    w->t[w->count++] = t;
    return check_names(w, err);
}

/* ---- writing ---------------------------------------------------------------------------------- */

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
    const kd_name_map *map = o->w->map;
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
    const kd_name_map *map = o->w->map;
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
    const kd_name_map *map = w->map;
    const char *key = map != NULL ? map->torch_key[dialect] : "model";
    output o = {.w = w};
    const bool torch =
        kd_path_has_suffix(path, ".pth") || kd_path_has_suffix(path, ".pt") || kd_path_has_suffix(path, ".bin");
    if (!torch && !kd_path_has_suffix(path, ".safetensors")) {
        return KD_FAIL(err, KD_E_ARG, "%s: expected a name ending in .safetensors, .pth, .pt or .bin%s", path,
                       kd_path_has_suffix(path, ".onnx") ? "; ONNX is what `distill export` writes" : "");
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
