/* Any bytes as report.json: read or refused; what is read is written again and read as the same. */
#include "distill/report/report.h"
#include "tests/fuzz/fuzz_folder.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t room, unsigned seed);

static uint8_t *whole;
static size_t whole_bytes;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    static const char *const ids[] = {"a", "b", "c"};
    static const char *const classes[] = {"x", "y"};
    static const int32_t labels[] = {0, 1, 1};
    static const float logits[] = {2.0f, 0.5f, 0.25f, 1.0f, 1.5f, 0.0f};
    static const kd_report_left left[] = {{"d", "cannot be read", true}, {"e", "on the list", false}};
    kd_report r = {.kind = "student",
                   .label = "fuzz",
                   .created = "2000-01-01T00:00:00Z",
                   .command = "fuzz",
                   .dataset = "d",
                   .split = "list",
                   .half = "val",
                   .modality = "skeleton",
                   .views = "1x1",
                   .merge = "prob",
                   .class_names = classes,
                   .classes = 2,
                   .root = ".",
                   .left = left,
                   .n_left = 2,
                   .config_hash = "00",
                   .weights_hash = "00",
                   .model = "m",
                   .device = "cpu",
                   .dtype = "f32",
                   .ids = ids,
                   .labels = labels,
                   .logits = logits,
                   .n = 3};
    kd_err err = {0};
    if (kd_report_write(&r, fuzz_path("report.json"), &err) != KD_OK) {
        kd_bug(__FILE__, __LINE__, err.msg);
    }
    kd_report_free(&r);
    whole = fuzz_get("report.json", &whole_bytes);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t room, unsigned seed)
{
    return fuzz_mutate_from(whole, whole_bytes, data, bytes, room, seed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    kd_report a = {0}, b = {0};
    kd_err err = {0};
    fuzz_put("report.json", data, bytes);
    if (kd_report_read(fuzz_path("report.json"), &a, &err) != KD_OK) {
        KD_ASSERT(err.msg[0] != '\0');
        kd_report_free(&a);
        return 0;
    }
    KD_ASSERT(a.n == a.metrics.n && a.classes > 0);
    KD_ASSERT(kd_report_write(&a, fuzz_path("again.json"), &err) == KD_OK);
    KD_ASSERT(kd_report_read(fuzz_path("again.json"), &b, &err) == KD_OK);
    KD_ASSERT(a.n == b.n && a.classes == b.classes && a.listed == b.listed);
    kd_report_free(&a);
    kd_report_free(&b);
    return 0;
}
