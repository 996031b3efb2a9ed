/* Translation of VideoMAE tensor names between the official, Hugging Face and MMAction2 dialects.  Inside of
 * weights.h. */
#ifndef KD_FORMATS_WEIGHTS_WEIGHT_NAMES_H
#define KD_FORMATS_WEIGHTS_WEIGHT_NAMES_H

#include "formats/weights/weights.h"

/* What a name of a file means. */
typedef struct kd_name_match {
    char official[160];
    int part;  /* 0, 1, 2: rows of the stacked qkv matrix; -1: the whole tensor */
    bool drop; /* carries nothing: leave it out */
} kd_name_match;

/* File name (prefixes already handled for the official naming) to official name; false: not in the table. */
bool kd_name_to_official(kd_naming naming, const char *name, kd_name_match *out);

/* Official name to the name in `naming`.  part 0..2 asks for one of query, key, value.  false: none there. */
bool kd_name_from_official(kd_naming naming, const char *official, int part, char *out, size_t bytes);

/* Does this official name become three tensors in `naming`? */
bool kd_name_is_split(kd_naming naming, const char *official);

/* Drop any run of _orig_mod. module. model. backbone. encoder. at the start. */
const char *kd_name_strip(const char *name);

#endif
