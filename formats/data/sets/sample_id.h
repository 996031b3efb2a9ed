/* Sample names.  NTU's form is SsssCcccPpppRrrrAaaa: setup, camera, performer, replication, action,
 * three digits each from 001; the label is action - 1.
 *
 * Every sample, NTU or not, is joined by its *key*: the last path component up to its first dot,
 * without a closing
 * "_rgb" or "_skeleton" after an NTU name.
 * `nturgb+d_rgb/S001C001P001R001A001_rgb.avi` and `S001C001P001R001A001.skeleton` have the key
 * `S001C001P001R001A001`.
 */
#ifndef KD_FORMATS_DATA_SETS_SAMPLE_ID_H
#define KD_FORMATS_DATA_SETS_SAMPLE_ID_H

#include "kernels/kd_base.h"

typedef struct kd_sample_id {
    uint16_t setup, camera, subject, replication, action; /* each 1..999 */
} kd_sample_id;

#define KD_SAMPLE_ID_LEN  20
#define KD_SAMPLE_KEY_MAX 128 /* bytes of a key with its terminating zero */

/* The first `len` bytes of `s` are exactly an NTU name. */
bool kd_sample_id_parse(const char *s, size_t len, kd_sample_id *out);
/* The key of `path` is an NTU name. */
bool kd_sample_id_from_path(const char *path, kd_sample_id *out);
/* out[KD_SAMPLE_ID_LEN + 1] */
void kd_sample_id_format(const kd_sample_id *id, char out[KD_SAMPLE_ID_LEN + 1]);

/* The key of `path`: *start points into it, its length is returned; 0 when there is none ("/",
 * ".hidden"). */
size_t kd_sample_key(const char *path, const char **start);

#endif
