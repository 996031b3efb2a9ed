/* Parity of training: some AdamW steps of a small teacher with mixup, label smoothing, layer-wise
 * learning rates, clipping, accumulation and EMA, made of the same parts as the training loop. */
#include "kernels/kd_optim.h"
#include "kernels/kd_schedule.h"
#include "tools/parity/parity_net.h"

#include <math.h>
#include <stdio.h>

#define STEPS_MAX    64
#define MICRO_MAX    16
#define SCHEDULE_MAX 100000 /* steps of a schedule of which the history shows the beginning */

typedef struct traj {
    kd_parity_net net;
    kd_optim *optim;
    double weight_decay, layer_decay, clip, ema, eps, betas[2], smoothing;
    int64_t accum, steps;
    double lr[STEPS_MAX], peak;
    float *x, *target;
} traj;

static kd_status read_traj(const kd_json *m, traj *t, kd_err *err)
{
    const kd_json *history = NULL;
    KD_TRY(kd_json_get_range(m, "accum", 1, MICRO_MAX, &t->accum, err));
    KD_TRY(kd_json_get_f64(m, "layer_decay", &t->layer_decay, err));
    KD_TRY(kd_json_get_f64(m, "weight_decay", &t->weight_decay, err));
    KD_TRY(kd_json_get_f64(m, "eps", &t->eps, err));
    KD_TRY(kd_json_get_f64s(m, "betas", t->betas, 2, err));
    KD_TRY(kd_json_get_f64(m, "clip", &t->clip, err)); /* null: NaN */
    KD_TRY(kd_json_get_f64(m, "ema_decay", &t->ema, err));
    KD_TRY(kd_json_opt_f64(m, "smoothing", 0.1, &t->smoothing, err)); /* by the fixtures' README */
    KD_TRY(kd_json_get_array(m, "history", &history, err));
    t->clip = isnan(t->clip) ? 0.0 : t->clip;
    t->ema = isnan(t->ema) ? 0.0 : t->ema;
    t->steps = (int64_t)kd_json_count(history);
    if (t->steps < 1 || t->steps > STEPS_MAX) {
        return KD_FAIL(err, KD_E_DATA, "history: expected 1 to %d steps, found %lld", STEPS_MAX, (long long)t->steps);
    }
    for (int64_t s = 0; s < t->steps; s++) {
        KD_TRY(kd_json_get_f64(kd_json_at(history, (size_t)s), "lr", &t->lr[s], err));
        t->peak = fmax(t->peak, t->lr[s]);
    }
    return KD_OK;
}

/* ---- the schedule ---------------------------------------------------------------------------- */

static double schedule_error(const traj *t, const kd_schedule *s)
{
    double worst = 0.0;
    for (int64_t i = 0; i < t->steps; i++) {
        const double e = fabs(kd_schedule_lr(s, i) - t->lr[i]);
        worst = e <= worst ? worst : e;
    }
    return worst;
}

/* The schedule that the manifest states, by the names of the reference's cosine_scheduler. */
static kd_status stated_schedule(const kd_json *args, kd_schedule *s, kd_err *err)
{
    int64_t warmup_epochs = 0, warmup_steps = -1;
    KD_TRY(kd_json_get_f64(args, "base_value", &s->lr, err));
    KD_TRY(kd_json_get_f64(args, "final_value", &s->min_lr, err));
    KD_TRY(kd_json_get_range(args, "epochs", 1, SCHEDULE_MAX, &s->epochs, err));
    KD_TRY(kd_json_get_range(args, "niter_per_ep", 1, SCHEDULE_MAX, &s->steps_per_epoch, err));
    KD_TRY(kd_json_opt_i64(args, "warmup_epochs", 0, &warmup_epochs, err));
    KD_TRY(kd_json_opt_i64(args, "warmup_steps", -1, &warmup_steps, err));
    KD_TRY(kd_json_opt_f64(args, "start_warmup_value", 0.0, &s->warmup_lr, err));
    s->warmup_steps = warmup_steps > 0 ? warmup_steps : warmup_epochs * s->steps_per_epoch;
    return KD_OK;
}

