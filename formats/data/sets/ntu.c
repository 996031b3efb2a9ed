/* NTU RGB+D: see ntu.h.  The tables are facts of the data set. */
#include "formats/data/sets/ntu.h"

#include <stdlib.h>

#define NTU60_SETUPS  17
#define SETUPS        32
#define REPLICATIONS  2
#define MOST_SUBJECTS 106

/* setup 6 bits, camera 2, performer 7, replication 2, action 7: sorted as the names are */
#define PACK(s, c, p, r, a) \
    ((uint32_t)(s) << 18 | (uint32_t)(c) << 16 | (uint32_t)(p) << 9 | (uint32_t)(r) << 7 | (uint32_t)(a))

static const uint32_t missing[] = {
#define M PACK
#include "formats/data/sets/ntu_missing.inc"
#undef M
};

const char *const kd_ntu_classes[KD_NTU_CLASSES] = {
#include "formats/data/sets/ntu_classes.inc"
};

static const uint64_t setup_performers[SETUPS][2] = {
#include "formats/data/sets/ntu_setups.inc"
};

/* Train performers of NTU120 X-Sub; those up to 40 are NTU60's. */
static const uint64_t train_performers[2] = {
    1ull << 1 | 1ull << 2 | 1ull << 4 | 1ull << 5 | 1ull << 8 | 1ull << 9 | 0x7full << 13 | 1ull << 25 | 1ull << 27 |
        1ull << 28 | 1ull << 31 | 1ull << 34 | 1ull << 35 | 1ull << 38 | 7ull << 45 | 3ull << 49 | 0xffull << 52,
    /* performer p at bit p - 64 */
    1ull << 6 | 1ull << 10 | 1ull << 14 | 0x7full << 16 | 1ull << 25 | 0x1full << 27 | 3ull << 33 | 1ull << 36 |
        1ull << 39};

static bool has_bit(const uint64_t set[2], unsigned bit)
{
    return bit < 128 && (set[bit / 64] >> (bit % 64) & 1) != 0;
}

bool kd_ntu60_has(const kd_sample_id *id)
{
    return id->setup >= 1 && id->setup <= NTU60_SETUPS && id->action >= 1 && id->action <= KD_NTU60_CLASSES;
}

/* Setups up to 17 hold actions 1..60, those above the other 60. */
bool kd_ntu120_has(const kd_sample_id *id)
{
    return kd_ntu60_has(id) || (id->setup > NTU60_SETUPS && id->setup <= SETUPS && id->action > KD_NTU60_CLASSES &&
                                id->action <= KD_NTU_CLASSES);
}

kd_split_side kd_ntu_subject_side(const kd_sample_id *id)
{
    if (id->subject > MOST_SUBJECTS) {
        return KD_SIDE_NONE;
    }
    return has_bit(train_performers, id->subject) ? KD_SIDE_TRAIN : KD_SIDE_VAL;
}

bool kd_ntu_exists(const kd_sample_id *id)
{
    return kd_ntu120_has(id) && id->camera >= 1 && id->camera <= KD_NTU_CAMERAS && id->replication >= 1 &&
           id->replication <= REPLICATIONS && has_bit(setup_performers[id->setup - 1], id->subject);
}

static int compare_u32(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a;
    const uint32_t y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

bool kd_ntu_missing_skeleton(const kd_sample_id *id)
{
    if (!kd_ntu_exists(id)) {
        return false;
    }
    const uint32_t key = PACK(id->setup, id->camera, id->subject, id->replication, id->action);
    return bsearch(&key, missing, KD_COUNTOF(missing), sizeof key, compare_u32) != NULL;
}

bool kd_ntu_next(kd_sample_id *id, bool ntu60)
{
    const unsigned setups = ntu60 ? NTU60_SETUPS : SETUPS;
    if (id->setup == 0) {
        *id = (kd_sample_id){1, 1, 1, 1, 0};
    }
    for (;;) { /* count up like an odometer until an existing sample shows */
        id->action++;
        if (id->action > KD_NTU_CLASSES) {
            id->action = 1;
            id->replication++;
        }
        if (id->replication > REPLICATIONS) {
            id->replication = 1;
            id->subject++;
        }
        if (id->subject > MOST_SUBJECTS) {
            id->subject = 1;
            id->camera++;
        }
        if (id->camera > KD_NTU_CAMERAS) {
            id->camera = 1;
            id->setup++;
        }
        if (id->setup > setups) {
            return false;
        }
        if (kd_ntu_exists(id)) {
            return true;
        }
    }
}
