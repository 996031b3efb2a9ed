/* Any bytes as `.skeleton` text: no crash, bounded memory; what is accepted is written and read
 * back the same. */
#include "formats/skeleton/skeleton_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void same(const kd_skeleton *a, const kd_skeleton *b)
{
    KD_ASSERT(a->frames == b->frames && a->n_bodies == b->n_bodies);
    KD_ASSERT(memcmp(a->first, b->first, (a->frames + 1) * sizeof *a->first) == 0);
    KD_ASSERT(a->n_bodies == 0 || memcmp(a->body, b->body, a->n_bodies * sizeof *a->body) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int drop = 0; drop < 2; drop++) {
        const kd_skel_opts opts = {.nan = drop != 0 ? KD_SKEL_NAN_DROP : KD_SKEL_NAN_FAIL, .allow_no_body = drop != 0};
        kd_skeleton s, back;
        kd_err err = {0};
        char *text;
        size_t len;
        if (kd_skeleton_parse((const char *)data, size, "fuzz", &opts, &s, &err) != KD_OK) {
            KD_ASSERT(err.code != KD_OK && strncmp(err.msg, "fuzz", 4) == 0 && s.first == NULL);
            continue;
        }
        KD_ASSERT(s.first[s.frames] == s.n_bodies);
        KD_ASSERT(kd_skeleton_format(&s, &text, &len, &err) == KD_OK);
        KD_ASSERT(kd_skeleton_parse(text, len, "again", &opts, &back, &err) == KD_OK);
        same(&s, &back);
        kd_free(text);
        kd_skeleton_free(&back);
        kd_skeleton_free(&s);
    }
    return 0;
}
