/* The table of data sets and the splits of configs: see data_set.h. */
#include "formats/data/sets/data_set.h"

#define KD_DATA_SET(name) extern const kd_data_set kd_data_set_##name;
#include "formats/data/sets/sets.inc"
#undef KD_DATA_SET

static const kd_data_set *const SETS[] = {
#define KD_DATA_SET(name) &kd_data_set_##name,
#include "formats/data/sets/sets.inc"
#undef KD_DATA_SET
};

/* Fields of a sample name that a split may go by. */
static const struct {
    const char *name;
    size_t offset;
} FIELD[] = {
    {"subject", offsetof(kd_sample_id, subject)},
    {"camera", offsetof(kd_sample_id, camera)},
    {"setup", offsetof(kd_sample_id, setup)},
};

const kd_data_set *kd_data_set_at(int i)
{
    return i >= 0 && i < (int)KD_COUNTOF(SETS) ? SETS[i] : NULL;
}

const kd_data_set *kd_data_set_of_name(const char *s, size_t len, kd_sample_id *id)
{
    for (size_t i = 0; i < KD_COUNTOF(SETS); i++) {
        if (SETS[i]->parse(s, len, id)) {
            return SETS[i];
        }
    }
    return NULL;
}

const kd_data_set *kd_data_set_of_layout(const char *layout)
{
    for (size_t i = 0; i < KD_COUNTOF(SETS); i++) {
        if (SETS[i]->layout != NULL && strcmp(SETS[i]->layout, layout) == 0) {
            return SETS[i];
        }
    }
    return NULL;
}

static bool same_name(const char *name, const char *typed)
{
    while (*name != '\0' && (*typed == *name || (*name == '-' && *typed == '_'))) {
        name++;
        typed++;
    }
    return *name == '\0' && *typed == '\0';
}

const kd_data_set *kd_data_set_of_split(const char *name, const kd_named_split **split)
{
    for (size_t i = 0; i < KD_COUNTOF(SETS); i++) {
        for (int k = 0; k < SETS[i]->n_splits; k++) {
            if (same_name(SETS[i]->split[k].name, name)) {
                *split = &SETS[i]->split[k];
                return SETS[i];
            }
        }
    }
    return NULL;
}

/* ---- names ------------------------------------------------------------------------------------- */

const char *kd_layout_name(int i)
{
    static const char *const other[] = {KD_LAYOUT_FLAT, KD_LAYOUT_LIST};
    for (size_t k = 0; k < KD_COUNTOF(SETS); k++) {
        const char *layout = SETS[k]->layout;
        if (layout != NULL && kd_data_set_of_layout(layout) == SETS[k] && i-- == 0) { /* each layout once */
            return layout;
        }
    }
    return i >= 0 && i < (int)KD_COUNTOF(other) ? other[i] : NULL;
}

const char *kd_split_name(int i)
{
    for (size_t k = 0; k < KD_COUNTOF(SETS); k++) {
        if (i < SETS[k]->n_splits) {
            return i >= 0 ? SETS[k]->split[i].name : NULL;
        }
        i -= SETS[k]->n_splits;
    }
    if (i < (int)KD_COUNTOF(FIELD)) {
        return FIELD[i].name;
    }
    return i == (int)KD_COUNTOF(FIELD) ? KD_SPLIT_LIST : NULL;
}

/* ---- splits ------------------------------------------------------------------------------------ */

static int field_of(const kd_split_opts *split)
{
    for (int i = 0; i < (int)KD_COUNTOF(FIELD); i++) {
        if (strcmp(split->by, FIELD[i].name) == 0) {
            return i;
        }
    }
    return -1;
}

bool kd_split_by_field(const kd_split_opts *split)
{
    return field_of(split) >= 0;
}

static bool has(const kd_cfg_ints *list, int v)
{
    for (int i = 0; i < list->n; i++) {
        if (list->v[i] == v) {
            return true;
        }
    }
    return false;
}

kd_status kd_split_check(const kd_split_opts *split, kd_err *err)
{
    const bool by_field = kd_split_by_field(split);
    if (by_field && split->train.n == 0) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "data.split.train: a split of this kind names its training half; found nothing");
    }
    if (!by_field && (split->train.n > 0 || split->val.n > 0)) {
        return KD_FAIL(err, KD_E_CONFIG, "data.split.train: only for splits by subject, camera or setup; remove it");
    }
    for (int i = 0; i < split->val.n; i++) {
        if (has(&split->train, split->val.v[i])) {
            return KD_FAIL(err, KD_E_CONFIG, "data.split: %d is in train and in val", split->val.v[i]);
        }
    }
    return KD_OK;
}

kd_split_side kd_split_side_of(const kd_split_opts *split, const char *key, const kd_sample_id *id)
{
    const kd_named_split *named = NULL;
    const kd_data_set *set = kd_data_set_of_split(split->by, &named);
    if (set != NULL) { /* names of other data sets are no samples of this one */
        kd_sample_id own;
        return set->parse(key, strlen(key), &own) ? named->side(&own) : KD_SIDE_NONE;
    }
    const int field = field_of(split);
    if (field < 0 || id == NULL) {
        return KD_SIDE_NONE;
    }
    uint16_t v = 0;
    memcpy(&v, (const char *)id + FIELD[field].offset, sizeof v);
    if (has(&split->train, v)) {
        return KD_SIDE_TRAIN;
    }
    return split->val.n == 0 || has(&split->val, v) ? KD_SIDE_VAL : KD_SIDE_NONE;
}
