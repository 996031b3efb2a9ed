/* YAML text as a tree that remembers where every node was written.
 *
 * Accepted: one document of block or flow maps, lists and scalars, comments, anchors and aliases.
 * Refused, each with line and column: duplicate keys, keys that are not plain or quoted text, tags,
 * merge keys (`<<`), several documents, tabs as indentation, bytes that are not UTF-8, NUL
 * characters, a self-containing alias, and anything beyond the limits below.  Aliases are copied,
 * and copies count as nodes, so a few lines cannot grow into gigabytes.
 */
#ifndef KD_CONFIGS_YAML_YAML_TREE_H
#define KD_CONFIGS_YAML_YAML_TREE_H

#include "kernels/kd_base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KD_YAML_MAX_BYTES ((size_t)1 << 20)
#define KD_YAML_MAX_DEPTH 32
#define KD_YAML_MAX_NODES 32768 /* of one tree, all its documents together */
#define KD_YAML_MAX_KEYS  2048  /* of one map */

typedef enum kd_yaml_kind { KD_YAML_SCALAR, KD_YAML_LIST, KD_YAML_MAP } kd_yaml_kind;

/* Nodes and their strings belong to the tree. */
typedef struct kd_yaml_node {
    kd_yaml_kind kind;
    bool plain;         /* scalar without quotes: may be a number, true, null... */
    const char *text;   /* scalar's text, "" otherwise; no NUL inside */
    const char *key;    /* when the parent is a map, else NULL */
    const char *origin; /* file name as given to the parser */
    int line, column;   /* of the key if there is one, else of the value; from 1 */
    int value_line, value_column;
    size_t count; /* children */
    struct kd_yaml_node *child, *last, *next, *parent;
} kd_yaml_node;

typedef struct kd_yaml_tree kd_yaml_tree;

kd_yaml_tree *kd_yaml_tree_new(void); /* NULL: out of memory */
void kd_yaml_tree_free(kd_yaml_tree *t);

/* Parse one document into `t`; an empty text gives an empty map.  A tree takes many documents, so
 * that parts of one can be moved into another.  KD_E_CONFIG ("origin:line:column: ..."), KD_E_OOM.
 */
KD_NODISCARD kd_status kd_yaml_parse(kd_yaml_tree *t, const void *text, size_t len, const char *origin,
                                     kd_yaml_node **root, kd_err *err);

kd_yaml_node *kd_yaml_get(const kd_yaml_node *map, const char *key); /* NULL: absent or no map */

/* A new empty map, for trees built in code. */
kd_yaml_node *kd_yaml_new_map(kd_yaml_tree *t, const char *origin);

/* Put `value` (no parent) under `key`; NULL key appends to a list.  false: out of memory. */
bool kd_yaml_put(kd_yaml_tree *t, kd_yaml_node *parent, const char *key, kd_yaml_node *value);

/* Take a node out of its parent. */
void kd_yaml_unlink(kd_yaml_node *node);

/* Lay map `over` upon map `base`: maps merge key by key, everything else in `over` replaces (a
 * section left empty, `optim:`, changes nothing).  Both must be of one tree; `over` is emptied.
 * Depth is bounded by the parser. */
void kd_yaml_merge(kd_yaml_node *base, kd_yaml_node *over);

/* A node as one line of YAML, in flow form, that reads back to the same tree (kd_free); NULL: out of memory. */
char *kd_yaml_flow(const kd_yaml_node *node);

/* Plain empty text, `~`, `null`, `Null` or `NULL`. */
bool kd_yaml_is_null(const kd_yaml_node *node);

#ifdef __cplusplus
}
#endif
#endif
