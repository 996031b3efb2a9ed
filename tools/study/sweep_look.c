/* What of a study is done: see sweep.h. */
#include "distill/report/report.h"
#include "formats/base/hash.h"
#include "formats/base/io.h"
#include "tools/study/sweep.h"

#include <stdio.h>

char *kd_sweep_path(const kd_sweep *s, const char *folder, const char *path, const char *ending)
{
    return kd_strf("%s/%s/%s%s", s->out, folder, path, ending);
}

/* Hashes of stores, which many runs share. */
typedef struct store_hash {
    char path[KD_CFG_PATH], hex[KD_SHA256_HEX];
} store_hash;

typedef struct looker {
    kd_config *want, *have;
    store_hash *store;
    size_t n_stores;
} looker;

static kd_status hash_of(looker *l, const char *path, const char **hex, kd_err *err)
{
    for (size_t i = 0; i < l->n_stores; i++) {
        if (strcmp(l->store[i].path, path) == 0) {
            *hex = l->store[i].hex;
            return KD_OK;
        }
    }
    store_hash *more = kd_realloc(l->store, l->n_stores * sizeof *more, (l->n_stores + 1) * sizeof *more);
    if (more == NULL) {
        return KD_FAIL(err, KD_E_OOM, "sweep: out of memory");
    }
    l->store = more;
    store_hash *s = &l->store[l->n_stores];
    (void)snprintf(s->path, sizeof s->path, "%s", path);
    KD_TRY(kd_sha256_file(path, s->hex, err));
    l->n_stores++;
    *hex = s->hex;
    return KD_OK;
}

/* Were the report's stores those that the recipe names? */
static kd_status same_stores(looker *l, const char *reported, bool *same, kd_err *err)
{
    const char *at = reported != NULL ? reported : "";
    *same = true;
    for (int i = 0; i < l->want->kd.store.n && *same; i++) {
        const char *hex = NULL;
        KD_TRY(hash_of(l, l->want->kd.store.v[i], &hex, err));
        *same = strncmp(at, hex, KD_SHA256_HEX - 1) == 0;
        at += *same ? KD_SHA256_HEX - 1 : 0;
        at += *at == ',';
    }
    *same = *same && *at == '\0';
    return KD_OK;
}

/* The run has a report: is it of this recipe? */
static kd_status look_at_report(looker *l, kd_sweep_run *r, const char *path, kd_err *err)
{
    kd_report rep;
    bool same = false;
    kd_status st = kd_report_read(path, &rep, err);
    if (st != KD_OK) {
        return st;
    }
    r->state = KD_SWEEP_OTHER;
    (void)snprintf(r->why, sizeof r->why, "its report holds no recipe");
    if (rep.config != NULL) {
        KD_GO(kd_config_parse(rep.config, strlen(rep.config), path, NULL, 0, l->have, err));
        same = !kd_config_diff(l->have, l->want, r->why, sizeof r->why);
    }
    if (same) {
        KD_GO(same_stores(l, rep.store_hash, &same, err));
        (void)snprintf(r->why, sizeof r->why, "%s", same ? "" : "its teacher's store was another one");
    }
    r->state = same ? KD_SWEEP_DONE : KD_SWEEP_OTHER;
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

kd_status kd_sweep_look(kd_sweep *s, kd_err *err)
{
    looker l = {.want = kd_calloc(1, sizeof *l.want), .have = kd_calloc(1, sizeof *l.have)};
    kd_status st = KD_OK;
    s->n = kd_plan_runs(s->plan);
    s->run = kd_calloc((size_t)s->n, sizeof *s->run);
    if (l.want == NULL || l.have == NULL || s->run == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "sweep: out of memory");
        goto done;
    }
    const kd_log_level level = kd_log_get_level();
    kd_log_set_level(KD_LOG_ERROR); /* every run says for itself what its recipe warns of */
    for (int i = 0; i < s->n && st == KD_OK; i++) {
        kd_sweep_run *r = &s->run[i];
        r->at = kd_plan_at(s->plan, i);
        r->path = kd_plan_path(s->plan, r->at);
        st = r->path != NULL ? look_at(s, &l, r, err) : KD_FAIL(err, KD_E_OOM, "sweep: out of memory");
        s->done += r->state == KD_SWEEP_DONE;
    }
    kd_log_set_level(level);
    KD_GO(st);
    for (int i = 0; i < s->n && !s->force; i++) {
        if (s->run[i].state == KD_SWEEP_OTHER) {
            st = KD_FAIL(err, KD_E_CONFIG,
                         "%s/runs/%s: expected a run of the plan's recipe, found another: %s; --force trains such runs "
                         "anew, or choose another --out",
                         s->out, s->run[i].path, s->run[i].why);
            goto done;
        }
    }
    st = read_times(s, err);
done:
    kd_free(l.want);
    kd_free(l.have);
    kd_free(l.store);
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
