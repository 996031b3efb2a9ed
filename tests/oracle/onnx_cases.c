/* onnx_cases DIR: every student with weights drawn anew, exported to DIR/NAME.onnx, and what the toolkit makes of
 * random sequences: DIR/NAME.cases with "1.joint", "1.logits", "1.features", ... at batches of 1 and 3.  Short ones in
 * eight bits too: DIR/NAME.int8.onnx, "32.joint", "32.logits", "32.int8.logits", and at a batch of 2 what each layer
 * reads and gives: "layer.0.x", "layer.0.y", and "layer.0" = its kd_act_kind and the largest step of its sums.
 *
 * onnx_cases RUN FILE.cases: what the student of a run is asked by `distill eval`, all samples of the validation half
 * in the order of the report: "joint", ... */
#include "distill/eval/int8_program.h"
#include "distill/export/export_internal.h"
#include "distill/task/tasks.h"
#include "formats/weights/safetensors.h"
#include "kernels/kd_ops.h"
#include "kernels/kd_rng.h"
#include "kernels/kd_walk.h"
#include "student/model/student.h"

#include <stdio.h>
#include <stdlib.h>

enum { CLASSES = 7, MOST = 4096, MANY = 32, FEW = 2, SHORT = 16 };

static const int BATCH[2] = {1, 3};

static void need(kd_status st, const kd_err *err)
{
    if (st != KD_OK) {
        (void)fprintf(stderr, "onnx_cases: %s\n", err->msg);
        exit(1);
    }
}

/* Tensors of a file under way. */
typedef struct tensors {
    kd_st_tensor t[MOST];
    int64_t dim[MOST][KD_MAX_RANK];
    char name[MOST][160];
    size_t n;
} tensors;

static float *put(tensors *f, const char *prefix, const char *name, const kd_shape *s)
{
    float *v = kd_calloc((size_t)KD_MAX(kd_shape_numel(s), (int64_t)1), sizeof *v);
    if (v == NULL || f->n == MOST) {
        exit(1);
    }
    (void)snprintf(f->name[f->n], sizeof f->name[0], "%s%s", prefix, name);
    for (int i = 0; i < s->rank; i++) {
        f->dim[f->n][i] = s->dim[i];
    }
    f->t[f->n] = (kd_st_tensor){
        .name = f->name[f->n], .dtype = KD_ST_F32, .rank = (size_t)s->rank, .dim = f->dim[f->n], .data = v};
    f->n++;
    return v;
}

static void clear(tensors *f)
{
    for (size_t i = 0; i < f->n; i++) {
        kd_free((void *)(uintptr_t)f->t[i].data);
    }
    f->n = 0;
}

static void save(tensors *f, const char *path)
{
    kd_err err = {0};
    need(kd_st_write(path, f->t, f->n, NULL, &err), &err);
    clear(f);
}

/* Every parameter away from its start, so that no gate is shut and no scale is one.  Queries and frequency gates of
 * LAST-E v2 become smaller: as drawn, a sharp softmax and squares of spectra let roundings grow from block to block
 * until two f32 runs of the toolkit itself differ by 1e-4. */
static void draw(kd_model *m, uint64_t seed)
{
    kd_err err = {0};
    kd_rng r = kd_rng_make(seed, KD_RNG_INIT, 1, 0);
    need(kd_model_init(m, NULL, seed, &err), &err);
    for (int i = 0; i < kd_params_count(m->params); i++) {
        const kd_param_info *p = kd_params_at(m->params, i);
        const bool gate = strstr(p->name, "gate") != NULL || strstr(p->name, "alpha") != NULL;
        const bool steep = strstr(p->name, "proj_q") != NULL || strstr(p->name, "freq_gate.mlp") != NULL;
        float *v = kd_calloc((size_t)KD_MAX(p->numel, (int64_t)1), sizeof *v);
        need(v != NULL ? kd_params_read(m->params, i, v, p->numel) : KD_E_OOM, &err);
        for (int64_t k = 0; k < p->numel; k++) {
            v[k] += (gate ? 0.3f : 0.01f) * (float)kd_rng_normal(&r);
            v[k] *= steep ? 0.05f : 1.0f;
        }
        need(kd_params_write(m->params, i, v, p->numel), &err);
        kd_free(v);
    }
}

