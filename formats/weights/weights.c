/* Weights by path: see weights.h. */
#include "formats/weights/weights.h"

#include "formats/base/io.h"
#include "formats/weights/checkpoint.h"
#include "formats/weights/hf.h"
#include "formats/weights/npy_write.h"
#include "formats/weights/pth.h"
#include "formats/weights/weights_priv.h"

#include <stdlib.h>

#define NPZ_MEMBER_BYTES ((size_t)1 << 33) /* of an array that is packed */

/* ---- the tensors of the file, whatever it is ------------------------------------------------- */

size_t kdi_weights_raw_count(const kd_weights *w)
{
    return w->shards != NULL ? kdi_shards_count(w->shards)
           : w->pth != NULL  ? kd_pth_count(w->pth)
           : w->npz != NULL  ? kd_npz_count(w->npz)
                             : kd_st_count(w->tensors);
}

kdi_raw kdi_weights_raw(const kd_weights *w, size_t i)
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

/* What a file of another kind is; NULL: not known. */
static const char *other_kind(const char *path, const kd_map *map)
{
    static const struct {
        size_t at;
        const char *bytes, *what;
    } kind[] = {{0, "\x89HDF\r\n\x1a\n", "an HDF5 file"},
                {0, "GGUF", "a GGUF file"},
                {4, "TFL3", "a TensorFlow Lite file"},
                {0, "\x50\x2a\x4d\x18", "a store of logits (kd.store, --teacher-logits)"},
                {0, "\x28\xb5\x2f\xfd", "a zstd file: unpack it"}};
    for (size_t i = 0; i < KD_COUNTOF(kind); i++) {
        const size_t n = strlen(kind[i].bytes);
        if (map->bytes >= kind[i].at + n && memcmp(map->data + kind[i].at, kind[i].bytes, n) == 0) {
            return kind[i].what;
        }
    }
    return kd_path_has_suffix(path, ".onnx")
               ? "an ONNX file: take the checkpoint, .safetensors or .pth that it was exported from"
               : NULL;
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
    const char *other = pth || tar ? NULL : other_kind(path, &map);
    kd_io_unmap(&map);
    if (other != NULL) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: expected weights (safetensors, .pth, .npz, a checkpoint), found %s", path,
                       other);
    }
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

static kd_status open_dir(kd_weights *w, const char *path, kd_err *err);

/* DeepSpeed's folder: its file `latest` names the folder of one step. */
static kd_status open_latest(kd_weights *w, const char *path, bool *found, kd_err *err)
{
    enum { NAME = 255 };
    char *file = kd_path_join(path, "latest"), *dir = NULL;
    uint8_t *text = NULL;
    size_t n = 0;
    kd_status st = file != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
    *found = st == KD_OK && kd_path_is_file(file);
    if (*found) {
        KD_GO(kd_io_read_file(file, NAME, &text, &n, err));
        while (n > 0 && strchr(" \t\r\n", text[n - 1]) != NULL) {
            n--;
        }
        dir = kd_strf("%s/%.*s", path, (int)n, (const char *)text);
        if (dir == NULL) {
            st = KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
        } else if (n == 0 || memchr(text, '/', n) != NULL || text[0] == '.' || !kd_path_is_dir(dir)) {
            st = KD_FAIL(err, KD_E_FORMAT, "%s: expected the name of a folder beside it, found '%.*s'", file, (int)n,
                         (const char *)text);
        } else {
            st = open_dir(w, dir, err);
        }
    }
done:
    kd_free(dir);
    kd_free(text);
    kd_free(file);
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
    bool latest = false;
    const kd_status st_latest = open_latest(w, path, &latest, err);
    return latest || st_latest != KD_OK
               ? st_latest
               : KD_FAIL(err, KD_E_IO,
                         "%s: no weights in this directory (looked for state.json, checkpoints/best, "
                         "checkpoints/last, model.safetensors, pytorch_model.bin, their .index.json, "
                         "mp_rank_00_model_states.pt, latest)",
                         path);
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
    KD_GO(kdi_weights_name(w, map, err));
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
        p += kdi_weights_raw(w, i).bytes;
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
