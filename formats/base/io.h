/* Files: bounded reads, read-only maps, atomic writes, directory replacement, run lock, paths.
 *
 * Rules kept by everything here: EINTR and short writes are handled; only regular files are opened
 * for reading (a FIFO or a device never blocks us); a write is either complete and flushed to the
 * disk or absent: data are written under a temporary name in the same directory, then fsync, rename, fsync of
 * the directory.  A failed write (disk full, quota, read-only) leaves the old file and removes the
 * temporary one.  Errors name the path and the system's reason: KD_E_IO for reading, KD_E_WRITE for
 * writing.
 */
#ifndef KD_FORMATS_BASE_IO_H
#define KD_FORMATS_BASE_IO_H

#include "kernels/kd_base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- reading --------------------------------------------------------------------------------- */

/* Whole file into a new buffer (kd_free), with one NUL after the last byte that *bytes does not
 * count; an empty file gives a buffer of that NUL.  More than max_bytes: KD_E_DATA. */
KD_NODISCARD kd_status kd_io_read_file(const char *path, size_t max_bytes, uint8_t **data, size_t *bytes, kd_err *err);

/* Read-only view of a file.  `data` is page aligned, NULL for an empty file.  Our writers never cut a file, they
 * rename; where somebody else cuts one, touching the bytes that are gone raises SIGBUS: kd_io_map_at tells the handler
 * the name of the file (tools/process/process.c). */
typedef struct kd_map {
    const uint8_t *data;
    size_t bytes;
} kd_map;

KD_NODISCARD kd_status kd_io_map(const char *path, kd_map *out, kd_err *err);
void kd_io_unmap(kd_map *map); /* zeroed or NULL is legal */
/* The first bytes of a kd_map were read and need no memory any more; reading them again reads the file. */
void kd_io_map_passed(const void *map, size_t bytes);

/* For signal handlers: path of the live map that holds `address`, and where in the file; NULL: none does. */
const char *kd_io_map_at(const void *address, uint64_t *offset);

/* Open for reading, regular files only; *bytes (may be NULL) is its size.  The caller closes *fd.
 * KD_E_FORMAT: a Git LFS pointer or a web page stands in its place.  The other readers open by
 * this. */
KD_NODISCARD kd_status kd_io_open_read(const char *path, int *fd, uint64_t *bytes, kd_err *err);

/* open(2) with O_CLOEXEC, once more after EINTR; a new file gets 0666.  -1 and errno. */
int kd_io_open(const char *path, int flags);

/* ---- writing --------------------------------------------------------------------------------- */

/* The regular file that `path` names or will name, links followed (kd_free).  KD_E_WRITE: a link to nothing, a device,
 * a pipe, a socket, a directory. */
KD_NODISCARD kd_status kd_io_target(const char *path, char **out, kd_err *err);

/* Temporary names: "<path>.<host>-<pid>-<count>.tmp", made with O_EXCL, so that no file of anybody else is ever opened,
 * followed or cut.  What a killed process left is recognised by host and pid, and removed by kd_io_sweep. */

/* A new file beside `path`, open for reading and writing.  *name (kd_free) is noted for kd_io_unlink_temps until
 * kd_io_temp_end, which the caller owes once the file has been renamed or removed.  KD_E_WRITE names `path`. */
KD_NODISCARD kd_status kd_io_temp_open(const char *path, char **name, int *fd, kd_err *err);
void kd_io_temp_end(const char *name);

/* A new empty directory beside `path`; *name: kd_free. */
KD_NODISCARD kd_status kd_io_temp_dir(const char *path, char **name, kd_err *err);

/* Remove the temporary files and directories in `dir` whose process is dead.  What cannot be removed stays. */
void kd_io_sweep(const char *dir);

/* For signal handlers that end the process: remove the temporary files that are open. */
void kd_io_unlink_temps(void);

/* Streaming atomic writer of one file.  Exactly one of commit and abort ends it; both free it, also
 * on failure.  A symbolic link at `path` stays one: the file that it names is written.  Anything but a regular file at
 * `path` (a device, a pipe, a directory) is refused.  Two writers of one path: the last commit wins. */
typedef struct kd_writer kd_writer;

