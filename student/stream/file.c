/* The deployment file: see file.h. */
#include "student/stream/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

typedef struct reader {
    const char *text, *at, *end; /* of the JSON header */
    char *pool;                  /* where the next text goes; as large as the header, so never full */
    kd_last_file *f;
    bool described; /* __metadata__ was met */
    kd_err *err;
} reader;

static const struct {
    const char *name;
    size_t bytes;
} DTYPES[] = {{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"I16", 2}, {"U16", 2}, {"F16", 2}, {"BF16", 2},
              {"I32", 4},  {"U32", 4}, {"F32", 4}, {"F64", 8}, {"I64", 8}, {"U64", 8}};

static size_t dtype_bytes(const char *name)
{
    for (size_t i = 0; i < KD_COUNTOF(DTYPES); i++) {
        if (strcmp(DTYPES[i].name, name) == 0) {
            return DTYPES[i].bytes;
        }
    }
    return 0;
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static kd_status expected(const reader *r, const char *what)
{
    const size_t place = (size_t)(r->at - r->text) + 8;
    if (r->at >= r->end) {
        return KD_FAIL(r->err, KD_E_FORMAT, "byte %zu: expected %s, found the end of the header", place, what);
    }
    return KD_FAIL(r->err, KD_E_FORMAT, "byte %zu: expected %s, found '%.*s'", place, what,
                   (int)KD_MIN(r->end - r->at, (ptrdiff_t)12), r->at);
}

static void blanks(reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t')) {
        r->at++;
    }
}

static bool next_is(reader *r, char c)
{
    blanks(r);
    if (r->at < r->end && *r->at == c) {
        r->at++;
        return true;
    }
    return false;
}

static kd_status need(reader *r, char c)
{
    const char what[] = {'\'', c, '\'', '\0'};
    return next_is(r, c) ? KD_OK : expected(r, what);
}

/* Bytes of the valid UTF-8 character at p, 0: none.  Table 3-7 of the Unicode standard. */
static size_t utf8(const unsigned char *p, const unsigned char *end)
{
    if (p[0] < 0x80) {
        return 1;
    }
    const size_t n = p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : (p[0] >> 4) == 0xe ? 3 : p[0] >= 0xf0 && p[0] < 0xf5 ? 4 : 0;
    if (n == 0 || (size_t)(end - p) < n) {
        return 0;
    }
    const unsigned low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    const unsigned high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < low || p[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return n;
}

static bool hex4(reader *r, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        const char c = r->at < r->end ? *r->at : '\0';
        const int digit = c >= '0' && c <= '9'   ? c - '0'
                          : c >= 'a' && c <= 'f' ? c - 'a' + 10
                          : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                 : -1;
        if (digit < 0) {
            return false;
        }
        *out = *out << 4 | (uint32_t)digit;
    }
    return true;
}

static void put_code(reader *r, uint32_t c)
{
    const int more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const uint32_t LEAD[] = {0, 0xc0, 0xe0, 0xf0};
    *r->pool++ = (char)(LEAD[more] | c >> (6 * more));
    for (int i = more - 1; i >= 0; i--) {
        *r->pool++ = (char)(0x80 | (c >> (6 * i) & 0x3f));
    }
}

