/* Any bytes as a config: resolved or refused with a place; what is resolved prints to text that
 * loads to the same struct. */
#include "configs/schema/kd_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static kd_config a, b; /* large */
    kd_err err = {0};
    if (kd_config_parse(data, bytes, "fuzz", NULL, 0, &a, &err) != KD_OK) {
        KD_ASSERT(err.code == KD_E_CONFIG && err.msg[0] != '\0');
        return 0;
    }
    char *yaml = kd_config_yaml(&a, (bytes & 1) != 0, false);
    KD_ASSERT(yaml != NULL);
    KD_ASSERT(kd_config_parse(yaml, strlen(yaml), "again", NULL, 0, &b, NULL) == KD_OK);
    KD_ASSERT(memcmp(&a, &b, sizeof a) == 0);
    kd_free(yaml);
    return 0;
}
