/* Any bytes as a safetensors file: parsed or refused; what is parsed can be read whole. */
#include "formats/weights/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    kd_st_file *f = NULL;
    kd_err err = {0};
    if (kd_st_parse(data, bytes, "fuzz", &f, &err) != KD_OK) {
        KD_ASSERT(f == NULL && err.msg[0] != '\0');
        return 0;
    }
    volatile uint8_t sink = 0;
    for (size_t i = 0; i < kd_st_count(f); i++) {
        const kd_st_entry *e = kd_st_at(f, i);
        KD_ASSERT(kd_st_find(f, e->name) != NULL);
        for (size_t k = 0; k < e->bytes; k++) {
            sink = (uint8_t)(sink ^ e->data[k]);
        }
    }
    kd_st_close(f);
    return 0;
}
