/* The schema table that describes kd_config: private to configs/schema. */
#ifndef KD_CONFIGS_SCHEMA_CONFIG_TABLE_H
#define KD_CONFIGS_SCHEMA_CONFIG_TABLE_H

#include "configs/schema/kd_config.h"

typedef enum kd_cfg_type {
    KD_CFG_SECTION,
    KD_CFG_INT,
    KD_CFG_INT64,
    KD_CFG_REAL,
    KD_CFG_BOOL,
    KD_CFG_ENUM,
    KD_CFG_NAME_OF, /* char[cap]: a name that a registry knows */
    KD_CFG_STR,
    KD_CFG_REALS,   /* double[cap] */
    KD_CFG_NUMBERS, /* kd_cfg_numbers */
    KD_CFG_INTS,    /* {int n; int v[cap]} */
    KD_CFG_NAMES,   /* kd_cfg_names */
    KD_CFG_PATHS,   /* kd_cfg_paths */
    KD_CFG_MAPS,    /* {int n; struct v[cap]} whose items have rows of their own */
    KD_CFG_REST     /* char[cap], of an item: its keys that no other row names */
} kd_cfg_type;

enum { KD_CFG_TEACHER = 1, KD_CFG_STUDENT = 2, KD_CFG_BOTH = 3, KD_CFG_LOCAL = 4, KD_CFG_HERE = 8, KD_CFG_LISTED = 16 };

struct kd_cfg_item;

typedef struct kd_cfg_row {
    const char *path;
    kd_cfg_type type;
    size_t offset, cap; /* cap: bytes of a string, items of a list */
    const char *fallback;
    double lo, hi;
    const char *names;              /* of an enum, "a|b|c" */
    const int *values;              /* of the enum, in the order of the names */
    const char *(*registry)(int i); /* KD_CFG_NAME_OF: i-th known name, NULL past the last */
    const struct kd_cfg_item *item; /* KD_CFG_MAPS: what an item is */
    unsigned flags;                 /* 0 for sections */
    const char *doc;
} kd_cfg_row;

/* An item of a list of maps; offsets of its rows are from the start of the item. */
typedef struct kd_cfg_item {
    const kd_cfg_row *row;
    size_t n_rows;
    size_t first, bytes; /* offset of item 0 in the list, size of an item */
} kd_cfg_item;

extern const kd_cfg_row kd_cfg_rows[];
extern const size_t kd_cfg_row_count;

#define KD_CFG_PATH_MAX 96 /* no key path is longer */

/* The flag of a config's kind: KD_CFG_TEACHER, KD_CFG_STUDENT, in the order of KD_CFG_KIND_MAP. */
static inline unsigned kd_cfg_kind_flag(const kd_config *cfg)
{
    return 1u << (unsigned)cfg->kind;
}

struct kd_yaml_node;

/* Bind the keys of a map upon a config, which is not finished. */
KD_NODISCARD kd_status kd_cfg_bind(const struct kd_yaml_node *map, kd_config *cfg, kd_err *err);

/* config_phases.c.  The keys of item `i` of a list of maps that no row of the item names, as one line of YAML. */
KD_NODISCARD kd_status kd_cfg_rest(const kd_cfg_row *row, const struct kd_yaml_node *item, size_t i, char *out,
                                   size_t size, kd_err *err);
/* Every phase of the tree, over the finished recipe: KD_E_CONFIG with the place of the first fault.  Takes the tree's
 * phases apart. */
KD_NODISCARD kd_status kd_cfg_check_phases(const struct kd_yaml_node *root, const kd_config *cfg, kd_err *err);
/* Lay the value of "phases.NAME.a.b" upon that phase.  KD_E_CONFIG: no phase has that name. */
KD_NODISCARD kd_status kd_cfg_set_phase(const struct kd_yaml_node *root, const struct kd_yaml_node *set,
                                        const char *text, kd_err *err);