KD_NODISCARD kd_status kd_writer_open(const char *path, kd_writer **out, kd_err *err);
KD_NODISCARD kd_status kd_writer_put(kd_writer *w, const void *data, size_t bytes, kd_err *err);
uint64_t kd_writer_tell(const kd_writer *w); /* bytes put so far */
KD_NODISCARD kd_status kd_writer_commit(kd_writer *w, kd_err *err);
void kd_writer_abort(kd_writer *w); /* NULL is legal */

KD_NODISCARD kd_status kd_io_write_file(const char *path, const void *data, size_t bytes, kd_err *err);

/* All bytes to an open descriptor (appenders such as logs and stores); `path` is for the message.
 * */
KD_NODISCARD kd_status kd_io_fd_write(int fd, const void *data, size_t bytes, const char *path, kd_err *err);
KD_NODISCARD kd_status kd_io_fd_sync(int fd, const char *path, kd_err *err);
KD_NODISCARD kd_status kd_io_sync_dir(const char *path, kd_err *err); /* the directory itself */

/* ---- directories ----------------------------------------------------------------------------- */

KD_NODISCARD kd_status kd_io_mkdirs(const char *path, kd_err *err);      /* like mkdir -p; existing is fine */
KD_NODISCARD kd_status kd_io_remove_tree(const char *path, kd_err *err); /* absent is fine; never follows links */
KD_NODISCARD kd_status kd_io_rename(const char *from, const char *to, kd_err *err); /* and fsync of to's directory */

/* Put the finished directory `tmp` in the place of `path`.  What was at `path` becomes `prev`
 * (replacing what was there), or is removed when prev is NULL.  A kill at any point leaves at
 * `path` the old or the new directory; on file systems that cannot exchange names, for a moment
 * none at `path` but the old one at `prev` (prev NULL: under a name of ours that ends in ".old").  Every file below tmp
 * must have been synced by its writer. */
KD_NODISCARD kd_status kd_io_replace_dir(const char *tmp, const char *path, const char *prev, kd_err *err);

/* Names in a directory without . and .., sorted by bytes; one block, kd_free(names). */
KD_NODISCARD kd_status kd_io_list_dir(const char *path, char ***names, size_t *count, kd_err *err);

/* ---- lock ------------------------------------------------------------------------------------ */

/* Exclusive advisory lock on the file `path` (created); held until kd_io_unlock or the end of the
 * process.  Its text names the holder ("pid 123 host abc").  KD_E_LOCKED tells who holds it.  A
 * dead holder's lock is free.  A file that is no lock of ours (a link, another text) is refused, KD_E_WRITE. */
typedef struct kd_lock kd_lock;
KD_NODISCARD kd_status kd_io_lock(const char *path, kd_lock **out, kd_err *err);
void kd_io_unlock(kd_lock *lock); /* NULL is legal */

/* ---- paths: results of kd_path_join, _dir and _stem are allocated (kd_free), NULL when out of
 * memory  */

char *kd_path_join(const char *a, const char *b); /* b alone when a is empty or b is absolute */
char *kd_path_dir(const char *path);              /* "a/b" -> "a", "b" -> ".", "/b" -> "/" */
char *kd_path_stem(const char *path);             /* "a/b.c.d" -> "b.c" */
const char *kd_path_base(const char *path);       /* "a/b" -> "b" (points into path) */
bool kd_path_exists(const char *path);
/* The same where a wrong "no" would do harm: KD_E_IO when the system cannot say (no permission, a failing disk). */
KD_NODISCARD kd_status kd_io_exists(const char *path, bool *yes, kd_err *err);
bool kd_path_is_dir(const char *path);
bool kd_path_is_file(const char *path);                        /* regular, links followed */
bool kd_path_same(const char *a, const char *b);               /* one file under both names, links followed */
bool kd_path_has_suffix(const char *path, const char *suffix); /* ".pth", ignoring case */

/* ---- fault hooks, for tests only ------------------------------------------------------------- */

void kd_io_fail_after_bytes(int64_t n); /* writes give ENOSPC once n more bytes were written; negative: off */
void kd_io_kill_at_step(int64_t n);     /* the n-th write, sync, rename, unlink or mkdir from now kills the process
                                     * (SIGKILL) before it happens; 0: off */

#ifdef __cplusplus
}
#endif
#endif
