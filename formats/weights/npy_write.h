/* NumPy files of tensors: the writer of .npy and .npz, and the safetensors type of an array.
 *
 * Written: a version 1 header, data at a multiple of 64, little-endian, row-major, atomic.  Errors: KD_E_DTYPE (NumPy
 * has no such type), KD_E_ARG (shape), KD_E_OOM, KD_E_WRITE.
 */
#ifndef KD_FORMATS_WEIGHTS_NPY_WRITE_H
#define KD_FORMATS_WEIGHTS_NPY_WRITE_H

#include "formats/base/python/npy.h"
#include "formats/weights/safetensors.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The safetensors type of a numeric array; false for strings. */
bool kd_npy_dtype(const kd_npy *a, kd_st_dtype *out);

KD_NODISCARD kd_status kd_npy_write(const char *path, const kd_st_tensor *t, kd_err *err); /* t->name is unused */

/* Members <name>.npy, stored, in the given order. */
KD_NODISCARD kd_status kd_npz_write(const char *path, const kd_st_tensor *t, size_t n, kd_err *err);

#ifdef __cplusplus
}
#endif
#endif
