/* Weights by path, whatever they came in.
 *
 * A path may be a safetensors file; a .pth/.pt/.bin of torch.save; a .npz of NumPy, its arrays by name (all told by
 * content, not by suffix);
 * a checkpoint directory of ours; a run directory (its checkpoints/best, else checkpoints/last); a
 * directory as Hugging Face or DeepSpeed write it (model.safetensors, pytorch_model.bin, the .index.json of either
 * where the weights are in several files, mp_rank_00_model_states.pt).
 *
 * Names.  A name map (kernels/kd_names.h) translates the names of files into those of its model, if one of the tensors
 * shows that the weights are that model's; several tensors of a file may then become one.  Without a map, and for other
 * models, names are kept, but for a module. or _orig_mod. that every name carries.  Two tensors with one name after
 * that are an error.
 */
#ifndef KD_FORMATS_WEIGHTS_WEIGHTS_H
#define KD_FORMATS_WEIGHTS_WEIGHTS_H

#include "formats/base/hash.h"
#include "formats/weights/safetensors.h"
#include "kernels/kd_names.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KD_WEIGHTS_MAX_RANK 8

typedef struct kd_weight {
    char *name;            /* after translation */
    const char *file_name; /* in the file; of the first part when stacked */
    kd_st_dtype dtype;
    size_t rank;
    int64_t dim[KD_WEIGHTS_MAX_RANK];
    size_t count; /* elements */
    size_t bytes;
    int part[3]; /* tensors of the file stacked along dimension 0; -1: none */
    float *own;  /* the values, where no file holds them (kd_weights_add); NULL: a file does */
} kd_weight;

typedef struct kd_weights kd_weights;

/* map: NULL keeps the names of the file; else it must outlive the weights. */
KD_NODISCARD kd_status kd_weights_open(const char *path, const kd_name_map *map, kd_weights **out, kd_err *err);
/* Of a file that holds several weights (a model and its average, a teacher and a student): those of `key`, a dictionary
 * of a torch file ("model_ema"), else what begins all names of the weights, without its dot ("ema").  "": as above.
 * KD_E_DATA: the file has none. */
KD_NODISCARD kd_status kd_weights_open_key(const char *path, const char *key, const kd_name_map *map, kd_weights **out,
                                           kd_err *err);
void kd_weights_close(kd_weights *w); /* NULL is legal */

size_t kd_weights_count(const kd_weights *w);
const kd_weight *kd_weights_at(const kd_weights *w, size_t i);           /* in the order of the file */
const kd_weight *kd_weights_find(const kd_weights *w, const char *name); /* translated name; NULL when absent */

/* Elements in row-major order as f32 (dst holds t->count), or in the dtype of the file (dst holds
 * t->bytes). KD_E_INTEGRITY: the bytes do not have their checksum; KD_E_DTYPE: no reading as f32.
 * One thread at a time. */
KD_NODISCARD kd_status kd_weights_read_f32(kd_weights *w, const kd_weight *t, float *dst, kd_err *err);
KD_NODISCARD kd_status kd_weights_read_raw(kd_weights *w, const kd_weight *t, void *dst, kd_err *err);

const char *kd_weights_file(const kd_weights *w);    /* the file really read */
const char *kd_weights_format(const kd_weights *w);  /* "safetensors", "pth", "npz", "sharded", "checkpoint" */
const char *kd_weights_key(const kd_weights *w);     /* .pth: where the state dict was ("model"), else "" */
bool kd_weights_mapped(const kd_weights *w);         /* the tensors are those of the map's model */
int kd_weights_dialect(const kd_weights *w);         /* what the file used, of the map's; 0 where not mapped */
const kd_json *kd_weights_meta(const kd_weights *w); /* a checkpoint's state; {"classes"} of a Hugging Face folder
                                                      * that names them; else safetensors metadata; may be NULL */
size_t kd_weights_dropped(const kd_weights *w);      /* tensors that the map left out */

/* SHA-256 of the file (reads all of it); of several files, of the lines that sha256sum prints of them. */
KD_NODISCARD kd_status kd_weights_sha256(const kd_weights *w, char hex[KD_SHA256_HEX], kd_err *err);

/* Add a tensor that the file lacks, to be written with the others; v is copied.  KD_E_DATA: there is one of that name.
 */
KD_NODISCARD kd_status kd_weights_add(kd_weights *w, const char *name, const int64_t *dim, size_t rank, const float *v,
                                      kd_err *err);

/* The last of n weights of one model takes the mean of all: floating-point tensors, summed in f64 and f32 from then on;
 * integers stay.  KD_E_DATA: other tensors or shapes. */
KD_NODISCARD kd_status kd_weights_average(kd_weights *const *w, size_t n, kd_err *err);

/* Write all tensors under the names of a dialect of the map (0 where not mapped); `dtype` (KD_F32, KD_BF16, KD_F16)
 * converts floating-point tensors, NULL keeps them.  A path ending in .pth, .pt or .bin gives a torch file
 * (state dict under the dialect's key; "model" where not mapped), one in .safetensors a safetensors file.  KD_E_ARG:
 * another ending, or a tensor has no name there. */
KD_NODISCARD kd_status kd_weights_save(kd_weights *w, const char *path, int dialect, const kd_dtype *dtype,
                                       kd_err *err);

#ifdef __cplusplus
}
#endif
#endif
