/* NTU RGB+D 120 (Liu et al. 2019): 120 classes, cross-subject and cross-setup. */
#include "formats/data/sets/ntu.h"

static kd_split_side by_subject(const kd_sample_id *id)
{
    return kd_ntu120_has(id) ? kd_ntu_subject_side(id) : KD_SIDE_NONE;
}

/* Even setups train, odd ones test. */
static kd_split_side by_setup(const kd_sample_id *id)
{
    if (!kd_ntu120_has(id)) {
        return KD_SIDE_NONE;
    }
    return id->setup % 2 == 0 ? KD_SIDE_TRAIN : KD_SIDE_VAL;
}

static const kd_named_split SPLITS[] = {{"ntu120-xsub", by_subject}, {"ntu120-xset", by_setup}};

const kd_data_set kd_data_set_ntu120 = {.name = "ntu120",
                                        KD_NTU_LAYOUT,
                                        .n_classes = KD_NTU_CLASSES,
                                        .classes = kd_ntu_classes,
                                        .split = SPLITS,
                                        .n_splits = KD_COUNTOF(SPLITS),
                                        .missing = kd_ntu_missing_skeleton};
