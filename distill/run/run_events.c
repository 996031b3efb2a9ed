/* TensorBoard side of a run directory: see run.h. */
#include "distill/run/run_internal.h"
#include "formats/log/tfevents.h"
#include "formats/video/png.h"

#include <math.h>

kd_status kd_run_events(kd_run *r, int64_t step, kd_err *err)
{
    return kd_tfevents_open(r->dir, step > 0 ? step : -1, &r->events, err);
}

void kdi_run_events_close(kd_run *r)
{
    (void)!kd_tfevents_end(r->events, true, NULL);
    kd_tfevents_close(r->events);
    r->events = NULL;
}

/* Pictures of a run are a convenience: losing one is said once and ends nothing. */
static void said_once(kd_run *r, kd_status st, const kd_err *err)
{
    if (st != KD_OK && !r->events_failed) {
        r->events_failed = true;
        kd_log(KD_LOG_WARN, "TensorBoard events: %s; training goes on", err->msg);
    }
}

void kd_run_scalar(kd_run *r, const char *tag, int64_t step, double value)
{
    kd_err err = {0};
    said_once(r, kd_tfevents_scalar(r->events, tag, step, value, &err), &err);
}

void kd_run_recipe(kd_run *r, const kd_config *cfg, const char *model)
{
    static const char *const metrics[] = {"val/top1", "val/nll"};
    const kd_tf_hparam hp[] = {{"model", model, 0.0},
                               {"base_lr", NULL, cfg->optim.base_lr},
                               {"weight_decay", NULL, cfg->optim.weight_decay},
                               {"batch_size", NULL, (double)cfg->train.batch_size},
                               {"epochs", NULL, (double)cfg->train.epochs},
                               {"seed", NULL, (double)cfg->train.seed},
                               {"kd_weight", NULL, cfg->kd.store.n > 0 ? cfg->kd.weight : 0.0},
                               {"temperature", NULL, cfg->kd.temperature}};
    kd_err err = {0};
    char *yaml = kd_config_yaml(cfg, false, false);
    char *text = yaml != NULL ? kd_strf("```\n%s```\n", yaml) : NULL;
    if (text != NULL) {
        said_once(r, kd_tfevents_text(r->events, "config", 0, text, &err), &err);
    }
    kd_free(text);
    kd_free(yaml);
    said_once(r, kd_tfevents_hparams(r->events, cfg->name, hp, KD_COUNTOF(hp), metrics, KD_COUNTOF(metrics), &err),
              &err);
}

void kd_run_confusion(kd_run *r, const char *tag, int64_t step, const int64_t *counts, int classes,
                      const char *const *name)
{
    kdi_picture p = {.rgb = NULL};
    uint8_t *png = NULL;
    size_t bytes = 0;
    kd_err err = {0};
    kd_status st = kdi_run_draw_confusion(counts, classes, name, &p, &err);
    if (st == KD_OK) {
        st = kd_png_encode(p.rgb, p.width, p.height, 3, &png, &bytes, &err);
    }
    if (st == KD_OK) {
        st = kd_tfevents_image(r->events, tag, step, png, bytes, p.width, p.height, 3, &err);
    }
    said_once(r, st, &err);
    kd_free(p.rgb);
    kd_free(png);
}

/* Counts in 30 equal steps from the least to the largest value; values that are not finite are left out. */
void kd_run_histogram(kd_run *r, const char *tag, int64_t step, const float *value, int64_t n)
{
    enum { BUCKETS = 30 };
    kd_tf_histogram h = {.min = INFINITY, .max = -INFINITY};
    double limit[BUCKETS], count[BUCKETS] = {0.0};
    for (int64_t i = 0; i < n; i++) {
        if (isfinite(value[i])) {
            h.min = fmin(h.min, (double)value[i]);
            h.max = fmax(h.max, (double)value[i]);
            h.sum += (double)value[i];
            h.sum_squares += (double)value[i] * (double)value[i];
            h.num += 1.0;
        }
    }
    if (h.num == 0.0) {
        return;
    }
    const double width = h.max > h.min ? (h.max - h.min) / BUCKETS : 1.0;
    for (int b = 0; b < BUCKETS; b++) {
        limit[b] = h.min + width * (b + 1);
    }
    for (int64_t i = 0; i < n; i++) {
        if (isfinite(value[i])) {
            const int b = (int)(((double)value[i] - h.min) / width);
            count[KD_MIN(b, BUCKETS - 1)] += 1.0;
        }
    }
    h.limit = limit;
    h.count = count;
    h.buckets = BUCKETS;
    kd_err err = {0};
    said_once(r, kd_tfevents_histogram(r->events, tag, step, &h, &err), &err);
}
