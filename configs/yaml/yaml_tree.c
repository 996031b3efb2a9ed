/* The only file that sees libyaml: see yaml_tree.h. */
#include "configs/yaml/yaml_tree.h"

#if defined(KD_HAVE_YAML)
#    include <yaml.h>

#    define MAX_ANCHORS 256
#endif

#define CHUNK_BYTES ((size_t)16 << 10)

typedef struct chunk {
    struct chunk *next;
    size_t used, size;
} chunk;

struct kd_yaml_tree {
    chunk *chunks;
    size_t nodes;
};

kd_yaml_tree *kd_yaml_tree_new(void)
{
    return kd_calloc(1, sizeof(kd_yaml_tree));
}

void kd_yaml_tree_free(kd_yaml_tree *t)
{
    if (t == NULL) {
        return;
    }
    for (chunk *c = t->chunks; c != NULL;) {
        chunk *next = c->next;
        kd_free(c);
        c = next;
    }
    kd_free(t);
}

static void *take(kd_yaml_tree *t, size_t bytes)
{
    const size_t head = (sizeof(chunk) + 15u) & ~(size_t)15u;
    bytes = (bytes + 15u) & ~(size_t)15u;
    chunk *c = t->chunks;
    if (c == NULL || c->size - c->used < bytes) {
        const size_t size = KD_MAX(CHUNK_BYTES, head + bytes);
        c = kd_alloc(size);
        if (c == NULL) {
            return NULL;
        }
        *c = (chunk){.next = t->chunks, .used = head, .size = size};
        t->chunks = c;
    }
    void *p = (char *)c + c->used;
    c->used += bytes;
    return memset(p, 0, bytes);
}

static const char *keep(kd_yaml_tree *t, const char *text, size_t len)
{
    char *p = take(t, len + 1);
    if (p != NULL && len > 0) {
        memcpy(p, text, len);
    }
    return p;
}

static kd_yaml_node *new_node(kd_yaml_tree *t, kd_yaml_kind kind, const char *origin)
{
    kd_yaml_node *n = take(t, sizeof *n);
    if (n != NULL) {
        n->kind = kind;
        n->text = "";
        n->origin = origin;
        t->nodes++;
    }
    return n;
}

static void link_last(kd_yaml_node *parent, kd_yaml_node *n)
{
    n->parent = parent;
    n->next = NULL;
    if (parent->last == NULL) {
        parent->child = n;
    } else {
        parent->last->next = n;
    }
    parent->last = n;
    parent->count++;
}

kd_yaml_node *kd_yaml_get(const kd_yaml_node *map, const char *key)
{
    if (map == NULL || map->kind != KD_YAML_MAP) {
        return NULL;
    }
    for (kd_yaml_node *n = map->child; n != NULL; n = n->next) {
        if (strcmp(n->key, key) == 0) {
            return n;
        }
    }
    return NULL;
}

kd_yaml_node *kd_yaml_new_map(kd_yaml_tree *t, const char *origin)
{
    const char *name = keep(t, origin, strlen(origin));
    kd_yaml_node *n = name == NULL ? NULL : new_node(t, KD_YAML_MAP, name);
    if (n != NULL) {
        n->line = n->column = n->value_line = n->value_column = 1;
    }
    return n;
}

bool kd_yaml_put(kd_yaml_tree *t, kd_yaml_node *parent, const char *key, kd_yaml_node *value)
{
    if (key != NULL) {
        value->key = keep(t, key, strlen(key));
        if (value->key == NULL) {
            return false;
        }
    }
    link_last(parent, value);
    return true;
}

void kd_yaml_unlink(kd_yaml_node *node)
{
    kd_yaml_node *parent = node->parent;
    if (parent == NULL) {
        return;
    }
    kd_yaml_node *prev = NULL;
    for (kd_yaml_node *n = parent->child; n != node; n = n->next) {
        prev = n;
    }
    if (prev == NULL) {
        parent->child = node->next;
    } else {
        prev->next = node->next;
    }
    if (parent->last == node) {
        parent->last = prev;
    }
    parent->count--;
    node->parent = node->next = NULL;
}

