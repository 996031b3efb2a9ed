/* A model under training or evaluation: see model.h. */
#include "distill/model/model.h"

#include "distill/model/task.h"
#include "kernels/kd_layers.h"

#include <stdio.h>

/* ---- opening --------------------------------------------------------------------------------- */

kd_status kd_model_open(const kd_task *task, const kd_config *cfg, int classes, kd_backend *be, kd_model *out,
                        kd_err *err)
{
    *out = (kd_model){.task = task,
                      .classes = classes,
                      .target = kd_shape1(classes),
                      .record = classes,
                      .be = be,
                      .min_match = 1.0,
                      .dtype = cfg->train.dtype,
                      .params = kd_params_create(KD_F32)};
    if (out->params == NULL) {
        return KD_FAIL(err, KD_E_OOM, "model: out of memory");
    }
    const kd_status st = task->open(cfg, out, err);
    if (st != KD_OK) {
        kd_model_close(out);
    }
    return st;
}

void kd_model_close(kd_model *m)
{
    if (m != NULL) {
        kd_params_free(m->params);
        kd_free(m->net);
        *m = (kd_model){.task = NULL};
    }
}

void kd_model_keep(kd_model *m, int64_t samples)
{
    KD_ASSERT(samples == 0 || m->task->resident != NULL);
    m->kept = samples;
}

void kd_figures_free(kd_figures *f)
{
    if (f->detail_free != NULL) {
        f->detail_free(f->detail);
    }
    *f = (kd_figures){.n = 0};
}

/* ---- graphs ---------------------------------------------------------------------------------- */

static kd_graph *graph(kd_model *m, bool training, kd_err *err)
{
    const kd_graph_opts o = {.params = m->params, .dtype = m->dtype, .training = training};
    kd_graph *g = kd_graph_create(&o);
    if (g == NULL) {
        (void)KD_FAIL(err, KD_E_OOM, "model: out of memory");
    }
    return g;
}

static kd_val loss_of(kd_model *m, kd_graph *g, const kd_built *b, const kd_loss *loss, int batch)
{
    const kd_loss_batch in = {.batch = batch,
                              .classes = m->classes,
                              .target = m->target,
                              .logits = b->logits,
                              .features = b->features,
                              .latent = b->latent,
                              .sample = b->sample,
                              .kept = m->kept};
    return kd_loss_build(g, loss, &in);
}

kd_status kd_model_declare(kd_model *m, const kd_loss *loss, kd_err *err)
{
    kd_graph *g = graph(m, true, err);
    if (g == NULL) {
        return KD_E_OOM;
    }
    const kd_build one = {.batch = 1, .training = loss != NULL};
    const kd_built b = m->task->build(m, g, &one); /* declares every parameter; the graph itself is thrown away */
    if (loss != NULL) {
        (void)loss_of(m, g, &b, loss, 1);
    }
    const kd_err *bad = kd_graph_error(g);
    const kd_status st = bad != NULL ? KD_FAIL(err, bad->code, "%s", bad->msg) : KD_OK;
    kd_graph_free(g);
    KD_TRY(st);
    return kd_params_alloc(m->params, m->be, m->dtype, loss != NULL, err);
}

kd_status kd_model_init(kd_model *m, const kd_loss *loss, uint64_t seed, kd_err *err)
{
    KD_TRY(kd_model_declare(m, loss, err));
    return kd_params_init(m->params, seed, err);
}

static kd_status compile_train(kd_model *m, const kd_loss *loss, int batch, bool plan_only, kd_program **out,
                               kd_err *err)
{
    kd_graph *g = graph(m, true, err);
    *out = NULL;
    if (g == NULL) {
        return KD_E_OOM;
    }
    const kd_build how = {.batch = batch, .training = true, .mixed = loss->mixed, .kept = m->kept > 0};
    const kd_built b = m->task->build(m, g, &how);
    const kd_compile_opts co = {
        .loss = loss_of(m, g, &b, loss, batch), .recompute = m->recompute, .check = m->check, .plan_only = plan_only};
    return kd_program_compile(g, m->be, &co, out, err);
}

/* o: how, besides what the model asks for. */
static kd_status compile_eval(kd_model *m, int batch, bool augmented, bool mixed, kd_compile_opts o, kd_program **out,
                              kd_err *err)
{
    kd_graph *g = graph(m, false, err);
    *out = NULL;
    if (g == NULL) {
        return KD_E_OOM;
    }
    const kd_build how = {.batch = batch, .augmented = augmented, .mixed = mixed};
    (void)m->task->build(m, g, &how);
    o.check = m->check;
    return kd_program_compile(g, m->be, &o, out, err);
}

kd_status kd_model_train_program(kd_model *m, const kd_loss *loss, int batch, kd_program **out, kd_err *err)
{
    return compile_train(m, loss, batch, false, out, err);
}

kd_status kd_model_eval_program(kd_model *m, int batch, kd_program **out, kd_err *err)
{
    return compile_eval(m, batch, false, false, (kd_compile_opts){.loss = KD_NONE}, out, err);
}

kd_status kd_model_plain_program(kd_model *m, int batch, kd_program **out, kd_err *err)
{
    return compile_eval(m, batch, false, false, (kd_compile_opts){.no_fuse = true}, out, err);
}

