/* Pickle opcodes: see pickle.h.  One loop, one function an opcode, nothing is ever called. */
#include "formats/base/python/pickle_internal.h"

/* ---- values ---------------------------------------------------------------------------------- */

static kd_status push_int(kd_pk_machine *m, int64_t v)
{
    kd_pk_node *n = NULL;
    KD_TRY(kd_pkm_new_node(m, KD_PK_INT, &n));
    n->u.i = v;
    return kd_pkm_push(m, n);
}

static kd_status push_text(kd_pk_machine *m, kd_pk_type type, unsigned length_bytes)
{
    uint64_t size = 0;
    const uint8_t *p = NULL;
    KD_TRY(kd_pkm_take_uint(m, length_bytes, &size));
    if (size > m->end - m->at) {
        return kd_pkm_bad(m, "the data end inside this text (truncated?)");
    }
    KD_TRY(kd_pkm_take(m, (size_t)size, &p));
    kd_pk_node *n = NULL;
    KD_TRY(kd_pkm_new_node(m, type, &n));
    n->u.s.text = (const char *)p;
    n->u.s.size = (size_t)size;
    return kd_pkm_push(m, n);
}

/* LONG1 and LONG4: two's complement, little-endian, any length. */
static kd_status push_long(kd_pk_machine *m, unsigned length_bytes)
{
    KD_TRY(push_text(m, KD_PK_BIGINT, length_bytes));
    kd_pk_node *n = m->stack[m->depth - 1];
    const size_t size = n->u.s.size;
    if (size > 8) {
        return KD_OK;
    }
    const uint8_t *p = (const uint8_t *)n->u.s.text;
    uint64_t v = size > 0 && (p[size - 1] & 0x80u) != 0 ? UINT64_MAX : 0;
    for (size_t i = size; i-- > 0;) {
        v = v << 8 | p[i];
    }
    n->type = KD_PK_INT;
    memcpy(&n->u.i, &v, sizeof v);
    return KD_OK;
}

static kd_status push_float(kd_pk_machine *m)
{
    const uint8_t *p = NULL;
    KD_TRY(kd_pkm_take(m, 8, &p));
    uint64_t v = 0;
    for (unsigned i = 0; i < 8; i++) {
        v = v << 8 | p[i];
    }
    kd_pk_node *n = NULL;
    KD_TRY(kd_pkm_new_node(m, KD_PK_FLOAT, &n));
    memcpy(&n->u.f, &v, sizeof v);
    return kd_pkm_push(m, n);
}

static kd_status add_items(kd_pk_machine *m, kd_pk_items *to, kd_pk_node *const *first, size_t count)
{
    if (count > to->cap - to->count) {
        const size_t cap = KD_MAX(to->cap * 2, to->count + count);
        kd_pk_node **item;
        KD_TRY(kd_pkm_arena(m, cap * sizeof(kd_pk_node *), &item));
        if (to->count > 0) {
            memcpy(item, to->item, to->count * sizeof(kd_pk_node *));
        }
        to->item = item;
        to->cap = cap;
    }
    if (count > 0) {
        memcpy(to->item + to->count, first, count * sizeof(kd_pk_node *));
    }
    to->count += count;
    return KD_OK;
}

static kd_status push_list(kd_pk_machine *m, kd_pk_type type, kd_pk_node *const *first, size_t count)
{
    kd_pk_node *n = NULL;
    KD_TRY(kd_pkm_new_node(m, type, &n));
    KD_TRY(add_items(m, &n->u.list, first, count));
    return kd_pkm_push(m, n);
}

static kd_status push_marked(kd_pk_machine *m, kd_pk_type type)
{
    kd_pk_node **first = NULL;
    size_t count = 0;
    KD_TRY(kd_pkm_pop_mark(m, &first, &count));
    if (type == KD_PK_DICT && count % 2 != 0) {
        return kd_pkm_bad(m, "a dictionary with half a pair");
    }
    return push_list(m, type, first, count);
}

static kd_status push_tuple(kd_pk_machine *m, size_t count)
{
    if (m->depth - kd_pkm_floor_of(m) < count) {
        return kd_pkm_bad(m, "the stack is too short for this tuple");
    }
    m->depth -= count;
    return push_list(m, KD_PK_TUPLE, count > 0 ? m->stack + m->depth : NULL, count);
}

/* APPEND(S), SETITEM(S), ADDITEMS: into a container of that kind, or onto an object that we do not know. */
static kd_status extend(kd_pk_machine *m, kd_pk_type type, kd_pk_node *const *first, size_t count)
{
    kd_pk_node *to = NULL;
    KD_TRY(kd_pkm_top(m, &to));
    if (type == KD_PK_DICT && count % 2 != 0) {
        return kd_pkm_bad(m, "half a pair for a dictionary");
    }
    if (to->type == type) {
        return add_items(m, &to->u.list, first, count);
    }
    if (to->type != KD_PK_CALL) {
        return kd_pkm_bad(m, "items for a value that holds none");
    }
    if (to->u.call.extra == NULL) {
        KD_TRY(kd_pkm_arena(m, sizeof(kd_pk_items), &to->u.call.extra));
        *to->u.call.extra = (kd_pk_items){NULL, 0, 0};
    }
    return add_items(m, to->u.call.extra, first, count);
}

