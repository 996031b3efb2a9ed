/* Weights by path: see weights.h. */
#include "formats/weights/weights.h"

#include "formats/base/io.h"
#include "formats/weights/checkpoint.h"
#include "formats/weights/hf.h"
#include "formats/weights/npy.h"
#include "formats/weights/pth.h"
#include "formats/weights/weights_priv.h"

#include <stdlib.h>

#define MAX_TENSORS      65536
#define NPZ_MEMBER_BYTES ((size_t)1 << 33) /* of an array that is packed */

struct kd_weights {
    char *file;
    const char *format;
    kd_st_file *st; /* one of st, ck (through its group), pth, npz and shards is the source */
    kd_ckpt *ck;
    kd_pth *pth;
    kd_npz *npz;
    kdi_shards *shards;
    kd_json *hf; /* {"classes": [...]} of a Hugging Face folder that names them; NULL: none */
    struct npz_array {
        kd_npy a;
        kd_st_dtype dtype;
    } * array;                 /* [count of npz] */
    const kd_st_file *tensors; /* of st or ck */
    kd_weight *t;
    size_t *by_name; /* indices into t, sorted by name */
    size_t count;
    size_t dropped;
    const kd_name_map *map; /* NULL: names are the file's */
    int dialect;
    const char *wanted; /* which weights of the file; while opening */
    size_t aside;       /* tensors of other weights */
};

/* ---- the tensors of the file, whatever it is ------------------------------------------------- */

static size_t raw_count(const kd_weights *w)
{
    return w->shards != NULL ? kdi_shards_count(w->shards)
           : w->pth != NULL  ? kd_pth_count(w->pth)
           : w->npz != NULL  ? kd_npz_count(w->npz)
                             : kd_st_count(w->tensors);
}

static kdi_raw raw_at(const kd_weights *w, size_t i)
{
    if (w->shards != NULL) {
        return kdi_shards_at(w->shards, i);
    }
    if (w->pth != NULL) {
        const kd_pth_tensor *t = kd_pth_at(w->pth, i);
        return (kdi_raw){t->name, t->dtype, t->rank, t->dim, t->count, t->bytes};
    }
    if (w->npz != NULL) {
        const kd_npy *a = &w->array[i].a;
        return (kdi_raw){kd_npz_name(w->npz, i), w->array[i].dtype, a->rank, a->dim, a->count, a->bytes};
    }
    const kd_st_entry *e = kd_st_at(w->tensors, i);
    return (kdi_raw){e->name, e->dtype, e->rank, e->dim, e->count, e->bytes};
}

/* ---- finding the file ------------------------------------------------------------------------ */

static kd_status open_checkpoint(kd_weights *w, const char *dir, kd_err *err)
{
    KD_TRY(kd_ckpt_open_last(dir, &w->ck, err));
    w->tensors = kd_ckpt_tensors(w->ck, "model");
    if (w->tensors == NULL) {
        return KD_FAIL(err, KD_E_DATA, "%s: a checkpoint without model.safetensors", dir);
    }
    w->format = "checkpoint";
    w->file = kd_path_join(kd_ckpt_dir(w->ck), "model.safetensors");
    return w->file != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "%s: out of memory", dir);
}

static kd_status open_npz(kd_weights *w, const char *path, kd_err *err)
{
    w->format = "npz";
    KD_TRY(kd_npz_open(path, NPZ_MEMBER_BYTES, &w->npz, err));
    const size_t n = kd_npz_count(w->npz);
    w->array = kd_calloc(n + 1, sizeof *w->array);
    if (w->array == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for %zu arrays", path, n);
    }
    for (size_t i = 0; i < n; i++) {
        const char *name = kd_npz_name(w->npz, i);
        KD_TRY(kd_npz_get(w->npz, name, &w->array[i].a, err));
        if (!kd_npy_dtype(&w->array[i].a, &w->array[i].dtype)) {
            return KD_FAIL(err, KD_E_DTYPE, "%s: array %s: expected numbers, found text", path, name);
        }
    }
    return KD_OK;
}

