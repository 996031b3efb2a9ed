/* System calls that can be made to fail: the linker replaces those of the objects it puts into the test (--wrap), the
 * objects of formats/ and kernels/ among them, by the ones of fault_calls.c.  Shared libraries keep the system's. */
#ifndef KD_TESTS_FORMATS_FAULT_CALLS_H
#define KD_TESTS_FORMATS_FAULT_CALLS_H

#include "kernels/kd_base.h"

/* Name of the call, what it gives when it fails.  tests/formats/CMakeLists.txt takes the list for the linker. */
#define FAULT_CALLS(X)                        \
    X(OPEN, open, EIO)                        \
    X(READ, read, EIO)                        \
    X(PREAD, pread, EIO)                      \
    X(FSTAT, fstat, EIO)                      \
    X(STAT, stat, EIO)                        \
    X(LSTAT, lstat, EIO)                      \
    X(MMAP, mmap, ENOMEM)                     \
    X(WRITE, write, ENOSPC)                   \
    X(PWRITE, pwrite, ENOSPC)                 \
    X(FSYNC, fsync, EIO)                      \
    X(FTRUNCATE, ftruncate, EIO)              \
    X(RENAME, rename, ENOSPC)                 \
    X(RENAMEAT2, renameat2, EIO)              \
    X(MKDIR, mkdir, ENOSPC)                   \
    X(OPENDIR, opendir, EMFILE)               \
    X(READDIR, readdir, EIO)                  \
    X(FLOCK, flock, ENOLCK)                   \
    X(POSIX_MEMALIGN, posix_memalign, ENOMEM) \
    X(MALLOC, malloc, ENOMEM)                 \
    X(CALLOC, calloc, ENOMEM)                 \
    X(REALLOC, realloc, ENOMEM)

typedef enum fault_call {
#define FAULT_ENUM(tag, name, code) FAULT_##tag,
    FAULT_CALLS(FAULT_ENUM)
#undef FAULT_ENUM
        FAULT_COUNT
} fault_call;

typedef enum fault_how {
    FAULT_FAILS,     /* with its errno */
    FAULT_IS_SHORT,  /* read, pread, write, pwrite: half of what was asked for */
    FAULT_IS_STOPPED /* read, pread, write, pwrite, open, fsync: EINTR */
} fault_how;

const char *fault_name(fault_call call);
bool fault_can(fault_call call, fault_how how);
/* The n-th call from now on (n from 1) goes wrong, once; 0: calls are counted alone. */
void fault_arm(fault_call call, fault_how how, long n);
/* Calls since; nothing goes wrong any more. */
long fault_disarm(void);

#endif
