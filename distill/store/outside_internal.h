/* Readers of the three kinds of files, for outside.c alone.  Each fills what outside.h describes but path, sha256 and
 * by_id; outside.c checks the values and frees, after an error too. */
#ifndef KD_DISTILL_STORE_OUTSIDE_INTERNAL_H
#define KD_DISTILL_STORE_OUTSIDE_INTERNAL_H

#include "distill/store/outside.h"
#include "formats/base/json.h"

KD_NODISCARD kd_status kdi_outside_npz(const char *path, const kd_outside_names *names, kd_outside *o, kd_err *err);
KD_NODISCARD kd_status kdi_outside_tensors(const char *path, const kd_outside_names *names, kd_outside *o, kd_err *err);
KD_NODISCARD kd_status kdi_outside_lines(const char *path, const kd_outside_names *names, kd_outside *o, kd_err *err);

/* Takes the shape (n), (n,K), (n,V,K) or (n,D) of the array `key` over, or refuses it.  n is set by the first array. */
KD_NODISCARD kd_status kdi_outside_rows(kd_outside *o, const char *key, size_t rank, const int64_t *dim, kd_err *err);
KD_NODISCARD kd_status kdi_outside_logits_shape(kd_outside *o, const char *key, size_t rank, const int64_t *dim,
                                                kd_err *err);
KD_NODISCARD kd_status kdi_outside_features_shape(kd_outside *o, const char *key, size_t rank, const int64_t *dim,
                                                  kd_err *err);

/* Room for rows x width floats; *out is the caller's. */
KD_NODISCARD kd_status kdi_outside_floats(const kd_outside *o, size_t rows, size_t width, float **out, kd_err *err);

/* A JSON list of strings.  The strings and *out: kd_free each. */
KD_NODISCARD kd_status kdi_outside_strings(const kd_json *list, char ***out, size_t *n, kd_err *err);
void kdi_outside_strings_free(char **text, size_t n);

#endif
