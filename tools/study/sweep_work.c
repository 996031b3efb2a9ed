/* The runs of a study as processes of this program: see sweep.h. */
#include "formats/base/io.h"
#include "tools/print.h"
#include "tools/process/process.h"
#include "tools/study/sweep.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A process under way. */
typedef struct child {
    pid_t pid; /* 0: the place is free */
    int run;
    double began;
} child;

typedef struct work {
    kd_sweep *s;
    child *child; /* [jobs] */
    int running, next, failed, finished;
    double began;
} work;

/* ---- starting -------------------------------------------------------------------------------- */

static kd_status write_recipe(const kd_sweep *s, const kd_sweep_run *r, const char *path, kd_err *err)
{
    kd_config *cfg = kd_calloc(1, sizeof *cfg);
    char *yaml = NULL, *dir = kd_path_dir(path);
    kd_status st = cfg != NULL && dir != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "sweep: out of memory");
    const kd_log_level level = kd_log_get_level();
    KD_GO(st);
    kd_log_set_level(KD_LOG_ERROR);
    st = kd_plan_recipe(s->plan, r->at, cfg, err);
    kd_log_set_level(level);
    KD_GO(st);
    yaml = kd_config_yaml(cfg, false, false);
    if (yaml == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "sweep: out of memory");
        goto done;
    }
    KD_GO(kd_io_mkdirs(dir, err));
    st = kd_io_write_file(path, yaml, strlen(yaml), err);
done:
    kd_free(yaml);
    kd_free(dir);
    kd_free(cfg);
    return st;
}

/* In the new process: the program again, its words into the log. */
static void become(const char *recipe, const char *dir, const char *log, const char *threads, bool force, pid_t parent)
{
    const char *const argv[] = {"distill",
                                "train",
                                "--config",
                                recipe,
                                "--out",
                                dir,
                                "--threads",
                                threads,
                                "--workers",
                                "1",
                                force ? "--force" : "--resume",
                                NULL};
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM); /* a killed sweep leaves no run behind: each saves its state */
    const int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    const int out = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (getppid() != parent || in < 0 || out < 0 || dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 ||
        dup2(out, STDERR_FILENO) < 0) {
        _exit(1);
    }
    (void)execv("/proc/self/exe", (char **)(uintptr_t)argv);
    _exit(1);
}

static kd_status start(work *w, int slot, kd_err *err)
{
    kd_sweep *s = w->s;
    kd_sweep_run *r = &s->run[w->next];
    char threads[24];
    char *recipe = kd_sweep_path(s, "recipes", r->path, ".yaml"), *dir = kd_sweep_path(s, "runs", r->path, "");
    char *log = kd_sweep_path(s, "logs", r->path, ".log"), *log_dir = log != NULL ? kd_path_dir(log) : NULL;
    kd_status st =
        recipe != NULL && dir != NULL && log_dir != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "sweep: no memory");
    KD_GO(st);
    KD_GO(write_recipe(s, r, recipe, err));
    KD_GO(kd_io_mkdirs(log_dir, err));
    /* the processors that do not divide evenly go to the first places */
    (void)snprintf(threads, sizeof threads, "%d", KD_MAX(1, s->cores / s->jobs + (slot < s->cores % s->jobs)));
    (void)fflush(NULL);
    const pid_t parent = getpid();
    const pid_t pid = fork();
    if (pid == 0) {
        become(recipe, dir, log, threads, r->state == KD_SWEEP_OTHER, parent);
    }
    if (pid < 0) {
        st = KD_FAIL(err, KD_E_OOM, "sweep: no process for %s: %s", r->path, strerror(errno));
        goto done;
    }
    w->child[slot] = (child){pid, w->next, kd_now()};
    w->running++;
done:
    kd_free(recipe);
    kd_free(dir);
    kd_free(log);
    kd_free(log_dir);
    return st;
}

/* ---- ending ---------------------------------------------------------------------------------- */

/* The last line that a run wrote, which says why it failed unless a signal ended it. */
static void last_words(const kd_sweep *s, kd_sweep_run *r, int status)
{
    char end[48], why[sizeof r->why + 64];
    char *log = kd_sweep_path(s, "logs", r->path, ".log");
    uint8_t *text = NULL;
    size_t n = 0;
    const char *line = "";
    if (log != NULL && kd_io_read_file(log, (size_t)1 << 26, &text, &n, NULL) == KD_OK) {
        while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r')) {
            text[--n] = '\0';
        }
        const char *at = strrchr((const char *)text, '\n');
        line = at != NULL ? at + 1 : (const char *)text;
    }
    if (WIFSIGNALED(status)) {
        (void)snprintf(end, sizeof end, "ended by signal %d; its last line", WTERMSIG(status));
    } else {
        (void)snprintf(end, sizeof end, "exit code %d", WEXITSTATUS(status));
    }
    (void)snprintf(why, sizeof why, "%s: %s", end, line[0] != '\0' ? line : "it said nothing");
    (void)kd_show_ends(r->why, sizeof r->why, why);
    kd_free(text);
    kd_free(log);
}

