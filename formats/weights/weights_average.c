/* The mean of several weights: see weights.h. */
#include "formats/weights/weights_priv.h"

static bool is_float(kd_st_dtype t)
{
    return t == KD_ST_F32 || t == KD_ST_F16 || t == KD_ST_BF16 || t == KD_ST_F64;
}

static bool same_shape(const kd_weight *a, const kd_weight *b)
{
    return a->rank == b->rank && memcmp(a->dim, b->dim, a->rank * sizeof a->dim[0]) == 0;
}

/* All have the tensors of the last one, and no others. */
static kd_status check(kd_weights *const *w, size_t n, kd_err *err)
{
    const kd_weights *last = w[n - 1];
    for (size_t k = 0; k + 1 < n; k++) {
        if (kd_weights_count(w[k]) != kd_weights_count(last)) {
            return KD_FAIL(err, KD_E_DATA, "average: %s has %zu tensors, %s has %zu", kd_weights_file(w[k]),
                           kd_weights_count(w[k]), kd_weights_file(last), kd_weights_count(last));
        }
        for (size_t i = 0; i < kd_weights_count(last); i++) {
            const kd_weight *t = kd_weights_at(last, i), *other = kd_weights_find(w[k], t->name);
            if (other == NULL || !same_shape(t, other)) {
                return KD_FAIL(err, KD_E_DATA, "average: %s is in %s and %s %s", t->name, kd_weights_file(last),
                               other == NULL ? "not in" : "of another shape in", kd_weights_file(w[k]));
            }
        }
    }
    return KD_OK;
}

/* *mean (kd_free) of tensor i of the last weights. */
static kd_status mean_of(kd_weights *const *w, size_t n, const kd_weight *t, float **mean, kd_err *err)
{
    double *sum = kd_calloc(KD_MAX(t->count, (size_t)1), sizeof *sum);
    float *row = kd_alloc((t->count + 1) * sizeof *row);
    kd_status st = sum != NULL && row != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "average: no memory for %s", t->name);
    for (size_t k = 0; k < n && st == KD_OK; k++) {
        st = kd_weights_read_f32(w[k], kd_weights_find(w[k], t->name), row, err);
        for (size_t e = 0; e < t->count && st == KD_OK; e++) {
            sum[e] += (double)row[e];
        }
    }
    for (size_t e = 0; e < t->count && st == KD_OK; e++) {
        row[e] = (float)(sum[e] / (double)n);
    }
    kd_free(sum);
    if (st != KD_OK) {
        kd_free(row);
        row = NULL;
    }
    *mean = row;
    return st;
}

kd_status kd_weights_average(kd_weights *const *w, size_t n, kd_err *err)
{
    kd_weights *last = w[n - 1];
    KD_TRY(check(w, n, err));
    for (size_t i = 0; i < last->count; i++) {
        kd_weight *t = &last->t[i];
        float *mean = NULL;
        if (!is_float(t->dtype)) {
            continue;
        }
        KD_TRY(mean_of(w, n, t, &mean, err));
        kd_free(t->own);
        t->own = mean;
        t->dtype = KD_ST_F32;
        t->bytes = t->count * sizeof *mean;
    }
    return KD_OK;
}
