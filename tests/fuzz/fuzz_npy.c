/* Any bytes as a .npy file: parsed or refused; what is parsed can be copied, converted and read as text. */
#include "formats/base/python/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    kd_npy a;
    if (kd_npy_parse(data, bytes, "fuzz", &a, NULL) != KD_OK) {
        return 0;
    }
    KD_ASSERT(a.bytes <= bytes);
    uint8_t *copy = kd_alloc(a.bytes + 1);
    float *f = kd_alloc(KD_MIN(a.count, bytes) * sizeof *f + 1);
    if (copy != NULL && f != NULL && a.count <= bytes) {
        kd_npy_copy(&a, copy);
        const kd_status st = kd_npy_to_f32(&a, f, NULL);
        KD_ASSERT(st == KD_OK || st == KD_E_DTYPE);
        kd_free(kd_npy_text(&a, 0));
    }
    kd_free(copy);
    kd_free(f);
    return 0;
}
