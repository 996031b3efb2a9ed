/* Values of another program: what all kinds of files share.  See outside.h. */
#include "distill/store/outside.h"

#include "distill/store/outside_internal.h"
#include "formats/base/io.h"
#include "formats/store/logit_store.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

/* ---- shapes ---------------------------------------------------------------------------------- */

kd_status kdi_outside_rows(kd_outside *o, const char *key, size_t rank, const int64_t *dim, kd_err *err)
{
    if (rank < 1 || dim[0] < 1) {
        return KD_FAIL(err, KD_E_DATA, "%s: %s: expected an array with a row a sample, found %s", o->path, key,
                       rank < 1 ? "a single value" : "no rows");
    }
    if (o->n == 0) {
        o->n = (size_t)dim[0];
    }
    if (o->n != (size_t)dim[0] || o->n >= UINT32_MAX) {
        return KD_FAIL(err, KD_E_DATA, "%s: %s: expected %zu rows as there are ids, found %lld", o->path, key, o->n,
                       (long long)dim[0]);
    }
    return KD_OK;
}

/* "(928, 21)"; kd_free. */
static char *shape_text(size_t rank, const int64_t *dim)
{
    char *text = kd_strdup("(");
    for (size_t i = 0; i < rank && text != NULL; i++) {
        char *longer = kd_strf("%s%s%lld", text, i > 0 ? ", " : "", (long long)dim[i]);
        kd_free(text);
        text = longer;
    }
    char *closed = text != NULL ? kd_strf("%s)", text) : NULL;
    kd_free(text);
    return closed;
}

static kd_status refuse_shape(const kd_outside *o, const char *key, const char *expected, size_t rank,
                              const int64_t *dim, kd_err *err)
{
    char *found = shape_text(rank, dim);
    const kd_status st = KD_FAIL(err, KD_E_DATA, "%s: %s: expected %s, found %s", o->path, key, expected,
                                 found != NULL ? found : "another shape");
    kd_free(found);
    return st;
}

kd_status kdi_outside_logits_shape(kd_outside *o, const char *key, size_t rank, const int64_t *dim, kd_err *err)
{
    const int64_t views = rank == 3 ? dim[1] : 1, classes = rank >= 2 && rank <= 3 ? dim[rank - 1] : 0;
    if (classes < 1 || classes > KD_STORE_MAX_CLASSES || views < 1 || views > KD_STORE_MAX_VIEWS) {
        return refuse_shape(o, key, "(samples, classes) or (samples, views, classes)", rank, dim, err);
    }
    o->views = (int)views;
    o->classes = (int)classes;
    return kdi_outside_rows(o, key, rank, dim, err);
}

kd_status kdi_outside_features_shape(kd_outside *o, const char *key, size_t rank, const int64_t *dim, kd_err *err)
{
    if (rank != 2 || dim[1] < 1 || dim[1] > KD_STORE_MAX_DIM) {
        return refuse_shape(o, key, "(samples, values), the mean over views and time", rank, dim, err);
    }
    o->dim = (int)dim[1];
    return kdi_outside_rows(o, key, rank, dim, err);
}

kd_status kdi_outside_floats(const kd_outside *o, size_t rows, size_t width, float **out, kd_err *err)
{
    size_t n = 0;
    *out = kd_size_mul(rows, width, &n) ? kd_calloc(n, sizeof **out) : NULL;
    return *out != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "%s: no memory for %zu x %zu values", o->path, rows, width);
}

/* ---- lists of names -------------------------------------------------------------------------- */

void kdi_outside_strings_free(char **text, size_t n)
{
    for (size_t i = 0; i < n && text != NULL; i++) {
        kd_free(text[i]);
    }
    kd_free(text);
}

kd_status kdi_outside_strings(const kd_json *list, char ***out, size_t *n, kd_err *err)
{
    const size_t count = kd_json_count(list);
    char **text = kd_calloc(count + 1, sizeof *text);
    kd_status st = text != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "a list of %zu names: out of memory", count);
    for (size_t i = 0; i < count && st == KD_OK; i++) {
        const char *s = NULL;
        st = kd_json_as_str(kd_json_at(list, i), &s, err);
        if (st == KD_OK && (text[i] = kd_strdup(s)) == NULL) {
            st = KD_FAIL(err, KD_E_OOM, "a list of names: out of memory");
        }
    }
    if (st != KD_OK) {
        kdi_outside_strings_free(text, count);
        text = NULL;
    }
    *out = text;
    *n = st == KD_OK ? count : 0;
    return st;
}

/* The lines of a text, cut in place; a carriage return before the end of a line is none of its name. */
static kd_status names_of_lines(const char *path, char *data, size_t bytes, char ***out, size_t *n, kd_err *err)
{
    kd_json *list = kd_json_array();
    char *at = data;
    if (bytes >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0) {
        at += 3; /* a byte order mark */
    }
    while (at < data + bytes) {
        char *end = memchr(at, '\n', (size_t)(data + bytes - at));
        end = end != NULL ? end : data + bytes;
        *end = '\0';
        if (end > at && end[-1] == '\r') {
            end[-1] = '\0';
        }
        kd_json_push_str(list, at);
        at = end + 1;
    }
    const kd_status st =
        kd_json_ok(list) ? kdi_outside_strings(list, out, n, err) : KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
    kd_json_free(list);
    return st;
}

