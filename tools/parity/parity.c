/* Parity, what all checkers share: see parity.h. */
#include "tools/parity/parity.h"

#include "formats/base/io.h"
#include "kernels/kd_params.h"
#include "tools/parity/parity_gen.h"

#include <math.h>
#include <stdio.h>

void kd_parity_item(parity *p, const char *name, double error, double allowed)
{
    const bool ok = error <= allowed; /* false for NaN */
    p->items++;
    p->failed += ok ? 0 : 1;
    if (p->json) {
        kd_json *o = kd_json_object();
        char *text = NULL;
        kd_json_set_str(o, "fixture", p->label);
        kd_json_set_str(o, "item", name);
        kd_json_set_f64(o, "error", error);
        kd_json_set_f64(o, "allowed", allowed);
        kd_json_set_bool(o, "ok", ok);
        if (kd_json_dump(o, KD_JSON_COMPACT, &text, NULL, NULL) == KD_OK) {
            printf("%s\n", text);
        }
        kd_free(text);
        kd_json_free(o);
        return;
    }
    printf("%-44s error %9.3g  allowed %9.3g  %s\n", KD_SHOWN(name), error, allowed, ok ? "ok" : "FAIL");
}

void kd_parity_check(parity *p, const char *name, bool ok, const char *detail)
{
    char text[560];
    (void)snprintf(text, sizeof text, "%s%s%s", name, detail != NULL ? " " : "", detail != NULL ? detail : "");
    kd_parity_item(p, text, ok ? 0.0 : 1.0, 0.0);
}

kd_status kd_parity_stop(parity *p, const char *what, const char *expected, const char *found)
{
    char text[512];
    (void)snprintf(text, sizeof text, "%s: expected %s, found %s; stopped", what, expected, found);
    kd_parity_check(p, text, false, NULL);
    p->stopped = true;
    return KD_E_DATA;
}

kd_status kd_parity_crc(parity *p, const char *what, const void *data, size_t bytes, const char *crc)
{
    char have[12];
    (void)snprintf(have, sizeof have, "%08x", (unsigned)kd_crc32(data, bytes));
    return strcmp(have, crc) == 0 ? KD_OK : kd_parity_stop(p, what, crc, have);
}

void kd_parity_skip(parity *p, const char *name, const char *why)
{
    if (p->json) {
        kd_json *o = kd_json_object();
        char *text = NULL;
        kd_json_set_str(o, "fixture", p->label);
        kd_json_set_str(o, "item", name);
        kd_json_set_str(o, "not_covered", why);
        if (kd_json_dump(o, KD_JSON_COMPACT, &text, NULL, NULL) == KD_OK) {
            printf("%s\n", text);
        }
        kd_free(text);
        kd_json_free(o);
        return;
    }
    printf("%-44s not covered: %s\n", KD_SHOWN(name), KD_SHOWN(why));
}

double kd_parity_allowed(const parity *p, double diff, double largest)
{
    diff = fmin(diff, PARITY_CREDIBLE * largest);
    if (p->dtype == KD_F32) {
        return fmax(PARITY_FACTOR * diff, PARITY_FLOOR * 0x1p-24 * largest);
    }
    const double unit = p->dtype == KD_F16 ? 0x1p-11 : 0x1p-8;
    return fmax(unit / 0x1p-24 * diff, PARITY_HALF * unit * largest);
}

double kd_parity_allowed_sum(const parity *p, double terms, double branches, double largest)
{
    if (p->dtype == KD_F32) {
        return PARITY_SUM * 0x1p-24 * sqrt(terms * branches) * largest;
    }
    return PARITY_HALF * (p->dtype == KD_F16 ? 0x1p-11 : 0x1p-8) * sqrt(branches) * largest;
}

void kd_parity_f32(parity *p, const char *name, const float *got, const double *want, size_t n, double diff)
{
    double worst = 0.0, largest = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double e = fabs((double)got[i] - want[i]);
        worst = e <= worst ? worst : e; /* keeps NaN */
        largest = fmax(largest, fabs(want[i]));
    }
    kd_parity_item(p, name, worst, kd_parity_allowed(p, diff, largest));
}

kd_status kd_parity_open(const parity *p, const char *tensor, kd_st_file **out, kd_err *err)
{
    char **names = NULL;
    size_t n = 0;
    kd_status st = kd_io_list_dir(p->dir, &names, &n, err);
    *out = NULL;
    for (size_t i = 0; st == KD_OK && *out == NULL && i < n; i++) {
        if (!kd_path_has_suffix(names[i], ".safetensors")) {
            continue;
        }
        char *path = kd_path_join(p->dir, names[i]);
        kd_st_file *f = NULL;
        st = path != NULL ? kd_st_open(path, &f, err) : KD_E_OOM;
        if (st == KD_OK && kd_st_find(f, tensor) != NULL) {
            *out = f;
            f = NULL;
        }
        kd_st_close(f);
        kd_free(path);
    }
    kd_free(names);
    if (st == KD_OK && *out == NULL) {
        st = KD_FAIL(err, KD_E_DATA, "%s: no safetensors file there holds %s", p->dir, tensor);
    }
    return st;
}

