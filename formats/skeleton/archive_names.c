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

/* ---- the order of the rows ------------------------------------------------------------------- */

typedef struct named {
    const char *id;
    size_t place; /* in the list */
    int half, group;
} named;

static int by_half(const void *a_, const void *b_)
{
    const named *a = a_, *b = b_;
    if (a->half != b->half) {
        return a->half < b->half ? -1 : 1;
    }
    return a->group != b->group ? (a->group < b->group ? -1 : 1) : a->place < b->place ? -1 : a->place > b->place;
}

/* Does every NTU name have the label of its row? */
static bool fits(const kdi_archive *a, const named *name)
{
    for (size_t i = 0; i < a->pub.n; i++) {
        const int action = action_of(name[i].id);
        if (a->pub.row[i].label >= 0 && action > 0 && a->pub.row[i].label != action - 1) {
            return false;
        }
    }
    return true;
}

/* Sorts the names by half and by the field of NTU names at `at`; false: some name has no half or no field, or the
 * halves are of other sizes. */
static bool arrange(const kdi_archive *a, const kd_archive_opts *o, size_t at, named *name)
{
    size_t n[2] = {0, 0};
    for (size_t i = 0; i < a->pub.n; i++) {
        const int half = o->side(o->user, name[i].id);
        if (half < 0 || half > 1 || action_of(name[i].id) == 0) {
            return false;
        }
        name[i].half = half;
        name[i].group = 100 * (name[i].id[at] - '0') + 10 * (name[i].id[at + 1] - '0') + (name[i].id[at + 2] - '0');
        n[half]++;
    }
    qsort(name, a->pub.n, sizeof *name, by_half);
    return n[0] == a->pub.half[0].n && n[1] == a->pub.half[1].n;
}

/* Is every name, as the list has them, in the half of its row? */
static bool sided(const kdi_archive *a, const kd_archive_opts *o, const named *name)
{
    for (size_t i = 0; i < a->pub.n; i++) {
        if (o->side(o->user, name[i].id) != (i >= a->pub.half[0].n)) {
            return false;
        }
    }
    return true;
}

static void choose_order(const kdi_archive *a, const kd_archive_opts *o, const char *list, named *name)
{
    static const struct {
        const char *what;
        size_t at; /* of its digits in an NTU name */
    } FIELD[] = {{"subject", 9}, {"camera", 5}, {"setup", 1}};
    const bool halves = a->pub.n_halves == 2 && o->side != NULL && !(fits(a, name) && sided(a, o, name));
    for (size_t f = 0; halves && f < KD_COUNTOF(FIELD); f++) {
        if (arrange(a, o, FIELD[f].at, name) && fits(a, name)) {
            kd_log(KD_LOG_INFO, "%s: the rows of %s follow it half by half by %s", list, a->pub.path, FIELD[f].what);
            return;
        }
    }
    for (size_t i = 0; i < a->pub.n; i++) { /* as the list has them */
        name[i].half = 0;
        name[i].group = 0;
    }
    qsort(name, a->pub.n, sizeof *name, by_half);
}

/* ---- names ----------------------------------------------------------------------------------- */

static kd_status read_names(kdi_archive *a, const char *list, const char *text, named *name, kd_err *err)
{
    const char *at = text, *start = NULL;
    size_t n = 0, given = 0;
    while (next_name(&at, &start, &n)) {
        if (given < a->pub.n) {
            name[given].place = given;
            KD_TRY(kdi_archive_text(a, start, n, &name[given].id, err));
        }
        given++;
    }
    return given == a->pub.n ? KD_OK
                             : KD_FAIL(err, KD_E_DATA, "%s: expected %zu names, one a row of %s, found %zu", list,
                                       a->pub.n, a->pub.path, given);
}

static kd_status rename_rows(kdi_archive *a, const kd_archive_opts *o, const char *text, kd_err *err)
{
    named *name = kd_calloc(a->pub.n, sizeof *name);
    if (name == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for %zu names", o->names, a->pub.n);
    }
    const kd_status st = read_names(a, o->names, text, name, err);
    if (st == KD_OK) {
        choose_order(a, o, o->names, name);
    }
    for (size_t i = 0; i < a->pub.n && st == KD_OK; i++) {
        a->pub.row[i].id = name[i].id;
    }
    for (size_t h = 0, row = 0; h < a->pub.n_halves && st == KD_OK; h++) { /* the halves are the rows, in order */
        for (size_t i = 0; i < a->pub.half[h].n; i++) {
            a->pub.half[h].id[i] = a->pub.row[row++].id;
        }
    }
    a->pub.numbered = a->pub.numbered && st != KD_OK;
    kd_free(name);
    return st;
}

kd_status kdi_archive_names(kdi_archive *a, const kd_archive_opts *o, kd_err *err)
{
    const char *list = o != NULL ? o->names : NULL;
    if (list != NULL && !a->pub.numbered) {
        return KD_FAIL(err, KD_E_CONFIG, "data.names: %s names its samples itself; remove the key", a->pub.path);
    }
    if (list != NULL) {
        uint8_t *text = NULL;
        size_t bytes = 0;
        KD_TRY(kd_io_read_file(list, (size_t)1 << NAMES_BYTES_SHIFT, &text, &bytes, err));
        const kd_status st = rename_rows(a, o, (const char *)text, err);
        kd_free(text);
        KD_TRY(st);
    }
    return agree(a, list, err);
}
