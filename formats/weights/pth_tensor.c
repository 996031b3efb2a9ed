/* Storages and tensors as the pickle of a torch file describes them: see pth.h. */
#include "formats/weights/pth_internal.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_NAME 1024

static kd_status bad(const kd_pth *p, kd_err *err, const char *name, const char *what)
{
    return KD_FAIL(err, KD_E_FORMAT, "%s: tensor %s: %s", p->origin, name, what);
}

/* ---- dtypes ---------------------------------------------------------------------------------- */

static const struct {
    const char *storage;
    const char *dtype;
    kd_st_dtype st;
} types[] = {
    {"FloatStorage", "float32", KD_ST_F32},
    {"HalfStorage", "float16", KD_ST_F16},
    {"BFloat16Storage", "bfloat16", KD_ST_BF16},
    {"DoubleStorage", "float64", KD_ST_F64},
    {"LongStorage", "int64", KD_ST_I64},
    {"IntStorage", "int32", KD_ST_I32},
    {"ShortStorage", "int16", KD_ST_I16},
    {"CharStorage", "int8", KD_ST_I8},
    {"ByteStorage", "uint8", KD_ST_U8},
    {"BoolStorage", "bool", KD_ST_BOOL},
    {"ComplexFloatStorage", "complex64", KD_ST_C64},
};

static bool storage_type(const kd_pk_node *cls, kd_st_dtype *out, bool *untyped)
{
    *untyped = false;
    for (size_t i = 0; i < KD_COUNTOF(types); i++) {
        if (kd_pk_is_global(cls, "torch", types[i].storage)) {
            *out = types[i].st;
            return true;
        }
    }
    if (kd_pk_is_global(cls, "torch.storage", "UntypedStorage") || kd_pk_is_global(cls, "torch", "UntypedStorage")) {
        *out = KD_ST_U8;
        *untyped = true;
        return true;
    }
    return false;
}

static bool named_dtype(const kd_pk_node *n, kd_st_dtype *out)
{
    for (size_t i = 0; i < KD_COUNTOF(types); i++) {
        if (kd_pk_is_global(n, "torch", types[i].dtype)) {
            *out = types[i].st;
            return true;
        }
    }
    return false;
}

/* ---- storages -------------------------------------------------------------------------------- */

static bool same_text(const kd_pk_node *a, const kd_pk_node *b)
{
    return a->u.s.size == b->u.s.size && memcmp(a->u.s.text, b->u.s.text, a->u.s.size) == 0;
}

static int by_key(const void *a, const void *b)
{
    const kd_pk_node *x = ((const kd_pth_storage *)a)->key;
    const kd_pk_node *y = ((const kd_pth_storage *)b)->key;
    const int c = memcmp(x->u.s.text, y->u.s.text, KD_MIN(x->u.s.size, y->u.s.size));
    if (c != 0) {
        return c;
    }
    return x->u.s.size < y->u.s.size ? -1 : x->u.s.size > y->u.s.size;
}

/* ('storage', class, key, location, numel[, view]) */
static bool read_persid(const kd_pk_node *n, kd_pth_storage *s, uint64_t *numel)
{
    const kd_pk_node *id = n->u.ref;
    const kd_pk_node *key = kd_pk_at(id, 2);
    int64_t count = 0;
    if (id->type != KD_PK_TUPLE || !kd_pk_is_str(kd_pk_at(id, 0), "storage") || key == NULL || key->type != KD_PK_STR ||
        !kd_pk_int(kd_pk_at(id, 4), &count) || count < 0 || !storage_type(kd_pk_at(id, 1), &s->dtype, &s->untyped)) {
        return false;
    }
    s->key = key;
    *numel = (uint64_t)count;
    return true;
}

