/* TensorBoard side of a run directory: see run.h. */
#include "distill/run/run_internal.h"
#include "formats/log/tfevents.h"
#include "formats/video/png.h"

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

/* Row-normalised counts as shades from white to blue, a square of `cell` pixels a pair. */
static void paint(const int64_t *counts, int classes, int cell, uint8_t *rgb)
{
    const int side = classes * cell;
    for (int y = 0; y < side; y++) {
        const int64_t *row = counts + (size_t)(y / cell) * (size_t)classes;
        int64_t total = 0;
        for (int c = 0; c < classes; c++) {
            total += row[c];
        }
        for (int x = 0; x < side; x++) {
            const int predicted = x / cell;
            const double share = total == 0 ? 0.0 : (double)row[predicted] / (double)total;
            uint8_t *px = rgb + 3 * ((size_t)y * (size_t)side + (size_t)x);
            px[0] = (uint8_t)(255.0 - 228.0 * share);
            px[1] = (uint8_t)(255.0 - 180.0 * share);
            px[2] = (uint8_t)(255.0 - 90.0 * share);
        }
    }
}

void kd_run_confusion(kd_run *r, const char *tag, int64_t step, const int64_t *counts, int classes)
{
    const int cell = KD_MAX(1, 480 / classes), side = classes * cell;
    uint8_t *rgb = kd_alloc((size_t)side * (size_t)side * 3), *png = NULL;
    size_t bytes = 0;
    kd_err err = {0};
    kd_status st = rgb != NULL ? KD_OK : KD_FAIL(&err, KD_E_OOM, "out of memory");
    if (st == KD_OK) {
        paint(counts, classes, cell, rgb);
        st = kd_png_encode(rgb, side, side, 3, &png, &bytes, &err);
    }
    if (st == KD_OK) {
        st = kd_tfevents_image(r->events, tag, step, png, bytes, side, side, 3, &err);
    }
    said_once(r, st, &err);
    kd_free(rgb);
    kd_free(png);
}