/* The schedule behind the rates of a history that states none: the warm-up ends at the first rate that is the largest,
 * and is followed by half a cosine whose length and end make the best of the rates. */
static kd_schedule fitted_schedule(const traj *t, double *error)
{
    int64_t top = 0;
    while (top + 1 < t->steps && t->lr[top] != t->peak) {
        top++;
    }
    const bool twice = top + 1 < t->steps && t->lr[top + 1] == t->peak; /* w-1 and w both use the peak */
    const int64_t warm = top + (twice ? 1 : 0);
    kd_schedule best = {.kind = KD_SCHEDULE_COSINE_STEP};
    *error = INFINITY;
    for (int64_t n = t->steps; n<SCHEDULE_MAX && * error> 1e-14 * t->peak; n++) {
        const double share =
            0.5 * (1.0 + cos(3.14159265358979323846 * (double)(t->steps - 1 - warm) / (double)(n - warm)));
        const double low = share < 1.0 ? (t->lr[t->steps - 1] - t->peak * share) / (1.0 - share) : t->peak;
        const kd_schedule s = {.kind = KD_SCHEDULE_COSINE_STEP,
                               .lr = t->peak,
                               .min_lr = low,
                               .warmup_lr = warm > 0 ? t->lr[0] : t->peak,
                               .steps_per_epoch = n,
                               .epochs = 1,
                               .warmup_steps = warm};
        const double e = schedule_error(t, &s);
        if (low >= -1e-12 * t->peak && e < *error) {
            *error = e;
            best = s;
        }
    }
    return best;
}

/* Learning rates of the run against the schedule. */
static kd_status compare_schedule(parity *p, const traj *t, kd_err *err)
{
    const kd_json *args = kd_json_get(p->manifest, "schedule");
    kd_schedule s = {.kind = KD_SCHEDULE_COSINE_STEP};
    double error = 0.0;
    char text[160];
    if (args != NULL) {
        KD_TRY(stated_schedule(args, &s, err));
        error = schedule_error(t, &s);
    } else {
        s = fitted_schedule(t, &error);
    }
    (void)snprintf(text, sizeof text, "learning rates: %lld + %lld steps, %g to %g to %g", (long long)s.warmup_steps,
                   (long long)(s.epochs * s.steps_per_epoch - s.warmup_steps), s.warmup_lr, s.lr, s.min_lr);
    kd_parity_item(p, text, error, 1e-14 * t->peak);
    return KD_OK;
}

/* ---- steps ----------------------------------------------------------------------------------- */

/* Batch k of step s: generated clips mixed with the flipped batch, smoothed and mixed targets. */
static kd_status feed_micro(parity *p, traj *t, int64_t s, int64_t k, double lam, kd_err *err)
{
    const kd_json *input = kd_json_get(p->manifest, "input");
    char name[64];
    double label[64], scale = 0.0, offset = 0.0;
    kd_parity_net *n = &t->net;
    const size_t all = kd_parity_net_floats(n), one = all / (size_t)n->batch;
    (void)snprintf(name, sizeof name, "train.%d.%d.label", (int)s, (int)k);
    for (int b = 0; b < n->batch; b++) {
        label[b] = (double)(kd_parity_u24(name, (uint32_t)b) % (uint32_t)n->cfg.classes);
    }
    kd_parity_targets(label, n->batch, n->cfg.classes, t->smoothing, lam, true, t->target);
    KD_TRY(kd_json_opt_f64(input, "scale", 2.0, &scale, err));
    KD_TRY(kd_json_opt_f64(input, "offset", 0.0, &offset, err));
    (void)snprintf(name, sizeof name, "train.%d.%d.input", (int)s, (int)k);
    kd_parity_fill(name, (float)scale, (float)offset, t->x, all);
    for (int b = 0; b < n->batch / 2; b++) { /* the pair exchanges its shares */
        float *u = t->x + (size_t)b * one, *v = t->x + (size_t)(n->batch - 1 - b) * one;
        for (size_t i = 0; i < one; i++) {
            const float a = u[i], c = v[i];
            u[i] = a * (float)lam + c * (float)(1.0 - lam);
            v[i] = c * (float)lam + a * (float)(1.0 - lam);
        }
    }
    KD_TRY(kd_program_write(n->prog, "input", t->x, all * sizeof *t->x));
    const kd_status st =
        kd_program_write(n->prog, "target", t->target, (size_t)n->batch * (size_t)n->cfg.classes * sizeof *t->target);
    return st == KD_OK ? st : KD_FAIL(err, st, "parity: targets do not fit");
}