static kd_status names_of_file(const char *path, char ***out, size_t *n, kd_err *err)
{
    enum { MOST = 256 << 20 };
    uint8_t *data = NULL;
    size_t bytes = 0;
    kd_json *doc = NULL;
    kd_status st = KD_OK;
    KD_GO(kd_io_read_file(path, MOST, &data, &bytes, err));
    if (bytes > 0 && data[0] == '[') {
        KD_GO(kd_json_parse((const char *)data, bytes, path, &doc, err));
        KD_GO(kdi_outside_strings(doc, out, n, err));
    } else {
        KD_GO(names_of_lines(path, (char *)data, bytes, out, n, err));
    }
done:
    kd_json_free(doc);
    kd_free(data);
    return st;
}

/* ids_file and classes_file, which win over nothing: a list that is there twice is refused. */
static kd_status read_lists(const kd_outside_names *names, kd_outside *o, kd_err *err)
{
    size_t n = 0;
    if (names->classes_file != NULL) {
        if (o->name != NULL) {
            return KD_FAIL(err, KD_E_DATA, "%s: it holds a list of classes, and %s is another one: leave one out",
                           o->path, names->classes_file);
        }
        char **name = NULL;
        KD_TRY(names_of_file(names->classes_file, &name, &n, err));
        o->name = name;
        o->names = n;
    }
    if (o->logits == NULL) {
        o->views = 1;
        o->classes = (int)KD_MIN(o->names, (size_t)KD_STORE_MAX_CLASSES);
    }
    if (o->name != NULL && o->names != (size_t)o->classes) {
        return KD_FAIL(err, KD_E_DATA, "%s: expected the names of the %d columns of the logits, found %zu",
                       names->classes_file != NULL ? names->classes_file : o->path, o->classes, o->names);
    }
    if (names->ids_file != NULL) {
        if (o->id != NULL) {
            return KD_FAIL(err, KD_E_DATA, "%s: it holds ids, and %s is another list of them: leave one out", o->path,
                           names->ids_file);
        }
        char **id = NULL;
        KD_TRY(names_of_file(names->ids_file, &id, &n, err));
        if (n != o->n) {
            kdi_outside_strings_free(id, n);
            return KD_FAIL(err, KD_E_DATA, "%s: expected an id for each of the %zu rows of %s, found %zu",
                           names->ids_file, o->n, o->path, n);
        }
        o->id = id;
    }
    return KD_OK;
}

/* ---- what the values must be ----------------------------------------------------------------- */

static int by_id(const void *a, const void *b, void *outside)
{
    const kd_outside *o = outside;
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    const int c = strcmp(o->id[x], o->id[y]);
    return c != 0 ? c : (x > y) - (x < y);
}

static kd_status sort_ids(kd_outside *o, kd_err *err)
{
    o->by_id = kd_calloc(o->n, sizeof *o->by_id);
    if (o->by_id == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", o->path);
    }
    for (size_t i = 0; i < o->n; i++) {
        const size_t bytes = strlen(o->id[i]);
        if (bytes < 1 || bytes > KD_STORE_ID_MAX) {
            return KD_FAIL(err, KD_E_DATA, "%s: row %zu: expected an id of 1 to %d bytes, found %zu", o->path, i,
                           KD_STORE_ID_MAX, bytes);
        }
        o->by_id[i] = (uint32_t)i;
    }
    qsort_r(o->by_id, o->n, sizeof *o->by_id, by_id, o);
    for (size_t i = 1; i < o->n; i++) {
        const uint32_t a = o->by_id[i - 1], b = o->by_id[i];
        if (strcmp(o->id[a], o->id[b]) == 0) {
            return KD_FAIL(err, KD_E_DATA, "%s: id %s is there twice, in rows %u and %u", o->path, o->id[a], a, b);
        }
    }
    return KD_OK;
}

static kd_status check_finite(const kd_outside *o, const char *what, const float *x, size_t width, kd_err *err)
{
    for (size_t i = 0; i < o->n * width; i++) {
        if (!isfinite(x[i])) {
            return KD_FAIL(err, KD_E_DATA, "%s: row %zu, %s: value %zu of its %s is %g; expected a finite number",
                           o->path, i / width, o->id[i / width], i % width, what, (double)x[i]);
        }
    }
    return KD_OK;
}

/* What a distribution may be off by, for the rounding of its dtype. */
static double tolerance(const kd_outside *o)
{
    return 1e-3 + (o->logit_dtype == KD_F16 ? 0x1p-11 : o->logit_dtype == KD_BF16 ? 0x1p-8 : 0x1p-23);
}

