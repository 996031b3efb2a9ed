/* Training, teachers: stores joined to the training half, labels that they give, the loss made of them. */
#include "distill/train/train_internal.h"

#include <stdio.h>

/* ---- stores ---------------------------------------------------------------------------------- */

/* Opens all stores before one is loaded: what stores lack is left out of the half that all are joined to. */
static kd_status join(kd_trainer *t, kd_store **store, kd_err *err)
{
    const kd_cfg_paths *paths = &t->cfg->kd.store;
    const kd_on_bad on_bad = t->cfg->data.on_bad_sample;
    kd_half *half = &t->data.half[KD_HALF_TRAIN];
    const bool joined = t->cfg->kd.combine != KD_COMBINE_EACH && paths->n > 1;
    for (int i = 0; i < paths->n; i++) {
        KD_TRY(kd_store_open(paths->v[i], &store[i], err));
        KD_TRY(kd_identity_add_store(&t->origin, store[i], err));
        for (int k = 0; k < i; k++) {
            if (strcmp(t->origin.store[k].sha256, t->origin.store[i].sha256) == 0) {
                kd_log(KD_LOG_WARN, "kd.store: %s and %s hold the same bytes; this teacher counts twice", paths->v[k],
                       paths->v[i]);
            }
        }
    }
    for (int i = 0; i < paths->n && !joined; i++) {
        KD_TRY(kd_teacher_join(&t->data, half, &store[i], 1, on_bad, err));
    }
    return joined ? kd_teacher_join(&t->data, half, store, paths->n, on_bad, err) : KD_OK;
}

/* What the loss of a recipe reads of a store. */
static kd_status load_table(const kd_trainer *t, const kd_loss_opts *kd, const kd_store *store, kd_teacher_table *table,
                            kd_err *err)
{
    const char *tap = kd_loss_wants(kd, KD_READS_FEATURES) ? kd->feature_tap : NULL;
    const bool logits = kd_loss_wants(kd, KD_READS_LOGITS), bare = t->data.half[KD_HALF_TRAIN].counts.unlabelled > 0;
    const bool answers = kd->pseudo > 0.0 || (bare && kd_loss_wants(kd, KD_READS_CLASSES));
    if (kd_store_get_manifest(store)->features_only && (logits || answers)) {
        return KD_FAIL(
            err, KD_E_DATA, "%s: it holds features alone: %s, or bring logits too", kd_store_path(store),
            logits ? "set kd.weight and the weights of all terms that read logits to 0, and that of a term "
                     "that reads features above 0 (kd.feature, kd.sp_weight, ...)"
                   : "remove kd.pseudo and kd.class_embed_weight, which take its answers to samples without label");
    }
    return kd_teacher_table_load(&t->data.half[KD_HALF_TRAIN], store, tap, kdi_replay_matches(t->cfg), table, err);
}

static kd_status load(kd_trainer *t, const kd_store *store, kd_err *err)
{
    kd_teacher_table *table = &t->teacher[t->loss.stores];
    const kd_half *half = &t->data.half[KD_HALF_TRAIN];
    const kd_store_manifest *m = kd_store_get_manifest(store);
    KD_TRY(load_table(t, &t->cfg->kd, store, table, err));
    t->loss.feature_dim[t->loss.stores++] = table->feature_dim;
    KD_TRY(kdi_replay_note(t, m, kd_store_path(store), table, err));
    char right[80] = "features alone", those[48] = "them";
    const size_t labelled = half->n - half->counts.unlabelled;
    if (half->counts.unlabelled > 0) {
        (void)snprintf(those, sizeof those, "the %zu with a label", labelled);
    }
    if (!m->features_only && labelled > 0) {
        (void)snprintf(right, sizeof right, "teacher top-1 on %s %.2f %%", those, 100.0 * table->top1);
    } else if (!m->features_only) {
        (void)snprintf(right, sizeof right, "none of them with a label");
    }
    kd_log(KD_LOG_INFO, "teacher %s (%s): joined %zu of %zu training samples, %s", m->teacher, kd_store_path(store),
           table->n - table->lacking, half->n + half->n_left, right);
    return KD_OK;
}

