/* The recipe that belongs to weights: see kd_config.h. */
#include "configs/schema/config_table.h"
#include "formats/base/io.h"
#include "formats/weights/hf.h"
#include "formats/weights/weights.h"

#include <stdio.h>

static bool try_config(const char *dir, const char *rest, char *out, size_t size)
{
    (void)snprintf(out, size, "%s%s/config.yaml", dir, rest);
    return kd_path_is_file(out);
}

/* The recipe of a run or a checkpoint: that which was kept with the weights (distill/eval/calibrate.h), else the run's.
 * Of a run, `best` has the weights, or `last` where no epoch was chosen (formats/weights/weights.h). */
static bool try_folder(const char *dir, char *out, size_t size)
{
    (void)snprintf(out, size, "%s/checkpoints/best", dir);
    const char *const own = kd_path_is_dir(out) ? "/checkpoints/best" : "/checkpoints/last";
    return try_config(dir, own, out, size) || try_config(dir, "", out, size) || try_config(dir, "/../..", out, size);
}

static kd_status of_weights(const char *const *configs, size_t n_configs, const char *weights, const char *const *sets,
                            size_t n_sets, kd_config *out, kd_err *err)
{
    char path[1200];
    if (n_configs > 0) {
        return kd_cfg_load(configs, n_configs, sets, n_sets, weights, out, err);
    }
    if (weights != NULL && !kd_path_exists(weights)) {
        return KD_FAIL(err, KD_E_IO,
                       "%s: no such weights: expected a run directory, a checkpoint, a safetensors file or a .pth",
                       weights);
    }
    if (weights != NULL && kd_path_is_dir(weights) && try_folder(weights, path, sizeof path)) {
        return kd_config_load(&(const char *){path}, 1, sets, n_sets, out, err);
    }
    if (weights != NULL) {
        char *dir = kd_path_dir(weights); /* .../run/checkpoints/best/model.safetensors */
        const bool found =
            dir != NULL && (try_config(dir, "", path, sizeof path) || try_config(dir, "/../..", path, sizeof path));
        kd_free(dir);
        if (found) {
            return kd_config_load(&(const char *){path}, 1, sets, n_sets, out, err);
        }
    }
    if (weights != NULL) {
        kd_json *hf = NULL;
        KD_TRY(kd_hf_config(weights, &hf, NULL, err));
        const bool found = hf != NULL;
        kd_json_free(hf);
        if (found) {
            return kd_cfg_load(NULL, 0, sets, n_sets, weights, out, err);
        }
    }
    if (weights != NULL) { /* what are no weights at all needs no recipe */
        kd_weights *w = NULL;
        KD_TRY(kd_weights_open(weights, NULL, &w, err));
        kd_weights_close(w);
    }
    return KD_FAIL(
        err, KD_E_CONFIG,
        "%s: no config.yaml of a run and no config.json of Hugging Face beside these weights: name the recipe "
        "with --config",
        weights != NULL ? weights : "--weights");
}

kd_status kd_config_of_weights(const char *const *configs, size_t n_configs, const char *weights,
                               const char *const *sets, size_t n_sets, kd_config *out, kd_err *err)
{
    KD_TRY(of_weights(configs, n_configs, weights, sets, n_sets, out, err));
    if (out->phases.n == 0) {
        return KD_OK;
    }
    kd_config *last = kd_alloc(sizeof *last);
    if (last == NULL) {
        return KD_FAIL(err, KD_E_OOM, "config: out of memory");
    }
    const kd_status st = kd_config_phase(out, out->phases.n - 1, last, err);
    *out = *last;
    kd_free(last);
    return st;
}
