/* NumPy arrays: see npy.h. */
#include "formats/base/python/npy.h"

#include "formats/base/io.h"

#include <stdio.h>

#define MAX_HEADER 65536u

/* ---- the header: a literal parser for one dictionary ----------------------------------------- */

typedef struct scan {
    const char *p;
    const char *end;
} scan;

static void blanks(scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\t')) {
        s->p++;
    }
}

static bool eat(scan *s, const char *text)
{
    blanks(s);
    const size_t n = strlen(text);
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, text, n) != 0) {
        return false;
    }
    s->p += n;
    return true;
}

static bool quoted(scan *s, char *out, size_t cap)
{
    blanks(s);
    if (s->p == s->end || (*s->p != '\'' && *s->p != '"')) {
        return false;
    }
    const char quote = *s->p++;
    size_t n = 0;
    while (s->p < s->end && *s->p != quote) {
        if (*s->p == '\\' || n + 1 >= cap) {
            return false;
        }
        out[n++] = *s->p++;
    }
    if (s->p == s->end) {
        return false;
    }
    s->p++;
    out[n] = '\0';
    return true;
}

static bool number(scan *s, int64_t *out)
{
    blanks(s);
    int64_t v = 0;
    const char *start = s->p;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9') {
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *s->p - '0', &v)) {
            return false;
        }
        s->p++;
    }
    if (s->p == start) {
        return false;
    }
    if (s->p < s->end && *s->p == 'L') {
        s->p++; /* Python 2 */
    }
    *out = v;
    return true;
}

static bool shape(scan *s, kd_npy *a)
{
    if (!eat(s, "(")) {
        return false;
    }
    a->rank = 0;
    while (!eat(s, ")")) {
        if (a->rank == KD_NPY_MAX_RANK || !number(s, &a->dim[a->rank])) {
            return false;
        }
        a->rank++;
        if (!eat(s, ",")) {
            return a->rank > 1 && eat(s, ")"); /* (3) alone is a number in Python */
        }
    }
    return true;
}

static bool flag(scan *s, bool *out)
{
    *out = eat(s, "True");
    return *out || eat(s, "False");
}

static bool dictionary(scan *s, kd_npy *a, char *descr, size_t cap)
{
    unsigned seen = 0;
    if (!eat(s, "{")) {
        return false;
    }
    while (!eat(s, "}")) {
        char key[24];
        if (!quoted(s, key, sizeof key) || !eat(s, ":")) {
            return false;
        }
        const unsigned bit = strcmp(key, "descr") == 0           ? 1u
                             : strcmp(key, "fortran_order") == 0 ? 2u
                             : strcmp(key, "shape") == 0         ? 4u
                                                                 : 0u;
        if (bit == 0 || (seen & bit) != 0) {
            return false;
        }
        seen |= bit;
        if (bit == 1u && !quoted(s, descr, cap)) {
            return false;
        }
        if (bit == 2u && !flag(s, &a->fortran)) {
            return false;
        }
        if (bit == 4u && !shape(s, a)) {
            return false;
        }
        if (!eat(s, ",")) {
            if (!eat(s, "}")) {
                return false;
            }
            break;
        }
    }
    blanks(s);
    return s->p == s->end && seen == 7u;
}

static kd_status element(const char *descr, const char *origin, kd_npy *a, kd_err *err)
{
    const char *d = descr;
    a->swapped = *d == '>';
    if (*d == '<' || *d == '>' || *d == '|' || *d == '=') {
        d++;
    }
    a->kind = *d != '\0' ? *d++ : '?';
    scan s = {d, d + strlen(d)};
    int64_t n = 0;
    const bool sized = number(&s, &n) && s.p == s.end;
    bool ok = false;
    switch (a->kind) {
    case 'b':
        ok = n == 1;
        break;
    case 'i':
    case 'u':
        ok = n == 1 || n == 2 || n == 4 || n == 8;
        break;
    case 'f':
        ok = n == 2 || n == 4 || n == 8;
        break;
    case 'S':
    case 'U':
        ok = n >= 0 && n <= 1 << 20;
        break;
    default:
        break;
    }
    if (a->kind == 'O') {
        return KD_FAIL(err, KD_E_UNSUPPORTED,
                       "%s: an array of Python objects (a pickle); save it as numbers or strings", origin);
    }
    if (!sized || !ok) {
        return KD_FAIL(err, KD_E_UNSUPPORTED, "%s: element type '%s' is not supported", origin, descr);
    }
    a->item = (size_t)n * (a->kind == 'U' ? 4 : 1);
    return KD_OK;
}

kd_status kd_npy_of(const char *descr, const void *data, size_t bytes, const char *origin, kd_npy *a, kd_err *err)
{
    KD_TRY(element(descr, origin, a, err));
    a->count = 1;
    bool fits = true;
    for (size_t k = 0; k < a->rank; k++) {
        fits = fits && kd_size_mul(a->count, (size_t)a->dim[k], &a->count);
    }
    if (!fits || !kd_size_mul(a->count, a->item, &a->bytes)) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: the size of its shape overflows", origin);
    }
    if (a->bytes != bytes) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: dtype and shape need %zu bytes of data, the file has %zu", origin,
                       a->bytes, bytes);
    }
    a->data = data;
    return KD_OK;
}

