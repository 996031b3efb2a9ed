/* Between the archive (archive.c) and its forms (form_*.c). */
#ifndef KD_FORMATS_SKELETON_ARCHIVE_INTERNAL_H
#define KD_FORMATS_SKELETON_ARCHIVE_INTERNAL_H

#include "formats/base/io.h"
#include "formats/skeleton/archive.h"

typedef struct kdi_archive kdi_archive;

/* What lies at a path, as far as telling the forms apart needs. */
typedef struct kdi_found {
    const char *path;
    bool folder;
    uint8_t magic[8];
    char **name; /* members of a zip archive, or files of the folder, sorted; [n] */
    size_t n;
} kdi_found;

typedef struct kdi_form {
    const char *name;
    bool (*takes)(const kdi_found *f);
    /* Fills `own`, and rows and halves by the functions below; `close` is called whatever `open` returns. */
    kd_status (*open)(kdi_archive *a, const kdi_found *f, kd_err *err);
    kd_status (*read)(const kdi_archive *a, size_t row, const kd_skel_opts *o, kd_skeleton *out, kd_err *err);
    void (*close)(kdi_archive *a);
} kdi_form;

struct kdi_archive {
    kd_archive pub;
    const kdi_form *form;
    kd_archive_opts opts;
    char **text; /* owns ids and names; [n_text] */
    size_t n_text, text_room, row_room, half_room;
    size_t *by_id; /* [n] rows, sorted by id */
    void *own;     /* the form's */
};

/* Adds a row; `id` is copied. */
KD_NODISCARD kd_status kdi_archive_row(kdi_archive *a, const char *id, size_t id_bytes, int64_t label, uint64_t bytes,
                                       kd_err *err);
/* Adds a half that is the rows [first, first + n). */
KD_NODISCARD kd_status kdi_archive_half_of(kdi_archive *a, const char *name, size_t first, size_t n, kd_err *err);
/* Adds a half of n ids, to be set by kdi_archive_text. */
KD_NODISCARD kd_status kdi_archive_half(kdi_archive *a, const char *name, size_t name_bytes, size_t n,
                                        kd_archive_half **out, kd_err *err);
/* A copy that the archive owns. */
KD_NODISCARD kd_status kdi_archive_text(kdi_archive *a, const char *text, size_t bytes, const char **out, kd_err *err);
/* Rows HALF-000000 to n - 1, without labels. */
KD_NODISCARD kd_status kdi_archive_numbered(kdi_archive *a, const char *half, size_t n, uint64_t bytes, kd_err *err);

/* Ids from the list of o->names (o NULL: none); checks names against labels in any case. */
KD_NODISCARD kd_status kdi_archive_names(kdi_archive *a, const kd_archive_opts *o, kd_err *err);

/* Numbers of one sample: element (t, m, v, c) is x[t st + m sm + v sv + c sc]. */
typedef struct kdi_numbers {
    const float *x;
    size_t frames, bodies, joints, channels;
    size_t st, sm, sv, sc;
    bool scored; /* the third number is a confidence: the file says so */
    bool padded; /* empty frames at the end are no frames */
} kdi_numbers;

/* The skeleton of these numbers, by the archive's options. */
KD_NODISCARD kd_status kdi_archive_skeleton(const kdi_archive *a, const kdi_numbers *x, const kd_skel_opts *o,
                                            kd_skeleton *out, kd_err *err);

#endif
