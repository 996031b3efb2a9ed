/* The manifest of a logit store: checked, as JSON, compared. */
#include "formats/store/store_internal.h"

#include <stdio.h>

static const char *text(const char *s)
{
    return s == NULL ? "" : s;
}

static kd_status check(const kd_store_manifest *m, kd_err *err)
{
    if (m->n_classes < 1 || m->n_classes > KD_STORE_MAX_CLASSES) {
        return KD_FAIL(err, KD_E_DATA, "manifest: expected 1 to %d classes, found %d", KD_STORE_MAX_CLASSES,
                       m->n_classes);
    }
    if (m->logit_dtype != KD_F16 && m->logit_dtype != KD_F32) {
        return KD_FAIL(err, KD_E_DATA, "manifest: logits are stored as fp16 or f32");
    }
    const bool feature = text(m->feature)[0] != '\0';
    if (feature ? m->feature_dim < 1 || m->feature_dim > KD_STORE_MAX_DIM : m->feature_dim != 0) {
        return KD_FAIL(err, KD_E_DATA, "manifest: feature '%s' with %d values", text(m->feature), m->feature_dim);
    }
    if (feature && m->feature_dtype != KD_F16 && m->feature_dtype != KD_BF16 && m->feature_dtype != KD_F32) {
        return KD_FAIL(err, KD_E_DATA, "manifest: features are stored as fp16, bf16 or f32");
    }
    int taps = 0;
    for (int i = 0; i < m->n_taps; i++) {
        const kd_store_tap *t = &m->tap[i];
        if (text(t->name)[0] == '\0' || t->rows < 1 || t->width < 1 || t->rows > KD_STORE_MAX_DIM / t->width) {
            return KD_FAIL(err, KD_E_DATA, "manifest: tap %d: '%s' of %d x %d values", i, text(t->name), t->rows,
                           t->width);
        }
        taps += t->rows * t->width;
    }
    if (m->n_taps < 0 || m->n_taps > KD_STORE_TAPS || (m->n_taps > 0 && taps != m->feature_dim)) {
        return KD_FAIL(err, KD_E_DATA, "manifest: %d taps of %d values, a feature of %d", m->n_taps, taps,
                       m->feature_dim);
    }
    if (m->features_only && !feature) {
        return KD_FAIL(err, KD_E_DATA, "manifest: neither logits nor features");
    }
    if (strcmp(text(m->merge), "prob") != 0 && strcmp(text(m->merge), "score") != 0) {
        return KD_FAIL(err, KD_E_DATA, "manifest: merge: expected prob or score, found '%s'", text(m->merge));
    }
    if (m->block_records < 1 || m->block_records > 4096 || m->expected < 0) {
        return KD_FAIL(err, KD_E_DATA, "manifest: %d records a block, %lld expected", m->block_records,
                       (long long)m->expected);
    }
    return KD_OK;
}

static void set_if_any(kd_json *doc, const char *key, const char *value)
{
    if (text(value)[0] != '\0') {
        kd_json_set_str(doc, key, value);
    }
}

