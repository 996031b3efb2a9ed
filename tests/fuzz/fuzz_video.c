/* Any bytes as a video: probed, counted and two of its frames read, strictly and leniently, or refused. */
#include "formats/video/video.h"
#include "tests/fuzz/fuzz_folder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static const kd_video_opts limits = {.max_frames = 64, .max_pixels = 256 * 256, .max_bytes = 1 << 20};

static kd_status ends(void *ctx, size_t frames, size_t *idx, size_t n, kd_err *err)
{
    (void)ctx;
    (void)err;
    for (size_t i = 0; i < n; i++) {
        idx[i] = i == 0 ? 0 : frames - 1;
    }
    return KD_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    kd_video_info info;
    fuzz_put("clip", data, bytes);
    (void)!kd_video_probe(fuzz_path("clip"), &limits, &info, NULL);
    for (int lenient = 0; lenient < 2; lenient++) {
        kd_video_opts opts = limits;
        kd_video_clip clip = {.rgb = NULL};
        kd_err err = {0};
        opts.lenient = lenient != 0;
        const kd_status st = kd_video_sample(fuzz_path("clip"), &opts, ends, NULL, 2, &clip, &info, &err);
        KD_ASSERT((st == KD_OK) == (clip.rgb != NULL) && (st == KD_OK || err.msg[0] != '\0'));
        if (st == KD_OK) {
            volatile uint8_t sink = 0;
            KD_ASSERT(clip.n == 2 && (size_t)clip.width * (size_t)clip.height <= limits.max_pixels);
            for (size_t i = 0; i < 2 * 3 * (size_t)clip.width * (size_t)clip.height; i++) {
                sink = (uint8_t)(sink ^ clip.rgb[i]);
            }
        }
        kd_video_clip_free(&clip);
    }
    return 0;
}
