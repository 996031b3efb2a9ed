/* Temporary names: see io.h. */
#include "formats/base/io_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    BASE_MAX = 200, /* bytes of the path's own name that a temporary name repeats: a name has at most 255 */
    TRIES = 64,
    HOST_DIGITS = 8
};

/* ---- names ----------------------------------------------------------------------------------- */

/* Which machine counts our pids: host name and, in a container, its pid namespace. */
static void host_tag(char tag[HOST_DIGITS + 1])
{
    char text[512] = "";
    (void)gethostname(text, 255);
    const size_t n = strlen(text);
    const ssize_t m = readlink("/proc/self/ns/pid", text + n, sizeof text - n - 1);
    text[n + (size_t)KD_MAX(m, (ssize_t)0)] = '\0';
    uint32_t h = 2166136261u; /* FNV-1a */
    for (const char *c = text; *c != '\0'; c++) {
        h = (h ^ (unsigned char)*c) * 16777619u;
    }
    (void)snprintf(tag, HOST_DIGITS + 1, "%08x", h);
}

/* The next name beside `path`, allocated; NULL: out of memory. */
static char *next_name(const char *path, const char *ending)
{
    static _Atomic unsigned count;
    char tag[HOST_DIGITS + 1];
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') { /* a directory's name may be typed with a slash */
        end--;
    }
    size_t base = end;
    while (base > 0 && path[base - 1] != '/') {
        base--;
    }
    if (end - base > BASE_MAX) {
        end = base + BASE_MAX;
        while (end > base && ((unsigned char)path[end] & 0xc0u) == 0x80u) { /* no half character of UTF-8 */
            end--;
        }
    }
    host_tag(tag);
    return kd_strf("%.*s.%s-%ld-%u.%s", (int)end, path, tag, (long)getpid(), atomic_fetch_add(&count, 1u), ending);
}

/* "<any>.<our host>-<pid>-<count>.tmp": the pid; 0 for any other name. */
static long owner_of(const char *name, const char *tag)
{
    const size_t n = strlen(name);
    if (n < 5 || strcmp(name + n - 4, ".tmp") != 0) {
        return 0;
    }
    size_t at = n - 4;
    while (at > 0 && name[at - 1] != '.') {
        at--;
    }
    long pid = 0;
    unsigned count = 0;
    int used = 0;
    if (at < 2 || strncmp(name + at, tag, HOST_DIGITS) != 0 ||
        sscanf(name + at + HOST_DIGITS, "-%ld-%u.tmp%n", &pid, &count, &used) != 2 ||
        at + HOST_DIGITS + (size_t)used != n) {
        return 0;
    }
    return KD_MAX(pid, 0L);
}

/* ---- live ones, for a signal handler --------------------------------------------------------- */

enum { LIVE_MAX = 64, LIVE_PATH = 4096, SLOT_FREE = 0, SLOT_TAKEN, SLOT_LIVE };
static struct {
    _Atomic int state;
    char path[LIVE_PATH];
} live[LIVE_MAX];

/* Threads change the table one at a time; a signal handler claims the names that it removes. */
static pthread_mutex_t table = PTHREAD_MUTEX_INITIALIZER;

/* A name that finds no slot is left to kd_io_sweep when the process is killed. */
static void note(const char *name)
{
    const size_t n = strlen(name) + 1;
    bool noted = n > LIVE_PATH;
    (void)pthread_mutex_lock(&table);
    for (size_t i = 0; !noted && i < LIVE_MAX; i++) {
        int expected = SLOT_FREE;
        noted = atomic_compare_exchange_strong(&live[i].state, &expected, SLOT_TAKEN);
        if (noted) {
            memcpy(live[i].path, name, n);
            atomic_store(&live[i].state, SLOT_LIVE);
        }
    }
    (void)pthread_mutex_unlock(&table);
}

void kd_io_temp_end(const char *name)
{
    bool ended = name == NULL;
    (void)pthread_mutex_lock(&table);
    for (size_t i = 0; !ended && i < LIVE_MAX; i++) {
        int expected = SLOT_LIVE;
        ended = atomic_load(&live[i].state) == SLOT_LIVE && strcmp(live[i].path, name) == 0;
        if (ended) {
            (void)atomic_compare_exchange_strong(&live[i].state, &expected, SLOT_FREE);
        }
    }
    (void)pthread_mutex_unlock(&table);
}

void kd_io_unlink_temps(void)
{
    for (size_t i = 0; i < LIVE_MAX; i++) {
        int expected = SLOT_LIVE;
        if (atomic_compare_exchange_strong(&live[i].state, &expected, SLOT_TAKEN)) {
            (void)unlink(live[i].path);
        }
    }
}

/* ---- making ---------------------------------------------------------------------------------- */

kd_status kd_io_temp_open(const char *path, char **name, int *fd, kd_err *err)
{
    for (int tries = 0; tries < TRIES; tries++) {
        char *tmp = next_name(path, "tmp");
        if (tmp == NULL) {
            return KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
        }
        kd_io_step();
        const int f = kd_io_open(tmp, O_RDWR | O_CREAT | O_EXCL);
        if (f >= 0) {
            note(tmp);
            *name = tmp;
            *fd = f;
            return KD_OK;
        }
        const int code = errno;
        kd_free(tmp);
        if (code != EEXIST) {
            return kd_io_fail_write(err, "create a file beside it", path, code);
        }
    }
    return KD_FAIL(err, KD_E_WRITE, "%s: cannot create a file beside it: %d names are taken", path, TRIES);
}

kd_status kd_io_temp_dir(const char *path, char **name, kd_err *err)
{
    for (int tries = 0; tries < TRIES; tries++) {
        char *tmp = next_name(path, "tmp");
        if (tmp == NULL) {
            return KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
        }
        kd_io_step();
        if (mkdir(tmp, 0777) == 0) {
            *name = tmp;
            return KD_OK;
        }
        const int code = errno;
        kd_free(tmp);
        if (code != EEXIST) {
            return kd_io_fail_write(err, "create a directory beside it", path, code);
        }
    }
    return KD_FAIL(err, KD_E_WRITE, "%s: cannot create a directory beside it: %d names are taken", path, TRIES);
}

char *kdi_set_aside_name(const char *path)
{
    return next_name(path, "old");
}

/* ---- sweeping -------------------------------------------------------------------------------- */

void kd_io_sweep(const char *dir)
{
    char tag[HOST_DIGITS + 1];
    char **names = NULL;
    size_t count = 0;
    if (kd_io_list_dir(dir, &names, &count, NULL) != KD_OK) {
        return;
    }
    host_tag(tag);
    for (size_t i = 0; i < count; i++) {
        const long pid = owner_of(names[i], tag);
        if (pid <= 0 || kill((pid_t)pid, 0) == 0 || errno != ESRCH) {
            continue;
        }
        char *path = kd_path_join(dir, names[i]);
        if (path != NULL && kd_io_remove_tree(path, NULL) != KD_OK) {
            kd_log(KD_LOG_WARN, "%s: left by a process that was killed; cannot be removed", path);
        }
        kd_free(path);
    }
    kd_free(names);
}
