/* What lies in a data folder: videos and skeletons, paired by sample key (sample_id.h).
 *
 * A data set's layout (data_set.h) when one of its two folders is below the root, for NTU `<root>/nturgb+d_rgb` or
 * `<root>/nturgb+d_skeletons`: videos are taken from the first, skeletons from the second, both flat.  Otherwise every
 * folder below the root (8 levels) is searched, hidden ones and those seen before (link loops) left out.  Files are
 * told by their ending and not opened.  The result is sorted by key and does not depend on the order the
 * file system lists in.
 *
 * Two files of one kind with the same key are KD_E_DATA with both paths: rows are joined by key.
 * KD_E_IO, KD_E_OOM.
 */
#ifndef KD_FORMATS_DATA_SCAN_H
#define KD_FORMATS_DATA_SCAN_H

#include "formats/data/sets/data_set.h"

typedef struct kd_scan_item {
    const char *key;
    const char *video, *skeleton; /* relative to the root, '/' separators; NULL when there is none */
    const kd_data_set *set;       /* whose sample name the key is, `id` its parts; NULL: nobody's */
    kd_sample_id id;
} kd_scan_item;

typedef struct kd_scan_counts {
    size_t videos, skeletons;
    size_t pairs, video_only, skeleton_only;
    size_t known_missing; /* of video_only: on the data set's list of samples without a skeleton */
    size_t named;         /* items whose key is a sample name of a data set */
    size_t other_files;   /* neither video nor skeleton */
} kd_scan_counts;

typedef struct kd_scan {
    kd_scan_item *item; /* [n], sorted by key */
    size_t n;
    const kd_data_set *layout; /* whose folders they are; NULL: every folder was searched */
    kd_scan_counts counts;
    char **path; /* owns the strings; [n_path] */
    size_t n_path;
} kd_scan;

KD_NODISCARD kd_status kd_scan_folder(const char *root, kd_scan *out, kd_err *err);
void kd_scan_free(kd_scan *scan); /* zeroed or NULL is legal */

/* The item with this key, or NULL. */
const kd_scan_item *kd_scan_find(const kd_scan *scan, const char *key);

/* By the ending of a name: ".avi", ".mp4", ... ignoring case. */
bool kd_is_video_name(const char *name);
bool kd_is_skeleton_name(const char *name); /* ".skeleton" */

#endif
