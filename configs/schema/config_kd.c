/* What a loss may say: its terms and stores; students that learn from each other, and the recipe of each of them. */
#include "configs/schema/config_table.h"
#include "formats/base/io.h"
#include "student/model/student.h"

#include <stddef.h>
#include <stdio.h>

/* A student without stores is its own baseline, whose recipe may keep the keys; a teacher's says nothing by them. */
static kd_status idle_kd(const kd_config *c, kd_err *err)
{
    if (c->kind != KD_KIND_TEACHER || c->kd.store.n > 0) {
        return KD_OK;
    }
    kd_config *plain = kd_alloc(sizeof *plain);
    if (plain == NULL) {
        return KD_FAIL(err, KD_E_OOM, "config: out of memory");
    }
    kd_config_defaults(plain);
    plain->kd.ce_weight = 1.0 - plain->kd.weight;
    const bool idle = memcmp(&plain->kd, &c->kd, sizeof c->kd) != 0;
    kd_free(plain);
    return idle ? KD_FAIL(err, KD_E_CONFIG,
                          "kd: these keys do nothing in a teacher recipe without kd.store "
                          "(--teacher-logits); remove them")
                : KD_OK;
}

/* The options of the loss, term by term: key and place; a row without a size begins the term of its name. */
static const struct {
    const char *key;
    size_t at, size;
} kd_term_keys[] = {
#define KD_TERM_KEY(field, ...) {#field, offsetof(kd_loss_opts, field), sizeof(((kd_loss_opts *)NULL)->field)},
#define REAL(...)               KD_TERM_KEY(__VA_ARGS__)
#define INT(...)                KD_TERM_KEY(__VA_ARGS__)
#define ENUM(...)               KD_TERM_KEY(__VA_ARGS__)
#define KD_TERM(name, ...)      {#name, 0, 0},
#define KD_TERM_SCHEDULE(prefix, what) \
    KD_TERM_KEY(prefix##schedule, ) KD_TERM_KEY(prefix##warmup_epochs, ) KD_TERM_KEY(prefix##stop_epoch, )
#include "distill/kd/terms.inc"
#undef KD_TERM_KEY
#undef REAL
#undef INT
#undef ENUM
#undef KD_TERM
#undef KD_TERM_SCHEDULE
};

/* A term with a weight of its own, <term>_weight, that is 0: its other keys do nothing. */
static kd_status idle_terms(const kd_loss_opts *k, const kd_loss_opts *plain, kd_err *err)
{
    const char *term = "";
    bool off = false;
    for (size_t i = 0; i < KD_COUNTOF(kd_term_keys); i++) {
        const size_t at = kd_term_keys[i].at, n = kd_term_keys[i].size;
        char weight[KD_CFG_NAME];
        if (n == 0) {
            term = kd_term_keys[i].key;
            off = false;
            continue;
        }
        (void)snprintf(weight, sizeof weight, "%s_weight", term);
        if (strcmp(kd_term_keys[i].key, weight) == 0) {
            double w = 0.0;
            memcpy(&w, (const char *)k + at, sizeof w);
            off = w == 0.0;
        } else if (off && memcmp((const char *)k + at, (const char *)plain + at, n) != 0) {
            return KD_FAIL(err, KD_E_CONFIG, "kd.%s: does nothing with kd.%s 0; expected kd.%s above 0, or remove it",
                           kd_term_keys[i].key, weight, weight);
        }
    }
    return KD_OK;
}

/* The term on features is on where kd.feature names a distance and kd.feature_weight is above 0. */
static kd_status idle_feature(const kd_loss_opts *k, const kd_loss_opts *plain, kd_err *err)
{
    static const char PREFIX[] = "feature_", WEIGHT[] = "feature_weight";
    const bool none = k->feature == KD_FEATURE_MATCH_NONE, off = k->feature_weight == 0.0;
    for (size_t i = 0; i < KD_COUNTOF(kd_term_keys) && (none || off); i++) {
        const char *key = kd_term_keys[i].key;
        const size_t at = kd_term_keys[i].at, n = kd_term_keys[i].size;
        if (n == 0 || strncmp(key, PREFIX, strlen(PREFIX)) != 0 || (off && strcmp(key, WEIGHT) == 0)) {
            continue;
        }
        if (memcmp((const char *)k + at, (const char *)plain + at, n) != 0) {
            return KD_FAIL(err, KD_E_CONFIG, "kd.%s: does nothing with kd.%s; expected %s, or remove it", key,
                           none ? "feature none" : "feature_weight 0", none ? "mse or cosine" : "a weight above 0");
        }
    }
    return KD_OK;
}

/* Schedules that the run is too short for, as in a short trial of a long recipe. */
static void warn_of_schedules(const kd_loss_opts *k, int epochs)
{
    for (size_t i = 0; i < KD_COUNTOF(kd_term_keys); i++) {
        const char *key = kd_term_keys[i].key;
        const bool warmup = kd_path_has_suffix(key, "warmup_epochs"), stop = kd_path_has_suffix(key, "stop_epoch");
        double v = 0.0;
        if (kd_term_keys[i].size != sizeof v || !(warmup || stop)) {
            continue;
        }
        memcpy(&v, (const char *)k + kd_term_keys[i].at, sizeof v);
        if (warmup && v > (double)epochs) {
            kd_log(KD_LOG_WARN, "kd.%s: %g is more than train.epochs; the weight ends at %.3g of its value", key, v,
                   (double)epochs / v);
        } else if (stop && v >= (double)epochs) {
            kd_log(KD_LOG_WARN, "kd.%s: %g is not before the end of train.epochs, %d; the term never stops", key, v,
                   epochs);
        }
    }
}

static kd_status check_terms(const kd_config *c, kd_err *err)
{
    const bool mixed = c->mixup.alpha > 0.0 || c->mixup.cutmix_alpha > 0.0;
    const bool one = mixed || c->kd.combine != KD_COMBINE_EACH;
    if (one && c->kd.nkd_weight > 0.0 && c->kd.nkd_temperature != 1.0) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "kd.nkd_temperature: expected 1 where batches are mixed (mixup.alpha, mixup.cutmix_alpha) or "
                       "stores combined (kd.combine), since such probabilities have one temperature, found %g",
                       c->kd.nkd_temperature);
    }
    kd_config *plain = kd_alloc(sizeof *plain);
    if (plain == NULL) {
        return KD_FAIL(err, KD_E_OOM, "config: out of memory");
    }
    kd_config_defaults(plain);
    kd_status st = idle_terms(&c->kd, &plain->kd, err);
    st = st == KD_OK ? idle_feature(&c->kd, &plain->kd, err) : st;
    kd_free(plain);
    return st;
}

