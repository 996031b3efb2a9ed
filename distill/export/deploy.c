/* A student as a file of liblast: see deploy.h. */
#include "distill/export/deploy.h"

#include "formats/base/io.h"
#include "formats/weights/safetensors.h"
#include "student/stream/int8.h"
#include "student/stream/recipe.h"

#include <stdio.h>

enum { NAME_BYTES = 32 };

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

/* A layout of one's own goes into the file, and its name takes the place of the path of its YAML. */
static void bring_layout(const kd_layout *l, char *name, size_t size, kd_layout *out)
{
    if (l->joints > 0 && kd_layout_find(name) == NULL) {
        (void)snprintf(name, size, "%s", l->name);
        *out = *l;
    }
}

static kd_status make_metadata(const kd_deploy *d, kd_json **out, kd_err *err)
{
    char *names = NULL;
    *out = kd_json_object();
    if (*out == NULL) {
        return KD_FAIL(err, KD_E_OOM, "out of memory");
    }
    KD_TRY(join_names(d->names, &names, err));
    kd_last_recipe recipe = {.student = d->cfg->student,
                             .skeleton = d->cfg->skeleton,
                             .classes = d->model->classes,
                             .int8 = d->quant != NULL ? d->quant->n : 0,
                             .temperature = d->temperature,
                             .class_names = names};
    const kd_sequence_spec spec = kd_config_sequence(d->cfg);
    bring_layout(&spec.layout, recipe.skeleton.layout, sizeof recipe.skeleton.layout, &recipe.layout);
    bring_layout(&spec.file_layout, recipe.skeleton.file_layout, sizeof recipe.skeleton.file_layout,
                 &recipe.file_layout);
    const kd_status st = kd_last_recipe_each(&recipe, add_pair, *out);
    kd_free(names);
    return st;
}

/* Tensors of a file under way, and what they point to. */
typedef struct content {
    kd_st_tensor *tensor;
    size_t n;
    float *values; /* of parameters */
    char (*name)[NAME_BYTES];
    int64_t (*dim)[2];
    float (*input)[2]; /* [layers] */
    bool *unread;
} content;

static void content_free(content *c)
{
    kd_free(c->tensor);
    kd_free(c->values);
    kd_free(c->name);
    kd_free(c->dim);
    kd_free(c->input);
    kd_free(c->unread);
}

static kd_status content_alloc(const kd_deploy *d, content *c, kd_err *err)
{
    const kd_params *p = d->model->params;
    const size_t layers = d->quant != NULL ? (size_t)d->quant->n : 0;
    c->tensor = kd_calloc((size_t)kd_params_count(p) + 3 * layers + 1, sizeof *c->tensor);
    c->values = kd_calloc((size_t)(kd_params_slab_numel(p) + kd_params_buffer_numel(p)) + 1, sizeof *c->values);
    c->name = kd_calloc(3 * layers + 1, sizeof *c->name);
    c->dim = kd_calloc(3 * layers + 1, sizeof *c->dim);
    c->input = kd_calloc(layers + 1, sizeof *c->input);
    c->unread = layers > 0 ? kd_last_unread(d->program, d->quant, p)
                           : kd_calloc((size_t)kd_params_count(p) + 1, sizeof *c->unread);
    return c->tensor != NULL && c->values != NULL && c->name != NULL && c->dim != NULL && c->input != NULL &&
                   c->unread != NULL
               ? KD_OK
               : KD_FAIL(err, KD_E_OOM, "out of memory");
}

static kd_status add_parameters(const kd_deploy *d, content *c)
{
    kd_params *p = d->model->params;
    float *at = c->values;
    for (int i = 0; i < kd_params_count(p); i++) {
        const kd_param_info *info = kd_params_at(p, i);
        if (c->unread[i]) {
            continue;
        }
        KD_TRY(kd_params_read(p, i, at, info->numel));
        c->tensor[c->n++] = (kd_st_tensor){info->name, KD_ST_F32, (size_t)info->shape.rank, info->shape.dim, at};
        at += info->numel;
    }
    return KD_OK;
}

/* The tensors of layer i: student/stream/int8.h. */
static void add_layer(const kd_quant_layer *l, int32_t i, content *c)
{
    static const char *const WHAT[] = {"weight", "scale", "input"};
    const void *const data[] = {l->weight, l->scale, c->input[i]};
    c->input[i][0] = l->x_scale;
    c->input[i][1] = (float)l->x_zero;
    for (int k = 0; k < 3; k++) {
        char *name = c->name[3 * i + k];
        int64_t *dim = c->dim[3 * i + k];
        (void)snprintf(name, NAME_BYTES, "int8.%d.%s", (int)i, WHAT[k]);
        dim[0] = k < 2 ? l->rows : 2;
        dim[1] = l->cols;
        c->tensor[c->n++] = (kd_st_tensor){name, k == 0 ? KD_ST_I8 : KD_ST_F32, k == 0 ? 2u : 1u, dim, data[k]};
    }
}

kd_status kd_deploy_image(const kd_deploy *d, void **out, size_t *bytes, kd_err *err)
{
    content c = {.n = 0};
    kd_json *meta = NULL;
    kd_status st = KD_OK;
    *out = NULL;
    KD_GO(content_alloc(d, &c, err));
    KD_GO(add_parameters(d, &c));
    for (int32_t i = 0; d->quant != NULL && i < d->quant->n; i++) {
        add_layer(&d->quant->layer[i], i, &c);
    }
    KD_GO(make_metadata(d, &meta, err));
    st = kd_st_image(c.tensor, c.n, meta, out, bytes, err);
done:
    kd_json_free(meta);
    content_free(&c);
    return st;
}

kd_status kd_deploy_write(const kd_deploy *d, const char *path, kd_err *err)
{
    void *image = NULL;
    size_t n = 0;
    KD_TRY(kd_deploy_image(d, &image, &n, err));
    const kd_status st = kd_io_write_file(path, image, n, err);
    kd_free(image);
    return st;
}
