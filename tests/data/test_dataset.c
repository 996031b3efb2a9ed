/* The data set: halves, joins, refusals; and what the teacher left joined to it. */
#include "distill/kd/teacher_table.h"
#include "formats/base/io.h"
#include "formats/data/dataset.h"
#include "formats/data/sets/data_set.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
/* clang-format on */

#define BOTH (1u << KD_HALF_TRAIN | 1u << KD_HALF_VAL)

static void ok(kd_status st, const kd_err *err)
{
    if (st != KD_OK) {
        fail_msg("%s: %s", kd_status_text(st), err->msg);
    }
}

typedef struct world {
    char dir[64];
    kd_data_opts *cfg;
} world;

static void put(const world *w, const char *name, const char *text)
{
    kd_err err = {0};
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", w->dir, name);
    char *dir = kd_path_dir(path);
    ok(kd_io_mkdirs(dir, &err), &err);
    kd_free(dir);
    ok(kd_io_write_file(path, text, strlen(text), &err), &err);
}

static void put_ntu(const world *w, int setup, int camera, int person, int action, bool video, bool skeleton)
{
    char name[128];
    if (video) {
        (void)snprintf(name, sizeof name, "nturgb+d_rgb/S%03dC%03dP%03dR001A%03d_rgb.avi", setup, camera, person,
                       action);
        put(w, name, "x");
    }
    if (skeleton) {
        (void)snprintf(name, sizeof name, "nturgb+d_skeletons/S%03dC%03dP%03dR001A%03d.skeleton", setup, camera, person,
                       action);
        put(w, name, "x");
    }
}

static void set_split(world *w, const char *by)
{
    (void)snprintf(w->cfg->split.by, sizeof w->cfg->split.by, "%s", by);
}

static int begin(void **state)
{
    world *w = kd_calloc(1, sizeof *w);
    w->cfg = kd_calloc(1, sizeof *w->cfg);
    set_split(w, "ntu60-xsub");
    (void)snprintf(w->cfg->layout, sizeof w->cfg->layout, "ntu");
    (void)snprintf(w->dir, sizeof w->dir, "dataset_test_XXXXXX");
    if (mkdtemp(w->dir) == NULL) {
        return -1;
    }
    (void)snprintf(w->cfg->root, sizeof w->cfg->root, "%s", w->dir);
    *state = w;
    return 0;
}

static int end(void **state)
{
    world *w = *state;
    const kd_status st = kd_io_remove_tree(w->dir, NULL);
    kd_free(w->cfg);
    kd_free(w);
    return st == KD_OK ? 0 : -1;
}

static void refuse(const world *w, unsigned need, kd_status code, const char *word)
{
    kd_err err = {0};
    kd_dataset ds;
    assert_int_equal(kd_dataset_open(w->cfg, need, BOTH, &ds, &err), code);
    if (strstr(err.msg, word) == NULL) {
        fail_msg("'%s' is not in: %s", word, err.msg);
    }
    assert_null(ds.half[0].sample);
}

