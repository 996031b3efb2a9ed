/* Pickle machine: see pickle.h.  One loop over the opcodes, a value stack, a stack of marks, a memo. */
#include "formats/pickle.h"

#define SLACK       ((size_t)64 << 20)
#define FIRST_CHUNK ((size_t)16 << 10)
#define LAST_CHUNK  ((size_t)1 << 20)

typedef struct chunk {
    struct chunk *next;
    size_t used;
    size_t cap;
} chunk;

struct kd_pk {
    chunk *chunks;
    const kd_pk_node *root;
    const kd_pk_node *persid;
    kd_pk_node none;
    kd_pk_node yes;
    kd_pk_node no;
};

typedef struct memo_slot {
    uint32_t key;
    kd_pk_node *value; /* NULL: empty */
} memo_slot;

typedef struct machine {
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
    memo_slot *memo;
    size_t memo_cap;
    size_t memo_used;
    kd_err *err;
} machine;

static kd_status bad(const machine *m, const char *what)
{
    return KD_FAIL(m->err, KD_E_FORMAT, "%s: pickle byte %zu: %s", m->origin, m->op_at, what);
}

static kd_status too_big(const machine *m)
{
    return KD_FAIL(m->err, KD_E_DATA,
                   "%s: pickle byte %zu: its values need more than %zu MiB beyond its own size; "
                   "refused",
                   m->origin, m->op_at, SLACK >> 20);
}

static kd_status no_memory(const machine *m)
{
    return KD_FAIL(m->err, KD_E_OOM, "%s: out of memory", m->origin);
}

/* ---- memory ------------------------------------------------------------------------------------- */

static kd_status charge(machine *m, size_t bytes)
{
    if (bytes > m->budget) return too_big(m);
    m->budget -= bytes;
    return KD_OK;
}

static kd_status arena(machine *m, size_t bytes, void *out)
{
    bytes = (bytes + 7u) & ~(size_t)7u;
    chunk *c = m->doc->chunks;
    if (c == NULL || bytes > c->cap - c->used) {
        size_t cap = c == NULL ? FIRST_CHUNK : KD_MIN(c->cap * 2, LAST_CHUNK);
        cap = KD_MAX(cap, bytes);
        KD_TRY(charge(m, cap));
        c = kd_alloc(sizeof *c + cap);
        if (c == NULL) return no_memory(m);
        *c = (chunk){m->doc->chunks, 0, cap};
        m->doc->chunks = c;
    }
    void *p = (uint8_t *)(c + 1) + c->used;
    c->used += bytes;
    memcpy(out, &p, sizeof p);
    return KD_OK;
}

static kd_status new_node(machine *m, kd_pk_type type, kd_pk_node **out)
{
    KD_TRY(arena(m, sizeof **out, out));
    memset(*out, 0, sizeof **out);
    (*out)->type = type;
    return KD_OK;
}

/* Double an array of the machine itself. */
static kd_status grow(machine *m, void *array, size_t *cap, size_t size)
{
    void *old;
    memcpy(&old, array, sizeof old);
    const size_t fresh = *cap == 0 ? 64 : *cap * 2;
    KD_TRY(charge(m, (fresh - *cap) * size));
    void *p = kd_realloc(old, *cap * size, fresh * size);
    if (p == NULL) return no_memory(m);
    memcpy(array, &p, sizeof p);
    *cap = fresh;
    return KD_OK;
}

static kd_status push(machine *m, kd_pk_node *n)
{
    if (m->depth == m->stack_cap) KD_TRY(grow(m, &m->stack, &m->stack_cap, sizeof *m->stack));
    m->stack[m->depth++] = n;
    return KD_OK;
}

static size_t floor_of(const machine *m)
{
    return m->marks > 0 ? m->mark[m->marks - 1] : 0;
}

static kd_status pop(machine *m, kd_pk_node **out)
{
    if (m->depth <= floor_of(m)) return bad(m, "the stack is empty");
    *out = m->stack[--m->depth];
    return KD_OK;
}