/* Behind a backslash. */
static kd_status escape(reader *r)
{
    static const char FROM[] = "\"\\/bfnrt", TO[] = "\"\\/\b\f\n\r\t";
    const char *k = r->at < r->end && *r->at != '\0' ? strchr(FROM, *r->at) : NULL;
    if (k != NULL) {
        *r->pool++ = TO[k - FROM];
        r->at++;
        return KD_OK;
    }
    uint32_t c = 0, low = 0;
    if (r->at >= r->end || *r->at++ != 'u' || !hex4(r, &c) || c == 0 || (c >= 0xdc00 && c < 0xe000)) {
        return expected(r, "an escape of JSON");
    }
    if (c >= 0xd800 && c < 0xdc00) {
        if (r->end - r->at < 6 || *r->at++ != '\\' || *r->at++ != 'u' || !hex4(r, &low) || low < 0xdc00 ||
            low >= 0xe000) {
            return expected(r, "the second half of a surrogate pair");
        }
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    put_code(r, c);
    return KD_OK;
}

static kd_status string(reader *r, const char **out)
{
    *out = r->pool;
    if (!next_is(r, '"')) {
        return expected(r, "a text");
    }
    for (;;) {
        if (r->at >= r->end || (unsigned char)*r->at < 0x20) {
            return expected(r, "the end of a text");
        }
        if (*r->at == '"') {
            r->at++;
            *r->pool++ = '\0';
            return KD_OK;
        }
        if (*r->at == '\\') {
            r->at++;
            KD_TRY(escape(r));
            continue;
        }
        const size_t n = utf8((const unsigned char *)r->at, (const unsigned char *)r->end);
        if (n == 0) {
            return expected(r, "UTF-8");
        }
        memcpy(r->pool, r->at, n);
        r->pool += n;
        r->at += n;
    }
}

/* 0 to 2^53: what every JSON library keeps. */
static kd_status whole(reader *r, uint64_t *out)
{
    blanks(r);
    const char *first = r->at;
    for (*out = 0; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++) {
        *out = *out * 10 + (uint64_t)(*r->at - '0');
        if (*out > (uint64_t)1 << 53) {
            return expected(r, "a number of at most 2^53");
        }
    }
    if (r->at == first || (*first == '0' && r->at - first > 1)) {
        r->at = first;
        return expected(r, "a whole number");
    }
    return KD_OK;
}

/* [a, b, ...] of at most `most` numbers. */
static kd_status numbers(reader *r, uint64_t *v, int most, int *n)
{
    *n = 0;
    KD_TRY(need(r, '['));
    if (next_is(r, ']')) {
        return KD_OK;
    }
    do {
        if (*n == most) {
            return expected(r, "fewer numbers");
        }
        KD_TRY(whole(r, &v[(*n)++]));
    } while (next_is(r, ','));
    return need(r, ']');
}

/* ---- the header ------------------------------------------------------------------------------ */

static kd_status tensor_member(reader *r, kd_last_tensor *t, unsigned *have)
{
    static const char *const MEMBER[] = {"dtype", "shape", "data_offsets"};
    const char *key, *dtype;
    uint64_t v[KD_LAST_RANK];
    int n = 0;
    unsigned k = 0;
    KD_TRY(string(r, &key));
    while (k < 3 && strcmp(key, MEMBER[k]) != 0) {
        k++;
    }
    if (k == 3 || (*have >> k & 1) != 0) {
        return expected(r, "dtype, shape and data_offsets once each before this place");
    }
    *have |= 1u << k;
    KD_TRY(need(r, ':'));
    if (k == 0) {
        KD_TRY(string(r, &dtype));
        if (dtype_bytes(dtype) == 0) {
            return KD_FAIL(r->err, KD_E_FORMAT, "tensor %s: no tensors of dtype '%.16s' are read", t->name, dtype);
        }
        (void)snprintf(t->dtype, sizeof t->dtype, "%s", dtype);
        return KD_OK;
    }
    KD_TRY(numbers(r, v, k == 1 ? KD_LAST_RANK : 2, &n));
    if (k == 2) {
        if (n != 2) {
            return expected(r, "two offsets before this place");
        }
        t->begin = (size_t)v[0];
        t->end = (size_t)v[1];
        return KD_OK;
    }
    t->rank = n;
    for (int i = 0; i < n; i++) {
        t->dim[i] = (int64_t)v[i];
    }
    return KD_OK;
}

static kd_status tensor(reader *r, const char *name)
{
    if (r->f->n_tensors == KD_LAST_TENSORS) {
        return KD_FAIL(r->err, KD_E_FORMAT, "more than %d tensors", KD_LAST_TENSORS);
    }
    kd_last_tensor *t = &r->f->tensor[r->f->n_tensors++];
    *t = (kd_last_tensor){.name = name};
    unsigned have = 0;
    KD_TRY(need(r, '{'));
    do {
        KD_TRY(tensor_member(r, t, &have));
    } while (next_is(r, ','));
    KD_TRY(need(r, '}'));
    if (have != 7) {
        return expected(r, "dtype, shape and data_offsets before this place");
    }
    size_t bytes = dtype_bytes(t->dtype);
    for (int i = 0; i < t->rank; i++) {
        if (!kd_size_mul(bytes, (size_t)t->dim[i], &bytes)) {
            return KD_FAIL(r->err, KD_E_FORMAT, "tensor %s: its shape overflows", name);
        }
    }
    if (t->begin > t->end || bytes != t->end - t->begin) {
        return KD_FAIL(r->err, KD_E_FORMAT, "tensor %s: expected %zu bytes, as its shape says, found offsets %zu, %zu",
                       name, bytes, t->begin, t->end);
    }
    return KD_OK;
}

static kd_status metadata(reader *r)
{
    kd_last_file *f = r->f;
    if (r->described) {
        return KD_FAIL(r->err, KD_E_FORMAT, "__metadata__ stands twice");
    }
    r->described = true;
    KD_TRY(need(r, '{'));
    if (next_is(r, '}')) {
        return KD_OK;
    }
    do {
        if (f->n_pairs == KD_LAST_PAIRS) {
            return KD_FAIL(r->err, KD_E_FORMAT, "__metadata__: more than %d pairs", KD_LAST_PAIRS);
        }
        kd_last_pair *p = &f->pair[f->n_pairs++];
        KD_TRY(string(r, &p->key));
        KD_TRY(need(r, ':'));
        KD_TRY(string(r, &p->value));
        for (int i = 0; i < f->n_pairs - 1; i++) {
            if (strcmp(f->pair[i].key, p->key) == 0) {
                return KD_FAIL(r->err, KD_E_FORMAT, "__metadata__: '%.80s' stands twice", p->key);
            }
        }
    } while (next_is(r, ','));
    return need(r, '}');
}

static kd_status header(reader *r)
{
    const char *name;
    if (r->at >= r->end || *r->at != '{') {
        return expected(r, "'{'");
    }
    r->at++;
    if (!next_is(r, '}')) {
        do {
            KD_TRY(string(r, &name));
            KD_TRY(need(r, ':'));
            KD_TRY(strcmp(name, "__metadata__") == 0 ? metadata(r) : tensor(r, name));
        } while (next_is(r, ','));
        KD_TRY(need(r, '}'));
    }
    blanks(r);
    return r->at == r->end ? KD_OK : expected(r, "blanks to the end of the header");
}

/* ---- the whole ------------------------------------------------------------------------------- */

static int by_begin(const void *a_, const void *b_)
{
    const kd_last_tensor *a = a_, *b = b_;
    if (a->begin != b->begin) {
        return a->begin < b->begin ? -1 : 1;
    }
    return a->end < b->end ? -1 : a->end > b->end; /* empty ones first */
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const kd_last_tensor *)a)->name, ((const kd_last_tensor *)b)->name);
}

