/* Split lists: see listing.h. */
#include "formats/data/listing.h"

#include "formats/base/io.h"

#include <stdio.h>
#include <stdlib.h>

#define FILE_BYTES_MAX ((size_t)256 << 20)

typedef struct parser {
    const char *p, *end;
    const char *name;
    size_t line;
    char delimiter; /* 0: not known yet; ' ' stands for any run of blanks */
    char *out;      /* where the next string goes in the listing's text */
    kd_err *err;
} parser;

#define FAIL_AT(s, code, ...) \
    (kd_err_prefix((s)->err, KD_FAIL((s)->err, code, __VA_ARGS__), "%s:%zu", (s)->name, (s)->line))

/* One line as fields; only the first two and the last matter. */
typedef struct fields {
    const char *at[3]; /* first, second, last */
    size_t len[3];
    size_t n;
    const char *head_end; /* end of everything before the last field */
    bool quoted_first, open_quote;
} fields;

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool next_line(parser *s, const char **line, size_t *len)
{
    if (s->p == s->end) {
        return false;
    }
    const char *nl = memchr(s->p, '\n', (size_t)(s->end - s->p));
    const char *eol = nl != NULL ? nl : s->end;
    const char *at = s->p;
    s->p = nl != NULL ? nl + 1 : s->end;
    s->line++;
    if (s->line == 1 && eol - at >= 3 && memcmp(at, "\xef\xbb\xbf", 3) == 0) {
        at += 3;
    }
    if (eol > at && eol[-1] == '\r') {
        eol--;
    }
    while (eol > at && is_blank(*at)) {
        at++;
    }
    while (eol > at && is_blank(eol[-1])) {
        eol--;
    }
    *line = at;
    *len = (size_t)(eol - at);
    return true;
}

static const char *field_end(const char *p, const char *end, char delimiter, bool *quoted, bool *open)
{
    *quoted = p < end && *p == '"';
    if (*quoted) {
        for (p++; p < end; p++) {
            if (*p != '"') {
                continue;
            }
            if (p + 1 < end && p[1] == '"') {
                p++;
            } else {
                break;
            }
        }
        *open = p == end;
        p = p < end ? p + 1 : end;
    }
    while (p < end && (delimiter == ' ' ? !is_blank(*p) : *p != delimiter)) {
        p++;
    }
    return p;
}

static fields split(const char *line, size_t len, char delimiter)
{
    fields f = {.head_end = line};
    const char *end = line + len;
    const char *p = line;
    for (;;) {
        bool quoted, open = false;
        while (p < end && *p != delimiter && is_blank(*p)) {
            p++;
        }
        const char *start = p;
        p = field_end(p, end, delimiter, &quoted, &open);
        f.open_quote |= open;
        const char *stop = p;
        while (stop > start && is_blank(stop[-1])) {
            stop--;
        }
        if (f.n < 2) {
            f.at[f.n] = start;
            f.len[f.n] = (size_t)(stop - start);
        }
        if (f.n == 0) {
            f.quoted_first = quoted;
        }
        if (f.n > 0) {
            f.head_end = start;
            while (f.head_end > line && (is_blank(f.head_end[-1]) || f.head_end[-1] == delimiter)) {
                f.head_end--;
            }
        }
        f.at[2] = start;
        f.len[2] = (size_t)(stop - start);
        f.n++;
        if (delimiter == ' ') {
            while (p < end && is_blank(*p)) {
                p++;
            }
            if (p == end) {
                return f;
            }
        } else {
            if (p == end) {
                return f;
            }
            p++;
        }
    }
}

static bool parse_int(const char *p, size_t n, int64_t *out)
{
    int64_t v = 0;
    const bool minus = n > 1 && *p == '-';
    if (minus) {
        p++;
        n--;
    }
    if (n == 0 || n > 12) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        const unsigned d = (unsigned)(unsigned char)p[i] - '0';
        if (d > 9) {
            return false;
        }
        v = v * 10 + (int64_t)d;
    }
    *out = minus ? -v : v;
    return true;
}

static bool is_word(const char *p, size_t n, const char *word)
{
    size_t i = 0;
    while (i < n && word[i] != '\0' && (p[i] | 0x20) == word[i]) {
        i++;
    }
    return i == n && word[i] == '\0';
}

static char sniff(const char *line, size_t len, bool *heading)
{
    static const char candidate[] = "\t, ";
    *heading = false;
    for (const char *d = candidate; *d != '\0'; d++) {
        int64_t v;
        const fields f = split(line, len, *d);
        if (f.n < 2) {
            continue;
        }
        if (parse_int(f.at[2], f.len[2], &v)) {
            return *d;
        }
        if (is_word(f.at[2], f.len[2], "label") || is_word(f.at[2], f.len[2], "class")) {
            *heading = true;
            return *d;
        }
    }
    return 0;
}

