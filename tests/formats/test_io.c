/* formats/base/io: reads that refuse what they must, writes that are all or nothing, also when killed. */
#include "formats/base/io.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

/* cmocka needs the first three */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
/* clang-format on */

static char root[64];

static const char *in_root(const char *name)
{
    static char buf[8][256];
    static unsigned next;
    char *b = buf[next++ % 8];
    (void)snprintf(b, sizeof buf[0], "%s/%s", root, name);
    return b;
}

static int setup(void **state)
{
    (void)state;
    (void)snprintf(root, sizeof root, "/tmp/kd_io_XXXXXX");
    return mkdtemp(root) != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    kd_io_fail_after_bytes(-1);
    return kd_io_remove_tree(root, NULL) == KD_OK && !kd_path_exists(root) ? 0 : -1;
}

static void put(const char *path, const char *text)
{
    assert_int_equal(kd_io_write_file(path, text, strlen(text), NULL), KD_OK);
}

static void expect_text(const char *path, const char *text)
{
    uint8_t *data = NULL;
    size_t n = 0;
    assert_int_equal(kd_io_read_file(path, 1 << 20, &data, &n, NULL), KD_OK);
    assert_int_equal(n, strlen(text));
    assert_string_equal((char *)data, text);
    kd_free(data);
}

/* How many names the folder holds. */
static size_t entries(void)
{
    char **names = NULL;
    size_t n = 0;
    assert_int_equal(kd_io_list_dir(root, &names, &n, NULL), KD_OK);
    kd_free(names);
    return n;
}

static void test_read(void **state)
{
    (void)state;
    const char *p = in_root("a");
    put(p, "hello");
    expect_text(p, "hello");
    put(in_root("empty"), "");
    expect_text(in_root("empty"), "");
    kd_map m;
    assert_int_equal(kd_io_map(p, &m, NULL), KD_OK);
    assert_int_equal(m.bytes, 5);
    assert_memory_equal(m.data, "hello", 5);
    kd_io_unmap(&m);
    assert_int_equal(kd_io_map(in_root("empty"), &m, NULL), KD_OK);
    assert_null(m.data);
    kd_io_unmap(&m);

    uint8_t *data = NULL;
    size_t n = 0;
    kd_err err = {0};
    assert_int_equal(kd_io_read_file(p, 4, &data, &n, &err), KD_E_DATA);
    assert_non_null(strstr(err.msg, "/a: the file has 5 bytes, at most 4"));
}

static void test_refuse(void **state)
{
    (void)state;
    uint8_t *data = NULL;
    size_t n = 0;
    kd_err err = {0};
    assert_int_equal(kd_io_read_file(in_root("none"), 10, &data, &n, &err), KD_E_IO);
    assert_non_null(strstr(err.msg, "No such file"));
    err = (kd_err){0};
    assert_int_equal(kd_io_read_file(root, 10, &data, &n, &err), KD_E_IO);
    assert_non_null(strstr(err.msg, "found a directory"));
    assert_int_equal(mkfifo(in_root("fifo"), 0600), 0);
    err = (kd_err){0};
    assert_int_equal(kd_io_read_file(in_root("fifo"), 10, &data, &n, &err), KD_E_IO); /* no hang */
    assert_non_null(strstr(err.msg, "found a pipe"));
    assert_int_equal(kd_io_read_file("/dev/zero", 10, &data, &n, NULL), KD_E_IO);
    assert_int_equal(symlink("loop", in_root("loop")), 0);
    assert_int_equal(kd_io_read_file(in_root("loop"), 10, &data, &n, NULL), KD_E_IO);
    assert_null(data);
}

