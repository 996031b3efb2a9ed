/* Logits and features that another program computed, in a file of its own: NumPy's .npz, safetensors, or lines of JSON.
 *
 * What is read, under the names of kd_outside_names (NULL: the default in brackets):
 *   ids [ids]            N strings, each not empty and there once
 *   logits [logits]      (N,K), or (N,V,K) for V views of every sample; may be absent where there are features
 *   features [features]  (N,D); may be absent where there are logits
 *   labels [labels]      N integers; may be absent
 *   classes [classes]    K names of the columns of logits, in order; may be absent
 * Numbers are f16, bf16, f32, f64 or integers.
 *
 *   .npz          an array a name; ids and classes are arrays of strings (dtype <U or |S).  Arrays of objects are
 *                 pickles and refused.
 *   .safetensors  a tensor a name.  ids and classes: a u8 tensor (N,L) of UTF-8 padded with NUL, or an entry of
 *                 __metadata__ that is a JSON list of strings.
 *   .jsonl        a JSON object a line: {"id": "a", "logits": [..] or [[..], ..], "features": [..], "label": 3}; the
 *                 names of ids and labels are "id" and "label" there.  The first line may be {"classes": [..]} alone;
 *                 a class list in a row is refused.
 *
 * A name that is given, not NULL, has to be there.
 *
 * ids_file and classes_file name files in place of what lacks in the first one: a name a line, or a JSON list.
 */
#ifndef KD_DISTILL_STORE_OUTSIDE_H
#define KD_DISTILL_STORE_OUTSIDE_H

#include "formats/base/hash.h"

typedef struct kd_outside_names {
    const char *ids, *logits, *features, *labels, *classes;
    const char *ids_file, *classes_file;
    bool prob; /* the values of `logits` are probabilities: their logarithms are taken */
} kd_outside_names;

/* Rows as they stand in the file, as f32. */
typedef struct kd_outside {
    char *path;
    char sha256[KD_SHA256_HEX]; /* of the file */
    size_t n;
    char **id; /* [n] */
    int views, classes, dim;
    float *logits;   /* [n, views, classes]; NULL: none, views is 1 and classes counts the names */
    float *features; /* [n, dim]; NULL: none */
    int64_t *label;  /* [n]; NULL: none */
    char **name;     /* [names], classes of them; NULL: none */
    size_t names;
    kd_dtype logit_dtype, feature_dtype; /* of the file: KD_F16, KD_BF16 or KD_F32 (whatever is wider) */
    uint32_t *by_id;                     /* [n] rows sorted by id */
} kd_outside;

/* KD_E_IO; KD_E_FORMAT: the file is not what its name says; KD_E_INTEGRITY: a checksum of the archive; KD_E_DATA: types
 * and shapes that cannot be read so, an id that is empty or there twice, no logits, a value that is not finite (with
 * its id), probabilities that are none. */
KD_NODISCARD kd_status kd_outside_read(const char *path, const kd_outside_names *names, kd_outside *out, kd_err *err);
void kd_outside_free(kd_outside *o); /* zeroed is legal */

/* Row of an id; -1: none. */
int64_t kd_outside_find(const kd_outside *o, const char *id);

#endif
