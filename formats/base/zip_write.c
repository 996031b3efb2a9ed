/* Zip writer: see zip.h. */
#include "formats/base/deflate.h"
#include "formats/base/io.h"
#include "formats/base/zip.h"

#define ALIGN     64u
#define LIMIT32   0xffffffffu
#define DOS_DATE  0x21u /* 1980-01-01: no clock, so equal content gives equal bytes */
#define MAX_EXTRA 128u

typedef struct record {
    char *name;
    uint64_t at;
    uint64_t bytes;
    uint32_t crc;
} record;

struct kd_zip_writer {
    kd_writer *file;
    record *rec;
    size_t count;
    size_t cap;
};

typedef struct cursor {
    uint8_t b[64 + MAX_EXTRA];
    size_t n;
} cursor;

static void put_n(cursor *c, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        c->b[c->n++] = (uint8_t)(v >> (8 * i));
    }
}

static uint32_t low32(uint64_t v)
{
    return v >= LIMIT32 ? LIMIT32 : (uint32_t)v;
}

kd_status kd_zip_writer_open(const char *path, kd_zip_writer **out, kd_err *err)
{
    *out = NULL;
    kd_zip_writer *w = kd_calloc(1, sizeof *w);
    if (w == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
    }
    const kd_status st = kd_writer_open(path, &w->file, err);
    if (st != KD_OK) {
        kd_free(w);
        return st;
    }
    *out = w;
    return KD_OK;
}

static kd_status new_record(kd_zip_writer *w, const char *name, kd_err *err)
{
    if (w->count == w->cap) {
        const size_t cap = KD_MAX(w->cap * 2, (size_t)64);
        record *r = kd_realloc(w->rec, w->cap * sizeof *r, cap * sizeof *r);
        if (r == NULL) {
            return KD_FAIL(err, KD_E_OOM, "no memory for the zip directory");
        }
        w->rec = r;
        w->cap = cap;
    }
    record *r = &w->rec[w->count];
    *r = (record){kd_strdup(name), kd_writer_tell(w->file), 0, 0};
    if (r->name == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory for the zip directory");
    }
    w->count++;
    return KD_OK;
}

/* Local header; the "FB" extra field is the padding PyTorch uses to align the content. */
static kd_status put_local(kd_zip_writer *w, const record *r, kd_err *err)
{
    cursor c = {{0}, 0};
    const size_t name = strlen(r->name);
    const bool big = r->bytes >= LIMIT32;
    const size_t fixed = big ? 20u : 0u;
    const uint64_t content = r->at + 30 + name + fixed + 4;
    const size_t pad = (size_t)((ALIGN - content % ALIGN) % ALIGN);
    put_n(&c, 0x04034b50u, 4);
    put_n(&c, big ? 45 : 20, 2);
    put_n(&c, 0x800, 2); /* names are UTF-8 */
    put_n(&c, 0, 2);
    put_n(&c, 0, 2);
    put_n(&c, DOS_DATE, 2);
    put_n(&c, r->crc, 4);
    put_n(&c, low32(r->bytes), 4);
    put_n(&c, low32(r->bytes), 4);
    put_n(&c, name, 2);
    put_n(&c, fixed + 4 + pad, 2);
    KD_TRY(kd_writer_put(w->file, c.b, c.n, err));
    KD_TRY(kd_writer_put(w->file, r->name, name, err));
    c.n = 0;
    if (big) {
        put_n(&c, 1, 2);
        put_n(&c, 16, 2);
        put_n(&c, r->bytes, 8);
        put_n(&c, r->bytes, 8);
    }
    put_n(&c, 0x4246, 2); /* "FB" */
    put_n(&c, pad, 2);
    for (size_t i = 0; i < pad; i++) {
        put_n(&c, 'Z', 1);
    }
    return kd_writer_put(w->file, c.b, c.n, err);
}

kd_status kd_zip_writer_add2(kd_zip_writer *w, const char *name, const void *a, size_t a_bytes, const void *b,
                             size_t b_bytes, kd_err *err)
{
    if (strlen(name) > 4096) {
        return KD_FAIL(err, KD_E_ARG, "zip member name too long");
    }
    KD_TRY(new_record(w, name, err));
    record *r = &w->rec[w->count - 1];
    r->crc = kd_zip_crc32(kd_zip_crc32(0, a, a_bytes), b, b_bytes);
    r->bytes = (uint64_t)a_bytes + b_bytes;
    KD_TRY(put_local(w, r, err));
    KD_TRY(kd_writer_put(w->file, a, a_bytes, err));
    return kd_writer_put(w->file, b, b_bytes, err);
}

