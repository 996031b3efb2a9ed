/* Any bytes as a checkpoint's state.json beside its tensors, with the checksum that the text asks for: opened or
 * refused, by the reader of checkpoints and by that of weights. */
#include "formats/base/hash.h"
#include "formats/weights/checkpoint.h"
#include "formats/weights/weights.h"
#include "tests/fuzz/fuzz_folder.h"

#include <stdio.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t room, unsigned seed);

static uint8_t *whole;
static size_t whole_bytes;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    static const float w[4] = {1.0f, 2.0f, 3.0f, 4.0f};
    static const int64_t dim[1] = {4};
    const kd_st_tensor t = {"w", KD_ST_F32, 1, dim, w};
    const kd_ckpt_group groups[2] = {{"model", &t, 1}, {"optim", &t, 1}};
    kd_json *state = kd_json_object();
    kd_json_set_i64(state, "step", 12);
    kd_json_set_f64(state, "best", 0.5);
    kd_json_set_str(state, "config", "kind: student\n");
    KD_ASSERT(kd_ckpt_save(fuzz_path("last"), groups, 2, state, false, NULL) == KD_OK);
    kd_json_free(state);
    whole = fuzz_get("last/state.json", &whole_bytes);
    return 0;
}

/* The 16 digits before the end are the hash of the text in which they are 0. */
static void seal(uint8_t *text, size_t bytes)
{
    enum { DIGITS = 16, BEHIND = 4 }; /* "\n}\n after them */
    char hex[DIGITS + 1];
    if (bytes >= DIGITS + BEHIND) {
        uint8_t *at = text + bytes - BEHIND - DIGITS;
        memset(at, '0', DIGITS);
        (void)snprintf(hex, sizeof hex, "%016llx", (unsigned long long)kd_xxh64(text, bytes));
        memcpy(at, hex, DIGITS);
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t room, unsigned seed)
{
    const size_t n = fuzz_mutate_from(whole, whole_bytes, data, bytes, room, seed);
    if (seed % 8 != 1) {
        seal(data, n);
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    kd_ckpt *c = NULL;
    kd_weights *w = NULL;
    kd_err err = {0};
    fuzz_put("last/state.json", data, bytes);
    if (kd_ckpt_open(fuzz_path("last"), &c, &err) == KD_OK) {
        const kd_st_file *f = kd_ckpt_tensors(c, "model");
        KD_ASSERT(f == NULL || kd_st_count(f) == 1);
        (void)kd_json_count(kd_ckpt_state(c));
        kd_ckpt_close(c);
    } else {
        KD_ASSERT(err.msg[0] != '\0');
    }
    if (kd_weights_open(fuzz_path("last"), NULL, &w, NULL) == KD_OK) {
        float v[4];
        for (size_t i = 0; i < kd_weights_count(w) && i < 4; i++) {
            KD_ASSERT(kd_weights_at(w, i)->count <= 4);
            (void)!kd_weights_read_f32(w, kd_weights_at(w, i), v, NULL);
        }
        kd_weights_close(w);
    }
    return 0;
}
