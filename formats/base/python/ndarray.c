/* NumPy values inside a pickle: see ndarray.h. */
#include "formats/base/python/ndarray.h"

#include <stdio.h>

enum { DESCR = 32 };

static bool is_numpy(const kd_pk_node *n, const char *module, const char *name)
{
    char full[64];
    (void)snprintf(full, sizeof full, "numpy.core.%s", module);
    const bool old = kd_pk_is_call(n, full, name);
    (void)snprintf(full, sizeof full, "numpy._core.%s", module);
    return old || kd_pk_is_call(n, full, name);
}

bool kd_pk_is_array(const kd_pk_node *n)
{
    return is_numpy(n, "multiarray", "_reconstruct") || is_numpy(n, "numeric", "_frombuffer");
}

/* ---- bytes ----------------------------------------------------------------------------------- */

/* Code points 0 to 255, as _codecs.encode(text, 'latin1') makes bytes of them. */
static bool latin1(const char *text, size_t size, uint8_t *out, size_t *n)
{
    *n = 0;
    for (size_t i = 0; i < size; i++) {
        const uint8_t c = (uint8_t)text[i];
        if (c < 0x80) {
            out[(*n)++] = c;
        } else if ((c == 0xc2 || c == 0xc3) && i + 1 < size && ((uint8_t)text[i + 1] & 0xc0u) == 0x80) {
            out[(*n)++] = (uint8_t)((c & 3u) << 6 | ((uint8_t)text[++i] & 0x3fu));
        } else {
            return false;
        }
    }
    return true;
}

/* The bytes of a node; *own as in kd_pk_array. */
static kd_status bytes_of(const kd_pk_node *n, const char *origin, const uint8_t **data, size_t *size, uint8_t **own,
                          kd_err *err)
{
    if (n != NULL && (n->type == KD_PK_BYTES || n->type == KD_PK_STR)) { /* Python 2 calls its bytes str */
        *data = (const uint8_t *)n->u.s.text;
        *size = n->u.s.size;
        return KD_OK;
    }
    const kd_pk_node *text = n != NULL && kd_pk_is_call(n, "_codecs", "encode") ? kd_pk_at(n->u.call.args, 0) : NULL;
    const kd_pk_node *codec = text != NULL ? kd_pk_at(n->u.call.args, 1) : NULL;
    if (text == NULL || text->type != KD_PK_STR || !kd_pk_is_str(codec, "latin1")) {
        char found[160];
        kd_pk_describe(n, found, sizeof found);
        return KD_FAIL(err, KD_E_FORMAT, "%s: expected the bytes of an array, found %s", origin, found);
    }
    uint8_t *out = kd_alloc(text->u.s.size + 1);
    if (out == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for an array", origin);
    }
    if (!latin1(text->u.s.text, text->u.s.size, out, size)) {
        kd_free(out);
        return KD_FAIL(err, KD_E_FORMAT, "%s: the text of an array's bytes is no latin1", origin);
    }
    *own = out;
    *data = out;
    return KD_OK;
}

/* ---- types and shapes ------------------------------------------------------------------------ */

/* "<f4" of numpy.dtype('f4', False, True) with the state (3, '<', ...). */
static kd_status descr_of(const kd_pk_node *n, const char *origin, char descr[DESCR], kd_err *err)
{
    const kd_pk_node *name = kd_pk_is_call(n, "numpy", "dtype") ? kd_pk_at(n->u.call.args, 0) : NULL;
    if (name == NULL || (name->type != KD_PK_STR && name->type != KD_PK_BYTES) || name->u.s.size >= DESCR - 1) {
        char found[160];
        kd_pk_describe(n, found, sizeof found);
        return KD_FAIL(err, KD_E_FORMAT, "%s: expected numpy.dtype of a plain type, found %s", origin, found);
    }
    const kd_pk_node *order = kd_pk_at(n->v.state, 1);
    const bool stated = order != NULL && (order->type == KD_PK_STR || order->type == KD_PK_BYTES) &&
                        order->u.s.size == 1 && strchr("<>|=", order->u.s.text[0]) != NULL;
    (void)snprintf(descr, DESCR, "%c%.*s", stated ? order->u.s.text[0] : '|', (int)name->u.s.size, name->u.s.text);
    return KD_OK;
}