static void published_split(void **state)
{
    world *w = *state;
    kd_err err = {0};
    kd_dataset ds;
    put_ntu(w, 1, 1, 2, 5, true, true);                       /* train */
    put_ntu(w, 1, 1, 1, 3, true, true);                       /* train */
    put_ntu(w, 1, 2, 3, 60, true, true);                      /* val */
    put_ntu(w, 1, 2, 3, 7, true, false);                      /* val without skeleton */
    put_ntu(w, 1, 1, 8, 1, false, true);                      /* train without video */
    put_ntu(w, 20, 1, 1, 70, true, true);                     /* not of NTU60 */
    put(w, "nturgb+d_rgb/S001C003P002R002A012_rgb.avi", "x"); /* known missing */
    w->cfg->num_classes = 60;
    ok(kd_dataset_open(w->cfg, KD_NEED_VIDEO, BOTH, &ds, &err), &err);
    const kd_half *t = &ds.half[KD_HALF_TRAIN], *v = &ds.half[KD_HALF_VAL];
    assert_int_equal(t->n, 2);
    assert_string_equal(t->sample[0].id, "S001C001P001R001A003");
    assert_int_equal(t->sample[0].label, 2);
    assert_int_equal(t->sample[0].performer, 1);
    assert_int_equal(t->counts.listed, 4);
    assert_int_equal(t->counts.left[KD_FATE_NO_VIDEO], 1);
    assert_int_equal(t->counts.left[KD_FATE_KNOWN_MISSING], 1);
    assert_int_equal(v->n, 2);
    assert_int_equal(v->counts.pairs, 1);
    assert_null(v->sample[0].skeleton);
    assert_int_equal(ds.unplaced, 1);
    assert_string_equal(ds.split, "ntu60-xsub");
    assert_string_equal(ds.name, "ntu60");
    assert_int_equal(ds.n_classes, 60);
    assert_string_equal(ds.classes[0], "drink water");
    assert_int_equal(kd_half_find(t, "S001C001P002R001A005"), 1);
    assert_int_equal(kd_half_find(t, "S001C001P002R001A006"), -1);
    assert_true(kd_path_is_file(t->sample[1].video) && kd_path_is_file(t->sample[1].skeleton));
    char *text = kd_dataset_summary(&ds);
    assert_non_null(strstr(text, "train: 2 samples of 4 listed"));
    kd_free(text);
    kd_dataset_free(&ds);
    ok(kd_dataset_open(w->cfg, KD_NEED_VIDEO | KD_NEED_SKELETON, BOTH, &ds, &err), &err);
    assert_int_equal(ds.half[KD_HALF_VAL].n, 1);
    assert_int_equal(ds.half[KD_HALF_VAL].counts.left[KD_FATE_NO_SKELETON], 1);
    kd_dataset_free(&ds);
    w->cfg->with_missing = true;
    w->cfg->limit = 1;
    ok(kd_dataset_open(w->cfg, KD_NEED_VIDEO, BOTH, &ds, &err), &err);
    assert_int_equal(ds.half[KD_HALF_TRAIN].n, 1);
    assert_int_equal(ds.half[KD_HALF_TRAIN].counts.left[KD_FATE_OVER_LIMIT], 2);
    assert_int_equal(ds.half[KD_HALF_TRAIN].counts.left[KD_FATE_KNOWN_MISSING], 0);
    kd_dataset_free(&ds);
}

/* Every listed sample is kept or left out with its reason, in the order of ids; limits leave out the last. */
static void fates(void **state)
{
    static const struct {
        const char *id;
        kd_fate why;
        const char *file; /* its end; NULL: no file is named */
    } want[] = {{"S001C001P001R001A002", KD_FATE_NO_SKELETON, "nturgb+d_skeletons/S001C001P001R001A002.skeleton"},
                {"S001C001P001R001A004", KD_FATE_NO_VIDEO, "nturgb+d_rgb/S001C001P001R001A004_rgb.avi"},
                {"S001C001P002R001A005", KD_FATE_OVER_LIMIT, NULL},
                {"S001C003P002R002A012", KD_FATE_KNOWN_MISSING, NULL}};
    world *w = *state;
    kd_err err = {0};
    kd_dataset ds;
    put_ntu(w, 1, 1, 1, 1, true, true);
    put_ntu(w, 1, 1, 1, 2, true, false);
    put_ntu(w, 1, 1, 1, 3, true, true);
    put_ntu(w, 1, 1, 1, 4, false, true);
    put_ntu(w, 1, 1, 2, 5, true, true);
    put_ntu(w, 1, 2, 3, 7, true, true);
    put(w, "nturgb+d_rgb/S001C003P002R002A012_rgb.avi", "x");
    w->cfg->limit = 2;
    ok(kd_dataset_open(w->cfg, KD_NEED_VIDEO | KD_NEED_SKELETON, BOTH, &ds, &err), &err);
    const kd_half *t = &ds.half[KD_HALF_TRAIN];
    assert_int_equal(t->n_left, KD_COUNTOF(want));
    assert_int_equal(t->counts.listed, t->n + t->n_left);
    for (size_t i = 0; i < KD_COUNTOF(want); i++) {
        const kd_left_out *l = &t->left[i];
        assert_string_equal(l->id, want[i].id);
        assert_int_equal(l->why, want[i].why);
        assert_true(want[i].file == NULL ? l->file == NULL : kd_path_has_suffix(l->file, want[i].file));
    }
    char hex[KD_SHA256_HEX], again[KD_SHA256_HEX];
    static const char text[] = "S001C001P001R001A001\t0\nS001C001P001R001A003\t2\n";
    ok(kd_half_digest(t, hex, &err), &err);
    ok(kd_sha256(text, strlen(text), again, &err), &err);
    assert_string_equal(hex, again);
    kd_dataset_free(&ds);
}