static void test_write(void **state)
{
    (void)state;
    const char *p = in_root("big");
    kd_writer *w = NULL;
    assert_int_equal(kd_writer_open(p, &w, NULL), KD_OK);
    uint8_t *block = kd_alloc(300000);
    for (size_t i = 0; i < 300000; i++) {
        block[i] = (uint8_t)(i * 7u);
    }
    size_t total = 0;
    for (size_t n = 1; n < 300000; n = n * 3 + 1) { /* below, at and above the buffer */
        assert_int_equal(kd_writer_put(w, block, n, NULL), KD_OK);
        total += n;
    }
    assert_int_equal(kd_writer_tell(w), total);
    assert_false(kd_path_exists(p)); /* nothing under the name before commit */
    assert_int_equal(kd_writer_commit(w, NULL), KD_OK);
    kd_map m;
    assert_int_equal(kd_io_map(p, &m, NULL), KD_OK);
    assert_int_equal(m.bytes, total);
    size_t at = 0;
    for (size_t n = 1; n < 300000; n = n * 3 + 1) {
        assert_memory_equal(m.data + at, block, n);
        at += n;
    }
    kd_io_unmap(&m);
    kd_free(block);
    assert_int_equal(kd_writer_open(p, &w, NULL), KD_OK);
    kd_writer_abort(w);
    assert_int_equal(entries(), 1);
    assert_int_equal(kd_io_write_file(in_root("no/dir"), "x", 1, NULL), KD_E_WRITE);
}

static void test_disk_full(void **state)
{
    (void)state;
    char p[256];
    (void)snprintf(p, sizeof p, "%s", in_root("f"));
    put(p, "old");
    for (int64_t n = 0; n < 10; n++) {
        kd_err err = {0};
        kd_io_fail_after_bytes(n);
        assert_int_equal(kd_io_write_file(p, "0123456789", 10, &err), KD_E_WRITE);
        kd_io_fail_after_bytes(-1);
        assert_non_null(strstr(err.msg, "No space left"));
        assert_non_null(strstr(err.msg, "/f: "));
        expect_text(p, "old");
        assert_int_equal(entries(), 1);
    }
    kd_io_fail_after_bytes(10);
    assert_int_equal(kd_io_write_file(p, "0123456789", 10, NULL), KD_OK);
    kd_io_fail_after_bytes(-1);
    expect_text(p, "0123456789");
}

/* Run fn in a child that is killed before its n-th change of the disk; true when it got to the end. */
static bool survives(int64_t n, void (*fn)(void))
{
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        kd_io_kill_at_step(n);
        fn();
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status)) {
        assert_int_equal(WEXITSTATUS(status), 0);
        return true;
    }
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    return false;
}

static void write_new(void)
{
    if (kd_io_write_file(in_root("k"), "new content", 11, NULL) != KD_OK) {
        _exit(3);
    }
}

static void test_killed_file(void **state)
{
    (void)state;
    bool end = false;
    int killed = 0;
    for (int64_t n = 1; !end; n++) {
        put(in_root("k"), "old");
        end = survives(n, write_new);
        killed += !end;
        uint8_t *data = NULL;
        size_t bytes = 0;
        assert_int_equal(kd_io_read_file(in_root("k"), 100, &data, &bytes, NULL), KD_OK);
        const bool is_new = strcmp((char *)data, "new content") == 0;
        assert_true(is_new || (!end && strcmp((char *)data, "old") == 0));
        kd_free(data);
        put(in_root("k"), "after"); /* what the killed one left does not stand in the way */
    }
    assert_true(killed >= 4); /* create, write, sync, rename */
}

/* Temporary files and directories of a process that was killed go at the next sweep; those of a live one, and files of
 * others, whatever they are called, stay. */
static void leave_temps(void)
{
    char *name = NULL;
    int fd = -1;
    if (kd_io_temp_open(in_root("t"), &name, &fd, NULL) != KD_OK ||
        kd_io_temp_dir(in_root("t/"), &name, NULL) != KD_OK || kd_io_write_file(name, "", 0, NULL) == KD_OK) {
        _exit(3);
    }
    char inner[300];
    (void)snprintf(inner, sizeof inner, "%s/x", name);
    _exit(kd_io_write_file(inner, "x", 1, NULL) == KD_OK ? 0 : 3);
}