/* Copy a path into the listing's text: quotes undone, backslashes turned, zero added. */
static const char *keep_path(parser *s, const char *p, size_t n)
{
    char *start = s->out;
    const bool quoted = n >= 2 && p[0] == '"' && p[n - 1] == '"';
    if (quoted) {
        p++;
        n -= 2;
    }
    for (size_t i = 0; i < n; i++) {
        if (quoted && p[i] == '"' && i + 1 < n && p[i + 1] == '"') {
            i++;
        }
        *s->out++ = p[i] == '\\' ? '/' : p[i];
    }
    *s->out++ = '\0';
    return start;
}

static kd_status parse_line(parser *s, const char *line, size_t len, kd_list_item *item)
{
    const fields f = split(line, len, s->delimiter);
    const char *named = s->delimiter == '\t' ? "tab" : s->delimiter == ',' ? "comma" : "blank";
    int64_t label, frames;
    const int shown = (int)KD_MIN(len, (size_t)80);

    if (f.open_quote) {
        return FAIL_AT(s, KD_E_FORMAT, "expected a closing quote, found '%.*s'", shown, line);
    }
    if (f.n < 2 || !parse_int(f.at[2], f.len[2], &label)) {
        return FAIL_AT(s, KD_E_FORMAT, "expected a path, a %s and a label (a whole number), found '%.*s'", named, shown,
                       line);
    }
    if (label < 0 || label > KD_LISTING_LABEL_MAX) {
        return FAIL_AT(s, KD_E_FORMAT, "expected a label from 0 to %d, found %lld", KD_LISTING_LABEL_MAX,
                       (long long)label);
    }
    *item = (kd_list_item){.label = (int32_t)label, .frames = -1, .line = (uint32_t)s->line};
    size_t path_len = f.len[0];
    const char *path = f.at[0];
    if (f.n == 3 && parse_int(f.at[1], f.len[1], &frames)) {
        if (frames < 0 || frames > INT32_MAX) {
            return FAIL_AT(s, KD_E_FORMAT, "expected a frame count, found %lld", (long long)frames);
        }
        item->frames = (int32_t)frames;
    } else if (f.n > 2 && s->delimiter == ' ' && !f.quoted_first) {
        path_len = (size_t)(f.head_end - path); /* a path with blanks */
    } else if (f.n > 2) {
        return FAIL_AT(s, KD_E_FORMAT, "expected 2 fields (path, label) or 3 (path, frames, label), found %zu: '%.*s'",
                       f.n, shown, line);
    }
    if (memchr(path, '\0', path_len) != NULL) {
        return FAIL_AT(s, KD_E_FORMAT, "expected text, found a zero byte");
    }
    item->path = keep_path(s, path, path_len);
    const char *key;
    const size_t key_len = kd_sample_key(item->path, &key);
    if (key_len == 0 || key_len >= KD_SAMPLE_KEY_MAX) {
        return FAIL_AT(s, KD_E_FORMAT, "expected a file name of 1 to %d bytes before its first dot, found '%.*s'",
                       KD_SAMPLE_KEY_MAX - 1, shown, line);
    }
    item->key = s->out;
    memcpy(s->out, key, key_len);
    s->out[key_len] = '\0';
    s->out += key_len + 1;
    return KD_OK;
}

/* ---- duplicates ------------------------------------------------------------------------------ */

static int by_key(const void *a, const void *b)
{
    const kd_list_item *x = *(const kd_list_item *const *)a;
    const kd_list_item *y = *(const kd_list_item *const *)b;
    const int c = strcmp(x->key, y->key);
    return c != 0 ? c : x->line < y->line ? -1 : x->line > y->line;
}

static kd_status refuse_duplicates(const kd_listing *list, const char *name, kd_err *err)
{
    kd_status st = KD_OK;
    const kd_list_item **order = kd_alloc(list->n * sizeof *order);
    if (order == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory to compare %zu samples", name, list->n);
    }
    for (size_t i = 0; i < list->n; i++) {
        order[i] = &list->item[i];
    }
    qsort(order, list->n, sizeof *order, by_key);
    for (size_t i = 1; i < list->n && st == KD_OK; i++) {
        const kd_list_item *a = order[i - 1];
        const kd_list_item *b = order[i];
        if (strcmp(a->key, b->key) != 0) {
            continue;
        }
        st = KD_FAIL(err, KD_E_DATA, "%s:%u: sample %s stands in line %u already (labels %d and %d)", name, b->line,
                     b->key, a->line, a->label, b->label);
    }
    kd_free(order);
    return st;
}

/* ---- calls ----------------------------------------------------------------------------------- */

