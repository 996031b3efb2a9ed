/* Zip reader: see zip.h. */
#include "formats/base/zip.h"

#include "formats/base/deflate.h"

#include <stdlib.h>

#define SIG_LOCAL   0x04034b50u
#define SIG_CENTRAL 0x02014b50u
#define SIG_END     0x06054b50u
#define SIG_END64   0x06064b50u
#define SIG_LOC64   0x07064b50u
#define END_BYTES   22u
#define MAX_COMMENT 65535u

#define CLAIM_FACTOR 64u /* weights deflate to nine tenths, padded skeletons to a tenth */
#define CLAIM_SLACK  ((uint64_t)64 << 20)

typedef struct member {
    kd_zip_entry e;
    uint64_t begin; /* of the local header */
    uint64_t end;   /* after the data */
} member;

struct kd_zip {
    const uint8_t *data;
    uint64_t bytes;
    char *origin;
    char *names;
    member *m;
    size_t count;
};

typedef struct directory {
    uint64_t at;
    uint64_t bytes;
    uint64_t count;
} directory;

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)get16(p) | (uint32_t)get16(p + 2) << 16;
}

static uint64_t get64(const uint8_t *p)
{
    return (uint64_t)get32(p) | (uint64_t)get32(p + 4) << 32;
}

static kd_status bad(const kd_zip *z, uint64_t at, const char *what, kd_err *err)
{
    return KD_FAIL(err, KD_E_FORMAT, "%s: byte %llu: %s", z->origin, (unsigned long long)at, what);
}

/* The end record is the one whose comment reaches exactly to the end of the file; two such places (one hidden in a
 * comment) would let two readers see two archives. */
static kd_status find_end(const kd_zip *z, uint64_t *end, kd_err *err)
{
    uint64_t found = UINT64_MAX;
    if (z->bytes >= END_BYTES) {
        const uint64_t last = z->bytes - END_BYTES;
        const uint64_t first = last > MAX_COMMENT ? last - MAX_COMMENT : 0;
        for (uint64_t p = last + 1; p-- > first;) {
            if (get32(z->data + p) == SIG_END && get16(z->data + p + 20) == last - p) {
                if (found != UINT64_MAX) {
                    return bad(z, p, "a second end record in the comment", err);
                }
                found = p;
            }
        }
    }
    if (found == UINT64_MAX) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: no zip directory at its end (truncated?)", z->origin);
    }
    *end = found;
    return KD_OK;
}

static kd_status read_end(const kd_zip *z, directory *d, kd_err *err)
{
    uint64_t end = 0;
    KD_TRY(find_end(z, &end, err));
    const uint8_t *p = z->data + end;
    d->count = get16(p + 10);
    d->bytes = get32(p + 12);
    d->at = get32(p + 16);
    uint64_t limit = end;
    const bool big = d->count == 0xffff || d->bytes == 0xffffffffu || d->at == 0xffffffffu;
    if (big && end >= 20 && get32(p - 20) == SIG_LOC64) {
        const uint64_t at = get64(p - 20 + 8);
        if (end < 76 || at > end - 76 || get32(z->data + at) != SIG_END64) {
            return bad(z, end - 20, "the zip64 end record is not where it should be", err);
        }
        const uint8_t *q = z->data + at;
        if (get32(q + 16) != 0 || get32(q + 20) != 0) {
            return bad(z, at, "several disks", err);
        }
        d->count = get64(q + 32);
        d->bytes = get64(q + 40);
        d->at = get64(q + 48);
        limit = at;
    } else if (get16(p + 4) != 0 || get16(p + 6) != 0 || get16(p + 8) != get16(p + 10)) {
        return bad(z, end, "several disks", err);
    }
    if (d->at > limit || d->bytes > limit - d->at) {
        return bad(z, end, "the directory lies outside the file", err);
    }
    if (d->count > d->bytes / 46) {
        return bad(z, end, "more members than the directory holds", err);
    }
    return KD_OK;
}

/* Sizes and offset of a member above 4 GiB live in extra field 1, in this order, only those that overflowed. */
static bool read_zip64(const uint8_t *extra, size_t n, kd_zip_entry *e, uint64_t *local)
{
    size_t at = 0;
    while (n - at >= 4) {
        const uint16_t id = get16(extra + at);
        const size_t len = get16(extra + at + 2);
        at += 4;
        if (len > n - at) {
            return false;
        }
        if (id == 1) {
            uint64_t *const field[3] = {&e->bytes, &e->packed, local};
            size_t used = 0;
            for (size_t k = 0; k < 3; k++) {
                if (*field[k] != 0xffffffffu) {
                    continue;
                }
                if (len - used < 8) {
                    return false;
                }
                *field[k] = get64(extra + at + used);
                used += 8;
            }
            return true;
        }
        at += len;
    }
    return e->bytes != 0xffffffffu && e->packed != 0xffffffffu && *local != 0xffffffffu;
}

