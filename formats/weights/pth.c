/* PyTorch file reader: see pth.h. */
#include "formats/weights/pth_internal.h"

#define MAX_PACKED_PICKLE ((size_t)64 << 20) /* unpacked; a stored one is bounded by its file */

/* ---- the two file forms ---------------------------------------------------------------------- */

static kd_status check_byteorder(const kd_pth *p, kd_err *err)
{
    char *name = kd_strf("%s/byteorder", p->prefix);
    if (name == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", p->origin);
    }
    const kd_zip_entry *e = kd_zip_find(p->zip, name);
    kd_free(name);
    if (e == NULL) {
        return KD_OK; /* of torch before 2.1 */
    }
    uint8_t *text = NULL;
    KD_TRY(kd_zip_read(p->zip, e, 64, &text, err));
    const bool little = e->bytes == 6 && memcmp(text, "little", 6) == 0;
    kd_free(text);
    return little ? KD_OK
                  : KD_FAIL(err, KD_E_UNSUPPORTED,
                            "%s: written on a big-endian machine; save it again on a little-endian one", p->origin);
}

static kd_status open_zip(kd_pth *p, const uint8_t *data, size_t bytes, kd_err *err)
{
    KD_TRY(kd_zip_parse(data, bytes, p->origin, &p->zip, err));
    KD_TRY(kd_zip_check_claims(p->zip, err));
    const kd_zip_entry *pkl = NULL;
    for (size_t i = 0; i < kd_zip_count(p->zip); i++) {
        const kd_zip_entry *e = kd_zip_at(p->zip, i);
        const char *slash = strchr(e->name, '/');
        if (slash != NULL && strcmp(slash, "/data.pkl") == 0) {
            if (pkl != NULL) {
                return KD_FAIL(err, KD_E_FORMAT, "%s: two data.pkl", p->origin);
            }
            pkl = e;
        }
    }
    if (pkl == NULL) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: a zip archive without data.pkl, so not written by torch.save", p->origin);
    }
    p->prefix = kd_strdup(pkl->name);
    if (p->prefix == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", p->origin);
    }
    *strchr(p->prefix, '/') = '\0';
    KD_TRY(check_byteorder(p, err));
    const uint8_t *text = pkl->data;
    if (pkl->method == 0) {
        KD_TRY(kd_zip_check_stored(p->zip, pkl, err));
    } else {
        KD_TRY(kd_zip_read(p->zip, pkl, MAX_PACKED_PICKLE, &p->pickle_copy, err));
        text = p->pickle_copy;
    }
    KD_TRY(kd_pk_parse(text, (size_t)pkl->bytes, p->origin, &p->pk, NULL, err));
    return kd_pth_collect_storages(p, err);
}

/* Where the raw data of every storage lie: after the fifth pickle, in the order of its list of keys. */
static kd_status place_storages(kd_pth *p, const kd_pk_node *keys, const uint8_t *data, size_t bytes, size_t at,
                                kd_err *err)
{
    for (size_t i = 0; i < kd_pk_count(keys); i++) {
        const kd_pk_node *key = kd_pk_at(keys, i);
        kd_pth_storage *s = key->type == KD_PK_STR ? kd_pth_find_storage(p, key) : NULL;
        if (s == NULL || s->untyped || s->data != NULL) {
            return KD_FAIL(err, KD_E_FORMAT, "%s: byte %zu: storage %zu is listed but not described", p->origin, at, i);
        }
        uint64_t numel = 0;
        if (bytes - at < 8) {
            return KD_FAIL(err, KD_E_FORMAT, "%s: byte %zu: the file ends before storage %zu", p->origin, at, i);
        }
        for (unsigned k = 0; k < 8; k++) {
            numel |= (uint64_t)data[at + k] << (8 * k);
        }
        at += 8;
        const size_t item = kd_st_dtype_bits(s->dtype) / 8;
        if (numel > (bytes - at) / item || numel * item < s->bytes) {
            return KD_FAIL(err, KD_E_FORMAT,
                           "%s: byte %zu: storage %zu has %llu elements, which does not fit "
                           "(truncated?)",
                           p->origin, at - 8, i, (unsigned long long)numel);
        }
        s->data = data + at;
        s->checked = true; /* this form carries no checksum */
        at += (size_t)numel * item;
    }
    return KD_OK;
}

static kd_status open_legacy(kd_pth *p, const uint8_t *data, size_t bytes, kd_err *err)
{
    kd_pk *part = NULL;
    kd_status st = KD_OK;
    size_t at = 0;
    size_t used = 0;
    for (int k = 0; k < 3; k++) { /* magic, protocol 1001, sys_info */
        KD_GO(kd_pk_parse(data + at, bytes - at, p->origin, &part, &used, err));
        int64_t v = 0;
        const kd_pk_node *little = kd_pk_get(kd_pk_root(part), "little_endian");
        if ((k == 1 && (!kd_pk_int(kd_pk_root(part), &v) || v != 1001)) ||
            (k == 2 && (little == NULL || little->type != KD_PK_BOOL || !little->u.b))) {
            st = KD_FAIL(err, KD_E_UNSUPPORTED,
                         "%s: expected protocol 1001 and little-endian data; save it again with a "
                         "current torch",
                         p->origin);
            goto done;
        }
        kd_pk_free(part);
        part = NULL;
        at += used;
    }
    KD_GO(kd_pk_parse(data + at, bytes - at, p->origin, &p->pk, &used, err));
    at += used;
    KD_GO(kd_pk_parse(data + at, bytes - at, p->origin, &part, &used, err));
    at += used;
    KD_GO(kd_pth_collect_storages(p, err));
    KD_GO(place_storages(p, kd_pk_root(part), data, bytes, at, err));
done:
    kd_pk_free(part);
    return st;
}

