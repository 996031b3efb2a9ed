/* Names of classes in files: a name a line, in label order. */
#ifndef KD_FORMATS_DATA_LISTS_CLASS_NAMES_H
#define KD_FORMATS_DATA_LISTS_CLASS_NAMES_H

#include "kernels/kd_base.h"

#define KD_CLASSES_FILE "classes.txt" /* in the root of a data set */

typedef struct kd_class_names {
    char **name; /* [n], in label order */
    int n;
} kd_class_names;

/* Lines are those of lines.h; empty ones at the end are not looked at.  numbered: the number of the class, from 0 or 1,
 * stands in front of its name, as in UCF101's classInd.txt.  KD_E_FORMAT: an empty line, a name twice, a number that is
 * not the next, or names that are numbered in another order than that of their lines. */
KD_NODISCARD kd_status kd_class_names_read(const char *path, bool numbered, kd_class_names *out, kd_err *err);

/* A JSON object of names and their numbers, {"Closing something": "0", ...}: Something-Something's labels.json. */
KD_NODISCARD kd_status kd_class_names_read_json(const char *path, kd_class_names *out, kd_err *err);

void kd_class_names_free(kd_class_names *c); /* zeroed or NULL is legal */

int kd_class_names_find(const kd_class_names *c, const char *name); /* -1: absent */

#endif
