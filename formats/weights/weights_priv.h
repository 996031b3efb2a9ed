/* Inside of weights: tensors as a file has them, files that share one set of weights, what saving asks. */
#ifndef KD_FORMATS_WEIGHTS_WEIGHTS_PRIV_H
#define KD_FORMATS_WEIGHTS_WEIGHTS_PRIV_H

#include "formats/base/python/npy.h"
#include "formats/weights/checkpoint.h"
#include "formats/weights/pth.h"
#include "formats/weights/weights.h"

/* A tensor of a file. */
typedef struct kdi_raw {
    const char *name;
    kd_st_dtype dtype;
    size_t rank;
    const int64_t *dim;
    size_t count;
    size_t bytes;
} kdi_raw;

/* Weights in several files, as Hugging Face writes large ones: an index (model.safetensors.index.json,
 * pytorch_model.bin.index.json) names the file of each tensor. */
typedef struct kdi_shards kdi_shards;

bool kdi_is_shard_index(const char *path);
/* KD_E_DATA: a file or a tensor that the index names is not there, by name. */
KD_NODISCARD kd_status kdi_shards_open(const char *index, kdi_shards **out, kd_err *err);
void kdi_shards_close(kdi_shards *s);                 /* NULL is legal */
size_t kdi_shards_count(const kdi_shards *s);         /* tensors */
kdi_raw kdi_shards_at(const kdi_shards *s, size_t i); /* file by file */
KD_NODISCARD kd_status kdi_shards_read(kdi_shards *s, size_t i, void *dst, kd_err *err);
/* SHA-256 of the lines "digest  name" of the files, in the order of their names: what `sha256sum` prints of them. */
KD_NODISCARD kd_status kdi_shards_sha256(const kdi_shards *s, char hex[KD_SHA256_HEX], kd_err *err);

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

/* The tensors of the file, whatever it is. */
size_t kdi_weights_raw_count(const kd_weights *w);
kdi_raw kdi_weights_raw(const kd_weights *w, size_t i);

/* The tensors under the names of the map's model, where they are its; fills all of *w that concerns tensors. */
KD_NODISCARD kd_status kdi_weights_name(kd_weights *w, const kd_name_map *map, kd_err *err);

#endif
