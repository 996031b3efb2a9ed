/* Names of a data set: itself, its split, its classes; and the join in words. */
#include "formats/base/hash.h"
#include "formats/base/io.h"
#include "formats/data/dataset_internal.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- split ----------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    const int x = *(const int *)a, y = *(const int *)b;
    return x < y ? -1 : x > y;
}

/* "1,2,5": sorted, each once. */
static char *numbers_text(const kd_cfg_ints *list)
{
    kd_cfg_ints sorted = *list;
    qsort(sorted.v, (size_t)sorted.n, sizeof sorted.v[0], by_value);
    char *text = kd_strdup("");
    for (int i = 0; i < sorted.n && text != NULL; i++) {
        if (i > 0 && sorted.v[i] == sorted.v[i - 1]) {
            continue;
        }
        char *longer = kd_strf("%s%s%d", text, text[0] != '\0' ? "," : "", sorted.v[i]);
        kd_free(text);
        text = longer;
    }
    return text;
}

/* A sum over the lines of both lists that does not depend on their order. */
static uint64_t list_hash(const kd_listing *list)
{
    enum { KEY = 128 }; /* longer keys are hashed first */
    uint64_t sum = 0;
    for (size_t i = 0; i < list->n; i++) {
        char line[KEY + 8] = {0};
        const size_t len = strlen(list->item[i].key);
        const uint64_t hash = kd_xxh64(list->item[i].key, len);
        if (len < KEY) {
            memcpy(line, list->item[i].key, len);
        } else {
            memcpy(line, &hash, sizeof hash);
        }
        memcpy(line + KEY, &list->item[i].label, sizeof list->item[i].label);
        sum += kd_xxh64(line, sizeof line);
    }
    return sum;
}

static char *split_text(const kd_data_opts *cfg, const kd_listing list[KD_HALVES])
{
    const kd_named_split *named = NULL;
    if (kd_data_set_of_split(cfg->split.by, &named) != NULL) {
        return kd_strdup(named->name);
    }
    if (strcmp(cfg->split.by, KD_SPLIT_LIST) == 0) {
        return kd_strf("list train=%016llx val=%016llx", (unsigned long long)list_hash(&list[KD_HALF_TRAIN]),
                       (unsigned long long)list_hash(&list[KD_HALF_VAL]));
    }
    char *train = numbers_text(&cfg->split.train);
    char *val = cfg->split.val.n > 0 ? numbers_text(&cfg->split.val) : kd_strdup("others");
    char *text = NULL;
    if (train != NULL && val != NULL) {
        text = kd_strf("%s train=%s val=%s", cfg->split.by, train, val);
    }
    kd_free(train);
    kd_free(val);
    return text;
}

/* Last component of a path, without closing slashes. */
static char *folder_name(const char *path)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') {
        end--;
    }
    size_t start = end;
    while (start > 0 && path[start - 1] != '/') {
        start--;
    }
    return kd_strf("%.*s", (int)(end - start), path + start);
}

kd_status kd_dataset_name_split(const kd_data_opts *cfg, const kd_listing list[KD_HALVES], kd_dataset *ds, kd_err *err)
{
    const kd_named_split *named = NULL;
    const kd_data_set *set = kd_data_set_of_split(cfg->split.by, &named);
    ds->name = set != NULL ? kd_strdup(set->name) : folder_name(cfg->root);
    ds->split = split_text(cfg, list);
    if (ds->name != NULL && ds->split != NULL) {
        return KD_OK;
    }
    return KD_FAIL(err, KD_E_OOM, "no memory for the name of the split");
}

/* ---- classes --------------------------------------------------------------------------------- */

/* Lines of classes.txt as names; n 0 when the file is not there. */
static kd_status read_classes(const char *root, kd_class_names *out, kd_err *err)
{
    char *path = kd_path_join(root, KD_CLASSES_FILE);
    *out = (kd_class_names){0};
    if (path == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory for the class names");
    }
    const kd_status st = kd_path_is_file(path) ? kd_class_names_read(path, false, out, err) : KD_OK;
    kd_free(path);
    return st;
}

