/* Rows of training again, as the teacher saw them: a store of `dump-logits --views train:N` holds the teacher's answers
 * to N augmented rows of each sample (TinyViT, Wu et al. 2022, keeps such answers and the draws that made the rows).
 * In epoch e a video student is fed with row e mod N, bit for bit, and is taught by the answer to that row.  A student
 * of skeletons can see the same time, mirrored alike (skeleton_aug.match_views). */
#include "distill/train/train_internal.h"

#include <stdio.h>

/* Can a task that makes the teacher's own rows make these? */
static kd_status check_rows(const kd_trainer *t, const kd_store_manifest *m, const char *path,
                            const kd_teacher_table *table, kd_err *err)
{
    char rows[KD_CFG_HASH];
    KD_TRY(kd_config_rows_hash(t->cfg, rows));
    if (strcmp(rows, m->replay_rows) != 0) {
        return KD_FAIL(err, KD_E_DATA,
                       "%s: its views are rows of another recipe: expected section video, teacher.frames and "
                       "teacher.img_size as they were when it was dumped",
                       path);
    }
    if (!table->in_order) {
        return KD_FAIL(err, KD_E_DATA,
                       "%s: its samples have other numbers than those of this run, so that their rows cannot be made "
                       "again: expected the same training half, without a sample left out",
                       path);
    }
    if (t->cfg->train.num_sample > 1) {
        return KD_FAIL(err, KD_E_CONFIG, "train.num_sample: expected 1 with a store of training views, found %d",
                       t->cfg->train.num_sample);
    }
    return KD_OK;
}

/* Rows are those of one store; others must have the same. */
static kd_status same_rows(const kd_replay *r, const kd_store_manifest *m, const char *path,
                           const kd_teacher_table *table, kd_err *err)
{
    if (r->rows > 0 &&
        (r->rows != table->views || r->seed != m->replay_seed || strcmp(r->recipe, m->replay_rows) != 0)) {
        return KD_FAIL(err, KD_E_DATA,
                       "%s: expected %d views of seed %lld as the store before it has, found %d of seed %lld%s", path,
                       r->rows, (long long)r->seed, table->views, (long long)m->replay_seed,
                       strcmp(r->recipe, m->replay_rows) != 0 ? ", of another recipe" : "");
    }
    return KD_OK;
}

kd_status kdi_replay_note(kd_trainer *t, const kd_store_manifest *m, const char *path, const kd_teacher_table *table,
                          kd_err *err)
{
    kd_replay *r = &t->replay;
    const bool cuts = kdi_replay_matches(t->cfg);
    if (m->replay_rows[0] == '\0' || !(t->o->task->replays || cuts)) {
        return KD_OK;
    }
    KD_TRY(t->o->task->replays ? check_rows(t, m, path, table, err) : KD_OK);
    KD_TRY(same_rows(r, m, path, table, err));
    if (cuts && r->rows == 0 && table->lacking > 0) {
        return KD_FAIL(err, KD_E_DATA,
                       "%s: no record for %zu of %zu samples, and skeleton_aug.match_views cuts all as its views; name "
                       "first in kd.store a store of training views that has all",
                       path, table->lacking, table->n);
    }
    r->cut = r->rows == 0 ? table->cut : r->cut;
    r->rows = table->views;
    r->seed = m->replay_seed;
    (void)snprintf(r->recipe, sizeof r->recipe, "%s", m->replay_rows);
    kd_log(KD_LOG_INFO, "%s: the rows of epoch e are %s its view e mod %d", path, cuts ? "cut as" : "those of",
           table->views);
    return KD_OK;
}

/* ---- the source ------------------------------------------------------------------------------ */

/* The row of epoch 0 that stands in an epoch's place. */
static kd_item row_of(const kd_replay *r, const kd_item *item)
{
    return (kd_item){.sample = item->sample, .view = item->epoch % (uint32_t)r->rows};
}

static kd_status again(void *ctx, const kd_item *item, void *scratch, void *const *dst, kd_err *err)
{
    const kd_replay *r = ctx;
    const kd_item row = row_of(r, item);
    return r->all.fill(r->all.ctx, &row, scratch, dst, err);
}

static kd_status scratch_new(void *ctx, void **scratch, kd_err *err)
{
    const kd_replay *r = ctx;
    return r->all.scratch_new(r->all.ctx, scratch, err);
}

static void scratch_free(void *ctx, void *scratch)
{
    const kd_replay *r = ctx;
    r->all.scratch_free(r->all.ctx, scratch);
}

static void label(void *ctx, const kd_item *item, int32_t *dst)
{
    const kd_replay *r = ctx;
    const kd_item row = row_of(r, item);
    r->all.label(r->all.ctx, &row, dst);
}

static const char *id(void *ctx, uint32_t sample)
{
    const kd_replay *r = ctx;
    return r->all.id(r->all.ctx, sample);
}

kd_status kdi_replay_source(kd_trainer *t, kd_source *out, kd_err *err)
{
    const kd_task *task = t->o->task;
    const kd_half *half = &t->data.half[KD_HALF_TRAIN];
    const bool cuts = kdi_replay_matches(t->cfg);
    if (t->replay.rows == 0 || cuts) {
        KD_TRY(task->source(t->cfg, &t->model, half, KD_PASS_TRAIN, true, out, err));
        return cuts ? out->cut(out->ctx, t->replay.cut, t->replay.rows, err) : KD_OK;
    }
    kd_config *cfg = kd_alloc(sizeof *cfg);
    if (cfg == NULL) {
        return KD_FAIL(err, KD_E_OOM, "training: out of memory");
    }
    *cfg = *t->cfg;
    cfg->train.num_sample = t->replay.rows;
    cfg->train.seed = t->replay.seed;
    const kd_status st = task->source(cfg, &t->model, half, KD_PASS_TRAIN, true, out, err);
    kd_free(cfg);
    KD_TRY(st);
    t->replay.all = out->producer;
    kd_producer *p = &out->producer;
    p->ctx = &t->replay;
    p->views = 1;
    p->grain = 1;
    p->fill = again;
    p->scratch_new = scratch_new;
    p->scratch_free = scratch_free;
    p->label = label;
    p->id = id;
    return KD_OK;
}