kd_status kd_model_replay_program(kd_model *m, bool mixed, int batch, kd_program **out, kd_err *err)
{
    return compile_eval(m, batch, true, mixed, (kd_compile_opts){.loss = KD_NONE}, out, err);
}

/* ---- memory ---------------------------------------------------------------------------------- */

kd_memory kd_model_memory(const kd_model *m, int optimiser_slabs, size_t activations)
{
    const kd_params *p = m->params;
    const size_t item = kd_dtype_size(kd_params_dtype(p));
    const size_t slab = (size_t)kd_params_slab_numel(p) * item, buffers = (size_t)kd_params_buffer_numel(p) * item;
    const bool shadow = kd_params_shadow_dtype(p) != kd_params_dtype(p);
    return (kd_memory){.parameters =
                           slab + buffers + (shadow ? slab / item * kd_dtype_size(kd_params_shadow_dtype(p)) : 0),
                       .gradients = optimiser_slabs > 0 ? slab : 0,
                       .moments = (size_t)optimiser_slabs * slab,
                       .activations = activations};
}

size_t kd_memory_total(const kd_memory *m)
{
    return m->parameters + m->gradients + m->moments + m->activations + m->data;
}

static size_t put_bytes(char *out, size_t size, const char *before, size_t bytes)
{
    const double mib = (double)bytes / 1048576.0;
    const int n = mib >= 1024.0 ? snprintf(out, size, "%s%.2f GiB", before, mib / 1024.0)
                                : snprintf(out, size, mib >= 10.0 ? "%s%.0f MiB" : "%s%.2f MiB", before, mib);
    return n > 0 ? KD_MIN((size_t)n, size - 1) : 0;
}

void kd_memory_text(const kd_memory *m, char *out, size_t size)
{
    const struct {
        const char *name;
        size_t bytes;
    } part[] = {{", gradients ", m->gradients},
                {", moments ", m->moments},
                {", activations ", m->activations},
                {", data ", m->data}};
    size_t at = put_bytes(out, size, "", kd_memory_total(m));
    at += put_bytes(out + at, size - at, " (parameters ", m->parameters);
    for (size_t i = 0; i < KD_COUNTOF(part); i++) {
        at += part[i].bytes > 0 ? put_bytes(out + at, size - at, part[i].name, part[i].bytes) : 0;
    }
    (void)snprintf(out + at, size - at, ")");
}

enum { WORKSPACE = 64 << 20 }; /* kernels' scratch, libraries, staging of inputs beyond their own size */

/* Activations and inputs of a training step at this batch, in bytes. */
static kd_status training_bytes(kd_model *m, const kd_memory_need *n, int batch, size_t *bytes, kd_err *err)
{
    kd_program *p = NULL;
    size_t input = 0;
    KD_TRY(compile_train(m, n->loss, batch, true, &p, err));
    for (int i = 0; i < m->n_inputs && m->kept == 0; i++) {
        input += kd_spec_bytes(&m->train_item[i]) * (size_t)batch;
    }
    *bytes = kd_program_arena_bytes(p) + 2 * input; /* two staging blocks an input */
    kd_program_free(p);
    return KD_OK;
}

kd_status kd_model_check_memory(kd_model *m, const kd_memory_need *n, kd_err *err)
{
    const double gib = 1073741824.0;
    size_t have = 0, total = 0, step = 0, at = 0;
    kd_program *eval = NULL;
    char device[300];
    if (m->be->ops->memory == NULL) {
        return KD_OK;
    }
    KD_TRY(m->be->ops->memory(m->be, &have, &total));
    KD_TRY(compile_eval(m, n->eval_batch, false, false, (kd_compile_opts){.plan_only = true}, &eval, err));
    const size_t slabs = kd_model_memory(m, n->optimiser_slabs, 0).moments; /* parameters and gradients are there */
    const size_t fixed = slabs + kd_program_arena_bytes(eval) + WORKSPACE;
    kd_program_free(eval);
    KD_TRY(training_bytes(m, n, n->batch, &step, err));
    if (fixed + step <= have) {
        return KD_OK;
    }
    int fits = 0, too_large = n->batch;
    while (too_large - fits > 1) {
        const int mid = fits + (too_large - fits) / 2;
        KD_TRY(training_bytes(m, n, mid, &at, err));
        *(fixed + at <= have ? &fits : &too_large) = mid;
    }
    m->be->ops->describe(m->be, device, sizeof device);
    char advice[120];
    if (fits > 0) {
        (void)snprintf(advice, sizeof advice, "the largest batch that fits is %d (optim.accumulation makes up for it)",
                       fits);
    } else {
        (void)snprintf(advice, sizeof advice, "not even a batch of 1 fits");
    }
    return KD_FAIL(
        err, KD_E_OOM,
        "training %s at batch %d needs %.2f GiB more (%s %.2f, optimiser %.2f, evaluation at batch %d and workspace "
        "%.2f); %s has %.2f GiB free of %.2f: %s",
        m->name, n->batch, (double)(fixed + step) / gib, m->kept > 0 ? "activations and resident data" : "activations",
        (double)step / gib, (double)slabs / gib, n->eval_batch, (double)(fixed - slabs) / gib, device,
        (double)have / gib, (double)total / gib, advice);
}
