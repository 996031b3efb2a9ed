/* Names of the rows of a skeleton archive: a list of ids, and names against labels.  See formats/base/archive.h. */
#include "formats/skeleton/archive_internal.h"

#include <stdlib.h>

enum { NAMES_BYTES_SHIFT = 28 }; /* a list of at most 256 MiB */

/* Action of an NTU name (SsssCcccPpppRrrrAaaa); 0: the name is of another kind. */
static int action_of(const char *id)
{
    static const char LETTER[] = "SCPRA";
    int number = 0;
    if (strlen(id) != 20) {
        return 0;
    }
    for (size_t i = 0; i < 20; i++) {
        const bool digit = id[i] >= '0' && id[i] <= '9';
        if (i % 4 == 0 ? id[i] != LETTER[i / 4] : !digit) {
            return 0;
        }
        number = i % 4 == 0 ? 0 : 10 * number + (id[i] - '0');
    }
    return number;
}

static kd_status agree(const kdi_archive *a, const char *list, kd_err *err)
{
    for (size_t i = 0; i < a->pub.n; i++) {
        const kd_archive_row *r = &a->pub.row[i];
        const int action = action_of(r->id);
        if (r->label >= 0 && action > 0 && r->label != action - 1) {
            return KD_FAIL(err, KD_E_DATA, "%s: row %zu: expected label %d of its name %s, found %lld%s%s", a->pub.path,
                           i, action - 1, r->id, (long long)r->label,
                           list != NULL ? "; the rows have another order than " : "", list != NULL ? list : "");
        }
    }
    return KD_OK;
}

/* The next name of a list; false: there is none. */
static bool next_name(const char **at, const char **name, size_t *n)
{
    while (**at != '\0') {
        const char *start = *at + strspn(*at, " \t\r\n");
        const size_t len = strcspn(start, "\r\n");
        *at = start + len;
        *n = len;
        while (*n > 0 && (start[*n - 1] == ' ' || start[*n - 1] == '\t')) {
            (*n)--;
        }
        *name = start;
        if (*n > 0 && start[0] != '#') {
            return true;
        }
    }
    return false;
}

/* Ids of halves point to those of rows: row by row they are replaced in both. */
static kd_status rename_rows(kdi_archive *a, const char *list, const char *text, kd_err *err)
{
    const char *at = text, *name = NULL;
    size_t n = 0, given = 0, half = 0, within = 0;
    while (next_name(&at, &name, &n)) {
        if (given < a->pub.n) {
            const char *id;
            KD_TRY(kdi_archive_text(a, name, n, &id, err));
            a->pub.row[given].id = id;
            while (half < a->pub.n_halves && within == a->pub.half[half].n) {
                half++;
                within = 0;
            }
            if (half < a->pub.n_halves) {
                a->pub.half[half].id[within++] = id;
            }
        }
        given++;
    }
    if (given != a->pub.n) {
        return KD_FAIL(err, KD_E_DATA, "%s: expected %zu names, one a row of %s, found %zu", list, a->pub.n,
                       a->pub.path, given);
    }
    a->pub.numbered = false;
    return KD_OK;
}

kd_status kdi_archive_names(kdi_archive *a, const char *list, kd_err *err)
{
    if (list != NULL && !a->pub.numbered) {
        return KD_FAIL(err, KD_E_CONFIG, "data.names: %s names its samples itself; remove the key", a->pub.path);
    }
    if (list != NULL) {
        uint8_t *text = NULL;
        size_t bytes = 0;
        KD_TRY(kd_io_read_file(list, (size_t)1 << NAMES_BYTES_SHIFT, &text, &bytes, err));
        const kd_status st = rename_rows(a, list, (const char *)text, err);
        kd_free(text);
        KD_TRY(st);
    }
    return agree(a, list, err);
}
