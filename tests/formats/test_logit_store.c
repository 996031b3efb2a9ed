/* formats/store: round trips, refusals, extending, merging, exporting. */
#include "formats/base/zip.h"
#include "tests/formats/store_case.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

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
    ok(kd_store_writer_open(path, &m, KD_STORE_NEW, &w, NULL, &err), &err);
    assert_int_equal(kd_store_writer_open(path, &m, KD_STORE_RESUME, &w2, NULL, &err), KD_E_LOCKED);
    assert_null(w2);
    sample s;
    make_sample(1, &s);
    s.rec.label = CLASSES;
    assert_int_equal(kd_store_append(w, &s.rec, NULL), KD_E_DATA);
    s.rec.label = -2;
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
    char id[KD_STORE_ID_MAX + 2] = {0};
    memset(id, 'x', sizeof id - 1);
    s.rec.id = id;
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
    assert_int_equal(kd_store_writer_open(path, &m, KD_STORE_NEW, &w, NULL, &err), KD_E_STATE);
    m.split = "ntu60-xview";
    err = (kd_err){0};
    assert_int_equal(kd_store_writer_open(path, &m, KD_STORE_RESUME, &w, NULL, &err), KD_E_DATA);
    assert_non_null(strstr(err.msg, "split: \"ntu60-xsub\" then, \"ntu60-xview\" now"));
    m = manifest(KD_F16);
    m.merge = "max";
    assert_int_equal(kd_store_writer_open(path, &m, KD_STORE_RESUME, &w, NULL, NULL), KD_E_DATA);
    m = manifest(KD_F16);
    m.expected = 7;
    err = (kd_err){0};
    ok(kd_store_writer_open(in_root("few.logits.zst"), &m, KD_STORE_NEW, &w, NULL, &err), &err);
    assert_int_equal(kd_store_writer_close(w, &err), KD_E_DATA);
    assert_false(kd_path_exists(in_root("few.logits.zst")));
    kd_store *st = NULL;
    assert_int_equal(kd_store_open(in_root("few.logits.zst.part"), &st, NULL), KD_E_FORMAT);
    assert_int_equal(kd_store_open(root, &st, NULL), KD_E_IO);
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
        ok(kd_store_writer_open(path, &m, KD_STORE_RESUME, &w, &info, &err), &err);
        assert_true(info.was_complete && info.records == first);
        ok(kd_store_writer_close(w, &err), &err); /* nothing added: nothing changes */
        assert_false(kd_path_exists(in_root("ext.logits.zst.part")));
        write_some(path, &m, 0, RECORDS, 1, true, true);
        assert_same_file(path, in_root("all.logits.zst"));
        assert_int_equal(unlink(path), 0);
    }
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
    ok(kd_store_merge(list, 3, out, false, &err), &err);
    assert_same_file(out, in_root("one.logits.zst"));
    assert_int_equal(kd_store_merge(list, 3, out, false, &err), KD_E_STATE); /* never over an existing store */
    list[0] = list[1];
    err = (kd_err){0};
    assert_int_equal(kd_store_merge(list, 2, in_root("twice.logits.zst"), false, &err), KD_E_DATA);
    assert_non_null(strstr(err.msg, "id S001C"));
    m.teacher_sha256 = "11";
    write_some(in_root("other.logits.zst"), &m, 50, 52, 1, false, true);
    list[0] = in_root("other.logits.zst");
    err = (kd_err){0};
    assert_int_equal(kd_store_merge(list, 2, in_root("twice.logits.zst"), false, &err), KD_E_DATA);
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
    const uint8_t *p = npy(z, "ids.npy", "{'descr': '|S64', 'fortran_order': False, 'shape': (5,), }");
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_refusals), cmocka_unit_test(test_extend_finished),
        cmocka_unit_test(test_merge),      cmocka_unit_test(test_export),
    };
    return cmocka_run_group_tests(tests, make_root, drop_root);
}