kd_status kd_store_head_make(const kd_store_manifest *m, kd_store_head *out, kd_err *err)
{
    kd_store_manifest full = *m;
    if (full.block_records == 0) {
        full.block_records = 32;
    }
    KD_TRY(check(&full, err));
    if (full.classes == NULL) {
        return KD_FAIL(err, KD_E_DATA, "manifest: no class names");
    }
    kd_json *doc = kd_json_object();
    kd_json_set_str(doc, "format", "lastkd logit store");
    kd_json_set_i64(doc, "version", KD_STORE_VERSION);
    kd_json_set_str(doc, "teacher", text(m->teacher));
    kd_json_set_str(doc, "teacher_sha256", text(m->teacher_sha256));
    kd_json_set_str(doc, "config_hash", text(m->config_hash));
    kd_json_set_str(doc, "data_set", text(m->data_set));
    kd_json_set_str(doc, "split", text(m->split));
    kd_json_set_str(doc, "train_ids", text(m->train_ids));
    kd_json_set_str(doc, "val_ids", text(m->val_ids));
    kd_json_set_str(doc, "parts", text(m->parts));
    kd_json_set_str(doc, "views", text(m->views));
    kd_json_set_str(doc, "merge", text(m->merge));
    kd_json_set_str(doc, "decoder", text(m->decoder));
    kd_json_set_str(doc, "logit_dtype", kd_dtype_name(m->logit_dtype));
    kd_json_set_str(doc, "feature", text(m->feature));
    kd_json_set_i64(doc, "feature_dim", m->feature_dim);
    kd_json_set_str(doc, "feature_dtype", m->feature_dim > 0 ? kd_dtype_name(m->feature_dtype) : "");
    kd_json_set_i64(doc, "block_records", full.block_records);
    kd_json_set_i64(doc, "expected", m->expected);
    kd_json *classes = kd_json_set_array(doc, "classes");
    for (int i = 0; i < m->n_classes; i++) {
        kd_json_push_str(classes, text(m->classes[i]));
    }
    kd_json *taps = m->n_taps > 0 ? kd_json_set_array(doc, "taps") : NULL;
    for (int i = 0; i < m->n_taps; i++) {
        const int64_t shape[2] = {m->tap[i].rows, m->tap[i].width};
        kd_json *one = kd_json_push_object(taps);
        kd_json_set_str(one, "name", m->tap[i].name);
        kd_json_set_i64s(one, "shape", shape, 2);
    }
    set_if_any(doc, "shard", m->shard);
    if (m->features_only) {
        kd_json_set_bool(doc, "features_only", true);
    }
    set_if_any(doc, "replay_rows", m->replay_rows);
    if (text(m->replay_rows)[0] != '\0') {
        kd_json_set_i64(doc, "replay_seed", m->replay_seed);
    }
    set_if_any(doc, "provenance", m->provenance);
    set_if_any(doc, "source_sha256", m->source_sha256);
    char *json = NULL;
    size_t bytes = 0;
    kd_status st = kd_json_dump(doc, KD_JSON_COMPACT, &json, &bytes, err);
    kd_json_free(doc);
    if (st == KD_OK) {
        st = kd_store_head_parse(json, bytes, "manifest", out, err);
    }
    kd_free(json);
    return st;
}

static kd_status get_dtype(const kd_json *doc, const char *key, kd_dtype *out, kd_err *err)
{
    const char *name = NULL;
    KD_TRY(kd_json_get_str(doc, key, &name, err));
    if (name[0] == '\0') {
        *out = KD_F32; /* no features */
        return KD_OK;
    }
    if (!kd_dtype_parse(name, out)) {
        return KD_FAIL(err, KD_E_FORMAT, "manifest: %s: unknown dtype '%s'", key, name);
    }
    return KD_OK;
}

