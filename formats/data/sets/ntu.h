/* Facts that NTU RGB+D 60 and 120 share.
 *
 * NTU60: setups 1..17, actions 1..60, 56 880 samples; 302 have no usable skeleton.  NTU120 adds
 * setups 18..32 with actions 61..120: 114 480 samples, 535 without.  Sources: Shahroudy et al.
 * 2016, Liu et al. 2019, the authors' lists of samples with missing skeletons.
 */
#ifndef KD_FORMATS_DATA_SETS_NTU_H
#define KD_FORMATS_DATA_SETS_NTU_H

#include "formats/data/sets/data_set.h"

#define KD_NTU60_CLASSES 60
#define KD_NTU_CLASSES   120
#define KD_NTU_CAMERAS   3

/* Layout and names of both. */
#define KD_NTU_LAYOUT                                                                                   \
    .title = "NTU", .layout = "ntu", .video_dir = "nturgb+d_rgb", .skeleton_dir = "nturgb+d_skeletons", \
    .parse = kd_sample_id_parse

extern const char *const kd_ntu_classes[KD_NTU_CLASSES]; /* names of A001..A120; the first 60 are NTU60's */

bool kd_ntu60_has(const kd_sample_id *id);                 /* setup and action are NTU60's */
bool kd_ntu120_has(const kd_sample_id *id);                /* setup and action are NTU120's */
kd_split_side kd_ntu_subject_side(const kd_sample_id *id); /* cross-subject, of both; NONE above performer 106 */

bool kd_ntu_exists(const kd_sample_id *id);           /* NTU120 holds this sample */
bool kd_ntu_missing_skeleton(const kd_sample_id *id); /* on the authors' list of 535 (302 of NTU60) */

/* Walk over all samples of NTU120 (or of NTU60 alone) in name order: start with a zeroed id; false
 * at the end. */
bool kd_ntu_next(kd_sample_id *id, bool ntu60);

#endif