/* Statistics of what a batch norm reads into its running ones, so that signals neither fade nor grow on their way. */
static kd_status settle_node(void *user, int32_t k, const kd_call *c)
{
    if (kd_walk_node_at(user, k).op != KD_OP_BATCHNORM_EVAL) {
        return KD_OK;
    }
    const kd_shape *s = &c->in[0].shape;
    const int64_t n = s->dim[0], channels = s->dim[1], cells = kd_shape_span(s, 2, s->rank);
    const float *x = c->in[0].data;
    float *mean = c->in[3].data, *var = c->in[4].data;
    for (int64_t ch = 0; ch < channels; ch++) {
        double sum = 0.0, squares = 0.0;
        for (int64_t i = 0; i < n * cells; i++) {
            const double v = (double)x[(i / cells * channels + ch) * cells + i % cells];
            sum += v;
            squares += v * v;
        }
        mean[ch] = (float)(sum / (double)(n * cells));
        var[ch] = (float)(squares / (double)(n * cells)) - mean[ch] * mean[ch] + 0.1f;
    }
    return KD_OK;
}

/* Coordinates as normalised sequences have them; the last sample has no second body. */
static void sequence(float *x, const kd_shape *s, int number)
{
    kd_rng r = kd_rng_make(7, KD_RNG_SAMPLE, (uint32_t)number, 0);
    const int64_t bodies = s->dim[4], n = kd_shape_numel(s);
    for (int64_t i = 0; i < n; i++) {
        const bool empty = bodies > 1 && i % bodies == 1 && i >= n / s->dim[0] * (s->dim[0] - 1);
        x[i] = empty ? 0.0f : 0.7f * (float)kd_rng_normal(&r);
    }
}

/* Random sequences into the program, and into a file that keeps them (NULL: none). */
static void feed(kd_model *m, kd_program *p, int batch, const char *prefix, tensors *f)
{
    kd_err err = {0};
    for (int i = 0; i < m->n_inputs; i++) {
        const kd_shape *s = &m->item[i].shape;
        const kd_shape whole = kd_shape5(batch, s->dim[0], s->dim[1], s->dim[2], s->dim[3]);
        float *x = put(f, prefix, m->inputs[i], &whole);
        sequence(x, &whole, 10 * batch + i);
        need(kd_program_write(p, m->inputs[i], x, (size_t)kd_shape_numel(&whole) * sizeof *x), &err);
    }
}

static void settle(kd_model *m, tensors *f)
{
    enum { SAMPLES = 8 };
    kd_err err = {0};
    kd_program *p = NULL;
    need(kd_model_plain_program(m, SAMPLES, &p, &err), &err);
    feed(m, p, SAMPLES, "", f);
    need(kd_walk_run(p, settle_node, p), &err);
    need(kd_params_changed(m->params), &err);
    kd_program_free(p);
    clear(f);
}

static void save_weights(kd_model *m, const char *path, tensors *f)
{
    kd_err err = {0};
    for (int i = 0; i < kd_params_count(m->params); i++) {
        const kd_param_info *p = kd_params_at(m->params, i);
        need(kd_params_read(m->params, i, put(f, "", p->name, &p->shape), p->numel), &err);
    }
    save(f, path);
}

/* What the program gives, as "<prefix>logits", "<prefix>features". */
static void read_outputs(kd_model *m, kd_program *p, int batch, const char *prefix, tensors *f)
{
    kd_err err = {0};
    need(kd_program_run(p, NULL), &err);
    for (int i = 0; i < m->n_outputs; i++) {
        const kd_shape s = kd_shape2(batch, m->output[i].width);
        need(kd_program_read_f32(p, m->output[i].name, put(f, prefix, m->output[i].name, &s), kd_shape_numel(&s)),
             &err);
    }
}

static void answers(kd_model *m, int batch, tensors *f)
{
    char prefix[16];
    kd_err err = {0};
    kd_program *p = NULL;
    (void)snprintf(prefix, sizeof prefix, "%d.", batch);
    need(kd_model_eval_program(m, batch, &p, &err), &err);
    feed(m, p, batch, prefix, f);
    read_outputs(m, p, batch, prefix, f);
    kd_program_free(p);
}

