/* See fault_calls.h. */
#include "tests/formats/fault_calls.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static fault_call armed = FAULT_COUNT;
static fault_how manner;
static long at, seen;

static const struct {
    const char *name;
    int code;
} calls[] = {
#define FAULT_ROW(name, code) {#name, code},
    FAULT_CALLS(FAULT_ROW)
#undef FAULT_ROW
};

const char *fault_name(fault_call call)
{
    return calls[call].name;
}

bool fault_can(fault_call call, fault_how how)
{
    const bool moves = call == FAULT_read || call == FAULT_pread || call == FAULT_write || call == FAULT_pwrite;
    return how == FAULT_FAILS || moves || (how == FAULT_IS_STOPPED && (call == FAULT_open || call == FAULT_fsync));
}

void fault_arm(fault_call call, fault_how how, long n)
{
    armed = call;
    manner = how;
    at = n;
    seen = 0;
}

long fault_disarm(void)
{
    armed = FAULT_COUNT;
    return seen;
}

/* Is it this call's turn? */
static bool turn(fault_call call)
{
    return call == armed && ++seen == at;
}

/* Sets errno; for calls that cannot be short. */
static bool fails(fault_call call)
{
    const bool now = turn(call);
    if (now) {
        errno = manner == FAULT_IS_STOPPED ? EINTR : calls[call].code;
    }
    return now;
}

/* The bytes that the call may move: fewer in its turn; SIZE_MAX: it fails. */
static size_t moved(fault_call call, size_t bytes)
{
    if (!turn(call)) {
        return bytes;
    }
    if (manner == FAULT_IS_SHORT) {
        return bytes - bytes / 2;
    }
    errno = manner == FAULT_IS_STOPPED ? EINTR : calls[call].code;
    return SIZE_MAX;
}

/* What the linker makes of a call and of the system's own. */
#define WRAPPED(type, name, ...)     \
    type __real_##name(__VA_ARGS__); \
    type __wrap_##name(__VA_ARGS__); \
    type __wrap_##name(__VA_ARGS__)

int __real_open(const char *path, int flags, mode_t mode);
int __wrap_open(const char *path, int flags, mode_t mode);

/* open has two or three arguments; without O_CREAT the third is not looked at. */
int __wrap_open(const char *path, int flags, mode_t mode)
{
    return fails(FAULT_open) ? -1 : __real_open(path, flags, mode);
}

WRAPPED(ssize_t, read, int fd, void *data, size_t bytes)
{
    const size_t n = moved(FAULT_read, bytes);
    return n == SIZE_MAX ? -1 : __real_read(fd, data, n);
}

WRAPPED(ssize_t, pread, int fd, void *data, size_t bytes, off_t from)
{
    const size_t n = moved(FAULT_pread, bytes);
    return n == SIZE_MAX ? -1 : __real_pread(fd, data, n, from);
}

WRAPPED(int, fstat, int fd, struct stat *s)
{
    return fails(FAULT_fstat) ? -1 : __real_fstat(fd, s);
}

WRAPPED(int, stat, const char *path, struct stat *s)
{
    return fails(FAULT_stat) ? -1 : __real_stat(path, s);
}

WRAPPED(int, lstat, const char *path, struct stat *s)
{
    return fails(FAULT_lstat) ? -1 : __real_lstat(path, s);
}

WRAPPED(void *, mmap, void *where, size_t bytes, int protection, int flags, int fd, off_t from)
{
    return fails(FAULT_mmap) ? MAP_FAILED : __real_mmap(where, bytes, protection, flags, fd, from);
}

WRAPPED(ssize_t, write, int fd, const void *data, size_t bytes)
{
    const size_t n = moved(FAULT_write, bytes);
    return n == SIZE_MAX ? -1 : __real_write(fd, data, n);
}

WRAPPED(ssize_t, pwrite, int fd, const void *data, size_t bytes, off_t to)
{
    const size_t n = moved(FAULT_pwrite, bytes);
    return n == SIZE_MAX ? -1 : __real_pwrite(fd, data, n, to);
}

WRAPPED(int, fsync, int fd)
{
    return fails(FAULT_fsync) ? -1 : __real_fsync(fd);
}

WRAPPED(int, ftruncate, int fd, off_t bytes)
{
    return fails(FAULT_ftruncate) ? -1 : __real_ftruncate(fd, bytes);
}

WRAPPED(int, rename, const char *from, const char *to)
{
    return fails(FAULT_rename) ? -1 : __real_rename(from, to);
}

WRAPPED(int, renameat2, int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    return fails(FAULT_renameat2) ? -1 : __real_renameat2(from_dir, from, to_dir, to, flags);
}

WRAPPED(int, mkdir, const char *path, mode_t mode)
{
    return fails(FAULT_mkdir) ? -1 : __real_mkdir(path, mode);
}

WRAPPED(DIR *, opendir, const char *path)
{
    return fails(FAULT_opendir) ? NULL : __real_opendir(path);
}

WRAPPED(struct dirent *, readdir, DIR *d)
{
    return fails(FAULT_readdir) ? NULL : __real_readdir(d);
}

WRAPPED(int, flock, int fd, int operation)
{
    return fails(FAULT_flock) ? -1 : __real_flock(fd, operation);
}

WRAPPED(int, posix_memalign, void **out, size_t alignment, size_t bytes)
{
    return fails(FAULT_posix_memalign) ? ENOMEM : __real_posix_memalign(out, alignment, bytes);
}

WRAPPED(void *, malloc, size_t bytes)
{
    return fails(FAULT_malloc) ? NULL : __real_malloc(bytes);
}

WRAPPED(void *, calloc, size_t n, size_t bytes)
{
    return fails(FAULT_calloc) ? NULL : __real_calloc(n, bytes);
}

WRAPPED(void *, realloc, void *old, size_t bytes)
{
    return fails(FAULT_realloc) ? NULL : __real_realloc(old, bytes);
}
