/* Directories, renames, the run lock, paths: see io.h. */
#include "formats/base/io_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

kd_status kd_io_rename(const char *from, const char *to, kd_err *err)
{
    kd_io_step();
    if (rename(from, to) != 0) {
        return kd_io_fail_write(err, "rename to this name", to, errno);
    }
    return kd_io_sync_parent(to, err);
}

/* ---- directories ----------------------------------------------------------------------------- */

kd_status kd_io_mkdirs(const char *path, kd_err *err)
{
    char *p = kd_strdup(path);
    if (p == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
    }
    kd_status st = KD_OK;
    const size_t n = strlen(p);
    for (size_t i = 1; i <= n && st == KD_OK; i++) {
        if (p[i] != '/' && p[i] != '\0') {
            continue;
        }
        const char saved = p[i];
        p[i] = '\0';
        if (!kd_path_is_dir(p)) {
            kd_io_step();
            if (mkdir(p, 0777) != 0 && !(errno == EEXIST && kd_path_is_dir(p))) {
                st = kd_io_fail_write(err, "create the directory", p, errno);
            }
        }
        p[i] = saved;
    }
    kd_free(p);
    return st;
}

/* One level at a time, no recursion: go down into the first subdirectory, remove it when empty, come back. */
kd_status kd_io_remove_tree(const char *path, kd_err *err)
{
    struct stat sb;
    if (lstat(path, &sb) != 0) {
        return errno == ENOENT ? KD_OK : kd_io_fail_write(err, "examine", path, errno);
    }
    if (!S_ISDIR(sb.st_mode)) {
        kd_io_step();
        return unlink(path) == 0 ? KD_OK : kd_io_fail_write(err, "remove", path, errno);
    }
    char *cur = kd_strdup(path);
    kd_status st = cur != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
    const size_t root_len = strlen(path);
    while (st == KD_OK) {
        char **names = NULL;
        size_t count = 0;
        st = kd_io_list_dir(cur, &names, &count, err);
        char *down = NULL;
        for (size_t i = 0; st == KD_OK && down == NULL && i < count; i++) {
            char *child = kd_path_join(cur, names[i]);
            if (child == NULL) {
                st = KD_FAIL(err, KD_E_OOM, "%s: out of memory", cur);
            } else if (lstat(child, &sb) == 0 && S_ISDIR(sb.st_mode)) {
                down = child;
                child = NULL;
            } else {
                kd_io_step();
                if (unlink(child) != 0) {
                    st = kd_io_fail_write(err, "remove", child, errno);
                }
            }
            kd_free(child);
        }
        kd_free(names);
        if (down != NULL) {
            kd_free(cur);
            cur = down;
            continue;
        }
        if (st != KD_OK) {
            break;
        }
        kd_io_step();
        if (rmdir(cur) != 0) {
            st = kd_io_fail_write(err, "remove", cur, errno);
            break;
        }
        if (strlen(cur) <= root_len) {
            break;
        }
        *strrchr(cur, '/') = '\0'; /* back to the parent */
    }
    kd_free(cur);
    return st;
}