static void test_sweep(void **state)
{
    (void)state;
    const char *const users[] = {"a.tmp", "t.12345678-1-0.tmp", "t.tmp.99999", "t.-1-1.tmp", ".tmp"};
    for (size_t i = 0; i < KD_COUNTOF(users); i++) {
        put(in_root(users[i]), "mine");
    }
    assert_true(survives(0, leave_temps));
    assert_int_equal(entries(), KD_COUNTOF(users) + 2);
    char *name = NULL;
    int fd = -1;
    assert_int_equal(kd_io_temp_open(in_root("t"), &name, &fd, NULL), KD_OK);
    kd_io_sweep(root);
    assert_int_equal(entries(), KD_COUNTOF(users) + 1);
    assert_true(kd_path_is_file(name));
    for (size_t i = 0; i < KD_COUNTOF(users); i++) {
        expect_text(in_root(users[i]), "mine");
    }
    kd_io_unlink_temps(); /* what a signal handler does */
    assert_false(kd_path_exists(name));
    kd_io_temp_end(name);
    kd_free(name);
    (void)close(fd);
    kd_io_sweep(in_root("absent"));
}

/* A name of 255 bytes, in which UTF-8 has two bytes a character. */
static void test_long_name(void **state)
{
    (void)state;
    char name[256];
    char path[400];
    for (size_t i = 0; i < 254; i += 2) {
        memcpy(name + i, "\xc3\xa9", 2);
    }
    name[254] = '\0';
    (void)snprintf(path, sizeof path, "%s/%s", root, name);
    put(path, "x");
    expect_text(path, "x");
    assert_int_equal(entries(), 1);
}

/* Links stay links, devices and pipes stay what they are. */
static void test_targets(void **state)
{
    (void)state;
    struct stat sb;
    kd_err err = {0};
    put(in_root("real"), "old");
    assert_int_equal(symlink("real", in_root("link")), 0);
    put(in_root("link"), "new");
    expect_text(in_root("real"), "new");
    assert_true(lstat(in_root("link"), &sb) == 0 && S_ISLNK(sb.st_mode));
    assert_int_equal(symlink("nothing", in_root("dangling")), 0);
    assert_int_equal(kd_io_write_file(in_root("dangling"), "x", 1, &err), KD_E_WRITE);
    assert_non_null(strstr(err.msg, "leads to no file"));
    assert_int_equal(mkfifo(in_root("fifo"), 0600), 0);
    err = (kd_err){0};
    assert_int_equal(kd_io_write_file(in_root("fifo"), "x", 1, &err), KD_E_WRITE);
    assert_non_null(strstr(err.msg, "found a pipe"));
    assert_true(stat(in_root("fifo"), &sb) == 0 && S_ISFIFO(sb.st_mode));
    err = (kd_err){0};
    /* the machine's own device is named only by a user who could not harm it if the rule broke */
    const bool made = geteuid() == 0 && mknod(in_root("char"), S_IFCHR | 0600, makedev(1, 3)) == 0;
    if (made || geteuid() != 0) {
        assert_int_equal(kd_io_write_file(made ? in_root("char") : "/dev/null", "x", 1, &err), KD_E_WRITE);
        assert_non_null(strstr(err.msg, "character device"));
    }
    err = (kd_err){0};
    assert_int_equal(kd_io_write_file(root, "x", 1, &err), KD_E_WRITE);
    assert_non_null(strstr(err.msg, "found a directory"));
    assert_true(kd_path_same(in_root("link"), in_root("real")));
    assert_false(kd_path_same(in_root("dangling"), in_root("real")));
}

