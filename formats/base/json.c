/* JSON tree: see json.h. */
#include "formats/base/json_internal.h"

#include <math.h>
#include <stdio.h>

#define FIRST_CHUNK ((size_t)4 << 10)
#define LAST_CHUNK  ((size_t)1 << 20)
#define TABLE_FROM  8 /* members up to which a key is searched one by one */

struct kd_json_chunk {
    kd_json_chunk *next;
    size_t used;
    size_t cap;
};

static const kd_json_doc *doc_of(const kd_json *n)
{
    while (n->parent != NULL) {
        n = n->parent;
    }
    return n->at.doc;
}

static kd_json_doc *doc_mut(kd_json *n)
{
    while (n->parent != NULL) {
        n = n->parent;
    }
    return n->at.doc;
}

/* Memory that lives as long as the document, aligned for any of its structures. */
static void *doc_alloc(kd_json_doc *doc, size_t bytes)
{
    bytes = (bytes + 7u) & ~(size_t)7u;
    kd_json_chunk *c = doc->chunks;
    if (c == NULL || bytes > c->cap - c->used) {
        size_t cap = c == NULL ? FIRST_CHUNK : KD_MIN(c->cap * 2, LAST_CHUNK);
        cap = KD_MAX(cap, bytes);
        kd_json_chunk *fresh = kd_alloc(sizeof *fresh + cap);
        if (fresh == NULL) {
            doc->failed = true;
            return NULL;
        }
        *fresh = (kd_json_chunk){c, 0, cap};
        doc->chunks = c = fresh;
    }
    void *p = (uint8_t *)(c + 1) + c->used;
    c->used += bytes;
    return p;
}

char *kd_json_text_copy(kd_json *node, const char *s, size_t bytes)
{
    char *t = doc_alloc(doc_mut(node), bytes + 1);
    if (t != NULL) {
        memcpy(t, s, bytes);
        t[bytes] = '\0';
    }
    return t;
}

static kd_json *new_root(kd_json_type type)
{
    kd_json_doc *doc = kd_calloc(1, sizeof *doc);
    if (doc == NULL) {
        return NULL;
    }
    kd_json *n = doc_alloc(doc, sizeof *n);
    kd_json_members *m = doc_alloc(doc, sizeof *m);
    if (n == NULL || m == NULL) {
        kd_free(doc->chunks);
        kd_free(doc);
        return NULL;
    }
    memset(n, 0, sizeof *n);
    memset(m, 0, sizeof *m);
    n->type = (uint32_t)type;
    n->at.doc = doc;
    n->v.m = m;
    return n;
}

kd_json *kd_json_object(void)
{
    return new_root(KD_JSON_OBJECT);
}

kd_json *kd_json_array(void)
{
    return new_root(KD_JSON_ARRAY);
}

void kd_json_free(kd_json *root)
{
    if (root == NULL) {
        return;
    }
    KD_ASSERT(root->parent == NULL);
    kd_json_doc *doc = root->at.doc;
    for (kd_json_chunk *c = doc->chunks; c != NULL;) {
        kd_json_chunk *next = c->next;
        kd_free(c);
        c = next;
    }
    kd_free(doc);
}

bool kd_json_ok(const kd_json *root)
{
    return root != NULL && !doc_of(root)->failed;
}

/* ---- members --------------------------------------------------------------------------------- */

static bool is_container(const kd_json *n)
{
    return n != NULL && (n->type == KD_JSON_ARRAY || n->type == KD_JSON_OBJECT);
}

static uint32_t key_hash(const char *key)
{
    uint32_t h = 2166136261u; /* FNV-1a */
    for (; *key != '\0'; key++) {
        h = (h ^ (uint8_t)*key) * 16777619u;
    }
    return h ^ (h >> 15);
}

/* Index of the key, or count when absent. */
static size_t find_key(const kd_json_members *m, const char *key)
{
    if (m->slots == 0) {
        for (size_t i = 0; i < m->count; i++) {
            if (strcmp(m->item[i]->at.key, key) == 0) {
                return i;
            }
        }
        return m->count;
    }
    for (size_t h = key_hash(key);; h++) {
        const uint32_t s = m->slot[h & (m->slots - 1)];
        if (s == 0) {
            return m->count;
        }
        if (strcmp(m->item[s - 1]->at.key, key) == 0) {
            return s - 1;
        }
    }
}