static kd_status get_fields(kd_store_head *h, kd_err *err)
{
    const kd_json *doc = h->doc;
    kd_store_manifest *m = &h->m;
    const char *format = NULL;
    int64_t version = 0;
    int64_t n = 0;
    KD_TRY(kd_json_get_str(doc, "format", &format, err));
    KD_TRY(kd_json_get_i64(doc, "version", &version, err));
    if (strcmp(format, "lastkd logit store") != 0 || version != KD_STORE_VERSION) {
        return KD_FAIL(err, KD_E_FORMAT, "manifest: expected a lastkd logit store of version %d, found '%.60s' %lld",
                       KD_STORE_VERSION, format, (long long)version);
    }
    KD_TRY(kd_json_get_str(doc, "teacher", &m->teacher, err));
    KD_TRY(kd_json_get_str(doc, "teacher_sha256", &m->teacher_sha256, err));
    KD_TRY(kd_json_get_str(doc, "config_hash", &m->config_hash, err));
    KD_TRY(kd_json_get_str(doc, "data_set", &m->data_set, err));
    KD_TRY(kd_json_get_str(doc, "split", &m->split, err));
    KD_TRY(kd_json_opt_str(doc, "shard", "", &m->shard, err));
    KD_TRY(kd_json_opt_bool(doc, "features_only", false, &m->features_only, err));
    KD_TRY(kd_json_opt_str(doc, "replay_rows", "", &m->replay_rows, err));
    KD_TRY(kd_json_opt_i64(doc, "replay_seed", 0, &m->replay_seed, err));
    KD_TRY(kd_json_opt_str(doc, "provenance", "", &m->provenance, err));
    KD_TRY(kd_json_opt_str(doc, "source_sha256", "", &m->source_sha256, err));
    KD_TRY(kd_json_opt_str(doc, "train_ids", "", &m->train_ids, err));
    KD_TRY(kd_json_opt_str(doc, "val_ids", "", &m->val_ids, err));
    KD_TRY(kd_json_get_str(doc, "parts", &m->parts, err));
    KD_TRY(kd_json_get_str(doc, "views", &m->views, err));
    KD_TRY(kd_json_get_str(doc, "merge", &m->merge, err));
    KD_TRY(kd_json_get_str(doc, "decoder", &m->decoder, err));
    KD_TRY(kd_json_get_str(doc, "feature", &m->feature, err));
    KD_TRY(get_dtype(doc, "logit_dtype", &m->logit_dtype, err));
    KD_TRY(get_dtype(doc, "feature_dtype", &m->feature_dtype, err));
    KD_TRY(kd_json_get_range(doc, "feature_dim", 0, KD_STORE_MAX_DIM, &n, err));
    m->feature_dim = (int)n;
    KD_TRY(kd_json_get_range(doc, "block_records", 1, 4096, &n, err));
    m->block_records = (int)n;
    return kd_json_get_range(doc, "expected", 0, INT64_MAX, &m->expected, err);
}

static kd_status get_taps(kd_store_head *h, kd_err *err)
{
    const kd_json *list = kd_json_get(h->doc, "taps");
    kd_store_manifest *m = &h->m;
    if (kd_json_count(list) > KD_STORE_TAPS) {
        return KD_FAIL(err, KD_E_FORMAT, "manifest: taps: expected at most %d, found %zu", KD_STORE_TAPS,
                       kd_json_count(list));
    }
    for (size_t i = 0; i < kd_json_count(list); i++) {
        int64_t shape[2];
        KD_TRY(kd_json_get_str(kd_json_at(list, i), "name", &m->tap[i].name, err));
        KD_TRY(kd_json_get_i64s(kd_json_at(list, i), "shape", shape, 2, err));
        for (int k = 0; k < 2; k++) {
            if (shape[k] < 1 || shape[k] > KD_STORE_MAX_DIM) {
                return KD_FAIL(err, KD_E_FORMAT, "manifest: tap %s: expected 1 to %d rows and columns, found %lld",
                               m->tap[i].name, KD_STORE_MAX_DIM, (long long)shape[k]);
            }
        }
        m->tap[i].rows = (int)shape[0];
        m->tap[i].width = (int)shape[1];
        m->n_taps = (int)i + 1;
    }
    return KD_OK;
}

static kd_status get_classes(kd_store_head *h, kd_err *err)
{
    const kd_json *list = NULL;
    KD_TRY(kd_json_get_array(h->doc, "classes", &list, err));
    const size_t n = kd_json_count(list);
    if (n < 1 || n > KD_STORE_MAX_CLASSES) {
        return KD_FAIL(err, KD_E_FORMAT, "manifest: classes: expected 1 to %d names, found %zu", KD_STORE_MAX_CLASSES,
                       n);
    }
    h->classes = kd_calloc(n, sizeof *h->classes);
    if (h->classes == NULL) {
        return KD_FAIL(err, KD_E_OOM, "manifest: out of memory");
    }
    for (size_t i = 0; i < n; i++) {
        KD_TRY(kd_json_as_str(kd_json_at(list, i), &h->classes[i], err));
    }
    h->m.n_classes = (int)n;
    h->m.classes = h->classes;
    return KD_OK;
}