/* A handler finds the file of an address; after unmapping nobody does. */
static void test_map_at(void **state)
{
    (void)state;
    kd_map m;
    uint64_t at = 0;
    put(in_root("mapped"), "0123456789");
    assert_int_equal(kd_io_map(in_root("mapped"), &m, NULL), KD_OK);
    assert_string_equal(kd_io_map_at(m.data + 7, &at), in_root("mapped"));
    assert_int_equal(at, 7);
    assert_null(kd_io_map_at(m.data + 10, &at));
    assert_null(kd_io_map_at(&m, &at));
    const uint8_t *p = m.data;
    kd_io_unmap(&m);
    assert_null(kd_io_map_at(p, &at));
}

static void make_dir(const char *dir, const char *text)
{
    char p[300];
    assert_int_equal(kd_io_remove_tree(dir, NULL), KD_OK);
    (void)snprintf(p, sizeof p, "%s/sub", dir);
    assert_int_equal(kd_io_mkdirs(p, NULL), KD_OK);
    (void)snprintf(p, sizeof p, "%s/sub/x", dir);
    put(p, text);
    (void)snprintf(p, sizeof p, "%s/y", dir);
    put(p, text);
}

static bool dir_is(const char *dir, const char *text)
{
    char p[300];
    bool same = true;
    const char *const names[] = {"sub/x", "y"};
    for (size_t i = 0; i < 2; i++) {
        uint8_t *data = NULL;
        size_t n = 0;
        (void)snprintf(p, sizeof p, "%s/%s", dir, names[i]);
        same = same && kd_io_read_file(p, 100, &data, &n, NULL) == KD_OK && strcmp((char *)data, text) == 0;
        kd_free(data);
    }
    return same;
}

static void replace_keep(void)
{
    if (kd_io_replace_dir(in_root("d.tmp"), in_root("d"), in_root("d.prev"), NULL) != KD_OK) {
        _exit(3);
    }
}

static void test_killed_dir(void **state)
{
    (void)state;
    bool end = false;
    for (int64_t n = 1; !end; n++) {
        make_dir(in_root("d.prev"), "older");
        make_dir(in_root("d"), "old");
        make_dir(in_root("d.tmp"), "new");
        end = survives(n, replace_keep);
        const bool now = dir_is(in_root("d"), "new");
        assert_true(now || dir_is(in_root("d"), "old") ||
                    (!kd_path_exists(in_root("d")) && dir_is(in_root("d.prev"), "old")));
        if (end) {
            assert_true(now);
            assert_true(dir_is(in_root("d.prev"), "old"));
            assert_false(kd_path_exists(in_root("d.tmp")));
        }
    }
    make_dir(in_root("d.tmp"), "newest");
    put(in_root("d.old"), "mine");
    assert_int_equal(kd_io_replace_dir(in_root("d.tmp"), in_root("d"), NULL, NULL), KD_OK);
    assert_true(dir_is(in_root("d"), "newest"));
    expect_text(in_root("d.old"), "mine");
    assert_int_equal(entries(), 3); /* d, d.prev, d.old */
}

static void test_dirs(void **state)
{
    (void)state;
    assert_int_equal(kd_io_mkdirs(in_root("m/n/o"), NULL), KD_OK);
    assert_int_equal(kd_io_mkdirs(in_root("m/n/o/"), NULL), KD_OK);
    put(in_root("m/file"), "x");
    kd_err err = {0};
    assert_int_equal(kd_io_mkdirs(in_root("m/file/q"), &err), KD_E_WRITE);
    put(in_root("m/b"), "");
    put(in_root("m/a"), "");
    char **names = NULL;
    size_t n = 0;
    assert_int_equal(kd_io_list_dir(in_root("m"), &names, &n, NULL), KD_OK);
    assert_int_equal(n, 4);
    assert_string_equal(names[0], "a");
    assert_string_equal(names[3], "n");
    kd_free(names);
    assert_int_equal(kd_io_list_dir(in_root("absent"), &names, &n, NULL), KD_E_IO);
    /* a link to a directory is removed, what it points to is not */
    put(in_root("keep"), "x");
    assert_int_equal(symlink(root, in_root("m/link")), 0);
    assert_int_equal(kd_io_remove_tree(in_root("m"), NULL), KD_OK);
    assert_false(kd_path_exists(in_root("m")));
    assert_true(kd_path_is_file(in_root("keep")));
}

