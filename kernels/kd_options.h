/* Options: what a configuration sets.  An option is one row of a list; its field, type, default, bounds and
 * documentation come from that row.
 *
 * The list (an .inc file) and the struct live with whoever obeys the options, for example teacher/clip/clip_opts.inc
 * and kd_clip_opts:
 *
 *     typedef struct kd_clip_opts {
 *     #define KD_OPTIONS "teacher/clip/clip_opts.inc"
 *     #include "kernels/kd_options_struct.inc"
 *     } kd_clip_opts;
 *
 * configs/schema/schema.inc makes the rows of the schema of the same list.  Rows:
 *
 *   INT / INT64 / REAL (field, default, lo, hi, flags, doc)       int, int64_t, double
 *   BOOL  (field, default, flags, doc)                            bool
 *   ENUM  (field, type, MAP, default, flags, doc)                 an enum and its names, both of the list MAP
 *   NAME  (field, default, names, flags, doc)                     char[KD_CFG_NAME]; a name that a registry knows
 *   STR   (field, bytes, default, flags, doc)                     char[bytes], with the NUL
 *   REALS (field, n, default, lo, hi, flags, doc)                 double[n]
 *   NUMBERS (field, default, lo, hi, flags, doc)                  kd_cfg_numbers
 *   INTS / STEPS (field, default, lo, hi, flags, doc)             kd_cfg_ints, kd_cfg_steps
 *   NAMES (field, default, flags, doc)                            kd_cfg_names
 *   PATHS (field, flags, doc)                                     kd_cfg_paths; one path or a list; default: none
 *   RULES (field, flags, doc)                                     kd_param_rules (kernels/optim/param_rules.h)
 *   PHASES (field, flags, doc)                                    kd_cfg_phases (configs/schema/kd_config.h)
 *   PEERS (field, flags, doc)                                     kd_cfg_peers (configs/schema/kd_config.h)
 *   REST  (field, bytes, flags, doc)                              char[bytes]; in an item of a list of maps: the keys
 *                                                                 that no other row of the item names, as YAML
 *
 * Defaults are written as in YAML.  `names` of NAME is a function const char *(int i): the i-th known name, NULL past
 * the last.  Flags say in which kind of recipe the key exists (TEACHER, STUDENT, BOTH); LOCAL: the key names a machine
 * or a run and is no part of the recipe's hash; HERE: a path that the present directory gives its meaning; LISTED: a
 * path that is taken as it stands if something is there, else below data.root.
 *
 * Options structs own nothing and hold no pointers.
 */
#ifndef KD_KERNELS_KD_OPTIONS_H
#define KD_KERNELS_KD_OPTIONS_H

#include "kernels/kd_base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KD_CFG_PATH        512  /* bytes of a path, with the NUL */
#define KD_CFG_NAME        64   /* bytes of a name, with the NUL */
#define KD_CFG_MAX_IDS     4096 /* subjects, cameras or setups in a split */
#define KD_CFG_MAX_CLASSES 1024
#define KD_CFG_MAX_STEPS   16
#define KD_CFG_MAX_PATHS   8

/* Lists of any length up to the array's. */
typedef struct kd_cfg_ints {
    int n;
    int v[KD_CFG_MAX_IDS];
} kd_cfg_ints;

typedef struct kd_cfg_steps {
    int n;
    int v[KD_CFG_MAX_STEPS];
} kd_cfg_steps;

typedef struct kd_cfg_numbers {
    int n;
    double v[KD_CFG_MAX_CLASSES];
} kd_cfg_numbers;

typedef struct kd_cfg_names {
    int n;
    char v[KD_CFG_MAX_CLASSES][KD_CFG_NAME];
} kd_cfg_names;

typedef struct kd_cfg_paths {
    int n;
    char v[KD_CFG_MAX_PATHS][KD_CFG_PATH];
} kd_cfg_paths;

/* An enum of options and its names from one list: #define KD_YAW_MAP(X) X(KD_YAW_NONE, "none") ... */
#define KD_ENUM_VALUE(value, text) value,
#define KD_ENUM_TEXT(value, text)  "|" text
#define KD_ENUM_OF(type, MAP)      typedef enum type { MAP(KD_ENUM_VALUE) } type
#define KD_ENUM_NAMES(MAP)         (&MAP(KD_ENUM_TEXT)[1])             /* "none|reference|corrected" */
#define KD_ENUM_VALUES(MAP)        ((const int[]){MAP(KD_ENUM_VALUE)}) /* in the order of the names */

/* ---- nearest name ---------------------------------------------------------------------------- */

/* Letters to insert, delete, replace, or swap with the next, to make b of a; 99 when a word has 48 letters or more. */
int kd_edit_distance(const char *a, const char *b);

/* Largest distance at which a word typed with `letters` letters counts as a misspelling of another. */
int kd_edit_limit(size_t letters);

/* Nearest of `count` names to `word`: the first with the smallest distance within the limit.  A word of three letters
 * or more that a name begins with has distance 1 from that name.  NULL: none is near.  get(i, user) gives a name or
 * NULL. */
const char *kd_nearest(const char *word, size_t count, const char *(*get)(size_t i, const void *user),
                       const void *user);

#ifdef __cplusplus
}
#endif
#endif
