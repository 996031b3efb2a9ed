/* safetensors reader and element types: see safetensors.h. */
#include "formats/weights/safetensors.h"

#include "formats/base/io.h"

#include <stdlib.h>

#define MAX_HEADER ((uint64_t)100000000)
#define MAX_VALUES ((size_t)1 << 20) /* of the header's JSON: 16 each for 65536 tensors, the most weights.h takes */
#define MAX_DEPTH  16

/* ---- element types --------------------------------------------------------------------------- */

static const struct {
    const char *name;
    unsigned bits;
} dtype_table[] = {
#define ROW(tag, text, bits) {text, bits},
    KD_ST_DTYPE_MAP(ROW)
#undef ROW
};

const char *kd_st_dtype_name(kd_st_dtype t)
{
    return (size_t)t < KD_COUNTOF(dtype_table) ? dtype_table[t].name : "?";
}

unsigned kd_st_dtype_bits(kd_st_dtype t)
{
    KD_ASSERT((size_t)t < KD_COUNTOF(dtype_table));
    return dtype_table[t].bits;
}

bool kd_st_dtype_parse(const char *text, kd_st_dtype *out)
{
    for (size_t i = 0; i < KD_COUNTOF(dtype_table); i++) {
        if (strcmp(text, dtype_table[i].name) == 0) {
            *out = (kd_st_dtype)i;
            return true;
        }
    }
    return false;
}

static const char *const our_names[] = {
#define ROW(tag, text, size, st) st,
    KD_DTYPE_MAP(ROW)
#undef ROW
};

kd_st_dtype kd_st_dtype_from(kd_dtype t)
{
    kd_st_dtype out = KD_ST_F32;
    KD_ASSERT((size_t)t < KD_COUNTOF(our_names) && kd_st_dtype_parse(our_names[t], &out));
    return out;
}

bool kd_st_dtype_to(kd_st_dtype t, kd_dtype *out)
{
    for (size_t i = 0; i < KD_COUNTOF(our_names); i++) {
        if (strcmp(our_names[i], kd_st_dtype_name(t)) == 0) {
            *out = (kd_dtype)i;
            return true;
        }
    }
    return false;
}

bool kd_st_to_f32(kd_st_dtype t, const void *src, size_t n, float *dst)
{
    const uint8_t *p = src;
#define CONVERT(type, expr)                     \
    for (size_t i = 0; i < n; i++) {            \
        type x;                                 \
        memcpy(&x, p + i * sizeof x, sizeof x); \
        dst[i] = (expr);                        \
    }                                           \
    return true
    switch (t) {
    case KD_ST_F32:
        if (n > 0) {
            memcpy(dst, p, n * sizeof *dst);
        }
        return true;
    case KD_ST_F16:
        CONVERT(uint16_t, kd_f16_to_f32(x));
    case KD_ST_BF16:
        CONVERT(uint16_t, kd_bf16_to_f32(x));
    case KD_ST_F64:
        CONVERT(double, (float)x);
    case KD_ST_I64:
        CONVERT(int64_t, (float)x);
    case KD_ST_U64:
        CONVERT(uint64_t, (float)x);
    case KD_ST_I32:
        CONVERT(int32_t, (float)x);
    case KD_ST_U32:
        CONVERT(uint32_t, (float)x);
    case KD_ST_I16:
        CONVERT(int16_t, (float)x);
    case KD_ST_U16:
        CONVERT(uint16_t, (float)x);
    case KD_ST_I8:
        CONVERT(int8_t, (float)x);
    case KD_ST_U8:
        CONVERT(uint8_t, (float)x);
    case KD_ST_BOOL:
        CONVERT(uint8_t, x != 0 ? 1.0f : 0.0f);
    default:
        return false;
    }
#undef CONVERT
}

/* ---- reading --------------------------------------------------------------------------------- */

struct kd_st_file {
    kd_map map; /* empty when parsed from memory */
    kd_json *header;
    const kd_json *meta;
    kd_st_entry *entry; /* by position of the data */
    size_t *by_name;    /* indices into entry, sorted by name */
    int64_t *dims;      /* shapes of all entries */
    size_t count;
    const char *origin;
};

typedef struct raw_entry {
    kd_st_entry e;
    uint64_t begin;
    uint64_t end;
} raw_entry;

