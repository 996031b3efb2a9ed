/* Fields of a line: see fields.h. */
#include "formats/data/lists/fields.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
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
        *open |= p == end;
        p = p < end ? p + 1 : end;
    }
    while (p < end && (delimiter == ' ' ? !is_blank(*p) : *p != delimiter)) {
        p++;
    }
    return p;
}

kdi_row kdi_row_split(const char *line, size_t len, char delimiter)
{
    kdi_row r = {.n = 0};
    const char *end = line + len;
    const char *p = line;
    for (;;) {
        bool quoted;
        while (p < end && *p != delimiter && is_blank(*p)) {
            p++;
        }
        const char *start = p;
        p = field_end(p, end, delimiter, &quoted, &r.open_quote);
        const char *stop = p;
        while (stop > start && is_blank(stop[-1])) {
            stop--;
        }
        const kdi_field f = {start, (size_t)(stop - start), quoted};
        if (r.n < KDI_ROW_FIELDS) {
            r.f[r.n] = f;
        }
        r.tail[r.n++ % KDI_ROW_TAIL] = f;
        while (delimiter == ' ' && p < end && is_blank(*p)) {
            p++;
        }
        if (p == end) {
            return r;
        }
        p += delimiter != ' ';
    }
}

const kdi_field *kdi_row_end(const kdi_row *r, size_t k)
{
    return &r->tail[(r->n - 1 - k) % KDI_ROW_TAIL];
}

bool kdi_field_int(const kdi_field *f, int64_t *out)
{
    int64_t v = 0;
    const char *p = f->at;
    size_t n = f->len;
    const bool minus = n > 1 && *p == '-';
    if (n >= 2 && f->quoted && p[n - 1] == '"') {
        p++;
        n -= 2;
    }
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

bool kdi_field_is(const kdi_field *f, const char *word)
{
    const bool quoted = f->len >= 2 && f->quoted && f->at[f->len - 1] == '"';
    const char *p = f->at + quoted;
    const size_t n = f->len - 2 * quoted;
    size_t i = 0;
    while (i < n && word[i] != '\0' && (p[i] >= 'A' && p[i] <= 'Z' ? p[i] | 0x20 : p[i]) == word[i]) {
        i++;
    }
    return i == n && word[i] == '\0';
}