kd_status kd_io_replace_dir(const char *tmp, const char *path, const char *prev, kd_err *err)
{
    kd_status st = KD_OK;
    char *own = NULL;
    KD_GO(kd_io_sync_dir(tmp, err));
    if (!kd_path_exists(path)) {
        st = kd_io_rename(tmp, path, err);
        goto done;
    }
    kd_io_step();
    if (renameat2(AT_FDCWD, tmp, AT_FDCWD, path, RENAME_EXCHANGE) == 0) {
        KD_GO(kd_io_sync_parent(path, err)); /* the new one is in place; tmp now holds the old one */
        if (prev == NULL) {
            st = kd_io_remove_tree(tmp, err);
            goto done;
        }
        KD_GO(kd_io_remove_tree(prev, err));
        st = kd_io_rename(tmp, prev, err);
        goto done;
    }
    /* no exchange on this file system: the old one stays reachable in between */
    own = prev == NULL ? kdi_set_aside_name(path) : kd_strdup(prev);
    if (own == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
        goto done;
    }
    KD_GO(kd_io_remove_tree(own, err));
    KD_GO(kd_io_rename(path, own, err));
    KD_GO(kd_io_rename(tmp, path, err));
    if (prev == NULL) {
        KD_GO(kd_io_remove_tree(own, err));
    }
done:
    kd_free(own);
    return st;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

typedef struct name_block {
    char *text;
    size_t used;
    size_t cap;
    size_t count;
} name_block;

static bool name_add(name_block *b, const char *name)
{
    const size_t n = strlen(name) + 1;
    if (n > b->cap - b->used) {
        const size_t cap = KD_MAX(b->cap * 2, (size_t)4096);
        char *t = kd_realloc(b->text, b->used, cap);
        if (t == NULL) {
            return false;
        }
        b->text = t;
        b->cap = cap;
    }
    memcpy(b->text + b->used, name, n);
    b->used += n;
    b->count++;
    return true;
}

kd_status kd_io_list_dir(const char *path, char ***names, size_t *count, kd_err *err)
{
    *names = NULL;
    *count = 0;
    name_block b = {NULL, 0, 0, 0};
    DIR *d = opendir(path);
    if (d == NULL) {
        return KD_FAIL(err, KD_E_IO, "%s: cannot list: %s", path, strerror(errno));
    }
    kd_status st = KD_OK;
    for (;;) {
        errno = 0;
        const struct dirent *e = readdir(d);
        if (e == NULL) {
            if (errno != 0) {
                st = KD_FAIL(err, KD_E_IO, "%s: cannot list: %s", path, strerror(errno));
                goto done;
            }
            break;
        }
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) {
            continue;
        }
        if (!name_add(&b, e->d_name)) {
            st = KD_FAIL(err, KD_E_OOM, "%s: no memory for the list of names", path);
            goto done;
        }
    }
    /* one block: the pointers, then the text they point to */
    const size_t table = (b.count + 1) * sizeof(char *);
    char **list = kd_alloc(table + b.used);
    if (list == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "%s: no memory for the list of names", path);
        goto done;
    }
    char *text = (char *)list + table;
    if (b.used > 0) {
        memcpy(text, b.text, b.used);
    }
    for (size_t i = 0; i < b.count; i++) {
        list[i] = text;
        text += strlen(text) + 1;
    }
    list[b.count] = NULL;
    qsort(list, b.count, sizeof *list, by_bytes);
    *names = list;
    *count = b.count;
done:
    kd_free(b.text);
    (void)closedir(d);
    return st;
}

/* ---- lock ------------------------------------------------------------------------------------ */

struct kd_lock {
    int fd;
};

static void read_holder(int fd, char *buf, size_t cap)
{
    const ssize_t n = pread(fd, buf, cap - 1, 0);
    size_t len = n > 0 ? (size_t)n : 0;
    while (len > 0 && (unsigned char)buf[len - 1] <= ' ') {
        len--;
    }
    buf[len] = '\0';
}

/* A lock is rewritten: a link, or somebody's file of this name, must not be. */
static kd_status check_own(int fd, const char *path, kd_err *err)
{
    struct stat sb;
    char text[128];
    read_holder(fd, text, sizeof text);
    const bool single = fstat(fd, &sb) == 0 && S_ISREG(sb.st_mode) && sb.st_nlink <= 1;
    if (single && (sb.st_size == 0 || strncmp(text, "pid ", 4) == 0)) {
        return KD_OK;
    }
    return KD_FAIL(err, KD_E_WRITE, "%s: expected a lock file of a run, found %s; move it away or choose another place",
                   path, single ? "another text" : "a file with other names, or none");
}

