/* Any bytes as a fixture's manifest.json, beside the tensors of a fixture of ours: `kd parity` compares or refuses. The
 * numbers of sizes stay small: the target is for what is read, not for how large a model may be. */
#include "formats/base/json.h"
#include "tests/fuzz/fuzz_folder.h"
#include "tools/commands/commands.h"

#include <math.h>
#include <stdio.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { LARGEST = 64 };

/* The tensors of a teacher's pass, with values that nothing has to agree with. */
static void put_tensors(void)
{
    static const char head[] = "{\"logits_f64\":{\"dtype\":\"F32\",\"shape\":[3,5],\"data_offsets\":[0,60]},"
                               "\"features\":{\"dtype\":\"F32\",\"shape\":[3,24],\"data_offsets\":[60,348]}}  ";
    uint8_t file[8 + sizeof head - 1 + 348] = {(uint8_t)(sizeof head - 1)};
    memcpy(file + 8, head, sizeof head - 1);
    fuzz_put("fixture.safetensors", file, sizeof file);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    put_tensors();
    KD_ASSERT(freopen("/dev/null", "w", stdout) != NULL);
    return 0;
}

/* A number of an object; 1 where there is none. */
static double size_of(const kd_json *of, const char *key)
{
    double v = 1.0;
    return kd_json_get_f64(of, key, &v, NULL) == KD_OK && v >= 1.0 ? v : 1.0;
}

/* The list's numbers multiplied. */
static double volume(const kd_json *of, const char *key)
{
    const kd_json *list = kd_json_get(of, key);
    double all = 1.0, v = 1.0;
    for (size_t i = 0; i < kd_json_count(list); i++) {
        all *= kd_json_as_f64(kd_json_at(list, i), &v, NULL) == KD_OK ? fmax(fabs(v), 1.0) : 1.0;
    }
    return all;
}

static bool small(const kd_json *doc)
{
    static const char *const top[] = {"batch",      "classes",     "student_dim", "teacher_dim",
                                      "eval_batch", "train_batch", "depth"};
    static const char *const wide[] = {"embed_dim", "depth", "num_heads", "num_classes", "mlp_ratio",
                                       "dim",       "heads", "classes",   "img",         "frames"};
    const kd_json *c = kd_json_get(doc, "config"), *params = kd_json_get(doc, "params");
    const double side = size_of(c, "img_size") / size_of(c, "patch_size");
    bool ok = side * side * size_of(c, "all_frames") <= (double)LARGEST && size_of(c, "img_size") <= (double)LARGEST &&
              volume(kd_json_get(doc, "input"), "shape") <= 65536.0;
    for (size_t i = 0; i < KD_COUNTOF(top); i++) {
        ok = ok && size_of(doc, top[i]) <= (double)LARGEST;
    }
    for (size_t i = 0; i < KD_COUNTOF(wide); i++) {
        ok = ok && size_of(c, wide[i]) <= (double)LARGEST;
    }
    for (size_t i = 0; i < kd_json_count(params); i++) {
        ok = ok && volume(kd_json_at(params, i), "shape") <= 65536.0;
    }
    for (size_t i = 0; i < kd_json_count(doc); i++) { /* pictures, tables, runs */
        const kd_json *e = kd_json_at(doc, i);
        ok = ok && volume(e, "in_hw") <= 65536.0 && volume(e, "out_hw") <= 65536.0 && volume(e, "shape") <= 65536.0;
    }
    return ok && size_of(c, "depth") <= 4.0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    kd_json *doc = NULL;
    if (kd_json_parse((const char *)data, bytes, "fuzz", &doc, NULL) != KD_OK) {
        return 0;
    }
    const bool fits = small(doc);
    kd_json_free(doc);
    if (fits) {
        char name[] = "parity", device[] = "--device=cpu", folder[64];
        char *argv[] = {name, device, folder, NULL};
        (void)snprintf(folder, sizeof folder, "%s", fuzz_folder());
        fuzz_put("manifest.json", data, bytes);
        (void)kd_cmd_parity(3, argv);
    }
    return 0;
}
