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

bool kd_run_has_checkpoint(const kd_run *r)
{
    char path[KD_RUN_PATH + 128];
    (void)snprintf(path, sizeof path, "%s/checkpoints/last", r->dir);
    return kd_ckpt_exists(path);
}

/* Something was trained here.  A folder in which a run ended before its first step (data or recipe refused) is free. */
static bool has_begun(kd_run *r)
{
    return r->log_bytes != 0 || kd_run_has_checkpoint(r) || kd_path_exists(kd_run_path(r, "report.json"));
}

/* A run that is there already: only a resume with the same recipe may go on in it. */
static kd_status check_existing(kd_run *r, const kd_config *cfg, bool resume, kd_err *err)
{
    char path[KD_RUN_PATH + 128], diff[400];
    (void)snprintf(path, sizeof path, "%s", kd_run_path(r, "config.yaml"));
    if (!kd_path_exists(path) || !has_begun(r)) {
        return KD_OK;
    }
    if (!resume) {
        return KD_FAIL(err, KD_E_STATE, "%s already holds a run: continue it with --resume, or choose another --out",
                       r->dir);
    }
    kd_config *old = kd_calloc(1, sizeof *old);
    if (old == NULL) {
        return KD_FAIL(err, KD_E_OOM, "run: out of memory");
    }
    kd_status st = kd_config_load(&(const char *){path}, 1, NULL, 0, old, err);
    if (st == KD_OK && kd_config_diff(old, cfg, diff, sizeof diff)) {
        st = KD_FAIL(err, KD_E_CONFIG, "%s: resume with another recipe: %s (the run's own value first)", r->dir, diff);
    }
    kd_free(old);
    return st;
}

static kd_status write_config(kd_run *r, const kd_config *cfg, kd_err *err)
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
    r->log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (r->log_fd < 0) {
        return KD_FAIL(err, KD_E_WRITE, "%s: cannot be opened for writing: %s", path, strerror(errno));
    }
    const off_t end = lseek(r->log_fd, 0, SEEK_END);
    r->log_bytes = end > 0 ? (uint64_t)end : 0;
    return KD_OK;
}

kd_status kd_run_open(const char *dir, const kd_config *cfg, bool resume, kd_run **out, kd_err *err)
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
    KD_GO(kd_io_lock(kd_run_path(r, "lock"), &r->lock, err));
    KD_GO(open_log(r, err));
    KD_GO(check_existing(r, cfg, resume, err));
    KD_GO(write_config(r, cfg, err));
    if (!kd_run_has_checkpoint(r)) {
        KD_GO(kd_run_log_cut(r, 0, err)); /* nothing to resume from: the run starts over */
    }
done:
    if (st != KD_OK) {
        kd_run_close(r);
        return st;
    }
    *out = r;
    return KD_OK;
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