static kd_status top(machine *m, kd_pk_node **out)
{
    if (m->depth <= floor_of(m)) return bad(m, "the stack is empty");
    *out = m->stack[m->depth - 1];
    return KD_OK;
}

static kd_status push_mark(machine *m)
{
    if (m->marks == m->mark_cap) KD_TRY(grow(m, &m->mark, &m->mark_cap, sizeof *m->mark));
    m->mark[m->marks++] = m->depth;
    return KD_OK;
}

/* Values above the last mark, which they leave with it; they stay readable until the next push. */
static kd_status pop_mark(machine *m, kd_pk_node ***first, size_t *count)
{
    if (m->marks == 0) return bad(m, "no mark on the stack");
    const size_t from = m->mark[--m->marks];
    *first = m->stack + from; /* stack may be NULL only when count is 0 */
    *count = m->depth - from;
    m->depth = from;
    return KD_OK;
}

/* ---- memo ----------------------------------------------------------------------------------------- */

static memo_slot *memo_find(const machine *m, uint32_t key)
{
    uint32_t h = key * 2654435769u;
    for (h ^= h >> 16;; h++) {
        memo_slot *s = &m->memo[h & (m->memo_cap - 1)];
        if (s->value == NULL || s->key == key) return s;
    }
}

static kd_status memo_put(machine *m, uint32_t key)
{
    kd_pk_node *n = NULL;
    KD_TRY(top(m, &n));
    if (2 * (m->memo_used + 1) > m->memo_cap) {
        const size_t cap = m->memo_cap == 0 ? 256 : m->memo_cap * 2;
        KD_TRY(charge(m, (cap - m->memo_cap) * sizeof *m->memo));
        memo_slot *old = m->memo;
        const size_t old_cap = m->memo_cap;
        memo_slot *fresh = kd_calloc(cap, sizeof *fresh);
        if (fresh == NULL) return no_memory(m);
        m->memo = fresh;
        m->memo_cap = cap;
        for (size_t i = 0; i < old_cap; i++) {
            if (old[i].value != NULL) *memo_find(m, old[i].key) = old[i];
        }
        kd_free(old);
    }
    memo_slot *s = memo_find(m, key);
    m->memo_used += s->value == NULL;
    *s = (memo_slot){key, n};
    return KD_OK;
}

static kd_status memo_get(machine *m, uint32_t key)
{
    memo_slot *s = m->memo_cap > 0 ? memo_find(m, key) : NULL;
    if (s == NULL || s->value == NULL) return bad(m, "refers to a value that was not stored");
    return push(m, s->value);
}

/* ---- input ------------------------------------------------------------------------------------------ */

static kd_status take(machine *m, size_t n, const uint8_t **out)
{
    if (n > m->end - m->at) return bad(m, "the data end inside this value (truncated?)");
    *out = m->p + m->at;
    m->at += n;
    return KD_OK;
}

static kd_status take_uint(machine *m, unsigned bytes, uint64_t *out)
{
    const uint8_t *p = NULL;
    KD_TRY(take(m, bytes, &p));
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes; i++) {
        v |= (uint64_t)p[i] << (8 * i);
    }
    *out = v;
    return KD_OK;
}

static kd_status take_line(machine *m, const char **text, size_t *n)
{
    const uint8_t *start = m->p + m->at;
    const uint8_t *nl = m->at < m->end ? memchr(start, '\n', m->end - m->at) : NULL;
    if (nl == NULL) return bad(m, "the data end inside this line (truncated?)");
    *text = (const char *)start;
    *n = (size_t)(nl - start);
    m->at += *n + 1;
    return KD_OK;
}

/* ---- values ----------------------------------------------------------------------------------------- */

static kd_status push_int(machine *m, int64_t v)
{
    kd_pk_node *n = NULL;
    KD_TRY(new_node(m, KD_PK_INT, &n));
    n->u.i = v;
    return push(m, n);
}

