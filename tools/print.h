/* Results of commands on stdout. */
#ifndef KD_TOOLS_PRINT_H
#define KD_TOOLS_PRINT_H

#include "formats/base/json.h"

/* One line; frees doc (a root; NULL, which is a document that had no memory, gives KD_E_OOM). */
KD_NODISCARD kd_status kd_print_json(kd_json *doc, kd_err *err);

/* A measured number with `digits` digits after the point: more would be noise.  NaN becomes null. */
void kd_json_set_rounded(kd_json *obj, const char *key, double v, int digits);

/* Top-1 of both halves of a store (NaN: without that half) and its name, as text. */
void kd_print_store(const char *path, double top1_train, double top1_val);

#endif
