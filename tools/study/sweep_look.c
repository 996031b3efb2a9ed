/* What of a study is done: see sweep.h. */
#include "distill/report/report.h"
#include "formats/base/io.h"
#include "tools/study/sweep.h"

#include <stdio.h>

char *kd_sweep_path(const kd_sweep *s, const char *folder, const char *path, const char *ending)
{
    return kd_strf("%s/%s/%s%s", s->out, folder, path, ending);
}

typedef struct looker {
    const kd_common *c;
    kd_config *want, *have;
    kd_config *tried; /* the recipe that was tried last, without name and seed */
    bool has_tried;
    kd_train_result result; /* of trying it */
    kd_identity *fold;      /* [folds] what the first run of a fold is made of */
    const char **fold_run;  /* [folds] its path; NULL: none was tried */
} looker;

/* The run's recipe as far as its set-up goes: another seed is no reason to try it again. */
static kd_status try_recipe(const kd_sweep *s, looker *l, const kd_sweep_run *r, kd_err *err)
{
    kd_config *bare = l->have;
    *bare = *l->want;
    bare->train.seed = 0;
    memset(bare->name, 0, sizeof bare->name);
    if (l->has_tried && memcmp(bare, l->tried, sizeof *bare) == 0) {
        return KD_OK;
    }
    *l->tried = *bare;
    l->has_tried = true;
    const kd_status st = kd_sweep_try(l->c, l->want, false, &l->result, err);
    return st == KD_OK ? st : kd_err_prefix(err, st, "%s: %s", s->plan->path, r->path);
}

/* One table has answers about one half alone. */
static kd_status same_table(const kd_sweep *s, looker *l, const kd_sweep_run *r, kd_err *err)
{
    const kd_identity *now = &l->result.origin, *first = &l->fold[r->at.fold];
    if (l->fold_run[r->at.fold] == NULL) {
        l->fold[r->at.fold] = *now;
        l->fold_run[r->at.fold] = r->path;
        return KD_OK;
    }
    const struct {
        const char *what, *first, *now;
    } part[] = {
        {"data set", first->data_set, now->data_set},
        {"data.split", first->split, now->split},
        {"hash of the class names", first->classes, now->classes},
        {"hash of the validation half", first->half[KD_HALF_VAL].ids, now->half[KD_HALF_VAL].ids},
    };
    for (size_t i = 0; i < KD_COUNTOF(part); i++) {
        if (strcmp(part[i].first, part[i].now) != 0) {
            char x[KD_SHOWN_PAIR], y[KD_SHOWN_PAIR];
            kd_show_pair(x, y, part[i].first, part[i].now);
            return KD_FAIL(err, KD_E_DATA,
                           "%s: one table needs one validation half: %s is '%s' in %s, '%s' in %s; use a plan for each",
                           s->plan->path, part[i].what, x, l->fold_run[r->at.fold], y, r->path);
        }
    }
    return KD_OK;
}

/* Is what a report's run was made of what the recipe names today?  `why` says what is not. */
static kd_status same_origin(const looker *l, const kd_report *rep, char *why, size_t size, kd_err *err)
{
    const kd_identity *o = &l->result.origin;
    char store[KD_IDENTITY_ROW], teacher[KD_IDENTITY_ROW], recipe[KD_CFG_HASH];
    kd_identity_stores(o, store, teacher);
    KD_TRY(kd_identity_recipe(o, l->want, recipe, err));
    const bool by_recipe = o->class_embed[0] != '\0'; /* the recipe's hash covers the embeddings' file */
    const struct {
        const char *what, *then, *now;
    } part[] = {
        {"its teacher's store was another one", rep->store_hash, store},
        {"its training half had other samples or labels", rep->train_ids_hash, o->half[KD_HALF_TRAIN].ids},
        {"its validation half had other samples or labels", rep->val_ids_hash, o->half[KD_HALF_VAL].ids},
        {"it started from other weights", rep->start_weights_hash, o->weights},
        {"the file of kd.class_embed was another one", by_recipe ? rep->config_hash : "", by_recipe ? recipe : ""},
    };
    for (size_t i = 0; i < KD_COUNTOF(part) && why[0] == '\0'; i++) {
        if (strcmp(part[i].then != NULL ? part[i].then : "", part[i].now) != 0) {
            (void)snprintf(why, size, "%s", part[i].what);
        }
    }
    return KD_OK;
}

/* The run has a report: is it of this recipe? */
static kd_status look_at_report(looker *l, kd_sweep_run *r, const char *path, kd_err *err)
{
    kd_report rep;
    kd_status st = kd_report_read(path, &rep, err);
    if (st != KD_OK) {
        return st;
    }
    if (rep.config == NULL) {
        (void)snprintf(r->why, sizeof r->why, "its report holds no recipe");
    } else {
        KD_GO(kd_config_parse(rep.config, strlen(rep.config), path, NULL, 0, l->have, err));
        if (!kd_config_diff(l->have, l->want, r->why, sizeof r->why)) {
            KD_GO(same_origin(l, &rep, r->why, sizeof r->why, err));
        }
    }
    r->state = r->why[0] == '\0' ? KD_SWEEP_DONE : KD_SWEEP_OTHER;
done:
    kd_report_free(&rep);
    return st;
}

