/* formats/logit_store: round trips, interrupted writing, damage, merging. */
#include "formats/io.h"
#include "formats/logit_store.h"
#include "formats/zip.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* cmocka needs the first three */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
/* clang-format on */

enum { CLASSES = 5, DIM = 8, VIEWS = 3, FRAMES = 4, RECORDS = 23 };

static char root[64];
static const char *NAMES[CLASSES] = {"drink", "eat", "brush \"teeth\"", "comb", "drop"};

/* Path of a name in the test's folder; the same name gives the same string for good. */
static const char *in_root(const char *name)
{
    static char buf[64][160];
    char path[160];
    (void)snprintf(path, sizeof path, "%s/%s", root, name);
    for (size_t i = 0; i < KD_COUNTOF(buf); i++) {
        if (buf[i][0] == '\0') memcpy(buf[i], path, sizeof path);
        if (strcmp(buf[i], path) == 0) return buf[i];
    }
    fail_msg("too many names");
    return NULL;
}

static int make_root(void **state)
{
    (void)state;
    (void)snprintf(root, sizeof root, "/tmp/kd_store_XXXXXX");
    return mkdtemp(root) == NULL ? -1 : 0;
}

static int drop_root(void **state)
{
    (void)state;
    return kd_io_remove_tree(root, NULL) == KD_OK ? 0 : -1;
}

static kd_store_manifest manifest(kd_dtype t)
{
    return (kd_store_manifest){.teacher = "tiny",
                               .teacher_sha256 = "00ff",
                               .config_hash = "aa",
                               .data_set = "sample",
                               .split = "ntu60-xsub",
                               .parts = "train,val",
                               .views = "3x1",
                               .merge = "prob",
                               .decoder = "libavcodec 59",
                               .feature = "fc_norm",
                               .classes = NAMES,
                               .n_classes = CLASSES,
                               .logit_dtype = t,
                               .feature_dim = DIM,
                               .feature_dtype = t == KD_F16 ? KD_BF16 : KD_F32,
                               .block_records = 4};
}

/* A record with known content: a function of i and, for the number of views, of i as well. */
typedef struct sample {
    char id[32];
    float logits[VIEWS * CLASSES], feature[DIM];
    int32_t frames[VIEWS][FRAMES];
    kd_store_view views[VIEWS];
    kd_store_record rec;
} sample;

static void make_sample(int i, sample *s)
{
    (void)snprintf(s->id, sizeof s->id, "S001C%03dP001R001A%03d", i, i % CLASSES + 1);
    const int views = 1 + i % VIEWS;
    for (int k = 0; k < views * CLASSES; k++) {
        s->logits[k] = (float)(((i * 37 + k * 11) % 29) - 14) * 0.375f;
    }
    for (int k = 0; k < DIM; k++) {
        s->feature[k] = (float)(i - k) * 0.25f;
    }
    for (int v = 0; v < views; v++) {
        for (int f = 0; f < FRAMES; f++) {
            s->frames[v][f] = i + 4 * f + v;
        }
        s->views[v] = (kd_store_view){.clip = v,
                                      .crop = 1,
                                      .crop_x = -3,
                                      .crop_y = 70000,
                                      .flip = v == 1,
                                      .seed = 0x123456789abcdef0u + (unsigned)i,
                                      .n_frames = FRAMES - v,
                                      .frames = s->frames[v]};
    }
    s->rec = (kd_store_record){.id = s->id,
                               .order = (uint64_t)i,
                               .label = i % CLASSES,
                               .n_views = views,
                               .logits = s->logits,
                               .feature = s->feature,
                               .views = s->views};
}

static void ok(kd_status st, const kd_err *err)
{
    if (st != KD_OK) fail_msg("%s: %s", kd_status_text(st), err->msg);
}

static void write_some(const char *path, const kd_store_manifest *m, int from, int to, int step,
                       bool resume, bool finish)
{
    kd_err err = {0};
    kd_store_writer *w = NULL;
    ok(kd_store_writer_open(path, m, resume, &w, NULL, &err), &err);
    for (int i = from; i < to; i += step) {
        sample s;
        make_sample(i, &s);
        if (!kd_store_has(w, s.id)) ok(kd_store_append(w, &s.rec, &err), &err);
        assert_true(kd_store_has(w, s.id));
    }
    if (finish) {
        ok(kd_store_writer_close(w, &err), &err);
    } else {
        kd_store_writer_abandon(w);
    }
}

