/* PyTorch files (.pth, .pt, .bin): reader and writer of the tensors of a state dict.
 *
 * Read: the zip form (torch >= 1.6) and the older five-pickle form; not the tar form (before
 * 0.1.10), which is refused with advice.  The pickle is read by the inert reader of pickle.h:
 * nothing in the file is executed, and what is no tensor (optimizer, argparse.Namespace, numpy
 * scalars, ...) is passed over.  Tensors are torch._utils._rebuild_tensor, _v2, _v3 and
 * _rebuild_parameter over storages of float, double, half, bfloat16, long, int, short, char, byte,
 * bool and complex64; views may be strided and share storages; every view is checked against its
 * storage.  A value of the state dict that is built by any other torch function is an error
 * (KD_E_FORMAT), because leaving it out silently would lose a weight.
 *
 * The state dict is searched from the top: model, module, state_dict, model_state_dict, model_ema,
 * student, teacher (the first one present that holds tensors, up to three levels deep), else the top
 * dictionary itself.
 *
 * Zip members may be stored, as torch.save writes them, or deflated, as an archive that was packed again holds them;
 * their CRC is checked when a tensor is read.  A deflated storage is unpacked when a tensor of it is read and kept
 * until one of another storage is: memory stays below the largest storage.  It must unpack to the bytes its tensors
 * name, the pickle to at most 64 MiB, and the archive must not claim more than a packed file can hold
 * (kd_zip_check_claims).
 */
#ifndef KD_FORMATS_WEIGHTS_PTH_H
#define KD_FORMATS_WEIGHTS_PTH_H

#include "formats/weights/safetensors.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KD_PTH_MAX_RANK 16

typedef struct kd_pth_tensor {
    const char *name; /* as in the file */
    kd_st_dtype dtype;
    size_t rank;
    int64_t dim[KD_PTH_MAX_RANK];
    int64_t stride[KD_PTH_MAX_RANK]; /* elements */
    size_t count;
    size_t bytes;    /* of the tensor when contiguous */
    bool contiguous; /* row-major in the file */
    uint64_t offset; /* of the first element in its storage, in bytes; any alignment */
    size_t storage;  /* index of its storage */
} kd_pth_tensor;

typedef struct kd_pth kd_pth;

/* key: where the state dict is ("model_ema", "checkpoint.teacher"), before those that are searched; "", or a key that
 * holds no tensors: the search decides, and kd_pth_key says where. */
KD_NODISCARD kd_status kd_pth_open(const char *path, const char *key, kd_pth **out, kd_err *err);
KD_NODISCARD kd_status kd_pth_parse(const void *data, size_t bytes, const char *origin, kd_pth **out,
                                    kd_err *err); /* data stay the caller's until close */
void kd_pth_close(kd_pth *p);

size_t kd_pth_count(const kd_pth *p);
const kd_pth_tensor *kd_pth_at(const kd_pth *p, size_t i);           /* in the order of the dict */
const kd_pth_tensor *kd_pth_find(const kd_pth *p, const char *name); /* NULL when absent */
const char *kd_pth_key(const kd_pth *p); /* where the dict was found: "model", "" for the top */

/* Elements in row-major order, in the dtype of the file; dst holds t->bytes.  Checks the storage's
 * CRC the first time: KD_E_INTEGRITY.  Of a packed storage also KD_E_DATA (its size is not what it claims) and
 * KD_E_UNSUPPORTED (packed otherwise than by deflate).  Not to be called from two threads at once. */
KD_NODISCARD kd_status kd_pth_read(kd_pth *p, const kd_pth_tensor *t, void *dst, kd_err *err);

/* ---- writing --------------------------------------------------------------------------------- */

/* A zip-form file with the state dict {key: OrderedDict(name: tensor)}, or the bare OrderedDict
 * when key is NULL; loads with torch.load, weights_only included.  data of every tensor must be
 * given.  Atomic. */
KD_NODISCARD kd_status kd_pth_write(const char *path, const char *key, const kd_st_tensor *t, size_t n, kd_err *err);

/* The same, asking for the data of tensor i when it is needed: *data stays valid until the next
 * call. */
typedef kd_status (*kd_pth_source)(void *ctx, size_t i, const void **data, kd_err *err);
KD_NODISCARD kd_status kd_pth_write_from(const char *path, const char *key, const kd_st_tensor *t, size_t n,
                                         kd_pth_source source, void *ctx, kd_err *err);

#ifdef __cplusplus
}
#endif
#endif