static kd_status parse(kd_pth *p, const uint8_t *data, size_t bytes, kd_err *err)
{
    static const uint8_t magic[] = {0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46,
                                    0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};
    if (bytes >= 4 && memcmp(data, "PK\3\4", 4) == 0) {
        KD_TRY(open_zip(p, data, bytes, err));
    } else if (bytes >= sizeof magic && memcmp(data, magic, sizeof magic) == 0) {
        KD_TRY(open_legacy(p, data, bytes, err));
    } else if (bytes >= 262 && memcmp(data + 257, "ustar", 5) == 0) {
        return KD_FAIL(err, KD_E_UNSUPPORTED,
                       "%s: the tar form of torch before 0.1.10; load and save it again with a "
                       "current torch",
                       p->origin);
    } else {
        return KD_FAIL(err, KD_E_FORMAT, "%s: not a PyTorch file (neither zip nor torch's magic)", p->origin);
    }
    return kd_pth_collect_tensors(p, err);
}

static kd_status make(const void *data, size_t bytes, const char *origin, const char *key, kd_pth **out, kd_err *err)
{
    *out = NULL;
    kd_pth *p = kd_calloc(1, sizeof *p);
    if (p != NULL) {
        p->origin = kd_strdup(origin);
        p->wanted = key;
    }
    kd_status st = KD_OK;
    if (p == NULL || p->origin == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "%s: out of memory", origin);
    } else {
        st = parse(p, data, bytes, err);
    }
    if (st != KD_OK) {
        kd_pth_close(p);
        return st;
    }
    *out = p;
    return KD_OK;
}

kd_status kd_pth_parse(const void *data, size_t bytes, const char *origin, kd_pth **out, kd_err *err)
{
    return make(data, bytes, origin, "", out, err);
}

kd_status kd_pth_open(const char *path, const char *key, kd_pth **out, kd_err *err)
{
    *out = NULL;
    kd_map map;
    KD_TRY(kd_io_map(path, &map, err));
    const kd_status st = make(map.data, map.bytes, path, key, out, err);
    if (st != KD_OK) {
        kd_io_unmap(&map);
    } else {
        (*out)->map = map;
    }
    return st;
}

void kd_pth_close(kd_pth *p)
{
    if (p == NULL) {
        return;
    }
    kd_pk_free(p->pk);
    kd_zip_close(p->zip);
    kd_io_unmap(&p->map);
    kd_free(p->pickle_copy);
    kd_free(p->unpacked);
    kd_free(p->prefix);
    kd_free(p->origin);
    kd_free(p->st);
    kd_free(p->t);
    kd_free(p->names);
    kd_free(p);
}

size_t kd_pth_count(const kd_pth *p)
{
    return p->count;
}

const kd_pth_tensor *kd_pth_at(const kd_pth *p, size_t i)
{
    return i < p->count ? &p->t[i] : NULL;
}

const kd_pth_tensor *kd_pth_find(const kd_pth *p, const char *name)
{
    for (size_t i = 0; i < p->count; i++) {
        if (strcmp(p->t[i].name, name) == 0) {
            return &p->t[i];
        }
    }
    return NULL;
}

const char *kd_pth_key(const kd_pth *p)
{
    return p->key;
}

/* Row-major walk over a strided view with an odometer. */
static void gather(const kd_pth_tensor *t, const uint8_t *src, uint8_t *dst)
{
    const size_t item = kd_st_dtype_bits(t->dtype) / 8;
    int64_t index[KD_PTH_MAX_RANK] = {0};
    for (size_t i = 0; i < t->count; i++) {
        size_t from = 0;
        for (size_t k = 0; k < t->rank; k++) {
            from += (size_t)index[k] * (size_t)t->stride[k];
        }
        memcpy(dst + i * item, src + from * item, item);
        for (size_t k = t->rank; k-- > 0;) {
            if (++index[k] < t->dim[k]) {
                break;
            }
            index[k] = 0;
        }
    }
}

/* The bytes of a storage, checked. */
static kd_status storage_bytes(kd_pth *p, kd_pth_storage *s, const uint8_t **data, kd_err *err)
{
    if (s->entry != NULL && s->entry->method != 0) {
        if (p->unpacked_of != s) {
            kd_free(p->unpacked);
            p->unpacked = NULL;
            p->unpacked_of = NULL;
            KD_TRY(kd_zip_read(p->zip, s->entry, (size_t)s->bytes, &p->unpacked, err));
            p->unpacked_of = s;
        }
        *data = p->unpacked;
        return KD_OK;
    }
    if (!s->checked) {
        KD_TRY(kd_zip_check_stored(p->zip, s->entry, err));
        s->checked = true;
    }
    *data = s->data;
    return KD_OK;
}

kd_status kd_pth_read(kd_pth *p, const kd_pth_tensor *t, void *dst, kd_err *err)
{
    const uint8_t *data = NULL;
    KD_TRY(storage_bytes(p, &p->st[t->storage], &data, err));
    if (t->count == 0) {
        return KD_OK;
    }
    if (t->contiguous) {
        memcpy(dst, data + t->offset, t->bytes);
    } else {
        gather(t, data + t->offset, dst);
    }
    return KD_OK;
}