/* Every storage that any persistent id of the pickle names, sorted by key, once each. */
kd_status kd_pth_collect_storages(kd_pth *p, kd_err *err)
{
    size_t n = 0;
    for (const kd_pk_node *x = kd_pk_last_persid(p->pk); x != NULL; x = x->v.next) {
        n++;
    }
    p->st = kd_calloc(n + 1, sizeof *p->st);
    if (p->st == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", p->origin);
    }
    n = 0;
    for (const kd_pk_node *x = kd_pk_last_persid(p->pk); x != NULL; x = x->v.next) {
        uint64_t numel = 0;
        kd_pth_storage s = {0};
        if (!read_persid(x, &s, &numel)) {
            continue; /* an error only if a tensor refers to it */
        }
        s.bytes = numel; /* elements; bytes once the dtype is known */
        p->st[n++] = s;
    }
    if (n > 1) {
        qsort(p->st, n, sizeof *p->st, by_key);
    }
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        kd_pth_storage *s = &p->st[i];
        if (used > 0 && same_text(p->st[used - 1].key, s->key)) {
            if (p->st[used - 1].dtype != s->dtype || p->st[used - 1].bytes != s->bytes) {
                return KD_FAIL(err, KD_E_FORMAT, "%s: storage %.*s is described in two ways", p->origin,
                               (int)KD_MIN(s->key->u.s.size, (size_t)64), s->key->u.s.text);
            }
            continue;
        }
        p->st[used++] = *s;
    }
    p->storages = used;
    for (size_t i = 0; i < used; i++) {
        size_t bytes = 0;
        if (!kd_size_mul((size_t)p->st[i].bytes, kd_st_dtype_bits(p->st[i].dtype) / 8, &bytes)) {
            return KD_FAIL(err, KD_E_FORMAT, "%s: the size of a storage overflows", p->origin);
        }
        p->st[i].bytes = bytes;
    }
    return KD_OK;
}

kd_pth_storage *kd_pth_find_storage(const kd_pth *p, const kd_pk_node *key)
{
    const kd_pth_storage want = {.key = key};
    return p->storages > 0 ? bsearch(&want, p->st, p->storages, sizeof *p->st, by_key) : NULL;
}

/* Zip form: find the member of a storage the first time a tensor asks for it. */
static kd_status locate(kd_pth *p, kd_pth_storage *s, const char *name, kd_err *err)
{
    if (s->data != NULL || s->entry != NULL || p->zip == NULL) {
        return s->data != NULL || s->entry != NULL ? KD_OK : bad(p, err, name, "its storage is not in the file");
    }
    if (s->key->u.s.size > 128) {
        return bad(p, err, name, "its storage has an overlong key");
    }
    char *member = kd_strf("%s/data/%.*s", p->prefix, (int)s->key->u.s.size, s->key->u.s.text);
    if (member == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", p->origin);
    }
    s->entry = kd_zip_find(p->zip, member);
    kd_free(member);
    if (s->entry == NULL) {
        return bad(p, err, name, "its storage is not in the archive");
    }
    if (s->entry->bytes < s->bytes) {
        return bad(p, err, name, "its storage is too short");
    }
    if (s->entry->method != 0) {
        return s->entry->bytes == s->bytes ? KD_OK : bad(p, err, name, "its storage unpacks to more than it says");
    }
    s->data = s->entry->data;
    return KD_OK;
}

/* ---- tensors --------------------------------------------------------------------------------- */

static bool read_ints(const kd_pk_node *n, int64_t *out, size_t *count)
{
    if (kd_pk_is_call(n, "torch", "Size")) {
        n = kd_pk_at(n->u.call.args, 0);
    }
    if (n == NULL || (n->type != KD_PK_TUPLE && n->type != KD_PK_LIST)) {
        return false;
    }
    if (kd_pk_count(n) > KD_PTH_MAX_RANK) {
        return false;
    }
    *count = kd_pk_count(n);
    for (size_t i = 0; i < *count; i++) {
        if (!kd_pk_int(kd_pk_at(n, i), &out[i]) || out[i] < 0) {
            return false;
        }
    }
    return true;
}

/* Elements from the first to one past the last; false on overflow. */
static bool view_span(const kd_pth_tensor *t, uint64_t offset, uint64_t *span)
{
    uint64_t last = offset;
    if (t->count == 0) {
        *span = offset;
        return true;
    }
    for (size_t k = 0; k < t->rank; k++) {
        uint64_t step = 0;
        if (__builtin_mul_overflow((uint64_t)(t->dim[k] - 1), (uint64_t)t->stride[k], &step) ||
            __builtin_add_overflow(last, step, &last)) {
            return false;
        }
    }
    return !__builtin_add_overflow(last, 1u, span);
}

static kd_status shape_of(const kd_pth *p, const kd_pk_node *args, kd_pth_tensor *t, kd_err *err)
{
    size_t strides = 0;
    if (!read_ints(kd_pk_at(args, 2), t->dim, &t->rank) || !read_ints(kd_pk_at(args, 3), t->stride, &strides) ||
        strides != t->rank) {
        return bad(p, err, t->name, "its size or stride is not a short tuple of numbers");
    }
    t->count = 1;
    t->contiguous = true;
    for (size_t k = t->rank; k-- > 0;) {
        t->contiguous = t->contiguous && (t->dim[k] == 1 || (size_t)t->stride[k] == t->count);
        if (!kd_size_mul(t->count, (size_t)t->dim[k], &t->count)) {
            return bad(p, err, t->name, "the size of its shape overflows");
        }
    }
    t->contiguous = t->contiguous || t->count == 0;
    return KD_OK;
}

