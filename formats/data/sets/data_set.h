/* The data sets this build knows, one row each: formats/data/sets/NAME.c, listed in sets/sets.inc.
 *
 * A data set has published splits, class names and a list of samples that are known to lack a skeleton.  Its sample
 * names are parsed into a kd_sample_id, and its files lie in folders of their own.  Configs name a published split
 * (data.split.by) and a layout (data.layout); both names are asked from this table, so a new row is all that a recipe,
 * `kd dataset scan` and `kd dataset annotate` need.
 */
#ifndef KD_FORMATS_DATA_SETS_DATA_SET_H
#define KD_FORMATS_DATA_SETS_DATA_SET_H

#include "formats/data/sets/sample_id.h"
#include "kernels/kd_options.h"

/* Config section `data.split`. */
typedef struct kd_split_opts {
#define KD_OPTIONS "formats/data/sets/split_opts.inc"
#include "kernels/kd_options_struct.inc"
} kd_split_opts;

typedef enum kd_split_side { KD_SIDE_NONE, KD_SIDE_TRAIN, KD_SIDE_VAL } kd_split_side;

/* A published split: the side of a sample of that data set; KD_SIDE_NONE: the split does not use the sample. */
typedef struct kd_named_split {
    const char *name; /* "ntu60-xsub": lower case, '-' between words */
    kd_split_side (*side)(const kd_sample_id *id);
} kd_named_split;

typedef struct kd_data_set {
    const char *name;                     /* stores and reports carry it */
    const char *title;                    /* in messages: "NTU" */
    const char *layout;                   /* data.layout; data sets with the same folders share the name; NULL: none */
    const char *video_dir, *skeleton_dir; /* the layout's folders below data.root */
    bool (*parse)(const char *s, size_t len, kd_sample_id *out); /* the `len` bytes of s are exactly a sample name */
    int n_classes;
    const char *const *classes; /* [n_classes] in label order; the label is action - 1 */
    const kd_named_split *split;
    int n_splits;
    bool (*missing)(const kd_sample_id *id); /* on the published list of samples without a skeleton; NULL: no list */
} kd_data_set;

const kd_data_set *kd_data_set_at(int i); /* in the order of sets.inc; NULL past the last */

/* First data set that takes the `len` bytes of s for a sample name; NULL: none.  *id is filled if there is one. */
const kd_data_set *kd_data_set_of_name(const char *s, size_t len, kd_sample_id *id);

/* First data set with this layout; NULL: none. */
const kd_data_set *kd_data_set_of_layout(const char *layout);

/* The data set that publishes a split, *split is it; '_' counts as '-'.  NULL: no published split has this name. */
const kd_data_set *kd_data_set_of_split(const char *name, const kd_named_split **split);

/* ---- names that configs may use -------------------------------------------------------------- */

#define KD_LAYOUT_FLAT "flat"      /* all files in the root */
#define KD_LAYOUT_LIST "list"      /* paths come from lists */
const char *kd_layout_name(int i); /* layouts of the data sets, then flat, list; NULL past the last */

#define KD_SPLIT_LIST "list"
const char *kd_split_name(int i); /* published splits, then subject, camera, setup, list; NULL past the last */

/* What the key of a sample outside NTU is (sets/sample_id.h); auto: the stem where all stems are unique, else the path.
 */
#define KD_KEY_MAP(X)      \
    X(KD_KEY_AUTO, "auto") \
    X(KD_KEY_STEM, "stem") \
    X(KD_KEY_PATH, "path")

KD_ENUM_OF(kd_key_rule, KD_KEY_MAP);

/* ---- splits ---------------------------------------------------------------------------------- */

bool kd_split_by_field(const kd_split_opts *split); /* by subject, camera or setup: train and val list numbers */

/* KD_E_CONFIG: train or val do not fit the kind of split. */
KD_NODISCARD kd_status kd_split_check(const kd_split_opts *split, kd_err *err);

/* Side of the sample `key` in any split but one by list.  id: the parts of its name, NULL where no data set takes
 * it. */
kd_split_side kd_split_side_of(const kd_split_opts *split, const char *key, const kd_sample_id *id);

#endif
