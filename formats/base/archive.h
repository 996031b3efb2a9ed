/* A skeleton archive: the skeletons of a whole data set in one file (or one folder of arrays), as other toolkits write
 * them.
 *
 * Here stands what a data set asks of one: which samples it holds, their labels, the halves it names.  The forms, and
 * the functions declared here, are formats/skeleton's (archive.h there reads a sample); formats/data knows this header
 * alone.
 *
 * A form without names of samples (LAST's bare label list, CTR-GCN's npz) gives its rows the ids HALF-NNNNNN, counted
 * from 0 within the half (`numbered`), unless a list of names comes with it: one id a line, in the order of the rows,
 * the halves one after another (training first).  Lines that are empty or begin with '#' are skipped.  The number of
 * names must be the number of rows, and where a name is an NTU name and its row has a label, they must agree.  Where
 * they do not, or names stand in another half than `side` says, the order of CTR-GCN is tried (its
 * skes_available_name.txt lists no rows): half by half by subject, by camera or by setup, within one as the list has
 * them.  The first of the three whose labels agree is taken and said.
 *
 * Errors: KD_E_IO (cannot open), KD_E_FORMAT (not what the form is; a damaged file), KD_E_DATA (names that do not fit,
 * sizes), KD_E_UNSUPPORTED (arrays of Python objects), KD_E_OOM.  A message names file, place, expected, found.
 */
#ifndef KD_FORMATS_BASE_ARCHIVE_H
#define KD_FORMATS_BASE_ARCHIVE_H

#include "kernels/kd_base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KD_ARCHIVE_CHANNELS 3

typedef struct kd_archive_opts {
    const char *names;                             /* list of ids, or NULL: the file's own */
    int (*side)(const void *user, const char *id); /* half of a name by the split in use, -1: none; NULL: not known */
    const void *user;
    double scale;                     /* every coordinate times this; 0: 1 */
    double score_scale;               /* every confidence times this; 0: 1 */
    double missing;                   /* a value of the file that says "not seen", before scaling; 0: zero does */
    int channel[KD_ARCHIVE_CHANNELS]; /* which numbers of a joint are x, y and z */
    bool channels;                    /* channel is given; else joints of exactly three numbers are taken */
} kd_archive_opts;

typedef struct kd_archive_row {
    const char *id;
    int64_t label;  /* -1: the file has none */
    uint64_t bytes; /* of its numbers in the file */
} kd_archive_row;

/* A half that the file names ("xsub_train"), as a list of ids; an id need not be one of a row. */
typedef struct kd_archive_half {
    const char *name;
    const char **id;
    size_t n;
} kd_archive_half;

typedef struct kd_archive {
    const char *form; /* "CTR-GCN npz" */
    const char *path;
    kd_archive_row *row; /* [n], in the order of the file */
    size_t n;
    kd_archive_half *half; /* [n_halves], in the order of the file */
    size_t n_halves;
    bool numbered; /* the ids are numbers of rows */
} kd_archive;

/* opts NULL: as the file is. */
KD_NODISCARD kd_status kd_archive_open(const char *path, const kd_archive_opts *opts, kd_archive **out, kd_err *err);
void kd_archive_close(kd_archive *a); /* NULL is legal */

/* The row of this id; a->n: there is none. */
size_t kd_archive_find(const kd_archive *a, const char *id);

/* Is the file or folder an archive?  Opens no array. */
bool kd_archive_is(const char *path);

const kd_archive_half *kd_archive_find_half(const kd_archive *a, const char *name); /* NULL: there is none */

#ifdef __cplusplus
}
#endif
#endif