static kd_status push_text(machine *m, kd_pk_type type, unsigned length_bytes)
{
    uint64_t size = 0;
    const uint8_t *p = NULL;
    KD_TRY(take_uint(m, length_bytes, &size));
    if (size > m->end - m->at) return bad(m, "the data end inside this text (truncated?)");
    KD_TRY(take(m, (size_t)size, &p));
    kd_pk_node *n = NULL;
    KD_TRY(new_node(m, type, &n));
    n->u.s.text = (const char *)p;
    n->u.s.size = (size_t)size;
    return push(m, n);
}

/* LONG1 and LONG4: two's complement, little-endian, any length. */
static kd_status push_long(machine *m, unsigned length_bytes)
{
    KD_TRY(push_text(m, KD_PK_BIGINT, length_bytes));
    kd_pk_node *n = m->stack[m->depth - 1];
    const size_t size = n->u.s.size;
    if (size > 8) return KD_OK;
    const uint8_t *p = (const uint8_t *)n->u.s.text;
    uint64_t v = size > 0 && (p[size - 1] & 0x80u) != 0 ? UINT64_MAX : 0;
    for (size_t i = size; i-- > 0;) {
        v = v << 8 | p[i];
    }
    n->type = KD_PK_INT;
    memcpy(&n->u.i, &v, sizeof v);
    return KD_OK;
}

static kd_status push_float(machine *m)
{
    const uint8_t *p = NULL;
    KD_TRY(take(m, 8, &p));
    uint64_t v = 0;
    for (unsigned i = 0; i < 8; i++) {
        v = v << 8 | p[i];
    }
    kd_pk_node *n = NULL;
    KD_TRY(new_node(m, KD_PK_FLOAT, &n));
    memcpy(&n->u.f, &v, sizeof v);
    return push(m, n);
}

static kd_status add_items(machine *m, kd_pk_items *to, kd_pk_node *const *first, size_t count)
{
    if (count > to->cap - to->count) {
        const size_t cap = KD_MAX(to->cap * 2, to->count + count);
        kd_pk_node **item;
        KD_TRY(arena(m, cap * sizeof(kd_pk_node *), &item));
        if (to->count > 0) memcpy(item, to->item, to->count * sizeof(kd_pk_node *));
        to->item = item;
        to->cap = cap;
    }
    if (count > 0) memcpy(to->item + to->count, first, count * sizeof(kd_pk_node *));
    to->count += count;
    return KD_OK;
}

static kd_status push_list(machine *m, kd_pk_type type, kd_pk_node *const *first, size_t count)
{
    kd_pk_node *n = NULL;
    KD_TRY(new_node(m, type, &n));
    KD_TRY(add_items(m, &n->u.list, first, count));
    return push(m, n);
}

static kd_status push_marked(machine *m, kd_pk_type type)
{
    kd_pk_node **first = NULL;
    size_t count = 0;
    KD_TRY(pop_mark(m, &first, &count));
    if (type == KD_PK_DICT && count % 2 != 0) return bad(m, "a dictionary with half a pair");
    return push_list(m, type, first, count);
}

static kd_status push_tuple(machine *m, size_t count)
{
    if (m->depth - floor_of(m) < count) return bad(m, "the stack is too short for this tuple");
    m->depth -= count;
    return push_list(m, KD_PK_TUPLE, m->stack + m->depth, count);
}

/* APPEND(S), SETITEM(S), ADDITEMS: into a container of that kind, or onto an object that we do not know. */
static kd_status extend(machine *m, kd_pk_type type, kd_pk_node *const *first, size_t count)
{
    kd_pk_node *to = NULL;
    KD_TRY(top(m, &to));
    if (type == KD_PK_DICT && count % 2 != 0) return bad(m, "half a pair for a dictionary");
    if (to->type == type) return add_items(m, &to->u.list, first, count);
    if (to->type != KD_PK_CALL) return bad(m, "items for a value that holds none");
    if (to->u.call.extra == NULL) {
        KD_TRY(arena(m, sizeof(kd_pk_items), &to->u.call.extra));
        *to->u.call.extra = (kd_pk_items){NULL, 0, 0};
    }
    return add_items(m, to->u.call.extra, first, count);
}