kd_status kd_zip_writer_add(kd_zip_writer *w, const char *name, const void *data, size_t bytes, kd_err *err)
{
    return kd_zip_writer_add2(w, name, data, bytes, NULL, 0, err);
}

static kd_status put_central(kd_zip_writer *w, const record *r, kd_err *err)
{
    cursor c = {{0}, 0};
    const bool size = r->bytes >= LIMIT32;
    const bool place = r->at >= LIMIT32;
    const size_t extra = size || place ? 4u + (size ? 16u : 0u) + (place ? 8u : 0u) : 0u;
    put_n(&c, 0x02014b50u, 4);
    put_n(&c, extra > 0 ? 45 : 20, 2);
    put_n(&c, extra > 0 ? 45 : 20, 2);
    put_n(&c, 0x800, 2);
    put_n(&c, 0, 2);
    put_n(&c, 0, 2);
    put_n(&c, DOS_DATE, 2);
    put_n(&c, r->crc, 4);
    put_n(&c, low32(r->bytes), 4);
    put_n(&c, low32(r->bytes), 4);
    put_n(&c, strlen(r->name), 2);
    put_n(&c, extra, 2);
    put_n(&c, 0, 2);
    put_n(&c, 0, 2);
    put_n(&c, 0, 2);
    put_n(&c, 0, 4);
    put_n(&c, low32(r->at), 4);
    KD_TRY(kd_writer_put(w->file, c.b, c.n, err));
    KD_TRY(kd_writer_put(w->file, r->name, strlen(r->name), err));
    c.n = 0;
    if (extra > 0) {
        put_n(&c, 1, 2);
        put_n(&c, extra - 4, 2);
        if (size) {
            put_n(&c, r->bytes, 8);
            put_n(&c, r->bytes, 8);
        }
        if (place) {
            put_n(&c, r->at, 8);
        }
    }
    return kd_writer_put(w->file, c.b, c.n, err);
}

static kd_status put_end(kd_zip_writer *w, uint64_t at, kd_err *err)
{
    cursor c = {{0}, 0};
    const uint64_t end = kd_writer_tell(w->file);
    const uint64_t bytes = end - at;
    const bool big = at >= LIMIT32 || bytes >= LIMIT32 || w->count >= 0xffff;
    if (big) {
        put_n(&c, 0x06064b50u, 4);
        put_n(&c, 44, 8);
        put_n(&c, 45, 2);
        put_n(&c, 45, 2);
        put_n(&c, 0, 4);
        put_n(&c, 0, 4);
        put_n(&c, w->count, 8);
        put_n(&c, w->count, 8);
        put_n(&c, bytes, 8);
        put_n(&c, at, 8);
        put_n(&c, 0x07064b50u, 4);
        put_n(&c, 0, 4);
        put_n(&c, end, 8);
        put_n(&c, 1, 4);
    }
    const uint64_t count = KD_MIN((uint64_t)w->count, (uint64_t)0xffff);
    put_n(&c, 0x06054b50u, 4);
    put_n(&c, 0, 4);
    put_n(&c, count, 2);
    put_n(&c, count, 2);
    put_n(&c, low32(bytes), 4);
    put_n(&c, low32(at), 4);
    put_n(&c, 0, 2);
    return kd_writer_put(w->file, c.b, c.n, err);
}

kd_status kd_zip_writer_commit(kd_zip_writer *w, kd_err *err)
{
    kd_status st = KD_OK;
    const uint64_t at = kd_writer_tell(w->file);
    for (size_t i = 0; i < w->count; i++) {
        KD_GO(put_central(w, &w->rec[i], err));
    }
    KD_GO(put_end(w, at, err));
    st = kd_writer_commit(w->file, err);
    w->file = NULL;
done:
    kd_zip_writer_abort(w);
    return st;
}

void kd_zip_writer_abort(kd_zip_writer *w)
{
    if (w == NULL) {
        return;
    }
    kd_writer_abort(w->file);
    for (size_t i = 0; i < w->count; i++) {
        kd_free(w->rec[i].name);
    }
    kd_free(w->rec);
    kd_free(w);
}