kd_status kd_npy_parse(const void *data, size_t bytes, const char *origin, kd_npy *out, kd_err *err)
{
    const uint8_t *p = data;
    kd_npy a = {0};
    if (bytes < 10 || memcmp(p, "\x93NUMPY", 6) != 0) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: not a .npy file", origin);
    }
    if (p[6] < 1 || p[6] > 3 || (p[6] > 1 && bytes < 12)) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: .npy version %d is not supported", origin, p[6]);
    }
    const size_t head = p[6] == 1 ? 10 : 12;
    size_t n = (size_t)p[8] | (size_t)p[9] << 8;
    if (p[6] > 1) {
        n |= (size_t)p[10] << 16 | (size_t)p[11] << 24;
    }
    if (n > MAX_HEADER || n > bytes - head) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: byte 8: a header of %zu bytes (truncated?)", origin, n);
    }
    scan s = {(const char *)p + head, (const char *)p + head + n};
    char descr[64] = "";
    if (!dictionary(&s, &a, descr, sizeof descr)) {
        return KD_FAIL(err, KD_E_FORMAT,
                       "%s: byte %zu: the header is not {'descr', 'fortran_order', 'shape'} of a "
                       "plain array of at most %d dimensions",
                       origin, (size_t)(s.p - (const char *)p), KD_NPY_MAX_RANK);
    }
    KD_TRY(kd_npy_of(descr, p + head + n, bytes - head - n, origin, &a, err));
    *out = a;
    return KD_OK;
}

/* ---- elements -------------------------------------------------------------------------------- */

/* One element to little-endian; strings swap in units of a code point. */
static void copy_item(const kd_npy *a, const uint8_t *src, uint8_t *dst)
{
    const size_t unit = a->kind == 'U' ? 4 : a->kind == 'S' ? 1 : a->item;
    if (!a->swapped || unit == 1) {
        memcpy(dst, src, a->item);
        return;
    }
    for (size_t at = 0; at < a->item; at += unit) {
        for (size_t k = 0; k < unit; k++) {
            dst[at + k] = src[at + unit - 1 - k];
        }
    }
}

/* Index in the file of row-major element `index`. */
static size_t place(const kd_npy *a, const int64_t *index)
{
    size_t at = 0;
    for (size_t k = a->rank; k-- > 0;) {
        at = at * (size_t)a->dim[k] + (size_t)index[k];
    }
    return at;
}

void kd_npy_copy(const kd_npy *a, void *dst)
{
    uint8_t *out = dst;
    const bool columns = a->fortran && a->rank > 1;
    if (a->bytes == 0) {
        return;
    }
    if (!columns && !a->swapped) {
        memcpy(out, a->data, a->bytes);
        return;
    }
    int64_t index[KD_NPY_MAX_RANK] = {0};
    for (size_t i = 0; i < a->count; i++) {
        const size_t from = columns ? place(a, index) : i;
        copy_item(a, a->data + from * a->item, out + i * a->item);
        for (size_t k = a->rank; columns && k-- > 0;) {
            if (++index[k] < a->dim[k]) {
                break;
            }
            index[k] = 0;
        }
    }
}

bool kd_npy_row(const kd_npy *a, size_t i, kd_npy *out)
{
    if (a->rank == 0 || i >= (size_t)a->dim[0] || (a->fortran && a->rank > 1)) {
        return false;
    }
    kd_npy row = *a;
    row.rank = a->rank - 1;
    memmove(row.dim, a->dim + 1, row.rank * sizeof row.dim[0]);
    row.fortran = false;
    row.count = a->count / (size_t)a->dim[0];
    row.bytes = a->bytes / (size_t)a->dim[0];
    row.data = a->data + i * row.bytes;
    *out = row;
    return true;
}

/* n elements at src as float; false where the type has no reading as a number. */
static bool to_f32(char kind, size_t item, const uint8_t *src, size_t n, float *dst)
{
#define CONVERT(type, expr)                       \
    for (size_t i = 0; i < n; i++) {              \
        type x;                                   \
        memcpy(&x, src + i * sizeof x, sizeof x); \
        dst[i] = (expr);                          \
    }                                             \
    return true
#define KIND(c, size) ((unsigned)(c) << 4 | (size))
    switch (KIND(kind, item)) {
    case KIND('f', 4):
        memcpy(dst, src, n * sizeof *dst);
        return true;
    case KIND('f', 2):
        CONVERT(uint16_t, kd_f16_to_f32(x));
    case KIND('f', 8):
        CONVERT(double, (float)x);
    case KIND('i', 8):
        CONVERT(int64_t, (float)x);
    case KIND('u', 8):
        CONVERT(uint64_t, (float)x);
    case KIND('i', 4):
        CONVERT(int32_t, (float)x);
    case KIND('u', 4):
        CONVERT(uint32_t, (float)x);
    case KIND('i', 2):
        CONVERT(int16_t, (float)x);
    case KIND('u', 2):
        CONVERT(uint16_t, (float)x);
    case KIND('i', 1):
        CONVERT(int8_t, (float)x);
    case KIND('u', 1):
        CONVERT(uint8_t, (float)x);
    case KIND('b', 1):
        CONVERT(uint8_t, x != 0 ? 1.0f : 0.0f);
    default:
        return false;
    }
#undef KIND
#undef CONVERT
}