static kd_status one_step(parity *p, traj *t, int64_t s, kd_err *err)
{
    const kd_json *h = kd_json_at(kd_json_get(p->manifest, "history"), (size_t)s);
    const kd_json *ref32 = kd_json_at(kd_json_get(p->manifest, "history_f32_losses"), (size_t)s);
    double lr = 0.0, lam = 1.0, norm = 0.0, want_norm = 0.0, want[MICRO_MAX];
    char name[64];
    KD_TRY(kd_json_get_f64(h, "lr", &lr, err));
    KD_TRY(kd_json_get_f64(h, "lam", &lam, err));
    KD_TRY(kd_json_get_f64(h, "grad_norm", &want_norm, err));
    KD_TRY(kd_json_get_f64s(h, "losses", want, (size_t)t->accum, err));
    double diff = 0.0;
    for (int64_t k = 0; k < t->accum; k++) {
        const kd_step step = {.step = (uint64_t)(s * t->accum + k), .grad_scale = 1.0f / (float)t->accum};
        float loss = 0.0f;
        double ref = want[k];
        KD_TRY(feed_micro(p, t, s, k, lam, err));
        const kd_status st = kd_program_run(t->net.prog, &step);
        if (st != KD_OK) {
            return KD_FAIL(err, st, "parity: %s: %s", kd_program_where(t->net.prog), kd_status_text(st));
        }
        KD_TRY(kd_program_read_f32(t->net.prog, "loss", &loss, 1));
        if (ref32 != NULL && kd_json_as_f64(kd_json_at(ref32, (size_t)k), &ref, NULL) != KD_OK) {
            ref = want[k];
        }
        (void)snprintf(name, sizeof name, "step %d batch %d loss", (int)s, (int)k);
        diff = fmax(diff, fabs(ref - want[k]));
        kd_parity_f32(p, name, &loss, &want[k], 1, fabs(ref - want[k]));
    }
    const kd_status st = kd_optim_step(t->optim, lr, &norm);
    if (st != KD_OK) {
        return KD_FAIL(err, st, "parity: optimiser step %d: %s", (int)s, kd_status_text(st));
    }
    (void)snprintf(name, sizeof name, "step %d gradient norm", (int)s);
    kd_parity_item(p, name, fabs(norm - want_norm), kd_parity_allowed(p, diff, want_norm));
    return KD_OK;
}

/* Values after the last step.  A step moves a weight by up to lr whatever its gradient's size, so
 * where a gradient is nearly zero its rounding decides a part of the step: allowed is a share of
 * what all steps could move. */
static kd_status compare_weights(parity *p, traj *t, const char *which, kd_err *err)
{
    const kd_json *list = kd_json_get(p->manifest, which);
    double worst = 0.0;
    size_t compared = 0;
    char text[96];
    if (kd_json_count(list) == 0) {
        return KD_OK;
    }
    for (int i = 0; i < kd_params_count(t->net.params); i++) {
        const kd_param_info *e = kd_params_at(t->net.params, i);
        const kd_json *s = kd_json_get(list, e->name);
        float *v = kd_alloc((size_t)e->numel * sizeof *v);
        if (v == NULL || kd_params_read(t->net.params, i, v, e->numel) != KD_OK) {
            kd_free(v);
            return KD_FAIL(err, KD_E_OOM, "parity: out of memory");
        }
        if (s != NULL) {
            const double moved = t->peak * (double)t->steps * (double)e->lr_scale;
            kd_parity_summary(p, which, e->name, v, e->numel, s, 1e-5 * moved, 1.0, &worst);
            compared++;
        }
        kd_free(v);
    }
    (void)snprintf(text, sizeof text, "%s weights: worst of %zu tensors / allowed", which, compared);
    kd_parity_item(p, text, worst, 1.0);
    (void)snprintf(text, sizeof text, "%s weights: every listed tensor compared", which);
    kd_parity_check(p, text, compared == kd_json_count(list), NULL);
    return KD_OK;
}

