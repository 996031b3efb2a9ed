/* Lines of a text: see lines.h. */
#include "formats/data/lists/lines.h"

kd_status kd_lines_open(const char *text, size_t bytes, const char *name, kd_lines *out, kd_err *err)
{
    *out = (kd_lines){.p = text, .end = text + bytes};
    if (bytes >= 2 && (memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0)) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: the text is UTF-16; expected UTF-8 (save it as UTF-8)", name);
    }
    const char *zero = bytes > 0 ? memchr(text, '\0', bytes) : NULL;
    if (zero != NULL) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: expected text, found a zero byte at offset %zu", name,
                       (size_t)(zero - text));
    }
    if (bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        out->p += 3;
    }
    return KD_OK;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

bool kd_lines_next(kd_lines *s, const char **line, size_t *len)
{
    if (s->p == s->end) {
        return false;
    }
    const char *at = s->p, *eol = at;
    while (eol < s->end && *eol != '\n' && *eol != '\r') {
        eol++;
    }
    s->p = eol < s->end ? eol + 1 : eol;
    if (eol + 1 < s->end && eol[0] == '\r' && eol[1] == '\n') {
        s->p++;
    }
    s->number++;
    s->blank_end = eol > at && is_blank(eol[-1]);
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
