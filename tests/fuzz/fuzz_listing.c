/* Any bytes as a split list: no crash; every accepted sample has a path, a key inside it and a label in range or a
 * class. */
#include "formats/data/lists/listing.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kd_listing list;
    kd_err err = {0};
    if (kd_listing_parse((const char *)data, size, "fuzz", &list, &err) != KD_OK) {
        KD_ASSERT(err.code != KD_OK && strncmp(err.msg, "fuzz", 4) == 0 && list.item == NULL);
        return 0;
    }
    KD_ASSERT(list.n != 0);
    for (size_t i = 0; i < list.n; i++) {
        const kd_list_item *it = &list.item[i];
        KD_ASSERT(it->path != NULL && it->label >= -1 && it->label <= KD_LISTING_LABEL_MAX && it->frames >= -1);
        KD_ASSERT(it->label >= 0 || it->class != NULL || list.form == KD_LIST_UNLABELLED);
    }
    for (int rule = KD_KEY_STEM; rule <= KD_KEY_PATH; rule++) {
        if (kd_listing_keys(&list, "fuzz", (kd_key_rule)rule, "root", NULL) == KD_OK) {
            for (size_t i = 0; i < list.n; i++) {
                const kd_list_item *it = &list.item[i];
                KD_ASSERT(it->key[0] != '\0' && strlen(it->key) < KD_SAMPLE_KEY_MAX);
                KD_ASSERT(strstr(it->path, it->key) != NULL);
            }
        }
    }
    kd_listing_free(&list);
    return 0;
}
