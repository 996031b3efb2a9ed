/* One record between its float form and its stored form. */
#include "formats/base/merge.h"
#include "formats/store/store_internal.h"

#include <math.h>

/* meta: 0 u32 meta bytes | 4 u64 hash | 12 u64 order | 20 i32 label | 24 u16 views | 26 u8 id bytes
 * | 27 u8 0 | id | views: 0 u16 clip | 2 u16 crop | 4 i32 crop_x | 8 i32 crop_y | 12 u8 flip | 13
 * u8 0 | 14 u16 frames | 16 u64 seed | i32 frame indices */

size_t kd_raw_bytes(const kd_raw *r)
{
    return r->meta_bytes + r->logits_bytes + r->prob_bytes + r->feature_bytes;
}

uint64_t kd_raw_hash(const kd_raw *r)
{
    uint8_t parts[32];
    kd_put64(parts, kd_xxh64(r->meta + 12, r->meta_bytes - 12)); /* all but length and hash */
    kd_put64(parts + 8, kd_xxh64(r->logits, r->logits_bytes));
    kd_put64(parts + 16, kd_xxh64(r->prob, r->prob_bytes));
    kd_put64(parts + 24, kd_xxh64(r->feature, r->feature_bytes));
    return kd_xxh64(parts, sizeof parts);
}

void kd_raw_id(const kd_raw *r, char id[KD_STORE_ID_MAX + 1])
{
    const size_t n = r->meta[26];
    memcpy(id, r->meta + KD_STORE_RECORD_HEAD, n);
    id[n] = '\0';
}

void kd_raw_free(kd_raw *r)
{
    kd_free(r->data);
    *r = (kd_raw){0};
}

/* ---- encode ---------------------------------------------------------------------------------- */

static kd_status check_record(const kd_store_head *h, const kd_store_record *rec, size_t *meta_bytes, kd_err *err)
{
    const size_t id_bytes = rec->id == NULL ? 0 : strnlen(rec->id, KD_STORE_ID_MAX + 1);
    if (id_bytes < 1 || id_bytes > KD_STORE_ID_MAX) {
        return KD_FAIL(err, KD_E_DATA, "record: an id has 1 to %d bytes", KD_STORE_ID_MAX);
    }
    if (rec->label < -1 || rec->label >= h->m.n_classes) {
        return KD_FAIL(err, KD_E_DATA, "%s: label %d is not below the class count %d", rec->id, rec->label,
                       h->m.n_classes);
    }
    if (rec->n_views < 1 || rec->n_views > KD_STORE_MAX_VIEWS) {
        return KD_FAIL(err, KD_E_DATA, "%s: expected 1 to %d views, found %d", rec->id, KD_STORE_MAX_VIEWS,
                       rec->n_views);
    }
    if (h->m.feature_dim > 0 && rec->feature == NULL) {
        return KD_FAIL(err, KD_E_DATA, "%s: the store keeps features, this record has none", rec->id);
    }
    size_t n = KD_STORE_RECORD_HEAD + id_bytes;
    for (int i = 0; i < rec->n_views; i++) {
        const kd_store_view *v = &rec->views[i];
        if (v->n_frames < 0 || v->n_frames > KD_STORE_MAX_FRAMES || v->clip < 0 || v->clip > UINT16_MAX ||
            v->crop < 0 || v->crop > UINT16_MAX) {
            return KD_FAIL(err, KD_E_DATA, "%s: view %d: %d frames, clip %d, crop %d", rec->id, i, v->n_frames, v->clip,
                           v->crop);
        }
        n += KD_STORE_VIEW_HEAD + 4 * (size_t)v->n_frames;
    }
    *meta_bytes = n;
    return KD_OK;
}