kd_status kd_npy_to_f32(const kd_npy *a, float *dst, kd_err *err)
{
    if (a->kind == 'S' || a->kind == 'U') {
        return KD_FAIL(err, KD_E_DTYPE, "expected an array of numbers, found strings");
    }
    uint8_t *tmp = kd_alloc(a->bytes + 1);
    if (tmp == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory for an array");
    }
    kd_npy_copy(a, tmp);
    const bool ok = a->count == 0 || to_f32(a->kind, a->item, tmp, a->count, dst);
    kd_free(tmp);
    return ok ? KD_OK : KD_FAIL(err, KD_E_DTYPE, "an array that cannot be read as f32");
}

kd_status kd_npy_to_i64(const kd_npy *a, int64_t *dst, kd_err *err)
{
    if (a->kind != 'i' && a->kind != 'u' && a->kind != 'b') {
        return KD_FAIL(err, KD_E_DTYPE, "expected an array of integers, found kind '%c'", a->kind);
    }
    uint8_t *tmp = kd_alloc(a->bytes + 1);
    if (tmp == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory for an array");
    }
    kd_npy_copy(a, tmp);
    kd_status st = KD_OK;
    KD_ASSERT(a->item > 0 && a->item <= sizeof(uint64_t));
    for (size_t i = 0; i < a->count && st == KD_OK; i++) {
        uint64_t v = 0;
        for (size_t k = a->item; k-- > 0;) {
            v = v << 8 | tmp[i * a->item + k];
        }
        const unsigned bits = (unsigned)(8 * a->item);
        if (a->kind == 'i' && bits < 64 && (v >> (bits - 1)) != 0) {
            v |= ~(uint64_t)0 << bits;
        }
        if (a->kind == 'u' && v > INT64_MAX) {
            st = KD_FAIL(err, KD_E_DATA, "element %zu is beyond 63 bits", i);
        }
        memcpy(&dst[i], &v, sizeof v);
    }
    kd_free(tmp);
    return st;
}

static size_t put_utf8(uint32_t c, char *out)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    const unsigned n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (unsigned k = n; k-- > 1;) {
        out[k] = (char)(0x80u | (c & 0x3fu));
        c >>= 6;
    }
    out[0] = (char)(lead[n] | c);
    return n;
}

char *kd_npy_text(const kd_npy *a, size_t i)
{
    if ((a->kind != 'S' && a->kind != 'U') || i >= a->count) {
        return NULL;
    }
    char *out = kd_alloc(a->item + 1); /* UTF-8 is never longer than UCS-4 */
    uint8_t *raw = kd_alloc(a->item + 1);
    bool ok = out != NULL && raw != NULL;
    size_t used = 0;
    if (ok) {
        copy_item(a, a->data + i * a->item, raw);
        const size_t unit = a->kind == 'U' ? 4 : 1;
        for (size_t at = 0; ok && at < a->item; at += unit) {
            uint32_t c = raw[at];
            if (unit == 4) {
                memcpy(&c, raw + at, 4);
            }
            if (c == 0) {
                break;
            }
            ok = c < 0xd800 || (c > 0xdfff && c < 0x110000);
            if (unit == 1) {
                out[used++] = (char)c;
            } else if (ok) {
                used += put_utf8(c, out + used);
            }
        }
        out[used] = '\0';
    }
    kd_free(raw);
    if (!ok) {
        kd_free(out);
        return NULL;
    }
    return out;
}

/* ---- files ----------------------------------------------------------------------------------- */

struct kd_npy_file {
    kd_map map;
    kd_npy array;
};

kd_status kd_npy_open(const char *path, kd_npy_file **out, kd_err *err)
{
    *out = NULL;
    kd_npy_file *f = kd_calloc(1, sizeof *f);
    if (f == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
    }
    kd_status st = kd_io_map(path, &f->map, err);
    if (st == KD_OK) {
        st = kd_npy_parse(f->map.data, f->map.bytes, path, &f->array, err);
    }
    if (st != KD_OK) {
        kd_npy_close(f);
        return st;
    }
    *out = f;
    return KD_OK;
}

const kd_npy *kd_npy_array(const kd_npy_file *f)
{
    return &f->array;
}

void kd_npy_close(kd_npy_file *f)
{
    if (f == NULL) {
        return;
    }
    kd_io_unmap(&f->map);
    kd_free(f);
}