static int by_range(const void *a, const void *b)
{
    const raw_entry *x = a;
    const raw_entry *y = b;
    if (x->begin != y->begin) {
        return x->begin < y->begin ? -1 : 1;
    }
    if (x->end != y->end) {
        return x->end < y->end ? -1 : 1;
    }
    return strcmp(x->e.name, y->e.name);
}

static kd_status read_shape(const kd_json *info, raw_entry *r, int64_t **dims, kd_err *err)
{
    const kd_json *shape;
    KD_TRY(kd_json_get_array(info, "shape", &shape, err));
    r->e.rank = kd_json_count(shape);
    r->e.dim = r->e.rank > 0 ? *dims : NULL;
    size_t count = 1;
    bool fits = true;
    for (size_t k = 0; k < r->e.rank; k++) {
        int64_t v = 0;
        KD_TRY(kd_json_as_i64(kd_json_at(shape, k), &v, err));
        if (v < 0) {
            return KD_FAIL(err, KD_E_FORMAT, "tensor %s: dimension %zu is negative (%lld)", r->e.name, k, (long long)v);
        }
        (*dims)[k] = v;
        fits = fits && kd_size_mul(count, (size_t)v, &count);
    }
    *dims += r->e.rank;
    size_t bits = 0;
    if (!fits || !kd_size_mul(count, kd_st_dtype_bits(r->e.dtype), &bits)) {
        return KD_FAIL(err, KD_E_FORMAT, "tensor %s: the size of its shape overflows", r->e.name);
    }
    if (bits % 8 != 0) {
        return KD_FAIL(err, KD_E_FORMAT, "tensor %s: %zu elements of %s are no whole number of bytes", r->e.name, count,
                       kd_st_dtype_name(r->e.dtype));
    }
    r->e.count = count;
    r->e.bytes = bits / 8;
    return KD_OK;
}

static kd_status read_entry(const kd_json *info, raw_entry *r, int64_t **dims, kd_err *err)
{
    r->e.name = kd_json_key(info);
    const char *dtype;
    KD_TRY(kd_json_get_str(info, "dtype", &dtype, err));
    if (!kd_st_dtype_parse(dtype, &r->e.dtype)) {
        return KD_FAIL(err, KD_E_FORMAT, "tensor %s: unknown dtype \"%s\"", r->e.name, dtype);
    }
    KD_TRY(read_shape(info, r, dims, err));
    int64_t at[2] = {0, 0};
    KD_TRY(kd_json_get_i64s(info, "data_offsets", at, 2, err));
    if (at[0] < 0 || at[1] < at[0]) {
        return KD_FAIL(err, KD_E_FORMAT, "tensor %s: data_offsets [%lld, %lld] are no range", r->e.name,
                       (long long)at[0], (long long)at[1]);
    }
    r->begin = (uint64_t)at[0];
    r->end = (uint64_t)at[1];
    if (r->end - r->begin != r->e.bytes) {
        return KD_FAIL(err, KD_E_FORMAT, "tensor %s: dtype and shape need %zu bytes, data_offsets give %llu", r->e.name,
                       r->e.bytes, (unsigned long long)(r->end - r->begin));
    }
    return KD_OK;
}

static kd_status check_meta(kd_st_file *f, const kd_json *meta, kd_err *err)
{
    if (kd_json_type_of(meta) == KD_JSON_NULL) {
        return KD_OK;
    }
    if (kd_json_type_of(meta) != KD_JSON_OBJECT) {
        return KD_FAIL(err, KD_E_FORMAT, "__metadata__ is not an object");
    }
    for (size_t i = 0; i < kd_json_count(meta); i++) {
        const char *text;
        KD_TRY(kd_json_as_str(kd_json_at(meta, i), &text, err));
    }
    f->meta = meta;
    return KD_OK;
}

static int name_order(const void *a, const void *b, void *ctx)
{
    const kd_st_entry *e = ctx;
    return strcmp(e[*(const size_t *)a].name, e[*(const size_t *)b].name);
}

