/* Looking at the tree of a pickle: see pickle.h. */
#include "formats/base/python/pickle.h"

#include <stdio.h>

static bool has_items(const kd_pk_node *n)
{
    return n != NULL &&
           (n->type == KD_PK_TUPLE || n->type == KD_PK_LIST || n->type == KD_PK_SET || n->type == KD_PK_DICT);
}

size_t kd_pk_count(const kd_pk_node *n)
{
    return has_items(n) ? n->u.list.count : 0;
}

const kd_pk_node *kd_pk_at(const kd_pk_node *n, size_t i)
{
    return i < kd_pk_count(n) ? n->u.list.item[i] : NULL;
}

const kd_pk_node *kd_pk_get(const kd_pk_node *n, const char *key)
{
    if (n == NULL || n->type != KD_PK_DICT) {
        return NULL;
    }
    for (size_t i = n->u.list.count; i >= 2; i -= 2) {
        if (kd_pk_is_str(n->u.list.item[i - 2], key)) {
            return n->u.list.item[i - 1];
        }
    }
    return NULL;
}

static bool same(const char *text, size_t n, const char *with)
{
    return strlen(with) == n && memcmp(text, with, n) == 0;
}

bool kd_pk_is_str(const kd_pk_node *n, const char *text)
{
    return n != NULL && n->type == KD_PK_STR && same(n->u.s.text, n->u.s.size, text);
}

bool kd_pk_is_global(const kd_pk_node *n, const char *module, const char *name)
{
    return n != NULL && n->type == KD_PK_GLOBAL && same(n->u.s.text, n->u.s.size, module) &&
           same(n->v.name, n->name_size, name);
}

bool kd_pk_is_call(const kd_pk_node *n, const char *module, const char *name)
{
    return n != NULL && n->type == KD_PK_CALL && kd_pk_is_global(n->u.call.func, module, name);
}

bool kd_pk_int(const kd_pk_node *n, int64_t *out)
{
    if (n == NULL || n->type != KD_PK_INT) {
        return false;
    }
    *out = n->u.i;
    return true;
}

void kd_pk_describe(const kd_pk_node *n, char *buf, size_t bytes)
{
    static const char *const text[] = {"None",   "a bool",   "an int",  "a big int",      "a float",
                                       "a str",  "bytes",    "a tuple", "a list",         "a set",
                                       "a dict", "a global", "a call",  "a persistent id"};
    const kd_pk_node *g = n != NULL && n->type == KD_PK_CALL ? n->u.call.func : n;
    if (g != NULL && g->type == KD_PK_GLOBAL) {
        (void)snprintf(buf, bytes, "%s%.*s.%.*s", g != n ? "a call of " : "", (int)KD_MIN(g->u.s.size, (size_t)100),
                       g->u.s.text, (int)KD_MIN(g->name_size, 100u), g->v.name);
    } else {
        (void)snprintf(buf, bytes, "%s", n != NULL ? text[n->type] : "nothing");
    }
}