static kd_status extend_top(kd_pk_machine *m, kd_pk_type type, size_t count)
{
    if (m->depth - kd_pkm_floor_of(m) < count + 1) {
        return kd_pkm_bad(m, "the stack is too short");
    }
    KD_ASSERT(m->stack != NULL && count <= 2);
    kd_pk_node *item[2];
    m->depth -= count;
    memcpy(item, m->stack + m->depth, count * sizeof *item);
    return extend(m, type, item, count);
}

static kd_status extend_marked(kd_pk_machine *m, kd_pk_type type)
{
    kd_pk_node **first = NULL;
    size_t count = 0;
    KD_TRY(kd_pkm_pop_mark(m, &first, &count));
    return extend(m, type, first, count);
}

/* ---- references to code: named, never resolved ----------------------------------------------- */

static kd_status push_global(kd_pk_machine *m, const char *module, size_t module_n, const char *name, size_t name_n)
{
    if (name_n > UINT32_MAX) {
        return kd_pkm_bad(m, "a name longer than 4 GiB");
    }
    kd_pk_node *n = NULL;
    KD_TRY(kd_pkm_new_node(m, KD_PK_GLOBAL, &n));
    n->u.s.text = module;
    n->u.s.size = module_n;
    n->v.name = name;
    n->name_size = (uint32_t)name_n;
    return kd_pkm_push(m, n);
}

static kd_status op_global(kd_pk_machine *m)
{
    const char *module = NULL;
    const char *name = NULL;
    size_t module_n = 0;
    size_t name_n = 0;
    KD_TRY(kd_pkm_take_line(m, &module, &module_n));
    KD_TRY(kd_pkm_take_line(m, &name, &name_n));
    return push_global(m, module, module_n, name, name_n);
}

static kd_status op_stack_global(kd_pk_machine *m)
{
    kd_pk_node *name = NULL;
    kd_pk_node *module = NULL;
    KD_TRY(kd_pkm_pop(m, &name));
    KD_TRY(kd_pkm_pop(m, &module));
    if (name->type != KD_PK_STR || module->type != KD_PK_STR) {
        return kd_pkm_bad(m, "STACK_GLOBAL needs two strings");
    }
    return push_global(m, module->u.s.text, module->u.s.size, name->u.s.text, name->u.s.size);
}

/* OrderedDict() or OrderedDict([[key, value], ...]) as a DICT; false: leave it a call. */
static kd_status ordered_dict(kd_pk_machine *m, const kd_pk_node *args, kd_pk_node **out)
{
    *out = NULL;
    const size_t n = kd_pk_count(args);
    const kd_pk_node *pairs = kd_pk_at(args, 0);
    if (n > 1 || (n == 1 && pairs->type != KD_PK_LIST)) {
        return KD_OK;
    }
    for (size_t i = 0; i < kd_pk_count(pairs); i++) {
        const kd_pk_node *pair = kd_pk_at(pairs, i);
        if ((pair->type != KD_PK_LIST && pair->type != KD_PK_TUPLE) || kd_pk_count(pair) != 2) {
            return KD_OK;
        }
    }
    kd_pk_node *d = NULL;
    KD_TRY(kd_pkm_new_node(m, KD_PK_DICT, &d));
    for (size_t i = 0; i < kd_pk_count(pairs); i++) {
        KD_TRY(add_items(m, &d->u.list, pairs->u.list.item[i]->u.list.item, 2));
    }
    *out = d;
    return KD_OK;
}

static kd_status op_call(kd_pk_machine *m, size_t operands)
{
    kd_pk_node *args = NULL;
    kd_pk_node *func = NULL;
    kd_pk_node *ignored = NULL;
    if (operands == 3) {
        KD_TRY(kd_pkm_pop(m, &ignored)); /* keyword arguments of NEWOBJ_EX */
    }
    KD_TRY(kd_pkm_pop(m, &args));
    KD_TRY(kd_pkm_pop(m, &func));
    if (args->type != KD_PK_TUPLE) {
        return kd_pkm_bad(m, "the arguments of a call are no tuple");
    }
    kd_pk_node *n = NULL;
    if (kd_pk_is_global(func, "collections", "OrderedDict")) {
        KD_TRY(ordered_dict(m, args, &n));
    }
    if (n == NULL) {
        KD_TRY(kd_pkm_new_node(m, KD_PK_CALL, &n));
        n->u.call.func = func;
        n->u.call.args = args;
    }
    return kd_pkm_push(m, n);
}