void kd_yaml_merge(kd_yaml_node *base, kd_yaml_node *over)
{
    struct {
        kd_yaml_node *base, *over;
    } todo[KD_YAML_MAX_DEPTH * 2];
    size_t n_todo = 0;
    todo[n_todo].base = base;
    todo[n_todo++].over = over;
    while (n_todo > 0) {
        kd_yaml_node *to = todo[n_todo - 1].base;
        kd_yaml_node *n = todo[n_todo - 1].over->child;
        if (n == NULL) {
            n_todo--;
            continue;
        }
        kd_yaml_node *old = kd_yaml_get(to, n->key);
        kd_yaml_unlink(n);
        if (old != NULL && old->kind == KD_YAML_MAP && kd_yaml_is_null(n)) {
            continue;
        }
        if (old != NULL && old->kind == KD_YAML_MAP && n->kind == KD_YAML_MAP && n_todo < KD_COUNTOF(todo)) {
            todo[n_todo].base = old;
            todo[n_todo++].over = n;
            continue;
        }
        if (old != NULL) {
            kd_yaml_unlink(old);
        }
        link_last(to, n);
    }
}

bool kd_yaml_is_null(const kd_yaml_node *node)
{
    return node->kind == KD_YAML_SCALAR && node->plain &&
           (node->text[0] == '\0' || strcmp(node->text, "~") == 0 || strcmp(node->text, "null") == 0 ||
            strcmp(node->text, "Null") == 0 || strcmp(node->text, "NULL") == 0);
}

#if !defined(KD_HAVE_YAML)
#    include "configs/yaml/yaml_json.inc"
#else
/* ---- parser ---------------------------------------------------------------------------------- */

typedef struct anchor {
    const char *name;
    kd_yaml_node *node;
} anchor;

typedef struct parse {
    kd_yaml_tree *t;
    const char *origin;
    kd_yaml_node *root;
    kd_yaml_node *stack[KD_YAML_MAX_DEPTH];
    size_t depth;
    const char *key; /* read, value still to come */
    int key_line, key_column;
    anchor anchors[MAX_ANCHORS];
    size_t n_anchors;
    int documents;
    kd_err *err;
} parse;

static kd_status bad(const parse *p, yaml_mark_t at, const char *what)
{
    return KD_FAIL(p->err, KD_E_CONFIG, "%s:%zu:%zu: %s", p->origin, at.line + 1, at.column + 1, what);
}

static kd_status oom(const parse *p)
{
    return KD_FAIL(p->err, KD_E_OOM, "%s: out of memory", p->origin);
}

static kd_status check_room(const parse *p, yaml_mark_t at)
{
    if (p->t->nodes >= KD_YAML_MAX_NODES) {
        return bad(p, at, "more than 32768 values (after copying aliases); split the file");
    }
    return KD_OK;
}

/* Hang a finished or opened node under the collection on top of the stack. */
static kd_status attach(parse *p, kd_yaml_node *n, yaml_mark_t at)
{
    n->value_line = n->line = (int)at.line + 1;
    n->value_column = n->column = (int)at.column + 1;
    if (p->depth == 0) {
        p->root = n;
        return KD_OK;
    }
    kd_yaml_node *parent = p->stack[p->depth - 1];
    if (parent->kind == KD_YAML_MAP) {
        if (p->key == NULL) {
            return bad(p, at, "a key must be text, found a map, list or alias");
        }
        n->key = p->key;
        n->line = p->key_line;
        n->column = p->key_column;
        p->key = NULL;
    }
    link_last(parent, n);
    return KD_OK;
}

static kd_status remember_anchor(parse *p, const yaml_char_t *name, kd_yaml_node *n, yaml_mark_t at)
{
    if (name == NULL) {
        return KD_OK;
    }
    if (p->n_anchors == MAX_ANCHORS) {
        return bad(p, at, "more than 256 anchors");
    }
    const char *kept = keep(p->t, (const char *)name, strlen((const char *)name));
    if (kept == NULL) {
        return oom(p);
    }
    p->anchors[p->n_anchors++] = (anchor){kept, n};
    return KD_OK;
}

