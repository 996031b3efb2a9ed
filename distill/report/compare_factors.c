/* What sample ids tell of a recording, and the figures by it: person, camera, setup.  See compare.h. */
#include "distill/report/compare_internal.h"
#include "formats/data/sets/sample_id.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>

const char *kd_factor_key(kd_factor_id f)
{
    static const char *const KEY[KD_FACTOR_COUNT] = {"person", "camera", "setup"};
    return KEY[f];
}

/* ---- ids ------------------------------------------------------------------------------------- */

/* The number of the first '_'-separated word of `id` that is `word` and one to four digits; -1: there is none. */
static int numbered(const char *id, const char *word)
{
    const size_t n = strlen(word);
    for (const char *at = id; at != NULL; at = strchr(at, '_') != NULL ? strchr(at, '_') + 1 : NULL) {
        const size_t length = strcspn(at, "_.");
        size_t i = 0;
        while (i < n && i < length && tolower((unsigned char)at[i]) == word[i]) {
            i++;
        }
        const size_t digits = strspn(at + i, "0123456789");
        if (i == n && digits >= 1 && digits <= 4 && i + digits == length) {
            return atoi(at + n);
        }
    }
    return -1;
}

/* Values of the factors, -1 where the id does not say.  Besides NTU's names: MSR-Action3D (a01_s01_e01), UTD-MHAD
 * (a1_s1_t1) and NW-UCLA (a01_s01_e00_v01) name subject and view, KTH (person01_boxing_d1) the person, UCF101
 * (v_Biking_g01_c01) the group of clips of one person and place. */
static void parse_id(const char *id, int value[KD_FACTOR_COUNT])
{
    const char *base = strrchr(id, '/') != NULL ? strrchr(id, '/') + 1 : id;
    kd_sample_id ntu;
    for (int f = 0; f < KD_FACTOR_COUNT; f++) {
        value[f] = -1;
    }
    if (kd_sample_id_from_path(base, &ntu)) {
        value[KD_FACTOR_PERSON] = ntu.subject;
        value[KD_FACTOR_CAMERA] = ntu.camera;
        value[KD_FACTOR_SETUP] = ntu.setup;
    } else if (numbered(base, "a") >= 0 && numbered(base, "s") >= 0) {
        value[KD_FACTOR_PERSON] = numbered(base, "s");
        value[KD_FACTOR_CAMERA] = numbered(base, "v");
    } else if (strncmp(base, "v_", 2) == 0 && numbered(base, "c") >= 0) {
        value[KD_FACTOR_PERSON] = numbered(base, "g");
    } else {
        value[KD_FACTOR_PERSON] = numbered(base, "person");
    }
}

static int by_number(const void *a, const void *b)
{
    const int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

/* A factor of the values [n] of its samples; `work` [n]. */
static kd_status make_factor(kd_factor *f, char letter, const int *value, int *work, size_t n, kd_err *err)
{
    size_t distinct = 0;
    memcpy(work, value, n * sizeof *work);
    qsort(work, n, sizeof *work, by_number);
    if (work[0] < 0) {
        return KD_OK; /* some ids do not say */
    }
    for (size_t i = 0; i < n; i++) {
        if (distinct == 0 || work[i] != work[distinct - 1]) {
            work[distinct++] = work[i];
        }
    }
    f->of = kd_calloc(n, sizeof *f->of);
    f->name = kd_calloc(distinct, sizeof *f->name);
    f->support = kd_calloc(distinct, sizeof *f->support);
    if (f->of == NULL || f->name == NULL || f->support == NULL) {
        return KD_FAIL(err, KD_E_OOM, "report: out of memory");
    }
    f->n = distinct;
    for (size_t k = 0; k < distinct; k++) {
        (void)snprintf(f->name[k], sizeof f->name[k], "%c%03d", letter, work[k]);
    }
    for (size_t i = 0; i < n; i++) {
        const int *hit = bsearch(&value[i], work, distinct, sizeof *work, by_number);
        f->of[i] = (uint32_t)(hit - work);
        f->support[f->of[i]]++;
    }
    return KD_OK;
}

kd_status kd_factors_of(const char *const *ids, size_t n, kd_factor out[KD_FACTOR_COUNT], kd_err *err)
{
    int *value = kd_calloc(KD_FACTOR_COUNT * n, sizeof *value), *work = kd_calloc(n, sizeof *work);
    kd_status st = KD_OK;
    if (value == NULL || work == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "report: out of memory");
        goto done;
    }
    for (size_t i = 0; i < n; i++) {
        int of[KD_FACTOR_COUNT];
        parse_id(ids[i], of);
        for (size_t f = 0; f < KD_FACTOR_COUNT; f++) {
            value[f * n + i] = of[f];
        }
    }
    for (size_t f = 0; f < KD_FACTOR_COUNT; f++) {
        KD_GO(make_factor(&out[f], "PCS"[f], value + f * n, work, n, err));
    }
done:
    kd_free(value);
    kd_free(work);
    return st;
}

