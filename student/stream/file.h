/* The deployment file: a strict reader of safetensors, for liblast alone (formats/weights has the toolkit's; liblast
 * takes no library and little memory).
 *
 * Layout: u64 little-endian N; N bytes of JSON {"name": {"dtype", "shape", "data_offsets": [begin, end]}, ...,
 * "__metadata__": {string: string}}; then the data.  Refused (KD_E_FORMAT): what is not that, with the place; N above
 * KD_LAST_HEADER_BYTES or beyond the file; more than KD_LAST_TENSORS tensors or KD_LAST_PAIRS pairs; a name twice; a
 * control character or a zero in a text; invalid UTF-8; a number that is no plain whole one; ranges that, sorted, do
 * not begin at 0, touch each other and end with the file; a shape that is not its range. */
#ifndef KD_STUDENT_STREAM_FILE_H
#define KD_STUDENT_STREAM_FILE_H

#include "kernels/kd_base.h"

enum {
    KD_LAST_FILE_BYTES = 1 << 28,
    KD_LAST_HEADER_BYTES = 1 << 20,
    KD_LAST_TENSORS = 4096,
    KD_LAST_PAIRS = 256,
    KD_LAST_RANK = 8
};

typedef struct kd_last_tensor {
    const char *name;
    char dtype[8]; /* "F32" */
    int rank;
    int64_t dim[KD_LAST_RANK];
    size_t begin, end; /* of its bytes among the data */
} kd_last_tensor;

typedef struct kd_last_pair {
    const char *key, *value;
} kd_last_pair;

typedef struct kd_last_file {
    kd_last_tensor *tensor; /* [n_tensors], by name */
    kd_last_pair *pair;     /* [n_pairs], as in the file */
    int n_tensors, n_pairs;
    char *text;          /* names and values */
    const uint8_t *data; /* borrowed from the caller's bytes */
} kd_last_file;

/* `bytes` stay the caller's until kd_last_file_free. */
KD_NODISCARD kd_status kd_last_file_parse(const void *file, size_t bytes, kd_last_file *out, kd_err *err);
void kd_last_file_free(kd_last_file *f); /* zeroed is legal */

const kd_last_tensor *kd_last_file_find(const kd_last_file *f, const char *name); /* NULL: absent */

/* A whole regular file of at most KD_LAST_FILE_BYTES; kd_free. */
KD_NODISCARD kd_status kd_last_file_read(const char *path, void **out, size_t *bytes, kd_err *err);

#endif