/* Scores behind a softmax, taken for logits, would make a teacher that says nearly nothing. */
static void warn_of_prob(const kd_outside *o)
{
    const size_t k = (size_t)o->classes, rows = o->n * (size_t)o->views;
    for (size_t r = 0; r < rows; r++) {
        double sum = 0.0;
        for (size_t i = 0; i < k; i++) {
            const double p = (double)o->logits[r * k + i];
            sum += p >= 0.0 ? p : INFINITY;
        }
        if (!(fabs(sum - 1.0) <= tolerance(o))) {
            return;
        }
    }
    kd_log(KD_LOG_WARN,
           "%s: every row of its logits sums to 1 with no value below 0, as probabilities do: say --prob if they are",
           o->path);
}

/* Softmax of the logarithm gives the probability back; one of 0 becomes the smallest that f32 has. */
static kd_status to_logits(kd_outside *o, kd_err *err)
{
    const size_t k = (size_t)o->classes, rows = o->n * (size_t)o->views;
    KD_ASSERT(o->logits != NULL);
    for (size_t r = 0; r < rows; r++) {
        float *p = o->logits + r * k;
        double sum = 0.0, low = 0.0;
        for (size_t i = 0; i < k; i++) {
            sum += (double)p[i];
            low = KD_MIN(low, (double)p[i]);
        }
        if (low < 0.0 || !(fabs(sum - 1.0) <= tolerance(o))) {
            const size_t row = r / (size_t)o->views;
            return KD_FAIL(err, KD_E_DATA,
                           "%s: row %zu, %s: expected probabilities, found values down to %g whose sum is %g; without "
                           "--prob they are logits",
                           o->path, row, o->id[row], low, sum);
        }
        for (size_t i = 0; i < k; i++) {
            p[i] = (float)log(KD_MAX((double)p[i] / sum, (double)FLT_MIN));
        }
    }
    return KD_OK;
}

static kd_status check(const kd_outside_names *names, kd_outside *o, kd_err *err)
{
    if (o->logits == NULL && (o->features == NULL || names->prob)) {
        return KD_FAIL(err, KD_E_DATA, "%s: no %s%s", o->path, names->logits != NULL ? names->logits : "logits",
                       o->features != NULL ? ", which --prob is about" : " and no features");
    }
    KD_TRY(read_lists(names, o, err));
    if (o->id == NULL) {
        return KD_FAIL(err, KD_E_DATA, "%s: no %s; name the array with --ids, or a file of them with --ids-file",
                       o->path, names->ids != NULL ? names->ids : "ids");
    }
    KD_TRY(sort_ids(o, err));
    if (o->logits != NULL) {
        KD_TRY(check_finite(o, "logits", o->logits, (size_t)o->views * (size_t)o->classes, err));
    }
    if (o->features != NULL) {
        KD_TRY(check_finite(o, "features", o->features, (size_t)o->dim, err));
    }
    if (o->logits != NULL && !names->prob && o->classes > 1) {
        warn_of_prob(o);
    }
    if (o->logits == NULL && names->prob) {
        return KD_FAIL(err, KD_E_ARG, "%s: holds no logits that --prob could be about; remove it", o->path);
    }
    return names->prob ? to_logits(o, err) : KD_OK;
}

/* ---- reading --------------------------------------------------------------------------------- */

kd_status kd_outside_read(const char *path, const kd_outside_names *names, kd_outside *o, kd_err *err)
{
    kd_status st = KD_OK;
    *o = (kd_outside){.path = kd_strdup(path), .logit_dtype = KD_F32, .feature_dtype = KD_F32};
    if (o->path == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
        goto done;
    }
    if (kd_path_has_suffix(path, ".npz")) {
        KD_GO(kdi_outside_npz(path, names, o, err));
    } else if (kd_path_has_suffix(path, ".safetensors")) {
        KD_GO(kdi_outside_tensors(path, names, o, err));
    } else if (kd_path_has_suffix(path, ".jsonl")) {
        KD_GO(kdi_outside_lines(path, names, o, err));
    } else {
        st = KD_FAIL(err, KD_E_ARG, "%s: expected a name that ends in .npz, .safetensors or .jsonl", path);
        goto done;
    }
    KD_GO(check(names, o, err));
    KD_GO(kd_sha256_file(path, o->sha256, err));
done:
    if (st != KD_OK) {
        kd_outside_free(o);
    }
    return st;
}

void kd_outside_free(kd_outside *o)
{
    kdi_outside_strings_free(o->id, o->n);
    kdi_outside_strings_free(o->name, o->names);
    kd_free(o->path);
    kd_free(o->logits);
    kd_free(o->features);
    kd_free(o->label);
    kd_free(o->by_id);
    *o = (kd_outside){.n = 0};
}

int64_t kd_outside_find(const kd_outside *o, const char *id)
{
    size_t lo = 0, hi = o->n;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        const int c = strcmp(o->id[o->by_id[mid]], id);
        if (c == 0) {
            return o->by_id[mid];
        }
        if (c < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return -1;
}
