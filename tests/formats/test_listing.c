/* Sample names, split lists, NTU facts and rules, folder scans. */
#include "formats/base/io.h"
#include "formats/data/lists/listing.h"
#include "formats/data/scan.h"
#include "formats/data/sets/ntu.h"

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>
/* clang-format on */

/* ---- names ----------------------------------------------------------------------------------- */

static void test_names(void **state)
{
    (void)state;
    kd_sample_id id;
    char text[KD_SAMPLE_ID_LEN + 1];
    assert_true(kd_sample_id_parse("S001C002P003R002A013", 20, &id));
    assert_int_equal(id.setup, 1);
    assert_int_equal(id.camera, 2);
    assert_int_equal(id.subject, 3);
    assert_int_equal(id.replication, 2);
    assert_int_equal(id.action, 13);
    kd_sample_id_format(&id, text);
    assert_string_equal(text, "S001C002P003R002A013");

    static const char *const bad[] = {"S001C002P003R002A01",
                                      "S001C002P003R002A0133",
                                      "s001C002P003R002A013",
                                      "S001C002P003R002A000",
                                      "S001C002P003R002A01x",
                                      "S0 1C002P003R002A013",
                                      ""};
    for (size_t i = 0; i < KD_COUNTOF(bad); i++) {
        assert_false(kd_sample_id_parse(bad[i], strlen(bad[i]), &id));
    }

    static const struct {
        const char *path, *key;
        bool ntu;
    } paths[] = {
        {"nturgb+d_rgb/S001C001P001R001A001_rgb.avi", "S001C001P001R001A001", true},
        {"S001C001P001R001A001.skeleton", "S001C001P001R001A001", true},
        {"E:\\ntu\\S001C001P001R001A001_rgb.avi", "S001C001P001R001A001", true},
        {"a.b/clip.01.mp4", "clip.01", false},
        {"Walking.11111111.AVI", "Walking.11111111", false},
        {"v1.0", "v1.0", false}, /* a folder of pictures */
        {"2021-05-03_12.30.15.skeleton", "2021-05-03_12.30.15", false},
        {"S001C001P001R001A001_depth.avi", "S001C001P001R001A001_depth", false},
        {"my_rgb.avi", "my_rgb", false},
    };
    for (size_t i = 0; i < KD_COUNTOF(paths); i++) {
        const char *key;
        const size_t n = kd_sample_key(paths[i].path, &key);
        assert_int_equal(n, strlen(paths[i].key));
        assert_memory_equal(key, paths[i].key, n);
        assert_int_equal(kd_sample_id_from_path(paths[i].path, &id), paths[i].ntu);
    }
    const char *key;
    assert_int_equal(kd_sample_path_key("wave/1.avi", &key), 6);
    assert_int_equal(strncmp(key, "wave/1.avi", 6), 0);
    assert_int_equal(kd_sample_path_key("d/S001C001P001R001A001_rgb.avi", &key), KD_SAMPLE_ID_LEN);
    assert_int_equal(*key, 'S');
    assert_int_equal(kd_sample_key("dir/", &key), 0);
    assert_int_equal(kd_sample_key(".hidden", &key), 0);
}

/* ---- lists ----------------------------------------------------------------------------------- */

static kd_status parse(const char *text, kd_listing *list, kd_err *err)
{
    const kd_status st = kd_listing_parse(text, strlen(text), "list", list, err);
    if (st != KD_OK) {
        return st;
    }
    const kd_status keys = kd_listing_keys(list, "list", KD_KEY_STEM, "root", err);
    if (keys != KD_OK) {
        kd_listing_free(list);
    }
    return keys;
}