/* A run whose layers are written down. */
typedef struct layers {
    const kd_quant *q;
    const kd_call *call; /* the layer that ran last, whose y is there now; NULL: it has been written */
    int32_t next;
    tensors *f;
} layers;

static void put_tensor(tensors *f, int32_t layer, const char *what, const kd_tensor *t)
{
    char name[32];
    (void)snprintf(name, sizeof name, "layer.%d%s", (int)layer, what);
    memcpy(put(f, "", name, &t->shape), t->data, (size_t)kd_shape_numel(&t->shape) * sizeof(float));
}

static kd_status see_layer(void *user, int32_t k, const kd_call *c)
{
    layers *l = user;
    if (l->call != NULL) {
        put_tensor(l->f, l->next - 1, ".y", &l->call->out[0]);
        l->call = NULL;
    }
    if (l->next < l->q->n && l->q->layer[l->next].node == k) {
        const kd_quant_layer *layer = &l->q->layer[l->next];
        const bool conv = layer->op == KD_OP_CONV2D;
        float facts[2] = {
            (float)(conv ? ((const kd_conv2d_attr *)c->attr)->act : ((const kd_linear_attr *)c->attr)->act)};
        for (int64_t r = 0; r < layer->rows; r++) {
            facts[1] = KD_MAX(facts[1], layer->x_scale * layer->scale[r]);
        }
        put_tensor(l->f, l->next, "", &(kd_tensor){facts, KD_F32, kd_shape1(2)});
        put_tensor(l->f, l->next++, ".x", &c->in[0]);
        l->call = c;
    }
    return KD_OK;
}

static void write_layers(kd_model *m, const kd_quant *q, tensors *f)
{
    layers l = {.q = q, .f = f};
    kd_err err = {0};
    kd_program *p = NULL;
    kd_int8_program eight;
    need(kd_model_eval_program(m, FEW, &p, &err), &err);
    need(kd_int8_program_open(p, q, &eight, &err), &err);
    feed(m, p, FEW, "2.", f);
    need(kd_walk_run(p, see_layer, &l), &err);
    if (l.call != NULL) {
        put_tensor(f, l.next - 1, ".y", &l.call->out[0]);
    }
    kd_program_free(p);
    kd_int8_program_close(&eight);
}

/* The model in eight bits, calibrated on the sequences that are asked about, and its answers. */
static void eight_bits(kd_model *m, const char *onnx, tensors *f)
{
    kd_err err = {0};
    kd_program *p = NULL;
    kd_onnx *file = NULL;
    kd_quant q;
    kd_int8_program eight;
    size_t bytes = 0;
    need(kd_model_eval_program(m, MANY, &p, &err), &err);
    feed(m, p, MANY, "32.", f);
    read_outputs(m, p, MANY, "32.", f);
    need(kd_quant_open(p, &q, &err), &err);
    need(kd_quant_observe(&q, p, MANY, &err), &err);
    need(kd_quant_finish(&q, p, &err), &err);
    need(kdi_onnx_of(m, &q, &file, &err), &err);
    need(kd_onnx_write(file, onnx, &bytes, &err), &err);
    need(kd_int8_program_open(p, &q, &eight, &err), &err);
    read_outputs(m, p, MANY, "32.int8.", f);
    write_layers(m, &q, f);
    kd_onnx_free(file);
    kd_program_free(p);
    kd_int8_program_close(&eight);
    kd_quant_free(&q);
}

