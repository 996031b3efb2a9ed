/* Printing, hashing and comparing of a config, all by walking the table. */
#include "configs/schema/config_table.h"
#include "formats/base/hash.h"
#include "formats/base/io.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ITEM_BYTES (2 * KD_CFG_PATH + 8)

typedef struct text {
    char *p;
    size_t used, size;
    bool failed;
} text;

static void put(text *t, const char *s, size_t n)
{
    if (t->failed) {
        return;
    }
    if (t->size - t->used <= n) {
        const size_t size = KD_MAX(t->size * 2, t->used + n + 4096);
        char *p = kd_realloc(t->p, t->size, size);
        if (p == NULL) {
            t->failed = true;
            return;
        }
        t->p = p;
        t->size = size;
    }
    memcpy(t->p + t->used, s, n);
    t->used += n;
    t->p[t->used] = '\0';
}

static void puts_to(text *t, const char *s)
{
    put(t, s, strlen(s));
}

/* ---- values ---------------------------------------------------------------------------------- */

/* Shortest digits that read back to the same double. */
static void real_text(double x, char *buf, size_t size)
{
    for (int digits = 1; digits <= 17; digits++) {
        (void)snprintf(buf, size, "%.*g", digits, x);
        if (memcmp(&x, &(double){strtod(buf, NULL)}, sizeof x) == 0) {
            break;
        }
    }
}

