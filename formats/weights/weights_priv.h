/* Inside of weights: tensors as a file has them, files that share one set of weights, what saving asks. */
#ifndef KD_FORMATS_WEIGHTS_WEIGHTS_PRIV_H
#define KD_FORMATS_WEIGHTS_WEIGHTS_PRIV_H

#include "formats/weights/weights.h"

/* The map in force; NULL: names are the file's. */
const kd_name_map *kdi_weights_map(const kd_weights *w);

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

#endif
