/* JSON documents: manifests, state.json, report.json, log lines.
 *
 * A document is a tree of `kd_json` nodes.  The root owns everything below it, strings and keys
 * included: one kd_json_free(root) ends it all; pointers handed out by getters are borrowed until
 * then.  Every node knows its parent and the root knows its file, so a failed getter names both
 * without help from the caller:
 *     run/state.json: files.model.bytes: expected an integer, found a string
 *
 * Reading:   kd_json *doc = NULL;
 *            KD_GO(kd_json_load("state.json", &doc, err));
 *            KD_GO(kd_json_get_i64(doc, "step", &step, err));
 *            KD_GO(kd_json_get_object(doc, "files", &files, err));
 *            for (size_t i = 0; i < kd_json_count(files); i++)
 *                use(kd_json_key(kd_json_at(files, i)), kd_json_at(files, i));
 *            done: kd_json_free(doc);
 *
 * Building:  kd_json *doc = kd_json_object();
 *            kd_json_set_i64(doc, "step", 12);
 *            kd_json *m = kd_json_set_object(doc, "metrics");
 *            kd_json_set_f64(m, "top1", 0.913);
 *            KD_GO(kd_json_write(doc, "report.json", err));
 * Setters return nothing: a failed allocation marks the document, and kd_json_dump / kd_json_write
 * then give KD_E_OOM; so do those of a document that took a copy of it.  A NULL node is legal for
 * every setter and does nothing, so no check is needed in between.
 *
 * Numbers.  Integers are int64.  Reals are written with the fewest digits that read back to the
 * same double (at most 17), always with a '.' or an exponent, so types survive a round trip.  NaN
 * and infinities are written as null; kd_json_get_f64 reads null as NaN.  Keys keep the order in
 * which they were set.
 *
 * The parser is strict: RFC 8259, UTF-8, no duplicate keys, no trailing text, nesting at most 2048;
 * an integer outside int64 or a real outside double is an error.
 */
#ifndef KD_FORMATS_BASE_JSON_H
#define KD_FORMATS_BASE_JSON_H

#include "kernels/kd_base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kd_json kd_json;

typedef enum kd_json_type {
    KD_JSON_NULL,
    KD_JSON_BOOL,
    KD_JSON_I64,
    KD_JSON_F64,
    KD_JSON_STR,
    KD_JSON_ARRAY,
    KD_JSON_OBJECT
} kd_json_type;

/* ---- documents ------------------------------------------------------------------------------- */

/* New empty roots {} and []; NULL when out of memory (setters accept that). */
kd_json *kd_json_object(void);
kd_json *kd_json_array(void);
void kd_json_free(kd_json *root); /* roots only; NULL is legal */

/* Parse a file (regular, at most 1 GiB).  KD_E_IO, KD_E_FORMAT (file:line:column), KD_E_OOM. */
KD_NODISCARD kd_status kd_json_load(const char *path, kd_json **out, kd_err *err);

/* Parse `bytes` of text (no NUL needed).  `origin` is what errors call it (a path, a record name);
 * may be NULL. */
KD_NODISCARD kd_status kd_json_parse(const char *text, size_t bytes, const char *origin, kd_json **out, kd_err *err);

typedef enum kd_json_style {
    KD_JSON_COMPACT, /* one line, no blanks: log lines, headers */
    KD_JSON_PRETTY   /* 2 blanks a level, arrays of scalars on one line, newline at the end: files */
} kd_json_style;

/* Text of a node (a root or any node below it); NUL-terminated, *bytes without the NUL (may be
 * NULL); kd_free. */
KD_NODISCARD kd_status kd_json_dump(const kd_json *node, kd_json_style style, char **text, size_t *bytes, kd_err *err);

/* Dump pretty and replace `path` atomically (formats/base/io.h).  KD_E_WRITE leaves the old file as it
 * was. */
KD_NODISCARD kd_status kd_json_write(const kd_json *node, const char *path, kd_err *err);

/* ---- looking --------------------------------------------------------------------------------- */

kd_json_type kd_json_type_of(const kd_json *node);               /* NULL node: KD_JSON_NULL */
size_t kd_json_count(const kd_json *node);                       /* members of an array or object, else 0 */
const kd_json *kd_json_at(const kd_json *node, size_t i);        /* i-th member; NULL when out of range */
const kd_json *kd_json_get(const kd_json *obj, const char *key); /* NULL when absent or not an object */
const char *kd_json_key(const kd_json *node);                    /* key of an object's member, else "" */
void kd_json_where(const kd_json *node, char *buf, size_t n);    /* "file: a.b[3]" for messages of your own */