static void test_lists_accepted(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t n;
        const char *path0;
        int label0, frames0;
    } cases[] = {
        {"a/b.avi 3\nc.avi 0\n", 2, "a/b.avi", 3, -1},
        {"a/b.avi   3", 1, "a/b.avi", 3, -1},
        {"frames/b 117 3\n", 1, "frames/b", 3, 117},
        {"my clip.avi 3\nx.avi 1\n", 2, "my clip.avi", 3, -1},
        {"\"my, clip.avi\",3\n", 1, "my, clip.avi", 3, -1},
        {"\"say \"\"hi\"\".avi\" 7\n", 1, "say \"hi\".avi", 7, -1},
        {"a,b.avi 3\n", 1, "a,b.avi", 3, -1},
        {"b.avi\t3\r\nc.avi\t4\r\n", 2, "b.avi", 3, -1},
        {"\xef\xbb\xbfpath,label\nb.avi,3\n", 1, "b.avi", 3, -1},
        {"# by hand\n\n  \nb.avi, 3\n#end", 1, "b.avi", 3, -1},
        {"E:\\ntu\\b.avi 59\n", 1, "E:/ntu/b.avi", 59, -1},
        {"./a//b.avi 3\n", 1, "a/b.avi", 3, -1},
        {"frames/b/ 117 3\n", 1, "frames/b", 3, 117},
        {"a.avi 1\rb.avi 2\r", 2, "a.avi", 1, -1},
        {"a.avi;3\nb.avi;4\n", 2, "a.avi", 3, -1},
        {"a title of one two three four five six seven eight nine ten eleven.avi 3\n", 1,
         "a title of one two three four five six seven eight nine ten eleven.avi", 3, -1},
        {"Smith, 3\nJones 4\nBrown 5\n", 3, "Smith,", 3, -1}, /* all lines tell, not the first */
        {"id,total_frames,label\nx,40,2\n", 1, "x", 2, 40},
        {"label,path\n2,a b.avi\n", 1, "a b.avi", 2, -1},
        {"a.avi -1\nb.avi 2\n", 2, "a.avi", KD_LIST_NO_LABEL, -1},
        {"path,label\na.avi,\nb.avi,wave\n", 2, "a.avi", KD_LIST_NO_LABEL, -1},
        {"path,label\na.avi,-1\nb.avi,2\n", 2, "a.avi", KD_LIST_NO_LABEL, -1},
    };
    for (size_t i = 0; i < KD_COUNTOF(cases); i++) {
        kd_listing list;
        kd_err err = {0};
        if (parse(cases[i].text, &list, &err) != KD_OK) {
            fail_msg("case %zu: %s", i, err.msg);
        }
        assert_int_equal(list.n, cases[i].n);
        assert_string_equal(list.item[0].path, cases[i].path0);
        assert_int_equal(list.item[0].label, cases[i].label0);
        assert_int_equal(list.item[0].frames, cases[i].frames0);
        kd_listing_free(&list);
    }
}

