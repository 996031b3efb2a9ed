/* Names of a model's tensors in files: what a reader of weights asks of the model.
 *
 * A model has official names (its own parameters' names).  Files of other programs carry other names for the same
 * tensors: each such naming is a dialect, and dialect 0 is the official one.  The model provides a kd_name_map; who
 * opens weights (formats/weights/weights.h) passes the map, so that the reader itself knows no model.
 */
#ifndef KD_KERNELS_KD_NAMES_H
#define KD_KERNELS_KD_NAMES_H

#include "kernels/kd_base.h"

/* What a name of a file means. */
typedef struct kd_name_match {
    char official[160]; /* official name; empty: `plain` is the name */
    const char *plain;  /* the file's name without wrappers; points into it */
    int part;           /* 0, 1, 2: this third of the rows of the official tensor; -1: the whole tensor */
    bool drop;          /* the tensor carries nothing: leave it out */
} kd_name_match;

typedef struct kd_name_map {
    const char *model;            /* "VideoMAE" */
    const char *const *dialect;   /* [dialects] names: "official", "hf", ... */
    const char *const *torch_key; /* [dialects] where a .pth holds the state dict; NULL: at the top */
    int dialects;

    /* The dialect that a name of a file gives away; -1: the name tells nothing. */
    int (*tell)(const char *name);
    /* The meaning of a name of a file; all of *out is written. */
    void (*read)(int dialect, const char *name, kd_name_match *out);
    /* The name of an official tensor in a dialect; part as in kd_name_match.  false: the dialect has none. */
    bool (*write)(int dialect, const char *official, int part, char *out, size_t bytes);
    bool (*known)(const char *official);                 /* is it a tensor of the model? */
    bool (*in_parts)(int dialect, const char *official); /* is it three tensors in the dialect? */
    /* Tensors that files may hold although their values follow from the model: is this one such a tensor, and are v,
     * its values, those?  Then the reader leaves it out.  NULL, both: there are none. */
    bool (*may_be_fixed)(const char *official);
    bool (*is_fixed)(const char *official, const int64_t *dim, size_t rank, const float *v);
} kd_name_map;

/* Number of the dialect with this name; -1: unknown. */
static inline int kd_names_dialect(const kd_name_map *map, const char *name)
{
    for (int i = 0; i < map->dialects; i++) {
        if (strcmp(map->dialect[i], name) == 0) {
            return i;
        }
    }
    return -1;
}

#endif
