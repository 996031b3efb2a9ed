/* Inert reader of Python pickles (protocols 2 to 5, plus the old opcodes that those still use).
 *
 * Nothing is ever imported, called or constructed: a pickle becomes a tree of plain values in which
 * every reference to code is only named.  GLOBAL / STACK_GLOBAL give a KD_PK_GLOBAL node ("os",
 * "system"); REDUCE / NEWOBJ give a KD_PK_CALL node that remembers function, arguments and, after
 * BUILD, the state.  Callers recognise the few calls they know (a tensor, an array) and treat the
 * rest as opaque.  The one construct resolved here is collections.OrderedDict, which becomes a
 * KD_PK_DICT.
 *
 * The reader is iterative and bounded: memory stays below the size of the input plus 64 MiB
 * whatever the bytes say, memo indices are only keys, text stays in the input.  Values may be
 * shared and lists may contain themselves, so a caller that walks the tree must bound its own
 * depth.
 */
#ifndef KD_FORMATS_BASE_PYTHON_PICKLE_H
#define KD_FORMATS_BASE_PYTHON_PICKLE_H

#include "kernels/kd_base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kd_pk_type {
    KD_PK_NONE,
    KD_PK_BOOL,
    KD_PK_INT,
    KD_PK_BIGINT, /* more than 64 bits: text holds the little-endian bytes */
    KD_PK_FLOAT,
    KD_PK_STR,   /* text: UTF-8 as found, not checked, not terminated */
    KD_PK_BYTES, /* text */
    KD_PK_TUPLE,
    KD_PK_LIST,
    KD_PK_SET,
    KD_PK_DICT,   /* items: key, value, key, value, ...; a repeated key is the caller's matter */
    KD_PK_GLOBAL, /* text = module, name */
    KD_PK_CALL,
    KD_PK_PERSID /* ref = the persistent id */
} kd_pk_type;

typedef struct kd_pk_node kd_pk_node;

typedef struct kd_pk_items {
    kd_pk_node **item;
    size_t count;
    size_t cap;
} kd_pk_items;

struct kd_pk_node {
    kd_pk_type type;
    uint32_t name_size;
    union {
        bool b;
        int64_t i;
        double f;
        struct {
            const char *text;
            size_t size;
        } s;              /* STR, BYTES, BIGINT; GLOBAL: the module */
        kd_pk_items list; /* TUPLE, LIST, SET, DICT */
        struct {
            const kd_pk_node *func;
            const kd_pk_node *args;
            kd_pk_items *extra; /* what APPENDS or SETITEMS put into the object; may be NULL */
        } call;
        const kd_pk_node *ref; /* PERSID */
    } u;
    union {
        const char *name;        /* GLOBAL: name_size bytes */
        const kd_pk_node *state; /* CALL, DICT: argument of BUILD, or NULL */
        const kd_pk_node *next;  /* PERSID: the one read before this one */
    } v;
};

typedef struct kd_pk kd_pk;

/* Parse one pickle at the start of the memory, which the caller keeps until kd_pk_free.  *used (may
 * be NULL): bytes up to and including its STOP.  KD_E_FORMAT with the offset; KD_E_DATA when it
 * would need too much memory. */
KD_NODISCARD kd_status kd_pk_parse(const void *data, size_t bytes, const char *origin, kd_pk **out, size_t *used,
                                   kd_err *err);
void kd_pk_free(kd_pk *p); /* NULL is legal; every node ends with it */

const kd_pk_node *kd_pk_root(const kd_pk *p);
const kd_pk_node *kd_pk_last_persid(const kd_pk *p); /* head of the chain of all PERSID nodes, or NULL */

/* All take NULL nodes and then say no / NULL / 0. */
size_t kd_pk_count(const kd_pk_node *n);                           /* items; a DICT has two a pair */
const kd_pk_node *kd_pk_at(const kd_pk_node *n, size_t i);         /* NULL when out of range */
const kd_pk_node *kd_pk_get(const kd_pk_node *n, const char *key); /* last value of a string key of a DICT */
bool kd_pk_is_str(const kd_pk_node *n, const char *text);
bool kd_pk_is_global(const kd_pk_node *n, const char *module, const char *name);
bool kd_pk_is_call(const kd_pk_node *n, const char *module, const char *name); /* CALL of that global */
bool kd_pk_int(const kd_pk_node *n, int64_t *out);                             /* INT only */
void kd_pk_describe(const kd_pk_node *n, char *buf, size_t bytes);             /* "a call of os.system", for messages */

#ifdef __cplusplus
}
#endif
#endif