/* A zip file whose first member is an array of NumPy; the first of torch.save is a pickle. */
static bool is_npz(const kd_map *map)
{
    enum { NAME_LENGTH = 26, NAME = 30 }; /* of a local file header */
    if (map->bytes < NAME || memcmp(map->data, "PK\3\4", 4) != 0) {
        return false;
    }
    const size_t n = map->data[NAME_LENGTH] | (size_t)map->data[NAME_LENGTH + 1] << 8;
    return n > 4 && n <= map->bytes - NAME && memcmp(map->data + NAME + n - 4, ".npy", 4) == 0;
}

static kd_status open_file(kd_weights *w, const char *path, kd_err *err)
{
    kd_map map;
    if (kdi_is_shard_index(path)) {
        w->file = kd_strdup(path);
        w->format = "sharded";
        return w->file != NULL ? kdi_shards_open(path, &w->shards, err) : KD_FAIL(err, KD_E_OOM, "%s", path);
    }
    KD_TRY(kd_io_map(path, &map, err));
    if (map.bytes == 0) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: expected weights, found an empty file", path);
    }
    const bool pth =
        map.bytes >= 4 && (memcmp(map.data, "PK\3\4", 4) == 0 || (map.data[0] == 0x80 && map.data[1] <= 5));
    const bool tar = map.bytes >= 262 && memcmp(map.data + 257, "ustar", 5) == 0;
    /* a safetensors file has '{' at byte 8; its length may begin with any byte */
    const bool json = map.bytes > 8 && map.data[8] == '{';
    const bool npz = is_npz(&map);
    kd_io_unmap(&map);
    w->file = kd_strdup(path);
    if (w->file == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
    }
    if (npz) {
        return open_npz(w, path, err);
    }
    if ((pth && !json) || tar) {
        w->format = "pth";
        return kd_pth_open(path, w->wanted, &w->pth, err);
    }
    w->format = "safetensors";
    const kd_status st = kd_st_open(path, &w->st, err);
    w->tensors = w->st;
    return st;
}

/* `last` stands in for `best` while no epoch has been measured, not after `best` was lost. */
static kd_status check_no_best(const kd_weights *w, const char *run, kd_err *err)
{
    const kd_json *training = kd_json_get(kd_ckpt_state(w->ck), "training");
    int64_t best = -1;
    KD_TRY(kd_json_opt_i64(training, "best_epoch", -1, &best, err));
    if (best >= 0) {
        return KD_FAIL(err, KD_E_DATA,
                       "%s: checkpoints/best is gone (it was epoch %lld); name %s/checkpoints/last to "
                       "take the last weights instead",
                       run, (long long)best + 1, run);
    }
    kd_log(KD_LOG_WARN, "%s: no epoch has been measured: taking checkpoints/last", run);
    return KD_OK;
}

/* The checkpoint that a directory is, or that of a run.  *found: there is one, and it was opened or cannot be. */
static kd_status open_checkpoint_of(kd_weights *w, const char *path, bool *found, kd_err *err)
{
    char *state = kd_path_join(path, "state.json"), *best = kd_path_join(path, "checkpoints/best");
    char *last = kd_path_join(path, "checkpoints/last");
    kd_status st = KD_OK;
    if (state == NULL || best == NULL || last == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
        goto done;
    }
    KD_GO(kd_io_exists(state, found, err));
    if (*found) {
        st = open_checkpoint(w, path, err);
        goto done;
    }
    KD_GO(kd_ckpt_exists(best, found, err));
    if (*found) {
        st = open_checkpoint(w, best, err);
        goto done;
    }
    KD_GO(kd_ckpt_exists(last, found, err));
    if (*found) {
        KD_GO(open_checkpoint(w, last, err));
        st = check_no_best(w, path, err);
    }
done:
    kd_free(state);
    kd_free(best);
    kd_free(last);
    return st;
}