static void test_lists_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        kd_status st;
        const char *says;
    } cases[] = {
        {"", KD_E_DATA, "found none"},
        {"# nothing\n\n", KD_E_DATA, "found none"},
        {"a.txt\n", KD_E_FORMAT, "list:1: expected a path"},
        {"a.avi 0 1\n", KD_E_FORMAT, "several labels"},
        {"a.avi,0,1\n", KD_E_FORMAT, "several labels"},
        {"a.avi 1 40 0\n", KD_E_FORMAT, "path start frames label"},
        {"a.avi 40 0\nb.avi 40 1 2\n", KD_E_FORMAT, "list:2:"},
        {"a.avi 40 0\nb.avi 1\n", KD_E_FORMAT, "list:2: expected 2 numbers"},
        {"-5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,80,1\n", KD_E_FORMAT, "AVA"},
        {"-5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,,\n", KD_E_FORMAT, "AVA"},
        {"original_vido_id video_id frame_id path labels\nx 0 0 x/1.jpg \"\"\n", KD_E_FORMAT, "single frames"},
        {"path,label\na.avi,1\nb.avi,wave\n", KD_E_FORMAT, "list:3: expected a label (a whole number"},
        {"path,label\na.avi,1,2\n", KD_E_FORMAT, "list:2: expected 2 fields"},
        {"\xff\xfe"
         "a",
         KD_E_FORMAT, "UTF-16"},
        {"a.avi 1\nb.avi,2\n", KD_E_FORMAT, "list:2: expected a path, a blank and a label"},
        {"a.avi 1\nb.avi x\n", KD_E_FORMAT, "list:2:"},
        {"a.avi -2\n", KD_E_FORMAT, "list:1: expected a label from 0"},
        {"a.avi 1000000\n", KD_E_FORMAT, "found 1000000"},
        {"a.avi,b,c,1\n", KD_E_FORMAT, "found 4"},
        {"\"a.avi 1\n", KD_E_FORMAT, "list:1:"},
        {"x 1\n\"a.avi 1\n", KD_E_FORMAT, "closing quote"},
        {"a.avi 1\nb.avi 2\na.avi 1\n", KD_E_DATA, "list:3: sample a stands in line 1 already"},
        {"x/a.avi 1\ny/a.mp4 2\n", KD_E_DATA, "x/a.avi and y/a.mp4"},
        {".avi 1\n", KD_E_FORMAT, "before its ending"},
        {"a.avi 1.5\n", KD_E_FORMAT, "list:1:"},
        {"a.avi 99999999999999999999\n", KD_E_FORMAT, "list:1:"},
    };
    for (size_t i = 0; i < KD_COUNTOF(cases); i++) {
        kd_listing list;
        kd_err err = {0};
        const kd_status st = parse(cases[i].text, &list, &err);
        if (st != cases[i].st || strstr(err.msg, cases[i].says) == NULL) {
            fail_msg("case %zu: status %d, '%s'", i, st, err.msg);
        }
        assert_null(list.item);
    }
    kd_listing list;
    kd_err err = {0};
    assert_int_equal(kd_listing_parse("a\0b.avi 1\n", 10, "list", &list, &err), KD_E_FORMAT);
    assert_int_equal(kd_listing_read("no-such-list.csv", &list, NULL), KD_E_IO);
}

/* Data sets' own forms, and names of classes. */
static void test_list_forms(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        kd_list_form form;
        const char *path, *class;
        int label;
    } cases[] = {
        {"wave/v_wave_g01_c01.avi\nclap/v_clap_g01_c01.avi\n", KD_LIST_UNLABELLED, "wave/v_wave_g01_c01.avi", NULL, -1},
        {"a.avi 1 \n#437_ride.avi 2 \nc.avi 0 \n", KD_LIST_MARKS, "a.avi", NULL, 1},
        {"a.avi 1\nc.avi 0\n", KD_LIST_ROWS, "a.avi", NULL, 1},
        {"label,youtube_id,time_start,time_end,split\nriding a bike,-x1,7,17,train\n", KD_LIST_KINETICS,
         "-x1_000007_000017.mp4", "riding a bike", -1},
        {"[{\"id\": \"78\", \"label\": \"x\", \"template\": \"Holding [something] up\"}]", KD_LIST_SSV2, "78.webm",
         "Holding something up", -1},
        {"path\tlabel\na.avi\twave\n", KD_LIST_ROWS, "a.avi", "wave", -1},
        {"[group] a.avi 3\n", KD_LIST_ROWS, "[group] a.avi", NULL, 3},
    };
    for (size_t i = 0; i < KD_COUNTOF(cases); i++) {
        kd_listing list;
        kd_err err = {0};
        if (kd_listing_parse(cases[i].text, strlen(cases[i].text), "list", &list, &err) != KD_OK) {
            fail_msg("case %zu: %s", i, err.msg);
        }
        assert_int_equal(list.form, cases[i].form);
        assert_string_equal(list.item[0].path, cases[i].path);
        assert_int_equal(list.item[0].label, cases[i].label);
        assert_true(cases[i].class == NULL ? list.item[0].class == NULL
                                           : strcmp(list.item[0].class, cases[i].class) == 0);
        kd_listing_free(&list);
    }
    kd_listing list;
    kd_err err = {0};
    const char *marks = "a.avi 1 \n#437_ride.avi 2 \n";
    assert_int_equal(kd_listing_parse(marks, strlen(marks), "list", &list, &err), KD_OK);
    assert_int_equal(list.n, 2); /* a name may begin with '#' there */
    kd_listing_free(&list);
    const char *test = "[{\"id\": \"78\"}]";
    assert_int_equal(kd_listing_parse(test, strlen(test), "list", &list, &err), KD_E_FORMAT);
    assert_non_null(strstr(err.msg, "no template"));
}

