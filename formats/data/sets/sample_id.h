/* Sample names.  NTU's form is SsssCcccPpppRrrrAaaa: setup, camera, performer, replication, action,
 * three digits each from 001; the label is action - 1.
 *
 * Every sample is joined by its *key*.  An NTU name is its own key, without a closing "_rgb" or "_skeleton" and without
 * the ending: `nturgb+d_rgb/S001C001P001R001A001_rgb.avi` and `S001C001P001R001A001.skeleton` have the key
 * `S001C001P001R001A001`.  The key of another file is its stem, the last path component without the ending of a video,
 * skeleton or picture file (`clip.01.mp4`: `clip.01`); or, where stems are not unique, its path without that ending.
 */
#ifndef KD_FORMATS_DATA_SETS_SAMPLE_ID_H
#define KD_FORMATS_DATA_SETS_SAMPLE_ID_H

#include "kernels/kd_base.h"

typedef struct kd_sample_id {
    uint16_t setup, camera, subject, replication, action; /* each 1..999 */
} kd_sample_id;

#define KD_SAMPLE_ID_LEN  20
#define KD_SAMPLE_KEY_MAX 256 /* bytes of a key with its terminating zero; a store's record holds as much */

/* The first `len` bytes of `s` are exactly an NTU name. */
bool kd_sample_id_parse(const char *s, size_t len, kd_sample_id *out);
/* The key of `path` is an NTU name. */
bool kd_sample_id_from_path(const char *path, kd_sample_id *out);
/* out[KD_SAMPLE_ID_LEN + 1] */
void kd_sample_id_format(const kd_sample_id *id, char out[KD_SAMPLE_ID_LEN + 1]);

/* The stem key of `path`: *start points into it, its length is returned; 0 when there is none ("/", ".avi"). */
size_t kd_sample_key(const char *path, const char **start);

/* The path key of `path`, likewise: an NTU name's own key, else the whole path without the ending. */
size_t kd_sample_path_key(const char *path, const char **start);

/* ---- files by the ending of their names, ignoring case --------------------------------------- */

bool kd_is_video_name(const char *name);    /* ".avi", ".mp4", ... */
bool kd_is_skeleton_name(const char *name); /* ".skeleton" */
bool kd_is_picture_name(const char *name);  /* ".jpg", ".png", ... */
bool kd_is_array_name(const char *name);    /* maybe skeleton arrays: ".npy", ".npz", ".pkl", ... */

#endif