static kd_status extend_top(machine *m, kd_pk_type type, size_t count)
{
    if (m->depth - floor_of(m) < count + 1) return bad(m, "the stack is too short");
    kd_pk_node *item[2];
    m->depth -= count;
    memcpy(item, m->stack + m->depth, count * sizeof *item);
    return extend(m, type, item, count);
}

static kd_status extend_marked(machine *m, kd_pk_type type)
{
    kd_pk_node **first = NULL;
    size_t count = 0;
    KD_TRY(pop_mark(m, &first, &count));
    return extend(m, type, first, count);
}

/* ---- references to code: named, never resolved -------------------------------------------------- */

static kd_status push_global(machine *m, const char *module, size_t module_n, const char *name,
                             size_t name_n)
{
    if (name_n > UINT32_MAX) return bad(m, "a name longer than 4 GiB");
    kd_pk_node *n = NULL;
    KD_TRY(new_node(m, KD_PK_GLOBAL, &n));
    n->u.s.text = module;
    n->u.s.size = module_n;
    n->v.name = name;
    n->name_size = (uint32_t)name_n;
    return push(m, n);
}

static kd_status op_global(machine *m)
{
    const char *module = NULL;
    const char *name = NULL;
    size_t module_n = 0;
    size_t name_n = 0;
    KD_TRY(take_line(m, &module, &module_n));
    KD_TRY(take_line(m, &name, &name_n));
    return push_global(m, module, module_n, name, name_n);
}

static kd_status op_stack_global(machine *m)
{
    kd_pk_node *name = NULL;
    kd_pk_node *module = NULL;
    KD_TRY(pop(m, &name));
    KD_TRY(pop(m, &module));
    if (name->type != KD_PK_STR || module->type != KD_PK_STR) {
        return bad(m, "STACK_GLOBAL needs two strings");
    }
    return push_global(m, module->u.s.text, module->u.s.size, name->u.s.text, name->u.s.size);
}

/* OrderedDict() or OrderedDict([[key, value], ...]) as a DICT; false: leave it a call. */
static kd_status ordered_dict(machine *m, const kd_pk_node *args, kd_pk_node **out)
{
    *out = NULL;
    const size_t n = kd_pk_count(args);
    const kd_pk_node *pairs = kd_pk_at(args, 0);
    if (n > 1 || (n == 1 && pairs->type != KD_PK_LIST)) return KD_OK;
    for (size_t i = 0; i < kd_pk_count(pairs); i++) {
        const kd_pk_node *pair = kd_pk_at(pairs, i);
        if ((pair->type != KD_PK_LIST && pair->type != KD_PK_TUPLE) || kd_pk_count(pair) != 2) {
            return KD_OK;
        }
    }
    kd_pk_node *d = NULL;
    KD_TRY(new_node(m, KD_PK_DICT, &d));
    for (size_t i = 0; i < kd_pk_count(pairs); i++) {
        KD_TRY(add_items(m, &d->u.list, pairs->u.list.item[i]->u.list.item, 2));
    }
    *out = d;
    return KD_OK;
}

static kd_status op_call(machine *m, size_t operands)
{
    kd_pk_node *args = NULL;
    kd_pk_node *func = NULL;
    kd_pk_node *ignored = NULL;
    if (operands == 3) KD_TRY(pop(m, &ignored)); /* keyword arguments of NEWOBJ_EX */
    KD_TRY(pop(m, &args));
    KD_TRY(pop(m, &func));
    if (args->type != KD_PK_TUPLE) return bad(m, "the arguments of a call are no tuple");
    kd_pk_node *n = NULL;
    if (kd_pk_is_global(func, "collections", "OrderedDict")) KD_TRY(ordered_dict(m, args, &n));
    if (n == NULL) {
        KD_TRY(new_node(m, KD_PK_CALL, &n));
        n->u.call.func = func;
        n->u.call.args = args;
    }
    return push(m, n);
}

