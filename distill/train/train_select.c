/* Training, selection: which epoch is best, and when nothing gets better. */
#include "distill/train/train_internal.h"

#include <math.h>
#include <stdio.h>

/* The name of the running top-1 of the training half. */
#define TRAIN_TOP1 "train_top1"

static bool by_training(const kd_trainer *t)
{
    return t->cfg->train.select == KD_SELECT_TRAIN;
}

void kdi_select_open(kd_trainer *t)
{
    const kd_cfg_train *c = &t->cfg->train;
    const char *name = t->o->task->figure;
    char metric[KD_CFG_NAME];
    if (by_training(t)) {
        name = TRAIN_TOP1;
    } else if (c->metric != KD_METRIC_AUTO) {
        name = kd_config_enum_name("train.metric", (int)c->metric, metric);
    }
    (void)snprintf(t->figure, sizeof t->figure, "%.*s", (int)sizeof t->figure - 1, name);
}

/* First index of the largest value, as torch.argmax gives it. */
static int largest(const float *v, int n)
{
    int best = 0;
    for (int k = 1; k < n; k++) {
        best = v[k] > v[best] ? k : best;
    }
    return best;
}

void kdi_select_expect(kd_trainer *t, const kd_batch *b, kd_pending *p)
{
    for (int i = 0; i < b->rows; i++) {
        const float *row = t->target + (size_t)i * (size_t)t->model.classes;
        p->best[i] = b->valid[i] > 0.0f && b->label[i * kdi_train_labels(t)] != KD_NO_LABEL
                         ? largest(row, t->model.classes)
                         : -1;
    }
}

void kdi_select_count(kd_trainer *t, const kd_pending *p)
{
    const int k = t->model.classes;
    for (int i = 0; i < kdi_train_rows(t->cfg); i++) {
        if (p->best[i] >= 0) {
            t->s.seen++;
            t->s.hits += largest(p->logits + (size_t)i * (size_t)k, k) == p->best[i];
        }
    }
}

static kd_status find_figure(const kd_trainer *t, const kd_figures *f, const kd_figure **out, kd_err *err)
{
    for (int i = 0; i < f->n; i++) {
        if (strcmp(f->figure[i].name, t->figure) == 0) {
            *out = &f->figure[i];
            return KD_OK;
        }
    }
    return KD_FAIL(err, KD_E_CONFIG, "train.metric: %s is no figure of a %s; its first is %s", t->figure,
                   t->o->task->kind, t->o->task->figure);
}

kd_status kdi_select(kd_trainer *t, const kd_figures *figures, kd_selection *out, kd_err *err)
{
    const kd_figure *f = NULL;
    *out = (kd_selection){.best = false};
    if (by_training(t)) {
        t->s.last = t->s.seen > 0 ? (double)t->s.hits / (double)t->s.seen : 0.0;
    } else if (figures != NULL) {
        KD_TRY(find_figure(t, figures, &f, err));
        t->s.last = f->value;
        t->share = f->share;
    } else {
        return KD_OK;
    }
    const bool lower = f != NULL && f->lower;
    out->best = !isnan(t->s.last) && (t->s.best_epoch < 0 || (lower ? t->s.last < t->s.best : t->s.last > t->s.best));
    t->s.stale = out->best ? 0 : t->s.stale + 1;
    const int patience = t->cfg->train.patience;
    out->stopped = patience > 0 && t->s.stale >= patience;
    t->s.stopped = out->stopped;
    return KD_OK;
}

const char *kdi_select_text(const kd_trainer *t, double value, bool named, char text[48])
{
    const kd_task *task = t->o->task;
    const bool first = strcmp(t->figure, task->figure) == 0;
    const bool share = by_training(t) || first || t->share;
    char name[KD_CFG_NAME] = "";
    if (named && by_training(t)) {
        (void)snprintf(name, sizeof name, "train top-1 ");
    } else if (named) {
        (void)snprintf(name, sizeof name, "val %.40s ", first ? task->figure_text : t->figure);
    }
    (void)snprintf(text, 48, share ? "%.30s%.2f %%" : "%.30s%.4f", name, share ? 100.0 * value : value);
    return text;
}
