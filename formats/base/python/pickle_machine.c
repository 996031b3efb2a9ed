/* Memory, stacks, memo and input of the pickle machine: see pickle_internal.h. */
#include "formats/base/python/pickle_internal.h"

#define FIRST_CHUNK ((size_t)16 << 10)
#define LAST_CHUNK  ((size_t)1 << 20)

kd_status kd_pkm_bad(const kd_pk_machine *m, const char *what)
{
    return KD_FAIL(m->err, KD_E_FORMAT, "%s: pickle byte %zu: %s", m->origin, m->op_at, what);
}

static kd_status too_big(const kd_pk_machine *m)
{
    return KD_FAIL(m->err, KD_E_DATA,
                   "%s: pickle byte %zu: its values need more than %zu MiB beyond its own size; "
                   "refused",
                   m->origin, m->op_at, KD_PK_SLACK >> 20);
}

kd_status kd_pkm_no_memory(const kd_pk_machine *m)
{
    return KD_FAIL(m->err, KD_E_OOM, "%s: out of memory", m->origin);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static kd_status charge(kd_pk_machine *m, size_t bytes)
{
    if (bytes > m->budget) {
        return too_big(m);
    }
    m->budget -= bytes;
    return KD_OK;
}

kd_status kd_pkm_arena(kd_pk_machine *m, size_t bytes, void *out)
{
    bytes = (bytes + 7u) & ~(size_t)7u;
    kd_pk_chunk *c = m->doc->chunks;
    if (c == NULL || bytes > c->cap - c->used) {
        size_t cap = c == NULL ? FIRST_CHUNK : KD_MIN(c->cap * 2, LAST_CHUNK);
        cap = KD_MAX(cap, bytes);
        KD_TRY(charge(m, cap));
        c = kd_alloc(sizeof *c + cap);
        if (c == NULL) {
            return kd_pkm_no_memory(m);
        }
        *c = (kd_pk_chunk){m->doc->chunks, 0, cap};
        m->doc->chunks = c;
    }
    void *p = (uint8_t *)(c + 1) + c->used;
    c->used += bytes;
    memcpy(out, &p, sizeof p);
    return KD_OK;
}

kd_status kd_pkm_new_node(kd_pk_machine *m, kd_pk_type type, kd_pk_node **out)
{
    KD_TRY(kd_pkm_arena(m, sizeof **out, out));
    memset(*out, 0, sizeof **out);
    (*out)->type = type;
    return KD_OK;
}

/* Double an array of the machine itself. */
static kd_status grow(kd_pk_machine *m, void *array, size_t *cap, size_t size)
{
    void *old;
    memcpy(&old, array, sizeof old);
    const size_t fresh = *cap == 0 ? 64 : *cap * 2;
    KD_TRY(charge(m, (fresh - *cap) * size));
    void *p = kd_realloc(old, *cap * size, fresh * size);
    if (p == NULL) {
        return kd_pkm_no_memory(m);
    }
    memcpy(array, &p, sizeof p);
    *cap = fresh;
    return KD_OK;
}

kd_status kd_pkm_push(kd_pk_machine *m, kd_pk_node *n)
{
    if (m->depth == m->stack_cap) {
        KD_TRY(grow(m, &m->stack, &m->stack_cap, sizeof *m->stack));
    }
    m->stack[m->depth++] = n;
    return KD_OK;
}

size_t kd_pkm_floor_of(const kd_pk_machine *m)
{
    return m->marks > 0 ? m->mark[m->marks - 1] : 0;
}

kd_status kd_pkm_pop(kd_pk_machine *m, kd_pk_node **out)
{
    if (m->depth <= kd_pkm_floor_of(m)) {
        return kd_pkm_bad(m, "the stack is empty");
    }
    *out = m->stack[--m->depth];
    return KD_OK;
}

kd_status kd_pkm_top(kd_pk_machine *m, kd_pk_node **out)
{
    if (m->depth <= kd_pkm_floor_of(m)) {
        return kd_pkm_bad(m, "the stack is empty");
    }
    *out = m->stack[m->depth - 1];
    return KD_OK;
}

kd_status kd_pkm_push_mark(kd_pk_machine *m)
{
    if (m->marks == m->mark_cap) {
        KD_TRY(grow(m, &m->mark, &m->mark_cap, sizeof *m->mark));
    }
    m->mark[m->marks++] = m->depth;
    return KD_OK;
}

/* Values above the last mark, which they leave with it; they stay readable until the next push. */
kd_status kd_pkm_pop_mark(kd_pk_machine *m, kd_pk_node ***first, size_t *count)
{
    if (m->marks == 0) {
        return kd_pkm_bad(m, "no mark on the stack");
    }
    const size_t from = m->mark[--m->marks];
    *count = m->depth - from;
    *first = *count > 0 ? m->stack + from : NULL; /* before the first push there is no stack */
    m->depth = from;
    return KD_OK;
}

/* ---- memo ------------------------------------------------------------------------------------ */

static kd_pk_memo *memo_find(const kd_pk_machine *m, uint32_t key)
{
    uint32_t h = key * 2654435769u;
    for (h ^= h >> 16;; h++) {
        kd_pk_memo *s = &m->memo[h & (m->memo_cap - 1)];
        if (s->value == NULL || s->key == key) {
            return s;
        }
    }
}

kd_status kd_pkm_memo_put(kd_pk_machine *m, uint32_t key)
{
    kd_pk_node *n = NULL;
    KD_TRY(kd_pkm_top(m, &n));
    if (2 * (m->memo_used + 1) > m->memo_cap) {
        const size_t cap = m->memo_cap == 0 ? 256 : m->memo_cap * 2;
        KD_TRY(charge(m, (cap - m->memo_cap) * sizeof *m->memo));
        kd_pk_memo *old = m->memo;
        const size_t old_cap = m->memo_cap;
        kd_pk_memo *fresh = kd_calloc(cap, sizeof *fresh);
        if (fresh == NULL) {
            return kd_pkm_no_memory(m);
        }
        m->memo = fresh;
        m->memo_cap = cap;
        for (size_t i = 0; i < old_cap; i++) {
            if (old[i].value != NULL) {
                *memo_find(m, old[i].key) = old[i];
            }
        }
        kd_free(old);
    }
    kd_pk_memo *s = memo_find(m, key);
    m->memo_used += s->value == NULL;
    *s = (kd_pk_memo){key, n};
    return KD_OK;
}

kd_status kd_pkm_memo_get(kd_pk_machine *m, uint32_t key)
{
    kd_pk_memo *s = m->memo_cap > 0 ? memo_find(m, key) : NULL;
    if (s == NULL || s->value == NULL) {
        return kd_pkm_bad(m, "refers to a value that was not stored");
    }
    return kd_pkm_push(m, s->value);
}

/* ---- input ----------------------------------------------------------------------------------- */

kd_status kd_pkm_take(kd_pk_machine *m, size_t n, const uint8_t **out)
{
    if (n > m->end - m->at) {
        return kd_pkm_bad(m, "the data end inside this value (truncated?)");
    }
    *out = m->p + m->at;
    m->at += n;
    return KD_OK;
}

kd_status kd_pkm_take_uint(kd_pk_machine *m, unsigned bytes, uint64_t *out)
{
    const uint8_t *p = NULL;
    KD_TRY(kd_pkm_take(m, bytes, &p));
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes; i++) {
        v |= (uint64_t)p[i] << (8 * i);
    }
    *out = v;
    return KD_OK;
}

kd_status kd_pkm_take_line(kd_pk_machine *m, const char **text, size_t *n)
{
    const uint8_t *start = m->p + m->at;
    const uint8_t *nl = m->at < m->end ? memchr(start, '\n', m->end - m->at) : NULL;
    if (nl == NULL) {
        return kd_pkm_bad(m, "the data end inside this line (truncated?)");
    }
    *text = (const char *)start;
    *n = (size_t)(nl - start);
    m->at += *n + 1;
    return KD_OK;
}
