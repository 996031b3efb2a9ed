/* data.unlabelled: training samples whose labels are forgotten, named by a file or drawn as a share of each class. */
#include "formats/base/hash.h"
#include "formats/data/dataset_internal.h"

#include <stdio.h>
#include <stdlib.h>

double kd_unlabelled_share(const char *text)
{
    char *end = NULL;
    const double share = strtod(text, &end);
    return end != text && *end == '\0' && share > 0.0 && share < 1.0 ? share : 0.0;
}

/* ---- a file ---------------------------------------------------------------------------------- */

/* Those of the samples that a file names. */
static kd_status forget_named(const char *file, const kd_quarantine *names, kd_dataset *ds, kd_err *err)
{
    const char *stranger = NULL;
    kd_half *train = &ds->half[KD_HALF_TRAIN];
    size_t strangers = 0;
    for (size_t i = 0; i < names->n; i++) {
        const char *name = names->name[i];
        const kd_left_out key = {.id = name};
        const int64_t at = kd_half_find(train, name);
        kd_left_out *left =
            train->n_left > 0 ? bsearch(&key, train->left, train->n_left, sizeof key, kdi_by_left_id) : NULL;
        if (kd_half_find(&ds->half[KD_HALF_VAL], name) >= 0) {
            return KD_FAIL(err, KD_E_DATA,
                           "%s: expected samples of the training half, found %s of the validation half: what is "
                           "measured needs its labels",
                           file, name);
        }
        if (at >= 0) {
            train->sample[at].label = KD_NO_LABEL;
        } else if (left != NULL) {
            left->label = KD_NO_LABEL;
        } else {
            stranger = stranger == NULL ? name : stranger;
            strangers++;
        }
    }
    if (strangers == names->n) {
        return KD_FAIL(err, KD_E_DATA, "%s: expected ids of the %zu training samples (%s), found %s", file, train->n,
                       train->n > 0 ? train->sample[0].id : "none", stranger != NULL ? stranger : "none");
    }
    if (strangers > 0) {
        kd_log(KD_LOG_WARN, "%s: %zu of %zu ids are no sample of the training half, the first: %s", file, strangers,
               names->n, stranger);
    }
    return KD_OK;
}

/* ---- a share --------------------------------------------------------------------------------- */

/* A sample that is listed, whether its files are there or not: the choice depends on the list alone. */
typedef struct drawn {
    int label;
    uint64_t place; /* in its class: hash of seed and id */
    const char *id;
    int *at; /* its label */
} drawn;

static int by_place(const void *a, const void *b)
{
    const drawn *x = a, *y = b;
    if (x->label != y->label) {
        return x->label < y->label ? -1 : 1;
    }
    if (x->place != y->place) {
        return x->place < y->place ? -1 : 1;
    }
    return strcmp(x->id, y->id);
}

static kd_status place_of(int64_t seed, const char *id, uint64_t *out, kd_err *err)
{
    char *text = kd_strf("%lld\n%s", (long long)seed, id);
    if (text == NULL) {
        return KD_FAIL(err, KD_E_OOM, "data.unlabelled: out of memory");
    }
    *out = kd_xxh64(text, strlen(text));
    kd_free(text);
    return KD_OK;
}

static kd_status list_labels(kd_half *train, int64_t seed, drawn *all, size_t *n, kd_err *err)
{
    for (size_t i = 0; i < train->n + train->n_left; i++) {
        const bool kept = i < train->n;
        kd_left_out *left = kept ? NULL : &train->left[i - train->n];
        drawn d = {.id = kept ? train->sample[i].id : left->id, .at = kept ? &train->sample[i].label : &left->label};
        d.label = *d.at;
        if (d.label != KD_NO_LABEL) {
            KD_TRY(place_of(seed, d.id, &d.place, err));
            all[(*n)++] = d;
        }
    }
    return KD_OK;
}

/* Of each class of n samples the first max(2, n (1 - share)), rounded, keep their labels. */
static kd_status forget_share(double share, int64_t seed, kd_dataset *ds, kd_err *err)
{
    enum { LEAST = 2 };
    kd_half *train = &ds->half[KD_HALF_TRAIN];
    size_t n = 0, forgotten = 0;
    drawn *all = kd_calloc(train->n + train->n_left + 1, sizeof *all);
    kd_status st =
        all != NULL ? list_labels(train, seed, all, &n, err) : KD_FAIL(err, KD_E_OOM, "data.unlabelled: out of memory");
    if (st == KD_OK) {
        qsort(all, n, sizeof *all, by_place);
        for (size_t first = 0, end; first < n; first = end) {
            for (end = first; end < n && all[end].label == all[first].label; end++) {
            }
            const size_t keep = KD_MAX((size_t)((double)(end - first) * (1.0 - share) + 0.5), (size_t)LEAST);
            for (size_t i = first + keep; i < end; i++, forgotten++) {
                *all[i].at = KD_NO_LABEL;
            }
        }
        kd_log(
            forgotten > 0 ? KD_LOG_INFO : KD_LOG_WARN,
            "data.unlabelled: %g, seed %lld: %zu of %zu listed training samples keep their label, at least %d a class",
            share, (long long)seed, n - forgotten, n, LEAST);
    }
    kd_free(all);
    return st;
}

kd_status kdi_dataset_forget_labels(const kd_data_opts *cfg, const kd_quarantine *names, kd_dataset *ds, kd_err *err)
{
    const double share = kd_unlabelled_share(cfg->unlabelled);
    if (share > 0.0) {
        KD_TRY(forget_share(share, cfg->unlabelled_seed, ds, err));
    } else if (cfg->unlabelled[0] != '\0') {
        KD_TRY(forget_named(cfg->unlabelled, names, ds, err));
    }
    kdi_half_count(&ds->half[KD_HALF_TRAIN]);
    return KD_OK;
}