static void custom_splits(void **state)
{
    world *w = *state;
    kd_err err = {0};
    kd_dataset ds;
    for (int person = 1; person <= 5; person++) {
        put_ntu(w, 1, 1 + person % 3, person, 1 + person % 4, true, true);
    }
    set_split(w, "subject");
    w->cfg->split.train.n = 2;
    w->cfg->split.train.v[0] = 4;
    w->cfg->split.train.v[1] = 2;
    ok(kd_dataset_open(w->cfg, KD_NEED_SKELETON, BOTH, &ds, &err), &err);
    assert_int_equal(ds.half[KD_HALF_TRAIN].n, 2);
    assert_int_equal(ds.half[KD_HALF_VAL].n, 3);
    assert_string_equal(ds.split, "subject train=2,4 val=others");
    assert_int_equal(ds.n_classes, 4);
    assert_string_equal(ds.classes[3], "A004");
    assert_string_equal(ds.name, w->dir);
    kd_dataset_free(&ds);
    w->cfg->split.val.n = 1;
    w->cfg->split.val.v[0] = 5;
    set_split(w, "camera");
    refuse(w, KD_NEED_VIDEO, KD_E_DATA, "empty");
    w->cfg->split.val.v[0] = 3;
    ok(kd_dataset_open(w->cfg, KD_NEED_VIDEO, BOTH, &ds, &err), &err);
    assert_int_equal(ds.half[KD_HALF_TRAIN].n + ds.half[KD_HALF_VAL].n, 4);
    assert_int_equal(ds.unplaced, 1);
    kd_dataset_free(&ds);
    put(w, "classes.txt", "one\r\ntwo\nthree\nfour\nfive");
    ok(kd_dataset_open(w->cfg, KD_NEED_VIDEO, BOTH, &ds, &err), &err);
    assert_int_equal(ds.n_classes, 5);
    assert_string_equal(ds.classes[0], "one");
    assert_string_equal(ds.classes[4], "five");
    kd_dataset_free(&ds);
    put(w, "classes.txt", "one\n\nthree\n");
    refuse(w, KD_NEED_VIDEO, KD_E_FORMAT, "classes.txt:2");
    put(w, "classes.txt", "one\ntwo\none\nfour\n");
    refuse(w, KD_NEED_VIDEO, KD_E_FORMAT, "classes.txt:3");
    put(w, "classes.txt", "\xef\xbb\xbfone\r\ntwo \r\nthree\r\nfour\r\n\r\n");
    ok(kd_dataset_open(w->cfg, KD_NEED_VIDEO, BOTH, &ds, &err), &err);
    assert_string_equal(ds.classes[0], "one");
    assert_string_equal(ds.classes[1], "two");
    assert_int_equal(ds.n_classes, 4);
    kd_dataset_free(&ds);
    put(w, "classes.txt", "one\ntwo\n");
    refuse(w, KD_NEED_VIDEO, KD_E_DATA, "label");
    w->cfg->num_classes = 4;
    refuse(w, KD_NEED_VIDEO, KD_E_DATA, "num_classes");
}