kd_status kd_store_head_parse(const char *json, size_t bytes, const char *origin, kd_store_head *out, kd_err *err)
{
    kd_store_head h = {0};
    kd_status st = KD_OK;
    KD_GO(kd_json_parse(json, bytes, origin, &h.doc, err));
    KD_GO(get_fields(&h, err));
    KD_GO(get_taps(&h, err));
    KD_GO(get_classes(&h, err));
    KD_GO(check(&h.m, err));
    h.json = kd_alloc(bytes + 1);
    if (h.json == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "manifest: out of memory");
        goto done;
    }
    memcpy(h.json, json, bytes);
    h.json[bytes] = '\0';
    h.json_bytes = bytes;
    h.hash = kd_xxh64(json, bytes);
    *out = h;
    h = (kd_store_head){0};
done:
    kd_store_head_free(&h);
    return st;
}

void kd_store_head_free(kd_store_head *h)
{
    kd_json_free(h->doc);
    kd_free(h->classes);
    kd_free(h->json);
    *h = (kd_store_head){0};
}

kd_status kd_store_head_same(const kd_store_head *a, const char *of_a, const kd_store_head *b, const char *of_b,
                             char *out, size_t size, kd_err *err)
{
    kd_status st = KD_OK;
    bool told = false;
    out[0] = '\0';
    for (size_t i = 0; i < kd_json_count(a->doc) && st == KD_OK && !told; i++) {
        const kd_json *x = kd_json_at(a->doc, i);
        const kd_json *y = kd_json_get(b->doc, kd_json_key(x));
        char *tx = NULL;
        char *ty = NULL;
        st = kd_json_dump(x, KD_JSON_COMPACT, &tx, NULL, err);
        st = st == KD_OK && y != NULL ? kd_json_dump(y, KD_JSON_COMPACT, &ty, NULL, err) : st;
        if (st == KD_OK && (y == NULL || strcmp(tx, ty) != 0)) {
            (void)snprintf(out, size, "%s: %.120s %s, %.120s %s", kd_json_key(x), text(tx), of_a, text(ty), of_b);
            told = strcmp(kd_json_key(x), "config_hash") != 0; /* a hash tells nothing where another key differs too */
        }
        kd_free(tx);
        kd_free(ty);
    }
    for (size_t i = 0; i < kd_json_count(b->doc) && st == KD_OK && out[0] == '\0'; i++) {
        const char *key = kd_json_key(kd_json_at(b->doc, i));
        if (kd_json_get(a->doc, key) == NULL) {
            (void)snprintf(out, size, "%s: absent %s, there %s", key, of_a, of_b);
        }
    }
    return st;
}

kd_status kd_store_head_frame(const kd_store_head *h, uint8_t **out, size_t *bytes, kd_err *err)
{
    if (h->json_bytes > KD_STORE_MANIFEST_MAX) {
        return KD_FAIL(err, KD_E_DATA, "manifest: %zu bytes, at most %zu are accepted", h->json_bytes,
                       KD_STORE_MANIFEST_MAX);
    }
    *bytes = h->json_bytes + KD_ZSTD_SKIPPABLE_HEAD;
    *out = kd_alloc(*bytes);
    if (*out == NULL) {
        return KD_FAIL(err, KD_E_OOM, "manifest: out of memory");
    }
    kd_put32(*out, KD_STORE_MANIFEST_MAGIC);
    kd_put32(*out + 4, (uint32_t)h->json_bytes);
    memcpy(*out + KD_ZSTD_SKIPPABLE_HEAD, h->json, h->json_bytes);
    return KD_OK;
}
