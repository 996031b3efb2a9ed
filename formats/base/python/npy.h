/* NumPy files: .npy and .npz (a zip of .npy), strict reader.
 *
 * .npy: "\x93NUMPY", version, header length, a Python dictionary literal {'descr': '<f4',
 * 'fortran_order': False, 'shape': (10, 3), }, data.  The header is read by a small literal parser,
 * never evaluated.  Versions 1, 2 and 3. Element types: b1, i1 to i8, u1 to u8, f2, f4, f8 of
 * either byte order, S and U strings.  Refused: object arrays (pickles), structured types, a shape
 * whose size overflows or is not the size of the data.  Column-major (Fortran) arrays and
 * big-endian ones are read; data are always handed out row-major and little-endian. Source: the
 * format's specification in NumPy's documentation.
 */
#ifndef KD_FORMATS_BASE_PYTHON_NPY_H
#define KD_FORMATS_BASE_PYTHON_NPY_H

#include "kernels/kd_base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KD_NPY_MAX_RANK 8

typedef struct kd_npy {
    char kind;    /* 'b' 'i' 'u' 'f' 'S' (bytes, NUL padded) 'U' (UCS-4, NUL padded) */
    size_t item;  /* bytes an element */
    bool swapped; /* big-endian in the file */
    bool fortran; /* column-major in the file */
    size_t rank;
    int64_t dim[KD_NPY_MAX_RANK];
    size_t count;
    size_t bytes;        /* count * item */
    const uint8_t *data; /* as in the file */
} kd_npy;

/* Header of an array in memory; `data` points into it.  Trailing bytes are an error.  KD_E_FORMAT,
 * KD_E_UNSUPPORTED. */
KD_NODISCARD kd_status kd_npy_parse(const void *data, size_t bytes, const char *origin, kd_npy *out, kd_err *err);

/* An array of the element type `descr` ("<f4") over `bytes` bytes at data; rank, dim and fortran of *a are set by the
 * caller, the rest here.  KD_E_FORMAT, KD_E_UNSUPPORTED. */
KD_NODISCARD kd_status kd_npy_of(const char *descr, const void *data, size_t bytes, const char *origin, kd_npy *a,
                                 kd_err *err);

/* count * item bytes, row-major, little-endian; any byte order and array order of the file. */
void kd_npy_copy(const kd_npy *a, void *dst);

/* Element i along the first dimension, as an array of its own that points into `a`.  false: `a` has no such element, or
 * is column-major, where the numbers of an element do not lie together. */
bool kd_npy_row(const kd_npy *a, size_t i, kd_npy *out);

/* The same as kd_npy_copy as f32 (count floats), i64 (integers and booleans only).  KD_E_DTYPE when the kind does
 * not allow it. */
KD_NODISCARD kd_status kd_npy_to_f32(const kd_npy *a, float *dst, kd_err *err);
KD_NODISCARD kd_status kd_npy_to_i64(const kd_npy *a, int64_t *dst, kd_err *err);

/* Element i of a string array as UTF-8 (kd_free); NULL when out of memory, not a string array or no
 * valid code point. */
char *kd_npy_text(const kd_npy *a, size_t i);

/* A file: mapped until kd_npy_close.  Row-major little-endian files can be used in place through
 * a.data. */
typedef struct kd_npy_file kd_npy_file;
KD_NODISCARD kd_status kd_npy_open(const char *path, kd_npy_file **out, kd_err *err);
const kd_npy *kd_npy_array(const kd_npy_file *f);
void kd_npy_close(kd_npy_file *f); /* NULL is legal */

/* An archive.  Stored members are used in place, deflated ones are unpacked on first use (at most
 * max_bytes each). */
typedef struct kd_npz kd_npz;
KD_NODISCARD kd_status kd_npz_open(const char *path, size_t max_bytes, kd_npz **out, kd_err *err);
size_t kd_npz_count(const kd_npz *z);
const char *kd_npz_name(const kd_npz *z, size_t i); /* without ".npy"; NULL when out of range */
/* Array of this name, valid until kd_npz_close.  KD_E_DATA when absent; KD_E_INTEGRITY when its CRC
 * is wrong. */
KD_NODISCARD kd_status kd_npz_get(kd_npz *z, const char *name, kd_npy *out, kd_err *err);
void kd_npz_close(kd_npz *z); /* NULL is legal */

#ifdef __cplusplus
}
#endif
#endif
