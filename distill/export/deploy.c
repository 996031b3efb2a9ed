/* A student as a file of liblast: see deploy.h. */
#include "distill/export/deploy.h"

#include "formats/base/io.h"
#include "formats/weights/safetensors.h"
#include "student/stream/recipe.h"

/* Class names, one a line; *out NULL: there are none. */
static kd_status join_names(const kd_json *names, char **out, kd_err *err)
{
    size_t bytes = 0;
    *out = NULL;
    for (int pass = 0; pass < 2 && kd_json_count(names) > 0; pass++) {
        size_t at = 0;
        for (size_t i = 0; i < kd_json_count(names); i++) {
            const char *name = NULL;
            KD_TRY(kd_json_as_str(kd_json_at(names, i), &name, err));
            if (strchr(name, '\n') != NULL) {
                return KD_FAIL(err, KD_E_DATA, "class %zu: expected a name of one line, found '%s'", i, name);
            }
            const size_t n = strlen(name);
            if (*out != NULL) {
                memcpy(*out + at, name, n);
                (*out)[at + n] = '\n';
            }
            at += n + 1;
        }
        bytes = at;
        if (pass == 0 && (*out = kd_alloc(bytes)) == NULL) {
            return KD_FAIL(err, KD_E_OOM, "out of memory");
        }
    }
    if (*out != NULL) {
        (*out)[bytes - 1] = '\0';
    }
    return KD_OK;
}

static kd_status add_pair(void *user, const char *key, const char *value)
{
    kd_json_set_str(user, key, value);
    return KD_OK;
}

static kd_status make_metadata(const kd_deploy *d, kd_json **out, kd_err *err)
{
    char *names = NULL;
    *out = kd_json_object();
    if (*out == NULL) {
        return KD_FAIL(err, KD_E_OOM, "out of memory");
    }
    KD_TRY(join_names(d->names, &names, err));
    const kd_last_recipe recipe = {.student = d->cfg->student,
                                   .skeleton = d->cfg->skeleton,
                                   .classes = d->model->classes,
                                   .temperature = d->temperature,
                                   .class_names = names};
    const kd_status st = kd_last_recipe_each(&recipe, add_pair, *out);
    kd_free(names);
    return st;
}

kd_status kd_deploy_image(const kd_deploy *d, void **out, size_t *bytes, kd_err *err)
{
    kd_params *p = d->model->params;
    const int n = kd_params_count(p);
    kd_st_tensor *tensor = kd_calloc((size_t)n + 1, sizeof *tensor);
    float *values = kd_alloc((size_t)(kd_params_slab_numel(p) + kd_params_buffer_numel(p) + 1) * sizeof *values);
    kd_json *meta = NULL;
    kd_status st = KD_OK;
    size_t at = 0;
    *out = NULL;
    if (tensor == NULL || values == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "out of memory");
        goto done;
    }
    for (int i = 0; i < n; i++) {
        const kd_param_info *info = kd_params_at(p, i);
        KD_GO(kd_params_read(p, i, values + at, info->numel));
        tensor[i] = (kd_st_tensor){.name = info->name,
                                   .dtype = KD_ST_F32,
                                   .rank = (size_t)info->shape.rank,
                                   .dim = info->shape.dim,
                                   .data = values + at};
        at += (size_t)info->numel;
    }
    KD_GO(make_metadata(d, &meta, err));
    st = kd_st_image(tensor, (size_t)n, meta, out, bytes, err);
done:
    kd_json_free(meta);
    kd_free(values);
    kd_free(tensor);
    return st;
}

kd_status kd_deploy_write(const kd_deploy *d, const char *path, int64_t *bytes, kd_err *err)
{
    void *image = NULL;
    size_t n = 0;
    KD_TRY(kd_deploy_image(d, &image, &n, err));
    const kd_status st = kd_io_write_file(path, image, n, err);
    *bytes = (int64_t)n;
    kd_free(image);
    return st;
}