/* The offset of a storage that is itself a view of another one (five-pickle form only). */
static bool view_offset(const kd_pk_node *id, const kd_pk_node **key, int64_t *offset)
{
    const kd_pk_node *view = kd_pk_at(id, 5);
    *key = kd_pk_at(id, 2);
    *offset = 0;
    if (view == NULL || view->type == KD_PK_NONE) {
        return true;
    }
    return kd_pk_int(kd_pk_at(view, 1), offset) && *offset >= 0;
}

static kd_status rebuild(kd_pth *p, const kd_pk_node *args, bool v3, kd_pth_tensor *t, kd_err *err)
{
    const kd_pk_node *pid = kd_pk_at(args, 0);
    int64_t offset = 0;
    int64_t more = 0;
    const kd_pk_node *key = NULL;
    if (pid == NULL || pid->type != KD_PK_PERSID || !view_offset(pid->u.ref, &key, &more) || key == NULL ||
        key->type != KD_PK_STR || !kd_pk_int(kd_pk_at(args, 1), &offset) || offset < 0) {
        return bad(p, err, t->name, "its storage or offset is not one that torch.save writes");
    }
    kd_pth_storage *s = kd_pth_find_storage(p, key);
    if (s == NULL) {
        return bad(p, err, t->name, "its storage has an unknown type");
    }
    KD_TRY(locate(p, s, t->name, err));
    KD_TRY(shape_of(p, args, t, err));
    t->dtype = s->dtype;
    if (v3 && !named_dtype(kd_pk_at(args, 6), &t->dtype)) {
        return bad(p, err, t->name, "its dtype is unknown");
    }
    const size_t item = kd_st_dtype_bits(t->dtype) / 8;
    uint64_t span = 0;
    uint64_t from = 0;
    if (__builtin_add_overflow((uint64_t)offset, (uint64_t)more, &from) || !view_span(t, from, &span) ||
        span > s->bytes / item) {
        return bad(p, err, t->name, "it reaches beyond its storage");
    }
    /* an expanded view (stride 0) may claim any size: bound what a reader would have to allocate */
    if (t->count > KD_MAX(s->bytes / item, (uint64_t)1 << 24) || !kd_size_mul(t->count, item, &t->bytes)) {
        return bad(p, err, t->name, "it is far larger than its storage");
    }
    t->offset = from * item;
    t->storage = (size_t)(s - p->st);
    return KD_OK;
}

/* The rebuild call behind a value, NULL when it is no tensor. */
static const kd_pk_node *tensor_call(const kd_pk_node *n, bool *v3)
{
    for (int wraps = 0; wraps < 4 && n != NULL && n->type == KD_PK_CALL; wraps++) {
        *v3 = kd_pk_is_call(n, "torch._utils", "_rebuild_tensor_v3");
        if (*v3 || kd_pk_is_call(n, "torch._utils", "_rebuild_tensor_v2") ||
            kd_pk_is_call(n, "torch._utils", "_rebuild_tensor")) {
            return n;
        }
        if (!kd_pk_is_call(n, "torch._utils", "_rebuild_parameter") &&
            !kd_pk_is_call(n, "torch._utils", "_rebuild_parameter_with_state")) {
            return NULL;
        }
        n = kd_pk_at(n->u.call.args, 0);
    }
    return NULL;
}

static bool holds_tensors(const kd_pk_node *d)
{
    bool v3;
    if (d == NULL || d->type != KD_PK_DICT) {
        return false;
    }
    for (size_t i = 1; i < kd_pk_count(d); i += 2) {
        if (tensor_call(kd_pk_at(d, i), &v3) != NULL) {
            return true;
        }
    }
    return false;
}

/* The dictionary at a path of keys with '.' between; NULL: there is none, or it holds no tensors. */
static const kd_pk_node *dict_at(const kd_pk_node *top, const char *path)
{
    char name[KD_COUNTOF(((kd_pth *)0)->key)];
    while (top != NULL && top->type == KD_PK_DICT && path[0] != '\0') {
        const size_t n = strcspn(path, ".");
        if (n >= sizeof name) {
            return NULL;
        }
        memcpy(name, path, n);
        name[n] = '\0';
        top = kd_pk_get(top, name);
        path += n + (path[n] != '\0' ? 1 : 0);
    }
    return holds_tensors(top) ? top : NULL;
}