static kd_status note_time(const kd_sweep *s, const kd_sweep_run *r, double cpu, double seconds, kd_err *err)
{
    char *path = kd_strf("%s/times.jsonl", s->out), *text = NULL;
    size_t bytes = 0;
    kd_json *d = kd_json_object();
    kd_json_set_str(d, "run", r->path);
    kd_json_set_f64(d, "processor_seconds", cpu);
    kd_json_set_f64(d, "seconds", seconds);
    kd_status st = kd_json_dump(d, KD_JSON_COMPACT, &text, &bytes, err);
    const int fd = path != NULL && st == KD_OK ? kd_io_open(path, O_WRONLY | O_CREAT | O_APPEND) : -1;
    if (st == KD_OK && fd < 0) {
        st = KD_FAIL(err, KD_E_WRITE, "%s/times.jsonl: %s", s->out, strerror(errno));
    }
    if (st == KD_OK) {
        text[bytes] = '\n'; /* in the place of the NUL: one write, one line */
        st = kd_io_fd_write(fd, text, bytes + 1, path, err);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    kd_json_free(d);
    kd_free(text);
    kd_free(path);
    return st;
}

/* Top-1 of a run that ended. */
static kd_status read_top1(const kd_sweep *s, const kd_sweep_run *r, double *top1, kd_err *err)
{
    char *path = kd_sweep_path(s, "runs", r->path, "/report.json");
    kd_json *doc = NULL;
    kd_status st = path != NULL ? kd_json_load(path, &doc, err) : KD_FAIL(err, KD_E_OOM, "sweep: out of memory");
    if (st == KD_OK) {
        st = kd_json_get_f64(kd_json_get(doc, "metrics"), "top1", top1, err);
    }
    kd_json_free(doc);
    kd_free(path);
    return st;
}

/* Weights and events go; report, log and recipe stay. */
static kd_status keep_report(const kd_sweep *s, const kd_sweep_run *r, kd_err *err)
{
    char *dir = kd_sweep_path(s, "runs", r->path, "");
    char **names = NULL;
    size_t n = 0;
    kd_status st = dir != NULL ? kd_io_list_dir(dir, &names, &n, err) : KD_FAIL(err, KD_E_OOM, "sweep: out of memory");
    for (size_t i = 0; i < n && st == KD_OK; i++) {
        if (strcmp(names[i], "checkpoints") == 0 || strncmp(names[i], "events.out.tfevents.", 20) == 0) {
            char *path = kd_path_join(dir, names[i]);
            st = path != NULL ? kd_io_remove_tree(path, err) : KD_FAIL(err, KD_E_OOM, "sweep: out of memory");
            kd_free(path);
        }
    }
    kd_free(names);
    kd_free(dir);
    return st;
}

/* "about 1 h 20 min left", from what finished here. */
static void time_left(const work *w, char *text, size_t size)
{
    const int left = w->s->n - w->s->done - w->failed;
    const double wall = w->finished > 0 ? (kd_now() - w->began) / w->finished * left : 0.0;
    text[0] = '\0';
    if (left > 0 && w->finished > 0 && wall < 3600.0) {
        (void)snprintf(text, size, ", about %.0f %s left", wall < 60.0 ? wall : wall / 60.0, wall < 60.0 ? "s" : "min");
    } else if (left > 0 && w->finished > 0) {
        (void)snprintf(text, size, ", about %.0f h %.0f min left", (double)(int)(wall / 3600.0),
                       (double)(int)(wall / 60.0) - 60.0 * (int)(wall / 3600.0));
    }
}

static kd_status say_end(const work *w, const kd_sweep_run *r, double top1, double seconds, kd_err *err)
{
    const kd_sweep *s = w->s;
    char left[64];
    time_left(w, left, sizeof left);
    if (s->json) {
        kd_json *d = kd_json_object();
        kd_json_set_str(d, "type", "run");
        kd_json_set_str(d, "run", r->path);
        kd_json_set_str(d, "state", r->state == KD_SWEEP_DONE ? "done" : "failed");
        if (r->state == KD_SWEEP_DONE) {
            kd_json_set_f64(d, "top1", top1);
        } else {
            kd_json_set_str(d, "why", r->why);
        }
        kd_json_set_rounded(d, "seconds", seconds, 1);
        kd_json_set_i64(d, "done", s->done);
        kd_json_set_i64(d, "runs", s->n);
        return kd_print_json(d, err);
    }
    if (r->state == KD_SWEEP_FAILED) {
        (void)fprintf(stderr, "%d/%d %s: failed, %s\n", s->done + w->failed, s->n, KD_SHOWN(r->path), KD_SHOWN(r->why));
    } else if (!s->quiet) {
        (void)fprintf(stderr, "%d/%d %s: top-1 %.1f %%, %.0f s%s\n", s->done + w->failed, s->n, KD_SHOWN(r->path),
                      100.0 * top1, seconds, left);
    }
    return KD_OK;
}

/* A process has ended; its place is free again. */
static kd_status end_child(work *w, child *c, int status, double cpu, kd_err *err)
{
    kd_sweep *s = w->s;
    kd_sweep_run *r = &s->run[c->run];
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    const double seconds = kd_now() - c->began;
    double top1 = 0.0;
    c->pid = 0;
    w->running--;
    if (code == kd_status_exit_code(KD_E_CANCELLED)) {
        r->state = KD_SWEEP_STOPPED;
        return note_time(s, r, cpu, seconds, err); /* what resumes it adds its own part */
    }
    if (code == 0) {
        KD_TRY(read_top1(s, r, &top1, err));
        KD_TRY(note_time(s, r, cpu, seconds, err));
        r->state = KD_SWEEP_DONE;
        s->done++;
        w->finished++;
        if (s->reports_only) {
            KD_TRY(keep_report(s, r, err));
        }
    } else {
        r->state = KD_SWEEP_FAILED;
        w->failed++;
        last_words(s, r, status);
    }
    return say_end(w, r, top1, seconds, err);
}

static kd_status reap(work *w, kd_err *err)
{
    kd_status st = KD_OK;
    for (int i = 0; i < w->s->jobs; i++) {
        struct rusage used;
        int status = 0;
        child *c = &w->child[i];
        if (c->pid == 0 || wait4(c->pid, &status, WNOHANG, &used) != c->pid) {
            continue;
        }
        const double cpu = (double)used.ru_utime.tv_sec + (double)used.ru_stime.tv_sec +
                           1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
        const kd_status end = end_child(w, c, status, cpu, st == KD_OK ? err : NULL);
        st = st == KD_OK ? end : st;
    }
    return st;
}

/* ---- all of them ----------------------------------------------------------------------------- */

static bool is_open(const kd_sweep *s, int i)
{
    return s->run[i].state == KD_SWEEP_OPEN || s->run[i].state == KD_SWEEP_OTHER;
}

static kd_status fill_places(work *w, kd_err *err)
{
    for (int slot = 0; slot < w->s->jobs; slot++) {
        while (w->next < w->s->n && !is_open(w->s, w->next)) {
            w->next++;
        }
        if (w->next < w->s->n && w->child[slot].pid == 0) {
            KD_TRY(start(w, slot, err));
            w->next++;
        }
    }
    return KD_OK;
}

static void stop_all(const work *w)
{
    for (int i = 0; i < w->s->jobs; i++) {
        if (w->child[i].pid != 0) {
            (void)kill(w->child[i].pid, SIGTERM);
        }
    }
}

kd_status kd_sweep_work(kd_sweep *s, int *failed, kd_err *err)
{
    work w = {.s = s, .child = kd_calloc((size_t)s->jobs, sizeof *w.child), .began = kd_now()};
    kd_status st = w.child != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "sweep: out of memory");
    bool stopping = false;
    kd_process_polls();
    while (st == KD_OK && !kd_interrupted()) {
        st = fill_places(&w, err);
        if (st != KD_OK || w.running == 0) {
            break;
        }
        (void)nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        st = reap(&w, err);
    }
    while (w.child != NULL && w.running > 0) { /* asked to stop, or this process can do no more */
        if (!stopping) {
            stop_all(&w);
            stopping = true;
        }
        (void)nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        const kd_status end = reap(&w, st == KD_OK ? err : NULL);
        st = st == KD_OK ? end : st;
    }
    *failed = w.failed;
    kd_free(w.child);
    if (st == KD_OK && kd_interrupted()) {
        return KD_FAIL(
            err, KD_E_CANCELLED,
            "interrupted: %d of %d runs are done, the others have saved their state; the same command goes on", s->done,
            s->n);
    }
    return st;
}
