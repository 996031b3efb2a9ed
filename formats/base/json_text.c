/* JSON text: strict parsing (jansson) into our tree, printing.  See json.h. */
#include "formats/base/io.h"
#include "formats/base/json_internal.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_FILE ((size_t)1 << 30)

/* ---- parsing --------------------------------------------------------------------------------- */

/* One open container of the conversion: where we are in jansson's tree and in ours. */
typedef struct frame {
    json_t *from;
    void *iter;  /* object iterator */
    size_t next; /* array index */
    kd_json *to;
} frame;

static kd_json *add_scalar(kd_json *to, const char *key, json_t *v)
{
    kd_json *n = NULL;
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return kd_json_add(to, key, KD_JSON_OBJECT);
    case JSON_ARRAY:
        return kd_json_add(to, key, KD_JSON_ARRAY);
    case JSON_STRING:
        n = kd_json_add(to, key, KD_JSON_STR);
        if (n != NULL) {
            n->v.s = kd_json_text_copy(to, json_string_value(v), json_string_length(v));
            if (n->v.s == NULL) {
                return NULL;
            }
        }
        return n;
    case JSON_INTEGER:
        n = kd_json_add(to, key, KD_JSON_I64);
        if (n != NULL) {
            n->v.i = (int64_t)json_integer_value(v);
        }
        return n;
    case JSON_REAL:
        n = kd_json_add(to, key, KD_JSON_F64);
        if (n != NULL) {
            n->v.f = json_real_value(v);
        }
        return n;
    case JSON_TRUE:
    case JSON_FALSE:
        n = kd_json_add(to, key, KD_JSON_BOOL);
        if (n != NULL) {
            n->v.b = json_is_true(v);
        }
        return n;
    case JSON_NULL:
        break;
    }
    return kd_json_add(to, key, KD_JSON_NULL);
}

/* jansson's parser bounds the nesting, so the stack is bounded too. */
static bool convert(json_t *from, kd_json *root)
{
    size_t cap = 64;
    size_t depth = 1;
    frame *stack = kd_alloc(cap * sizeof *stack);
    if (stack == NULL) {
        return false;
    }
    stack[0] = (frame){from, json_object_iter(from), 0, root};
    bool ok = true;
    while (depth > 0 && ok) {
        frame *f = &stack[depth - 1];
        const char *key = NULL;
        json_t *v = NULL;
        if (json_is_object(f->from)) {
            if (f->iter == NULL) {
                depth--;
                continue;
            }
            key = json_object_iter_key(f->iter);
            v = json_object_iter_value(f->iter);
            f->iter = json_object_iter_next(f->from, f->iter);
        } else {
            v = json_array_get(f->from, f->next++);
            if (v == NULL) {
                depth--;
                continue;
            }
        }
        kd_json *n = add_scalar(f->to, key, v);
        ok = n != NULL;
        if (!ok || (!json_is_object(v) && !json_is_array(v))) {
            continue;
        }
        if (depth == cap) {
            frame *bigger = kd_realloc(stack, cap * sizeof *stack, 2 * cap * sizeof *stack);
            if (bigger == NULL) {
                ok = false;
                continue;
            }
            stack = bigger;
            cap *= 2;
        }
        stack[depth++] = (frame){v, json_object_iter(v), 0, n};
    }
    kd_free(stack);
    return ok;
}

kd_status kd_json_parse(const char *text, size_t bytes, const char *origin, kd_json **out, kd_err *err)
{
    *out = NULL;
    const char *name = origin != NULL ? origin : "JSON text";
    json_error_t je;
    kd_json *root = NULL;
    kd_status st = KD_OK;
    json_t *j = json_loadb(bytes > 0 ? text : "", bytes, JSON_REJECT_DUPLICATES, &je);
    if (j == NULL) {
        if (json_error_code(&je) == json_error_out_of_memory) {
            return KD_FAIL(err, KD_E_OOM, "%s: out of memory", name);
        }
        return KD_FAIL(err, KD_E_FORMAT, "%s:%d:%d: not valid JSON: %s", name, je.line, je.column, je.text);
    }
    root = json_is_object(j) ? kd_json_object() : kd_json_array();
    if (root == NULL || !convert(j, root)) {
        st = KD_FAIL(err, KD_E_OOM, "%s: out of memory", name);
        goto done;
    }
    if (origin != NULL) {
        root->at.doc->origin = kd_json_text_copy(root, origin, strlen(origin));
    }
    *out = root;
    root = NULL;
done:
    kd_json_free(root);
    json_decref(j);
    return st;
}

