/* The loss of a run: see loss.h. */
#include "distill/kd/loss.h"

#include "distill/kd/terms.h"
#include "kernels/kd_layers.h"

#include <math.h>
#include <stdio.h>

/* ---- the table ------------------------------------------------------------------------------- */

#define ENUM(...)
#define REAL(...)
#define INT(...)
#define BOOL(...)
#define KD_TERM_SCHEDULE(...)
static const struct {
    const kd_term_def *def;
    double (*weight)(const kd_loss_opts *o); /* 0: the term is off */
} table[] = {
#define KD_TERM(name, ...) {&kd_term_##name, kd_term_weight_##name},
#include "distill/kd/terms.inc"
#undef KD_TERM
};

int kd_term_count(void)
{
    return (int)KD_COUNTOF(table);
}

const kd_term_def *kd_term_at(int i)
{
    return i >= 0 && i < kd_term_count() ? table[i].def : NULL;
}

kd_term kd_term_read(int i, const kd_loss_opts *o)
{
    kd_term t = {.def = table[i].def, .weight = table[i].weight(o)};
    t.def->read(o, &t);
    return t;
}

/* ---- the terms of a run ---------------------------------------------------------------------- */

void kd_loss_name(const char *name, int store, char out[KD_TERM_NAME])
{
    char number[12] = "";
    if (store > 0) {
        (void)snprintf(number, sizeof number, "_%d", store + 1);
    }
    (void)snprintf(out, KD_TERM_NAME, "%.32s%s", name, number);
}

kd_status kd_loss_add(kd_loss *l, const kd_term *t, kd_err *err)
{
    const size_t bytes = (size_t)l->n * sizeof *l->term;
    kd_term *grown = kd_realloc(l->term, bytes, bytes + sizeof *grown);
    KD_ASSERT(t->store >= KD_STORES_JOINED && t->store < KD_STORES_MAX);
    if (grown == NULL) {
        return KD_FAIL(err, KD_E_OOM, "loss: out of memory for %d terms", l->n + 1);
    }
    l->term = grown;
    kd_term *mine = &l->term[l->n];
    *mine = *t;
    kd_loss_name(t->def->log, t->store, mine->log);
    int readers = 0; /* terms before this one that are fed softened logits of their own */
    for (int i = 0; i < l->n; i++) {
        readers += (l->term[i].def->reads & KD_READS_LOGITS) != 0;
        if (strcmp(l->term[i].log, mine->log) == 0) { /* both feature terms are "loss_feature" where they are alone */
            char full[KD_TERM_NAME - 8];
            (void)snprintf(full, sizeof full, "loss_%s", t->def->name);
            kd_loss_name(full, t->store, mine->log);
        }
    }
    kd_loss_name("teacher", kd_loss_fed(l) ? readers : t->store, mine->input);
    if ((t->def->reads & KD_READS_AVERAGE) != 0) {
        kd_loss_name("averaged", 0, mine->input);
    }
    if ((t->def->reads & KD_READS_PEERS) != 0) {
        kd_loss_name("peer", t->store, mine->input);
    }
    l->n++;
    return KD_OK;
}

/* The terms of one row: one, one of all stores, one a store, or one for each other student. */
static kd_status add_row(kd_loss *l, int row, const kd_loss_opts *o, kd_err *err)
{
    const kd_term_def *def = table[row].def;
    const bool of_store = (def->reads & KD_READS_STORE) != 0;
    const bool joined = l->joined && (def->reads & KD_READS_LOGITS) != 0;
    const bool of_peer = (def->reads & KD_READS_PEERS) != 0;
    for (int s = 0; s < (of_peer ? l->peers : of_store && !joined ? l->stores : 1); s++) {
        kd_term t = kd_term_read(row, o);
        t.store = joined ? KD_STORES_JOINED : s;
        if (of_store && !joined && s < o->store_weights.n) {
            t.weight *= o->store_weights.v[s];
        }
        if (def == &kd_term_ce && l->stores == 0) { /* ce_weight shares the loss with teachers */
            t.weight = 1.0;
        }
        t.weight = t.weight < 0.0 ? def->own_weight : t.weight;
        t.weight /= of_peer ? (double)l->peers : 1.0;
        if ((def->reads & KD_READS_LATENT) != 0 && !l->latent) {
            t.weight = 0.0;
        }
        if (t.weight > 0.0 || def == &kd_term_ce) { /* the cross-entropy is logged even where it weighs nothing */
            KD_TRY(kd_loss_add(l, &t, err));
        }
    }
    return KD_OK;
}

