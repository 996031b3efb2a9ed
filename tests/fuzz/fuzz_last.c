/* Any bytes as a deployment file of liblast: a student that answers, or refused with a message. */
#include "student/stream/last.h"

#include <stdbool.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* In builds of every kind. */
static void must(bool yes)
{
    if (!yes) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    const kd_last_options small = {.window = 4, .max_frames = 4, .max_bodies = 1};
    char why[KD_LAST_MESSAGE] = "";
    kd_last *l = NULL;
    if (kd_last_open_memory(data, bytes, &small, &l, why, sizeof why) != KD_LAST_OK) {
        must(l == NULL && why[0] != '\0');
        return 0;
    }
    float *joints = calloc((size_t)kd_last_joints(l) * (size_t)kd_last_channels(l), sizeof *joints);
    if (joints != NULL && kd_last_push(l, joints, 1, NULL, NULL) == KD_LAST_OK) {
        const int st = kd_last_run(l);
        must(st == KD_LAST_OK || kd_last_message(l)[0] != '\0');
    }
    free(joints);
    kd_last_close(l);
    return 0;
}
