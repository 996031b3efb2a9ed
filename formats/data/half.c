/* One half of a data set: finding a sample, its identity, the fates of what is left out. */
#include "formats/data/dataset_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

const char *kd_fate_text(kd_fate why)
{
#define KD_FATE_WORDS(value, text) text,
    static const char *const TEXT[KD_FATES] = {KD_FATE_MAP(KD_FATE_WORDS)};
#undef KD_FATE_WORDS
    return TEXT[why];
}

kd_fate kd_fate_of(const char *message)
{
    return strstr(message, ": no body") != NULL ? KD_FATE_NO_BODY
                                                : KD_FATE_UNREADABLE; /* the skeleton reader's words */
}

bool kd_fate_is_failure(kd_fate why)
{
    return why != KD_FATE_KNOWN_MISSING && why != KD_FATE_QUARANTINED && why != KD_FATE_OVER_LIMIT &&
           why != KD_FATE_NO_LABEL;
}

char *kd_fates_text(const size_t n[KD_FATES])
{
    char *text = kd_strdup("");
    for (int i = 0; i < KD_FATES && text != NULL; i++) {
        if (n[i] > 0) {
            char *longer = kd_strf("%s%s%zu %s", text, text[0] != '\0' ? ", " : "", n[i], kd_fate_text((kd_fate)i));
            kd_free(text);
            text = longer;
        }
    }
    if (text != NULL && text[0] == '\0') {
        kd_free(text);
        text = kd_strdup("nothing");
    }
    return text;
}

int64_t kd_half_find(const kd_half *half, const char *id)
{
    size_t lo = 0, hi = half->n;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        const int order = strcmp(half->sample[mid].id, id);
        if (order == 0) {
            return (int64_t)mid;
        }
        if (order < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return -1;
}

typedef struct digest {
    char *text;
    size_t room, used;
} digest;

static void add_line(digest *d, const char *id, int64_t number)
{
    const int n = snprintf(d->text + d->used, d->room - d->used, "%s\t%lld\n", id, (long long)number);
    d->used += (size_t)KD_MAX(n, 0);
}

/* with_left: what is left out takes part, in id order with the samples. */
static kd_status hash_half(const kd_half *half, bool with_left, char hex[KD_SHA256_HEX], kd_err *err)
{
    digest d = {.room = 1};
    const size_t n_left = with_left ? half->n_left : 0;
    for (size_t i = 0; i < half->n; i++) {
        d.room += strlen(half->sample[i].id) + 16; /* a tab, a label, a line feed */
    }
    for (size_t i = 0; i < n_left; i++) {
        d.room += strlen(half->left[i].id) + 16;
    }
    d.text = kd_alloc(d.room);
    if (d.text == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory for the digest of %zu samples", half->n);
    }
    for (size_t i = 0, k = 0; i < half->n || k < n_left;) {
        if (i < half->n && (k == n_left || strcmp(half->sample[i].id, half->left[k].id) < 0)) {
            add_line(&d, half->sample[i].id, half->sample[i].label);
            i++;
        } else {
            if (half->left[k].why != KD_FATE_OVER_LIMIT) {
                add_line(&d, half->left[k].id, half->left[k].label);
            }
            k++;
        }
    }
    const kd_status st = kd_sha256(d.text, d.used, hex, err);
    kd_free(d.text);
    return st;
}

kd_status kd_half_digest(const kd_half *half, char hex[KD_SHA256_HEX], kd_err *err)
{
    return hash_half(half, false, hex, err);
}

kd_status kd_half_list_digest(const kd_half *half, char hex[KD_SHA256_HEX], kd_err *err)
{
    return hash_half(half, true, hex, err);
}

static int64_t bytes_of(const char *path)
{
    struct stat sb;
    return path != NULL && stat(path, &sb) == 0 ? (int64_t)sb.st_size : 0;
}

int64_t kd_sample_bytes(const kd_data_sample *s, unsigned need)
{
    return ((need & KD_NEED_VIDEO) != 0 ? bytes_of(s->video) : 0) + ((need & KD_NEED_SKELETON) == 0 ? 0
                                                                     : s->archive != NULL
                                                                         ? (int64_t)s->archive->row[s->row].bytes
                                                                         : bytes_of(s->skeleton));
}

kd_status kd_half_files_digest(const kd_half *half, unsigned need, char hex[KD_SHA256_HEX], kd_err *err)
{
    digest d = {.room = 1};
    for (size_t i = 0; i < half->n; i++) {
        d.room += strlen(half->sample[i].id) + 24;
    }
    d.text = kd_alloc(d.room);
    if (d.text == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory for the digest of %zu samples", half->n);
    }
    for (size_t i = 0; i < half->n; i++) {
        add_line(&d, half->sample[i].id, kd_sample_bytes(&half->sample[i], need));
    }
    const kd_status st = kd_sha256(d.text, d.used, hex, err);
    kd_free(d.text);
    return st;
}

size_t kd_half_failures(const kd_half *half)
{
    size_t n = 0;
    for (int i = 0; i < KD_FATES; i++) {
        n += kd_fate_is_failure((kd_fate)i) ? half->counts.left[i] : 0;
    }
    return n;
}

static int by_id(const void *a, const void *b)
{
    return strcmp(((const kd_left_out *)a)->id, ((const kd_left_out *)b)->id);
}

void kdi_half_count(kd_half *half)
{
    kd_half_counts *c = &half->counts;
    c->videos = c->skeletons = c->pairs = c->unlabelled = 0;
    for (size_t i = 0; i < half->n; i++) {
        const kd_data_sample *s = &half->sample[i];
        c->videos += s->video != NULL;
        c->skeletons += s->skeleton != NULL;
        c->pairs += s->video != NULL && s->skeleton != NULL;
        c->unlabelled += s->label == KD_NO_LABEL;
    }
}

kd_status kd_half_leave_out(kd_half *half, const uint8_t *drop, kd_fate why, kd_err *err)
{
    size_t n = 0, kept = 0;
    for (size_t i = 0; i < half->n; i++) {
        n += drop[i] != 0;
    }
    kd_left_out *left = kd_realloc(half->left, half->n_left * sizeof *left, (half->n_left + n + 1) * sizeof *left);
    if (left == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory to leave %zu samples out", n);
    }
    half->left = left;
    for (size_t i = 0; i < half->n; i++) {
        const kd_data_sample s = half->sample[i];
        if (drop[i] == 0) {
            half->sample[kept++] = s;
        } else {
            left[half->n_left++] = (kd_left_out){.id = s.id, .why = why, .label = s.label};
        }
    }
    half->n = kept;
    half->counts.left[why] += n;
    kdi_half_count(half);
    qsort(left, half->n_left, sizeof *left, by_id);
    return KD_OK;
}

kd_status kd_half_leave_unlabelled(kd_half *half, kd_err *err)
{
    if (half->counts.unlabelled == 0) {
        return KD_OK;
    }
    uint8_t *drop = kd_calloc(KD_MAX(half->n, 1), sizeof *drop);
    if (drop == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory to leave %zu samples out", half->counts.unlabelled);
    }
    for (size_t i = 0; i < half->n; i++) {
        drop[i] = half->sample[i].label == KD_NO_LABEL;
    }
    const kd_status st = kd_half_leave_out(half, drop, KD_FATE_NO_LABEL, err);
    kd_free(drop);
    return st;
}
