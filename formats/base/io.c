/* File access: see io.h. */
#include "formats/base/io_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define WRITER_BUFFER ((size_t)256 << 10)
#define MAX_CHUNK     ((size_t)1 << 30) /* one read or write call moves less than 2 GiB on Linux */

/* ---- fault hooks ----------------------------------------------------------------------------- */

static _Atomic int64_t fail_after = -1;
static _Atomic int64_t kill_at;

void kd_io_fail_after_bytes(int64_t n)
{
    atomic_store(&fail_after, n);
}

void kd_io_kill_at_step(int64_t n)
{
    atomic_store(&kill_at, n);
}

/* Before every call that changes the disk. */
void kd_io_step(void)
{
    if (atomic_load(&kill_at) > 0 && atomic_fetch_sub(&kill_at, 1) == 1) {
        (void)kill(getpid(), SIGKILL);
    }
}

static ssize_t hooked_write(int fd, const void *data, size_t bytes)
{
    kd_io_step();
    int64_t left = atomic_load(&fail_after);
    if (left >= 0) {
        if (left == 0 && bytes > 0) {
            errno = ENOSPC;
            return -1;
        }
        bytes = KD_MIN(bytes, (size_t)left);
    }
    const ssize_t n = write(fd, data, bytes);
    if (n > 0 && left >= 0) {
        atomic_store(&fail_after, left - n);
    }
    return n;
}

const char *kdi_kind_of(mode_t mode)
{
    return S_ISDIR(mode)    ? "directory"
           : S_ISFIFO(mode) ? "pipe"
           : S_ISSOCK(mode) ? "socket"
           : S_ISCHR(mode)  ? "character device"
           : S_ISBLK(mode)  ? "block device"
           : S_ISLNK(mode)  ? "symbolic link"
                            : "special file";
}

kd_status kd_io_fail_write(kd_err *err, const char *what, const char *path, int code)
{
    const char *advice = code == ENOSPC || code == EDQUOT ? "; free some space and run again"
                         : code == EFBIG                  ? "; raise the limit (ulimit -f) and run again"
                                                          : "";
    return KD_FAIL(err, KD_E_WRITE, "%s: cannot %s: %s%s", path, what, strerror(code), advice);
}