static kd_status op_build(kd_pk_machine *m)
{
    kd_pk_node *state = NULL;
    kd_pk_node *n = NULL;
    KD_TRY(kd_pkm_pop(m, &state));
    KD_TRY(kd_pkm_top(m, &n));
    if (n->type == KD_PK_CALL || n->type == KD_PK_DICT) {
        n->v.state = state;
        return KD_OK;
    }
    return n->type == KD_PK_GLOBAL ? KD_OK : kd_pkm_bad(m, "BUILD of a plain value");
}

static kd_status op_persid(kd_pk_machine *m)
{
    kd_pk_node *id;
    kd_pk_node *n = NULL;
    KD_TRY(kd_pkm_pop(m, &id));
    KD_TRY(kd_pkm_new_node(m, KD_PK_PERSID, &n));
    n->u.ref = id;
    n->v.next = m->doc->persid;
    m->doc->persid = n;
    return kd_pkm_push(m, n);
}

static kd_status op_proto(kd_pk_machine *m)
{
    uint64_t v = 0;
    KD_TRY(kd_pkm_take_uint(m, 1, &v));
    return v <= 5 ? KD_OK : kd_pkm_bad(m, "a protocol above 5");
}

static kd_status op_pop(kd_pk_machine *m)
{
    kd_pk_node *n = NULL;
    if (m->marks > 0 && m->mark[m->marks - 1] == m->depth) {
        m->marks--;
        return KD_OK;
    }
    return kd_pkm_pop(m, &n);
}

static kd_status op_pop_mark(kd_pk_machine *m)
{
    kd_pk_node **first = NULL;
    size_t count = 0;
    return kd_pkm_pop_mark(m, &first, &count);
}

static kd_status op_dup(kd_pk_machine *m)
{
    kd_pk_node *n = NULL;
    KD_TRY(kd_pkm_top(m, &n));
    return kd_pkm_push(m, n);
}

static kd_status op_memo(kd_pk_machine *m, unsigned bytes, bool put)
{
    uint64_t key = 0;
    KD_TRY(kd_pkm_take_uint(m, bytes, &key));
    return put ? kd_pkm_memo_put(m, (uint32_t)key) : kd_pkm_memo_get(m, (uint32_t)key);
}

static kd_status op_int(kd_pk_machine *m, unsigned bytes)
{
    uint64_t v = 0;
    KD_TRY(kd_pkm_take_uint(m, bytes, &v));
    return push_int(m, bytes == 4 ? (int64_t)(int32_t)(uint32_t)v : (int64_t)v);
}

static kd_status op_frame(kd_pk_machine *m)
{
    uint64_t v = 0;
    KD_TRY(kd_pkm_take_uint(m, 8, &v));
    return v <= m->end - m->at ? KD_OK : kd_pkm_bad(m, "a frame longer than the data (truncated?)");
}

static kd_status op_unknown(kd_pk_machine *m, uint8_t op)
{
    return KD_FAIL(m->err, KD_E_FORMAT, "%s: pickle byte %zu: opcode 0x%02x is not accepted", m->origin, m->op_at, op);
}

/* clang-format off */
static kd_status run_op(kd_pk_machine *m, uint8_t op)
{
    switch (op) {
    case 0x80: return op_proto(m);
    case 0x95: return op_frame(m);
    case '(': return kd_pkm_push_mark(m);
    case '0': return op_pop(m);
    case '1': return op_pop_mark(m);
    case '2': return op_dup(m);
    case 'N': return kd_pkm_push(m, &m->doc->none);
    case 0x88: return kd_pkm_push(m, &m->doc->yes);
    case 0x89: return kd_pkm_push(m, &m->doc->no);
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
    case 0x94: return kd_pkm_memo_put(m, (uint32_t)m->memo_used);
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

static kd_status run(kd_pk_machine *m)
{
    for (;;) {
        m->op_at = m->at;
        if (m->at == m->end) {
            return kd_pkm_bad(m, "the data end without STOP (truncated?)");
        }
        const uint8_t op = m->p[m->at++];
        if (op == '.') {
            break;
        }
        KD_TRY(run_op(m, op));
    }
    if (m->marks != 0 || m->depth != 1) {
        return kd_pkm_bad(m, "STOP with other than one value");
    }
    m->doc->root = m->stack[0];
    return KD_OK;
}

kd_status kd_pk_parse(const void *data, size_t bytes, const char *origin, kd_pk **out, size_t *used, kd_err *err)
{
    *out = NULL;
    kd_pk_machine m = {.p = data, .end = bytes, .origin = origin, .err = err};
    m.budget = bytes > SIZE_MAX - KD_PK_SLACK ? SIZE_MAX : bytes + KD_PK_SLACK;
    m.doc = kd_calloc(1, sizeof *m.doc);
    if (m.doc == NULL) {
        return kd_pkm_no_memory(&m);
    }
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
    if (used != NULL) {
        *used = m.at;
    }
    *out = m.doc;
    return KD_OK;
}

void kd_pk_free(kd_pk *p)
{
    if (p == NULL) {
        return;
    }
    for (kd_pk_chunk *c = p->chunks; c != NULL;) {
        kd_pk_chunk *next = c->next;
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