static void table_put(kd_json_members *m, size_t index)
{
    size_t h = key_hash(m->item[index]->at.key);
    while (m->slot[h & (m->slots - 1)] != 0) {
        h++;
    }
    m->slot[h & (m->slots - 1)] = (uint32_t)(index + 1);
}

static bool grow(kd_json_doc *doc, kd_json *to)
{
    kd_json_members *m = to->v.m;
    const size_t cap = m->cap == 0 ? 4 : m->cap * 2;
    if (cap > UINT32_MAX / 4) {
        doc->failed = true;
        return false;
    }
    kd_json **item = doc_alloc(doc, cap * sizeof(kd_json *));
    if (item == NULL) {
        return false;
    }
    if (m->count > 0) {
        memcpy(item, m->item, m->count * sizeof(kd_json *));
    }
    m->item = item;
    m->cap = cap;
    if (to->type == KD_JSON_OBJECT && cap > TABLE_FROM) {
        uint32_t *slot = doc_alloc(doc, 2 * cap * sizeof *slot);
        if (slot == NULL) {
            return false;
        }
        memset(slot, 0, 2 * cap * sizeof *slot);
        m->slot = slot;
        m->slots = 2 * cap;
        for (size_t i = 0; i < m->count; i++) {
            table_put(m, i);
        }
    }
    return true;
}

kd_json *kd_json_add(kd_json *to, const char *key, kd_json_type type)
{
    if (to == NULL) {
        return NULL;
    }
    KD_ASSERT(to->type == (uint32_t)(key != NULL ? KD_JSON_OBJECT : KD_JSON_ARRAY));
    kd_json_doc *doc = doc_mut(to);
    kd_json_members *m = to->v.m;
    if (doc->failed) {
        return NULL;
    }
    const size_t at = key != NULL ? find_key(m, key) : m->count;
    if (at == m->count && m->count == m->cap && !grow(doc, to)) {
        return NULL;
    }
    kd_json *n = doc_alloc(doc, sizeof *n);
    if (n == NULL) {
        return NULL;
    }
    memset(n, 0, sizeof *n);
    n->parent = to;
    n->type = (uint32_t)type;
    if (type == KD_JSON_ARRAY || type == KD_JSON_OBJECT) {
        n->v.m = doc_alloc(doc, sizeof *n->v.m);
        if (n->v.m == NULL) {
            return NULL;
        }
        memset(n->v.m, 0, sizeof *n->v.m);
    }
    if (key == NULL) {
        n->at.index = at;
    } else if (at < m->count) {
        n->at.key = m->item[at]->at.key;
    } else {
        n->at.key = kd_json_text_copy(to, key, strlen(key));
        if (n->at.key == NULL) {
            return NULL;
        }
    }
    m->item[at] = n;
    if (at == m->count) {
        m->count++;
        if (key != NULL && m->slots > 0) {
            table_put(m, at);
        }
    }
    return n;
}

/* ---- looking --------------------------------------------------------------------------------- */

kd_json_type kd_json_type_of(const kd_json *node)
{
    return node != NULL ? (kd_json_type)node->type : KD_JSON_NULL;
}

const char *kd_json_type_text(kd_json_type t)
{
    static const char *const text[] = {"null",     "a boolean", "an integer", "a real number",
                                       "a string", "an array",  "an object"};
    return (size_t)t < KD_COUNTOF(text) ? text[t] : "?";
}

size_t kd_json_count(const kd_json *node)
{
    return is_container(node) ? node->v.m->count : 0;
}

const kd_json *kd_json_at(const kd_json *node, size_t i)
{
    return i < kd_json_count(node) ? node->v.m->item[i] : NULL;
}

const kd_json *kd_json_get(const kd_json *obj, const char *key)
{
    if (obj == NULL || obj->type != KD_JSON_OBJECT) {
        return NULL;
    }
    return kd_json_at(obj, find_key(obj->v.m, key));
}

