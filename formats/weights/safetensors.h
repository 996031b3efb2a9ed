/* safetensors files: strict reader (memory map) and streaming writer.
 *
 * Layout: u64 little-endian N; N bytes of JSON {"name": {"dtype", "shape", "data_offsets": [begin,
 * end]}, ..., "__metadata__": {string: string}}, padded with blanks so that the data start at a
 * multiple of 8; then the data, row-major, little-endian.  Source: the format's README and the
 * accept/reject rules of its Rust crate.
 *
 * Refused (KD_E_FORMAT): N above 100 000 000 or beyond the file; a header that does not start with
 * '{', is not UTF-8 JSON or repeats a key; an unknown dtype; data ranges that, sorted, do not begin
 * at 0, touch each other exactly and end at the end of the file; a shape whose size overflows, is
 * no whole number of bytes or differs from its range.  Tensors of rank 0 and of size 0 are legal.
 *
 * The writer puts tensors in the order of the Rust crate (dtype by falling width, then name), so
 * equal content gives equal bytes; it writes to a temporary name and renames (formats/base/io.h).
 */
#ifndef KD_FORMATS_WEIGHTS_SAFETENSORS_H
#define KD_FORMATS_WEIGHTS_SAFETENSORS_H

#include "formats/base/json.h"

#ifdef __cplusplus
extern "C" {
#endif

/* tag, name in the file, bits an element; in the order of the Rust crate's enumeration (the writer
 * sorts by it) */
#define KD_ST_DTYPE_MAP(X)                 \
    X(KD_ST_BOOL, "BOOL", 8)               \
    X(KD_ST_F4, "F4", 4)                   \
    X(KD_ST_F6_E2M3, "F6_E2M3", 6)         \
    X(KD_ST_F6_E3M2, "F6_E3M2", 6)         \
    X(KD_ST_U8, "U8", 8)                   \
    X(KD_ST_I8, "I8", 8)                   \
    X(KD_ST_F8_E5M2, "F8_E5M2", 8)         \
    X(KD_ST_F8_E4M3, "F8_E4M3", 8)         \
    X(KD_ST_F8_E5M2FNUZ, "F8_E5M2FNUZ", 8) \
    X(KD_ST_F8_E4M3FNUZ, "F8_E4M3FNUZ", 8) \
    X(KD_ST_F8_E8M0, "F8_E8M0", 8)         \
    X(KD_ST_I16, "I16", 16)                \
    X(KD_ST_U16, "U16", 16)                \
    X(KD_ST_F16, "F16", 16)                \
    X(KD_ST_BF16, "BF16", 16)              \
    X(KD_ST_I32, "I32", 32)                \
    X(KD_ST_U32, "U32", 32)                \
    X(KD_ST_F32, "F32", 32)                \
    X(KD_ST_C64, "C64", 64)                \
    X(KD_ST_F64, "F64", 64)                \
    X(KD_ST_I64, "I64", 64)                \
    X(KD_ST_U64, "U64", 64)

typedef enum kd_st_dtype {
#define KD_ST_DTYPE_ENUM(tag, text, bits) tag,
    KD_ST_DTYPE_MAP(KD_ST_DTYPE_ENUM)
#undef KD_ST_DTYPE_ENUM
        KD_ST_DTYPE_COUNT
} kd_st_dtype;

const char *kd_st_dtype_name(kd_st_dtype t); /* "F32" */
unsigned kd_st_dtype_bits(kd_st_dtype t);
bool kd_st_dtype_parse(const char *text, kd_st_dtype *out);
kd_st_dtype kd_st_dtype_from(kd_dtype t);          /* ours to the file's */
bool kd_st_dtype_to(kd_st_dtype t, kd_dtype *out); /* false: no dtype of ours */

/* n elements of type t at src (any alignment) as float; false for types that have no reading as f32
 * (F4, F6, F8, C64).  Integers and f64 are rounded to nearest. */
bool kd_st_to_f32(kd_st_dtype t, const void *src, size_t n, float *dst);

/* ---- reading --------------------------------------------------------------------------------- */

typedef struct kd_st_entry {
    const char *name; /* owned by the file, like dim and data */
    kd_st_dtype dtype;
    size_t rank;
    const int64_t *dim;  /* rank values; NULL for rank 0 */
    size_t count;        /* elements */
    const uint8_t *data; /* never NULL; 8-aligned only if the writer cared */
    size_t bytes;
} kd_st_entry;

typedef struct kd_st_file kd_st_file;

/* Map and check a file.  kd_st_close unmaps: entries end with it. */
KD_NODISCARD kd_status kd_st_open(const char *path, kd_st_file **out, kd_err *err);

/* The same from memory, which the caller keeps until kd_st_close.  `origin` is what errors call it.
 * */
KD_NODISCARD kd_status kd_st_parse(const void *data, size_t bytes, const char *origin, kd_st_file **out, kd_err *err);
void kd_st_close(kd_st_file *f); /* NULL is legal */

size_t kd_st_count(const kd_st_file *f);
const kd_st_entry *kd_st_at(const kd_st_file *f, size_t i);           /* in the order of the data; NULL past the end */
const kd_st_entry *kd_st_find(const kd_st_file *f, const char *name); /* NULL when absent */
const char *kd_st_meta(const kd_st_file *f, const char *key);         /* value in __metadata__, NULL when absent */
const kd_json *kd_st_meta_all(const kd_st_file *f);                   /* the object; NULL without one */

/* Like kd_st_find, but absent, of another dtype or shape is KD_E_DATA with both values.  rank < 0:
 * any shape. */
KD_NODISCARD kd_status kd_st_need(const kd_st_file *f, const char *name, kd_st_dtype dtype, int rank,
                                  const int64_t *dim, const kd_st_entry **out, kd_err *err);

/* ---- writing --------------------------------------------------------------------------------- */

typedef struct kd_st_tensor {
    const char *name;
    kd_st_dtype dtype;
    size_t rank;
    const int64_t *dim;
    const void *data; /* kd_st_write only */
} kd_st_tensor;

/* Write everything.  `meta` is an object of strings or NULL.  KD_E_ARG: repeated name, negative
 * dimension. */
KD_NODISCARD kd_status kd_st_write(const char *path, const kd_st_tensor *t, size_t n, const kd_json *meta, kd_err *err);

/* The same into memory, kd_free(*out). */
KD_NODISCARD kd_status kd_st_image(const kd_st_tensor *t, size_t n, const kd_json *meta, void **out, size_t *bytes,
                                   kd_err *err);

/* Streaming: begin with the descriptions (copied as far as needed), then for i = 0 .. n-1 put
 * exactly the bytes of tensor kd_st_writer_order(w, i), in any number of pieces; then commit or
 * abort (both free). */
typedef struct kd_st_writer kd_st_writer;
KD_NODISCARD kd_status kd_st_writer_open(const char *path, const kd_st_tensor *t, size_t n, const kd_json *meta,
                                         kd_st_writer **out, kd_err *err);
size_t kd_st_writer_order(const kd_st_writer *w, size_t i); /* index into t */
KD_NODISCARD kd_status kd_st_writer_put(kd_st_writer *w, const void *data, size_t bytes, kd_err *err);
KD_NODISCARD kd_status kd_st_writer_commit(kd_st_writer *w, kd_err *err); /* KD_E_ARG: bytes missing */
void kd_st_writer_abort(kd_st_writer *w);                                 /* NULL is legal */

#ifdef __cplusplus
}
#endif
#endif