kd_status kd_loss_make(const kd_loss_opts *o, kd_loss *out, kd_err *err)
{
    out->joined = o->combine != KD_COMBINE_EACH && out->stores > 1;
    for (int i = 0; i < kd_term_count(); i++) {
        KD_TRY(add_row(out, i, o, err));
    }
    return KD_OK;
}

kd_status kd_loss_own(bool mixed, bool latent, kd_loss *out, kd_err *err)
{
    const kd_term ce = {.def = &kd_term_ce, .weight = 1.0}, ib = {.def = &kd_term_ib, .weight = kd_term_ib.own_weight};
    *out = (kd_loss){.mixed = mixed, .latent = latent};
    KD_TRY(kd_loss_add(out, &ce, err));
    return latent ? kd_loss_add(out, &ib, err) : KD_OK;
}

void kd_loss_free(kd_loss *l)
{
    kd_free(l->term);
    *l = (kd_loss){.term = NULL};
}

bool kd_loss_reads(const kd_loss *l, int store, unsigned reads)
{
    for (int i = 0; i < l->n; i++) {
        if (l->term[i].store == store && (l->term[i].def->reads & reads) != 0) {
            return true;
        }
    }
    return false;
}

const char *kd_loss_coupled(const kd_loss *l)
{
    for (int i = 0; i < l->n; i++) {
        if (l->term[i].def->coupled > 0) {
            return l->term[i].def->name;
        }
    }
    return NULL;
}

bool kd_term_is_scheduled(const kd_term *t)
{
    return t->shape != KD_WEIGHT_CONSTANT || t->warmup_epochs > 0.0 || t->stop_epoch > 0.0;
}

double kd_term_weight(const kd_term *t, double epoch, double epochs)
{
    const double share = KD_MIN(epoch / epochs, 1.0);
    double w = t->weight;
    if (t->stop_epoch > 0.0 && epoch >= t->stop_epoch) {
        return 0.0;
    }
    if (t->warmup_epochs > 0.0 && epoch < t->warmup_epochs) {
        w *= epoch / t->warmup_epochs;
    }
    switch (t->shape) {
    case KD_WEIGHT_LINEAR:
        return w * (1.0 - share);
    case KD_WEIGHT_COSINE:
        return w * 0.5 * (1.0 + cos(3.14159265358979323846 * share));
    case KD_WEIGHT_CONSTANT:
    default:
        return w;
    }
}

void kd_loss_text(const kd_loss *l, char *out, size_t size)
{
    size_t at = 0;
    out[0] = '\0';
    for (int i = 0; i < l->n && at < size; i++) {
        const kd_term *t = &l->term[i];
        at += (size_t)snprintf(out + at, size - at, "%s%g %s", i != 0 ? " + " : "", t->weight, t->def->text);
        if (l->stores > 1 && at < size && (t->def->reads & KD_READS_STORE) != 0) {
            at += t->store == KD_STORES_JOINED ? (size_t)snprintf(out + at, size - at, " (stores combined)")
                                               : (size_t)snprintf(out + at, size - at, " (store %d)", t->store + 1);
        }
        if (l->peers > 1 && at < size && (t->def->reads & KD_READS_PEERS) != 0) {
            at += (size_t)snprintf(out + at, size - at, " (peer %d)", t->store + 1);
        }
        if (t->def->temperature >= 0 && at < size) {
            at += (size_t)snprintf(out + at, size - at, " at T = %g", t->param[t->def->temperature]);
        }
        if (kd_term_is_scheduled(t) && at < size) {
            at += (size_t)snprintf(out + at, size - at, " (weight by schedule)");
        }
    }
}

