/* Reading a sample of a skeleton archive (formats/base/archive.h) as a skeleton.
 *
 * Forms, told by what lies at the path; one file and one row of forms.inc each:
 *   CTR-GCN npz      x_train, y_train, x_test, y_test; x (N, T, 150): two bodies, joints, xyz; y one-hot or numbers.
 *                    Empty frames at the end are padding and cut off.  Source: data/ntu/seq_transformation.py of
 *                    Uason-Chen/CTR-GCN.
 *   pickle           of pyskl and MMAction2: {'split': {name: [id]}, 'annotations': [{'frame_dir' or 'filename',
 *                    'label', 'keypoint' (M, T, V, C), ...}]}, or the list of annotations alone.  Never executed.
 *   LAST arrays      a folder of {train,val}_joint.npy (N, 3, T, V, M) and {train,val}_label.pkl: a list of labels, or
 *                    (names, labels).
 *   NW-UCLA json     a folder of NAME.json: {"skeletons": [frames][joints][3]}, one body.
 *   npz              any other: id -> (T, V, C), or (M, T, V, C).
 *
 * Where opts->scored, the three numbers of a joint are x, y (pixels, at most 1e6) and a confidence, 0: not seen; a
 * pickle has them as 'keypoint' of two numbers and 'keypoint_score' (M, T, V), or as 'keypoint' of three.
 *
 * A body whose joints are all 0, or all missing, is not there in that frame; its number in the file is its id.  The
 * coordinates are kept as they are but for the options of the archive; they must be finite and at most 100 m.
 */
#ifndef KD_FORMATS_SKELETON_ARCHIVE_H
#define KD_FORMATS_SKELETON_ARCHIVE_H

#include "formats/base/archive.h"
#include "formats/skeleton/skeleton_file.h"

#define KD_ARCHIVE_ANY_JOINTS (-1) /* kd_skel_opts.joints: any number of joints, with or without confidences */

/* Sample `row`, of opts->joints joints; opts NULL: as kd_skeleton_read.  On success *out is the caller's to
 * kd_skeleton_free.  Any number of threads may read one archive.
 * Errors as kd_skeleton_read, with the archive's path and the sample's id; a sample without a body is KD_E_DATA, "no
 * body". */
KD_NODISCARD kd_status kd_archive_read(const kd_archive *a, size_t row, const kd_skel_opts *opts, kd_skeleton *out,
                                       kd_err *err);

#endif