static kd_status check_ranges(kd_last_file *f, size_t data_bytes, kd_err *err)
{
    size_t at = 0;
    qsort(f->tensor, (size_t)f->n_tensors, sizeof *f->tensor, by_begin);
    for (int i = 0; i < f->n_tensors; at = f->tensor[i++].end) {
        if (f->tensor[i].begin != at) {
            return KD_FAIL(err, KD_E_FORMAT, "tensor %s: expected its data at offset %zu, found %zu", f->tensor[i].name,
                           at, f->tensor[i].begin);
        }
    }
    if (at != data_bytes) {
        return KD_FAIL(err, KD_E_FORMAT, "expected %zu bytes of data, as the header says, found %zu%s", at, data_bytes,
                       at > data_bytes ? "; the file is cut" : "");
    }
    qsort(f->tensor, (size_t)f->n_tensors, sizeof *f->tensor, by_name);
    for (int i = 1; i < f->n_tensors; i++) {
        if (strcmp(f->tensor[i - 1].name, f->tensor[i].name) == 0) {
            return KD_FAIL(err, KD_E_FORMAT, "tensor %s stands twice", f->tensor[i].name);
        }
    }
    return KD_OK;
}

kd_status kd_last_file_parse(const void *file, size_t bytes, kd_last_file *out, kd_err *err)
{
    kd_status st = KD_OK;
    const uint8_t *b = file;
    uint64_t n = 0;
    *out = (kd_last_file){.n_pairs = 0};
    for (int i = 7; i >= 0 && bytes >= 8; i--) {
        n = n << 8 | b[i];
    }
    if (bytes < 8 || n > bytes - 8 || n > KD_LAST_HEADER_BYTES) {
        return KD_FAIL(err, KD_E_FORMAT,
                       "byte 0: expected the length of a safetensors header, at most %d, found %llu "
                       "in a file of %zu bytes",
                       KD_LAST_HEADER_BYTES, (unsigned long long)n, bytes);
    }
    out->tensor = kd_alloc(KD_LAST_TENSORS * sizeof *out->tensor);
    out->pair = kd_alloc(KD_LAST_PAIRS * sizeof *out->pair);
    out->text = kd_alloc((size_t)n + 1);
    if (out->tensor == NULL || out->pair == NULL || out->text == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "out of memory");
        goto done;
    }
    out->data = b + 8 + n;
    reader r = {.text = (const char *)b + 8, .pool = out->text, .f = out, .err = err};
    r.at = r.text;
    r.end = r.text + n;
    KD_GO(header(&r));
    KD_GO(check_ranges(out, bytes - 8 - (size_t)n, err));