kd_status kd_listing_parse(const char *text, size_t len, const char *name, kd_listing *out, kd_err *err)
{
    parser s = {.p = text, .end = text + len, .name = name, .err = err};
    kd_listing list = {0};
    size_t lines = 1;
    const char *line;
    size_t n;
    kd_status st = KD_OK;

    *out = (kd_listing){0};
    if (len > FILE_BYTES_MAX) {
        return KD_FAIL(err, KD_E_DATA, "%s: %zu bytes, at most %zu are read", name, len, FILE_BYTES_MAX);
    }
    for (size_t i = 0; i < len; i++) {
        lines += text[i] == '\n';
    }
    /* a path and its key, each with a zero: never more than twice the text */
    list.text = kd_alloc(2 * len + 2 * lines + 2);
    list.item = kd_alloc(lines * sizeof *list.item);
    if (list.text == NULL || list.item == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "%s: no memory for %zu lines", name, lines);
        goto done;
    }
    s.out = list.text;
    while (next_line(&s, &line, &n)) {
        if (n == 0 || *line == '#') {
            continue;
        }
        if (s.delimiter == 0) {
            bool heading;
            s.delimiter = sniff(line, n, &heading);
            if (s.delimiter == 0) {
                st = FAIL_AT(&s, KD_E_FORMAT,
                             "expected a path, a tab, comma or blank, and a label (a whole "
                             "number), found '%.*s'",
                             (int)KD_MIN(n, (size_t)80), line);
                goto done;
            }
            if (heading) {
                continue;
            }
        }
        KD_GO(parse_line(&s, line, n, &list.item[list.n]));
        list.n++;
    }
    if (list.n == 0) {
        st = KD_FAIL(err, KD_E_DATA, "%s: expected samples, found none", name);
        goto done;
    }
    KD_GO(refuse_duplicates(&list, name, err));
    *out = list;
    list = (kd_listing){0};
done:
    kd_listing_free(&list);
    return st;
}

kd_status kd_listing_read(const char *path, kd_listing *out, kd_err *err)
{
    uint8_t *text = NULL;
    size_t len = 0;
    *out = (kd_listing){0};
    KD_TRY(kd_io_read_file(path, FILE_BYTES_MAX, &text, &len, err));
    const kd_status st = kd_listing_parse((const char *)text, len, path, out, err);
    kd_free(text);
    return st;
}

void kd_listing_free(kd_listing *list)
{
    if (list != NULL) {
        kd_free(list->item);
        kd_free(list->text);
        *list = (kd_listing){0};
    }
}

kd_status kd_listing_check(const kd_listing *list, const char *name, int classes, bool ntu_labels, kd_err *err)
{
    char shown[240] = "";
    size_t used = 0;
    size_t bad = 0;
    for (size_t i = 0; i < list->n; i++) {
        const kd_list_item *it = &list->item[i];
        kd_sample_id id;
        const bool range = classes != 0 && it->label >= classes;
        const bool named = ntu_labels && kd_sample_id_from_path(it->path, &id) && it->label != id.action - 1;
        if (!range && !named) {
            continue;
        }
        bad++;
        if (used + 48 < sizeof shown && bad <= 10) {
            const int n =
                snprintf(shown + used, sizeof shown - used, " line %u %.24s label %d;", it->line, it->key, it->label);
            if (n > 0) {
                used = KD_MIN(used + (size_t)n, sizeof shown - 1);
            }
        }
    }
    if (bad == 0) {
        return KD_OK;
    }
    return KD_FAIL(err, KD_E_DATA, "%s: %zu of %zu labels are wrong: expected 0 to %d%s; found%s", name, bad, list->n,
                   (classes != 0 ? classes : KD_LISTING_LABEL_MAX + 1) - 1,
                   ntu_labels ? " and the action of the name minus 1" : "", shown);
}

kd_status kd_listing_write(const char *path, const kd_list_item *item, size_t n, kd_err *err)
{
    kd_writer *w = NULL;
    kd_status st = KD_OK;
    KD_TRY(kd_writer_open(path, &w, err));
    for (size_t i = 0; i < n; i++) {
        const char *p = item[i].path;
        char label[16];
        for (const char *c = p; *c != '\0'; c++) {
            if ((unsigned char)*c <= ' ' || *c == 0x7f) {
                st = KD_FAIL(err, KD_E_DATA,
                             "%s: '%s' holds a blank or a control character, which readers of this "
                             "list would "
                             "cut; rename the file",
                             path, p);
                goto done;
            }
        }
        const int len = snprintf(label, sizeof label, " %d\n", item[i].label);
        KD_GO(kd_writer_put(w, p, strlen(p), err));
        KD_GO(kd_writer_put(w, label, (size_t)len, err));
    }
    st = kd_writer_commit(w, err);
    w = NULL;
done:
    kd_writer_abort(w);
    return st;
}