const char *kd_json_key(const kd_json *node)
{
    const bool member = node != NULL && node->parent != NULL && node->parent->type == KD_JSON_OBJECT;
    return member ? node->at.key : "";
}

/* "file: a.b[3]"; a path too long for the buffer keeps its end, which tells more. */
static void where(const kd_json *node, const char *key, char *buf, size_t n)
{
    char path[256];
    size_t at = sizeof path - 1;
    path[at] = '\0';
    const char *part = key;
    char number[32];
    while (node != NULL || part != NULL) {
        if (part == NULL) {
            if (node->parent == NULL) {
                break;
            }
            if (node->parent->type == KD_JSON_OBJECT) {
                part = node->at.key;
            } else {
                (void)snprintf(number, sizeof number, "[%zu]", node->at.index);
                part = number;
            }
            node = node->parent;
        }
        const bool dot = path[at] != '\0' && path[at] != '[';
        const size_t len = strlen(part) + (dot ? 1 : 0);
        if (len > at) {
            break;
        }
        if (dot) {
            path[--at] = '.';
        }
        at -= strlen(part);
        memcpy(path + at, part, strlen(part));
        part = NULL;
    }
    while (node != NULL && node->parent != NULL) {
        node = node->parent;
    }
    const char *origin = node != NULL ? node->at.doc->origin : NULL;
    (void)snprintf(buf, n, "%s%s%s", origin != NULL ? origin : "", origin != NULL && path[at] != '\0' ? ": " : "",
                   path + at);
}

void kd_json_where(const kd_json *node, char *buf, size_t n)
{
    where(node, NULL, buf, n);
}

/* ---- typed reading --------------------------------------------------------------------------- */

static kd_status wrong_type(const kd_json *node, const char *expected, kd_err *err)
{
    char w[400];
    kd_json_where(node, w, sizeof w);
    return KD_FAIL(err, KD_E_FORMAT, "%s: expected %s, found %s", w, expected,
                   kd_json_type_text(kd_json_type_of(node)));
}

static kd_status member(const kd_json *obj, const char *key, const kd_json **out, kd_err *err)
{
    *out = kd_json_get(obj, key);
    if (*out != NULL) {
        return KD_OK;
    }
    char w[400];
    where(obj, key, w, sizeof w);
    if (obj != NULL && obj->type != KD_JSON_OBJECT) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: expected a member of an object, found it in %s", w,
                       kd_json_type_text(kd_json_type_of(obj)));
    }
    return KD_FAIL(err, KD_E_FORMAT, "%s: the key is missing", w);
}

kd_status kd_json_as_i64(const kd_json *node, int64_t *out, kd_err *err)
{
    if (kd_json_type_of(node) != KD_JSON_I64) {
        return wrong_type(node, "an integer", err);
    }
    *out = node->v.i;
    return KD_OK;
}

kd_status kd_json_as_f64(const kd_json *node, double *out, kd_err *err)
{
    if (node != NULL && node->type == KD_JSON_F64) {
        *out = node->v.f;
    } else if (node != NULL && node->type == KD_JSON_I64) {
        *out = (double)node->v.i;
    } else if (node != NULL && node->type == KD_JSON_NULL) {
        *out = (double)NAN;
    } else {
        return wrong_type(node, "a number", err);
    }
    return KD_OK;
}

kd_status kd_json_as_bool(const kd_json *node, bool *out, kd_err *err)
{
    if (kd_json_type_of(node) != KD_JSON_BOOL) {
        return wrong_type(node, "true or false", err);
    }
    *out = node->v.b;
    return KD_OK;
}

kd_status kd_json_as_str(const kd_json *node, const char **out, kd_err *err)
{
    if (kd_json_type_of(node) != KD_JSON_STR) {
        return wrong_type(node, "a string", err);
    }
    *out = node->v.s;
    return KD_OK;
}

kd_status kd_json_get_i64(const kd_json *obj, const char *key, int64_t *out, kd_err *err)
{
    const kd_json *n;
    KD_TRY(member(obj, key, &n, err));
    return kd_json_as_i64(n, out, err);
}