kd_status kdi_teachers_open(kd_trainer *t, kd_err *err)
{
    kd_store *store[KD_STORES_MAX] = {NULL};
    kd_status st = KD_OK;
    KD_GO(join(t, store, err));
    for (int i = 0; i < t->origin.n_stores; i++) {
        KD_GO(load(t, store[i], err));
    }
    if (kdi_replay_matches(t->cfg) && t->replay.rows == 0) {
        st = KD_FAIL(
            err, KD_E_CONFIG,
            "skeleton_aug.match_views: expected a store of training views (teacher dump-logits --views train:N) "
            "in kd.store, found none; give one, or set it to false");
    }
done:
    for (int i = 0; i < KD_STORES_MAX; i++) {
        kd_store_close(store[i]);
    }
    return st;
}

kd_status kdi_teachers_check(const kd_trainer *t, const kd_config *c, kd_err *err)
{
    kd_status st = KD_OK;
    for (int i = 0; i < c->kd.store.n && st == KD_OK; i++) {
        kd_teacher_table table = {.n = 0};
        kd_store *store = NULL;
        st = kd_store_open(c->kd.store.v[i], &store, err);
        st = st == KD_OK ? load_table(t, &c->kd, store, &table, err) : st;
        kd_teacher_table_free(&table);
        kd_store_close(store);
    }
    return st;
}

kd_teachers kdi_teachers(const kd_trainer *t, double *work)
{
    const kd_loss_opts *kd = &t->cfg->kd;
    return (kd_teachers){.table = t->teacher,
                         .n = t->loss.stores,
                         .how = kd->combine,
                         .weight = kd->store_weights.n > 0 ? kd->store_weights.v : NULL,
                         .work = work};
}

/* ---- labels of samples without one ----------------------------------------------------------- */

/* The teachers' first class of a sample where its probability is kd.pseudo or more, else KD_NO_LABEL.  Views of
 * training count alike. */
static int32_t pseudo_label(const kd_teachers *all, size_t sample, double least, double *p, double *mean)
{
    const size_t k = (size_t)all->table[0].n_classes;
    int views = 1, seen = 0;
    size_t best = 0;
    for (int s = 0; s < all->n; s++) {
        views = KD_MAX(views, all->table[s].views);
    }
    memset(mean, 0, k * sizeof *mean);
    for (int v = 0; v < views; v++) {
        if (kd_teachers_answer(all, sample, (uint32_t)v, KD_NO_LABEL, 1.0, p)) {
            for (size_t i = 0; i < k; i++) {
                mean[i] += p[i];
            }
            seen++;
        }
    }
    for (size_t i = 1; i < k; i++) {
        best = mean[i] > mean[best] ? i : best;
    }
    return seen > 0 && mean[best] >= least * (double)seen ? (int32_t)best : KD_NO_LABEL;
}

kd_status kdi_teachers_label(kd_trainer *t, kd_err *err)
{
    const kd_half *half = &t->data.half[KD_HALF_TRAIN];
    const double least = t->cfg->kd.pseudo;
    const size_t bare = half->counts.unlabelled, k = (size_t)t->data.n_classes;
    size_t n = 0;
    if (!(least > 0.0) || t->loss.stores == 0) {
        return KD_OK;
    }
    if (bare == 0) {
        return KD_FAIL(
            err, KD_E_CONFIG,
            "kd.pseudo: %g, but all %zu training samples have a label (data.unlabelled: file of ids); remove "
            "it",
            least, half->n);
    }
    double *work = kd_calloc(4 * k, sizeof *work);
    t->pseudo = kd_calloc(half->n, sizeof *t->pseudo);
    if (work == NULL || t->pseudo == NULL) {
        kd_free(work);
        return KD_FAIL(err, KD_E_OOM, "no memory for the labels of %zu samples", half->n);
    }
    const kd_teachers all = kdi_teachers(t, work);
    for (size_t i = 0; i < half->n; i++) {
        const bool asked = half->sample[i].label == KD_NO_LABEL;
        t->pseudo[i] = asked ? pseudo_label(&all, i, least, work + 2 * k, work + 3 * k) : KD_NO_LABEL;
        n += t->pseudo[i] != KD_NO_LABEL;
    }
    kd_free(work);
    t->origin.half[KD_HALF_TRAIN].pseudo = (int64_t)n;
    kd_log(n > 0 ? KD_LOG_INFO : KD_LOG_WARN,
           "pseudo-labels: %zu of %zu samples without label (probability %g or more)", n, bare, least);
    return KD_OK;
}

