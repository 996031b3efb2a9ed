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
#define FAULT_ROW(tag, name, code) {#name, code},
    FAULT_CALLS(FAULT_ROW)
#undef FAULT_ROW
};

const char *fault_name(fault_call call)
{
    return calls[call].name;
}

bool fault_can(fault_call call, fault_how how)
{
    const bool moves = call == FAULT_READ || call == FAULT_PREAD || call == FAULT_WRITE || call == FAULT_PWRITE;
    return how == FAULT_FAILS || moves || (how == FAULT_IS_STOPPED && (call == FAULT_OPEN || call == FAULT_FSYNC));
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

/* A call as the linker sends it here, and the system's own under the name that the linker gives to that. */
#define WRAPPED(type, name, ...)                             \
    type real_##name(__VA_ARGS__) __asm__("__real_" #name);  \
    type fault_##name(__VA_ARGS__) __asm__("__wrap_" #name); \
    type fault_##name(__VA_ARGS__)

/* open has two or three arguments; without O_CREAT the third is not looked at. */
WRAPPED(int, open, const char *path, int flags, mode_t mode)
{
    return fails(FAULT_OPEN) ? -1 : real_open(path, flags, mode);
}

WRAPPED(ssize_t, read, int fd, void *data, size_t bytes)
{
    const size_t n = moved(FAULT_READ, bytes);
    return n == SIZE_MAX ? -1 : real_read(fd, data, n);
}

WRAPPED(ssize_t, pread, int fd, void *data, size_t bytes, off_t from)
{
    const size_t n = moved(FAULT_PREAD, bytes);
    return n == SIZE_MAX ? -1 : real_pread(fd, data, n, from);
}

WRAPPED(int, fstat, int fd, struct stat *s)
{
    return fails(FAULT_FSTAT) ? -1 : real_fstat(fd, s);
}

WRAPPED(int, stat, const char *path, struct stat *s)
{
    return fails(FAULT_STAT) ? -1 : real_stat(path, s);
}

WRAPPED(int, lstat, const char *path, struct stat *s)
{
    return fails(FAULT_LSTAT) ? -1 : real_lstat(path, s);
}

WRAPPED(void *, mmap, void *where, size_t bytes, int protection, int flags, int fd, off_t from)
{
    return fails(FAULT_MMAP) ? MAP_FAILED : real_mmap(where, bytes, protection, flags, fd, from);
}

WRAPPED(ssize_t, write, int fd, const void *data, size_t bytes)
{
    const size_t n = moved(FAULT_WRITE, bytes);
    return n == SIZE_MAX ? -1 : real_write(fd, data, n);
}

WRAPPED(ssize_t, pwrite, int fd, const void *data, size_t bytes, off_t to)
{
    const size_t n = moved(FAULT_PWRITE, bytes);
    return n == SIZE_MAX ? -1 : real_pwrite(fd, data, n, to);
}

WRAPPED(int, fsync, int fd)
{
    return fails(FAULT_FSYNC) ? -1 : real_fsync(fd);
}

WRAPPED(int, ftruncate, int fd, off_t bytes)
{
    return fails(FAULT_FTRUNCATE) ? -1 : real_ftruncate(fd, bytes);
}

WRAPPED(int, rename, const char *from, const char *to)
{
    return fails(FAULT_RENAME) ? -1 : real_rename(from, to);
}

WRAPPED(int, renameat2, int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    return fails(FAULT_RENAMEAT2) ? -1 : real_renameat2(from_dir, from, to_dir, to, flags);
}

WRAPPED(int, mkdir, const char *path, mode_t mode)
{
    return fails(FAULT_MKDIR) ? -1 : real_mkdir(path, mode);
}

WRAPPED(DIR *, opendir, const char *path)
{
    return fails(FAULT_OPENDIR) ? NULL : real_opendir(path);
}

WRAPPED(struct dirent *, readdir, DIR *d)
{
    return fails(FAULT_READDIR) ? NULL : real_readdir(d);
}

WRAPPED(int, flock, int fd, int operation)
{
    return fails(FAULT_FLOCK) ? -1 : real_flock(fd, operation);
}

WRAPPED(int, posix_memalign, void **out, size_t alignment, size_t bytes)
{
    return fails(FAULT_POSIX_MEMALIGN) ? ENOMEM : real_posix_memalign(out, alignment, bytes);
}

WRAPPED(void *, malloc, size_t bytes)
{
    return fails(FAULT_MALLOC) ? NULL : real_malloc(bytes);
}

WRAPPED(void *, calloc, size_t n, size_t bytes)
{
    return fails(FAULT_CALLOC) ? NULL : real_calloc(n, bytes);
}

WRAPPED(void *, realloc, void *old, size_t bytes)
{
    return fails(FAULT_REALLOC) ? NULL : real_realloc(old, bytes);
}