static void lists(void **state)
{
    world *w = *state;
    kd_err err = {0};
    kd_dataset ds;
    put(w, "clips/run fast.mp4", "x");
    put(w, "clips/walk.mp4", "x");
    put(w, "clips/jump.mp4", "x");
    put(w, "clips/walk.skeleton", "x");
    put(w, "train.csv", "path,label\nrun fast.mp4,1\nwalk.mp4,0\ngone.mp4,0\n");
    put(w, "clips/turn.mp4", "x");
    put(w, "val.csv", "path,label\njump.mp4,2\nturn.mp4,0\n");
    set_split(w, "list");
    (void)snprintf(w->cfg->layout, sizeof w->cfg->layout, "%s", KD_LAYOUT_LIST);
    (void)snprintf(w->cfg->video_dir, sizeof w->cfg->video_dir, "clips");
    (void)snprintf(w->cfg->train_list, sizeof w->cfg->train_list, "train.csv");
    (void)snprintf(w->cfg->val_list, sizeof w->cfg->val_list, "val.csv");
    refuse(w, KD_NEED_VIDEO, KD_E_DATA, "clips/gone.mp4");
    w->cfg->on_bad_sample = KD_BAD_SKIP;
    ok(kd_dataset_open(w->cfg, KD_NEED_VIDEO, BOTH, &ds, &err), &err);
    const kd_half *t = &ds.half[KD_HALF_TRAIN];
    assert_int_equal(t->n, 2);
    assert_int_equal(t->counts.left[KD_FATE_NO_VIDEO], 1);
    assert_string_equal(t->sample[0].id, "run fast");
    assert_int_equal(t->sample[0].label, 1);
    assert_non_null(t->sample[1].skeleton);
    assert_int_equal(ds.n_classes, 3);
    assert_string_equal(ds.classes[2], "class-2");
    char *split = kd_strdup(ds.split);
    kd_dataset_free(&ds);
    /* the order of lines is no part of the split, labels are */
    put(w, "train.csv", "path,label\nwalk.mp4,0\ngone.mp4,0\nrun fast.mp4,1\n");
    ok(kd_dataset_open(w->cfg, KD_NEED_VIDEO, BOTH, &ds, &err), &err);
    assert_string_equal(ds.split, split);
    kd_dataset_free(&ds);
    put(w, "train.csv", "path,label\nwalk.mp4,1\ngone.mp4,0\nrun fast.mp4,1\n");
    ok(kd_dataset_open(w->cfg, KD_NEED_VIDEO, BOTH, &ds, &err), &err);
    assert_string_not_equal(ds.split, split);
    kd_dataset_free(&ds);
    kd_free(split);
    put(w, "val.csv", "path,label\njump.mp4,2\nwalk.mp4,0\n");
    refuse(w, KD_NEED_VIDEO, KD_E_DATA, "walk");
    put(w, "val.csv", "path,label\njump.mp4,2\njump.avi,2\n");
    refuse(w, KD_NEED_VIDEO, KD_E_DATA, "jump");
    put(w, "val.csv", "path,label\njump.mp4,3\n");
    w->cfg->num_classes = 3;
    refuse(w, KD_NEED_VIDEO, KD_E_DATA, "3");
    set_split(w, "ntu60-xsub");
    refuse(w, KD_NEED_VIDEO, KD_E_CONFIG, "list");
}

static void refusals(void **state)
{
    world *w = *state;
    put(w, "a.txt", "x");
    refuse(w, KD_NEED_VIDEO, KD_E_DATA, "nturgb+d_rgb");
    (void)snprintf(w->cfg->layout, sizeof w->cfg->layout, "%s", KD_LAYOUT_FLAT);
    w->cfg->num_classes = 60;
    refuse(w, KD_NEED_VIDEO, KD_E_DATA, "empty");
    put(w, "x/S001C001P001R001A001_rgb.avi", "x");
    put(w, "y/S001C001P001R001A001.mp4", "x");
    refuse(w, KD_NEED_VIDEO, KD_E_DATA, "S001C001P001R001A001");
    (void)snprintf(w->cfg->root, sizeof w->cfg->root, "%s/nowhere", w->dir);
    refuse(w, KD_NEED_VIDEO, KD_E_IO, "nowhere");
    w->cfg->root[0] = '\0';
    refuse(w, KD_NEED_VIDEO, KD_E_CONFIG, "data.root");
}