/* Path keys are relative to the folder, however the list names it. */
static void test_list_keys(void **state)
{
    (void)state;
    const char *text = "wave/1.avi 0\nset/clap/1.avi 1\nS001C001P001R001A001_rgb.avi 0\n";
    kd_listing list;
    kd_err err = {0};
    bool differ = true;
    assert_int_equal(kd_listing_parse(text, strlen(text), "l", &list, &err), KD_OK);
    assert_int_equal(kd_listing_stems_differ(&list, 1, &differ, &err), KD_OK);
    assert_false(differ);
    assert_int_equal(kd_listing_keys(&list, "l", KD_KEY_STEM, "set", &err), KD_E_DATA);
    assert_int_equal(kd_listing_keys(&list, "l", KD_KEY_PATH, "set/", &err), KD_OK);
    assert_string_equal(list.item[0].key, "wave/1");
    assert_string_equal(list.item[1].key, "clap/1");
    assert_string_equal(list.item[2].key, "S001C001P001R001A001");
    kd_listing_free(&list);
}

static void test_list_write(void **state)
{
    (void)state;
    const kd_list_item item[] = {{.path = "d/a.avi", .label = 5}, {.path = "d/b.avi", .label = 0}};
    const kd_list_item bad = {.path = "my clip.avi", .label = 5};
    uint8_t *text;
    size_t len;
    kd_listing list;
    kd_err err = {0};
    assert_int_equal(kd_listing_shape(item, 2), KD_LIST_BLANK);
    assert_int_equal(kd_listing_write("test_listing.csv", item, 2, KD_LIST_BLANK, NULL), KD_OK);
    assert_int_equal(kd_io_read_file("test_listing.csv", 100, &text, &len, NULL), KD_OK);
    assert_string_equal((const char *)text, "d/a.avi 5\nd/b.avi 0\n");
    kd_free(text);
    assert_int_equal(kd_listing_read("test_listing.csv", &list, NULL), KD_OK);
    assert_int_equal(list.n, 2);
    kd_listing_free(&list);
    assert_int_equal(kd_listing_write("test_listing.csv", &bad, 1, KD_LIST_BLANK, &err), KD_E_DATA);
    assert_non_null(strstr(err.msg, "my clip.avi"));
    assert_int_equal(kd_listing_read("test_listing.csv", &list, NULL), KD_OK); /* the old one stands */
    kd_listing_free(&list);
    static const char *const odd[] = {"my clip.avi", "a,b.avi", "say \"hi\".avi", "#1;x.avi"};
    for (size_t i = 0; i < KD_COUNTOF(odd); i++) { /* CSV brings every name back */
        const kd_list_item one = {.path = odd[i], .label = 5};
        assert_int_equal(kd_listing_shape(&one, 1), KD_LIST_CSV);
        assert_int_equal(kd_listing_write("test_listing.csv", &one, 1, KD_LIST_CSV, NULL), KD_OK);
        assert_int_equal(kd_listing_read("test_listing.csv", &list, NULL), KD_OK);
        assert_string_equal(list.item[0].path, odd[i]);
        assert_int_equal(list.item[0].label, 5);
        kd_listing_free(&list);
    }
    const kd_list_item line = {.path = "a\nb.avi", .label = 5};
    assert_int_equal(kd_listing_write("test_listing.csv", &line, 1, KD_LIST_CSV, &err), KD_E_DATA);
    assert_int_equal(unlink("test_listing.csv"), 0);
}

static void test_list_memory(void **state)
{
    (void)state;
    for (uint64_t n = 1;; n++) {
        kd_listing list;
        kd_alloc_fail_at(n);
        const kd_status st = parse("a.avi 1\nb.avi 2\n", &list, NULL);
        kd_alloc_fail_at(0);
        kd_listing_free(&list);
        if (st == KD_OK) {
            assert_true(n > 1);
            return;
        }
        assert_int_equal(st, KD_E_OOM);
    }
}

/* ---- NTU ------------------------------------------------------------------------------------- */