kd_status kd_parity_ints(const kd_st_file *f, const char *name, size_t n, int64_t **out, kd_err *err)
{
    const kd_st_entry *e = kd_st_find(f, name);
    *out = NULL;
    if (e == NULL || (n != 0 && e->count != n) || (e->dtype != KD_ST_I64 && e->dtype != KD_ST_I32)) {
        return KD_FAIL(err, KD_E_DATA, "fixture tensor %s: expected %zu integers, found %zu of %s", name, n,
                       e != NULL ? e->count : 0, e != NULL ? kd_st_dtype_name(e->dtype) : "nothing");
    }
    int64_t *v = kd_calloc(e->count + 1, sizeof *v);
    if (v == NULL) {
        return KD_FAIL(err, KD_E_OOM, "parity: out of memory");
    }
    for (size_t i = 0; i < e->count; i++) {
        int32_t narrow = 0;
        if (e->dtype == KD_ST_I64) {
            memcpy(&v[i], e->data + 8 * i, 8);
        } else {
            memcpy(&narrow, e->data + 4 * i, 4);
            v[i] = narrow;
        }
    }
    *out = v;
    return KD_OK;
}

kd_status kd_parity_tensor(const kd_st_file *f, const char *name, size_t n, double **out, kd_err *err)
{
    const kd_st_entry *e = kd_st_find(f, name);
    *out = NULL;
    if (e == NULL || (n != 0 && e->count != n)) {
        return KD_FAIL(err, KD_E_DATA, "fixture tensor %s: expected %zu values, found %zu", name, n,
                       e != NULL ? e->count : 0);
    }
    double *v = kd_calloc(e->count + 1, sizeof *v);
    float *narrow = kd_calloc(e->count + 1, sizeof *narrow);
    kd_status st = v != NULL && narrow != NULL ? KD_OK : KD_E_OOM;
    if (st == KD_OK && e->dtype == KD_ST_F64) {
        memcpy(v, e->data, e->bytes);
    } else if (st == KD_OK && kd_st_to_f32(e->dtype, e->data, e->count, narrow)) {
        for (size_t i = 0; i < e->count; i++) {
            v[i] = (double)narrow[i];
        }
    } else if (st == KD_OK) {
        st =
            KD_FAIL(err, KD_E_DATA, "fixture tensor %s: dtype %s cannot be compared", name, kd_st_dtype_name(e->dtype));
    }
    kd_free(narrow);
    if (st != KD_OK) {
        kd_free(v);
        return st;
    }
    *out = v;
    return KD_OK;
}

void kd_parity_summary(parity *p, const char *what, const char *name, const float *v, int64_t n, const kd_json *s,
                       double diff, double deviations, double *worst)
{
    double l2 = 0.0, want_l2 = 0.0, sum = 0.0, want_sum = NAN, idx[64], val[64], error = 0.0, largest = 0.0;
    const size_t k = KD_MIN(kd_json_count(kd_json_get(s, "idx")), KD_COUNTOF(idx));
    if (kd_json_get_f64(s, "l2", &want_l2, NULL) != KD_OK || kd_json_get_f64s(s, "idx", idx, k, NULL) != KD_OK ||
        kd_json_get_f64s(s, "val", val, k, NULL) != KD_OK) {
        kd_parity_check(p, name, false, "(summary unreadable)");
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        l2 += (double)v[i] * (double)v[i];
        sum += (double)v[i];
    }
    l2 = sqrt(l2);
    want_sum = kd_json_get_f64(s, "sum", &want_sum, NULL) == KD_OK ? want_sum : sum;
    for (size_t j = 0; j < k; j++) {
        const double e = idx[j] >= 0.0 && idx[j] < (double)n ? fabs((double)v[(int64_t)idx[j]] - val[j]) : NAN;
        error = e <= error ? error : e;
        largest = fmax(largest, fabs(val[j]));
    }
    const double rms = want_l2 / sqrt((double)n);
    const double allowed = kd_parity_allowed(p, diff, fmax(largest, 4.0 * rms));
    const double l2_error = fabs(l2 - want_l2), l2_allowed = kd_parity_allowed(p, diff, want_l2) + 1e-6 * want_l2;
    /* errors of the terms of a sum have either sign */
    const double sum_error = fabs(sum - want_sum), sum_allowed = deviations * allowed * sqrt((double)n);
    *worst = fmax(*worst, fmax(error / allowed, fmax(l2_error / l2_allowed, sum_error / sum_allowed)));
    if (!(error <= allowed) || !(l2_error <= l2_allowed) || !(sum_error <= sum_allowed)) {
        char text[256];
        (void)snprintf(text, sizeof text, "%s %s", what, name);
        kd_parity_item(p, text, fmax(error, fmax(l2_error, sum_error)), allowed);
        *worst = NAN;
    }
}

/* ---- generators ------------------------------------------------------------------------------ */

uint32_t kd_parity_u24(const char *name, uint32_t i)
{
    return kd_parity_gen_u24(kd_crc32(name, strlen(name)), i);
}

void kd_parity_fill(const char *name, float scale, float offset, float *out, size_t n)
{
    const uint32_t crc = kd_crc32(name, strlen(name));
    for (size_t i = 0; i < n; i++) {
        volatile float v = kd_parity_gen_unit(crc, (uint32_t)i) * scale; /* rounded before the sum */
        out[i] = offset != 0.0f ? v + offset : v;
    }
}

void kd_parity_fill_last(const char *name, int64_t ko, int64_t ks, float *out, size_t n)
{
    const uint32_t crc = kd_crc32(name, strlen(name));
    for (size_t i = 0; i < n; i++) {
        out[i] = kd_parity_gen_last(crc, (uint32_t)i, ko, ks);
    }
}
