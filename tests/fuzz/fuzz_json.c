/* Any bytes as JSON: parsed or refused; what is parsed prints to text that parses to the same text. */
#include "formats/base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    kd_json *doc = NULL;
    kd_json *again = NULL;
    char *a = NULL;
    char *b = NULL;
    if (kd_json_parse((const char *)data, bytes, "fuzz", &doc, NULL) != KD_OK) {
        return 0;
    }
    KD_ASSERT(kd_json_dump(doc, KD_JSON_PRETTY, &a, NULL, NULL) == KD_OK);
    KD_ASSERT(kd_json_parse(a, strlen(a), "fuzz", &again, NULL) == KD_OK);
    KD_ASSERT(kd_json_dump(again, KD_JSON_PRETTY, &b, NULL, NULL) == KD_OK);
    KD_ASSERT(strcmp(a, b) == 0);
    kd_free(a);
    kd_free(b);
    kd_json_free(again);
    kd_json_free(doc);
    return 0;
}
