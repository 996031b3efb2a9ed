/* Inside of a JSON document, shared by json.c (tree, getters, setters) and json_text.c (parser,
 * printer). */
#ifndef KD_FORMATS_BASE_JSON_INTERNAL_H
#define KD_FORMATS_BASE_JSON_INTERNAL_H

#include "formats/base/json.h"

typedef struct kd_json_chunk kd_json_chunk;

/* What a root owns besides its value: the memory of every node, key and string of the tree. */
typedef struct kd_json_doc {
    kd_json_chunk *chunks;
    const char *origin; /* file or record name, NULL when built */
    bool failed;        /* an allocation failed while building */
} kd_json_doc;

typedef struct kd_json_members {
    kd_json **item;
    size_t count;
    size_t cap;
    uint32_t *slot; /* objects above a few members: open-addressed table of item index + 1, by key */
    size_t slots;   /* power of two, 0 without a table */
} kd_json_members;

struct kd_json {
    kd_json *parent; /* NULL: root */
    union {
        const char *key;  /* member of an object */
        size_t index;     /* member of an array */
        kd_json_doc *doc; /* root */
    } at;
    union {
        bool b;
        int64_t i;
        double f;
        const char *s;
        kd_json_members *m;
    } v;
    uint32_t type; /* kd_json_type */
};

/* Add a member of this type; scalars are filled in by the caller.  NULL when out of memory
 * (recorded in the root) or when `to` is not a container of that kind (our bug).  An existing key
 * is replaced. */
kd_json *kd_json_add(kd_json *to, const char *key, kd_json_type type);

/* Copy text into the document of `node`; NULL when out of memory. */
char *kd_json_text_copy(kd_json *node, const char *s, size_t bytes);

const char *kd_json_type_text(kd_json_type t); /* "an object" */

#endif
