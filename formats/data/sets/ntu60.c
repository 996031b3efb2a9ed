/* NTU RGB+D 60 (Shahroudy et al. 2016): 60 classes, cross-subject and cross-view. */
#include "formats/data/sets/ntu.h"

static kd_split_side by_subject(const kd_sample_id *id)
{
    return kd_ntu60_has(id) ? kd_ntu_subject_side(id) : KD_SIDE_NONE;
}

/* Cameras 2 and 3 train, camera 1 tests. */
static kd_split_side by_view(const kd_sample_id *id)
{
    if (!kd_ntu60_has(id) || id->camera > KD_NTU_CAMERAS) {
        return KD_SIDE_NONE;
    }
    return id->camera != 1 ? KD_SIDE_TRAIN : KD_SIDE_VAL;
}

static const kd_named_split SPLITS[] = {{"ntu60-xsub", by_subject}, {"ntu60-xview", by_view}};

const kd_data_set kd_data_set_ntu60 = {.name = "ntu60",
                                       KD_NTU_LAYOUT,
                                       .n_classes = KD_NTU60_CLASSES,
                                       .classes = kd_ntu_classes,
                                       .split = SPLITS,
                                       .n_splits = KD_COUNTOF(SPLITS),
                                       .missing = kd_ntu_missing_skeleton};