/* Folders of the two kinds apart. */
static void own_folders(void **state)
{
    world *w = *state;
    kd_err err = {0};
    kd_dataset ds;
    put(w, "small/S001C001P001R001A001_rgb.mp4", "x");
    put(w, "small/S001C001P003R001A001_rgb.mp4", "x");
    put(w, "nturgb+d_rgb/S001C001P001R001A001_rgb.avi", "x");
    put(w, "nturgb+d_skeletons/S001C001P001R001A001.skeleton", "x");
    put(w, "nturgb+d_skeletons/S001C001P002R001A001.skeleton", "x");
    (void)snprintf(w->cfg->video_dir, sizeof w->cfg->video_dir, "small");
    w->cfg->num_classes = 60;
    ok(kd_dataset_open(w->cfg, 0, BOTH, &ds, &err), &err);
    const kd_half *t = &ds.half[KD_HALF_TRAIN];
    assert_int_equal(t->n, 2);
    assert_non_null(strstr(t->sample[0].video, "/small/"));
    assert_non_null(t->sample[0].skeleton);
    assert_null(t->sample[1].video);
    assert_null(ds.half[KD_HALF_VAL].sample[0].skeleton);
    kd_dataset_free(&ds);
}

/* ---- the teacher's table --------------------------------------------------------------------- */

/* ---- a share without labels ------------------------------------------------------------------- */

static uint32_t labelled_of(world *w, const char *share, int64_t seed, size_t *kept)
{
    kd_err err = {0};
    kd_dataset ds;
    uint32_t which = 0;
    (void)snprintf(w->cfg->unlabelled, sizeof w->cfg->unlabelled, "%s", share);
    w->cfg->unlabelled_seed = seed;
    ok(kd_dataset_open(w->cfg, KD_NEED_SKELETON, BOTH, &ds, &err), &err);
    const kd_half *half = &ds.half[KD_HALF_TRAIN];
    kept[0] = kept[1] = kept[2] = 0;
    for (size_t i = 0; i < half->n; i++) {
        const kd_data_sample *s = &half->sample[i];
        assert_true(s->label == s->action - 1 || s->label == KD_NO_LABEL);
        if (s->label != KD_NO_LABEL) {
            kept[s->label]++;
            which |= (uint32_t)1 << i;
        }
    }
    assert_int_equal(half->counts.unlabelled, half->n - kept[0] - kept[1] - kept[2]);
    for (size_t i = 0; i < ds.half[KD_HALF_VAL].n; i++) {
        assert_true(ds.half[KD_HALF_VAL].sample[i].label != KD_NO_LABEL);
    }
    kd_dataset_free(&ds);
    return which;
}

/* Actions of 10, 6 and 2 training samples. */
static void a_share_keeps_two_of_each_class(void **state)
{
    world *w = *state;
    static const int SIZE[3] = {10, 6, 2};
    size_t kept[3];
    for (int a = 0; a < 3; a++) {
        for (int person = 1; person <= SIZE[a]; person++) {
            put_ntu(w, 1, 1, person, a + 1, true, true);
        }
        put_ntu(w, 1, 1, 20, a + 1, true, true);
    }
    set_split(w, "subject");
    w->cfg->split.train = (kd_cfg_ints){.n = 10, .v = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}};
    const uint32_t five = labelled_of(w, "0.5", 0, kept);
    assert_true(kept[0] == 5 && kept[1] == 3 && kept[2] == 2);
    assert_int_equal(labelled_of(w, "0.5", 0, kept), five);
    assert_true(labelled_of(w, "0.5", 1, kept) != five && kept[0] == 5 && kept[1] == 3);
    const uint32_t few = labelled_of(w, "0.9", 0, kept);
    assert_true(kept[0] == 2 && kept[1] == 2 && kept[2] == 2);
    assert_int_equal(few & five, few); /* fewer labels are some of more */
    (void)labelled_of(w, "0.25", 0, kept);
    assert_true(kept[0] == 8 && kept[1] == 5 && kept[2] == 2); /* 7.5, 4.5 and 1.5 */
}