static void put_meta(const kd_store_record *rec, uint8_t *p, size_t meta_bytes)
{
    const size_t id_bytes = strlen(rec->id);
    kd_put32(p, (uint32_t)meta_bytes);
    kd_put64(p + 12, rec->order);
    kd_put32(p + 20, (uint32_t)rec->label);
    kd_put16(p + 24, (uint16_t)rec->n_views);
    p[26] = (uint8_t)id_bytes;
    p[27] = 0;
    memcpy(p + KD_STORE_RECORD_HEAD, rec->id, id_bytes);
    p += KD_STORE_RECORD_HEAD + id_bytes;
    for (int i = 0; i < rec->n_views; i++) {
        const kd_store_view *v = &rec->views[i];
        kd_put16(p, (uint16_t)v->clip);
        kd_put16(p + 2, (uint16_t)v->crop);
        kd_put32(p + 4, (uint32_t)v->crop_x);
        kd_put32(p + 8, (uint32_t)v->crop_y);
        p[12] = v->flip ? 1 : 0;
        p[13] = 0;
        kd_put16(p + 14, (uint16_t)v->n_frames);
        kd_put64(p + 16, v->seed);
        p += KD_STORE_VIEW_HEAD;
        for (int f = 0; f < v->n_frames; f++, p += 4) {
            kd_put32(p, (uint32_t)v->frames[f]);
        }
    }
}

/* Store n floats; index of the first one that is not finite as stored, n when all are. */
static size_t put_floats(uint8_t *p, const float *x, size_t n, kd_dtype t)
{
    for (size_t i = 0; i < n; i++) {
        float back = x[i];
        if (t == KD_F32) {
            kd_put32(p + 4 * i, kd_f32_bits(x[i]));
        } else {
            const uint16_t u = t == KD_F16 ? kd_f32_to_f16(x[i]) : kd_f32_to_bf16(x[i]);
            kd_put16(p + 2 * i, u);
            back = t == KD_F16 ? kd_f16_to_f32(u) : kd_bf16_to_f32(u);
        }
        if (!isfinite(back)) {
            return i;
        }
    }
    return n;
}

void kdi_store_merge_views(const float *logits, int n_views, size_t c, bool score, double *scratch, float *prob)
{
    double *mean = scratch + c;
    kd_merge_mean(logits, n_views, c, score, scratch, mean);
    if (score) {
        kd_probabilities(mean, c, 1.0);
    }
    for (size_t k = 0; k < c; k++) {
        prob[k] = (float)mean[k];
    }
}

static kd_status merge_into(const kd_store_head *h, const kd_store_record *rec, float *prob, kd_err *err)
{
    const size_t c = (size_t)h->m.n_classes;
    double *scratch = kd_alloc(2 * c * sizeof *scratch);
    if (scratch == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", rec->id);
    }
    kdi_store_merge_views(rec->logits, rec->n_views, c, strcmp(h->m.merge, "score") == 0, scratch, prob);
    kd_free(scratch);
    return KD_OK;
}

static void sizes(const kd_store_head *h, size_t meta_bytes, int n_views, kd_raw *out)
{
    const size_t c = (size_t)h->m.n_classes;
    *out = (kd_raw){.meta_bytes = meta_bytes, .prob_bytes = 4 * c};
    out->logits_bytes = (size_t)n_views * c * kd_dtype_size(h->m.logit_dtype);
    out->feature_bytes = (size_t)h->m.feature_dim * kd_dtype_size(h->m.feature_dtype);
}

static void slice(kd_raw *r, uint8_t *data)
{
    r->data = data;
    r->meta = data;
    r->logits = data + r->meta_bytes;
    r->prob = r->logits + r->logits_bytes;
    r->feature = r->prob + r->prob_bytes;
}