static kd_status op_build(machine *m)
{
    kd_pk_node *state = NULL;
    kd_pk_node *n = NULL;
    KD_TRY(pop(m, &state));
    KD_TRY(top(m, &n));
    if (n->type == KD_PK_CALL || n->type == KD_PK_DICT) {
        n->v.state = state;
        return KD_OK;
    }
    return n->type == KD_PK_GLOBAL ? KD_OK : bad(m, "BUILD of a plain value");
}

static kd_status op_persid(machine *m)
{
    kd_pk_node *id;
    kd_pk_node *n = NULL;
    KD_TRY(pop(m, &id));
    KD_TRY(new_node(m, KD_PK_PERSID, &n));
    n->u.ref = id;
    n->v.next = m->doc->persid;
    m->doc->persid = n;
    return push(m, n);
}

static kd_status op_proto(machine *m)
{
    uint64_t v = 0;
    KD_TRY(take_uint(m, 1, &v));
    return v <= 5 ? KD_OK : bad(m, "a protocol above 5");
}

static kd_status op_pop(machine *m)
{
    kd_pk_node *n = NULL;
    if (m->marks > 0 && m->mark[m->marks - 1] == m->depth) {
        m->marks--;
        return KD_OK;
    }
    return pop(m, &n);
}

static kd_status op_pop_mark(machine *m)
{
    kd_pk_node **first = NULL;
    size_t count = 0;
    return pop_mark(m, &first, &count);
}

static kd_status op_dup(machine *m)
{
    kd_pk_node *n = NULL;
    KD_TRY(top(m, &n));
    return push(m, n);
}

static kd_status op_memo(machine *m, unsigned bytes, bool put)
{
    uint64_t key = 0;
    KD_TRY(take_uint(m, bytes, &key));
    return put ? memo_put(m, (uint32_t)key) : memo_get(m, (uint32_t)key);
}

static kd_status op_int(machine *m, unsigned bytes)
{
    uint64_t v = 0;
    KD_TRY(take_uint(m, bytes, &v));
    return push_int(m, bytes == 4 ? (int64_t)(int32_t)(uint32_t)v : (int64_t)v);
}

static kd_status op_frame(machine *m)
{
    uint64_t v = 0;
    KD_TRY(take_uint(m, 8, &v));
    return v <= m->end - m->at ? KD_OK : bad(m, "a frame longer than the data (truncated?)");
}

static kd_status op_unknown(machine *m, uint8_t op)
{
    return KD_FAIL(m->err, KD_E_FORMAT, "%s: pickle byte %zu: opcode 0x%02x is not accepted",
                   m->origin, m->op_at, op);
}

