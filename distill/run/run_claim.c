/* Whose directory is it?  See kd_run_open in run.h. */
#include "distill/run/run.h"
#include "distill/run/run_internal.h"

#include <stdio.h>
#include <sys/stat.h>

/* Whether `name` in `dir` is there and holds something. */
static bool has(const char *dir, const char *name)
{
    struct stat sb;
    char *path = kd_path_join(dir, name);
    const bool yes = path != NULL && lstat(path, &sb) == 0 && (!S_ISREG(sb.st_mode) || sb.st_size > 0);
    kd_free(path);
    return yes;
}

static bool is_recipe(const char *dir)
{
    char *path = kd_path_join(dir, "config.yaml");
    kd_config *cfg = kd_calloc(1, sizeof *cfg);
    const bool yes = path != NULL && cfg != NULL && kd_path_is_file(path) &&
                     kd_config_load(&(const char *){path}, 1, NULL, 0, cfg, NULL) == KD_OK;
    kd_free(cfg);
    kd_free(path);
    return yes;
}

/* The directory of another student of a group ("peer-2"). */
static bool is_peer(const char *name)
{
    return strncmp(name, "peer-", 5) == 0 && name[5] != '\0' && strspn(name + 5, "0123456789") == strlen(name + 5);
}

/* What a run that was killed before it wrote its recipe leaves, its lock, an empty log and the directories of
 * other students, and what a search for a learning rate left. */
static bool is_trace(const char *dir, const char *name)
{
    return strncmp(name, "lr_find.", 8) == 0 || strcmp(name, "lock") == 0 ||
           (strcmp(name, "log.jsonl") == 0 && !has(dir, name)) || is_peer(name);
}

kd_status kdi_run_claim(const char *dir, kd_err *err)
{
    char **names = NULL;
    size_t n = 0;
    const char *other = NULL;
    kd_io_sweep(dir);
    KD_TRY(kd_io_list_dir(dir, &names, &n, err));
    for (size_t i = 0; i < n && other == NULL; i++) {
        other = is_trace(dir, names[i]) ? NULL : names[i];
    }
    kd_status st = KD_OK;
    char *lock = kd_path_join(dir, "lock");
    const bool traced = (lock != NULL && kd_path_exists(lock)) || has(dir, "log.jsonl") || has(dir, "checkpoints");
    if (other != NULL && !has(dir, "config.yaml") && traced) {
        st = KD_FAIL(err, KD_E_CONFIG,
                     "%s: expected the config.yaml of the run that left %s, found none: restore it, or choose another "
                     "--out",
                     dir, other);
    } else if (other != NULL && !(traced && is_recipe(dir))) {
        st = KD_FAIL(err, KD_E_ARG,
                     "%s: expected a run, an empty directory or none, found files of somebody else (%s); choose "
                     "another --out",
                     dir, other);
    }
    kd_free(lock);
    kd_free(names);
    return st;
}

/* ---- a run that is replaced ------------------------------------------------------------------ */

/* Names that runs give, below `dir`; nothing else is removed. */
static bool is_checkpoint(const char *name)
{
    return strcmp(name, "last") == 0 || strcmp(name, "last.prev") == 0 || strcmp(name, "best") == 0 ||
           strcmp(name, "average") == 0 || strncmp(name, "epoch-", 6) == 0;
}

static bool is_result(const char *name)
{
    return strcmp(name, "report.json") == 0 || strcmp(name, "samples.tsv") == 0 || strncmp(name, "lr_find.", 8) == 0 ||
           strncmp(name, "events.out.tfevents.", 20) == 0 || is_peer(name);
}

static kd_status remove_those(const char *dir, bool (*ours)(const char *name), kd_err *err)
{
    char **names = NULL;
    size_t n = 0;
    if (!kd_path_is_dir(dir)) {
        return KD_OK;
    }
    KD_TRY(kd_io_list_dir(dir, &names, &n, err));
    kd_status st = KD_OK;
    for (size_t i = 0; i < n && st == KD_OK; i++) {
        char *path = ours(names[i]) ? kd_path_join(dir, names[i]) : NULL;
        st = path != NULL ? kd_io_remove_tree(path, err) : KD_OK;
        kd_free(path);
    }
    kd_free(names);
    return st;
}

kd_status kdi_run_remove(kd_run *r, kd_err *err)
{
    char *checkpoints = kd_path_join(r->dir, "checkpoints");
    kd_status st = checkpoints != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "run: out of memory");
    KD_GO(st);
    KD_GO(remove_those(r->dir, is_result, err));
    KD_GO(remove_those(checkpoints, is_checkpoint, err));
done:
    kd_free(checkpoints);
    return st;
}
