/* Keys of a manifest that a checker does not read: see kd_parity_unread. */
#include "tools/parity/parity.h"

#include <stdio.h>

enum { DEPTH = 8, NAMED = 64, PATH = 256 };

typedef struct key_walk {
    parity *p;
    const char *patterns;
    const char *key[DEPTH];
    char named[NAMED][PATH]; /* each once: a key of every parameter is one line */
    int n;
} key_walk;

typedef enum fit { NONE, ABOVE, READ } fit;

/* Does one pattern fit the keys on the way to a node?  READ: the pattern ends on that way; ABOVE: it goes on below.
 * `shown`: the way, with the pattern's '*' in place of the keys that '*' took, as far as the pattern fits. */
static fit fit_one(const key_walk *w, int depth, const char *pattern, size_t len, char *shown, int *shared)
{
    size_t at = 0, out = 0;
    *shared = 0;
    for (int d = 0; d < depth; d++) {
        if (at >= len) {
            return READ;
        }
        const size_t n = (size_t)(strcspn(pattern + at, "/ ")), part = KD_MIN(n, len - at);
        const bool any = part == 1 && pattern[at] == '*';
        if (!any && (strlen(w->key[d]) != part || strncmp(w->key[d], pattern + at, part) != 0)) {
            return NONE;
        }
        out += (size_t)snprintf(shown + out, PATH - out, "%.*s/", (int)part, pattern + at);
        (*shared)++;
        at += part + 1;
    }
    return at >= len ? READ : ABOVE;
}

static fit fit_any(const key_walk *w, int depth, char *shown)
{
    fit best = NONE;
    int most = -1;
    for (const char *s = w->patterns; *s != '\0';) {
        const size_t len = strcspn(s, " ");
        char mine[PATH] = "";
        int shared = 0;
        const fit f = fit_one(w, depth, s, len, mine, &shared);
        best = f > best ? f : best;
        if (shared > most) {
            most = shared;
            memcpy(shown, mine, PATH);
        }
        s += len;
        s += strspn(s, " ");
    }
    const size_t used = strlen(shown);
    if (best == NONE && depth > 0) {
        (void)snprintf(shown + used, PATH - used, "%s", w->key[depth - 1]);
    }
    return best;
}

static void name_key(key_walk *w, const char *path)
{
    for (int i = 0; i < w->n; i++) {
        if (strcmp(w->named[i], path) == 0) {
            return;
        }
    }
    if (w->n < NAMED) {
        (void)snprintf(w->named[w->n++], PATH, "%s", path);
        kd_parity_skip(w->p, path, "a key of the manifest that this build does not read");
    }
}

static void visit(key_walk *w, const kd_json *node, int depth)
{
    const bool list = kd_json_type_of(node) == KD_JSON_ARRAY;
    for (size_t i = 0; i < kd_json_count(node); i++) {
        const kd_json *child = kd_json_at(node, i);
        char shown[PATH] = "";
        if (list) { /* an element has no key of its own */
            visit(w, child, depth);
            continue;
        }
        if (kd_json_type_of(node) != KD_JSON_OBJECT || depth >= DEPTH) {
            return;
        }
        w->key[depth] = kd_json_key(child);
        const fit f = fit_any(w, depth + 1, shown);
        if (f == NONE) {
            name_key(w, shown);
        } else if (f == ABOVE) {
            visit(w, child, depth + 1);
        }
    }
}

void kd_parity_unread(parity *p, const char *patterns)
{
    key_walk *w = kd_calloc(1, sizeof *w);
    if (w != NULL) {
        w->p = p;
        w->patterns = patterns;
        visit(w, p->manifest, 0);
    }
    kd_free(w);
}