/* clang-format off */
static kd_status run_op(machine *m, uint8_t op)
{
    switch (op) {
    case 0x80: return op_proto(m);
    case 0x95: return op_frame(m);
    case '(': return push_mark(m);
    case '0': return op_pop(m);
    case '1': return op_pop_mark(m);
    case '2': return op_dup(m);
    case 'N': return push(m, &m->doc->none);
    case 0x88: return push(m, &m->doc->yes);
    case 0x89: return push(m, &m->doc->no);
    case 'J': return op_int(m, 4);
    case 'K': return op_int(m, 1);
    case 'M': return op_int(m, 2);
    case 0x8a: return push_long(m, 1);
    case 0x8b: return push_long(m, 4);
    case 'G': return push_float(m);
    case 'X': return push_text(m, KD_PK_STR, 4);
    case 0x8c: return push_text(m, KD_PK_STR, 1);
    case 0x8d: return push_text(m, KD_PK_STR, 8);
    case 'U': return push_text(m, KD_PK_STR, 1); /* str of Python 2 */
    case 'T': return push_text(m, KD_PK_STR, 4);
    case 'C': return push_text(m, KD_PK_BYTES, 1);
    case 'B': return push_text(m, KD_PK_BYTES, 4);
    case 0x8e: return push_text(m, KD_PK_BYTES, 8);
    case 0x96: return push_text(m, KD_PK_BYTES, 8);
    case ')': return push_list(m, KD_PK_TUPLE, NULL, 0);
    case ']': return push_list(m, KD_PK_LIST, NULL, 0);
    case '}': return push_list(m, KD_PK_DICT, NULL, 0);
    case 0x8f: return push_list(m, KD_PK_SET, NULL, 0);
    case 't': return push_marked(m, KD_PK_TUPLE);
    case 'l': return push_marked(m, KD_PK_LIST);
    case 'd': return push_marked(m, KD_PK_DICT);
    case 0x91: return push_marked(m, KD_PK_SET);
    case 0x85: return push_tuple(m, 1);
    case 0x86: return push_tuple(m, 2);
    case 0x87: return push_tuple(m, 3);
    case 'a': return extend_top(m, KD_PK_LIST, 1);
    case 's': return extend_top(m, KD_PK_DICT, 2);
    case 'e': return extend_marked(m, KD_PK_LIST);
    case 'u': return extend_marked(m, KD_PK_DICT);
    case 0x90: return extend_marked(m, KD_PK_SET);
    case 'q': return op_memo(m, 1, true);
    case 'r': return op_memo(m, 4, true);
    case 'h': return op_memo(m, 1, false);
    case 'j': return op_memo(m, 4, false);
    case 0x94: return memo_put(m, (uint32_t)m->memo_used);
    case 'c': return op_global(m);
    case 0x93: return op_stack_global(m);
    case 'R': return op_call(m, 2);
    case 0x81: return op_call(m, 2);
    case 0x92: return op_call(m, 3);
    case 'b': return op_build(m);
    case 'Q': return op_persid(m);
    default: return op_unknown(m, op);
    }
}
/* clang-format on */

static kd_status run(machine *m)
{
    for (;;) {
        m->op_at = m->at;
        if (m->at == m->end) return bad(m, "the data end without STOP (truncated?)");
        const uint8_t op = m->p[m->at++];
        if (op == '.') break;
        KD_TRY(run_op(m, op));
    }
    if (m->marks != 0 || m->depth != 1) return bad(m, "STOP with other than one value");
    m->doc->root = m->stack[0];
    return KD_OK;
}

kd_status kd_pk_parse(const void *data, size_t bytes, const char *origin, kd_pk **out, size_t *used,
                      kd_err *err)
{
    *out = NULL;
    machine m = {.p = data, .end = bytes, .origin = origin, .err = err};
    m.budget = bytes > SIZE_MAX - SLACK ? SIZE_MAX : bytes + SLACK;
    m.doc = kd_calloc(1, sizeof *m.doc);
    if (m.doc == NULL) return no_memory(&m);
    m.doc->yes.type = m.doc->no.type = KD_PK_BOOL;
    m.doc->yes.u.b = true;
    const kd_status st = run(&m);
    kd_free(m.stack);
    kd_free(m.mark);
    kd_free(m.memo);
    if (st != KD_OK) {
        kd_pk_free(m.doc);
        return st;
    }
    if (used != NULL) *used = m.at;
    *out = m.doc;
    return KD_OK;
}

void kd_pk_free(kd_pk *p)
{
    if (p == NULL) return;
    for (chunk *c = p->chunks; c != NULL;) {
        chunk *next = c->next;
        kd_free(c);
        c = next;
    }
    kd_free(p);
}

const kd_pk_node *kd_pk_root(const kd_pk *p)
{
    return p->root;
}

const kd_pk_node *kd_pk_last_persid(const kd_pk *p)
{
    return p->persid;
}
