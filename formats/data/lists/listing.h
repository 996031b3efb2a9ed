/* Split lists: `train.csv`, `val.csv` and their relatives.
 *
 * Read: one sample a line.
 *   VideoMAE, MMAction2   path label                 frames   path frames label
 *   CSV                   path,label                 with a heading: columns by name, other columns are not looked at
 * The delimiter is tab, comma, semicolon or blanks: the one under which most lines end in a whole number.  With blanks,
 * everything before the closing numbers is the path.  Fields may be quoted ("" inside quotes is one quote).  All lines
 * have as many numbers as the first.  Labels are whole numbers, or under a heading class names.  -1, and under a
 * heading an empty field, say that the sample has no label.  Empty lines and lines that start with '#' are skipped;
 * lines.h says what a line is; backslashes in paths become slashes, "./" in front and slashes at the end are cut off.
 *
 * Four forms are data sets' own and told apart here (`form`); split_lists.h makes samples of them:
 *   unlabelled   path                                              UCF101's test lists
 *   marks        NAME 1|2|0 (train, test, unused), a blank behind  HMDB51, a file a class
 *   Kinetics     label,youtube_id,time_start,time_end,split
 *   SSv2         JSON: [{"id": ..., "template": ...}, ...]
 *
 * Errors are KD_E_FORMAT with name:line; rows of several labels, of cut-out clips (path start frames label) and of
 * boxes (AVA) are refused by name.  A key that occurs twice is KD_E_DATA with both lines, because rows are joined by
 * key; KD_E_IO, KD_E_OOM; KD_E_WRITE when writing.
 */
#ifndef KD_FORMATS_DATA_LISTS_LISTING_H
#define KD_FORMATS_DATA_LISTS_LISTING_H

#include "formats/base/archive.h"
#include "formats/data/sets/data_set.h"

#define KD_LISTING_LABEL_MAX 999999
#define KD_LIST_NO_LABEL     (-2)

typedef enum kd_list_form {
    KD_LIST_ROWS,
    KD_LIST_UNLABELLED,
    KD_LIST_MARKS, /* label holds the mark */
    KD_LIST_KINETICS,
    KD_LIST_SSV2
} kd_list_form;

typedef struct kd_list_item {
    const char *path;  /* as written, '/' separators */
    const char *key;   /* of kd_listing_keys; NULL before */
    const char *class; /* name of the class; NULL: the label is a number */
    const char *part;  /* Kinetics' column `split`; NULL: there is none */
    int32_t label;     /* -1: not known yet; KD_LIST_NO_LABEL: the row has none */
    int32_t frames;    /* -1: the list does not say */
    uint32_t line;     /* in the list file, from 1 */
} kd_list_item;

typedef struct kd_listing {
    kd_list_form form;
    kd_list_item *item; /* [n], in file order */
    size_t n;
    char *text, *keys; /* own the strings */
} kd_listing;

/* `name` is only for messages.  A list without a sample is KD_E_DATA. */
KD_NODISCARD kd_status kd_listing_parse(const char *text, size_t len, const char *name, kd_listing *out, kd_err *err);
KD_NODISCARD kd_status kd_listing_read(const char *path, kd_listing *out, kd_err *err);
/* The ids of a half that a skeleton archive names, with the labels of their rows, or of their NTU names; `line` is the
 * number in the half, from 1.  KD_E_DATA: no id, a label beyond KD_LISTING_LABEL_MAX. */
KD_NODISCARD kd_status kd_listing_of_archive(const kd_archive *a, const kd_archive_half *half, kd_listing *out,
                                             kd_err *err);
void kd_listing_free(kd_listing *list); /* zeroed or NULL is legal */

/* Is the stem of every row of these n lists another one? */
KD_NODISCARD kd_status kd_listing_stems_differ(const kd_listing *list, size_t n, bool *differ, kd_err *err);

/* Sets item.key by the rule (stem or path).  Path keys are relative to `dir`, or to the same folder's real path, where
 * a path begins with it.  A key twice is KD_E_DATA, a key that is empty or too long KD_E_FORMAT. */
KD_NODISCARD kd_status kd_listing_keys(kd_listing *list, const char *name, kd_key_rule rule, const char *dir,
                                       kd_err *err);

typedef enum kd_list_shape {
    KD_LIST_BLANK, /* "path label", one space: what VideoMAE's and MMAction2's readers take */
    KD_LIST_CSV    /* "path,label", quoted where needed, with a heading */
} kd_list_shape;

/* CSV where a path holds a blank, a comma, a semicolon or a quote, or begins with '#'. */
kd_list_shape kd_listing_shape(const kd_list_item *item, size_t n);

/* Lines of path and label, LF, atomic.  A path with a control character is KD_E_DATA, and so is one with a blank under
 * KD_LIST_BLANK: those readers would cut it. */
KD_NODISCARD kd_status kd_listing_write(const char *path, const kd_list_item *item, size_t n, kd_list_shape shape,
                                        kd_err *err);

#endif
