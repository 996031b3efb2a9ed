/* NTU RGB+D: see ntu.h.  The tables are facts of the data set. */
#include "formats/data/ntu.h"

#include <stdlib.h>

#define NTU60_SETUPS  17
#define NTU60_ACTIONS 60
#define SETUPS        32
#define CAMERAS       3
#define REPLICATIONS  2

/* setup 6 bits, camera 2, performer 7, replication 2, action 7: sorted as the names are */
#define PACK(s, c, p, r, a) \
    ((uint32_t)(s) << 18 | (uint32_t)(c) << 16 | (uint32_t)(p) << 9 | (uint32_t)(r) << 7 | (uint32_t)(a))

static const uint32_t missing[] = {
#define M PACK
#include "formats/data/ntu_missing.inc"
#undef M
};

static const char *const class_name[KD_NTU_CLASSES] = {
#include "formats/data/ntu_classes.inc"
};

static const uint64_t setup_performers[SETUPS][2] = {
#include "formats/data/ntu_setups.inc"
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

static bool in_ntu60(const kd_sample_id *id)
{
    return id->setup >= 1 && id->setup <= NTU60_SETUPS && id->action >= 1 && id->action <= NTU60_ACTIONS;
}

/* Setups up to 17 hold actions 1..60, those above the other 60. */
static bool in_ntu120(const kd_sample_id *id)
{
    return in_ntu60(id) || (id->setup > NTU60_SETUPS && id->setup <= SETUPS && id->action > NTU60_ACTIONS &&
                            id->action <= KD_NTU_CLASSES);
}

bool kd_ntu_split_parse(const char *text, kd_ntu_split *out)
{
    for (int i = 0; i < KD_NTU_SPLIT_COUNT; i++) {
        const char *name = kd_ntu_split_name((kd_ntu_split)i);
        size_t k = 0;
        while (name[k] != '\0' && (text[k] == name[k] || (name[k] == '-' && text[k] == '_'))) {
            k++;
        }
        if (name[k] == '\0' && text[k] == '\0') {
            *out = (kd_ntu_split)i;
            return true;
        }
    }
    return false;
}

const char *kd_ntu_split_name(kd_ntu_split split)
{
    static const char *const name[] = {
#define KD_NTU_SPLIT_TEXT(id, text, classes) text,
        KD_NTU_SPLIT_MAP(KD_NTU_SPLIT_TEXT)
#undef KD_NTU_SPLIT_TEXT
    };
    return (size_t)split < KD_COUNTOF(name) ? name[split] : "?";
}

int kd_ntu_split_classes(kd_ntu_split split)
{
    static const int classes[] = {
#define KD_NTU_SPLIT_CLASSES(id, text, n) n,
        KD_NTU_SPLIT_MAP(KD_NTU_SPLIT_CLASSES)
#undef KD_NTU_SPLIT_CLASSES
    };
    return (size_t)split < KD_COUNTOF(classes) ? classes[split] : 0;
}

kd_split_side kd_ntu_side(kd_ntu_split split, const kd_sample_id *id)
{
    bool train = false;
    if (kd_ntu_split_classes(split) == 60 ? !in_ntu60(id) : !in_ntu120(id)) {
        return KD_SIDE_NONE;
    }
    switch (split) {
    case KD_NTU60_XSUB:
    case KD_NTU120_XSUB:
        if (id->subject > 106) {
            return KD_SIDE_NONE;
        }
        train = has_bit(train_performers, id->subject);
        break;
    case KD_NTU60_XVIEW:
        if (id->camera > CAMERAS) {
            return KD_SIDE_NONE;
        }
        train = id->camera != 1;
        break;
    case KD_NTU120_XSET:
        train = id->setup % 2 == 0;
        break;
    case KD_NTU_SPLIT_COUNT:
        return KD_SIDE_NONE;
    }
    return train ? KD_SIDE_TRAIN : KD_SIDE_VAL;
}

bool kd_ntu_exists(const kd_sample_id *id)
{
    return in_ntu120(id) && id->camera >= 1 && id->camera <= CAMERAS && id->replication >= 1 &&
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

const char *kd_ntu_class_name(int label)
{
    return label >= 0 && label < KD_NTU_CLASSES ? class_name[label] : NULL;
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
        if (id->subject > 106) {
            id->subject = 1;
            id->camera++;
        }
        if (id->camera > CAMERAS) {
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

/* ---- rules ----------------------------------------------------------------------------------- */

bool kd_split_by_parse(const char *text, kd_split_by *out)
{
    static const char *const name[] = {"subject", "camera", "setup", "replication", "list"};
    for (size_t i = 0; i < KD_COUNTOF(name); i++) {
        if (strcmp(text, name[i]) == 0) {
            *out = (kd_split_by)i;
            return true;
        }
    }
    return false;
}

static bool has_number(const uint32_t *set, size_t n, uint32_t v)
{
    for (size_t i = 0; i < n; i++) {
        if (set[i] == v) {
            return true;
        }
    }
    return false;
}

static int compare_key(const void *key, const void *item)
{
    return strcmp(key, *(const char *const *)item);
}

static bool has_key(const char *const *set, size_t n, const char *key)
{
    return n != 0 && bsearch(key, set, n, sizeof *set, compare_key) != NULL;
}

kd_status kd_split_rule_check(const kd_split_rule *rule, kd_err *err)
{
    if (rule->n_train == 0) {
        return KD_FAIL(err, KD_E_ARG, "split: expected something on the train side, found nothing");
    }
    for (size_t i = 0; i < rule->n_train; i++) {
        if (rule->by == KD_BY_LIST && has_key(rule->val_keys, rule->n_val, rule->train_keys[i])) {
            return KD_FAIL(err, KD_E_DATA, "split: %s is on both sides, train and val", rule->train_keys[i]);
        }
        if (rule->by != KD_BY_LIST && has_number(rule->val, rule->n_val, rule->train[i])) {
            return KD_FAIL(err, KD_E_DATA, "split: %u is on both sides, train and val", rule->train[i]);
        }
    }
    return KD_OK;
}

kd_split_side kd_split_rule_side(const kd_split_rule *rule, const char *key, const kd_sample_id *id)
{
    bool train, val;
    if (rule->by == KD_BY_LIST) {
        train = has_key(rule->train_keys, rule->n_train, key);
        val = has_key(rule->val_keys, rule->n_val, key);
    } else {
        if (id == NULL) {
            return KD_SIDE_NONE;
        }
        const uint32_t v = rule->by == KD_BY_SUBJECT  ? id->subject
                           : rule->by == KD_BY_CAMERA ? id->camera
                           : rule->by == KD_BY_SETUP  ? id->setup
                                                      : id->replication;
        train = has_number(rule->train, rule->n_train, v);
        val = has_number(rule->val, rule->n_val, v);
    }
    if (train) {
        return KD_SIDE_TRAIN;
    }
    return val || rule->n_val == 0 ? KD_SIDE_VAL : KD_SIDE_NONE;
}
