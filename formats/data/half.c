/* One half of a data set: finding a sample, its identity, the fates of what is left out. */
#include "formats/data/dataset.h"

#include <stdio.h>
#include <stdlib.h>

const char *kd_fate_text(kd_fate why)
{
#define KD_FATE_WORDS(value, text) text,
    static const char *const TEXT[KD_FATES] = {KD_FATE_MAP(KD_FATE_WORDS)};
#undef KD_FATE_WORDS
    return TEXT[why];
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

kd_status kd_half_digest(const kd_half *half, char hex[KD_SHA256_HEX], kd_err *err)
{
    size_t room = 1, used = 0;
    for (size_t i = 0; i < half->n; i++) {
        room += strlen(half->sample[i].id) + 16; /* a tab, a label, a line feed */
    }
    char *text = kd_alloc(room);
    if (text == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory for the digest of %zu samples", half->n);
    }
    for (size_t i = 0; i < half->n; i++) {
        const int n = snprintf(text + used, room - used, "%s\t%d\n", half->sample[i].id, half->sample[i].label);
        used += (size_t)KD_MAX(n, 0);
    }
    const kd_status st = kd_sha256(text, used, hex, err);
    kd_free(text);
    return st;
}
