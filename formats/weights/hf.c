/* Folders of Hugging Face: see hf.h. */
#include "formats/weights/hf.h"

#include "formats/base/io.h"

#include <stdio.h>

/* The folder of the weights if it may be one of Hugging Face's; kd_free. */
static char *folder_of(const char *weights)
{
    const char *base = kd_path_base(weights);
    if (kd_path_is_dir(weights)) {
        return kd_strdup(weights);
    }
    const bool named = strncmp(base, "model", 5) == 0 || strncmp(base, "pytorch_model", 13) == 0;
    const bool ended = kd_path_has_suffix(base, ".safetensors") || kd_path_has_suffix(base, ".bin") ||
                       kd_path_has_suffix(base, ".index.json");
    return named && ended ? kd_path_dir(weights) : NULL;
}

static kd_status load(const char *dir, const char *name, kd_json **out, kd_err *err)
{
    char *path = kd_path_join(dir, name);
    if (path == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", dir);
    }
    const kd_status st = kd_path_is_file(path) ? kd_json_load(path, out, err) : KD_OK;
    kd_free(path);
    return st;
}

kd_status kd_hf_config(const char *weights, kd_json **config, kd_json **processor, kd_err *err)
{
    kd_json *own = NULL;
    *config = NULL;
    if (processor == NULL) {
        processor = &own;
    }
    *processor = NULL;
    char *dir = folder_of(weights);
    kd_status st = KD_OK;
    if (dir == NULL) {
        return KD_OK;
    }
    KD_GO(load(dir, "config.json", config, err));
    if (kd_json_get(*config, "model_type") == NULL) { /* another tool's file */
        kd_json_free(*config);
        *config = NULL;
    } else {
        KD_GO(load(dir, "preprocessor_config.json", processor, err));
    }
done:
    kd_json_free(own);
    kd_free(dir);
    return st;
}

static kd_status check_back(const kd_json *config, const char *label, size_t id, kd_err *err)
{
    const kd_json *back = kd_json_get(kd_json_get(config, "label2id"), label);
    int64_t v = (int64_t)id;
    char at[200];
    if (back != NULL && (kd_json_as_i64(back, &v, NULL) != KD_OK || v != (int64_t)id)) {
        kd_json_where(back, at, sizeof at);
        return KD_FAIL(err, KD_E_DATA, "%s: expected %zu, as id2label says, found %lld", at, id, (long long)v);
    }
    return KD_OK;
}

kd_status kd_hf_class_names(const kd_json *config, kd_json *names, kd_err *err)
{
    const kd_json *labels = kd_json_get(config, "id2label");
    bool placeholders = true;
    char key[32], at[200];
    for (size_t i = 0; i < kd_json_count(labels); i++) {
        const char *label = "";
        (void)snprintf(key, sizeof key, "%zu", i);
        const kd_json *one = kd_json_get(labels, key);
        if (one == NULL) {
            kd_json_where(labels, at, sizeof at);
            return KD_FAIL(err, KD_E_DATA, "%s: expected labels 0 to %zu, label %zu is missing", at,
                           kd_json_count(labels) - 1, i);
        }
        KD_TRY(kd_json_as_str(one, &label, err));
        (void)snprintf(key, sizeof key, "LABEL_%zu", i);
        placeholders = placeholders && strcmp(label, key) == 0;
    }
    for (size_t i = 0; i < kd_json_count(labels) && !placeholders; i++) {
        const char *label = "";
        (void)snprintf(key, sizeof key, "%zu", i);
        KD_TRY(kd_json_as_str(kd_json_get(labels, key), &label, err));
        KD_TRY(check_back(config, label, i, err));
        kd_json_push_str(names, label);
    }
    return kd_json_ok(names) ? KD_OK : KD_FAIL(err, KD_E_OOM, "id2label: out of memory");
}
