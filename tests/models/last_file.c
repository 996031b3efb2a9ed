#include "tests/models/last_file.h"

#include "formats/weights/safetensors.h"
#include "kernels/kd_program.h"
#include "kernels/kd_quant.h"
#include "kernels/kd_rng.h"
#include "student/stream/int8.h"

#include <stdio.h>

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

/* Tensors of a file under way. */
typedef struct content {
    kd_st_tensor *t;
    size_t n;
} content;

static void add_params(kd_params *p, const bool *unread, content *c)
{
    for (int i = 0; i < kd_params_count(p); i++) {
        const kd_param_info *info = kd_params_at(p, i);
        if (unread == NULL || !unread[i]) {
            c->t[c->n++] =
                (kd_st_tensor){info->name, KD_ST_F32, (size_t)info->shape.rank, info->shape.dim, kd_params_value(p, i)};
        }
    }
}

static void *write_image(const kd_last_recipe *r, content *c, size_t *bytes)
{
    kd_json *meta = kd_json_object();
    void *image = NULL;
    KD_ASSERT(kd_last_recipe_each(r, add, meta) == KD_OK);
    KD_ASSERT(kd_st_image(c->t, c->n, meta, &image, bytes, NULL) == KD_OK);
    kd_json_free(meta);
    kd_free(c->t);
    return image;
}

void *last_file_image(const kd_last_recipe *r, kd_params *p, size_t *bytes)
{
    content c = {.t = kd_calloc((size_t)kd_params_count(p), sizeof *c.t)};
    KD_ASSERT(c.t != NULL);
    add_params(p, NULL, &c);
    return write_image(r, &c, bytes);
}

static kd_program *program_of(const kd_last_recipe *r, kd_params *p, kd_backend *be)
{
    kd_student_cfg c;
    kd_val x[KD_STUDENT_MAX_STREAMS];
    kd_program *program = NULL;
    KD_ASSERT(kd_last_recipe_model(r, &c, NULL) == KD_OK);
    const kd_shape s = kd_shape5(1, 3, c.frames, c.layout->joints, c.bodies);
    kd_graph *g = kd_graph_create(&(kd_graph_opts){.params = p, .dtype = KD_F32});
    for (int i = 0; i < c.model->n_streams; i++) {
        x[i] = kd_input(g, c.model->streams[i], KD_F32, s);
    }
    (void)kd_student_build(g, &c, x);
    KD_ASSERT(kd_program_compile(g, be, &(kd_compile_opts){.loss = KD_NONE}, &program, NULL) == KD_OK);
    for (int i = 0; i < c.model->n_streams; i++) {
        kd_rng rng = kd_rng_make(8, KD_RNG_TEST, (uint32_t)i, 0);
        float *to = kd_program_tensor(program, c.model->streams[i]).data;
        for (int64_t k = 0; k < kd_shape_numel(&s); k++) {
            to[k] = 0.7f * (float)kd_rng_normal(&rng);
        }
    }
    return program;
}

void *last_file_eight(kd_last_recipe *r, kd_params *p, kd_backend *be, size_t *bytes)
{
    enum { TEXT = 32 };
    kd_program *program = program_of(r, p, be);
    kd_quant q;
    KD_ASSERT(kd_quant_open(program, &q, NULL) == KD_OK && kd_quant_observe(&q, program, 1, NULL) == KD_OK);
    KD_ASSERT(kd_quant_finish(&q, program, NULL) == KD_OK);
    bool *unread = kd_last_unread(program, &q, p);
    content c = {.t = kd_calloc((size_t)(kd_params_count(p) + 3 * q.n), sizeof *c.t)};
    char(*name)[3][TEXT] = kd_calloc((size_t)q.n, sizeof *name);
    int64_t(*dim)[2] = kd_calloc((size_t)q.n, sizeof *dim), two = 2;
    float(*input)[2] = kd_calloc((size_t)q.n, sizeof *input);
    KD_ASSERT(unread != NULL && c.t != NULL && name != NULL && dim != NULL && input != NULL);
    add_params(p, unread, &c);
    for (int32_t i = 0; i < q.n; i++) {
        const kd_quant_layer *l = &q.layer[i];
        static const char *const what[] = {"weight", "scale", "input"};
        for (int k = 0; k < 3; k++) {
            (void)snprintf(name[i][k], TEXT, "int8.%d.%s", (int)i, what[k]);
        }
        dim[i][0] = l->rows;
        dim[i][1] = l->cols;
        input[i][0] = l->x_scale;
        input[i][1] = (float)l->x_zero;
        c.t[c.n++] = (kd_st_tensor){name[i][0], KD_ST_I8, 2, dim[i], l->weight};
        c.t[c.n++] = (kd_st_tensor){name[i][1], KD_ST_F32, 1, dim[i], l->scale};
        c.t[c.n++] = (kd_st_tensor){name[i][2], KD_ST_F32, 1, &two, input[i]};
    }
    r->int8 = q.n;
    void *image = write_image(r, &c, bytes);
    kd_free(unread);
    kd_free(name);
    kd_free(dim);
    kd_free(input);
    kd_quant_free(&q);
    kd_program_free(program);
    return image;
}