kd_status kd_json_get_range(const kd_json *obj, const char *key, int64_t lo, int64_t hi, int64_t *out, kd_err *err)
{
    int64_t v = 0;
    KD_TRY(kd_json_get_i64(obj, key, &v, err));
    if (v < lo || v > hi) {
        char w[400];
        where(obj, key, w, sizeof w);
        return KD_FAIL(err, KD_E_FORMAT, "%s: expected %lld to %lld, found %lld", w, (long long)lo, (long long)hi,
                       (long long)v);
    }
    *out = v;
    return KD_OK;
}

kd_status kd_json_get_f64(const kd_json *obj, const char *key, double *out, kd_err *err)
{
    const kd_json *n;
    KD_TRY(member(obj, key, &n, err));
    return kd_json_as_f64(n, out, err);
}

kd_status kd_json_get_bool(const kd_json *obj, const char *key, bool *out, kd_err *err)
{
    const kd_json *n;
    KD_TRY(member(obj, key, &n, err));
    return kd_json_as_bool(n, out, err);
}

kd_status kd_json_get_str(const kd_json *obj, const char *key, const char **out, kd_err *err)
{
    const kd_json *n;
    KD_TRY(member(obj, key, &n, err));
    return kd_json_as_str(n, out, err);
}

kd_status kd_json_get_object(const kd_json *obj, const char *key, const kd_json **out, kd_err *err)
{
    const kd_json *n;
    KD_TRY(member(obj, key, &n, err));
    if (n->type != KD_JSON_OBJECT) {
        return wrong_type(n, "an object", err);
    }
    *out = n;
    return KD_OK;
}

kd_status kd_json_get_array(const kd_json *obj, const char *key, const kd_json **out, kd_err *err)
{
    const kd_json *n;
    KD_TRY(member(obj, key, &n, err));
    if (n->type != KD_JSON_ARRAY) {
        return wrong_type(n, "an array", err);
    }
    *out = n;
    return KD_OK;
}

static kd_status array_of(const kd_json *obj, const char *key, size_t n, const kd_json **out, kd_err *err)
{
    KD_TRY(kd_json_get_array(obj, key, out, err));
    if (kd_json_count(*out) != n) {
        char w[400];
        kd_json_where(*out, w, sizeof w);
        return KD_FAIL(err, KD_E_FORMAT, "%s: expected %zu numbers, found %zu", w, n, kd_json_count(*out));
    }
    return KD_OK;
}

kd_status kd_json_get_f64s(const kd_json *obj, const char *key, double *out, size_t n, kd_err *err)
{
    const kd_json *a;
    KD_TRY(array_of(obj, key, n, &a, err));
    for (size_t i = 0; i < n; i++) {
        KD_TRY(kd_json_as_f64(kd_json_at(a, i), &out[i], err));
    }
    return KD_OK;
}

kd_status kd_json_get_i64s(const kd_json *obj, const char *key, int64_t *out, size_t n, kd_err *err)
{
    const kd_json *a;
    KD_TRY(array_of(obj, key, n, &a, err));
    for (size_t i = 0; i < n; i++) {
        KD_TRY(kd_json_as_i64(kd_json_at(a, i), &out[i], err));
    }
    return KD_OK;
}

kd_status kd_json_opt_i64(const kd_json *obj, const char *key, int64_t absent, int64_t *out, kd_err *err)
{
    *out = absent;
    return kd_json_get(obj, key) == NULL ? KD_OK : kd_json_get_i64(obj, key, out, err);
}

kd_status kd_json_opt_f64(const kd_json *obj, const char *key, double absent, double *out, kd_err *err)
{
    *out = absent;
    return kd_json_get(obj, key) == NULL ? KD_OK : kd_json_get_f64(obj, key, out, err);
}

kd_status kd_json_opt_bool(const kd_json *obj, const char *key, bool absent, bool *out, kd_err *err)
{
    *out = absent;
    return kd_json_get(obj, key) == NULL ? KD_OK : kd_json_get_bool(obj, key, out, err);
}

kd_status kd_json_opt_str(const kd_json *obj, const char *key, const char *absent, const char **out, kd_err *err)
{
    *out = absent;
    return kd_json_get(obj, key) == NULL ? KD_OK : kd_json_get_str(obj, key, out, err);
}