/* The published sizes of every split, with and without the samples that lack a skeleton. */
static void test_ntu_counts(void **state)
{
    (void)state;
    static const struct {
        const char *split;
        size_t all, train, val, train_kept, val_kept;
    } want[] = {
        {"ntu60-xsub", 56880, 40320, 16560, 40091, 16487},
        {"ntu60-xview", 56880, 37920, 18960, 37646, 18932},
        {"ntu120-xsub", 114480, 63360, 51120, 63026, 50919},
        {"ntu120-xset", 114480, 54720, 59760, 54468, 59477},
    };
    for (size_t i = 0; i < KD_COUNTOF(want); i++) {
        const kd_named_split *split = NULL;
        const kd_data_set *set = kd_data_set_of_split(want[i].split, &split);
        assert_non_null(set);
        size_t n[3] = {0}, kept[3] = {0}, walked = 0;
        for (kd_sample_id id = {0}; kd_ntu_next(&id, set->n_classes == 60); walked++) {
            const kd_split_side side = split->side(&id);
            n[side]++;
            kept[side] += !set->missing(&id);
        }
        assert_int_equal(walked, want[i].all);
        assert_int_equal(n[KD_SIDE_NONE], 0);
        assert_int_equal(n[KD_SIDE_TRAIN], want[i].train);
        assert_int_equal(n[KD_SIDE_VAL], want[i].val);
        assert_int_equal(kept[KD_SIDE_TRAIN], want[i].train_kept);
        assert_int_equal(kept[KD_SIDE_VAL], want[i].val_kept);
    }
    const kd_named_split *ntu60 = NULL;
    assert_non_null(kd_data_set_of_split("ntu60-xsub", &ntu60));
    size_t beyond = 0; /* NTU60's splits know nothing of NTU120's other half */
    for (kd_sample_id id = {0}; kd_ntu_next(&id, false);) {
        beyond += ntu60->side(&id) == KD_SIDE_NONE;
    }
    assert_int_equal(beyond, 114480 - 56880);
}

static void test_ntu_facts(void **state)
{
    (void)state;
    kd_sample_id id;
    assert_true(kd_sample_id_parse("S001C002P005R002A008", 20, &id));
    assert_true(kd_ntu_missing_skeleton(&id));
    id.action = 9;
    assert_false(kd_ntu_missing_skeleton(&id));
    assert_string_equal(kd_ntu_classes[0], "drink water");
    assert_string_equal(kd_ntu_classes[59], "walking apart from each other");
    assert_string_equal(kd_ntu_classes[60], "put on headphone");
    for (int i = 0; i < KD_NTU_CLASSES; i++) {
        assert_true(kd_ntu_classes[i] != NULL && kd_ntu_classes[i][0] != '\0');
    }
}

/* Rows of the table are whole, and no name stands for two things. */
static void test_data_sets(void **state)
{
    (void)state;
    const kd_data_set *set = NULL;
    const kd_named_split *split = NULL;
    for (int i = 0; (set = kd_data_set_at(i)) != NULL; i++) {
        assert_true(set->parse != NULL && set->n_classes > 0 && set->classes[set->n_classes - 1] != NULL);
        assert_true(set->layout == NULL || (set->video_dir != NULL && set->skeleton_dir != NULL));
        for (int k = 0; k < set->n_splits; k++) {
            assert_ptr_equal(kd_data_set_of_split(set->split[k].name, &split), set);
            assert_ptr_equal(split, &set->split[k]);
        }
    }
    int n = 0;
    for (const char *name; (name = kd_split_name(n)) != NULL; n++) {
        for (int i = 0; i < n; i++) {
            assert_string_not_equal(kd_split_name(i), name);
        }
    }
    assert_true(n >= 8);
    for (n = 0; kd_layout_name(n) != NULL; n++) {
        for (int i = 0; i < n; i++) {
            assert_string_not_equal(kd_layout_name(i), kd_layout_name(n));
        }
    }
    assert_true(n >= 3);
    assert_non_null(kd_data_set_of_split("ntu60_xview", &split));
    assert_string_equal(split->name, "ntu60-xview");
    assert_null(kd_data_set_of_split("ntu60", &split));
    kd_sample_id id;
    assert_string_equal(kd_data_set_of_name("a12_s03_e00_v03", 15, &id)->name, "nwucla");
    assert_true(id.action == 10 && id.subject == 3 && id.replication == 1 && id.camera == 3);
    assert_null(kd_data_set_of_name("a07_s03_e00_v03", 15, &id)); /* there is no action 7 */
    assert_null(kd_data_set_of_name("a12_s03_e00-v03", 15, &id));
    assert_null(kd_data_set_of_name("a12_s00_e00_v03", 15, &id));
    const kd_split_opts views = {.by = "nwucla-xview"};
    assert_int_equal(kd_split_side_of(&views, "a01_s03_e00_v02", NULL), KD_SIDE_TRAIN);
    assert_int_equal(kd_split_side_of(&views, "a01_s03_e00_v03", NULL), KD_SIDE_VAL);
    assert_int_equal(kd_split_side_of(&views, "S001C001P001R001A001", NULL), KD_SIDE_NONE);
    assert_null(kd_data_set_of_split("ntu60-xsub2", &split));
}