kd_status kd_io_lock(const char *path, kd_lock **out, kd_err *err)
{
    *out = NULL;
    const int fd = kd_io_open(path, O_RDWR | O_CREAT | O_NONBLOCK | O_NOFOLLOW);
    if (fd < 0) {
        return errno == ELOOP ? KD_FAIL(err, KD_E_WRITE, "%s: expected a lock file, found a symbolic link", path)
                              : kd_io_fail_write(err, "create the lock", path, errno);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        const int code = errno;
        char holder[128];
        read_holder(fd, holder, sizeof holder);
        (void)close(fd);
        if (code != EWOULDBLOCK) {
            return kd_io_fail_write(err, "lock", path, code);
        }
        return KD_FAIL(err, KD_E_LOCKED,
                       "%s: in use by %s; wait for it to end or choose another "
                       "directory",
                       path, holder[0] != '\0' ? holder : "another process");
    }
    const kd_status st = check_own(fd, path, err);
    if (st != KD_OK) {
        (void)close(fd);
        return st;
    }
    kd_lock *lock = kd_alloc(sizeof *lock);
    if (lock == NULL) {
        (void)close(fd);
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
    }
    char host[65] = "";
    (void)gethostname(host, sizeof host - 1);
    char text[128];
    const int n = snprintf(text, sizeof text, "pid %ld host %s\n", (long)getpid(), host);
    if (n > 0 && ftruncate(fd, 0) == 0) { /* the text only informs: the lock holds without it */
        (void)!pwrite(fd, text, KD_MIN((size_t)n, sizeof text - 1), 0);
    }
    lock->fd = fd;
    *out = lock;
    return KD_OK;
}

void kd_io_unlock(kd_lock *lock)
{
    if (lock == NULL) {
        return;
    }
    (void)!ftruncate(lock->fd, 0);
    (void)close(lock->fd);
    kd_free(lock);
}

/* ---- paths ----------------------------------------------------------------------------------- */

char *kd_path_join(const char *a, const char *b)
{
    if (a[0] == '\0' || b[0] == '/') {
        return kd_strdup(b);
    }
    return kd_strf("%s%s%s", a, a[strlen(a) - 1] == '/' ? "" : "/", b);
}

char *kd_path_dir(const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') { /* "a/b/" names the same as "a/b" */
        n--;
    }
    while (n > 0 && path[n - 1] != '/') {
        n--;
    }
    if (n == 0) {
        return kd_strdup(".");
    }
    while (n > 1 && path[n - 1] == '/') {
        n--;
    }
    char *d = kd_alloc(n + 1);
    if (d != NULL) {
        memcpy(d, path, n);
        d[n] = '\0';
    }
    return d;
}

const char *kd_path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

char *kd_path_stem(const char *path)
{
    char *s = kd_strdup(kd_path_base(path));
    if (s != NULL) {
        char *dot = strrchr(s, '.');
        if (dot != NULL && dot != s) {
            *dot = '\0';
        }
    }
    return s;
}

bool kd_path_exists(const char *path)
{
    struct stat sb;
    return lstat(path, &sb) == 0;
}

kd_status kd_io_exists(const char *path, bool *yes, kd_err *err)
{
    struct stat sb;
    *yes = lstat(path, &sb) == 0;
    if (!*yes && errno != ENOENT && errno != ENOTDIR) {
        return KD_FAIL(err, KD_E_IO, "%s: cannot tell whether it is there: %s", path, strerror(errno));
    }
    return KD_OK;
}

bool kd_path_is_dir(const char *path)
{
    struct stat sb;
    return stat(path, &sb) == 0 && S_ISDIR(sb.st_mode);
}

bool kd_path_is_file(const char *path)
{
    struct stat sb;
    return stat(path, &sb) == 0 && S_ISREG(sb.st_mode);
}

bool kd_path_same(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

bool kd_path_has_suffix(const char *path, const char *suffix)
{
    const size_t n = strlen(path);
    const size_t m = strlen(suffix);
    return n >= m && strcasecmp(path + n - m, suffix) == 0;
}