/* ---- the graph ------------------------------------------------------------------------------- */

/* What the loss is computed in: f32, f64 in tests. */
static kd_dtype stat_of(const kd_graph *g)
{
    return kd_stat_dtype(kd_graph_dtype(g));
}

static kd_shape batched(int64_t rows, const kd_shape *item)
{
    kd_shape s = {item->rank + 1, {rows}};
    for (int i = 0; i < item->rank; i++) {
        s.dim[i + 1] = item->dim[i];
    }
    return s;
}

/* A row a sample of the batch: fed under `name`, or taken out of `table` on the device. */
static kd_val rows(kd_graph *g, const kd_loss_batch *b, const char *name, const char *table_name, int store,
                   kd_shape item)
{
    char text[KD_TERM_NAME];
    kd_loss_name(b->sample.id == 0 ? name : table_name, store, text);
    if (b->sample.id == 0) {
        return kd_input(g, text, stat_of(g), batched(b->batch, &item));
    }
    return kd_node2(g, KD_OP_TAKE_ROWS, NULL, kd_input(g, text, stat_of(g), batched(b->kept, &item)), b->sample);
}

/* The inputs of one store. */
typedef struct store_inputs {
    kd_val valid, logits, feature;
} store_inputs;

static store_inputs open_store(kd_graph *g, const kd_loss *l, const kd_loss_batch *b, int store)
{
    store_inputs in = {KD_NONE, KD_NONE, KD_NONE};
    if (kd_loss_reads(l, store, KD_READS_STORE)) {
        in.valid = rows(g, b, "teacher_valid", "teacher_has", store, kd_shape0());
    }
    if (kd_loss_reads(l, store, KD_READS_LOGITS) && !kd_loss_fed(l)) {
        in.logits = rows(g, b, "teacher", "teacher_table", store, kd_shape1(b->classes));
    }
    return in;
}

/* Cross-entropy and the KL term that follows come from one op. */
static bool is_pair(const kd_loss *l, int i)
{
    return i + 1 < l->n && l->term[i].def == &kd_term_ce && l->term[i + 1].def == &kd_term_kl;
}

static void read_store(kd_graph *g, const kd_loss *l, const kd_loss_batch *b, const kd_term *t, store_inputs *s,
                       kd_term_inputs *in)
{
    in->teacher_valid = s->valid;
    if ((t->def->reads & KD_READS_LABELS) != 0) {
        in->taught_valid = kd_mul(g, s->valid, in->valid);
    }
    if ((t->def->reads & KD_READS_LOGITS) != 0) {
        const kd_shape fed = kd_shape2(b->batch, b->classes);
        in->teacher = kd_loss_fed(l) ? kd_input(g, t->input, stat_of(g), fed) : s->logits;
    }
    if ((t->def->reads & KD_READS_FEATURES) != 0) {
        if (s->feature.id == 0) {
            s->feature = rows(g, b, "teacher_feature", "feature_table", t->store, kd_shape1(l->feature_dim[t->store]));
        }
        in->teacher_feature = s->feature;
    }
}

/* sum_i w[i] term[i]; the op takes a few terms at a time. */
static kd_val weighted(kd_graph *g, const kd_val *term, const float *w, int n)
{
    enum { AT_ONCE = 6 };
    kd_val sum = kd_weighted_sum(g, term, w, KD_MIN(n, AT_ONCE));
    for (int i = AT_ONCE; i < n; i += AT_ONCE - 1) {
        const int more = KD_MIN(n - i, AT_ONCE - 1);
        kd_val part[AT_ONCE] = {sum};
        float weight[AT_ONCE] = {1.0f};
        for (int k = 0; k < more; k++) {
            part[k + 1] = term[i + k];
            weight[k + 1] = w[i + k];
        }
        sum = kd_weighted_sum(g, part, weight, more + 1);
    }
    return sum;
}