/* The student `name`, sequences of `frames` frames and `bodies` bodies. */
static void one(const char *dir, const char *name, int frames, int bodies, kd_backend *be)
{
    static tensors f;
    kd_err err = {0};
    kd_model m;
    kd_export_result r;
    kd_config *cfg = kd_calloc(1, sizeof *cfg);
    char text[4][80], weights[512], onnx[512], eight[512], cases[512];
    const char *const set[4] = {"kind=student", text[0], text[1], text[2]};
    (void)snprintf(text[0], sizeof text[0], "student.name=%s", name);
    (void)snprintf(text[1], sizeof text[1], "skeleton.frames=%d", frames);
    (void)snprintf(text[2], sizeof text[2], "skeleton.max_bodies=%d", bodies);
    (void)snprintf(weights, sizeof weights, "%s/%s-%d-%d.safetensors", dir, name, frames, bodies);
    (void)snprintf(onnx, sizeof onnx, "%s/%s-%d-%d.onnx", dir, name, frames, bodies);
    (void)snprintf(eight, sizeof eight, "%s/%s-%d-%d.int8.onnx", dir, name, frames, bodies);
    (void)snprintf(cases, sizeof cases, "%s/%s-%d-%d.cases", dir, name, frames, bodies);
    need(cfg != NULL ? kd_config_load(NULL, 0, set, 4, cfg, &err) : KD_E_OOM, &err);
    need(kd_model_open(kd_task_of(cfg), cfg, CLASSES, be, &m, &err), &err);
    draw(&m, (uint64_t)(frames + bodies));
    settle(&m, &f);
    save_weights(&m, weights, &f);
    for (size_t i = 0; i < KD_COUNTOF(BATCH); i++) {
        answers(&m, BATCH[i], &f);
    }
    if (frames == SHORT) {
        eight_bits(&m, eight, &f);
    }
    save(&f, cases);
    const kd_export_opts o = {.task = kd_task_of(cfg), .cfg = cfg, .weights = weights, .out = onnx, .be = be};
    need(kd_export(&o, &r, &err), &err);
    kd_model_close(&m);
    kd_free(cfg);
}

/* ---- what a trained student is asked: the validation half of its data -------------------------------------------- */

static void write_half(const kd_config *cfg, kd_model *m, tensors *f)
{
    kd_err err = {0};
    kd_dataset data = {0};
    kd_source source;
    kd_loader *loader = NULL;
    const kd_batch *b = NULL;
    float *input[KD_MODEL_INPUTS];
    int64_t done = 0;
    need(kd_dataset_open(&cfg->data, m->task->need, 1u << KD_HALF_VAL, &data, &err), &err);
    need(m->task->source(cfg, m, &data.half[KD_HALF_VAL], KD_PASS_TEST, false, &source, &err), &err);
    need(kd_loader_open(&(kd_loader_opts){.batch_size = MANY}, &source.producer, &loader, &err), &err);
    for (int i = 0; i < m->n_inputs; i++) {
        const kd_shape *s = &m->item[i].shape;
        const kd_shape whole = kd_shape5((int64_t)source.producer.samples, s->dim[0], s->dim[1], s->dim[2], s->dim[3]);
        input[i] = put(f, "", m->inputs[i], &whole);
    }
    need(kd_loader_seek(loader, 0, 0, &err), &err);
    for (need(kd_loader_next(loader, &b, &err), &err); b != NULL; need(kd_loader_next(loader, &b, &err), &err)) {
        for (int t = 0; t < source.producer.n_tensors; t++) {
            const size_t bytes = source.producer.tensor[t].bytes;
            memcpy((char *)input[t] + (size_t)done * bytes, b->tensor[t], bytes * (size_t)b->valid_rows);
        }
        done += b->valid_rows;
    }
    kd_loader_close(loader);
    source.close(source.ctx);
    kd_dataset_free(&data);
}

static void asked(const char *run, const char *cases, kd_backend *be)
{
    static tensors f;
    kd_err err = {0};
    kdi_subject s;
    kd_config *cfg = kd_calloc(1, sizeof *cfg);
    need(cfg != NULL ? kd_config_of_weights(NULL, 0, run, NULL, 0, cfg, &err) : KD_E_OOM, &err);
    const kd_export_opts o = {.task = kd_task_of(cfg), .cfg = cfg, .weights = run, .be = be};
    need(kdi_subject_open(&o, &s, &err), &err);
    write_half(cfg, &s.model, &f);
    save(&f, cases);
    kdi_subject_close(&s);
    kd_free(cfg);
}

int main(int argc, char **argv)
{
    kd_err err = {0};
    kd_backend *be = NULL;
    if (argc != 2 && argc != 3) {
        (void)fprintf(stderr, "usage: onnx_cases DIR | onnx_cases RUN FILE.cases\n");
        return 2;
    }
    need(kd_backend_cpu_open(1, &be, &err), &err);
    if (argc == 3) {
        asked(argv[1], argv[2], be);
    }
    for (int i = 0; i < kd_student_count() && argc == 2; i++) {
        one(argv[1], kd_student_name(i), 64, 2, be);
        one(argv[1], kd_student_name(i), SHORT, 1, be);
    }
    kd_backend_close(be);
    return 0;
}
