/* Split lists: `train.csv`, `val.csv` and their relatives.
 *
 * Read: one sample a line, the last field is the label (0-based), the first the path.
 *   VideoMAE    path label                         VideoMAE v2 frames   path frames label
 *   MMAction2   path label                         CSV                  path,label
 * The delimiter is tab, comma or blanks, found from the first sample line and then fixed: the first
 * of them that leaves a whole number as the last field.  With blanks, everything before the last
 * field is the path, unless there are exactly three fields and the middle one is a number too (then
 * it is the frame count).  Fields may be quoted ("" inside quotes is one quote).  A first line
 * whose last field is "label" or "class" is a heading.  Empty lines and lines that start with '#'
 * are skipped; CRLF and a UTF-8 byte order mark are accepted; backslashes in paths become slashes.
 *
 * Errors are KD_E_FORMAT with name:line; a path or sample key that occurs twice is KD_E_DATA with
 * both lines, because rows are joined by key; KD_E_IO, KD_E_OOM; KD_E_WRITE when writing.
 */
#ifndef KD_FORMATS_DATA_LISTING_H
#define KD_FORMATS_DATA_LISTING_H

#include "formats/data/sets/sample_id.h"

#define KD_LISTING_LABEL_MAX 999999

typedef struct kd_list_item {
    const char *path; /* as written, '/' separators */
    const char *key;  /* sample key of the path (sample_id.h) */
    int32_t label;
    int32_t frames; /* -1: the list does not say */
    uint32_t line;  /* in the list file */
} kd_list_item;

typedef struct kd_listing {
    kd_list_item *item; /* [n], in file order */
    size_t n;
    char *text; /* owns the strings */
} kd_listing;

/* `name` is only for messages.  A list without a sample is KD_E_DATA. */
KD_NODISCARD kd_status kd_listing_parse(const char *text, size_t len, const char *name, kd_listing *out, kd_err *err);
KD_NODISCARD kd_status kd_listing_read(const char *path, kd_listing *out, kd_err *err);
void kd_listing_free(kd_listing *list); /* zeroed or NULL is legal */

/* Every label below `classes` (0: not checked) and, where a key is an NTU name and `ntu_labels`,
 * equal to its action - 1. KD_E_DATA names the first offenders and their number. */
KD_NODISCARD kd_status kd_listing_check(const kd_listing *list, const char *name, int classes, bool ntu_labels,
                                        kd_err *err);

/* "path label" lines, exactly one space, LF, atomic: what VideoMAE's and MMAction2's readers take.
 * A path with a blank or a control character is KD_E_DATA: those readers would cut it. */
KD_NODISCARD kd_status kd_listing_write(const char *path, const kd_list_item *item, size_t n, kd_err *err);

#endif
