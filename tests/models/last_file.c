#include "tests/models/last_file.h"

#include "formats/weights/safetensors.h"

kd_last_recipe last_file_recipe(const char *student)
{
    kd_last_recipe r;
    bool known;
    KD_ASSERT(kd_last_recipe_default(&r, NULL) == KD_OK);
    KD_ASSERT(kd_last_recipe_set(&r, "student.name", student, &known, NULL) == KD_OK && known);
    KD_ASSERT(kd_last_recipe_set(&r, "skeleton.frames", "16", &known, NULL) == KD_OK && known);
    KD_ASSERT(kd_last_recipe_set(&r, "skeleton.max_bodies", "1", &known, NULL) == KD_OK && known);
    r.classes = 7;
    return r;
}

kd_params *last_file_params(const kd_last_recipe *r, kd_backend *be, uint64_t seed)
{
    kd_params *p = kd_params_create(KD_F32);
    kd_student_cfg c;
    kd_val x[KD_STUDENT_MAX_STREAMS];
    KD_ASSERT(p != NULL && kd_last_recipe_model(r, &c, NULL) == KD_OK);
    kd_graph *g = kd_graph_create(&(kd_graph_opts){.params = p, .dtype = KD_F32, .training = true});
    for (int i = 0; i < c.model->n_streams; i++) {
        x[i] = kd_input(g, c.model->streams[i], KD_F32, kd_shape5(1, 3, c.frames, c.layout->joints, c.bodies));
    }
    (void)kd_student_build(g, &c, x);
    kd_graph_free(g);
    KD_ASSERT(kd_params_alloc(p, be, KD_F32, false, NULL) == KD_OK && kd_params_init(p, seed, NULL) == KD_OK);
    return p;
}

static kd_status add(void *user, const char *key, const char *value)
{
    kd_json_set_str(user, key, value);
    return KD_OK;
}

void *last_file_image(const kd_last_recipe *r, kd_params *p, size_t *bytes)
{
    const int n = kd_params_count(p);
    kd_st_tensor *t = kd_calloc((size_t)n, sizeof *t);
    kd_json *meta = kd_json_object();
    void *image = NULL;
    KD_ASSERT(t != NULL && kd_last_recipe_each(r, add, meta) == KD_OK);
    for (int i = 0; i < n; i++) {
        const kd_param_info *info = kd_params_at(p, i);
        t[i] = (kd_st_tensor){info->name, KD_ST_F32, (size_t)info->shape.rank, info->shape.dim, kd_params_value(p, i)};
    }
    KD_ASSERT(kd_st_image(t, (size_t)n, meta, &image, bytes, NULL) == KD_OK);
    kd_json_free(meta);
    kd_free(t);
    return image;
}