/* Several stores: weights one a store, and one teacher of them where there is something to combine. */
static kd_status check_combine(const kd_loss_opts *k, kd_err *err)
{
    char name[KD_CFG_NAME];
    for (int i = 0; i < k->store_weights.n; i++) {
        if (k->store_weights.v[i] <= 0.0) {
            return KD_FAIL(err, KD_E_CONFIG,
                           "kd.store_weights: expected numbers above 0, found 0 at place %d; leave that store out", i);
        }
    }
    if (k->store.n > 0 && k->store_weights.n > 0 && k->store_weights.n != k->store.n) {
        return KD_FAIL(err, KD_E_CONFIG, "kd.store_weights: expected %d numbers, one a store, found %d", k->store.n,
                       k->store_weights.n);
    }
    if (k->combine == KD_COMBINE_EACH) {
        return KD_OK;
    }
    (void)kd_config_enum_name("kd.combine", (int)k->combine, name);
    if (k->store.n == 1) {
        return KD_FAIL(err, KD_E_CONFIG, "kd.combine: %s, but kd.store has one store; remove it", name);
    }
    if (!kd_loss_wants(k, KD_READS_LOGITS) && k->pseudo <= 0.0) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "kd.combine: %s, but no term reads logits, and features are never combined; remove it", name);
    }
    return KD_OK;
}

kd_status kd_cfg_finish_kd(kd_config *c, kd_err *err)
{
    kd_loss_opts *k = &c->kd;
    if (k->ce_weight < 0.0) {
        if (k->weight > 1.0) {
            return KD_FAIL(err, KD_E_CONFIG, "kd.weight: above 1 (%g) needs kd.ce_weight, since 1 - weight is negative",
                           k->weight);
        }
        k->ce_weight = 1.0 - k->weight;
    }
    KD_TRY(check_terms(c, err));
    warn_of_schedules(k, c->train.epochs);
    KD_TRY(check_combine(k, err));
    if ((k->class_embed_weight > 0.0) != (k->class_embed[0] != '\0')) {
        return KD_FAIL(err, KD_E_CONFIG, "kd.class_embed%s",
                       k->class_embed_weight > 0.0
                           ? ": kd.class_embed_weight is above 0; expected the file of the embeddings, found none"
                           : ": does nothing with kd.class_embed_weight 0; expected it above 0, or remove the file");
    }
    if (k->self_weight > 0.0 && c->optim.ema_decay <= 0.0) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "kd.self_weight: %g, but the model has no running average; set optim.ema_decay above 0",
                       k->self_weight);
    }
    if (k->feature_tap[0] != '\0' && !kd_loss_wants(k, KD_READS_FEATURES)) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "kd.feature_tap: only with kd.feature mse or cosine and kd.feature_weight above 0, or another "
                       "term that reads features, found %s; remove it",
                       k->feature_tap);
    }
    if (k->pseudo > 0.0 && c->kind == KD_KIND_TEACHER && c->video.flip_labels.n > 0) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "kd.pseudo: the teachers' class of a clip is not that of its mirror image; remove it or "
                       "video.flip_labels");
    }
    return idle_kd(c, err);
}

/* ---- students that learn from each other ------------------------------------------------------ */

