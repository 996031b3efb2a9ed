/* formats/store under faults: interrupted writing, full disk, damage, no memory. */
#include "tests/formats/store_case.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Cut the unfinished file and its tail at every byte: resuming always ends in the same bytes. */
static void test_resume_at_every_byte(void **state)
{
    (void)state;
    const kd_store_manifest m = manifest(KD_F16);
    const char *whole = in_root("whole.logits.zst");
    write_some(whole, &m, 0, 11, 1, false, true);
    write_some(in_root("cut.logits.zst"), &m, 0, 11, 1, false, false);
    size_t n_part, n_tail;
    uint8_t *part = slurp(in_root("cut.logits.zst.part"), &n_part);
    uint8_t *tail = slurp(in_root("cut.logits.zst.part.tail"), &n_tail);
    assert_true(n_tail > 0); /* records 8, 9, 10 */
    for (int both = 0; both < 2; both++) {
        const size_t total = both ? n_tail : n_part;
        for (size_t cut = 0; cut <= total; cut++) {
            kd_err err = {0};
            kd_store_resume_info info;
            kd_store_writer *w = NULL;
            const char *path = in_root("cut.logits.zst");
            spill(in_root("cut.logits.zst.part"), part, both ? n_part : cut);
            spill(in_root("cut.logits.zst.part.tail"), tail, both ? cut : n_tail);
            ok(kd_store_writer_open(path, &m, KD_STORE_RESUME, &w, &info, &err), &err);
            assert_int_equal(info.records, kd_store_writer_count(w));
            if (both) {
                assert_true(info.records >= 8 && (cut < n_tail || info.records == 11));
            }
            kd_store_writer_abandon(w);
            /* the cut file has lost the order of records when tail records follow lost blocks:
             * start those over */
            if (!both && cut < n_part) {
                spill(in_root("cut.logits.zst.part"), part, cut);
                spill(in_root("cut.logits.zst.part.tail"), tail, 0);
            }
            write_some(path, &m, 0, 11, 1, true, true);
            assert_same_file(path, whole);
            assert_int_equal(unlink(path), 0);
        }
    }
    kd_free(part);
    kd_free(tail);
}

/* SIGKILL before the n-th disk operation, for every n, several deaths in a row: same bytes in the
 * end. */
static void test_kill_anywhere(void **state)
{
    (void)state;
    const kd_store_manifest m = manifest(KD_F16);
    const char *whole = in_root("kw.logits.zst");
    const char *path = in_root("kill.logits.zst");
    write_some(whole, &m, 0, RECORDS, 1, false, true);
    int finished = 0;
    for (int n = 1; finished < 2 && n < 200; n++) {
        for (int tries = 0; tries < 400; tries++) {
            const pid_t pid = fork();
            assert_true(pid >= 0);
            if (pid == 0) {
                kd_io_kill_at_step(n + tries % 3);
                write_some(path, &m, 0, RECORDS, 1, true, true);
                _exit(0);
            }
            int code = 0;
            assert_int_equal(waitpid(pid, &code, 0), pid);
            if (WIFEXITED(code)) {
                assert_int_equal(WEXITSTATUS(code), 0);
                finished += tries == 0;
                break;
            }
            assert_true(WIFSIGNALED(code) && WTERMSIG(code) == SIGKILL);
            if (n < 4 && tries > 20) {
                break; /* dies before it gets anywhere: a later n goes on */
            }
        }
        if (kd_path_exists(path)) {
            assert_same_file(path, whole);
            assert_int_equal(unlink(path), 0);
        }
    }
    assert_true(finished >= 2);
}

static void test_disk_full(void **state)
{
    (void)state;
    const kd_store_manifest m = manifest(KD_F32);
    const char *whole = in_root("fw.logits.zst");
    const char *path = in_root("full.logits.zst");
    write_some(whole, &m, 0, RECORDS, 1, false, true);
    for (int64_t room = 0; room < 9000; room += 211) {
        kd_store_writer *w = NULL;
        kd_err err = {0};
        kd_io_fail_after_bytes(room);
        kd_status st = kd_store_writer_open(path, &m, KD_STORE_RESUME, &w, NULL, &err);
        for (int i = 0; i < RECORDS && st == KD_OK; i++) {
            sample s;
            make_sample(i, &s);
            st = kd_store_has(w, s.id) ? KD_OK : kd_store_append(w, &s.rec, &err);
        }
        if (w != NULL && st == KD_OK) {
            st = kd_store_writer_close(w, &err);
        } else {
            kd_store_writer_abandon(w);
        }
        kd_io_fail_after_bytes(-1);
        if (st != KD_OK) {
            assert_int_equal(st, KD_E_WRITE);
            assert_false(kd_path_exists(path));
            write_some(path, &m, 0, RECORDS, 1, true, true);
        }
        assert_same_file(path, whole);
        assert_int_equal(unlink(path), 0);
    }
}