static void write_store(const char *path, const kd_dataset *ds, const char *split, int views, int label_shift,
                        size_t records)
{
    kd_err err = {0};
    kd_store_writer *out = NULL;
    const kd_half *t = &ds->half[KD_HALF_TRAIN];
    const kd_store_manifest m = {.teacher = "t",
                                 .data_set = ds->name,
                                 .split = split,
                                 .parts = "train",
                                 .views = "1x1",
                                 .merge = "prob",
                                 .feature = "fc_norm",
                                 .classes = (const char *const *)ds->classes,
                                 .n_classes = ds->n_classes,
                                 .logit_dtype = KD_F32,
                                 .feature_dim = 2,
                                 .feature_dtype = KD_F32};
    ok(kd_store_writer_open(path, &m, KD_STORE_NEW, &out, NULL, &err), &err);
    for (size_t i = 0; i < records; i++) {
        const int32_t frames[1] = {0};
        float logits[8] = {0};
        const kd_store_view view[2] = {{.n_frames = 1, .frames = frames}, {.clip = 1, .n_frames = 1, .frames = frames}};
        const int label = t->sample[i].label + label_shift;
        const float feature[2] = {(float)i, -1.0f};
        logits[label] = 3.0f;
        logits[4 + label] = 1.0f;
        if (i == 0) {
            logits[(label + 1) % 4] = 9.0f; /* wrong once */
        }
        const kd_store_record r = {.id = t->sample[i].id,
                                   .order = i,
                                   .label = label,
                                   .n_views = views,
                                   .logits = logits,
                                   .feature = feature,
                                   .views = view};
        ok(kd_store_append(out, &r, &err), &err);
    }
    ok(kd_store_writer_close(out, &err), &err);
}

/* A store of two training views: time and mirror of each view come with the table. */
static void write_views(const char *path, const kd_dataset *ds)
{
    kd_err err = {0};
    kd_store_writer *out = NULL;
    const kd_half *t = &ds->half[KD_HALF_TRAIN];
    const kd_store_manifest m = {.teacher = "t",
                                 .data_set = ds->name,
                                 .split = ds->split,
                                 .parts = "train",
                                 .views = "train:2",
                                 .merge = "prob",
                                 .classes = (const char *const *)ds->classes,
                                 .n_classes = ds->n_classes,
                                 .logit_dtype = KD_F32,
                                 .replay_rows = "0123",
                                 .replay_seed = 7};
    ok(kd_store_writer_open(path, &m, KD_STORE_NEW, &out, NULL, &err), &err);
    for (size_t i = 0; i < t->n; i++) {
        const int32_t shift = (int32_t)i, first[3] = {4 + shift, 9, 6}, second[3] = {2, 2, 2};
        const float logits[8] = {0};
        const kd_store_view view[2] = {{.n_frames = 3, .frames = first},
                                       {.clip = 1, .flip = true, .n_frames = 3, .frames = second}};
        const kd_store_record r = {.id = t->sample[i].id,
                                   .order = i,
                                   .label = t->sample[i].label,
                                   .n_views = 2,
                                   .logits = logits,
                                   .views = view};
        ok(kd_store_append(out, &r, &err), &err);
    }
    ok(kd_store_writer_close(out, &err), &err);
}

static void compare_views(const kd_dataset *ds, const char *path)
{
    kd_err err = {0};
    kd_store *s = NULL;
    kd_teacher_table t;
    write_views(path, ds);
    ok(kd_store_open(path, &s, &err), &err);
    ok(kd_teacher_table_load(&ds->half[KD_HALF_TRAIN], s, NULL, true, &t, &err), &err);
    assert_int_equal(t.views, 2);
    for (size_t i = 0; i < t.n; i++) {
        const kd_store_cut *c = t.cut + 2 * i;
        assert_true(c[0].first == 4 + (int32_t)i && c[0].last == 9 && !c[0].flip);
        assert_true(c[1].first == 2 && c[1].last == 2 && c[1].flip);
    }
    kd_teacher_table_free(&t);
    kd_store_close(s);
}

