/* The two lists of a split: read, told apart by their form, and made one thing: samples with a path and a label.
 *
 * data.train_list and data.val_list are tried as they stand, then below the root.  A list is any of listing.h's forms:
 *   rows       a path and the number of its class, from data.label_base on; or a path and the name of its class
 *   UCF101     trainlist01.txt (labels from 1) and testlist01.txt (no labels), where classInd.txt lies beside the list
 *              or in the root and names the folders of the clips
 *   HMDB51     CLASS_test_splitN.txt; for all classes a pattern (DIR/?*_test_split1.txt) or, where DIR holds one split,
 *              the folder DIR.  The rows marked 1 are the training half, 2 the validation half; an empty val_list is
 *              the training one
 *   Kinetics   a CSV of either half or of both (column `split`); files are ID_START_END.mp4
 *   SSv2       train.json, validation.json; labels.json or something-something-v2-labels.json beside them numbers the
 *              classes; files are ID.webm
 * Files of the last three lie anywhere below the root: they are found by name.
 *
 * Class names become labels by data.classes, else by the data set's own file, else by `<root>/classes.txt`, else in the
 * order of the alphabet over both lists.
 */
#ifndef KD_FORMATS_DATA_SPLIT_LISTS_H
#define KD_FORMATS_DATA_SPLIT_LISTS_H

#include "formats/data/dataset.h"
#include "formats/data/lists/class_names.h"
#include "formats/data/lists/listing.h"

typedef struct kd_split_lists {
    kd_listing list[KD_HALVES]; /* every row has a label, of the training half or KD_LIST_NO_LABEL */
    char *path[KD_HALVES];      /* of the list; NULL: the half has none */
    kd_class_names classes;     /* of the lists, n 0: labels are numbers without names */
} kd_split_lists;

/* archive: of data.skeleton_file, whose own splits go before files of the same name; NULL: there is none. */
KD_NODISCARD kd_status kd_split_lists_read(const kd_data_opts *cfg, const kd_archive *archive, kd_split_lists *out,
                                           kd_err *err);

/* Do the labels make sense?  n_classes: known number of classes; 0: as the labels say.  names: theirs, NULL: not known.
 * KD_E_DATA: a label beyond the classes; labels that begin with 1, in both lists or in one; folders of classes that the
 * lists give different labels, or that are named like another class than their label's; NTU names whose label is not
 * the action minus 1. */
KD_NODISCARD kd_status kd_split_lists_check(const kd_split_lists *s, const char *const *names, int n_classes,
                                            kd_err *err);
void kd_split_lists_free(kd_split_lists *s); /* zeroed or NULL is legal */

#endif
