/* match_loss: kernels/op/match.h on one thread. */
#include "kernels/cpu/chunk.h"

#define KD_MATCH_REAL       real
#define KD_MATCH_FN         static inline
#define KD_MATCH_EACH(i, n) for (int64_t i = 0; (i) < (n); (i)++)
#define KD_MATCH_SYNC()
#include "kernels/op/match.h"

static size_t match_loss_scratch(const kd_call *c)
{
    const kd_match_loss_attr *at = c->attr;
    return kd_match_work(at->kind, c->in[0].shape.dim[0], c->in[0].shape.dim[1], c->in[1].shape.dim[0]) *
           sizeof(double);
}

static kd_status match_loss_run(const kd_call *c)
{
    const kd_match m = {.at = *(const kd_match_loss_attr *)c->attr,
                        .B = c->in[0].shape.dim[0],
                        .K = c->in[0].shape.dim[1],
                        .P = c->in[1].shape.dim[1],
                        .C = c->in[1].shape.dim[0],
                        .a = c->in[0].data,
                        .b = c->in[1].data,
                        .target = c->n_in > 2 ? c->in[2].data : NULL,
                        .valid = c->n_in > 3 ? c->in[3].data : NULL,
                        .grad = c->out[1].data,
                        .work = c->scratch};
    KD_ASSERT(m.at.kind != KD_MATCH_CLASS_EMBED || m.target != NULL);
    const real loss = (real)kd_match_run(&m);
    if (c->out[0].data != NULL) {
        put_any(c, 0, 0, loss);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(match_loss) = {.run = match_loss_run, .scratch = match_loss_scratch};

static kd_status match_loss_bwd_run(const kd_call *c)
{
    const real d = *(const real *)c->in[0].data, *grad = c->in[1].data;
    const int64_t n = kd_shape_numel(&c->in[1].shape);
    for (int64_t i = 0; i < n; i++) {
        put_any(c, 0, i, d * grad[i]);
    }
    return KD_OK;
}

const kd_kernel_def KD_K(match_loss_bwd) = {.run = match_loss_bwd_run};