static void note(void *user, const char *line)
{
    int *count = user;
    (*count)++;
    assert_true(strlen(line) > 10);
    assert_null(strchr(line, '\n'));
}

/* Read what can be read of a damaged file; every record that comes out is right. */
static int readable(const char *path)
{
    kd_store *s = NULL;
    kd_store_cursor *c = NULL;
    int good = 0;
    if (kd_store_open(path, &s, NULL) != KD_OK) {
        return -1;
    }
    assert_int_equal(kd_store_cursor_new(s, &c, NULL), KD_OK);
    for (int64_t i = 0; i < kd_store_count(s); i++) {
        kd_store_record r;
        kd_err err = {0};
        const kd_status st = kd_store_read(c, i, &r, &err);
        if (st == KD_OK) {
            check_record(&r, (int)i);
            good++;
        } else {
            assert_int_equal(st, KD_E_INTEGRITY);
            assert_non_null(strstr(err.msg, "block "));
        }
    }
    kd_store_cursor_free(c);
    kd_store_close(s);
    return good;
}

static void test_flip_every_bit(void **state)
{
    (void)state;
    const kd_store_manifest m = manifest(KD_F16);
    const char *path = in_root("flip.logits.zst");
    const int records = 7;
    write_some(path, &m, 0, records, 1, false, true);
    size_t n;
    uint8_t *bytes = slurp(path, &n);
    const int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    for (size_t i = 0; i < n; i++) {
        for (int bit = 0; bit < 8; bit++) {
            const uint8_t old = bytes[i];
            const uint8_t bad = (uint8_t)(old ^ (1u << bit));
            int faults = 0;
            kd_store_verify_report rep;
            kd_err err = {0};
            assert_int_equal(pwrite(fd, &bad, 1, (off_t)i), 1);
            const kd_status st = kd_store_verify(path, note, &faults, &rep, &err);
            if (st == KD_OK) {
                fail_msg("byte %zu bit %d went unnoticed", i, bit);
            }
            assert_true(st == KD_E_INTEGRITY || (i < 4 && st == KD_E_FORMAT));
            assert_true(faults > 0 && err.msg[0] != '\0');
            const int good = readable(path);
            assert_true(good == -1 || good == records || good == 4 || good == 3);
            assert_int_equal(pwrite(fd, &old, 1, (off_t)i), 1);
        }
    }
    assert_int_equal(close(fd), 0);
    assert_int_equal(readable(path), records);
    for (size_t cut = 0; cut < n; cut++) {
        kd_store_verify_report rep;
        kd_err err = {0};
        assert_int_equal(truncate(path, (off_t)cut), 0);
        const kd_status st = kd_store_verify(path, NULL, NULL, &rep, &err);
        assert_true(st == KD_E_INTEGRITY || st == KD_E_FORMAT);
        assert_int_equal(readable(path), -1);
        spill(path, bytes, n);
    }
    /* without its end, verify still finds the records of every whole block */
    kd_store_verify_report rep;
    assert_int_equal(truncate(path, (off_t)n - 1), 0);
    assert_int_equal(kd_store_verify(path, NULL, NULL, &rep, NULL), KD_E_INTEGRITY);
    assert_int_equal(rep.records, records);
    assert_int_equal(rep.bad_structure, 1);
    kd_free(bytes);
}

/* Any allocation may fail: an error, no crash, no leak, and the files stay resumable. */
static void test_no_memory(void **state)
{
    (void)state;
    const kd_store_manifest m = manifest(KD_F16);
    const char *path = in_root("oom.logits.zst");
    bool through = false;
    for (uint64_t n = 1; !through && n < 4000; n += n < 80 ? 1 : 7) {
        kd_store_writer *w = NULL;
        kd_alloc_fail_at(n);
        kd_status st = kd_store_writer_open(path, &m, KD_STORE_RESUME, &w, NULL, NULL);
        for (int i = 0; i < 9 && st == KD_OK; i++) {
            sample s;
            make_sample(i, &s);
            st = kd_store_has(w, s.id) ? KD_OK : kd_store_append(w, &s.rec, NULL);
        }
        if (st == KD_OK) {
            st = kd_store_writer_close(w, NULL);
        } else {
            kd_store_writer_abandon(w);
        }
        kd_store_verify_report rep;
        if (st == KD_OK) {
            st = kd_store_verify(path, NULL, NULL, &rep, NULL);
        }
        kd_alloc_fail_at(0);
        through = st == KD_OK;
        assert_true(st == KD_OK || st == KD_E_OOM);
        (void)unlink(path);
        (void)unlink(in_root("oom.logits.zst.part"));
        (void)unlink(in_root("oom.logits.zst.part.tail"));
    }
    assert_true(through);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resume_at_every_byte),
        cmocka_unit_test(test_kill_anywhere),
        cmocka_unit_test(test_disk_full),
        cmocka_unit_test(test_flip_every_bit),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, make_root, drop_root);
}