static kd_status read_local(const kd_zip *z, const directory *d, member *m, kd_err *err)
{
    const uint64_t at = m->begin;
    if (d->at < 30 || at > d->at - 30 || get32(z->data + at) != SIG_LOCAL) {
        return bad(z, at, "a member's header is not where the directory says", err);
    }
    const uint8_t *p = z->data + at;
    const uint64_t name = get16(p + 26);
    const uint64_t extra = get16(p + 28);
    const uint64_t room = d->at - at - 30;
    if (name + extra > room || m->e.packed > room - name - extra) {
        return bad(z, at, "a member reaches beyond the file (truncated?)", err);
    }
    if (name != strlen(m->e.name) || memcmp(p + 30, m->e.name, (size_t)name) != 0) {
        return bad(z, at, "a member has another name than in the directory", err);
    }
    m->e.data = p + 30 + name + extra;
    m->end = at + 30 + name + extra + m->e.packed;
    if (m->e.method == 0 && m->e.packed != m->e.bytes) {
        return bad(z, at, "a stored member with two sizes", err);
    }
    return KD_OK;
}

static kd_status read_member(const kd_zip *z, const directory *d, uint64_t *at, char **names, member *m, kd_err *err)
{
    const uint64_t end = d->at + d->bytes;
    const uint8_t *p = z->data + *at;
    if (end - *at < 46 || get32(p) != SIG_CENTRAL) {
        return bad(z, *at, "expected a directory entry", err);
    }
    const uint64_t name = get16(p + 28);
    const uint64_t extra = get16(p + 30);
    const uint64_t comment = get16(p + 32);
    if (name + extra + comment > end - *at - 46) {
        return bad(z, *at, "a directory entry reaches beyond the directory", err);
    }
    if ((get16(p + 8) & 0x41u) != 0) {
        return bad(z, *at, "an encrypted member", err);
    }
    if (name == 0 || memchr(p + 46, '\0', (size_t)name) != NULL) {
        return bad(z, *at, "a member without a proper name", err);
    }
    memcpy(*names, p + 46, (size_t)name);
    (*names)[name] = '\0';
    m->e.name = *names;
    *names += name + 1;
    m->e.method = get16(p + 10);
    m->e.crc = get32(p + 16);
    m->e.packed = get32(p + 20);
    m->e.bytes = get32(p + 24);
    m->begin = get32(p + 42);
    if (!read_zip64(p + 46 + name, (size_t)extra, &m->e, &m->begin)) {
        return bad(z, *at, "a damaged zip64 field", err);
    }
    *at += 46 + name + extra + comment;
    return read_local(z, d, m, err);
}

static int by_place(const void *a, const void *b)
{
    const member *x = a;
    const member *y = b;
    if (x->begin != y->begin) {
        return x->begin < y->begin ? -1 : 1;
    }
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const member *)a)->e.name, ((const member *)b)->e.name);
}

static kd_status parse(kd_zip *z, kd_err *err)
{
    directory d;
    KD_TRY(read_end(z, &d, err));
    z->m = kd_calloc((size_t)d.count + 1, sizeof *z->m);
    z->names = kd_alloc((size_t)d.bytes + 1); /* every name is followed by more than its NUL */
    if (z->m == NULL || z->names == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for %llu members", z->origin, (unsigned long long)d.count);
    }
    uint64_t at = d.at;
    char *names = z->names;
    for (size_t i = 0; i < d.count; i++) {
        KD_TRY(read_member(z, &d, &at, &names, &z->m[i], err));
        z->count++;
    }
    if (z->count > 1) {
        qsort(z->m, z->count, sizeof *z->m, by_place);
    }
    for (size_t i = 1; i < z->count; i++) {
        if (z->m[i].begin < z->m[i - 1].end) {
            return bad(z, z->m[i].begin, "two members share bytes", err);
        }
    }
    if (z->count > 1) {
        qsort(z->m, z->count, sizeof *z->m, by_name);
    }
    for (size_t i = 1; i < z->count; i++) {
        if (strcmp(z->m[i].e.name, z->m[i - 1].e.name) == 0) {
            return KD_FAIL(err, KD_E_FORMAT, "%s: two members are called %s", z->origin, z->m[i].e.name);
        }
    }
    return KD_OK;
}