static void test_splits(void **state)
{
    (void)state;
    kd_sample_id id = {1, 2, 3, 4, 5};
    kd_err err = {0};
    kd_split_opts s = {.by = "subject", .train = {3, {1, 3, 5}}};
    assert_int_equal(kd_split_check(&s, NULL), KD_OK);
    assert_int_equal(kd_split_side_of(&s, "k", &id), KD_SIDE_TRAIN);
    id.subject = 4;
    assert_int_equal(kd_split_side_of(&s, "k", &id), KD_SIDE_VAL);
    s.val = (kd_cfg_ints){1, {2}};
    assert_int_equal(kd_split_side_of(&s, "k", &id), KD_SIDE_NONE);
    assert_int_equal(kd_split_side_of(&s, "k", NULL), KD_SIDE_NONE);
    (void)snprintf(s.by, sizeof s.by, "camera");
    assert_int_equal(kd_split_side_of(&s, "k", &id), KD_SIDE_VAL);
    (void)snprintf(s.by, sizeof s.by, "setup");
    assert_int_equal(kd_split_side_of(&s, "k", &id), KD_SIDE_TRAIN);
    s.val.v[0] = 3;
    assert_int_equal(kd_split_check(&s, &err), KD_E_CONFIG);
    assert_non_null(strstr(err.msg, "3 is in train and in val"));
    s.train.n = 0;
    assert_int_equal(kd_split_check(&s, NULL), KD_E_CONFIG);
    s = (kd_split_opts){.by = "ntu60-xview"}; /* a published split goes by the sample's own name */
    assert_int_equal(kd_split_check(&s, NULL), KD_OK);
    assert_int_equal(kd_split_side_of(&s, "S001C001P001R001A001", NULL), KD_SIDE_VAL);
    assert_int_equal(kd_split_side_of(&s, "S001C002P001R001A001", NULL), KD_SIDE_TRAIN);
    assert_int_equal(kd_split_side_of(&s, "wave", &id), KD_SIDE_NONE);
    s.train.n = 1;
    assert_int_equal(kd_split_check(&s, NULL), KD_E_CONFIG);
    assert_int_equal(kd_split_side_of(&(kd_split_opts){.by = KD_SPLIT_LIST}, "k", &id), KD_SIDE_NONE);
}

/* ---- scan ------------------------------------------------------------------------------------ */

static void touch(const char *dir, const char *name)
{
    char *path = kd_path_join(dir, name);
    char *folder = kd_path_dir(path);
    assert_int_equal(kd_io_mkdirs(folder, NULL), KD_OK);
    assert_int_equal(kd_io_write_file(path, "x", 1, NULL), KD_OK);
    kd_free(folder);
    kd_free(path);
}