/* Logits of the trained weights for the clip "input". */
static kd_status compare_logits(parity *p, traj *t, kd_err *err)
{
    kd_parity_net *n = &t->net;
    const size_t b = (size_t)n->batch, k = (size_t)n->cfg.classes;
    const kd_json *gold = kd_json_get(p->manifest, "final_eval_logits"),
                  *ref = kd_json_get(p->manifest, "final_eval_logits_f32");
    kd_status st = KD_OK;
    double diff = 0.0;
    double *want = kd_calloc(b * k, sizeof *want);
    float *got = kd_calloc(b * k, sizeof *got);
    if (want == NULL || got == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "parity: out of memory");
        goto done;
    }
    for (size_t i = 0; i < b * k; i++) {
        double r = NAN;
        KD_GO(kd_json_as_f64(kd_json_at(kd_json_at(gold, i / k), i % k), &want[i], err));
        KD_GO(kd_json_as_f64(kd_json_at(kd_json_at(ref, i / k), i % k), &r, err));
        diff = fmax(diff, fabs(r - want[i]));
    }
    KD_GO(kd_parity_net_build(p, n, NET_EVAL, err));
    KD_GO(kd_parity_net_feed(p, n, t->x, err));
    KD_GO(kd_parity_net_run(n, err));
    KD_GO(kd_program_read_f32(n->prog, "logits", got, (int64_t)(b * k)));
    kd_parity_f32(p, "logits of the trained model", got, want, b * k, diff);
done:
    kd_free(want);
    kd_free(got);
    return st;
}

static kd_status train(parity *p, traj *t, kd_err *err)
{
    const kd_optim_cfg oc = {.kind = KD_OPTIM_ADAMW,
                             .beta1 = t->betas[0],
                             .beta2 = t->betas[1],
                             .eps = t->eps,
                             .weight_decay = t->weight_decay,
                             .clip_grad = t->clip,
                             .ema_decay = t->ema};
    kd_vit_param_groups(t->net.params, t->net.cfg.depth, (float)t->layer_decay);
    KD_TRY(kd_optim_create(t->net.params, &oc, &t->optim, err));
    KD_TRY(kd_parity_net_build(p, &t->net, NET_TRAIN, err));
    KD_TRY(kd_params_zero_grad(t->net.params));
    for (int64_t s = 0; s < t->steps; s++) {
        KD_TRY(one_step(p, t, s, err));
    }
    return KD_OK;
}

kd_status kd_parity_vit_traj(parity *p, kd_err *err)
{
    kd_vit_cfg cfg;
    traj t = {.optim = NULL};
    kd_status st = KD_OK;
    const size_t batch = kd_json_count(kd_json_get(p->manifest, "final_eval_logits"));
    KD_GO(read_traj(p->manifest, &t, err));
    KD_GO(kd_parity_net_cfg(p->manifest, &cfg, err));
    if (batch < 1 || batch > 64) {
        st = KD_FAIL(err, KD_E_DATA, "final_eval_logits: expected 1 to 64 rows, found %zu", batch);
        goto done;
    }
    KD_GO(compare_schedule(p, &t, err));
    KD_GO(kd_parity_net_open(p, &cfg, (int)batch, true, &t.net, err));
    t.x = kd_calloc(kd_parity_net_floats(&t.net), sizeof *t.x);
    t.target = kd_calloc(batch * (size_t)cfg.classes, sizeof *t.target);
    if (t.x == NULL || t.target == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "parity: out of memory");
        goto done;
    }
    KD_GO(train(p, &t, err));
    KD_GO(compare_weights(p, &t, "final", err));
    if (t.ema > 0.0) {
        KD_GO(kd_optim_swap_ema(t.optim));
        KD_GO(compare_weights(p, &t, "ema", err));
        KD_GO(kd_optim_swap_ema(t.optim));
    }
    KD_GO(compare_logits(p, &t, err));
done:
    kd_free(t.x);
    kd_free(t.target);
    kd_optim_free(t.optim);
    kd_parity_net_close(&t.net);
    return st;
}