static kd_status open_dir(kd_weights *w, const char *path, kd_err *err)
{
    static const char *const files[] = {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
                                        "pytorch_model.bin.index.json", "mp_rank_00_model_states.pt"};
    bool checkpoint = false;
    const kd_status st_checkpoint = open_checkpoint_of(w, path, &checkpoint, err);
    if (checkpoint || st_checkpoint != KD_OK) {
        return st_checkpoint;
    }
    for (size_t i = 0; i < KD_COUNTOF(files); i++) {
        char *file = kd_path_join(path, files[i]);
        if (file == NULL) {
            return KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
        }
        const bool found = kd_path_is_file(file);
        const kd_status st = found ? open_file(w, file, err) : KD_OK;
        kd_free(file);
        if (found) {
            return st;
        }
    }
    return KD_FAIL(err, KD_E_IO,
                   "%s: no weights in this directory (looked for state.json, checkpoints/best, "
                   "checkpoints/last, model.safetensors, pytorch_model.bin, their .index.json)",
                   path);
}

/* ---- names ----------------------------------------------------------------------------------- */

/* The map applies if one name gives its dialect away. */
static void detect(kd_weights *w, const kd_name_map *map)
{
    for (size_t i = 0; map != NULL && i < raw_count(w); i++) {
        const int dialect = map->tell(raw_at(w, i).name);
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
    for (size_t k = 0; k < KD_COUNTOF(prefix) && raw_count(w) > 0;) {
        const size_t n = strlen(prefix[k]);
        bool all = true;
        for (size_t i = 0; i < raw_count(w) && all; i++) {
            const char *name = raw_at(w, i).name;
            all = strlen(name) > used && strncmp(name + used, prefix[k], n) == 0;
        }
        used += all ? n : 0;
        k = all ? 0 : k + 1;
    }
    return used;
}

/* Add tensor i of the file under `name`, or stack it onto the one that has that name already. */
static kd_status add(kd_weights *w, size_t i, const char *name, int part, kd_err *err)
{
    const kdi_raw r = raw_at(w, i);
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
    const char *name = raw_at(w, i).name;
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

static kd_status build(kd_weights *w, const kd_name_map *map, kd_err *err)
{
    const size_t n = raw_count(w);
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
            KD_TRY(add(w, i, m.official[0] != '\0' ? m.official : m.plain, m.part, err));
        }
    }
    if (w->aside > 0 && w->aside == n) {
        return KD_FAIL(err, KD_E_DATA,
                       "%s: no weights of key '%s': neither a dictionary nor the start of a name is '%s' "
                       "(the first is %s)",
                       w->file, w->wanted, w->wanted, raw_at(w, 0).name);
    }
    KD_TRY(drop_fixed(w, err));
    return check_names(w, err);
}

/* ---- open and close -------------------------------------------------------------------------- */

static kd_status read_classes(kd_weights *w, const char *path, kd_err *err)
{
    kd_json *config = NULL;
    KD_TRY(kd_hf_config(path, &config, NULL, err));
    kd_status st = KD_OK;
    if (config != NULL) {
        w->hf = kd_json_object();
        kd_json *names = kd_json_set_array(w->hf, "classes");
        st = names != NULL ? kd_hf_class_names(config, names, err) : KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
        if (st == KD_OK && kd_json_count(names) == 0) {
            kd_json_free(w->hf);
            w->hf = NULL;
        }
    }
    kd_json_free(config);
    return st;
}

kd_status kd_weights_open(const char *path, const kd_name_map *map, kd_weights **out, kd_err *err)
{
    return kd_weights_open_key(path, "", map, out, err);
}

kd_status kd_weights_open_key(const char *path, const char *key, const kd_name_map *map, kd_weights **out, kd_err *err)
{
    *out = NULL;
    kd_status st = KD_OK;
    kd_weights *w = kd_calloc(1, sizeof *w);
    if (w == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
    }
    w->wanted = key;
    KD_GO(kd_path_is_dir(path) ? open_dir(w, path, err) : open_file(w, path, err));
    KD_GO(build(w, map, err));
    KD_GO(read_classes(w, path, err));
    *out = w;
    w = NULL;
done:
    kd_weights_close(w);
    return st;
}