static void test_lock(void **state)
{
    (void)state;
    kd_lock *a = NULL;
    kd_lock *b = NULL;
    kd_err err = {0};
    assert_int_equal(kd_io_lock(in_root("lock"), &a, NULL), KD_OK);
    assert_int_equal(kd_io_lock(in_root("lock"), &b, &err), KD_E_LOCKED);
    char pid[32];
    (void)snprintf(pid, sizeof pid, "pid %ld ", (long)getpid());
    assert_non_null(strstr(err.msg, pid));
    kd_io_unlock(a);
    assert_int_equal(kd_io_lock(in_root("lock"), &b, NULL), KD_OK);
    kd_io_unlock(b);
    const pid_t child = fork(); /* the lock of a dead process is free */
    if (child == 0) {
        kd_lock *c = NULL;
        _exit(kd_io_lock(in_root("lock"), &c, NULL) == KD_OK ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(kd_io_lock(in_root("lock"), &a, NULL), KD_OK);
    kd_io_unlock(a);
}

/* What is no lock of ours is neither cut nor followed. */
static void test_foreign_lock(void **state)
{
    (void)state;
    kd_lock *a = NULL;
    kd_err err = {0};
    put(in_root("mine"), "pid of the gardener");
    assert_int_equal(symlink("mine", in_root("lock1")), 0);
    assert_int_equal(kd_io_lock(in_root("lock1"), &a, &err), KD_E_WRITE);
    assert_non_null(strstr(err.msg, "symbolic link"));
    assert_int_equal(link(in_root("mine"), in_root("lock2")), 0);
    assert_int_equal(kd_io_lock(in_root("lock2"), &a, NULL), KD_E_WRITE);
    expect_text(in_root("mine"), "pid of the gardener");
    put(in_root("lock3"), "{\"a\": 1}");
    err = (kd_err){0};
    assert_int_equal(kd_io_lock(in_root("lock3"), &a, &err), KD_E_WRITE);
    assert_non_null(strstr(err.msg, "move it away"));
    expect_text(in_root("lock3"), "{\"a\": 1}");
    assert_null(a);
}

static void expect_path(char *got, const char *expected)
{
    assert_string_equal(got, expected);
    kd_free(got);
}

static void test_paths(void **state)
{
    (void)state;
    expect_path(kd_path_join("a", "b"), "a/b");
    expect_path(kd_path_join("a/", "b"), "a/b");
    expect_path(kd_path_join("", "b"), "b");
    expect_path(kd_path_join("a", "/b"), "/b");
    expect_path(kd_path_dir("a/b"), "a");
    expect_path(kd_path_dir("a//b/"), "a");
    expect_path(kd_path_dir("b"), ".");
    expect_path(kd_path_dir("/b"), "/");
    expect_path(kd_path_stem("x/y.tar.gz"), "y.tar");
    expect_path(kd_path_stem(".hidden"), ".hidden");
    assert_string_equal(kd_path_base("a/b"), "b");
    assert_true(kd_path_has_suffix("m.PTH", ".pth"));
    assert_false(kd_path_has_suffix("pth", ".pth"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refuse, setup, teardown),
        cmocka_unit_test_setup_teardown(test_write, setup, teardown),
        cmocka_unit_test_setup_teardown(test_disk_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_killed_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_killed_dir, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dirs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lock, setup, teardown),
        cmocka_unit_test_setup_teardown(test_foreign_lock, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sweep, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_name, setup, teardown),
        cmocka_unit_test_setup_teardown(test_targets, setup, teardown),
        cmocka_unit_test_setup_teardown(test_map_at, setup, teardown),
        cmocka_unit_test(test_paths),
    };
    return cmocka_run_group_tests_name("io", tests, NULL, NULL);
}