kd_status kd_json_load(const char *path, kd_json **out, kd_err *err)
{
    *out = NULL;
    uint8_t *text = NULL;
    size_t bytes = 0;
    KD_TRY(kd_io_read_file(path, MAX_FILE, &text, &bytes, err));
    if (bytes == 0) {
        kd_free(text);
        return KD_FAIL(err, KD_E_FORMAT, "%s: expected JSON, found an empty file", path);
    }
    const size_t mark = bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0; /* of editors on Windows */
    const kd_status st = kd_json_parse((const char *)text + mark, bytes - mark, path, out, err);
    kd_free(text);
    return st;
}

/* ---- printing -------------------------------------------------------------------------------- */

typedef struct printer {
    char *text;
    size_t used;
    size_t cap;
    bool failed;
} printer;

static void put(printer *p, const char *s, size_t n)
{
    if (p->failed) {
        return;
    }
    if (n >= p->cap - p->used) { /* always room for the NUL */
        const size_t cap = KD_MAX(p->cap * 2, p->used + n + 1);
        char *t = kd_realloc(p->text, p->used, cap);
        if (t == NULL) {
            p->failed = true;
            return;
        }
        p->text = t;
        p->cap = cap;
    }
    memcpy(p->text + p->used, s, n);
    p->used += n;
}

static void put_text(printer *p, const char *s)
{
    put(p, s, strlen(s));
}

/* The code point at s where a terminal would obey it (as in kd_show), and its bytes; 0: none. */
static unsigned command_at(const char *s, size_t *bytes)
{
    const unsigned char a = (unsigned char)s[0], b = a >= 0xc2 ? (unsigned char)s[1] : 0;
    const unsigned char c = a == 0xe2 && b != 0 ? (unsigned char)s[2] : 0;
    const unsigned code = a == 0xc2 ? b : a == 0xe2 ? 0x2000u | (b & 0x3fu) << 6 | (c & 0x3fu) : a;
    const bool turns = a == 0xe2 && (code == 0x200e || code == 0x200f || (code >= 0x2028 && code <= 0x202e) ||
                                     (code >= 0x2066 && code <= 0x2069));
    *bytes = a == 0xe2 ? 3 : a == 0xc2 ? 2 : 1;
    return turns || (a == 0xc2 && b < 0xa0) || a < 0x20 || a == 0x7f ? code : 0;
}

static void put_string(printer *p, const char *s)
{
    put(p, "\"", 1);
    const char *run = s;
    size_t bytes = 0;
    for (; *s != '\0'; s++) {
        unsigned c = command_at(s, &bytes);
        if (c == 0 && *s != '"' && *s != '\\') {
            continue;
        }
        c = c == 0 ? (unsigned char)*s : c;
        bytes = c < 0x80 ? 1 : bytes;
        put(p, run, (size_t)(s - run));
        s += bytes - 1;
        run = s + 1;
        char esc[8];
        const char *simple = c == '"'    ? "\\\""
                             : c == '\\' ? "\\\\"
                             : c == '\n' ? "\\n"
                             : c == '\r' ? "\\r"
                             : c == '\t' ? "\\t"
                                         : NULL;
        if (simple == NULL) {
            (void)snprintf(esc, sizeof esc, "\\u%04x", c);
            simple = esc;
        }
        put_text(p, simple);
    }
    put(p, run, (size_t)(s - run));
    put(p, "\"", 1);
}

static void put_real(printer *p, double v)
{
    if (!isfinite(v)) {
        put_text(p, "null");
        return;
    }
    char b[40];
    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(b, sizeof b, "%.*g", digits, v);
        if (strtod(b, NULL) == v) {
            break;
        }
    }
    put_text(p, b);
    if (strpbrk(b, ".e") == NULL) {
        put_text(p, ".0");
    }
}