kd_status kd_zip_parse(const void *data, size_t bytes, const char *origin, kd_zip **out, kd_err *err)
{
    *out = NULL;
    kd_zip *z = kd_calloc(1, sizeof *z);
    if (z != NULL) {
        z->origin = kd_strdup(origin);
    }
    kd_status st = KD_OK;
    if (z == NULL || z->origin == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "%s: out of memory", origin);
    } else {
        z->data = data;
        z->bytes = bytes;
        st = parse(z, err);
    }
    if (st != KD_OK) {
        kd_zip_close(z);
        return st;
    }
    *out = z;
    return KD_OK;
}

void kd_zip_close(kd_zip *z)
{
    if (z == NULL) {
        return;
    }
    kd_free(z->m);
    kd_free(z->names);
    kd_free(z->origin);
    kd_free(z);
}

size_t kd_zip_count(const kd_zip *z)
{
    return z->count;
}

const kd_zip_entry *kd_zip_at(const kd_zip *z, size_t i)
{
    return i < z->count ? &z->m[i].e : NULL;
}

const kd_zip_entry *kd_zip_find(const kd_zip *z, const char *name)
{
    const member key = {.e = {.name = name}};
    const member *m = z->count > 0 ? bsearch(&key, z->m, z->count, sizeof *z->m, by_name) : NULL;
    return m != NULL ? &m->e : NULL;
}

kd_status kd_zip_check_claims(const kd_zip *z, kd_err *err)
{
    uint64_t claimed = 0;
    for (size_t i = 0; i < z->count; i++) {
        if (__builtin_add_overflow(claimed, z->m[i].e.bytes, &claimed)) {
            claimed = UINT64_MAX;
            break;
        }
    }
    if (claimed / CLAIM_FACTOR <= z->bytes + CLAIM_SLACK / CLAIM_FACTOR) {
        return KD_OK;
    }
    return KD_FAIL(err, KD_E_DATA, "%s: claims to unpack to %llu bytes, expected at most %u times its %llu", z->origin,
                   (unsigned long long)claimed, CLAIM_FACTOR, (unsigned long long)z->bytes);
}

/* ---- content --------------------------------------------------------------------------------- */

static uint32_t crc_of(const uint8_t *p, uint64_t n)
{
    return kd_zip_crc32(0, p, (size_t)n);
}

static kd_status damaged(const kd_zip *z, const kd_zip_entry *e, kd_err *err)
{
    return KD_FAIL(err, KD_E_INTEGRITY, "%s: member %s is damaged (its CRC does not match); fetch the file again",
                   z->origin, e->name);
}

kd_status kd_zip_check_stored(const kd_zip *z, const kd_zip_entry *e, kd_err *err)
{
    if (e->method != 0) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: member %s is compressed (method %u), expected stored", z->origin, e->name,
                       e->method);
    }
    return crc_of(e->data, e->packed) == e->crc ? KD_OK : damaged(z, e, err);
}

kd_status kd_zip_read(const kd_zip *z, const kd_zip_entry *e, size_t max_bytes, uint8_t **data, kd_err *err)
{
    *data = NULL;
    if (e->method != 0 && e->method != 8) {
        return KD_FAIL(err, KD_E_UNSUPPORTED, "%s: member %s uses compression method %u", z->origin, e->name,
                       e->method);
    }
    if (e->method == 8 && !kd_inflate_available()) {
        return KD_FAIL(err, KD_E_UNSUPPORTED,
                       "%s: member %s is compressed, this build cannot unpack it; configure with -DKD_ZLIB=ON",
                       z->origin, e->name);
    }
    /* deflate cannot exceed 1032 to 1, so a larger claim is a lie */
    if (e->bytes > max_bytes || e->bytes / 1040 > e->packed) {
        return KD_FAIL(err, KD_E_DATA, "%s: member %s claims %llu bytes, at most %zu are accepted", z->origin, e->name,
                       (unsigned long long)e->bytes, max_bytes);
    }
    uint8_t *p = kd_alloc((size_t)e->bytes + 1);
    if (p == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for member %s", z->origin, e->name);
    }
    bool ok = true;
    if (e->method == 0) {
        memcpy(p, e->data, (size_t)e->bytes);
    } else {
        ok = kd_inflate(e->data, e->packed, p, e->bytes);
    }
    if (!ok || crc_of(p, e->bytes) != e->crc) {
        kd_free(p);
        return damaged(z, e, err);
    }
    p[e->bytes] = 0;
    *data = p;
    return KD_OK;
}