done:
    if (st != KD_OK) {
        kd_last_file_free(out);
    }
    return st;
}

void kd_last_file_free(kd_last_file *f)
{
    kd_free(f->tensor);
    kd_free(f->pair);
    kd_free(f->text);
    *f = (kd_last_file){.n_pairs = 0};
}

const kd_last_tensor *kd_last_file_find(const kd_last_file *f, const char *name)
{
    const kd_last_tensor key = {.name = name};
    return f->n_tensors == 0 ? NULL : bsearch(&key, f->tensor, (size_t)f->n_tensors, sizeof key, by_name);
}

kd_status kd_last_file_read(const char *path, void **out, size_t *bytes, kd_err *err)
{
    kd_status st = KD_OK;
    struct stat info;
    char *data = NULL;
    *out = NULL;
    *bytes = 0;
    FILE *f = fopen(path, "rbe");
    if (f == NULL || fstat(fileno(f), &info) != 0) {
        st = KD_FAIL(err, KD_E_IO, "cannot open: %s", strerror(errno));
        goto done;
    }
    if (!S_ISREG(info.st_mode) || info.st_size < 8 || info.st_size > KD_LAST_FILE_BYTES) {
        st = KD_FAIL(err, KD_E_FORMAT, "expected a regular file of 8 bytes to %d MiB, found %s of %lld bytes",
                     KD_LAST_FILE_BYTES >> 20, S_ISREG(info.st_mode) ? "one" : "something else",
                     (long long)info.st_size);
        goto done;
    }
    data = kd_alloc((size_t)info.st_size);
    if (data == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "no memory for a file of %lld bytes", (long long)info.st_size);
    } else if (fread(data, 1, (size_t)info.st_size, f) != (size_t)info.st_size) {
        st = KD_FAIL(err, KD_E_IO, "expected %lld bytes, the file ended or failed before", (long long)info.st_size);
    }
done:
    if (f != NULL) {
        (void)fclose(f);
    }
    if (st != KD_OK) {
        kd_free(data);
        return st;
    }
    *out = data;
    *bytes = (size_t)info.st_size;
    return KD_OK;
}