/* Keys that belong to an architecture of the item's own. */
static kd_status check_peer(const kd_cfg_peer *p, int i, kd_err *err)
{
    if (p->student[0] != '\0' && kd_student_find(p->student) == NULL) {
        return KD_FAIL(err, KD_E_CONFIG, "mutual[%d].student: expected a name as of student.name, found %s", i,
                       p->student);
    }
    const char *idle = p->dropout != -1.0                          ? "dropout"
                       : p->drop_path != -1.0                      ? "drop_path"
                       : strcmp(p->stream, kd_stream_name(0)) != 0 ? "stream"
                       : p->fix[0] != '\0'                         ? "fix"
                                                                   : NULL;
    return p->student[0] != '\0' || idle == NULL
               ? KD_OK
               : KD_FAIL(err, KD_E_CONFIG,
                         "mutual[%d].%s: one more of the recipe's own student has the keys of section student; name "
                         "another in mutual[%d].student, or remove it",
                         i, idle, i);
}

/* Keys of the term, and keys that a group of students cannot obey. */
static kd_status check_group(const kd_config *c, kd_err *err)
{
    if (c->kd.mutual_weight == 0.0) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "kd.mutual_weight: 0, so that no student of mutual learns from another; expected it above 0, or "
                       "remove mutual");
    }
    if (c->phases.n > 0) {
        return KD_FAIL(err, KD_E_CONFIG, "mutual: students that learn from each other have one phase; remove phases");
    }
    if (c->student.weights[0] != '\0') {
        return KD_FAIL(err, KD_E_CONFIG,
                       "student.weights: all students of mutual begin with drawn weights; remove it, found %s",
                       c->student.weights);
    }
    if (c->train.patience > 0) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "train.patience: %d, but students of mutual train as long as each other; set it to 0",
                       c->train.patience);
    }
    return KD_OK;
}

kd_status kd_cfg_finish_mutual(kd_config *c, kd_err *err)
{
    for (int i = 0; i < c->mutual.n; i++) {
        KD_TRY(check_peer(&c->mutual.v[i], i, err));
    }
    if (c->mutual.n > 0) {
        return check_group(c, err);
    }
    const kd_loss_opts *k = &c->kd;
    const char *idle = k->mutual_weight > 0.0                     ? "weight"
                       : k->mutual_temperature != 1.0             ? "temperature"
                       : k->mutual_schedule != KD_WEIGHT_CONSTANT ? "schedule"
                       : k->mutual_warmup_epochs > 0.0            ? "warmup_epochs"
                       : k->mutual_stop_epoch > 0.0               ? "stop_epoch"
                                                                  : NULL;
    return idle == NULL
               ? KD_OK
               : KD_FAIL(err, KD_E_CONFIG,
                         "kd.mutual_%s: there is no other student to learn from; name one in mutual, or remove "
                         "it",
                         idle);
}

/* ---- the recipe of one ----------------------------------------------------------------------- */

static int64_t seed_of(const kd_config *recipe, int i)
{
    const int64_t own = recipe->mutual.v[i].init_seed;
    return own >= 0 ? own : (int64_t)kd_config_init_seed(recipe) + 1000 * (int64_t)(i + 1);
}

/* The recipe's own student as an item of the list. */
static kd_cfg_peer own_item(const kd_config *c)
{
    kd_cfg_peer p;
    memset(&p, 0, sizeof p); /* equal recipes are equal bytes */
    (void)snprintf(p.student, sizeof p.student, "%s", c->student.name);
    (void)snprintf(p.stream, sizeof p.stream, "%s", c->student.stream);
    (void)snprintf(p.fix, sizeof p.fix, "%s", c->student.fix);
    p.dropout = c->student.dropout;
    p.drop_path = c->student.drop_path;
    p.base_lr = c->optim.base_lr;
    p.init_seed = (int64_t)kd_config_init_seed(c);
    return p;
}

static void take(const kd_config *recipe, int i, kd_config *c)
{
    const kd_cfg_peer *p = &recipe->mutual.v[i];
    if (p->student[0] != '\0') {
        (void)snprintf(c->student.name, sizeof c->student.name, "%s", p->student);
        (void)snprintf(c->student.stream, sizeof c->student.stream, "%s", p->stream);
        (void)snprintf(c->student.fix, sizeof c->student.fix, "%s", p->fix);
        c->student.dropout = p->dropout;
        c->student.drop_path = p->drop_path;
    }
    c->optim.base_lr = p->base_lr > 0.0 ? p->base_lr : recipe->optim.base_lr;
    c->train.init_seed = seed_of(recipe, i);
}

kd_status kd_config_peer(const kd_config *recipe, int i, kd_config *out, kd_err *err)
{
    *out = *recipe;
    KD_ASSERT(i >= 0 && i < recipe->mutual.n);
    take(recipe, i, out);
    out->mutual.v[0] = own_item(recipe);
    for (int k = 0, at = 1; k < recipe->mutual.n; k++) {
        if (k != i) {
            kd_config *other = kd_alloc(sizeof *other);
            if (other == NULL) {
                return KD_FAIL(err, KD_E_OOM, "config: out of memory");
            }
            *other = *recipe;
            take(recipe, k, other);
            out->mutual.v[at++] = own_item(other);
            kd_free(other);
        }
    }
    const kd_status st = kd_config_finish(out, err);
    return st == KD_OK ? st : kd_err_prefix(err, st, "student %d of mutual", i);
}