int kd_io_open(const char *path, int flags)
{
    int fd = -1;
    do {
        fd = open(path, flags | O_CLOEXEC, 0666);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Every file that is read passes here, so that no reader has to know what a failed download looks like. */
static kd_status check_genuine(int fd, const char *path, kd_err *err)
{
    char head[KDI_SNIFF_BYTES];
    const ssize_t n = pread(fd, head, sizeof head, 0); /* an error is the reader's to meet */
    const char *found = n > 0 ? kdi_sniff(head, (size_t)n) : NULL;
    return found == NULL ? KD_OK : KD_FAIL(err, KD_E_FORMAT, "%s: %s", path, found);
}

kd_status kd_io_open_read(const char *path, int *fd, uint64_t *bytes, kd_err *err)
{
    int f;
    int tries = 0;
    do { /* O_NONBLOCK: a FIFO without a writer must not hold us */
        f = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    } while (f < 0 && (errno == EINTR || errno == EAGAIN || errno == ESTALE) && ++tries < 8);
    if (f < 0) {
        return KD_FAIL(err, KD_E_IO, "%s: cannot open: %s", path, strerror(errno));
    }
    struct stat sb;
    if (fstat(f, &sb) != 0) {
        const int code = errno;
        (void)close(f);
        return KD_FAIL(err, KD_E_IO, "%s: cannot examine: %s", path, strerror(code));
    }
    if (!S_ISREG(sb.st_mode)) {
        (void)close(f);
        return KD_FAIL(err, KD_E_IO, "%s: expected a regular file, found a %s", path, kdi_kind_of(sb.st_mode));
    }
    const kd_status st = check_genuine(f, path, err);
    if (st != KD_OK) {
        (void)close(f);
        return st;
    }
    *fd = f;
    if (bytes != NULL) {
        *bytes = (uint64_t)sb.st_size;
    }
    return KD_OK;
}

static kd_status read_fully(int fd, uint8_t *buf, size_t cap, size_t *got, const char *path, kd_err *err)
{
    size_t n = 0;
    int tries = 0;
    while (n < cap) {
        const ssize_t r = read(fd, buf + n, KD_MIN(cap - n, MAX_CHUNK));
        if (r == 0) {
            break;
        }
        if (r < 0) {
            if (errno == EINTR || (errno == EAGAIN && ++tries < 8)) {
                continue;
            }
            return KD_FAIL(err, KD_E_IO, "%s: cannot read at byte %zu: %s", path, n, strerror(errno));
        }
        n += (size_t)r;
    }
    *got = n;
    return KD_OK;
}

kd_status kd_io_read_file(const char *path, size_t max_bytes, uint8_t **data, size_t *bytes, kd_err *err)
{
    int fd = -1;
    uint8_t *buf = NULL;
    uint64_t size = 0;
    kd_status st = kd_io_open_read(path, &fd, &size, err);
    if (st != KD_OK) {
        return st;
    }
    if (size > max_bytes || size >= SIZE_MAX) {
        st = KD_FAIL(err, KD_E_DATA, "%s: the file has %llu bytes, at most %zu are accepted", path,
                     (unsigned long long)size, max_bytes);
        goto done;
    }
    buf = kd_alloc((size_t)size + 1);
    if (buf == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "%s: no memory for %llu bytes", path, (unsigned long long)size);
        goto done;
    }
    size_t got = 0;
    KD_GO(read_fully(fd, buf, (size_t)size, &got, path, err));
    buf[got] = 0;
    *data = buf;
    *bytes = got;
    buf = NULL;
done:
    kd_free(buf);
    (void)close(fd);
    return st;
}

/* Live maps.  Threads change the table one at a time; a signal handler believes the slots that are live. */
enum { MAPS_MAX = 1024, SLOT_FREE = 0, SLOT_LIVE };
static struct {
    _Atomic int state;
    const uint8_t *data;
    size_t bytes;
    char *path;
} maps[MAPS_MAX];
static pthread_mutex_t map_table = PTHREAD_MUTEX_INITIALIZER;

/* Without a slot or memory the map works, but nobody can name its file. */
static void note_map(const kd_map *map, const char *path)
{
    char *copy = kd_strdup(path);
    bool noted = copy == NULL;
    (void)pthread_mutex_lock(&map_table);
    for (size_t i = 0; !noted && i < MAPS_MAX; i++) {
        noted = atomic_load(&maps[i].state) == SLOT_FREE;
        if (noted) {
            maps[i].data = map->data;
            maps[i].bytes = map->bytes;
            maps[i].path = copy;
            atomic_store(&maps[i].state, SLOT_LIVE);
            copy = NULL;
        }
    }
    (void)pthread_mutex_unlock(&map_table);
    kd_free(copy);
}

static void forget_map(const kd_map *map)
{
    char *path = NULL;
    (void)pthread_mutex_lock(&map_table);
    for (size_t i = 0; path == NULL && i < MAPS_MAX; i++) {
        if (atomic_load(&maps[i].state) == SLOT_LIVE && maps[i].data == map->data) {
            path = maps[i].path;
            atomic_store(&maps[i].state, SLOT_FREE);
        }
    }
    (void)pthread_mutex_unlock(&map_table);
    kd_free(path);
}

const char *kd_io_map_at(const void *address, uint64_t *offset)
{
    const uintptr_t at = (uintptr_t)address;
    for (size_t i = 0; i < MAPS_MAX; i++) {
        if (atomic_load(&maps[i].state) == SLOT_LIVE) {
            const uintptr_t start = (uintptr_t)maps[i].data;
            if (at >= start && at - start < maps[i].bytes) {
                *offset = at - start;
                return maps[i].path;
            }
        }
    }
    return NULL;
}

kd_status kd_io_map(const char *path, kd_map *out, kd_err *err)
{
    int fd = -1;
    uint64_t size = 0;
    KD_TRY(kd_io_open_read(path, &fd, &size, err));
    *out = (kd_map){NULL, 0};
    kd_status st = KD_OK;
    if (size > 0) {
        void *p = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) {
            st = KD_FAIL(err, errno == ENOMEM ? KD_E_OOM : KD_E_IO, "%s: cannot map %llu bytes: %s", path,
                         (unsigned long long)size, strerror(errno));
        } else {
            *out = (kd_map){p, (size_t)size};
            note_map(out, path);
        }
    }
    (void)close(fd); /* the mapping keeps the file */
    return st;
}

void kd_io_map_passed(const void *mapping, size_t bytes)
{
    const kd_map *map = mapping;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (map->data != NULL) {
        (void)madvise((void *)(uintptr_t)map->data, bytes / page * page, MADV_DONTNEED);
    }
}

void kd_io_unmap(kd_map *map)
{
    if (map != NULL && map->data != NULL) {
        forget_map(map);
        (void)munmap((void *)(uintptr_t)map->data, map->bytes);
        *map = (kd_map){NULL, 0};
    }
}

/* ---- writing --------------------------------------------------------------------------------- */

kd_status kd_io_fd_write(int fd, const void *data, size_t bytes, const char *path, kd_err *err)
{
    const uint8_t *p = data;
    size_t left = bytes;
    int tries = 0;
    while (left > 0) {
        const ssize_t n = hooked_write(fd, p, KD_MIN(left, MAX_CHUNK));
        if (n < 0) {
            if (errno == EINTR || (errno == EAGAIN && ++tries < 8)) {
                continue;
            }
            return kd_io_fail_write(err, "write", path, errno);
        }
        p += n;
        left -= (size_t)n;
    }
    return KD_OK;
}

