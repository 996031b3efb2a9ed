/* Options of a data set: config section `data` (files_opts.inc, sets/split_opts.inc, samples_opts.inc). */
#ifndef KD_FORMATS_DATA_DATA_OPTS_H
#define KD_FORMATS_DATA_DATA_OPTS_H

#include "formats/data/sets/data_set.h"

#define KD_ON_BAD_MAP(X)   \
    X(KD_BAD_FAIL, "fail") \
    X(KD_BAD_SKIP, "skip")

/* Which bodies of a recording are people (formats/skeleton/denoise.h). */
#define KD_DENOISE_MAP(X)      \
    X(KD_DENOISE_NONE, "none") \
    X(KD_DENOISE_CTRGCN, "ctrgcn")

KD_ENUM_OF(kd_on_bad, KD_ON_BAD_MAP);
KD_ENUM_OF(kd_denoise, KD_DENOISE_MAP);

typedef struct kd_data_opts {
#define KD_OPTIONS "formats/data/files_opts.inc"
#include "kernels/kd_options_struct.inc"
    kd_split_opts split;
#define KD_OPTIONS "formats/data/samples_opts.inc"
#include "kernels/kd_options_struct.inc"
} kd_data_opts;

/* data.unlabelled as a share: a number above 0 and below 1, else 0 (a file, or nothing). */
double kd_unlabelled_share(const char *text);

#endif
