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

/* The likeliest classes of one input, best first. */
typedef struct kd_ranked {
    int label;
    const char *name;
    double probability;
} kd_ranked;

typedef struct kd_prediction {
    const char *file; /* NULL: of a stream, the window that ends with `frame` */
    size_t frame;     /* frames met so far */
    double ms;
    const kd_ranked *ranked; /* [n] */
    int n;
} kd_prediction;

/* A line and one a class; json: one document a line, {"file" or "frame", "latency_ms", "top": [{"class", "name",
 * "probability"}]}. */
KD_NODISCARD kd_status kd_print_prediction(const kd_prediction *p, bool json, kd_err *err);

#endif