kd_status kd_io_fd_sync(int fd, const char *path, kd_err *err)
{
    kd_io_step();
    while (fsync(fd) != 0) {
        if (errno == EINVAL || errno == EROFS) {
            break; /* not something that can be flushed */
        }
        if (errno != EINTR) {
            return kd_io_fail_write(err, "flush", path, errno);
        }
    }
    return KD_OK;
}

kd_status kd_io_sync_dir(const char *path, kd_err *err)
{
    const int fd = kd_io_open(path, O_RDONLY | O_DIRECTORY);
    if (fd < 0) {
        return kd_io_fail_write(err, "open the directory", path, errno);
    }
    const kd_status st = kd_io_fd_sync(fd, path, err);
    (void)close(fd);
    return st;
}

kd_status kd_io_sync_parent(const char *path, kd_err *err)
{
    char *dir = kd_path_dir(path);
    if (dir == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
    }
    const kd_status st = kd_io_sync_dir(dir, err);
    kd_free(dir);
    return st;
}

struct kd_writer {
    int fd;
    char *path;   /* as the caller knows the file */
    char *target; /* what is replaced: behind a symbolic link, if `path` is one */
    char *tmp;
    uint8_t *buf;
    size_t used;
    uint64_t total;
};

static void writer_free(kd_writer *w)
{
    if (w->fd >= 0) {
        (void)close(w->fd);
    }
    kd_io_temp_end(w->tmp);
    kd_free(w->path);
    kd_free(w->target);
    kd_free(w->tmp);
    kd_free(w->buf);
    kd_free(w);
}

kd_status kd_io_target(const char *path, char **out, kd_err *err)
{
    struct stat sb;
    char real[PATH_MAX];
    const char *target = path;
    if (lstat(path, &sb) == 0 && S_ISLNK(sb.st_mode)) {
        if (realpath(path, real) == NULL) {
            return KD_FAIL(err, KD_E_WRITE, "%s: a symbolic link that leads to no file: %s", path, strerror(errno));
        }
        target = real;
    }
    if (stat(target, &sb) == 0 && !S_ISREG(sb.st_mode)) {
        return KD_FAIL(err, KD_E_WRITE, "%s: expected a regular file or a free name, found a %s", path,
                       kdi_kind_of(sb.st_mode));
    }
    *out = kd_strdup(target);
    return *out != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
}

kd_status kd_writer_open(const char *path, kd_writer **out, kd_err *err)
{
    kd_status st = KD_OK;
    *out = NULL;
    kd_writer *w = kd_calloc(1, sizeof *w);
    if (w == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
    }
    w->fd = -1;
    w->path = kd_strdup(path);
    w->buf = kd_alloc(WRITER_BUFFER);
    if (w->path == NULL || w->buf == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
        goto done;
    }
    KD_GO(kd_io_target(path, &w->target, err));
    KD_GO(kd_io_temp_open(w->target, &w->tmp, &w->fd, err));
    *out = w;
done:
    if (st != KD_OK) {
        writer_free(w);
    }
    return st;
}

static kd_status writer_flush(kd_writer *w, kd_err *err)
{
    const size_t n = w->used;
    w->used = 0;
    return n == 0 ? KD_OK : kd_io_fd_write(w->fd, w->buf, n, w->path, err);
}

kd_status kd_writer_put(kd_writer *w, const void *data, size_t bytes, kd_err *err)
{
    if (bytes == 0) {
        return KD_OK;
    }
    w->total += bytes;
    if (bytes > WRITER_BUFFER - w->used) {
        KD_TRY(writer_flush(w, err));
        if (bytes >= WRITER_BUFFER) {
            return kd_io_fd_write(w->fd, data, bytes, w->path, err);
        }
    }
    memcpy(w->buf + w->used, data, bytes);
    w->used += bytes;
    return KD_OK;
}

uint64_t kd_writer_tell(const kd_writer *w)
{
    return w->total;
}

kd_status kd_writer_commit(kd_writer *w, kd_err *err)
{
    kd_status st = writer_flush(w, err);
    if (st == KD_OK) {
        st = kd_io_fd_sync(w->fd, w->path, err);
    }
    if (st == KD_OK) {
        kd_io_step();
        if (rename(w->tmp, w->target) != 0) {
            st = kd_io_fail_write(err, "rename", w->path, errno);
        }
    }
    if (st != KD_OK) {
        kd_writer_abort(w);
        return st;
    }
    st = kd_io_sync_parent(w->target, err);
    writer_free(w);
    return st;
}

void kd_writer_abort(kd_writer *w)
{
    if (w == NULL) {
        return;
    }
    kd_io_step();
    (void)unlink(w->tmp);
    writer_free(w);
}

kd_status kd_io_write_file(const char *path, const void *data, size_t bytes, kd_err *err)
{
    kd_writer *w = NULL;
    KD_TRY(kd_writer_open(path, &w, err));
    const kd_status st = kd_writer_put(w, data, bytes, err);
    if (st != KD_OK) {
        kd_writer_abort(w);
        return st;
    }
    return kd_writer_commit(w, err);
}
