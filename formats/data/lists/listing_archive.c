/* A half that a skeleton archive names, as a listing: see listing.h. */
#include "formats/data/lists/listing.h"

/* The label of an id: its row's; where the row has none, that of its name. */
static kd_status label_of(const kd_archive *a, const char *id, int32_t *label, kd_err *err)
{
    const size_t row = kd_archive_find(a, id);
    kd_sample_id name;
    const bool named = kd_data_set_of_name(id, strlen(id), &name) != NULL;
    const int64_t known = row < a->n ? a->row[row].label : -1;
    if (known > KD_LISTING_LABEL_MAX) {
        return KD_FAIL(err, KD_E_DATA, "%s: %s: expected a label of at most %d, found %lld", a->path, id,
                       KD_LISTING_LABEL_MAX, (long long)known);
    }
    *label = known >= 0    ? (int32_t)known
             : named       ? name.action - 1
             : row == a->n ? 0 /* never used */
                           : KD_LIST_NO_LABEL;
    return KD_OK;
}

kd_status kd_listing_of_archive(const kd_archive *a, const kd_archive_half *half, kd_listing *out, kd_err *err)
{
    kd_listing list = {.form = KD_LIST_ROWS};
    size_t bytes = 1;
    kd_status st;
    for (size_t i = 0; i < half->n; i++) {
        bytes += strlen(half->id[i]) + 1;
    }
    if (half->n == 0 || half->n > UINT32_MAX) {
        return KD_FAIL(err, KD_E_DATA, "%s: split %s: expected names of samples, found %zu", a->path, half->name,
                       half->n);
    }
    list.text = kd_alloc(bytes);
    list.item = kd_calloc(half->n, sizeof *list.item);
    if (list.text == NULL || list.item == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "%s: no memory for split %s", a->path, half->name);
        goto done;
    }
    char *to = list.text;
    for (size_t i = 0; i < half->n; i++) {
        const size_t n = strlen(half->id[i]) + 1;
        memcpy(to, half->id[i], n);
        list.item[i] = (kd_list_item){.path = to, .label = -1, .frames = -1, .line = (uint32_t)i + 1};
        KD_GO(label_of(a, to, &list.item[i].label, err));
        to += n;
    }
    list.n = half->n;
    *out = list;
    list = (kd_listing){.form = KD_LIST_ROWS};
    st = KD_OK;
done:
    kd_listing_free(&list);
    return st;
}