/* Ranges must tile the buffer; then fill the file's own arrays. */
static kd_status place(kd_st_file *f, raw_entry *raw, size_t n, const uint8_t *buf, uint64_t bytes, kd_err *err)
{
    uint64_t at = 0;
    if (n > 1) {
        qsort(raw, n, sizeof *raw, by_range);
    }
    for (size_t i = 0; i < n; i++) {
        if (raw[i].begin != at) {
            return KD_FAIL(err, KD_E_FORMAT, "tensor %s: its data begin at %llu, expected %llu (no holes, no overlap)",
                           raw[i].e.name, (unsigned long long)raw[i].begin, (unsigned long long)at);
        }
        at = raw[i].end;
        if (at > bytes) {
            return KD_FAIL(err, KD_E_FORMAT,
                           "tensor %s: its data end at %llu, the file has %llu bytes of data "
                           "(truncated?)",
                           raw[i].e.name, (unsigned long long)at, (unsigned long long)bytes);
        }
        f->entry[i] = raw[i].e;
        f->entry[i].data = buf + raw[i].begin;
        f->by_name[i] = i;
    }
    if (at != bytes) {
        return KD_FAIL(err, KD_E_FORMAT, "the tensors end at %llu, the file has %llu bytes of data",
                       (unsigned long long)at, (unsigned long long)bytes);
    }
    f->count = n;
    if (n > 1) {
        qsort_r(f->by_name, n, sizeof *f->by_name, name_order, f->entry);
    }
    return KD_OK;
}

static kd_status read_entries(kd_st_file *f, const uint8_t *buf, uint64_t bytes, kd_err *err)
{
    kd_status st = KD_OK;
    const size_t n = kd_json_count(f->header); /* bounded by the header's size */
    size_t total_rank = 0;
    for (size_t i = 0; i < n; i++) {
        total_rank += kd_json_count(kd_json_get(kd_json_at(f->header, i), "shape"));
    }
    raw_entry *raw = kd_calloc(n + 1, sizeof *raw);
    f->entry = kd_calloc(n + 1, sizeof *f->entry);
    f->by_name = kd_calloc(n + 1, sizeof *f->by_name);
    f->dims = kd_calloc(total_rank + 1, sizeof *f->dims);
    if (raw == NULL || f->entry == NULL || f->by_name == NULL || f->dims == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "no memory for a table of %zu tensors", n);
        goto done;
    }
    int64_t *dims = f->dims;
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        const kd_json *info = kd_json_at(f->header, i);
        if (strcmp(kd_json_key(info), "__metadata__") == 0) {
            KD_GO(check_meta(f, info, err));
        } else {
            KD_GO(read_entry(info, &raw[used++], &dims, err));
        }
    }
    KD_GO(place(f, raw, used, buf, bytes, err));
done:
    kd_free(raw);
    return st;
}

/* A tree of the header takes tens of bytes a value: values are counted before it is built.  Tensors nest three deep. */
static kd_status check_values(const uint8_t *p, size_t n, kd_err *err)
{
    size_t values = 0, depth = 0, deepest = 0;
    bool text = false;
    for (size_t i = 0; i < n; i++) {
        if (text && p[i] == '\\') {
            i++; /* what it escapes */
        } else if (p[i] == '"') {
            text = !text;
        } else if (!text) {
            const bool opens = p[i] == '[' || p[i] == '{';
            const bool closes = p[i] == ']' || p[i] == '}';
            values += opens || p[i] == ',';
            depth = opens ? depth + 1 : closes && depth > 0 ? depth - 1 : depth;
            deepest = KD_MAX(deepest, depth);
        }
    }
    if (values > MAX_VALUES || deepest > MAX_DEPTH) {
        return KD_FAIL(err, KD_E_DATA, "a header of %zu values, %zu deep: at most %zu and %d are read", values, deepest,
                       MAX_VALUES, MAX_DEPTH);
    }
    return KD_OK;
}