static void join_refused(kd_dataset *ds, const char *path, const char *word)
{
    kd_err err = {0};
    kd_store *s = NULL;
    const size_t before = ds->half[KD_HALF_TRAIN].n;
    ok(kd_store_open(path, &s, &err), &err);
    assert_int_equal(kd_teacher_join(ds, &ds->half[KD_HALF_TRAIN], &s, 1, KD_BAD_FAIL, &err), KD_E_DATA);
    if (strstr(err.msg, word) == NULL) {
        fail_msg("'%s' is not in: %s", word, err.msg);
    }
    assert_int_equal(ds->half[KD_HALF_TRAIN].n, before);
    kd_store_close(s);
}

static void teacher_table(void **state)
{
    world *w = *state;
    kd_err err = {0};
    kd_dataset ds;
    char path[5][128];
    for (int i = 0; i < 5; i++) {
        (void)snprintf(path[i], sizeof path[i], "%s/%d.logits.zst", w->dir, i);
    }
    for (int person = 1; person <= 4; person++) {
        put_ntu(w, 1, 1, person, person == 4 ? 4 : person, true, true);
    }
    set_split(w, "subject");
    w->cfg->split.train = (kd_cfg_ints){.n = 3, .v = {1, 2, 3}};
    ok(kd_dataset_open(w->cfg, KD_NEED_SKELETON, BOTH, &ds, &err), &err);
    assert_int_equal(ds.n_classes, 4);
    write_store(path[0], &ds, ds.split, 1, 0, 3);
    kd_store *s = NULL;
    kd_teacher_table t;
    ok(kd_store_open(path[0], &s, &err), &err);
    kd_half *half = &ds.half[KD_HALF_TRAIN];
    ok(kd_teacher_join(&ds, half, &s, 1, KD_BAD_FAIL, &err), &err);
    ok(kd_teacher_table_load(half, s, "", false, &t, &err), &err);
    assert_int_equal(t.n, 3);
    assert_int_equal(t.extra, 0);
    assert_true(fabs(t.top1 - 2.0 / 3.0) < 1e-12);
    assert_true(t.logits[4 + 1] == 3.0f && t.feature[2 * 2] == 2.0f);
    kd_teacher_table_free(&t);
    kd_store_close(s);
    compare_views(&ds, path[4]);
    /* two views: softmax(logits) is the mean of the views' softmaxes */
    write_store(path[1], &ds, ds.split, 2, 0, 2);
    join_refused(&ds, path[1], "no record for 1 of 3");
    ok(kd_store_open(path[1], &s, &err), &err);
    const char *lacking = half->sample[2].id;
    ok(kd_teacher_join(&ds, half, &s, 1, KD_BAD_SKIP, &err), &err);
    assert_int_equal(half->n, 2);
    assert_int_equal(half->n_left, 1);
    assert_string_equal(half->left[0].id, lacking);
    assert_int_equal(half->left[0].why, KD_FATE_NO_TEACHER);
    ok(kd_teacher_table_load(half, s, NULL, false, &t, &err), &err);
    assert_null(t.feature);
    const double e3 = exp(3.0), e1 = exp(1.0);
    const double want = log(0.5 * (e3 / (e3 + 3.0) + e1 / (e1 + 3.0)));
    assert_true(fabs((double)t.logits[4 + 1] - want) < 1e-6);
    kd_teacher_table_free(&t);
    kd_store_close(s);
    kd_dataset_free(&ds);
    ok(kd_dataset_open(w->cfg, KD_NEED_SKELETON, BOTH, &ds, &err), &err);
    write_store(path[2], &ds, "ntu60-xsub", 1, 0, 3);
    join_refused(&ds, path[2], "split");
    write_store(path[3], &ds, ds.split, 1, 1, 3);
    join_refused(&ds, path[3], "label");
    kd_dataset_free(&ds);
    put(w, "classes.txt", "a\nb\nc\nd\n");
    ok(kd_dataset_open(w->cfg, KD_NEED_SKELETON, BOTH, &ds, &err), &err);
    join_refused(&ds, path[0], "class 0 is 'A001'");
    kd_dataset_free(&ds);
    put(w, "classes.txt", "a\nb\nc\nd\ne\n");
    ok(kd_dataset_open(w->cfg, KD_NEED_SKELETON, BOTH, &ds, &err), &err);
    join_refused(&ds, path[0], "found 4");
    kd_dataset_free(&ds);
}