static void test_scan_ntu(void **state)
{
    (void)state;
    const char *root = "test_scan_ntu";
    kd_scan scan;
    assert_int_equal(kd_io_remove_tree(root, NULL), KD_OK);
    touch(root, "nturgb+d_rgb/S001C001P002R001A001_rgb.avi");
    touch(root, "nturgb+d_rgb/S001C001P001R001A001_rgb.avi");
    touch(root, "nturgb+d_rgb/S001C002P005R002A008_rgb.avi");
    touch(root, "nturgb+d_rgb/notes.txt");
    touch(root, "nturgb+d_skeletons/S001C001P001R001A001.skeleton");
    touch(root, "nturgb+d_skeletons/S001C001P001R001A002.skeleton");
    touch(root, "elsewhere/S001C001P009R001A001_rgb.avi");
    assert_int_equal(kd_scan_folder(&(kd_scan_opts){.root = root}, &scan, NULL), KD_OK);
    assert_string_equal(scan.layout->layout, "ntu");
    assert_int_equal(scan.n, 4);
    static const char *const keys[] = {"S001C001P001R001A001", "S001C001P001R001A002", "S001C001P002R001A001",
                                       "S001C002P005R002A008"};
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(scan.item[i].key, keys[i]);
    }
    assert_string_equal(scan.item[0].video, "nturgb+d_rgb/S001C001P001R001A001_rgb.avi");
    assert_string_equal(scan.item[0].skeleton, "nturgb+d_skeletons/S001C001P001R001A001.skeleton");
    assert_null(scan.item[1].video);
    assert_int_equal(scan.item[1].id.action, 2);
    assert_int_equal(scan.counts.videos, 3);
    assert_int_equal(scan.counts.skeletons, 2);
    assert_int_equal(scan.counts.pairs, 1);
    assert_int_equal(scan.counts.video_only, 2);
    assert_int_equal(scan.counts.skeleton_only, 1);
    assert_int_equal(scan.counts.known_missing, 1);
    assert_int_equal(scan.counts.named, 4);
    assert_int_equal(scan.counts.other_files, 1);
    assert_ptr_equal(kd_scan_find(&scan, keys[2]), &scan.item[2]);
    assert_null(kd_scan_find(&scan, "S001"));
    kd_scan_free(&scan);
    assert_int_equal(kd_io_remove_tree(root, NULL), KD_OK);
}

static void test_scan_flat(void **state)
{
    (void)state;
    const char *root = "test_scan_flat";
    kd_scan scan;
    kd_err err = {0};
    assert_int_equal(kd_io_remove_tree(root, NULL), KD_OK);
    touch(root, "run/b.MP4");
    touch(root, "run/deep/a.avi");
    touch(root, "a.skeleton");
    touch(root, ".cache/z.avi");
    assert_int_equal(symlink("..", "test_scan_flat/run/loop"), 0);
    assert_int_equal(kd_scan_folder(&(kd_scan_opts){.root = root}, &scan, NULL), KD_OK);
    assert_null(scan.layout);
    assert_int_equal(scan.n, 2);
    assert_string_equal(scan.item[0].video, "run/deep/a.avi");
    assert_string_equal(scan.item[0].skeleton, "a.skeleton");
    assert_string_equal(scan.item[1].key, "b");
    assert_null(scan.item[1].set);
    kd_scan_free(&scan);
    for (uint64_t n = 1; n < 200; n++) { /* every allocation fails once */
        kd_alloc_fail_at(n);
        const kd_status st = kd_scan_folder(&(kd_scan_opts){.root = root}, &scan, NULL);
        kd_alloc_fail_at(0);
        kd_scan_free(&scan);
        if (st == KD_OK) {
            break;
        }
        assert_int_equal(st, KD_E_OOM);
    }
    touch(root, "other/a.mp4");
    kd_scan_opts o = {.root = root, .key = KD_KEY_STEM};
    assert_int_equal(kd_scan_folder(&o, &scan, &err), KD_E_DATA);
    assert_non_null(strstr(err.msg, "sample a lies there twice: other/a.mp4 and run/deep/a.avi; data.key: path"));
    o.key = KD_KEY_AUTO; /* equal stems: all samples are named by their paths */
    assert_int_equal(kd_scan_folder(&o, &scan, &err), KD_OK);
    assert_int_equal(scan.key, KD_KEY_PATH);
    assert_string_equal(scan.twice[0], "other/a.mp4");
    assert_non_null(kd_scan_find(&scan, "run/deep/a"));
    kd_scan_free(&scan);
    touch(root, "other/a.avi");
    err = (kd_err){0};
    assert_int_equal(kd_scan_folder(&o, &scan, &err), KD_E_DATA);
    assert_non_null(strstr(err.msg, "other/a.avi and other/a.mp4"));
    assert_int_equal(kd_io_remove_tree(root, NULL), KD_OK);
    err = (kd_err){0};
    assert_int_equal(kd_scan_folder(&(kd_scan_opts){.root = root}, &scan, &err), KD_E_IO);
    assert_non_null(strstr(err.msg, root));
}

