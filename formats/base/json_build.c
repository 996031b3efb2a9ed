/* JSON setters: see json.h.  `put_*` serve objects (key) and arrays (key NULL) alike. */
#include "formats/base/json_internal.h"

/* Bytes of the UTF-8 sequence at s, 0 when it is not well-formed (overlong and surrogates included). */
static size_t utf8_len(const uint8_t *s)
{
    if (s[0] < 0x80) {
        return 1;
    }
    if (s[0] < 0xc2 || s[0] > 0xf4) {
        return 0;
    }
    const size_t n = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    const uint8_t lo = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
    const uint8_t hi = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;
    if (s[1] < lo || s[1] > hi) {
        return 0;
    }
    for (size_t i = 2; i < n; i++) {
        if ((s[i] & 0xc0u) != 0x80u) {
            return 0;
        }
    }
    return n;
}

static void put_str(kd_json *to, const char *key, const char *v)
{
    kd_json *n = kd_json_add(to, key, v != NULL ? KD_JSON_STR : KD_JSON_NULL);
    if (n == NULL || v == NULL) {
        return;
    }
    char *t = kd_json_text_copy(to, v, strlen(v));
    if (t == NULL) {
        n->type = KD_JSON_NULL;
        return;
    }
    for (size_t i = 0; t[i] != '\0';) { /* a file name may hold any bytes, JSON text may not */
        const size_t len = utf8_len((const uint8_t *)t + i);
        if (len == 0) {
            t[i] = '?';
        }
        i += len == 0 ? 1 : len;
    }
    n->v.s = t;
}

static void put_bool(kd_json *to, const char *key, bool v)
{
    kd_json *n = kd_json_add(to, key, KD_JSON_BOOL);
    if (n != NULL) {
        n->v.b = v;
    }
}

static void put_i64(kd_json *to, const char *key, int64_t v)
{
    kd_json *n = kd_json_add(to, key, KD_JSON_I64);
    if (n != NULL) {
        n->v.i = v;
    }
}

static void put_f64(kd_json *to, const char *key, double v)
{
    kd_json *n = kd_json_add(to, key, KD_JSON_F64);
    if (n != NULL) {
        n->v.f = v;
    }
}

/* Deep copy without recursion: walk `from` in document order, keeping the twin of the current container. */
static void put_copy(kd_json *to, const char *key, const kd_json *from)
{
    if (from == NULL) {
        (void)kd_json_add(to, key, KD_JSON_NULL);
        return;
    }
    kd_json *root = to;
    for (kd_json *up = to; up != NULL; up = up->parent) {
        KD_ASSERT(up != from); /* a tree cannot hold a copy of itself */
        root = up;
    }
    if (root != NULL && !kd_json_ok(from)) { /* something is missing in it: so it is here */
        root->at.doc->failed = true;
    }
    const kd_json *src = from;
    kd_json *dst_parent = to;
    const char *k = key;
    for (;;) {
        kd_json *twin = NULL;
        if (src->type == KD_JSON_STR) {
            put_str(dst_parent, k, src->v.s);
            if (!kd_json_ok(dst_parent)) {
                return;
            }
        } else {
            twin = kd_json_add(dst_parent, k, (kd_json_type)src->type);
            if (twin == NULL) {
                return;
            }
            if (kd_json_count(src) > 0) {
                src = src->v.m->item[0];
                dst_parent = twin;
                k = dst_parent->type == KD_JSON_OBJECT ? src->at.key : NULL;
                continue;
            }
            if (src->type != KD_JSON_ARRAY && src->type != KD_JSON_OBJECT) {
                twin->v = src->v;
            }
        }
        for (;;) { /* next sibling, or up */
            if (src == from) {
                return;
            }
            const kd_json *p = src->parent;
            const size_t next = kd_json_count(dst_parent);
            if (next < kd_json_count(p)) {
                src = p->v.m->item[next];
                k = p->type == KD_JSON_OBJECT ? src->at.key : NULL;
                break;
            }
            src = p;
            dst_parent = dst_parent->parent;
        }
    }
}

void kd_json_set_bool(kd_json *obj, const char *key, bool v)
{
    put_bool(obj, key, v);
}

void kd_json_set_i64(kd_json *obj, const char *key, int64_t v)
{
    put_i64(obj, key, v);
}

void kd_json_set_f64(kd_json *obj, const char *key, double v)
{
    put_f64(obj, key, v);
}

void kd_json_set_str(kd_json *obj, const char *key, const char *v)
{
    put_str(obj, key, v);
}

kd_json *kd_json_set_object(kd_json *obj, const char *key)
{
    return kd_json_add(obj, key, KD_JSON_OBJECT);
}

kd_json *kd_json_set_array(kd_json *obj, const char *key)
{
    return kd_json_add(obj, key, KD_JSON_ARRAY);
}

void kd_json_set_f64s(kd_json *obj, const char *key, const double *v, size_t n)
{
    kd_json *a = kd_json_set_array(obj, key);
    for (size_t i = 0; i < n; i++) {
        put_f64(a, NULL, v[i]);
    }
}

void kd_json_set_i64s(kd_json *obj, const char *key, const int64_t *v, size_t n)
{
    kd_json *a = kd_json_set_array(obj, key);
    for (size_t i = 0; i < n; i++) {
        put_i64(a, NULL, v[i]);
    }
}

void kd_json_set_copy(kd_json *obj, const char *key, const kd_json *from)
{
    put_copy(obj, key, from);
}

void kd_json_push_i64(kd_json *arr, int64_t v)
{
    put_i64(arr, NULL, v);
}

void kd_json_push_f64(kd_json *arr, double v)
{
    put_f64(arr, NULL, v);
}

void kd_json_push_str(kd_json *arr, const char *v)
{
    put_str(arr, NULL, v);
}

kd_json *kd_json_push_object(kd_json *arr)
{
    return kd_json_add(arr, NULL, KD_JSON_OBJECT);
}

kd_json *kd_json_push_array(kd_json *arr)
{
    return kd_json_add(arr, NULL, KD_JSON_ARRAY);
}

void kd_json_push_copy(kd_json *arr, const kd_json *from)
{
    put_copy(arr, NULL, from);
}
