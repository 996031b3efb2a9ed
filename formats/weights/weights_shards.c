/* Weights in several files: see weights_priv.h. */
#include "formats/base/io.h"
#include "formats/weights/pth.h"
#include "formats/weights/weights_priv.h"

#include <stdlib.h>

#define INDEX_BYTES ((size_t)32 << 20)
#define MAX_SHARDS  1024

typedef struct shard {
    char *name;
    kd_st_file *st; /* one of the two */
    kd_pth *pth;
    size_t first, count; /* tensors before it; of it */
} shard;

struct kdi_shards {
    char *dir;
    shard *file;
    size_t n;
};

bool kdi_is_shard_index(const char *path)
{
    return kd_path_has_suffix(path, ".index.json");
}

void kdi_shards_close(kdi_shards *s)
{
    if (s == NULL) {
        return;
    }
    for (size_t k = 0; k < s->n; k++) {
        kd_free(s->file[k].name);
        kd_st_close(s->file[k].st);
        kd_pth_close(s->file[k].pth);
    }
    kd_free(s->file);
    kd_free(s->dir);
    kd_free(s);
}

static shard *find(const kdi_shards *s, const char *name)
{
    for (size_t k = 0; k < s->n; k++) {
        if (strcmp(s->file[k].name, name) == 0) {
            return &s->file[k];
        }
    }
    return NULL;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const shard *)a)->name, ((const shard *)b)->name);
}

/* The files that the index names, each once, sorted. */
static kd_status list_files(kdi_shards *s, const char *index, const kd_json *map, kd_err *err)
{
    s->file = kd_calloc(MAX_SHARDS, sizeof *s->file);
    if (s->file == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", index);
    }
    for (size_t i = 0; i < kd_json_count(map); i++) {
        const char *name = "";
        KD_TRY(kd_json_as_str(kd_json_at(map, i), &name, err));
        if (name[0] == '\0' || strchr(name, '/') != NULL || name[0] == '.') {
            return KD_FAIL(err, KD_E_DATA, "%s: tensor %s: expected the name of a file beside the index, found '%s'",
                           index, kd_json_key(kd_json_at(map, i)), name);
        }
        if (find(s, name) != NULL) {
            continue;
        }
        if (s->n == MAX_SHARDS) {
            return KD_FAIL(err, KD_E_DATA, "%s: more than %d files", index, MAX_SHARDS);
        }
        s->file[s->n].name = kd_strdup(name);
        if (s->file[s->n].name == NULL) {
            return KD_FAIL(err, KD_E_OOM, "%s: out of memory", index);
        }
        s->n++;
    }
    if (s->n == 0) {
        return KD_FAIL(err, KD_E_DATA, "%s: expected a weight_map of tensors to files, found an empty one", index);
    }
    qsort(s->file, s->n, sizeof *s->file, by_name);
    return KD_OK;
}

static kd_status open_file(const kdi_shards *s, shard *f, const char *index, kd_err *err)
{
    char *path = kd_path_join(s->dir, f->name);
    kd_status st = KD_OK;
    if (path == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", index);
    }
    if (!kd_path_exists(path)) {
        st = KD_FAIL(err, KD_E_DATA, "%s: %s is missing beside it; fetch all of its %zu files", index, f->name, s->n);
    } else if (kd_path_has_suffix(f->name, ".safetensors")) {
        st = kd_st_open(path, &f->st, err);
        f->count = st == KD_OK ? kd_st_count(f->st) : 0;
    } else {
        st = kd_pth_open(path, "", &f->pth, err);
        f->count = st == KD_OK ? kd_pth_count(f->pth) : 0;
    }
    kd_free(path);
    return st;
}

static kd_status check_map(const kdi_shards *s, const char *index, const kd_json *map, kd_err *err)
{
    for (size_t i = 0; i < kd_json_count(map); i++) {
        const char *tensor = kd_json_key(kd_json_at(map, i)), *name = "";
        KD_TRY(kd_json_as_str(kd_json_at(map, i), &name, err));
        const shard *f = find(s, name);
        if (f->st != NULL ? kd_st_find(f->st, tensor) == NULL : kd_pth_find(f->pth, tensor) == NULL) {
            return KD_FAIL(err, KD_E_DATA, "%s: expected tensor %s in %s, found none", index, tensor, name);
        }
    }
    return KD_OK;
}

