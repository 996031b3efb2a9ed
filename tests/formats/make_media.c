/* make_media KIND OUT [N]: the videos of media_case.h, for scripts.
 *   clip OUT N            N frames
 *   repeats OUT N         N frames, 8 chunks without bytes between them and 2 after the last
 *   rotated OUT DEGREES   12 frames of an MP4 that shows them turned clockwise
 *   frames DIR N          N pictures img_00001.png ... */
#include "tests/formats/media_case.h"

#include <stdio.h>
#include <stdlib.h>

static kd_status make(const char *kind, const char *out, int n, kd_err *err)
{
    static const int gaps[] = {0, 1, 1, 2, 3, 3, 3, 4};
    if (strcmp(kind, "clip") == 0) {
        return kd_media_clip(out, n, err);
    }
    if (strcmp(kind, "repeats") == 0) {
        int after[10];
        memcpy(after, gaps, sizeof gaps);
        after[8] = after[9] = n - 1;
        return kd_media_repeats(out, n, after, KD_COUNTOF(after), err);
    }
    if (strcmp(kind, "rotated") == 0) {
        KD_TRY(kd_media_clip(out, 12, err));
        return kd_media_matrix(out, kd_media_turn[n / 90 % 4], err);
    }
    return strcmp(kind, "frames") == 0 ? kd_media_frames(out, "img_", 1, n, err)
                                       : KD_FAIL(err, KD_E_ARG, "%s: no such kind", kind);
}

int main(int argc, char **argv)
{
    kd_err err = {0};
    if (argc != 4) {
        (void)fprintf(stderr, "make_media KIND OUT N\n");
        return 2;
    }
    if (make(argv[1], argv[2], (int)strtol(argv[3], NULL, 10), &err) != KD_OK) {
        (void)fprintf(stderr, "make_media: %s\n", err.msg);
        return 1;
    }
    return 0;
}