static void build_terms(kd_graph *g, const kd_loss *l, const kd_loss_batch *b, kd_val *term, float *w)
{
    store_inputs store[KD_STORES_MAX], joined = {KD_NONE, KD_NONE, KD_NONE};
    kd_term_inputs in = {.loss = l, .logits = b->logits, .features = b->features, .latent = b->latent};
    kd_val peer_valid = KD_NONE;
    in.target = kd_input(g, "target", stat_of(g), batched(b->batch, &b->target));
    in.valid = kd_input(g, "valid", stat_of(g), kd_shape1(b->batch));
    for (int s = 0; s < KD_MAX(l->stores, 1); s++) {
        store[s] = open_store(g, l, b, s);
    }
    if (kd_loss_reads(l, KD_STORES_JOINED, KD_READS_LOGITS)) {
        joined.valid = kd_input(g, "joined_valid", stat_of(g), kd_shape1(b->batch));
    }
    for (int i = 0; i < l->n; i++) {
        const kd_term *t = &l->term[i];
        const bool pair = is_pair(l, i);
        in.beside = pair ? &term[i + 1] : NULL;
        if (i == 0 || !is_pair(l, i - 1)) {
            const kd_term *reader = pair ? t + 1 : t;
            if ((reader->def->reads & KD_READS_STORE) != 0) {
                read_store(g, l, b, reader, reader->store < 0 ? &joined : &store[reader->store], &in);
            }
            if ((reader->def->reads & KD_READS_AVERAGE) != 0) {
                in.teacher = kd_input(g, reader->input, stat_of(g), kd_shape2(b->batch, b->classes));
                in.teacher_valid = kd_input(g, "averaged_valid", stat_of(g), kd_shape1(b->batch));
            }
            if ((reader->def->reads & KD_READS_PEERS) != 0) {
                peer_valid =
                    peer_valid.id == 0 ? kd_input(g, "peer_valid", stat_of(g), kd_shape1(b->batch)) : peer_valid;
                in.teacher = kd_input(g, reader->input, stat_of(g), kd_shape2(b->batch, b->classes));
                in.teacher_valid = peer_valid;
            }
            if ((reader->def->reads & KD_READS_CLASSES) != 0) {
                in.embed = kd_input(g, "class_embed", stat_of(g), kd_shape2(b->classes, l->embed_dim));
                in.embed_target = kd_input(g, "embed_target", stat_of(g), kd_shape2(b->batch, b->classes));
                in.embed_valid = kd_input(g, "embed_valid", stat_of(g), kd_shape1(b->batch));
            }
            term[i] = t->def->build(g, &in, t);
        }
        kd_output(g, t->log, term[i]);
        w[i] = (float)t->weight;
    }
}

/* Terms whose weight changes are multiplied by an input and enter the sum with weight 1. */
static void schedule(kd_graph *g, const kd_loss *l, kd_val *term, float *w)
{
    char name[64];
    for (int i = 0; i < l->n; i++) {
        if (kd_term_is_scheduled(&l->term[i])) {
            (void)snprintf(name, sizeof name, "weight_%s", l->term[i].log);
            term[i] = kd_mul(g, term[i], kd_input(g, name, stat_of(g), kd_shape0()));
            w[i] = 1.0f;
        }
    }
}

kd_val kd_loss_build(kd_graph *g, const kd_loss *l, const kd_loss_batch *b)
{
    kd_val *term = kd_calloc((size_t)l->n, sizeof *term);
    float *w = kd_calloc((size_t)l->n, sizeof *w);
    kd_val loss = KD_NONE;
    if (term == NULL || w == NULL) {
        kd_graph_fail(g, KD_E_OOM, "loss: out of memory for %d terms", l->n);
    } else {
        build_terms(g, l, b, term, w);
        schedule(g, l, term, w);
        loss = weighted(g, term, w, l->n);
        kd_output(g, "loss", loss);
    }
    kd_free(term);
    kd_free(w);
    return loss;
}
