/* Any bytes as a torch file and as a bare pickle: parsed or refused, tensors can be read. */
#include "formats/base/python/pickle.h"
#include "formats/weights/pth.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    kd_pk *pk = NULL;
    size_t used = 0;
    if (kd_pk_parse(data, bytes, "fuzz", &pk, &used, NULL) == KD_OK) {
        char what[64];
        KD_ASSERT(used <= bytes);
        kd_pk_describe(kd_pk_root(pk), what, sizeof what);
        kd_pk_free(pk);
    }
    kd_pth *p = NULL;
    if (kd_pth_parse(data, bytes, "fuzz", &p, NULL) != KD_OK) {
        return 0;
    }
    for (size_t i = 0; i < kd_pth_count(p); i++) {
        const kd_pth_tensor *t = kd_pth_at(p, i);
        uint8_t *dst = t->bytes < (1u << 20) ? kd_alloc(t->bytes + 1) : NULL;
        if (dst != NULL) {
            const kd_status st = kd_pth_read(p, t, dst, NULL);
            KD_ASSERT(st == KD_OK || st == KD_E_INTEGRITY || st == KD_E_DATA || st == KD_E_UNSUPPORTED);
        }
        kd_free(dst);
    }
    kd_pth_close(p);
    return 0;
}
