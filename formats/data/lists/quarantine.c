/* Samples to leave out: see quarantine.h. */
#include "formats/data/lists/quarantine.h"

#include "formats/base/io.h"
#include "formats/data/lists/lines.h"

#include <stdlib.h>

#define FILE_BYTES_MAX ((size_t)64 << 20)

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static kd_status add(kd_quarantine *q, const char *text, size_t len, const char *path, kd_err *err)
{
    if (len > 0) {
        q->name[q->n] = kd_strf("%.*s", (int)len, text);
        if (q->name[q->n] == NULL) {
            return KD_FAIL(err, KD_E_OOM, "%s: no memory for its names", path);
        }
        q->n++;
    }
    return KD_OK;
}

/* Key and path of a line. */
static kd_status read_line(kd_quarantine *q, const char *line, size_t len, const char *path, kd_err *err)
{
    const char *end = line + len, *field[3] = {line, end, end};
    size_t n[3] = {len, 0, 0};
    for (int i = 0; i < 3 && field[i] < end; i++) {
        const char *tab = memchr(field[i], '\t', (size_t)(end - field[i]));
        n[i] = (size_t)((tab != NULL ? tab : end) - field[i]);
        if (tab == NULL) {
            break;
        }
        if (i < 2) {
            field[i + 1] = tab + 1;
        }
    }
    const size_t heading = sizeof KD_QUARANTINE_HEADING - 1;
    const bool unequal = n[1] == sizeof KD_QUARANTINE_UNEQUAL - 1 && memcmp(field[1], KD_QUARANTINE_UNEQUAL, n[1]) == 0;
    if (*line == '#' || unequal || (len == heading && memcmp(line, KD_QUARANTINE_HEADING, heading) == 0)) {
        return KD_OK;
    }
    KD_TRY(add(q, field[0], n[0], path, err));
    return add(q, field[2], n[2], path, err);
}

kd_status kd_quarantine_read(const char *path, kd_quarantine *out, kd_err *err)
{
    kd_quarantine q = {0};
    uint8_t *data = NULL;
    size_t bytes = 0, lines = 1, len;
    const char *line;
    kd_lines in;
    kd_status st;
    *out = q;
    KD_GO(kd_io_read_file(path, FILE_BYTES_MAX, &data, &bytes, err));
    KD_GO(kd_lines_open((const char *)data, bytes, path, &in, err));
    for (size_t i = 0; i < bytes; i++) {
        lines += data[i] == '\n' || data[i] == '\r';
    }
    q.name = kd_calloc(2 * lines, sizeof *q.name);
    if (q.name == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "%s: no memory for its names", path);
        goto done;
    }
    while (kd_lines_next(&in, &line, &len)) {
        if (len > 0) {
            KD_GO(read_line(&q, line, len, path, err));
        }
    }
    qsort(q.name, q.n, sizeof *q.name, by_text);
    *out = q;
    q = (kd_quarantine){0};
done:
    kd_quarantine_free(&q);
    kd_free(data);
    return st;
}

void kd_quarantine_free(kd_quarantine *q)
{
    if (q != NULL) {
        for (size_t i = 0; i < q->n; i++) {
            kd_free(q->name[i]);
        }
        kd_free(q->name);
        *q = (kd_quarantine){0};
    }
}

bool kd_quarantine_has(const kd_quarantine *q, const char *name)
{
    return q->n > 0 && name != NULL && bsearch(&name, q->name, q->n, sizeof *q->name, by_text) != NULL;
}