/* ---- typed reading of a member: KD_E_FORMAT when absent or of another type ------------------- */

KD_NODISCARD kd_status kd_json_get_i64(const kd_json *obj, const char *key, int64_t *out, kd_err *err);
/* lo <= value <= hi */
KD_NODISCARD kd_status kd_json_get_range(const kd_json *obj, const char *key, int64_t lo, int64_t hi, int64_t *out,
                                         kd_err *err);
KD_NODISCARD kd_status kd_json_get_f64(const kd_json *obj, const char *key, double *out, kd_err *err); /* int ok */
KD_NODISCARD kd_status kd_json_get_bool(const kd_json *obj, const char *key, bool *out, kd_err *err);
KD_NODISCARD kd_status kd_json_get_str(const kd_json *obj, const char *key, const char **out, kd_err *err);
KD_NODISCARD kd_status kd_json_get_object(const kd_json *obj, const char *key, const kd_json **out, kd_err *err);
KD_NODISCARD kd_status kd_json_get_array(const kd_json *obj, const char *key, const kd_json **out, kd_err *err);
/* Exactly n numbers into out (null as NaN in the real ones). */
KD_NODISCARD kd_status kd_json_get_f64s(const kd_json *obj, const char *key, double *out, size_t n, kd_err *err);
KD_NODISCARD kd_status kd_json_get_i64s(const kd_json *obj, const char *key, int64_t *out, size_t n, kd_err *err);

/* The same, but an absent key gives `absent`; a present key of the wrong type is still an error. */
KD_NODISCARD kd_status kd_json_opt_i64(const kd_json *obj, const char *key, int64_t absent, int64_t *out, kd_err *err);
KD_NODISCARD kd_status kd_json_opt_f64(const kd_json *obj, const char *key, double absent, double *out, kd_err *err);
KD_NODISCARD kd_status kd_json_opt_bool(const kd_json *obj, const char *key, bool absent, bool *out, kd_err *err);
KD_NODISCARD kd_status kd_json_opt_str(const kd_json *obj, const char *key, const char *absent, const char **out,
                                       kd_err *err);

/* The value of a node itself (members of arrays). */
KD_NODISCARD kd_status kd_json_as_i64(const kd_json *node, int64_t *out, kd_err *err);
KD_NODISCARD kd_status kd_json_as_f64(const kd_json *node, double *out, kd_err *err);
KD_NODISCARD kd_status kd_json_as_bool(const kd_json *node, bool *out, kd_err *err);
KD_NODISCARD kd_status kd_json_as_str(const kd_json *node, const char **out, kd_err *err);

/* ---- building: set on objects (replaces a member of that key), push on arrays ---------------- */

void kd_json_set_bool(kd_json *obj, const char *key, bool v);
void kd_json_set_i64(kd_json *obj, const char *key, int64_t v);
void kd_json_set_f64(kd_json *obj, const char *key, double v);
void kd_json_set_str(kd_json *obj, const char *key, const char *v); /* copies; NULL writes null; invalid UTF-8 -> '?' */
kd_json *kd_json_set_object(kd_json *obj, const char *key);         /* the new empty member, owned by obj's root */
kd_json *kd_json_set_array(kd_json *obj, const char *key);
void kd_json_set_f64s(kd_json *obj, const char *key, const double *v, size_t n);
void kd_json_set_i64s(kd_json *obj, const char *key, const int64_t *v, size_t n);
void kd_json_set_copy(kd_json *obj, const char *key, const kd_json *from); /* deep copy from any document */

void kd_json_push_i64(kd_json *arr, int64_t v);
void kd_json_push_f64(kd_json *arr, double v);
void kd_json_push_str(kd_json *arr, const char *v);
kd_json *kd_json_push_object(kd_json *arr);
kd_json *kd_json_push_array(kd_json *arr);
void kd_json_push_copy(kd_json *arr, const kd_json *from);

bool kd_json_ok(const kd_json *root); /* false: NULL, or an allocation failed while building */

#ifdef __cplusplus
}
#endif
#endif