static kd_status parse(kd_st_file *f, const uint8_t *p, size_t bytes, kd_err *err)
{
    if (bytes < 8) {
        return KD_FAIL(err, KD_E_FORMAT, "not a safetensors file: %zu bytes, a header length takes 8", bytes);
    }
    uint64_t n = 0;
    for (unsigned i = 0; i < 8; i++) {
        n |= (uint64_t)p[i] << (8 * i);
    }
    if (n > MAX_HEADER) {
        return KD_FAIL(err, KD_E_FORMAT, "not a safetensors file: header of %llu bytes, at most %llu are legal",
                       (unsigned long long)n, (unsigned long long)MAX_HEADER);
    }
    if (n > bytes - 8) {
        return KD_FAIL(err, KD_E_FORMAT, "header of %llu bytes in a file of %zu (truncated?)", (unsigned long long)n,
                       bytes);
    }
    if (n == 0 || p[8] != '{') {
        return KD_FAIL(err, KD_E_FORMAT, "the header does not start with '{'");
    }
    KD_TRY(check_values(p + 8, (size_t)n, err));
    KD_TRY(kd_json_parse((const char *)p + 8, (size_t)n, NULL, &f->header, err));
    return read_entries(f, p + 8 + n, bytes - 8 - n, err);
}

static kd_status new_file(const char *origin, kd_st_file **out, kd_err *err)
{
    *out = kd_calloc(1, sizeof **out);
    return *out != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "%s: out of memory", origin);
}

kd_status kd_st_parse(const void *data, size_t bytes, const char *origin, kd_st_file **out, kd_err *err)
{
    KD_TRY(new_file(origin, out, err));
    kd_err why = {0};
    const kd_status st = parse(*out, data, bytes, &why);
    if (st != KD_OK) {
        kd_st_close(*out);
        *out = NULL;
        return KD_FAIL(err, st, "%s: %s", origin, why.msg);
    }
    return KD_OK;
}

kd_status kd_st_open(const char *path, kd_st_file **out, kd_err *err)
{
    *out = NULL;
    kd_map map;
    KD_TRY(kd_io_map(path, &map, err));
    const kd_status st = kd_st_parse(map.data, map.bytes, path, out, err);
    if (st != KD_OK) {
        kd_io_unmap(&map);
    } else {
        (*out)->map = map;
    }
    return st;
}

void kd_st_close(kd_st_file *f)
{
    if (f == NULL) {
        return;
    }
    kd_io_unmap(&f->map);
    kd_json_free(f->header);
    kd_free(f->entry);
    kd_free(f->by_name);
    kd_free(f->dims);
    kd_free(f);
}

size_t kd_st_count(const kd_st_file *f)
{
    return f->count;
}

const kd_st_entry *kd_st_at(const kd_st_file *f, size_t i)
{
    return i < f->count ? &f->entry[i] : NULL;
}

const kd_st_entry *kd_st_find(const kd_st_file *f, const char *name)
{
    size_t lo = 0;
    size_t hi = f->count;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        const kd_st_entry *e = &f->entry[f->by_name[mid]];
        const int c = strcmp(e->name, name);
        if (c == 0) {
            return e;
        }
        if (c < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return NULL;
}

const kd_json *kd_st_meta_all(const kd_st_file *f)
{
    return f->meta;
}

const char *kd_st_meta(const kd_st_file *f, const char *key)
{
    const char *text = NULL;
    const kd_json *v = kd_json_get(f->meta, key);
    return v != NULL && kd_json_as_str(v, &text, NULL) == KD_OK ? text : NULL;
}

kd_status kd_st_need(const kd_st_file *f, const char *name, kd_st_dtype dtype, int rank, const int64_t *dim,
                     const kd_st_entry **out, kd_err *err)
{
    const kd_st_entry *e = kd_st_find(f, name);
    if (e == NULL) {
        return KD_FAIL(err, KD_E_DATA, "tensor %s is missing", name);
    }
    if (e->dtype != dtype) {
        return KD_FAIL(err, KD_E_DATA, "tensor %s: expected dtype %s, found %s", name, kd_st_dtype_name(dtype),
                       kd_st_dtype_name(e->dtype));
    }
    if (rank >= 0 && e->rank != (size_t)rank) {
        return KD_FAIL(err, KD_E_DATA, "tensor %s: expected rank %d, found %zu", name, rank, e->rank);
    }
    for (int k = 0; k < rank; k++) {
        if (e->dim[k] != dim[k]) {
            return KD_FAIL(err, KD_E_DATA, "tensor %s: expected %lld in dimension %d, found %lld", name,
                           (long long)dim[k], k, (long long)e->dim[k]);
        }
    }
    *out = e;
    return KD_OK;
}