static uint8_t *slurp(const char *path, size_t *n)
{
    uint8_t *p = NULL;
    kd_err err = {0};
    ok(kd_io_read_file(path, (size_t)1 << 26, &p, n, &err), &err);
    return p;
}

static void assert_same_file(const char *a, const char *b)
{
    size_t na, nb;
    uint8_t *pa = slurp(a, &na);
    uint8_t *pb = slurp(b, &nb);
    assert_int_equal(na, nb);
    assert_memory_equal(pa, pb, na);
    kd_free(pa);
    kd_free(pb);
}

static void check_record(const kd_store_record *r, int i)
{
    sample s;
    make_sample(i, &s);
    assert_string_equal(r->id, s.id);
    assert_int_equal(r->label, i % CLASSES);
    assert_true(r->order == (uint64_t)i);
    assert_int_equal(r->n_views, 1 + i % VIEWS);
    assert_memory_equal(r->logits, s.logits,
                        (size_t)r->n_views * CLASSES * 4); /* exact in f16 too */
    assert_memory_equal(r->feature, s.feature, sizeof s.feature);
    for (int v = 0; v < r->n_views; v++) {
        const kd_store_view *a = &r->views[v];
        assert_true(a->clip == v && a->crop == 1 && a->crop_x == -3 && a->crop_y == 70000);
        assert_true(a->flip == (v == 1) && a->seed == s.views[v].seed);
        assert_int_equal(a->n_frames, FRAMES - v);
        assert_memory_equal(a->frames, s.frames[v], (size_t)(FRAMES - v) * 4);
    }
    for (int k = 0; k < CLASSES; k++) { /* mean of softmaxes */
        double p = 0;
        for (int v = 0; v < r->n_views; v++) {
            double sum = 0;
            for (int j = 0; j < CLASSES; j++) {
                sum += exp((double)s.logits[v * CLASSES + j] - (double)s.logits[v * CLASSES + k]);
            }
            p += 1.0 / sum / r->n_views;
        }
        assert_true(fabs((double)r->prob[k] - p) <= 1e-6);
    }
}

static void test_round_trip(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        kd_err err = {0};
        const char *path = in_root(t == 0 ? "rt16.logits.zst" : "rt32.logits.zst");
        kd_store_manifest m = manifest(t == 0 ? KD_F16 : KD_F32);
        m.expected = RECORDS;
        write_some(path, &m, 0, RECORDS, 1, false, true);
        kd_store *s = NULL;
        kd_store_cursor *c = NULL;
        ok(kd_store_open(path, &s, &err), &err);
        ok(kd_store_cursor_new(s, &c, &err), &err);
        assert_int_equal(kd_store_count(s), RECORDS);
        assert_int_equal(kd_store_block_count(s), (RECORDS + 3) / 4);
        const kd_store_manifest *g = kd_store_get_manifest(s);
        assert_string_equal(g->classes[2], NAMES[2]);
        assert_string_equal(g->split, "ntu60-xsub");
        assert_int_equal(g->feature_dtype, t == 0 ? KD_BF16 : KD_F32);
        kd_store_record r;
        for (int i = 0; i < RECORDS; i++) {
            ok(kd_store_read(c, (i * 7) % RECORDS, &r, &err), &err);
            check_record(&r, (i * 7) % RECORDS);
            sample x;
            make_sample(i, &x);
            assert_int_equal(kd_store_find(s, x.id), i);
            assert_int_equal(kd_store_label(s, i), i % CLASSES);
        }
        ok(kd_store_read_id(c, "S001C022P001R001A003", &r, &err), &err);
        check_record(&r, 22);
        assert_int_equal(kd_store_read_id(c, "nobody", &r, &err), KD_E_DATA);
        assert_int_equal(kd_store_find(s, "nobody"), -1);
        kd_store_cursor_free(c);
        kd_store_close(s);
        kd_store_verify_report rep;
        err = (kd_err){0};
        ok(kd_store_verify(path, NULL, NULL, &rep, &err), &err);
        assert_int_equal(rep.records, RECORDS);
        assert_false(kd_path_exists(in_root("rt16.logits.zst.part")));
        assert_false(kd_path_exists(in_root("rt16.logits.zst.part.tail")));
    }
}

