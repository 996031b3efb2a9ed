/* Without libzstd there are no logit stores: every call says which build option brings them. */
#include "formats/base/zstd/zstd_frame.h"

struct kd_zstd_packer {
    int nothing;
};

static kd_status refuse(kd_err *err)
{
    return KD_FAIL(err, KD_E_UNSUPPORTED, "this build reads and writes no logit store; configure with -DKD_ZSTD=ON");
}

kd_zstd_packer *kd_zstd_packer_new(void)
{
    return kd_calloc(1, sizeof(kd_zstd_packer));
}

void kd_zstd_packer_free(kd_zstd_packer *p)
{
    kd_free(p);
}

kd_status kd_zstd_pack(kd_zstd_packer *p, const void *src, size_t bytes, uint8_t **out, size_t *out_bytes, kd_err *err)
{
    (void)p, (void)src, (void)bytes;
    *out = NULL;
    *out_bytes = 0;
    return refuse(err);
}

kd_status kd_zstd_look(const uint8_t *p, size_t bytes, size_t max_content, kd_zstd_info *out, kd_err *err)
{
    (void)p, (void)bytes, (void)max_content;
    *out = (kd_zstd_info){0};
    return refuse(err);
}

kd_status kd_zstd_unpack(const uint8_t *frame, size_t frame_bytes, void *dst, size_t bytes, kd_err *err)
{
    (void)frame, (void)frame_bytes, (void)dst, (void)bytes;
    return refuse(err);
}

kd_status kd_seek_table_make(const kd_seek_entry *entries, size_t n, uint8_t **out, size_t *out_bytes, kd_err *err)
{
    (void)entries, (void)n;
    *out = NULL;
    *out_bytes = 0;
    return refuse(err);
}

kd_status kd_seek_table_parse(const uint8_t *frame, size_t bytes, kd_seek_entry **entries, size_t *n, kd_err *err)
{
    (void)frame, (void)bytes;
    *entries = NULL;
    *n = 0;
    return refuse(err);
}

const char *kd_zstd_version(void)
{
    return "none (built with KD_ZSTD=OFF)";
}