static kd_status take_key(parse *p, const yaml_event_t *e)
{
    const kd_yaml_node *map = p->stack[p->depth - 1];
    const char *text = (const char *)e->data.scalar.value;
    if (e->data.scalar.anchor != NULL) {
        return bad(p, e->start_mark, "an anchor on a key");
    }
    if (strcmp(text, "<<") == 0) {
        return bad(p, e->start_mark, "merge keys (<<) are not supported; use `base: other.yaml`");
    }
    const kd_yaml_node *twin = kd_yaml_get(map, text);
    if (twin != NULL) {
        return KD_FAIL(p->err, KD_E_CONFIG, "%s:%zu:%zu: duplicate key '%s', first at line %d", p->origin,
                       e->start_mark.line + 1, e->start_mark.column + 1, text, twin->line);
    }
    if (map->count >= KD_YAML_MAX_KEYS) {
        return bad(p, e->start_mark, "more than 2048 keys in one map");
    }
    p->key = keep(p->t, text, strlen(text));
    p->key_line = (int)e->start_mark.line + 1;
    p->key_column = (int)e->start_mark.column + 1;
    return p->key == NULL ? oom(p) : KD_OK;
}

static kd_status on_scalar(parse *p, const yaml_event_t *e)
{
    const char *text = (const char *)e->data.scalar.value;
    const size_t len = e->data.scalar.length;
    if (e->data.scalar.tag != NULL) {
        return bad(p, e->start_mark, "tags are not supported; write the value without it");
    }
    if (memchr(text, '\0', len) != NULL) {
        return bad(p, e->start_mark, "a NUL character in text");
    }
    if (p->depth > 0 && p->stack[p->depth - 1]->kind == KD_YAML_MAP && p->key == NULL) {
        return take_key(p, e);
    }
    KD_TRY(check_room(p, e->start_mark));
    kd_yaml_node *n = new_node(p->t, KD_YAML_SCALAR, p->origin);
    if (n == NULL) {
        return oom(p);
    }
    n->plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    n->text = keep(p->t, text, len);
    if (n->text == NULL) {
        return oom(p);
    }
    KD_TRY(attach(p, n, e->start_mark));
    return remember_anchor(p, e->data.scalar.anchor, n, e->start_mark);
}

static kd_status on_open(parse *p, const yaml_event_t *e, kd_yaml_kind kind)
{
    const bool map = kind == KD_YAML_MAP;
    const yaml_char_t *tag = map ? e->data.mapping_start.tag : e->data.sequence_start.tag;
    if (tag != NULL) {
        return bad(p, e->start_mark, "tags are not supported; write the value without it");
    }
    if (p->depth == KD_YAML_MAX_DEPTH) {
        return bad(p, e->start_mark, "nested deeper than 32 levels");
    }
    KD_TRY(check_room(p, e->start_mark));
    kd_yaml_node *n = new_node(p->t, kind, p->origin);
    if (n == NULL) {
        return oom(p);
    }
    KD_TRY(attach(p, n, e->start_mark));
    p->stack[p->depth++] = n;
    return remember_anchor(p, map ? e->data.mapping_start.anchor : e->data.sequence_start.anchor, n, e->start_mark);
}

static kd_yaml_node *copy_one(parse *p, const kd_yaml_node *from)
{
    kd_yaml_node *n = new_node(p->t, from->kind, from->origin);
    if (n != NULL) {
        n->plain = from->plain;
        n->text = from->text;
        n->key = from->key;
        n->line = from->line;
        n->column = from->column;
        n->value_line = from->value_line;
        n->value_column = from->value_column;
    }
    return n;
}

/* Deep copy without recursion: walk `from` in document order with `to` in step. */
static kd_status copy_children(parse *p, const kd_yaml_node *from, kd_yaml_node *to, yaml_mark_t at)
{
    const kd_yaml_node *top = from;
    const kd_yaml_node *src = from->child;
    size_t depth = p->depth + 1;
    while (src != NULL) {
        KD_TRY(check_room(p, at));
        kd_yaml_node *n = copy_one(p, src);
        if (n == NULL) {
            return oom(p);
        }
        link_last(to, n);
        if (src->child != NULL) {
            if (++depth > KD_YAML_MAX_DEPTH) {
                return bad(p, at, "nested deeper than 32 levels");
            }
            src = src->child;
            to = n;
            continue;
        }
        while (src->next == NULL && src->parent != top) {
            src = src->parent;
            to = to->parent;
            depth--;
        }
        src = src->next;
    }
    return KD_OK;
}