static void test_refusals(void **state)
{
    (void)state;
    kd_err err = {0};
    kd_store_writer *w = NULL;
    kd_store_writer *w2 = NULL;
    const char *path = in_root("ref.logits.zst");
    kd_store_manifest m = manifest(KD_F16);
    ok(kd_store_writer_open(path, &m, false, &w, NULL, &err), &err);
    assert_int_equal(kd_store_writer_open(path, &m, true, &w2, NULL, &err), KD_E_LOCKED);
    assert_null(w2);
    sample s;
    make_sample(1, &s);
    s.rec.label = CLASSES;
    assert_int_equal(kd_store_append(w, &s.rec, NULL), KD_E_DATA);
    s.rec.label = -1;
    assert_int_equal(kd_store_append(w, &s.rec, NULL), KD_E_DATA);
    make_sample(1, &s);
    s.logits[3] = NAN;
    assert_int_equal(kd_store_append(w, &s.rec, NULL), KD_E_NUMERIC);
    s.logits[3] = 70000.0f; /* infinite in f16 */
    assert_int_equal(kd_store_append(w, &s.rec, NULL), KD_E_NUMERIC);
    make_sample(1, &s);
    s.rec.n_views = 0;
    assert_int_equal(kd_store_append(w, &s.rec, NULL), KD_E_DATA);
    make_sample(1, &s);
    s.rec.id = "";
    assert_int_equal(kd_store_append(w, &s.rec, NULL), KD_E_DATA);
    s.rec.id = "01234567890123456789012345678901234567890123456789012345678901234";
    assert_int_equal(kd_store_append(w, &s.rec, NULL), KD_E_DATA);
    make_sample(1, &s);
    s.rec.feature = NULL;
    assert_int_equal(kd_store_append(w, &s.rec, NULL), KD_E_DATA);
    make_sample(1, &s);
    assert_int_equal(kd_store_writer_count(w), 0);
    err = (kd_err){0};
    ok(kd_store_append(w, &s.rec, &err), &err);
    assert_int_equal(kd_store_append(w, &s.rec, &err), KD_E_DATA); /* the id is there */
    assert_non_null(strstr(err.msg, s.id));
    kd_store_writer_abandon(w);
    err = (kd_err){0};
    assert_int_equal(kd_store_writer_open(path, &m, false, &w, NULL, &err), KD_E_STATE);
    m.split = "ntu60-xview";
    err = (kd_err){0};
    assert_int_equal(kd_store_writer_open(path, &m, true, &w, NULL, &err), KD_E_DATA);
    assert_non_null(strstr(err.msg, "split: \"ntu60-xview\" here, \"ntu60-xsub\" there"));
    m = manifest(KD_F16);
    m.merge = "max";
    assert_int_equal(kd_store_writer_open(path, &m, true, &w, NULL, NULL), KD_E_DATA);
    m = manifest(KD_F16);
    m.expected = 7;
    err = (kd_err){0};
    ok(kd_store_writer_open(in_root("few.logits.zst"), &m, false, &w, NULL, &err), &err);
    assert_int_equal(kd_store_writer_close(w, &err), KD_E_DATA);
    assert_false(kd_path_exists(in_root("few.logits.zst")));
    kd_store *st = NULL;
    assert_int_equal(kd_store_open(in_root("few.logits.zst.part"), &st, NULL), KD_E_FORMAT);
    assert_int_equal(kd_store_open(root, &st, NULL), KD_E_IO);
}

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
        for (size_t cut = 0; cut <= total; cut += both ? 1 : (cut % 3 == 0 ? 1 : 2)) {
            kd_err err = {0};
            kd_store_resume_info info;
            kd_store_writer *w = NULL;
            const char *path = in_root("cut.logits.zst");
            ok(kd_io_write_file(in_root("cut.logits.zst.part"), part, both ? n_part : cut, &err),
               &err);
            ok(kd_io_write_file(in_root("cut.logits.zst.part.tail"), tail, both ? cut : n_tail,
                                &err),
               &err);
            ok(kd_store_writer_open(path, &m, true, &w, &info, &err), &err);
            assert_int_equal(info.records, kd_store_writer_count(w));
            if (both) assert_true(info.records >= 8 && (cut < n_tail || info.records == 11));
            kd_store_writer_abandon(w);
            /* the cut file has lost the order of records when tail records follow lost blocks: start those over */
            if (!both && cut < n_part) {
                ok(kd_io_write_file(in_root("cut.logits.zst.part"), part, cut, &err), &err);
                ok(kd_io_write_file(in_root("cut.logits.zst.part.tail"), tail, 0, &err), &err);
            }
            write_some(path, &m, 0, 11, 1, true, true);
            assert_same_file(path, whole);
            assert_int_equal(unlink(path), 0);
        }
    }
    kd_free(part);
    kd_free(tail);
}