static kd_status look_at(const kd_sweep *s, looker *l, kd_sweep_run *r, kd_err *err)
{
    char *report = kd_sweep_path(s, "runs", r->path, "/report.json");
    char *config = kd_sweep_path(s, "runs", r->path, "/config.yaml");
    kd_status st = report != NULL && config != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "sweep: out of memory");
    KD_GO(st);
    KD_GO(kd_plan_recipe(s->plan, r->at, l->want, err));
    KD_GO(try_recipe(s, l, r, err));
    KD_GO(same_table(s, l, r, err));
    if (kd_path_is_file(report)) {
        st = look_at_report(l, r, report, err);
    } else if (kd_path_is_file(config)) {
        KD_GO(kd_config_load(&(const char *){config}, 1, NULL, 0, l->have, err));
        r->state = kd_config_diff(l->have, l->want, r->why, sizeof r->why) ? KD_SWEEP_OTHER : KD_SWEEP_OPEN;
    }
done:
    kd_free(report);
    kd_free(config);
    return st;
}

/* Processor times that earlier commands have noted. */
static kd_status read_times(kd_sweep *s, kd_err *err)
{
    char *path = kd_strf("%s/times.jsonl", s->out);
    uint8_t *text = NULL;
    size_t len = 0;
    kd_status st = path != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "sweep: out of memory");
    if (st == KD_OK && kd_path_is_file(path)) {
        st = kd_io_read_file(path, (size_t)1 << 26, &text, &len, err);
    }
    char *save = NULL;
    for (char *line = text != NULL ? strtok_r((char *)text, "\n", &save) : NULL; line != NULL && st == KD_OK;
         line = strtok_r(NULL, "\n", &save)) {
        kd_json *doc = NULL;
        const char *name = NULL;
        double cpu = 0.0;
        if (kd_json_parse(line, strlen(line), path, &doc, NULL) == KD_OK && /* a kill may have cut the last line */
            kd_json_get_str(doc, "run", &name, NULL) == KD_OK &&
            kd_json_get_f64(doc, "processor_seconds", &cpu, NULL) == KD_OK) {
            for (int i = 0; i < s->n; i++) {
                s->run[i].cpu += strcmp(s->run[i].path, name) == 0 ? cpu : 0.0;
            }
        }
        kd_json_free(doc);
    }
    kd_free(text);
    kd_free(path);
    return st;
}

/* Runs of other recipes are replaced only where the user says so. */
static kd_status refuse_others(const kd_sweep *s, kd_err *err)
{
    for (int i = 0; i < s->n && !s->force; i++) {
        if (s->run[i].state == KD_SWEEP_OTHER) {
            return KD_FAIL(err, KD_E_CONFIG,
                           "%s/runs/%s: expected a run of the plan's recipe, found another: %s; --force trains such "
                           "runs anew, or choose another --out",
                           s->out, s->run[i].path, s->run[i].why);
        }
    }
    return KD_OK;
}

/* Seeds run fastest, so that runs which are tried once stand together. */
static kd_status look_at_all(kd_sweep *s, looker *l, kd_err *err)
{
    const int seeds = s->plan->n_seeds, groups = s->n / seeds;
    for (int i = 0; i < s->n; i++) {
        kd_sweep_run *r = &s->run[i % seeds * groups + i / seeds];
        KD_TRY(look_at(s, l, r, err));
        s->done += r->state == KD_SWEEP_DONE;
    }
    return KD_OK;
}

kd_status kd_sweep_look(kd_sweep *s, const kd_common *c, kd_err *err)
{
    looker *l = kd_calloc(1, sizeof *l);
    kd_config *cfg = kd_calloc(3, sizeof *cfg);
    kd_status st = KD_OK;
    s->n = kd_plan_runs(s->plan);
    s->run = kd_calloc((size_t)s->n, sizeof *s->run);
    const size_t folds = (size_t)KD_MAX(s->plan->fold.n, 1);
    kd_identity *fold = kd_calloc(folds, sizeof *fold);
    const char **fold_run = kd_calloc(folds, sizeof *fold_run);
    if (l == NULL || cfg == NULL || s->run == NULL || fold == NULL || fold_run == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "sweep: out of memory");
        goto done;
    }
    *l = (looker){.c = c, .want = &cfg[0], .have = &cfg[1], .tried = &cfg[2], .fold = fold, .fold_run = fold_run};
    for (int i = 0; i < s->n; i++) {
        s->run[i].at = kd_plan_at(s->plan, i);
        s->run[i].path = kd_plan_path(s->plan, s->run[i].at);
        if (s->run[i].path == NULL) {
            st = KD_FAIL(err, KD_E_OOM, "sweep: out of memory");
            goto done;
        }
    }
    const kd_log_level level = kd_log_get_level();
    kd_log_set_level(KD_LOG_ERROR); /* every run says for itself what its recipe warns of */
    st = look_at_all(s, l, err);
    kd_log_set_level(level);
    KD_GO(st);
    KD_GO(refuse_others(s, err));
    st = read_times(s, err);
done:
    kd_free(l);
    kd_free(cfg);
    kd_free(fold);
    kd_free((void *)fold_run);
    return st;
}

void kd_sweep_close(kd_sweep *s)
{
    for (int i = 0; s->run != NULL && i < s->n; i++) {
        kd_free(s->run[i].path);
    }
    kd_free(s->run);
    s->run = NULL;
}