kd_status kd_raw_encode(const kd_store_head *h, const kd_store_record *rec, kd_raw *out, kd_err *err)
{
    size_t meta_bytes = 0;
    KD_TRY(check_record(h, rec, &meta_bytes, err));
    const size_t c = (size_t)h->m.n_classes;
    kd_raw r;
    sizes(h, meta_bytes, rec->n_views, &r);
    const size_t bytes = kd_raw_bytes(&r);
    if (bytes > KD_STORE_BLOCK_SOFT) {
        return KD_FAIL(err, KD_E_DATA, "%s: a record of %zu bytes, at most %zu are accepted", rec->id, bytes,
                       KD_STORE_BLOCK_SOFT);
    }
    uint8_t *data = kd_alloc(bytes);
    float *prob = kd_alloc(c * sizeof *prob);
    kd_status st = KD_OK;
    if (data == NULL || prob == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "%s: out of memory", rec->id);
        goto done;
    }
    slice(&r, data);
    put_meta(rec, data, meta_bytes);
    const size_t n = (size_t)rec->n_views * c;
    uint8_t *p = data + meta_bytes;
    size_t bad = put_floats(p, rec->logits, n, h->m.logit_dtype);
    if (bad < n) {
        st = KD_FAIL(err, KD_E_NUMERIC, "%s: view %zu: logit of class %zu is %g, which %s does not hold; store f32",
                     rec->id, bad / c, bad % c, (double)rec->logits[bad], kd_dtype_name(h->m.logit_dtype));
        goto done;
    }
    if (rec->prob == NULL) {
        KD_GO(merge_into(h, rec, prob, err));
    }
    p += r.logits_bytes;
    bad = put_floats(p, rec->prob == NULL ? prob : rec->prob, c, KD_F32);
    if (bad < c) {
        st = KD_FAIL(err, KD_E_NUMERIC, "%s: probability of class %zu is not finite", rec->id, bad);
        goto done;
    }
    p += r.prob_bytes;
    const size_t d = (size_t)h->m.feature_dim;
    bad = d == 0 ? 0 : put_floats(p, rec->feature, d, h->m.feature_dtype);
    if (bad < d) {
        st = KD_FAIL(err, KD_E_NUMERIC, "%s: feature %zu is %g, which %s does not hold; store f32", rec->id, bad,
                     (double)rec->feature[bad], kd_dtype_name(h->m.feature_dtype));
        goto done;
    }
    kd_put64(data + 4, kd_raw_hash(&r));
    *out = r;
    data = NULL;
done:
    kd_free(prob);
    kd_free(data);
    return st;
}

/* ---- check ----------------------------------------------------------------------------------- */

size_t kd_meta_check(const uint8_t *p, size_t room, const kd_store_head *h)
{
    if (room < KD_STORE_RECORD_HEAD) {
        return 0;
    }
    const size_t bytes = kd_get32(p);
    const size_t id_bytes = p[26];
    const int n_views = kd_get16(p + 24);
    if (bytes > room || bytes < KD_STORE_RECORD_HEAD + id_bytes || id_bytes < 1 || id_bytes > KD_STORE_ID_MAX ||
        p[27] != 0 || n_views < 1 || n_views > KD_STORE_MAX_VIEWS || kd_get32(p + 20) + 1u > (uint32_t)h->m.n_classes ||
        memchr(p + KD_STORE_RECORD_HEAD, 0, id_bytes) != NULL) {
        return 0;
    }
    size_t at = KD_STORE_RECORD_HEAD + id_bytes;
    for (int v = 0; v < n_views; v++) {
        if (bytes - at < KD_STORE_VIEW_HEAD) {
            return 0;
        }
        const size_t frames = kd_get16(p + at + 14);
        at += KD_STORE_VIEW_HEAD;
        if (frames > KD_STORE_MAX_FRAMES || (bytes - at) / 4 < frames) {
            return 0;
        }
        at += 4 * frames;
    }
    return at == bytes ? bytes : 0;
}

kd_status kd_raw_adopt(const kd_store_head *h, uint8_t *data, size_t bytes, kd_raw *out, kd_err *err)
{
    const size_t meta_bytes = kd_meta_check(data, bytes, h);
    if (meta_bytes == 0) {
        return KD_FAIL(err, KD_E_INTEGRITY, "a record that contradicts itself");
    }
    kd_raw r;
    sizes(h, meta_bytes, kd_get16(data + 24), &r);
    if (kd_raw_bytes(&r) != bytes) {
        return KD_FAIL(err, KD_E_INTEGRITY, "a record of %zu bytes, expected %zu", bytes, kd_raw_bytes(&r));
    }
    slice(&r, data);
    if (kd_raw_hash(&r) != kd_get64(data + 4)) {
        return KD_FAIL(err, KD_E_INTEGRITY, "a record whose checksum does not match");
    }
    *out = r;
    return KD_OK;
}