/* SIGKILL before the n-th disk operation, for every n, several deaths in a row: same bytes in the end. */
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
            if (n < 4 && tries > 20) break; /* dies before it gets anywhere: a later n goes on */
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
        kd_status st = kd_store_writer_open(path, &m, true, &w, NULL, &err);
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

/* A finished store that is extended equals one written in one go. */
static void test_extend_finished(void **state)
{
    (void)state;
    const kd_store_manifest m = manifest(KD_F16);
    const char *path = in_root("ext.logits.zst");
    write_some(in_root("all.logits.zst"), &m, 0, RECORDS, 1, false, true);
    for (int first = 0; first <= RECORDS; first++) {
        write_some(path, &m, 0, first, 1, false, true);
        kd_store_resume_info info;
        kd_store_writer *w = NULL;
        kd_err err = {0};
        ok(kd_store_writer_open(path, &m, true, &w, &info, &err), &err);
        assert_true(info.was_complete && info.records == first);
        ok(kd_store_writer_close(w, &err), &err); /* nothing added: nothing changes */
        assert_false(kd_path_exists(in_root("ext.logits.zst.part")));
        write_some(path, &m, 0, RECORDS, 1, true, true);
        assert_same_file(path, in_root("all.logits.zst"));
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
    if (kd_store_open(path, &s, NULL) != KD_OK) return -1;
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

static void test_flip_every_byte(void **state)
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
        for (int bit = (int)(i % 2); bit < 8; bit += 2) {
            const uint8_t old = bytes[i];
            const uint8_t bad = (uint8_t)(old ^ (1u << bit));
            int faults = 0;
            kd_store_verify_report rep;
            kd_err err = {0};
            assert_int_equal(pwrite(fd, &bad, 1, (off_t)i), 1);
            const kd_status st = kd_store_verify(path, note, &faults, &rep, &err);
            if (st == KD_OK) fail_msg("byte %zu bit %d went unnoticed", i, bit);
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
        ok(kd_io_write_file(path, bytes, n, &err), &err);
    }
    /* without its end, verify still finds the records of every whole block */
    kd_store_verify_report rep;
    assert_int_equal(truncate(path, (off_t)n - 1), 0);
    assert_int_equal(kd_store_verify(path, NULL, NULL, &rep, NULL), KD_E_INTEGRITY);
    assert_int_equal(rep.records, records);
    assert_int_equal(rep.bad_structure, 1);
    kd_free(bytes);
}

static void test_merge(void **state)
{
    (void)state;
    kd_store_manifest m = manifest(KD_F16);
    char path[3][160];
    const char *list[3];
    kd_err err = {0};
    write_some(in_root("one.logits.zst"), &m, 0, RECORDS, 1, false, true);
    for (int r = 0; r < 3; r++) {
        (void)snprintf(path[r], sizeof path[r], "%s/rank%d.logits.zst", root, r);
        list[2 - r] = path[r]; /* any order of shards */
        write_some(path[r], &m, r, RECORDS, 3, false, true);
    }
    const char *out = in_root("merged.logits.zst");
    ok(kd_store_merge(list, 3, out, &err), &err);
    assert_same_file(out, in_root("one.logits.zst"));
    assert_int_equal(kd_store_merge(list, 3, out, &err),
                     KD_E_STATE); /* never over an existing store */
    list[0] = list[1];
    err = (kd_err){0};
    assert_int_equal(kd_store_merge(list, 2, in_root("twice.logits.zst"), &err), KD_E_DATA);
    assert_non_null(strstr(err.msg, "id S001C"));
    m.teacher_sha256 = "11";
    write_some(in_root("other.logits.zst"), &m, 50, 52, 1, false, true);
    list[0] = in_root("other.logits.zst");
    err = (kd_err){0};
    assert_int_equal(kd_store_merge(list, 2, in_root("twice.logits.zst"), &err), KD_E_DATA);
    assert_non_null(strstr(err.msg, "teacher_sha256"));
    assert_false(kd_path_exists(in_root("twice.logits.zst")));
    assert_false(kd_path_exists(in_root("twice.logits.zst.part")));
}

/* Content of one array of the archive, its header checked. */
static const uint8_t *npy(const kd_zip *z, const char *name, const char *header)
{
    const kd_zip_entry *e = kd_zip_find(z, name);
    assert_non_null(e);
    assert_int_equal(kd_zip_check_stored(z, e, NULL), KD_OK);
    assert_memory_equal(e->data, "\x93NUMPY\x01\x00", 8);
    const size_t len = (size_t)(e->data[8] | e->data[9] << 8);
    assert_int_equal((len + 10) % 64, 0);
    assert_memory_equal(e->data + 10, header, strlen(header));
    assert_int_equal(e->data[9 + len], '\n');
    return e->data + 10 + len;
}

static void test_export(void **state)
{
    (void)state;
    kd_store_manifest m = manifest(KD_F16);
    kd_err err = {0};
    kd_map map;
    kd_zip *z = NULL;
    write_some(in_root("npz.logits.zst"), &m, 0, 5, 1, false, true); /* 1 + 2 + 3 + 1 + 2 views */
    ok(kd_store_export_npz(in_root("npz.logits.zst"), in_root("x.npz"), &err), &err);
    ok(kd_io_map(in_root("x.npz"), &map, &err), &err);
    ok(kd_zip_parse(map.data, map.bytes, "x.npz", &z, &err), &err);
    sample s;
    make_sample(4, &s);
    const uint8_t *p =
        npy(z, "ids.npy", "{'descr': '|S64', 'fortran_order': False, 'shape': (5,), }");
    assert_string_equal((const char *)p + 4 * 64, s.id);
    p = npy(z, "logits.npy", "{'descr': '<f4', 'fortran_order': False, 'shape': (9, 5), }");
    assert_memory_equal(p + 7 * CLASSES * 4, s.logits, 2 * CLASSES * 4);
    p = npy(z, "feature.npy", "{'descr': '<f4', 'fortran_order': False, 'shape': (5, 8), }");
    assert_memory_equal(p + 4 * DIM * 4, s.feature, DIM * 4);
    (void)npy(z, "prob.npy", "{'descr': '<f4', 'fortran_order': False, 'shape': (5, 5), }");
    p = npy(z, "view_offset.npy", "{'descr': '<i8', 'fortran_order': False, 'shape': (6,), }");
    assert_int_equal(p[5 * 8], 9);
    p = npy(z, "frames.npy", "{'descr': '<i4', 'fortran_order': False, 'shape': (31,), }");
    assert_memory_equal(p + 24 * 4, s.frames[0], 16);
    kd_zip_close(z);
    kd_io_unmap(&map);
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
        kd_status st = kd_store_writer_open(path, &m, true, &w, NULL, NULL);
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
        if (st == KD_OK) st = kd_store_verify(path, NULL, NULL, &rep, NULL);
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
        cmocka_unit_test(test_round_trip),      cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_extend_finished), cmocka_unit_test(test_resume_at_every_byte),
        cmocka_unit_test(test_kill_anywhere),   cmocka_unit_test(test_disk_full),
        cmocka_unit_test(test_flip_every_byte), cmocka_unit_test(test_merge),
        cmocka_unit_test(test_export),          cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, make_root, drop_root);
}