static kd_status open_all(kdi_shards *s, const char *index, kd_err *err)
{
    uint8_t *text = NULL;
    size_t n = 0;
    kd_json *doc = NULL;
    const kd_json *map = NULL;
    kd_status st = KD_OK;
    KD_TRY(kd_io_read_file(index, INDEX_BYTES, &text, &n, err));
    KD_GO(kd_json_parse((const char *)text, n, index, &doc, err));
    KD_GO(kd_json_get_object(doc, "weight_map", &map, err));
    KD_GO(list_files(s, index, map, err));
    size_t first = 0;
    for (size_t k = 0; k < s->n; k++) {
        KD_GO(open_file(s, &s->file[k], index, err));
        s->file[k].first = first;
        first += s->file[k].count;
    }
    KD_GO(check_map(s, index, map, err));
done:
    kd_json_free(doc);
    kd_free(text);
    return st;
}

kd_status kdi_shards_open(const char *index, kdi_shards **out, kd_err *err)
{
    *out = NULL;
    kdi_shards *s = kd_calloc(1, sizeof *s);
    if (s != NULL) {
        s->dir = kd_path_dir(index);
    }
    const kd_status st =
        s != NULL && s->dir != NULL ? open_all(s, index, err) : KD_FAIL(err, KD_E_OOM, "%s: out of memory", index);
    if (st != KD_OK) {
        kdi_shards_close(s);
        return st;
    }
    *out = s;
    return KD_OK;
}

size_t kdi_shards_count(const kdi_shards *s)
{
    return s->file[s->n - 1].first + s->file[s->n - 1].count;
}

static shard *holder(const kdi_shards *s, size_t i)
{
    size_t k = s->n - 1;
    while (i < s->file[k].first) {
        k--;
    }
    return &s->file[k];
}

kdi_raw kdi_shards_at(const kdi_shards *s, size_t i)
{
    const shard *f = holder(s, i);
    if (f->pth != NULL) {
        const kd_pth_tensor *t = kd_pth_at(f->pth, i - f->first);
        return (kdi_raw){t->name, t->dtype, t->rank, t->dim, t->count, t->bytes};
    }
    const kd_st_entry *e = kd_st_at(f->st, i - f->first);
    return (kdi_raw){e->name, e->dtype, e->rank, e->dim, e->count, e->bytes};
}

kd_status kdi_shards_read(kdi_shards *s, size_t i, void *dst, kd_err *err)
{
    shard *f = holder(s, i);
    if (f->pth != NULL) {
        return kd_pth_read(f->pth, kd_pth_at(f->pth, i - f->first), dst, err);
    }
    const kd_st_entry *e = kd_st_at(f->st, i - f->first);
    if (e->bytes > 0) {
        memcpy(dst, e->data, e->bytes);
    }
    return KD_OK;
}

kd_status kdi_shards_sha256(const kdi_shards *s, char hex[KD_SHA256_HEX], kd_err *err)
{
    char *text = kd_strdup("");
    kd_status st = text != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "%s: out of memory", s->dir);
    for (size_t k = 0; k < s->n && st == KD_OK; k++) {
        char one[KD_SHA256_HEX];
        char *path = kd_path_join(s->dir, s->file[k].name);
        st = path != NULL ? kd_sha256_file(path, one, err) : KD_FAIL(err, KD_E_OOM, "%s: out of memory", s->dir);
        char *more = st == KD_OK ? kd_strf("%s%s  %s\n", text, one, s->file[k].name) : NULL;
        if (st == KD_OK && more == NULL) {
            st = KD_FAIL(err, KD_E_OOM, "%s: out of memory", s->dir);
        }
        kd_free(path);
        kd_free(text);
        text = more;
    }
    if (st == KD_OK) {
        st = kd_sha256(text, strlen(text), hex, err);
    }
    kd_free(text);
    return st;
}