/* ---- the loss -------------------------------------------------------------------------------- */

/* Terms that read labels have rows where samples have labels. */
static kd_status check_rows(const kd_trainer *t, kd_err *err)
{
    const kd_half *half = &t->data.half[KD_HALF_TRAIN];
    const size_t true_labels = half->n - half->counts.unlabelled;
    bool any = false;
    if (t->cfg->train.select == KD_SELECT_TRAIN && true_labels == 0) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "train.select: train, but no training sample has a label; expected val, or samples with labels");
    }
    if (true_labels + (size_t)t->origin.half[KD_HALF_TRAIN].pseudo > 0) {
        return KD_OK;
    }
    for (int i = 0; i < t->loss.n; i++) {
        const kd_term *term = &t->loss.term[i];
        const unsigned reads = term->def->reads; /* the latent distribution counts where there is a label */
        const bool answers = (reads & (KD_READS_STORE | KD_READS_AVERAGE)) != 0 && (reads & KD_READS_LABELS) == 0;
        const bool rows = answers || ((reads & KD_READS_CLASSES) != 0 && t->loss.stores > 0);
        any = any || (rows && term->weight > 0.0);
        if (!rows && term->weight > 0.0 && (reads & KD_READS_PEERS) == 0) {
            kd_log(KD_LOG_INFO, "%s: no training sample has a label, so the term is 0", term->log);
        }
    }
    return any ? KD_OK
               : KD_FAIL(
                     err, KD_E_DATA,
                     "none of %zu training samples has a label, and no term reads a teacher alone: expected labels, "
                     "or kd.store with a weight of such a term above 0 (kd.weight, kd.feature, ...)",
                     half->n);
}

/* Terms that a batch, or the classes, are too few for. */
static kd_status check_sizes(const kd_trainer *t, kd_err *err)
{
    const kd_loss_opts *k = &t->cfg->kd;
    const int rows = t->cfg->train.batch_size * t->cfg->train.num_sample;
    for (int i = 0; i < t->loss.n; i++) {
        const kd_term_def *term = t->loss.term[i].def;
        if (term->coupled > rows) {
            return KD_FAIL(err, KD_E_CONFIG,
                           "kd.%s_weight: the term compares the samples of a batch; expected train.batch_size of %d or "
                           "more, found %d",
                           term->name, term->coupled, rows);
        }
    }
    if (k->topk_weight > 0.0 && k->topk_k > t->model.classes) {
        return KD_FAIL(err, KD_E_CONFIG, "kd.topk_k: expected at most the %d classes of the data, found %d",
                       t->model.classes, k->topk_k);
    }
    return KD_OK;
}

kd_status kdi_teachers_loss(kd_trainer *t, kd_err *err)
{
    char text[600];
    t->loss.mixed = t->cfg->mixup.alpha > 0.0 || t->cfg->mixup.cutmix_alpha > 0.0;
    t->loss.latent = t->model.latent;
    t->loss.peers = t->cfg->mutual.n;
    KD_TRY(kd_loss_make(&t->cfg->kd, &t->loss, err));
    KD_TRY(check_sizes(t, err));
    if (kd_loss_coupled(&t->loss) != NULL && t->cfg->optim.accumulation > 1) {
        kd_log(KD_LOG_WARN, "loss term %s compares the samples of a batch: those of one of the %d micro-batches of %d",
               kd_loss_coupled(&t->loss), t->cfg->optim.accumulation, t->cfg->train.batch_size);
    }
    if (t->loss.stores > 0 || t->loss.n > 1) {
        kd_loss_text(&t->loss, text, sizeof text);
        kd_log(KD_LOG_INFO, "%sloss = %s", t->loss.stores > 0 ? "" : "no teacher logits: ", text);
    } else if (t->o->task->taught) {
        kd_log(KD_LOG_INFO, "no teacher logits: training with cross-entropy alone");
    }
    return check_rows(t, err);
}
