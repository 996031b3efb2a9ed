/* See text.h. */
#include "distill/report/text.h"

#include "formats/base/io.h"

#include <stdio.h>

static void add_bytes(kd_text *t, const char *s, size_t n)
{
    if (t->failed) {
        return;
    }
    if (t->len + n + 1 > t->cap) {
        const size_t cap = KD_MAX(t->len + n + 1, t->cap + t->cap / 2 + 4096);
        char *data = kd_realloc(t->data, t->cap, cap);
        if (data == NULL) {
            t->failed = true;
            return;
        }
        t->data = data;
        t->cap = cap;
    }
    memcpy(t->data + t->len, s, n);
    t->len += n;
    t->data[t->len] = '\0';
}

void kd_text_add(kd_text *t, const char *s)
{
    add_bytes(t, s, strlen(s));
}

void kd_text_f(kd_text *t, const char *fmt, ...)
{
    char buf[4096];
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(buf, sizeof buf, fmt, ap);
    va_end(ap);
    add_bytes(t, buf, n < 0 ? 0 : KD_MIN((size_t)n, sizeof buf - 1));
}

void kd_text_html(kd_text *t, const char *s)
{
    for (; s != NULL && *s != '\0'; s++) {
        switch (*s) {
        case '&':
            add_bytes(t, "&amp;", 5);
            break;
        case '<':
            add_bytes(t, "&lt;", 4);
            break;
        case '>':
            add_bytes(t, "&gt;", 4);
            break;
        case '"':
            add_bytes(t, "&quot;", 6);
            break;
        case '\'':
            add_bytes(t, "&#39;", 5);
            break;
        default:
            if ((unsigned char)*s >= 0x20 || *s == '\n' || *s == '\t') {
                add_bytes(t, s, 1);
            }
            break;
        }
    }
}

void kd_text_csv(kd_text *t, const char *s)
{
    add_bytes(t, "\"", 1);
    if (s != NULL && *s != '\0' && strchr("=+-@", *s) != NULL) {
        add_bytes(t, "'", 1); /* spreadsheets must not run it */
    }
    for (; s != NULL && *s != '\0'; s++) {
        if (*s == '"') {
            add_bytes(t, "\"\"", 2);
        } else if ((unsigned char)*s >= 0x20) {
            add_bytes(t, s, 1);
        }
    }
    add_bytes(t, "\"", 1);
}

void kd_text_md(kd_text *t, const char *s)
{
    for (; s != NULL && *s != '\0'; s++) {
        if (strchr("\\`*_{}[]<>|#", *s) != NULL) {
            add_bytes(t, "\\", 1);
        }
        add_bytes(t, (unsigned char)*s < 0x20 ? " " : s, 1);
    }
}

kd_status kd_text_write(const kd_text *t, const char *path, kd_err *err)
{
    if (t->failed) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
    }
    return kd_io_write_file(path, t->data != NULL ? t->data : "", t->len, err);
}

void kd_text_free(kd_text *t)
{
    kd_free(t->data);
    memset(t, 0, sizeof *t);
}
