/* Fields of a line of a list. */
#ifndef KD_FORMATS_DATA_LISTS_FIELDS_H
#define KD_FORMATS_DATA_LISTS_FIELDS_H

#include "kernels/kd_base.h"

#define KDI_ROW_FIELDS 12
#define KDI_ROW_TAIL   4

typedef struct kdi_field {
    const char *at;
    size_t len;
    bool quoted;
} kdi_field;

/* One line as fields: the first and the last of them, all counted. */
typedef struct kdi_row {
    kdi_field f[KDI_ROW_FIELDS];  /* the first min(n, KDI_ROW_FIELDS) */
    kdi_field tail[KDI_ROW_TAIL]; /* field i of the last KDI_ROW_TAIL is tail[i % KDI_ROW_TAIL] */
    size_t n;
    bool open_quote;
} kdi_row;

/* delimiter ' ' stands for any run of blanks.  A field in quotes keeps them ("" inside is one quote). */
kdi_row kdi_row_split(const char *line, size_t len, char delimiter);

/* The k-th field from the end; k < KDI_ROW_TAIL and k < n. */
const kdi_field *kdi_row_end(const kdi_row *r, size_t k);

bool kdi_field_int(const kdi_field *f, int64_t *out);          /* a whole number of at most 12 digits */
bool kdi_field_is(const kdi_field *f, const char *lower_case); /* this word, in any case */

#endif