void kd_weights_close(kd_weights *w)
{
    if (w == NULL) {
        return;
    }
    for (size_t i = 0; i < w->count; i++) {
        kd_free(w->t[i].name);
        kd_free(w->t[i].own);
    }
    kd_free(w->t);
    kd_free(w->by_name);
    kd_free(w->file);
    kd_st_close(w->st);
    kd_ckpt_close(w->ck);
    kd_pth_close(w->pth);
    kd_npz_close(w->npz);
    kdi_shards_close(w->shards);
    kd_json_free(w->hf);
    kd_free(w->array);
    kd_free(w);
}

size_t kd_weights_count(const kd_weights *w)
{
    return w->count;
}

const kd_weight *kd_weights_at(const kd_weights *w, size_t i)
{
    return i < w->count ? &w->t[i] : NULL;
}

const kd_weight *kd_weights_find(const kd_weights *w, const char *name)
{
    size_t lo = 0;
    size_t hi = w->count;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        const kd_weight *t = &w->t[w->by_name[mid]];
        const int c = strcmp(t->name, name);
        if (c == 0) {
            return t;
        }
        if (c < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return NULL;
}

const char *kd_weights_file(const kd_weights *w)
{
    return w->file;
}

const char *kd_weights_format(const kd_weights *w)
{
    return w->format;
}

const char *kd_weights_key(const kd_weights *w)
{
    return w->pth != NULL ? kd_pth_key(w->pth) : "";
}

bool kd_weights_mapped(const kd_weights *w)
{
    return w->map != NULL;
}

const kd_name_map *kdi_weights_map(const kd_weights *w)
{
    return w->map;
}

int kd_weights_dialect(const kd_weights *w)
{
    return w->dialect;
}

const kd_json *kd_weights_meta(const kd_weights *w)
{
    if (w->ck != NULL) {
        return kd_ckpt_state(w->ck);
    }
    if (w->hf != NULL) {
        return w->hf;
    }
    return w->st != NULL ? kd_st_meta_all(w->st) : NULL;
}

size_t kd_weights_dropped(const kd_weights *w)
{
    return w->dropped;
}

kd_status kd_weights_sha256(const kd_weights *w, char hex[KD_SHA256_HEX], kd_err *err)
{
    return w->shards != NULL ? kdi_shards_sha256(w->shards, hex, err) : kd_sha256_file(w->file, hex, err);
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

/* ---- reading --------------------------------------------------------------------------------- */

kd_status kd_weights_read_raw(kd_weights *w, const kd_weight *t, void *dst, kd_err *err)
{
    uint8_t *p = dst;
    if (t->own != NULL) {
        memcpy(dst, t->own, t->bytes);
        return KD_OK;
    }
    for (size_t k = 0; k < KD_COUNTOF(t->part); k++) {
        if (t->part[k] < 0) {
            continue;
        }
        const size_t i = (size_t)t->part[k];
        if (w->shards != NULL) {
            KD_TRY(kdi_shards_read(w->shards, i, p, err));
        } else if (w->pth != NULL) {
            KD_TRY(kd_pth_read(w->pth, kd_pth_at(w->pth, i), p, err));
        } else if (w->npz != NULL) {
            kd_npy_copy(&w->array[i].a, p);
        } else {
            const kd_st_entry *e = kd_st_at(w->tensors, i);
            if (e->bytes > 0) {
                memcpy(p, e->data, e->bytes);
            }
        }
        p += raw_at(w, i).bytes;
    }
    return KD_OK;
}

kd_status kd_weights_read_f32(kd_weights *w, const kd_weight *t, float *dst, kd_err *err)
{
    if (t->dtype == KD_ST_F32) {
        return kd_weights_read_raw(w, t, dst, err);
    }
    void *bytes = kd_alloc(t->bytes + 1);
    if (bytes == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for %s", w->file, t->name);
    }
    kd_status st = kd_weights_read_raw(w, t, bytes, err);
    if (st == KD_OK && !kd_st_to_f32(t->dtype, bytes, t->count, dst)) {
        st = KD_FAIL(err, KD_E_DTYPE, "%s: tensor %s: %s cannot be read as f32", w->file, t->name,
                     kd_st_dtype_name(t->dtype));
    }
    kd_free(bytes);
    return st;
}