static kd_status copy_names(const kd_class_names *from, kd_class_names *out, kd_err *err)
{
    *out = (kd_class_names){kd_calloc((size_t)from->n, sizeof *out->name), 0};
    while (out->name != NULL && out->n < from->n && (out->name[out->n] = kd_strdup(from->name[out->n])) != NULL) {
        out->n++;
    }
    if (out->n == from->n) {
        return KD_OK;
    }
    kd_class_names_free(out);
    return KD_FAIL(err, KD_E_OOM, "no memory for %d class names", from->n);
}

/* Do sample names tell the action? */
static bool known_names(const kd_dataset *ds)
{
    for (int h = 0; h < KD_HALVES; h++) {
        if (ds->half[h].n > 0) {
            return ds->half[h].sample[0].action > 0;
        }
    }
    return false;
}

static char *make_name(const kd_data_opts *cfg, const kd_dataset *ds, int i)
{
    if (cfg->classes.n > 0) {
        return kd_strdup(cfg->classes.v[i]);
    }
    const kd_named_split *named = NULL;
    const kd_data_set *set = kd_data_set_of_split(cfg->split.by, &named);
    if (set != NULL && i < set->n_classes) {
        return kd_strdup(set->classes[i]);
    }
    const bool by_action = kd_split_by_field(&cfg->split) && known_names(ds);
    return by_action ? kd_strf("A%03d", i + 1) : kd_strf("class-%d", i);
}

kd_status kd_dataset_name_classes(const kd_data_opts *cfg, const kd_class_names *own, int seen, kd_dataset *ds,
                                  kd_err *err)
{
    kd_class_names c = {0};
    const kd_named_split *named = NULL;
    if (cfg->classes.n == 0 && own->n > 0) {
        KD_TRY(copy_names(own, &c, err));
    } else if (cfg->classes.n == 0 && kd_data_set_of_split(cfg->split.by, &named) == NULL) {
        KD_TRY(read_classes(cfg->root, &c, err));
    }
    ds->classes = c.name;
    ds->n_classes = c.n;
    ds->named = c.n > 0;
    const int count = cfg->num_classes > 0 ? cfg->num_classes : KD_MAX(seen, 1);
    if (c.n > 0) {
        if (cfg->num_classes == 0 || c.n == cfg->num_classes) {
            return KD_OK;
        }
        return KD_FAIL(err, KD_E_DATA, "%s%s: data.num_classes is %d, found %d names", cfg->root,
                       own->n > 0 ? "" : "/" KD_CLASSES_FILE, cfg->num_classes, c.n);
    }
    ds->classes = kd_calloc((size_t)count, sizeof *ds->classes);
    if (ds->classes != NULL) {
        ds->n_classes = count;
    }
    for (int i = 0; i < count; i++) {
        if (ds->classes == NULL || (ds->classes[i] = make_name(cfg, ds, i)) == NULL) {
            return KD_FAIL(err, KD_E_OOM, "no memory for %d class names", count);
        }
    }
    return KD_OK;
}

/* ---- in words -------------------------------------------------------------------------------- */

static char *half_text(const char *name, const kd_half *half)
{
    const kd_half_counts *c = &half->counts;
    char *left = kd_fates_text(c->left);
    char bare[48] = "";
    if (c->unlabelled > 0) {
        (void)snprintf(bare, sizeof bare, ", %zu of them without label", c->unlabelled);
    }
    char *text = left != NULL
                     ? kd_strf("%s: %zu samples of %zu listed%s (%zu videos, %zu skeletons, %zu pairs); left out: %s",
                               name, half->n, c->listed, bare, c->videos, c->skeletons, c->pairs, left)
                     : NULL;
    kd_free(left);
    return text;
}

char *kd_dataset_summary(const kd_dataset *ds)
{
    char split[160];
    char *train = half_text("train", &ds->half[KD_HALF_TRAIN]);
    char *val = half_text("val", &ds->half[KD_HALF_VAL]);
    char *text = NULL;
    if (train != NULL && val != NULL) {
        text = kd_strf("%s, split %s, %d classes\n%s\n%s\noutside the split: %zu", ds->name,
                       kd_show_lists(split, sizeof split, ds->split), ds->n_classes, train, val, ds->unplaced);
    }
    kd_free(train);
    kd_free(val);
    return text;
}