void kd_factors_free(kd_factor factor[KD_FACTOR_COUNT])
{
    for (size_t f = 0; f < KD_FACTOR_COUNT; f++) {
        kd_free(factor[f].of);
        kd_free((void *)factor[f].name);
        kd_free(factor[f].support);
        factor[f] = (kd_factor){.n = 0};
    }
}

kd_status kdi_compare_factors(kd_comparison *c, kd_err *err)
{
    return kd_factors_of(c->teacher->ids, c->n, c->factor, err);
}

void kdi_compare_factors_free(kd_comparison *c)
{
    for (size_t f = 0; f < KD_FACTOR_COUNT; f++) {
        for (size_t g = 0; g < c->n_groups; g++) {
            kd_free(c->group[g].by_factor[f]);
        }
    }
    kd_factors_free(c->factor);
}

/* ---- figures --------------------------------------------------------------------------------- */

bool kd_compare_by_person(const kd_comparison *c)
{
    return c->factor[KD_FACTOR_PERSON].n > 1;
}

const char *kdi_compare_no_person(const kd_comparison *c)
{
    switch (c->factor[KD_FACTOR_PERSON].n) {
    case 0:
        return "The ids do not name persons: intervals and tests take every clip as independent, which makes them "
               "too narrow where clips share people.";
    case 1:
        return "All samples are of one person: no interval by person can be given, and nothing here says how other "
               "people would fare.";
    default:
        return NULL;
    }
}

kd_status kdi_compare_by_factor(kd_comparison *c, kd_group *g, kd_err *err)
{
    for (size_t f = 0; f < KD_FACTOR_COUNT; f++) {
        const kd_factor *x = &c->factor[f];
        if (x->n == 0) {
            continue;
        }
        g->by_factor[f] = kd_calloc(x->n, sizeof *g->by_factor[f]);
        if (g->by_factor[f] == NULL) {
            return KD_FAIL(err, KD_E_OOM, "compare: out of memory");
        }
        for (size_t i = 0; i < g->n_runs * c->n; i++) {
            const uint32_t k = x->of[i % c->n];
            g->by_factor[f][k] += (double)g->right[i] / (double)(g->n_runs * x->support[k]);
        }
    }
    return KD_OK;
}

/* McNemar with persons as units, of the teacher and the group's typical run. */
static kd_status test_by_person(const kd_comparison *c, kd_group *g, kd_err *err)
{
    const kd_factor *x = &c->factor[KD_FACTOR_PERSON];
    int64_t *difference = kd_calloc(x->n, sizeof *difference);
    if (difference == NULL) {
        return KD_FAIL(err, KD_E_OOM, "compare: out of memory");
    }
    for (size_t i = 0; i < c->n; i++) {
        const int32_t label = c->teacher->labels[i];
        difference[x->of[i]] += (c->prediction[0][i] == label) - (c->prediction[g->typical][i] == label);
    }
    const kd_status st = kd_mcnemar_clusters(difference, x->n, &g->mcnemar_person, err);
    kd_free(difference);
    return st;
}

kd_status kdi_compare_person_intervals(kd_comparison *c, kd_group *g, kd_err *err)
{
    const kd_compare_opts *o = &c->opts;
    const kd_factor *x = &c->factor[KD_FACTOR_PERSON];
    const kd_clusters people = {x->of, x->n};
    g->mcnemar_person = (double)NAN;
    if (!kd_compare_by_person(c)) {
        return KD_OK;
    }
    KD_TRY(kd_bootstrap_clusters(g->right, g->n_runs, NULL, 0, c->n, &people, o->draws, o->confidence, o->seed,
                                 &g->top1_person, err));
    if (g == &c->group[0]) {
        return KD_OK;
    }
    KD_TRY(test_by_person(c, g, err));
    KD_TRY(kd_bootstrap_clusters(g->right, g->n_runs, c->group[0].right, c->group[0].n_runs, c->n, &people, o->draws,
                                 o->confidence, o->seed, &g->to_teacher_person, err));
    if (g == &c->group[1]) {
        return KD_OK;
    }
    return kd_bootstrap_clusters(g->right, g->n_runs, c->group[1].right, c->group[1].n_runs, c->n, &people, o->draws,
                                 o->confidence, o->seed, &g->to_baseline_person, err);
}