static void put_scalar(printer *p, const kd_json *n)
{
    char b[32];
    switch ((kd_json_type)n->type) {
    case KD_JSON_BOOL:
        put_text(p, n->v.b ? "true" : "false");
        break;
    case KD_JSON_I64:
        (void)snprintf(b, sizeof b, "%lld", (long long)n->v.i);
        put_text(p, b);
        break;
    case KD_JSON_F64:
        put_real(p, n->v.f);
        break;
    case KD_JSON_STR:
        put_string(p, n->v.s);
        break;
    case KD_JSON_ARRAY:
        put_text(p, "[]");
        break;
    case KD_JSON_OBJECT:
        put_text(p, "{}");
        break;
    case KD_JSON_NULL:
        put_text(p, "null");
        break;
    }
}

/* Arrays of scalars stay on one line. */
static bool on_one_line(const kd_json *n)
{
    if (n->type != KD_JSON_ARRAY) {
        return false;
    }
    for (size_t i = 0; i < kd_json_count(n); i++) {
        if (kd_json_count(kd_json_at(n, i)) > 0) {
            return false;
        }
    }
    return true;
}

static void new_line(printer *p, size_t depth)
{
    put(p, "\n", 1);
    for (size_t i = 0; i < depth; i++) {
        put(p, "  ", 2);
    }
}

typedef struct level {
    const kd_json *node;
    size_t next;
    bool flat;
} level;

/* Depth first with a stack of our own.  `first` has members. */
static bool put_tree(printer *p, const kd_json *first, bool pretty)
{
    size_t cap = 64;
    size_t depth = 0;
    level *stack = kd_alloc(cap * sizeof *stack);
    if (stack == NULL) {
        return false;
    }
    const kd_json *n = first;
    while (n != NULL || depth > 0) {
        if (n != NULL && kd_json_count(n) == 0) {
            put_scalar(p, n);
            n = NULL;
        } else if (n != NULL) { /* open */
            if (depth == cap) {
                level *bigger = kd_realloc(stack, cap * sizeof *stack, 2 * cap * sizeof *stack);
                if (bigger == NULL) {
                    break;
                }
                stack = bigger;
                cap *= 2;
            }
            put(p, n->type == KD_JSON_OBJECT ? "{" : "[", 1);
            stack[depth++] = (level){n, 0, !pretty || on_one_line(n)};
            n = NULL;
        }
        if (depth == 0) {
            break;
        }
        level *l = &stack[depth - 1];
        if (l->next == kd_json_count(l->node)) { /* close */
            depth--;
            if (!l->flat) {
                new_line(p, depth);
            }
            put(p, l->node->type == KD_JSON_OBJECT ? "}" : "]", 1);
            continue;
        }
        if (l->next > 0) {
            put_text(p, l->flat && pretty ? ", " : ",");
        }
        if (!l->flat) {
            new_line(p, depth);
        }
        n = kd_json_at(l->node, l->next++);
        if (l->node->type == KD_JSON_OBJECT) {
            put_string(p, n->at.key);
            put_text(p, pretty ? ": " : ":");
        }
    }
    kd_free(stack);
    return n == NULL && depth == 0;
}

kd_status kd_json_dump(const kd_json *node, kd_json_style style, char **text, size_t *bytes, kd_err *err)
{
    *text = NULL;
    if (!kd_json_ok(node)) {
        return KD_FAIL(err, KD_E_OOM, "no memory to build a JSON document");
    }
    printer p = {kd_alloc(4096), 0, 4096, false};
    bool ok = p.text != NULL && put_tree(&p, node, style == KD_JSON_PRETTY);
    if (ok && style == KD_JSON_PRETTY) {
        put(&p, "\n", 1);
    }
    if (!ok || p.failed) {
        kd_free(p.text);
        return KD_FAIL(err, KD_E_OOM, "no memory for the text of a JSON document");
    }
    p.text[p.used] = '\0';
    *text = p.text;
    if (bytes != NULL) {
        *bytes = p.used;
    }
    return KD_OK;
}

kd_status kd_json_write(const kd_json *node, const char *path, kd_err *err)
{
    char *text = NULL;
    size_t bytes = 0;
    KD_TRY(kd_json_dump(node, KD_JSON_PRETTY, &text, &bytes, err));
    const kd_status st = kd_io_write_file(path, text, bytes, err);
    kd_free(text);
    return st;
}
