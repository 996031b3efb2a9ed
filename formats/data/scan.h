/* What lies in a data folder: videos and skeletons, paired by sample key (sample_id.h).
 *
 * Where a kind of file is looked for, the first that applies; folders are searched 8 levels deep, hidden ones and those
 * seen before (link loops) left out:
 *   1. the folder that is given for it (video_dir, skeleton_dir);
 *   2. the folder of a data set's layout (data_set.h), for NTU `<root>/nturgb+d_rgb` and `<root>/nturgb+d_skeletons`,
 *      in upper or lower case; without that name, all folders whose names begin with it (`nturgb+d_rgb_s003`);
 *   3. every folder below the root.
 * Where the root is a file or the archive itself, nothing is looked for but the rows of the archive.
 * Files are told by their ending and not opened.  A folder of numbered pictures (two or more of img_00001.jpg) without
 * a video in it is a video, its path the folder's.  The result is sorted by key and does not depend on the order the
 * file system lists in.
 *
 * Two files of one kind with the same key are KD_E_DATA with both paths: rows are joined by key.  Under KD_KEY_AUTO
 * equal stems make all keys paths, relative to the folder of the kind.  KD_E_IO, KD_E_OOM.
 */
#ifndef KD_FORMATS_DATA_SCAN_H
#define KD_FORMATS_DATA_SCAN_H

#include "formats/base/archive.h"
#include "formats/data/data_opts.h"

typedef struct kd_scan_item {
    const char *key;
    const char *video,
        *skeleton;          /* relative to the root, '/' separators, or absolute; of an archive: the id; NULL: none */
    const kd_data_set *set; /* whose sample name the key is, `id` its parts; NULL: nobody's */
    kd_sample_id id;
} kd_scan_item;

typedef struct kd_scan_counts {
    size_t videos, skeletons;
    size_t pairs, video_only, skeleton_only;
    size_t known_missing; /* of video_only: on the data set's list of samples without a skeleton */
    size_t named;         /* items whose key is a sample name of a data set */
    size_t frame_folders; /* of videos: folders of pictures */
    size_t other_files;   /* in the folders searched: neither video nor skeleton */
    size_t arrays;        /* of those: by their endings maybe skeleton arrays */
    size_t aside;         /* kd_scan_opts.aside: videos and skeletons below the root in folders not looked at */
} kd_scan_counts;

typedef struct kd_scan_opts {
    const char *root;
    const char *video_dir, *skeleton_dir; /* below the root, or absolute; NULL or "": not given */
    kd_key_rule key;
    bool aside;                /* count files that lie where nothing was looked for */
    const kd_archive *archive; /* the skeletons are its rows, and no files; NULL: they are files */
} kd_scan_opts;

typedef struct kd_scan {
    kd_scan_item *item; /* [n], sorted by key */
    size_t n;
    const kd_data_set *layout; /* whose folders they are; NULL: none of a layout's is there */
    kd_key_rule key;           /* stem or path */
    kd_scan_counts counts;
    char *twice[2];    /* the files that made the keys paths under KD_KEY_AUTO; NULL: none did */
    char *array;       /* the first of counts.arrays; NULL: none */
    char *first_aside; /* of counts.aside; NULL: none */
    char **path;       /* owns the strings; [n_path] */
    size_t n_path;
} kd_scan;

KD_NODISCARD kd_status kd_scan_folder(const kd_scan_opts *opts, kd_scan *out, kd_err *err);
void kd_scan_free(kd_scan *scan); /* zeroed or NULL is legal */

/* The item with this key, or NULL. */
const kd_scan_item *kd_scan_find(const kd_scan *scan, const char *key);

#endif