static const kd_pk_node *find_dict(kd_pth *p)
{
    static const char *const keys[] = {"model",     "module",  "state_dict", "model_state_dict",
                                       "model_ema", "student", "teacher"};
    const kd_pk_node *top = kd_pk_root(p->pk);
    const kd_pk_node *at = top;
    const kd_pk_node *wanted = p->wanted[0] != '\0' ? dict_at(top, p->wanted) : NULL;
    if (wanted != NULL) {
        (void)snprintf(p->key, sizeof p->key, "%s", p->wanted);
        return wanted;
    }
    p->key[0] = '\0';
    for (int depth = 0; depth < 3; depth++) {
        const kd_pk_node *down = NULL;
        const char *name = "";
        bool found = false;
        for (size_t i = 0; i < KD_COUNTOF(keys) && !found; i++) {
            const kd_pk_node *d = kd_pk_get(at, keys[i]);
            if (d == NULL || d->type != KD_PK_DICT) {
                continue;
            }
            found = holds_tensors(d);
            if (found || down == NULL) {
                down = d;
                name = keys[i];
            }
        }
        if (down == NULL) {
            break;
        }
        const size_t used = strlen(p->key);
        (void)snprintf(p->key + used, sizeof p->key - used, "%s%s", used > 0 ? "." : "", name);
        if (found) {
            return down;
        }
        at = down;
    }
    p->key[0] = '\0';
    return holds_tensors(top) ? top : NULL;
}

static kd_status add_tensor(kd_pth *p, const kd_pk_node *key, const kd_pk_node *value, kd_err *err)
{
    bool v3 = false;
    const kd_pk_node *call = tensor_call(value, &v3);
    if (key->type != KD_PK_STR || key->u.s.size == 0 || key->u.s.size > MAX_NAME ||
        memchr(key->u.s.text, '\0', key->u.s.size) != NULL) {
        if (call != NULL) {
            return KD_FAIL(err, KD_E_FORMAT, "%s: a tensor without a proper name", p->origin);
        }
        p->skipped++;
        return KD_OK;
    }
    char *name = p->names + p->names_used;
    memcpy(name, key->u.s.text, key->u.s.size);
    name[key->u.s.size] = '\0';
    if (call == NULL) {
        const kd_pk_node *f = value->type == KD_PK_CALL ? value->u.call.func : NULL;
        if (f != NULL && f->type == KD_PK_GLOBAL && f->u.s.size >= 5 && memcmp(f->u.s.text, "torch", 5) == 0 &&
            !kd_pk_is_global(f, "torch", "Size") && !kd_pk_is_global(f, "torch", "device")) {
            char what[256];
            kd_pk_describe(value, what, sizeof what);
            return KD_FAIL(err, KD_E_FORMAT, "%s: tensor %s: built by %s, which is not supported", p->origin, name,
                           what);
        }
        p->skipped++;
        return KD_OK;
    }
    p->names_used += key->u.s.size + 1;
    kd_pth_tensor *t = &p->t[p->count];
    t->name = name;
    KD_TRY(rebuild(p, call->u.call.args, v3, t, err));
    p->count++;
    return KD_OK;
}

kd_status kd_pth_collect_tensors(kd_pth *p, kd_err *err)
{
    const kd_pk_node *d = find_dict(p);
    if (d == NULL) {
        char what[256];
        kd_pk_describe(kd_pk_root(p->pk), what, sizeof what);
        return KD_FAIL(err, KD_E_FORMAT,
                       "%s: no state dict in it (looked for model, module, state_dict, ... and at "
                       "the top, which is %s)",
                       p->origin, what);
    }
    size_t text = 0;
    for (size_t i = 0; i + 1 < kd_pk_count(d); i += 2) {
        const kd_pk_node *k = kd_pk_at(d, i);
        text += k->type == KD_PK_STR ? KD_MIN(k->u.s.size, (size_t)MAX_NAME) + 1 : 0;
    }
    p->t = kd_calloc(kd_pk_count(d) / 2 + 1, sizeof *p->t);
    p->names = kd_alloc(text + 1);
    if (p->t == NULL || p->names == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", p->origin);
    }
    for (size_t i = 0; i + 1 < kd_pk_count(d); i += 2) {
        KD_TRY(add_tensor(p, kd_pk_at(d, i), kd_pk_at(d, i + 1), err));
    }
    return KD_OK;
}
