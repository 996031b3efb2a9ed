/* Run directory: see run.h. */
#include "distill/run/run.h"

#include "distill/run/run_internal.h"
#include "formats/base/io.h"
#include "formats/weights/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

const char *kd_run_path(kd_run *r, const char *name)
{
    (void)snprintf(r->path, sizeof r->path, "%s/%s", r->dir, name);
    return r->path;
}

/* What lies in a directory that is to become a run. */
typedef struct found {
    bool config, log, checkpoint, report;
} found;

static kd_status exists(const char *dir, const char *name, bool *yes, kd_err *err)
{
    char *path = kd_path_join(dir, name);
    const kd_status st = path != NULL ? kd_io_exists(path, yes, err) : KD_FAIL(err, KD_E_OOM, "%s: out of memory", dir);
    kd_free(path);
    return st;
}

static kd_status look(const char *dir, found *f, kd_err *err)
{
    uint64_t bytes = 0;
    int fd = -1;
    char *last = kd_path_join(dir, "checkpoints/last"), *log = kd_path_join(dir, "log.jsonl");
    kd_status st = last != NULL && log != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "%s: out of memory", dir);
    *f = (found){.config = false};
    KD_GO(st);
    KD_GO(kd_ckpt_exists(last, &f->checkpoint, err));
    KD_GO(exists(dir, "config.yaml", &f->config, err));
    KD_GO(exists(dir, "report.json", &f->report, err));
    KD_GO(exists(dir, "log.jsonl", &f->log, err));
    if (f->log) { /* an empty one was left by a run that ended before its first step */
        KD_GO(kd_io_open_read(log, &fd, &bytes, err));
        (void)close(fd);
        f->log = bytes > 0;
    }
done:
    kd_free(last);
    kd_free(log);
    return st;
}

/* Did the run end before its first batch?  Then nothing is lost when another one begins here. */
static bool is_untrained(const char *dir)
{
    kd_json *doc = NULL;
    int64_t batches = -1;
    char *path = kd_path_join(dir, "checkpoints/last/state.json");
    if (path != NULL && kd_json_load(path, &doc, NULL) == KD_OK) {
        const kd_json *training = kd_json_get(kd_json_get(doc, "state"), "training");
        if (kd_json_get_i64(training, "micro", &batches, NULL) != KD_OK) {
            batches = -1;
        }
    }
    kd_json_free(doc);
    kd_free(path);
    return batches == 0;
}

kd_status kd_run_check(const char *dir, bool resume, bool *begun, kd_err *err)
{
    found f;
    KD_TRY(look(dir, &f, err));
    *begun = f.log || f.checkpoint || f.report;
    if (!*begun) {
        if (resume) {
            kd_log(KD_LOG_INFO, "%s holds no run yet: --resume starts one", dir);
        }
        return KD_OK;
    }
    if (!resume && f.checkpoint && !f.report && is_untrained(dir)) {
        *begun = false;
        return KD_OK;
    }
    if (!resume) {
        return KD_FAIL(err, KD_E_ARG,
                       "%s already holds a run: continue it with --resume, replace it with --force, or choose another "
                       "--out",
                       dir);
    }
    if (!f.checkpoint) {
        return KD_FAIL(err, KD_E_DATA,
                       "%s: expected checkpoints/last, found a %s without it: this run cannot be resumed; restore the "
                       "checkpoint or choose another --out",
                       dir, f.log ? "log.jsonl" : "report.json");
    }
    if (!f.config) {
        return KD_FAIL(err, KD_E_DATA, "%s: expected the run's config.yaml beside its checkpoints, found none", dir);
    }
    return KD_OK;
}

kd_status kd_run_same_recipe(const char *dir, const kd_json *state, const kd_config *cfg, kd_err *err)
{
    char diff[400];
    const char *text = NULL;
    char *name = kd_path_join(dir, "checkpoints/last/state.json");
    kd_config *old = kd_calloc(1, sizeof *old);
    kd_status st = KD_OK;
    if (old == NULL || name == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "run: out of memory");
        goto done;
    }
    KD_GO(kd_json_get_str(state, "config", &text, err));
    KD_GO(kd_config_parse(text, strlen(text), name, NULL, 0, old, err));
    const int epochs = old->train.epochs;
    const bool longer = cfg->train.epochs > epochs && cfg->phases.n == 0; /* with phases, which of them? */
    if (longer) {
        old->train.epochs = cfg->train.epochs;
        if (old->optim.warmup_epochs >= (double)epochs) { /* was cut to the length of the run */
            old->optim.warmup_epochs = cfg->optim.warmup_epochs;
        }
    }
    if (kd_config_diff(old, cfg, diff, sizeof diff)) {
        st = KD_FAIL(err, KD_E_CONFIG, "%s: --resume expects the run's own recipe: %s; give that, or another --out",
                     dir, diff);
    } else if (longer) {
        kd_log(KD_LOG_WARN, "%s: the run had %d epochs and goes on to %d: from here on its learning rate is that of %d",
               dir, epochs, cfg->train.epochs, cfg->train.epochs);
    }
