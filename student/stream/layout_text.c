/* Joint layouts as text: see layout_text.h. */
#include "student/stream/layout_text.h"

#include <ctype.h>
#include <stdio.h>

static void add(char *out, size_t *n, const char *fmt, ...) KD_PRINTF(3, 4);
static void add(char *out, size_t *n, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const int wrote = vsnprintf(out + *n, KD_LAYOUT_TEXT - *n, fmt, ap);
    va_end(ap);
    KD_ASSERT(wrote >= 0 && (size_t)wrote < KD_LAYOUT_TEXT - *n); /* a layout is bounded, and so is its text */
    *n += (size_t)wrote;
}

void kd_layout_print(const kd_layout *l, char *out)
{
    size_t n = 0;
    add(out, &n, "name %s\n", l->name);
    for (int v = 0; v < l->joints; v++) {
        const kd_layout_joint *j = &l->joint[v];
        add(out, &n, "joint %s %d %d %d\n", j->name, j->region, j->bone, j->mirror);
    }
    for (int e = 0; e < l->edges; e++) {
        add(out, &n, "edge %d %d\n", l->edge[e][0], l->edge[e][1]);
    }
    for (int e = 0; e < l->v1_edges; e++) {
        add(out, &n, "v1_edge %d %d\n", l->v1_edge[e][0], l->v1_edge[e][1]);
    }
    add(out, &n, "centre %d\norigin %d %d\ntop %d %d\nshoulder %d %d\n", l->centre, l->origin[0], l->origin[1],
        l->top[0], l->top[1], l->shoulder[0], l->shoulder[1]);
}

/* ---- reading --------------------------------------------------------------------------------- */

typedef struct scan {
    const char *at;
    int line;
    kd_err *err;
} scan;

/* Takes the next line if it begins with `word` and a blank. */
static bool begins(scan *s, const char *word)
{
    const size_t n = strlen(word);
    if (strncmp(s->at, word, n) != 0 || s->at[n] != ' ') {
        return false;
    }
    s->at += n;
    s->line++;
    return true;
}

static kd_status bad(const scan *s, const char *what)
{
    return KD_FAIL(s->err, KD_E_FORMAT, "layout, line %d: expected %s, found '%.24s'", s->line, what, s->at);
}

static kd_status name(scan *s, char *out)
{
    const size_t n = strcspn(s->at + 1, " \n");
    if (n == 0 || n >= KD_LAYOUT_NAME) {
        return bad(s, "a name");
    }
    memcpy(out, s->at + 1, n);
    out[n] = '\0';
    s->at += n + 1;
    return KD_OK;
}

/* ` N`, below `end` */
static kd_status number(scan *s, int end, uint8_t *out)
{
    int v = 0, digits = 0;
    const char *p = s->at + 1;
    if (s->at[0] != ' ') {
        return bad(s, "a blank and a number");
    }
    for (; digits < 3 && isdigit((unsigned char)p[digits]); digits++) {
        v = 10 * v + (p[digits] - '0');
    }
    if (digits == 0 || v >= end) {
        return bad(s, "a joint's number or part");
    }
    *out = (uint8_t)v;
    s->at = p + digits;
    return KD_OK;
}

static kd_status end_line(scan *s)
{
    if (*s->at == '\0') {
        return KD_OK;
    }
    if (*s->at != '\n') {
        return bad(s, "the end of the line");
    }
    s->at++;
    return KD_OK;
}

static kd_status pair(scan *s, const char *word, uint8_t out[2])
{
    if (!begins(s, word)) {
        return bad(s, word);
    }
    KD_TRY(number(s, KD_LAYOUT_JOINTS, &out[0]));
    KD_TRY(number(s, KD_LAYOUT_JOINTS, &out[1]));
    return end_line(s);
}

static kd_status joint(scan *s, kd_layout *l)
{
    if (l->joints == KD_LAYOUT_JOINTS) {
        return bad(s, "at most 64 joints");
    }
    kd_layout_joint *j = &l->joint[l->joints++];
    KD_TRY(name(s, j->name));
    KD_TRY(number(s, KD_REGIONS, &j->region));
    KD_TRY(number(s, KD_LAYOUT_JOINTS, &j->bone));
    KD_TRY(number(s, KD_LAYOUT_JOINTS, &j->mirror));
    return end_line(s);
}

static kd_status edges(scan *s, const char *word, uint8_t out[][2], int *n)
{
    const size_t len = strlen(word);
    while (strncmp(s->at, word, len) == 0 && s->at[len] == ' ') {
        if (*n == KD_LAYOUT_EDGES) {
            return bad(s, "at most 128 edges");
        }
        KD_TRY(pair(s, word, out[(*n)++]));
    }
    return KD_OK;
}

kd_status kd_layout_scan(const char *text, kd_layout *out, kd_err *err)
{
    scan s = {.at = text, .err = err};
    *out = (kd_layout){.source = ""};
    if (!begins(&s, "name")) {
        return bad(&s, "name");
    }
    KD_TRY(name(&s, out->name));
    KD_TRY(end_line(&s));
    while (begins(&s, "joint")) {
        KD_TRY(joint(&s, out));
    }
    KD_TRY(edges(&s, "edge", out->edge, &out->edges));
    KD_TRY(edges(&s, "v1_edge", out->v1_edge, &out->v1_edges));
    if (!begins(&s, "centre")) {
        return bad(&s, "centre");
    }
    KD_TRY(number(&s, KD_LAYOUT_JOINTS, &out->centre));
    KD_TRY(end_line(&s));
    KD_TRY(pair(&s, "origin", out->origin));
    KD_TRY(pair(&s, "top", out->top));
    KD_TRY(pair(&s, "shoulder", out->shoulder));
    if (*s.at != '\0') {
        return bad(&s, "the end of the layout");
    }
    return kd_layout_check(out, err);
}
