/* A loss by itself: see loss_bench.h. */
#include "tests/train/loss_bench.h"

kd_status loss_bench_open(loss_bench *b, const kd_loss *l, kd_err *err)
{
    b->params = kd_params_create(b->t);
    kd_graph *g = kd_graph_create(&(kd_graph_opts){.params = b->params, .dtype = b->t, .training = true});
    const kd_val wanted[2] = {kd_input(g, "z", b->t, kd_shape2(b->rows, b->classes)),
                              kd_input(g, "s", b->t, kd_shape2(b->rows, b->width))};
    const kd_loss_batch batch = {.batch = b->rows,
                                 .classes = b->classes,
                                 .target = kd_shape1(b->classes),
                                 .logits = wanted[0],
                                 .features = wanted[1],
                                 .latent = wanted[1]};
    const kd_val loss = kd_loss_build(g, l, &batch);
    bool features = false;
    for (int s = 0; s < KD_MAX(l->stores, 1); s++) {
        features = features || kd_loss_reads(l, s, KD_LOSS_OF_FEATURES);
    }
    const bool logits = kd_loss_reads(l, 0, KD_READS_LABELS | KD_READS_LOGITS | KD_READS_AVERAGE | KD_READS_PEERS);
    const kd_compile_opts opts = {
        .loss = loss, .grad_inputs = wanted + (logits ? 0 : 1), .n_grad_inputs = logits && features ? 2 : 1};
    KD_TRY(kd_params_alloc(b->params, b->be, b->t, true, err));
    return kd_program_compile(g, b->be, &opts, &b->p, err);
}

void loss_bench_close(loss_bench *b)
{
    kd_program_free(b->p);
    kd_params_free(b->params);
}

void loss_bench_put(void *dst, kd_dtype t, const double *src, int n)
{
    for (int i = 0; dst != NULL && i < n; i++) {
        if (t == KD_F64) {
            ((double *)dst)[i] = src[i];
        } else {
            ((float *)dst)[i] = (float)src[i];
        }
    }
}

double loss_bench_at(const void *p, kd_dtype t, int i)
{
    return t == KD_F64 ? ((const double *)p)[i] : (double)((const float *)p)[i];
}

void *loss_bench_tensor(const loss_bench *b, const char *name)
{
    return kd_program_tensor(b->p, name).data;
}

static void feed(const loss_bench *b, const char *name, int store, const double *src)
{
    char text[KD_TERM_NAME];
    kd_loss_name(name, store, text);
    const kd_tensor to = kd_program_tensor(b->p, text);
    KD_ASSERT(to.data == NULL || src != NULL);
    loss_bench_put(to.data, b->t, src, (int)kd_shape_numel(&to.shape));
}

/* The bias of a projection: its own, or zeros. */
static void feed_params(const loss_bench *b, const loss_data *d)
{
    const double zero = 0.0;
    for (int i = 0; i < kd_params_count(b->params); i++) {
        const kd_param_info *info = kd_params_at(b->params, i);
        const double *src = info->shape.rank == 2 ? d->projector : d->bias;
        for (int k = 0; k < (int)info->numel; k++) {
            const size_t bytes = kd_dtype_size(b->t);
            loss_bench_put((char *)kd_params_value(b->params, i) + (size_t)k * bytes, b->t,
                           src != NULL ? src + k : &zero, 1);
        }
    }
}

kd_status loss_bench_run(const loss_bench *b, const kd_loss *l, const loss_data *d)
{
    feed(b, "z", 0, d->z);
    feed(b, "s", 0, d->s);
    feed(b, "target", 0, d->target);
    feed(b, "valid", 0, d->labelled);
    feed(b, "averaged_valid", 0, d->taught);
    feed(b, "peer_valid", 0, d->taught);
    feed(b, "class_embed", 0, d->embed);
    feed(b, "embed_target", 0, d->embed_target);
    feed(b, "embed_valid", 0, d->embedded);
    for (int s = 0; s < l->stores; s++) {
        feed(b, "teacher_valid", s, d->taught);
        feed(b, "teacher_feature", s, d->feature);
    }
    for (int i = 0; i < l->n; i++) {
        feed(b, l->term[i].input, 0, d->teacher);
    }
    feed_params(b, d);
    KD_TRY(kd_params_changed(b->params));
    KD_TRY(kd_params_zero_grad(b->params));
    return kd_program_run(b->p, NULL);
}