static void fail_each_allocation(const world *w)
{
    kd_status st = KD_E_OOM;
    kd_dataset ds;
    for (uint64_t n = 1; st == KD_E_OOM; n++) {
        kd_err err = {0};
        kd_alloc_fail_at(n);
        st = kd_dataset_open(w->cfg, KD_NEED_VIDEO, BOTH, &ds, &err);
        kd_alloc_fail_at(0);
        assert_true(st == KD_OK || st == KD_E_OOM);
    }
    kd_dataset_free(&ds);
}

/* Every allocation that fails is reported and leaks nothing. */
static void memory(void **state)
{
    world *w = *state;
    put_ntu(w, 1, 1, 1, 1, true, true);
    put_ntu(w, 1, 1, 3, 1, true, true);
    w->cfg->num_classes = 60;
    fail_each_allocation(w);
}

static void memory_of_lists(void **state)
{
    world *w = *state;
    put(w, "L/wave/1.mp4", "x");
    put(w, "L/wave/2.mp4", "x");
    put(w, "L/clap/1.mp4", "x");
    put(w, "L/clap/2.mp4", "x");
    put(w, "L/wave/3.mp4", "x");
    put(w, "train.csv", "path,label\nwave/1.mp4,wave\nclap/1.mp4,clap\nclap/3.mp4,clap\nwave/3.mp4,wave\n");
    put(w, "val.csv", "path,label\nwave/2.mp4,wave\nclap/2.mp4,clap\n");
    put(w, "quarantine.tsv", "key\tkind\tpath\tproblem\nwave/3\tvideo\twave/3.mp4\tdamaged\n");
    set_split(w, "list");
    (void)snprintf(w->cfg->layout, sizeof w->cfg->layout, "%s", KD_LAYOUT_LIST);
    (void)snprintf(w->cfg->video_dir, sizeof w->cfg->video_dir, "L");
    (void)snprintf(w->cfg->train_list, sizeof w->cfg->train_list, "train.csv");
    (void)snprintf(w->cfg->val_list, sizeof w->cfg->val_list, "val.csv");
    (void)snprintf(w->cfg->quarantine, sizeof w->cfg->quarantine, "quarantine.tsv");
    w->cfg->on_bad_sample = KD_BAD_SKIP;
    kd_err err = {0};
    kd_dataset ds;
    ok(kd_dataset_open(w->cfg, KD_NEED_VIDEO, BOTH, &ds, &err), &err);
    const kd_half *t = &ds.half[KD_HALF_TRAIN];
    assert_int_equal(t->n, 2);
    assert_string_equal(t->sample[0].id, "clap/1"); /* equal stems: named by paths */
    assert_int_equal(t->counts.left[KD_FATE_QUARANTINED], 1);
    assert_int_equal(t->counts.left[KD_FATE_NO_VIDEO], 1);
    assert_string_equal(ds.classes[0], "clap");
    assert_int_equal(ds.n_classes, 2);
    kd_dataset_free(&ds);
    fail_each_allocation(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(published_split, begin, end),
                                       cmocka_unit_test_setup_teardown(fates, begin, end),
                                       cmocka_unit_test_setup_teardown(custom_splits, begin, end),
                                       cmocka_unit_test_setup_teardown(lists, begin, end),
                                       cmocka_unit_test_setup_teardown(refusals, begin, end),
                                       cmocka_unit_test_setup_teardown(own_folders, begin, end),
                                       cmocka_unit_test_setup_teardown(teacher_table, begin, end),
                                       cmocka_unit_test_setup_teardown(a_share_keeps_two_of_each_class, begin, end),
                                       cmocka_unit_test_setup_teardown(memory, begin, end),
                                       cmocka_unit_test_setup_teardown(memory_of_lists, begin, end)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