/* Where people keep an NTU tree, and folders of pictures. */
static void test_scan_places(void **state)
{
    (void)state;
    static const struct {
        const char *video, *skeleton;
        bool layout;
    } trees[] = {{"nturgb+d_rgb/S001", "nturgb+d_skeletons/nturgb+d_skeletons", true},
                 {"nturgb+d_rgb", "skeletons", true},
                 {"nturgb+d_rgb_s001", "nturgb+d_skeletons_s001_to_s017", true},
                 {"NTURGB+D_RGB", "NTURGB+D_Skeletons", true},
                 {"rgb", "skel", false}};
    const char *root = "test_scan_places";
    kd_scan scan;
    for (size_t i = 0; i < KD_COUNTOF(trees); i++) {
        char name[256];
        assert_int_equal(kd_io_remove_tree(root, NULL), KD_OK);
        (void)snprintf(name, sizeof name, "%s/S001C001P001R001A001_rgb.avi", trees[i].video);
        touch(root, name);
        (void)snprintf(name, sizeof name, "%s/S001C001P001R001A001.skeleton", trees[i].skeleton);
        touch(root, name);
        assert_int_equal(kd_scan_folder(&(kd_scan_opts){.root = root}, &scan, NULL), KD_OK);
        assert_int_equal(scan.counts.pairs, 1);
        assert_int_equal(scan.layout != NULL, trees[i].layout);
        kd_scan_free(&scan);
    }
    assert_int_equal(kd_io_remove_tree(root, NULL), KD_OK);
    touch(root, "nturgb+d_rgb/S001C001P001R001A001_rgb.avi");
    touch(root, "nturgb+d_rgb/S001C001P001R001A002_rgb/img_00001.jpg");
    touch(root, "nturgb+d_rgb/S001C001P001R001A002_rgb/img_00002.jpg");
    touch(root, "nturgb+d_rgb_copy/S001C001P001R001A001_rgb.avi");
    touch(root, "arrays/x.npy");
    assert_int_equal(kd_scan_folder(&(kd_scan_opts){.root = root, .aside = true}, &scan, NULL), KD_OK);
    assert_int_equal(scan.counts.videos, 2);
    assert_int_equal(scan.counts.frame_folders, 1);
    assert_string_equal(scan.item[1].video, "nturgb+d_rgb/S001C001P001R001A002_rgb");
    assert_int_equal(scan.counts.aside, 1);
    assert_string_equal(scan.first_aside, "nturgb+d_rgb_copy/S001C001P001R001A001_rgb.avi");
    assert_int_equal(scan.counts.arrays, 1);
    kd_scan_free(&scan);
    assert_int_equal(kd_io_remove_tree(root, NULL), KD_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),       cmocka_unit_test(test_lists_accepted), cmocka_unit_test(test_lists_refused),
        cmocka_unit_test(test_list_forms),  cmocka_unit_test(test_list_keys),      cmocka_unit_test(test_list_write),
        cmocka_unit_test(test_list_memory), cmocka_unit_test(test_ntu_counts),     cmocka_unit_test(test_ntu_facts),
        cmocka_unit_test(test_data_sets),   cmocka_unit_test(test_splits),         cmocka_unit_test(test_scan_ntu),
        cmocka_unit_test(test_scan_flat),   cmocka_unit_test(test_scan_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