static kd_status shape_of(const kd_pk_node *n, const char *origin, kd_npy *a, kd_err *err)
{
    if (n == NULL || n->type != KD_PK_TUPLE || n->u.list.count > KD_NPY_MAX_RANK) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: expected a shape of at most %d dimensions", origin, KD_NPY_MAX_RANK);
    }
    a->rank = n->u.list.count;
    for (size_t k = 0; k < a->rank; k++) {
        if (!kd_pk_int(kd_pk_at(n, k), &a->dim[k]) || a->dim[k] < 0) {
            return KD_FAIL(err, KD_E_FORMAT, "%s: dimension %zu of the shape is no size", origin, k);
        }
    }
    return KD_OK;
}

/* ---- calls ----------------------------------------------------------------------------------- */

/* Where the parts of an array stand in its pickle. */
typedef struct parts {
    const kd_pk_node *shape, *dtype, *bytes;
    bool columns;
} parts;

static bool parts_of(const kd_pk_node *n, parts *p)
{
    if (is_numpy(n, "numeric", "_frombuffer")) {
        const kd_pk_node *args = n->u.call.args;
        *p = (parts){kd_pk_at(args, 2), kd_pk_at(args, 1), kd_pk_at(args, 0), kd_pk_is_str(kd_pk_at(args, 3), "F")};
        return kd_pk_count(args) == 4;
    }
    const kd_pk_node *state = n->v.state;
    const kd_pk_node *columns = kd_pk_at(state, 3);
    *p = (parts){kd_pk_at(state, 1), kd_pk_at(state, 2), kd_pk_at(state, 4),
                 columns != NULL && columns->type == KD_PK_BOOL && columns->u.b};
    return kd_pk_count(state) == 5;
}

kd_status kd_pk_array(const kd_pk_node *n, const char *origin, kd_npy *out, uint8_t **own, kd_err *err)
{
    parts p;
    char descr[DESCR];
    kd_npy a = {0};
    const uint8_t *data = NULL;
    size_t size = 0;
    *own = NULL;
    if (!kd_pk_is_array(n) || !parts_of(n, &p)) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: expected a NumPy array with shape, dtype and bytes", origin);
    }
    KD_TRY(descr_of(p.dtype, origin, descr, err));
    KD_TRY(shape_of(p.shape, origin, &a, err));
    a.fortran = p.columns;
    if (descr[1] == 'O') { /* its data are a list */
        return kd_npy_of(descr, NULL, 0, origin, &a, err);
    }
    KD_TRY(bytes_of(p.bytes, origin, &data, &size, own, err));
    const kd_status st = kd_npy_of(descr, data, size, origin, &a, err);
    if (st != KD_OK) {
        kd_free(*own);
        *own = NULL;
        return st;
    }
    *out = a;
    return KD_OK;
}

bool kd_pk_whole(const kd_pk_node *n, int64_t *out)
{
    char descr[DESCR];
    kd_npy a = {0};
    uint8_t *own = NULL;
    const uint8_t *data = NULL;
    size_t size = 0;
    if (kd_pk_int(n, out)) {
        return true;
    }
    const bool ok = is_numpy(n, "multiarray", "scalar") && kd_pk_count(n->u.call.args) == 2 &&
                    descr_of(kd_pk_at(n->u.call.args, 0), "", descr, NULL) == KD_OK &&
                    bytes_of(kd_pk_at(n->u.call.args, 1), "", &data, &size, &own, NULL) == KD_OK &&
                    kd_npy_of(descr, data, size, "", &a, NULL) == KD_OK && kd_npy_to_i64(&a, out, NULL) == KD_OK;
    kd_free(own);
    return ok;
}