static kd_status on_alias(parse *p, const yaml_event_t *e)
{
    const char *name = (const char *)e->data.alias.anchor;
    const kd_yaml_node *from = NULL;
    for (size_t i = p->n_anchors; i > 0 && from == NULL; i--) { /* the latest of that name */
        if (strcmp(p->anchors[i - 1].name, name) == 0) {
            from = p->anchors[i - 1].node;
        }
    }
    if (from == NULL) {
        return bad(p, e->start_mark, "an alias to an anchor that does not exist");
    }
    for (size_t i = 0; i < p->depth; i++) {
        if (p->stack[i] == from) {
            return bad(p, e->start_mark, "an alias inside its own anchor");
        }
    }
    KD_TRY(check_room(p, e->start_mark));
    kd_yaml_node *n = copy_one(p, from);
    if (n == NULL) {
        return oom(p);
    }
    n->key = NULL;
    KD_TRY(attach(p, n, e->start_mark));
    return copy_children(p, from, n, e->start_mark);
}

static kd_status on_event(parse *p, const yaml_event_t *e)
{
    switch (e->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (p->documents++ > 0) {
            return bad(p, e->start_mark, "a second document; expected one");
        }
        return KD_OK;
    case YAML_SCALAR_EVENT:
        return on_scalar(p, e);
    case YAML_MAPPING_START_EVENT:
        return on_open(p, e, KD_YAML_MAP);
    case YAML_SEQUENCE_START_EVENT:
        return on_open(p, e, KD_YAML_LIST);
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        p->depth--;
        return KD_OK;
    case YAML_ALIAS_EVENT:
        return on_alias(p, e);
    default:
        return KD_OK;
    }
}

static kd_status parser_failed(const parse *p, const yaml_parser_t *y)
{
    const char *what = y->problem != NULL ? y->problem : "malformed text";
    if (y->error == YAML_MEMORY_ERROR) {
        return oom(p);
    }
    if (y->error == YAML_READER_ERROR) {
        return KD_FAIL(p->err, KD_E_CONFIG, "%s: byte %zu: %s; expected UTF-8 text", p->origin, y->problem_offset,
                       what);
    }
    const bool escape = strstr(what, "hexdecimal") != NULL || strstr(what, "escape character") != NULL;
    const bool token = strstr(what, "cannot start any token") != NULL;
    return KD_FAIL(p->err, KD_E_CONFIG, "%s:%zu:%zu: not YAML: %s%s", p->origin, y->problem_mark.line + 1,
                   y->problem_mark.column + 1, what,
                   escape  ? "; in double quotes a backslash begins an escape: use single quotes or /"
                   : token ? " (a tab? indent by blanks; a text that begins with such a sign needs quotes)"
                           : "");
}

kd_status kd_yaml_parse(kd_yaml_tree *t, const void *text, size_t len, const char *origin, kd_yaml_node **root,
                        kd_err *err)
{
    *root = NULL;
    if (len > KD_YAML_MAX_BYTES) {
        return KD_FAIL(err, KD_E_CONFIG, "%s: %zu bytes, at most 1 MiB is accepted", origin, len);
    }
    parse p = {.t = t, .err = err};
    p.origin = keep(t, origin, strlen(origin));
    if (p.origin == NULL) {
        return oom(&(parse){.origin = origin, .err = err});
    }
    yaml_parser_t y;
    if (yaml_parser_initialize(&y) == 0) {
        return oom(&p);
    }
    yaml_parser_set_encoding(&y, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&y, len > 0 ? text : (const void *)"", len);
    kd_status st = KD_OK;
    for (bool end = false; !end && st == KD_OK;) {
        yaml_event_t e;
        if (yaml_parser_parse(&y, &e) == 0) {
            st = parser_failed(&p, &y);
            break;
        }
        end = e.type == YAML_STREAM_END_EVENT;
        st = on_event(&p, &e);
        yaml_event_delete(&e);
    }
    yaml_parser_delete(&y);
    if (st == KD_OK && (p.root == NULL || kd_yaml_is_null(p.root))) {
        p.root = kd_yaml_new_map(t, origin);
        if (p.root == NULL) {
            st = oom(&p);
        }
    }
    if (st == KD_OK) {
        *root = p.root;
    }
    return st;
}
#endif
