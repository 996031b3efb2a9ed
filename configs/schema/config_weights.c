/* The recipe that belongs to weights: see kd_config.h. */
#include "configs/schema/kd_config.h"
#include "formats/base/io.h"

#include <stdio.h>

static bool try_config(const char *dir, const char *rest, char *out, size_t size)
{
    (void)snprintf(out, size, "%s%s/config.yaml", dir, rest);
    return kd_path_is_file(out);
}

kd_status kd_config_of_weights(const char *const *configs, size_t n_configs, const char *weights,
                               const char *const *sets, size_t n_sets, kd_config *out, kd_err *err)
{
    char path[1200];
    if (n_configs > 0) {
        return kd_config_load(configs, n_configs, sets, n_sets, out, err);
    }
    if (weights != NULL && !kd_path_exists(weights)) {
        return KD_FAIL(err, KD_E_IO,
                       "%s: no such weights: expected a run directory, a checkpoint, a safetensors file or a .pth",
                       weights);
    }
    if (weights != NULL && kd_path_is_dir(weights) &&
        (try_config(weights, "", path, sizeof path) || try_config(weights, "/../..", path, sizeof path))) {
        return kd_config_load(&(const char *){path}, 1, sets, n_sets, out, err);
    }
    if (weights != NULL) {
        char *dir = kd_path_dir(weights); /* .../run/checkpoints/best/model.safetensors */
        const bool found =
            dir != NULL && (try_config(dir, "/../..", path, sizeof path) || try_config(dir, "", path, sizeof path));
        kd_free(dir);
        if (found) {
            return kd_config_load(&(const char *){path}, 1, sets, n_sets, out, err);
        }
    }
    return KD_FAIL(err, KD_E_CONFIG, "%s: no config.yaml beside these weights: name the recipe with --config",
                   weights != NULL ? weights : "--weights");
}
