/* Memory, stacks and input of the pickle machine, shared by pickle.c (opcodes) and pickle_machine.c. */
#ifndef KD_FORMATS_BASE_PYTHON_PICKLE_INTERNAL_H
#define KD_FORMATS_BASE_PYTHON_PICKLE_INTERNAL_H

#include "formats/base/python/pickle.h"

/* What a pickle may allocate beyond its own size. */
#define KD_PK_SLACK ((size_t)64 << 20)

typedef struct kd_pk_chunk {
    struct kd_pk_chunk *next;
    size_t used;
    size_t cap;
} kd_pk_chunk;

struct kd_pk {
    kd_pk_chunk *chunks;
    const kd_pk_node *root;
    const kd_pk_node *persid;
    kd_pk_node none;
    kd_pk_node yes;
    kd_pk_node no;
};

typedef struct kd_pk_memo {
    uint32_t key;
    kd_pk_node *value; /* NULL: empty */
} kd_pk_memo;

typedef struct kd_pk_machine {
    kd_pk *doc;
    const uint8_t *p;
    size_t at;
    size_t op_at;
    size_t end;
    const char *origin;
    size_t budget; /* bytes that may still be allocated */
    kd_pk_node **stack;
    size_t depth;
    size_t stack_cap;
    size_t *mark;
    size_t marks;
    size_t mark_cap;
    kd_pk_memo *memo;
    size_t memo_cap;
    size_t memo_used;
    kd_err *err;
} kd_pk_machine;

kd_status kd_pkm_bad(const kd_pk_machine *m, const char *what);
kd_status kd_pkm_no_memory(const kd_pk_machine *m);
/* Memory that lives as long as the tree, charged to the budget; `out` points to a pointer. */
kd_status kd_pkm_arena(kd_pk_machine *m, size_t bytes, void *out);
kd_status kd_pkm_new_node(kd_pk_machine *m, kd_pk_type type, kd_pk_node **out);
kd_status kd_pkm_push(kd_pk_machine *m, kd_pk_node *n);
size_t kd_pkm_floor_of(const kd_pk_machine *m);
kd_status kd_pkm_pop(kd_pk_machine *m, kd_pk_node **out);
kd_status kd_pkm_top(kd_pk_machine *m, kd_pk_node **out);
kd_status kd_pkm_push_mark(kd_pk_machine *m);
/* Values above the last mark, which leave the stack with it; readable until the next push. */
kd_status kd_pkm_pop_mark(kd_pk_machine *m, kd_pk_node ***first, size_t *count);
kd_status kd_pkm_memo_put(kd_pk_machine *m, uint32_t key);
kd_status kd_pkm_memo_get(kd_pk_machine *m, uint32_t key);
kd_status kd_pkm_take(kd_pk_machine *m, size_t n, const uint8_t **out);
kd_status kd_pkm_take_uint(kd_pk_machine *m, unsigned bytes, uint64_t *out);
kd_status kd_pkm_take_line(kd_pk_machine *m, const char **text, size_t *n);

#endif