/* KD_E_CONFIG where a phase has the key `path`, which a --set text gives to all phases. */
KD_NODISCARD kd_status kd_cfg_set_is_clear(const struct kd_yaml_node *root, const char *path, const char *text,
                                           kd_err *err);
/* First difference of two recipes in their phases; kd_config_diff. */
bool kd_cfg_phases_differ(const kd_config *a, const kd_config *b, char *text, size_t size);

/* config_kd.c.  Values of section kd that follow from others; KD_E_CONFIG where its keys contradict or do nothing. */
KD_NODISCARD kd_status kd_cfg_finish_kd(kd_config *c, kd_err *err);
/* config_kd.c.  Students that learn from each other: KD_E_CONFIG where keys say nothing or something else then. */
KD_NODISCARD kd_status kd_cfg_finish_mutual(kd_config *c, kd_err *err);

/* The text of a scalar that a YAML reader takes as a string whatever it holds. */
void kd_cfg_quoted(const char *s, char *buf, size_t size);

/* kd_config_load; model: the weights that the recipe is to describe, whose config.json it must agree with; NULL: those
 * that training starts from (teacher.weights). */
KD_NODISCARD kd_status kd_cfg_load(const char *const *paths, size_t n_paths, const char *const *sets, size_t n_sets,
                                   const char *model, kd_config *out, kd_err *err);

/* config_layout.c.  Layout and file_layout of a student's recipe: a row of student/layout, or a YAML file, whose faults
 * are named with file:line:column.  KD_E_CONFIG also where another key says nothing under them. */
KD_NODISCARD kd_status kd_cfg_finish_layout(kd_config *c, kd_err *err);

const kd_cfg_row *kd_cfg_find(const char *path);

/* Kinds that own at least one key at or below `path` (a section or a key). */
unsigned kd_cfg_kinds_of(const kd_cfg_row *row);

/* Nearest known key for an unknown one: a sibling by edit distance, another toolkit's name, or the
 * same last name in another section.  Full path, or NULL. */
const char *kd_cfg_nearest(const char *path);

#define KD_CFG_WHAT 640 /* bytes of the text that says what was expected and found */

/* Parse one scalar into item `i` of the row's field in the struct `base`: the config, or an item of a list of maps.
 * false: `what` (KD_CFG_WHAT bytes) says what was expected and found.  `plain`: the text had no quotes. */
bool kd_cfg_set_item(const kd_cfg_row *row, void *base, size_t i, const char *text, bool plain, char *what);

/* Number of items of a list now set / to set.  Only for list types. */
int kd_cfg_list_count(const kd_cfg_row *row, const kd_config *cfg);
void kd_cfg_list_set_count(const kd_cfg_row *row, kd_config *cfg, int n);

/* Item i of a list of maps, and its defaults. */
void *kd_cfg_map_at(const kd_cfg_row *row, kd_config *cfg, size_t i);
void kd_cfg_map_defaults(const kd_cfg_row *row, void *item);

/* The name of an enum's value; "?" when it has none. */
void kd_cfg_enum_text(const kd_cfg_row *row, int value, char *buf, size_t size);

/* Item i as YAML text (quoted when needed).  `buf` of at least 2 * KD_CFG_PATH + 8 bytes. */
void kd_cfg_item_text(const kd_cfg_row *row, const void *base, size_t i, char *buf, size_t size);

/* "integer in [16, 1024]", "one of a|b|c", ...; registries are asked for their names. */
void kd_cfg_expected(const kd_cfg_row *row, char *buf, size_t size);

static inline bool kd_cfg_is_list(const kd_cfg_row *row)
{
    return row->type == KD_CFG_REALS || row->type == KD_CFG_NUMBERS || row->type == KD_CFG_INTS ||
           row->type == KD_CFG_NAMES || row->type == KD_CFG_PATHS || row->type == KD_CFG_MAPS;
}

#endif