done:
    kd_free(old);
    kd_free(name);
    return st;
}

bool kd_run_begun(const kd_run *r)
{
    return r->begun;
}

kd_status kd_run_write_config(kd_run *r, const kd_config *cfg, kd_err *err)
{
    char *yaml = kd_config_yaml(cfg, false, false);
    if (yaml == NULL) {
        return KD_FAIL(err, KD_E_OOM, "run: out of memory");
    }
    const kd_status st = kd_io_write_file(kd_run_path(r, "config.yaml"), yaml, strlen(yaml), err);
    kd_free(yaml);
    return st;
}

static kd_status open_log(kd_run *r, kd_err *err)
{
    const char *path = kd_run_path(r, "log.jsonl");
    r->log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (r->log_fd < 0) {
        return KD_FAIL(err, KD_E_WRITE, "%s: cannot be opened for writing: %s", path, strerror(errno));
    }
    const off_t end = lseek(r->log_fd, 0, SEEK_END);
    r->log_bytes = end > 0 ? (uint64_t)end : 0;
    return KD_OK;
}

kd_status kd_run_open(const char *dir, bool resume, bool force, kd_run **out, kd_err *err)
{
    kd_status st = KD_OK;
    *out = NULL;
    kd_run *r = kd_calloc(1, sizeof *r);
    if (r == NULL) {
        return KD_FAIL(err, KD_E_OOM, "run: out of memory");
    }
    r->log_fd = -1;
    if ((size_t)snprintf(r->dir, sizeof r->dir, "%s", dir) >= sizeof r->dir - 64) {
        st = KD_FAIL(err, KD_E_ARG, "run directory: path longer than %zu bytes", sizeof r->dir - 64);
        goto done;
    }
    KD_GO(kd_io_mkdirs(dir, err));
    KD_GO(kdi_run_claim(dir, err));
    KD_GO(kd_io_lock(kd_run_path(r, "lock"), &r->lock, err));
    if (!force) {
        KD_GO(kd_run_check(dir, resume, &r->begun, err));
    }
    KD_GO(open_log(r, err));
    if (!r->begun && !force) {
        KD_GO(kd_run_log_cut(r, 0, err)); /* of a run that ended before its first batch */
    }
done:
    if (st != KD_OK) {
        kd_run_close(r);
        return st;
    }
    *out = r;
    return KD_OK;
}

kd_status kd_run_replace(kd_run *r, kd_err *err)
{
    KD_TRY(kdi_run_remove(r, err));
    return kd_run_log_cut(r, 0, err);
}

void kd_run_close(kd_run *r)
{
    if (r == NULL) {
        return;
    }
    kdi_run_events_close(r);
    if (r->log_fd >= 0) {
        (void)close(r->log_fd);
    }
    kd_io_unlock(r->lock);
    kd_free(r);
}

/* ---- log ------------------------------------------------------------------------------------- */

kd_status kd_run_log(kd_run *r, kd_json *record, kd_err *err)
{
    char *text = NULL;
    size_t bytes = 0;
    kd_status st = kd_json_dump(record, KD_JSON_COMPACT, &text, &bytes, err);
    if (st == KD_OK) {
        text[bytes] = '\n'; /* in the place of the NUL: one write, one line */
        st = kd_io_fd_write(r->log_fd, text, bytes + 1, kd_run_path(r, "log.jsonl"), err);
    }
    if (st == KD_OK) {
        r->log_bytes += bytes + 1;
    }
    kd_free(text);
    kd_json_free(record);
    return st;
}

uint64_t kd_run_log_bytes(const kd_run *r)
{
    return r->log_bytes;
}

kd_status kd_run_log_cut(kd_run *r, uint64_t bytes, kd_err *err)
{
    if (bytes > r->log_bytes) {
        return KD_FAIL(err, KD_E_INTEGRITY, "%s: has %llu bytes, the checkpoint was written at %llu",
                       kd_run_path(r, "log.jsonl"), (unsigned long long)r->log_bytes, (unsigned long long)bytes);
    }
    if (ftruncate(r->log_fd, (off_t)bytes) != 0) {
        return KD_FAIL(err, KD_E_WRITE, "%s: cannot be cut to %llu bytes: %s", kd_run_path(r, "log.jsonl"),
                       (unsigned long long)bytes, strerror(errno));
    }
    r->log_bytes = bytes;
    return KD_OK;
}