void kd_cfg_quoted(const char *s, char *buf, size_t size)
{
    static const char SAFE[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-+ ";
    const size_t n = strlen(s);
    const bool letter =
        n > 0 && ((s[0] >= 'a' && s[0] <= 'z') || (s[0] >= 'A' && s[0] <= 'Z') || s[0] == '/' || s[0] == '.');
    const bool word = letter && strspn(s, SAFE) == n && s[n - 1] != ' ' && strcmp(s, "null") != 0 &&
                      strcmp(s, "true") != 0 && strcmp(s, "false") != 0;
    size_t used = 0;
    if (word) {
        (void)snprintf(buf, size, "%s", s);
        return;
    }
    buf[used++] = '"';
    for (size_t i = 0; i < n && used + 6 < size; i++) {
        const unsigned char c = (unsigned char)s[i];
        if (c == '"' || c == '\\') {
            buf[used++] = '\\';
            buf[used++] = (char)c;
        } else if (c < 0x20 || c == 0x7f) {
            used += (size_t)snprintf(buf + used, size - used, "\\x%02x", c);
        } else {
            buf[used++] = (char)c;
        }
    }
    buf[used++] = '"';
    buf[used] = '\0';
}

void kd_cfg_item_text(const kd_cfg_row *row, const void *base, size_t i, char *buf, size_t size)
{
    const char *field = (const char *)base + row->offset;
    int v = 0;
    int64_t v64 = 0;
    double x = 0;
    buf[0] = '\0';
    switch (row->type) {
    case KD_CFG_INT:
    case KD_CFG_ENUM:
        memcpy(&v, field, sizeof v);
        if (row->type == KD_CFG_ENUM) {
            kd_cfg_enum_text(row, v, buf, size);
        } else {
            (void)snprintf(buf, size, "%d", v);
        }
        break;
    case KD_CFG_INTS:
        memcpy(&v, field + (i + 1) * sizeof v, sizeof v);
        (void)snprintf(buf, size, "%d", v);
        break;
    case KD_CFG_NUMBERS:
        real_text(((const kd_cfg_numbers *)(const void *)field)->v[i], buf, size);
        break;
    case KD_CFG_INT64:
        memcpy(&v64, field, sizeof v64);
        (void)snprintf(buf, size, "%lld", (long long)v64);
        break;
    case KD_CFG_REAL:
    case KD_CFG_REALS:
        memcpy(&x, field + i * sizeof x, sizeof x);
        real_text(x, buf, size);
        break;
    case KD_CFG_BOOL:
        (void)snprintf(buf, size, "%s", *(const bool *)field ? "true" : "false");
        break;
    case KD_CFG_NAME_OF:
    case KD_CFG_STR:
        kd_cfg_quoted(field, buf, size);
        break;
    case KD_CFG_NAMES:
        kd_cfg_quoted(((const kd_cfg_names *)(const void *)field)->v[i], buf, size);
        break;
    case KD_CFG_PATHS:
        kd_cfg_quoted(((const kd_cfg_paths *)(const void *)field)->v[i], buf, size);
        break;
    case KD_CFG_REST:
        (void)snprintf(buf, size, "%s", field);
        break;
    case KD_CFG_MAPS:
    case KD_CFG_SECTION:
        break;
    }
}

/* "{match: head., lr_scale: 10, decay: keep}" */
static void map_text(text *t, const kd_cfg_row *row, const void *item)
{
    char value[KD_MAX(ITEM_BYTES, KD_CFG_PHASE_TEXT)];
    for (size_t k = 0; k < row->item->n_rows; k++) {
        const kd_cfg_row *field = &row->item->row[k];
        kd_cfg_item_text(field, item, 0, value, sizeof value);
        if (field->type == KD_CFG_REST && value[0] == '\0') {
            continue;
        }
        puts_to(t, k == 0 ? "{" : ", ");
        if (field->type != KD_CFG_REST) {
            puts_to(t, field->path);
            puts_to(t, ": ");
        }
        puts_to(t, value);
    }
    puts_to(t, "}");
}

static void value_text(text *t, const kd_cfg_row *row, const kd_config *cfg)
{
    char item[ITEM_BYTES];
    const bool one_path = row->type == KD_CFG_PATHS && kd_cfg_list_count(row, cfg) < 2;
    if (!kd_cfg_is_list(row) || one_path) { /* no path: item 0 is empty, and so is the text */
        kd_cfg_item_text(row, cfg, 0, item, sizeof item);
        puts_to(t, item);
        return;
    }
    puts_to(t, "[");
    for (int i = 0; i < kd_cfg_list_count(row, cfg); i++) {
        if (i > 0) {
            puts_to(t, ", ");
        }
        if (row->type == KD_CFG_MAPS) {
            map_text(t, row, (const char *)cfg + row->offset + row->item->first + (size_t)i * row->item->bytes);
            continue;
        }
        kd_cfg_item_text(row, cfg, (size_t)i, item, sizeof item);
        puts_to(t, item);
    }
    puts_to(t, "]");
}

/* ---- the whole ------------------------------------------------------------------------------- */

static int depth_of(const char *path)
{
    int n = 0;
    for (; *path != '\0'; path++) {
        n += *path == '.';
    }
    return n;
}

static void indent(text *t, int depth)
{
    for (int i = 0; i < depth; i++) {
        puts_to(t, "  ");
    }
}

static void doc_line(text *t, const kd_cfg_row *row, int depth)
{
    indent(t, depth);
    puts_to(t, "# ");
    puts_to(t, row->doc);
    if (row->type != KD_CFG_SECTION) {
        char expected[KD_CFG_WHAT];
        kd_cfg_expected(row, expected, sizeof expected);
        puts_to(t, " (");
        puts_to(t, expected);
        if (row->fallback[0] != '\0') {
            puts_to(t, "; default ");
            puts_to(t, row->fallback);
        }
        puts_to(t, ")");
    }
    puts_to(t, "\n");
}

static bool shown(const kd_cfg_row *row, const kd_config *cfg, bool portable_only)
{
    if ((kd_cfg_kinds_of(row) & kd_cfg_kind_flag(cfg)) == 0) {
        return false;
    }
    return !(portable_only && (row->flags & KD_CFG_LOCAL) != 0);
}

char *kd_config_yaml(const kd_config *cfg, bool docs, bool portable_only)
{
    text t = {NULL, 0, 0, false};
    for (size_t i = 0; i < kd_cfg_row_count; i++) {
        const kd_cfg_row *row = &kd_cfg_rows[i];
        if (!shown(row, cfg, portable_only)) {
            continue;
        }
        const int depth = depth_of(row->path);
        if (docs && row->type == KD_CFG_SECTION && depth == 0) {
            puts_to(&t, "\n");
        }
        if (docs) {
            doc_line(&t, row, depth);
        }
        indent(&t, depth);
        const char *dot = strrchr(row->path, '.');
        puts_to(&t, dot == NULL ? row->path : dot + 1);
        puts_to(&t, ":");
        if (row->type != KD_CFG_SECTION) {
            puts_to(&t, " ");
            value_text(&t, row, cfg);
        }
        puts_to(&t, "\n");
    }
    if (t.failed) {
        kd_free(t.p);
        return NULL;
    }
    return t.p;
}

kd_status kd_config_hash(const kd_config *cfg, const char *inputs, char hex[KD_CFG_HASH])
{
    kd_config *recipe = kd_alloc(sizeof *recipe);
    if (recipe == NULL) {
        return KD_E_OOM;
    }
    *recipe = *cfg;
    recipe->train.seed = 0; /* runs of one recipe with several seeds share its hash */
    recipe->train.init_seed = -1;
    for (int i = 0; i < recipe->mutual.n; i++) {
        recipe->mutual.v[i].init_seed = -1;
    }
    char *canonical = kd_config_yaml(recipe, false, true);
    kd_free(recipe);
    if (canonical == NULL) {
        return KD_E_OOM;
    }
    char *whole = kd_strf("%s%s", canonical, inputs);
    kd_free(canonical);
    const kd_status st = whole != NULL ? kd_sha256(whole, strlen(whole), hex, NULL) : KD_E_OOM;
    kd_free(whole);
    return st;
}

kd_status kd_config_rows_hash(const kd_config *cfg, char hex[KD_CFG_HASH])
{
    kd_config *rows = kd_alloc(sizeof *rows);
    if (rows == NULL) {
        return KD_E_OOM;
    }
    kd_config_defaults(rows);
    rows->kind = cfg->kind;
    rows->video = cfg->video;
    rows->teacher.frames = cfg->teacher.frames;
    rows->teacher.img_size = cfg->teacher.img_size;
    const kd_status st = kd_config_hash(rows, "", hex);
    kd_free(rows);
    return st;
}

static kd_status make_absolute(const char *here, char path[KD_CFG_PATH], kd_err *err)
{
    char full[2 * KD_CFG_PATH];
    const char *tail = strcmp(path, ".") == 0 ? "" : path;
    while (strncmp(tail, "./", 2) == 0) {
        tail += 2;
    }
    if (path[0] == '\0' || path[0] == '/') {
        return KD_OK;
    }
    const int n = snprintf(full, sizeof full, "%s%s%s", here, tail[0] != '\0' ? "/" : "", tail);
    if (n < 0 || n >= KD_CFG_PATH) {
        return KD_FAIL(err, KD_E_CONFIG, "%s: below %s it is longer than %d bytes", path, here, KD_CFG_PATH - 1);
    }
    memcpy(path, full, (size_t)n + 1);
    return KD_OK;
}

/* The path of a row, or one of its paths. */
static kd_status absolute_path(const kd_cfg_row *row, const char *here, char path[KD_CFG_PATH], kd_err *err)
{
    if ((row->flags & KD_CFG_LISTED) != 0 && !kd_path_exists(path)) {
        return KD_OK; /* below the root, with which the path goes */
    }
    if (strcmp(row->path, "data.unlabelled") == 0 && kd_unlabelled_share(path) > 0.0) {
        return KD_OK; /* a share, no file */
    }
    const bool layout = strcmp(row->path, "skeleton.layout") == 0 || strcmp(row->path, "skeleton.file_layout") == 0;
    return layout && kd_layout_find(path) != NULL ? KD_OK : make_absolute(here, path, err);
}

kd_status kd_config_absolute(kd_config *cfg, kd_err *err)
{
    char here[KD_CFG_PATH];
    if (getcwd(here, sizeof here) == NULL) {
        return KD_FAIL(err, KD_E_IO, "the present directory has no path of at most %d bytes", KD_CFG_PATH - 1);
    }
    for (size_t i = 0; i < kd_cfg_row_count; i++) {
        const kd_cfg_row *row = &kd_cfg_rows[i];
        char *at = (char *)cfg + row->offset;
        if ((row->flags & (KD_CFG_HERE | KD_CFG_LISTED)) == 0) {
            continue;
        }
        if (row->type != KD_CFG_PATHS) {
            KD_TRY(absolute_path(row, here, at, err));
            continue;
        }
        kd_cfg_paths *list = (kd_cfg_paths *)(void *)at;
        for (int k = 0; k < list->n; k++) {
            KD_TRY(absolute_path(row, here, list->v[k], err));
        }
    }
    return KD_OK;
}

bool kd_config_diff(const kd_config *a, const kd_config *b, char *out, size_t size)
{
    for (size_t i = 0; i < kd_cfg_row_count; i++) {
        const kd_cfg_row *row = &kd_cfg_rows[i];
        if (row->type == KD_CFG_SECTION || (row->flags & KD_CFG_LOCAL) != 0 || strcmp(row->path, "phases") == 0) {
            continue;
        }
        if (!shown(row, a, true) && !shown(row, b, true)) {
            continue;
        }
        text ta = {NULL, 0, 0, false};
        text tb = {NULL, 0, 0, false};
        value_text(&ta, row, a);
        value_text(&tb, row, b);
        const char *sa = ta.p == NULL ? "?" : ta.p;
        const char *sb = tb.p == NULL ? "?" : tb.p;
        const bool differ = strcmp(sa, sb) != 0;
        if (differ) {
            char then[KD_SHOWN_PAIR], now[KD_SHOWN_PAIR];
            kd_show_pair(then, now, sa, sb);
            (void)snprintf(out, size, "%s: %s then, %s now", row->path, then, now);
        }
        kd_free(ta.p);
        kd_free(tb.p);
        if (differ) {
            return true;
        }
    }
    return kd_cfg_phases_differ(a, b, out, size);
}
