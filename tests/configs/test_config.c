/* configs/: the YAML tree, the schema, inheritance, --set, printing, hashing; presets; the refuse
 * corpus. */
#include "configs/schema/config_table.h"
#include "configs/schema/kd_config.h"
#include "configs/yaml/yaml_tree.h"
#include "formats/base/io.h"
#include "teacher/model/teacher.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* cmocka needs the first three */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
/* clang-format on */

static kd_config cfg, cfg2; /* large: kept off the stack */

static kd_status parse(const char *text, kd_err *err)
{
    *err = (kd_err){0};
    return kd_config_parse(text, strlen(text), "t.yaml", NULL, 0, &cfg, err);
}

static void refuse(const char *text, const char *message)
{
    kd_err err;
    assert_int_equal(parse(text, &err), KD_E_CONFIG);
    if (strstr(err.msg, message) == NULL) {
        fail_msg("message '%s' does not contain '%s'", err.msg, message);
    }
    assert_null(strchr(err.msg, '\n'));
}

static void test_defaults(void **state)
{
    (void)state;
    kd_err err;
    assert_int_equal(parse("", &err), KD_OK);
    assert_int_equal(cfg.kind, KD_KIND_TEACHER);
    assert_int_equal(cfg.teacher.dim, 1024);
    assert_int_equal(cfg.teacher.mlp_hidden, 4096);
    assert_int_equal(cfg.data.num_classes, 60);
    assert_true(cfg.optim.betas[1] == 0.999);
    assert_true(cfg.video.rrc_ratio[1] == 4.0 / 3.0);
    assert_int_equal(parse("kind: student\nkd: {weight: 0.3}\n", &err), KD_OK);
    assert_true(cfg.kd.ce_weight == 1.0 - 0.3);
    assert_string_equal(cfg.student.name, "sfz-nano");
}

static void test_values(void **state)
{
    (void)state;
    kd_err err;
    assert_int_equal(parse("optim:\n  base_lr: 1e-3\n  weight_decay: .75\n  betas: [0.5, 9.5e-1]\n"
                           "data:\n  split: {by: subject, train: [1,3, 5]}\n"
                           "  classes: [wave, \"high throw\", '3']\n"
                           "train: {seed: 9007199254740992, dtype: bf16}\n",
                           &err),
                     KD_OK);
    assert_true(cfg.optim.base_lr == 0.001 && cfg.optim.weight_decay == 0.75);
    assert_true(cfg.optim.betas[0] == 0.5 && cfg.optim.betas[1] == 0.95);
    assert_string_equal(cfg.data.split.by, "subject");
    assert_int_equal(cfg.data.split.train.n, 3);
    assert_int_equal(cfg.data.split.train.v[2], 5);
    assert_int_equal(cfg.data.num_classes, 3);
    assert_string_equal(cfg.data.classes.v[1], "high throw");
    assert_true(cfg.train.seed == 9007199254740992);
    assert_int_equal(cfg.train.dtype, KD_BF16);
    assert_int_equal(parse("data: {split: ntu120-xset}", &err), KD_OK);
    assert_string_equal(cfg.data.split.by, "ntu120-xset");
    assert_int_equal(cfg.data.num_classes, 120);
    assert_int_equal(parse("a: &x 3\n", &err), KD_E_CONFIG);
    assert_int_equal(parse("teacher: {frames: &f 8, depth: *f, recompute: true}", &err), KD_OK);
    assert_int_equal(cfg.teacher.depth, 8);
}

static void test_refusals(void **state)
{
    (void)state;
    refuse("optim:\n  base_lrr: 1\n", "t.yaml:2:3: optim.base_lrr: unknown key; did you mean 'optim.base_lr'");
    refuse("optim: {lr: 1}", "did you mean 'optim.base_lr'");
    refuse("training:\n  x: 1", "t.yaml:1:1: training: unknown key");
    refuse("depth: 3", "did you mean 'teacher.depth'");
    refuse("kind: student\nkd: {wieght: 1}", "did you mean 'kd.weight'");
    refuse("optim:\n  base_lr: fast\n", "t.yaml:2:12: optim.base_lr: expected a number in [0, 100], found 'fast'");
    refuse("optim: {base_lr: nan}", "expected a number");
    refuse("optim: {base_lr: .inf}", "expected a number");
    refuse("optim: {base_lr: 0x10}", "expected a number");
    refuse("optim: {base_lr: \"0.1\"}", "expected a number");
    refuse("optim: {base_lr: -1}", "[0, 100]");
    refuse("teacher: {depth: 2.5}", "expected an integer");
    refuse("teacher: {depth: 99999999999999999999}", "expected an integer");
    refuse("teacher: {depth: }", "found nothing");
    refuse("teacher: {qkv_bias: no}", "expected true or false, found 'no'");
    refuse("teacher: {pooling: max}", "expected one of mean|cls, found 'max'");
    refuse("teacher: [1]", "expected a map of keys, found a list");
    refuse("teacher: 5", "expected a map of keys, found a value");
    refuse("teacher: {depth: [1]}", "found a list");
    refuse("optim: {betas: [0.9]}", "found 1 items");
    refuse("optim: {betas: [0.9, x]}", "optim.betas[1]");
    refuse("data: {split: {by: subject}}", "data.split.train");
    refuse("data: {split: {by: subject, train: [1], val: [1]}}", "1 is in train and in val");
    refuse("data: {split: {by: ntu60-xsub, train: [1]}}", "remove it");
    refuse("data: {classes: [a, b]}", "expected 60 names, found 2");
    refuse("data: {split: {by: subject, train: [1]}, classes: [a, a]}", "twice");
    refuse("kd: {weight: 1}", "kd: these keys do nothing in a teacher recipe without kd.store");
    refuse("kind: student\nteacher: {depth: 2}", "does nothing in a student recipe");
    refuse("kind: student\nkd: {weight: 1.5}", "kd.ce_weight");
    refuse("teacher: {variant: huge}", "teacher.variant: expected one of s|b|l|");
    refuse("kind: student\nstudent: {name: sfz-nona}", "; did you mean 'sfz-nano'?");
    refuse("data: {split: ntu60_xsub}", "data.split.by: expected one of ntu60-xsub|");
    refuse("data: {layout: nut}", "found 'nut'; did you mean 'ntu'?");
    refuse("teacher: {variant: custom}", "needs dim, depth and heads");
    refuse("teacher: {heads: 7}", "multiple of heads");
    refuse("teacher: {patch: 15}", "multiple of patch");
    refuse("mixup: {alpha: 0.8}\ntrain: {batch_size: 3}", "even");
    refuse("mixup: {cutmix_alpha: 1}\ntrain: {batch_size: 3}", "even");
    refuse("mixup: {cutmix_alpha: -1}", "mixup.cutmix_alpha");
    refuse("mixup: {switch_prob: 1.5}", "mixup.switch_prob");
    refuse("video: {erase_prob: 2}", "video.erase_prob");
    refuse("video: {erasing_prob: 0.25}", "did you mean 'video.erase_prob'");
    refuse("video: {rand_augment: rand-m7-p0.5}", "video.rand_augment: expected the parts m, n, mstd, inc and w");
    refuse("video: {aa: rand-m7}", "did you mean 'video.rand_augment'");
    refuse("video: {rand_augment_interpolation: random}", "only with video.rand_augment, which is empty");
    refuse("video: {flip_labels: [1, 2, 3]}", "video.flip_labels: expected pairs of labels, found 3 labels");
    refuse("video: {flip_labels: [1, 2, 3, 1]}", "video.flip_labels: label 1 is there twice, at 0 and 3");
    refuse("video: {flip_prob: 0, flip_labels: [1, 2]}", "nothing is mirrored with video.flip_prob 0");
    refuse("video: {erase_count: 2}", "video.erase_count: nothing is erased with video.erase_prob 0");
    refuse("video: {erase_cube: false}", "video.erase_cube: nothing is erased");
    refuse("video: {erase_mode: const}", "video.erase_mode: nothing is erased");
    refuse("video: {erase_prob: 0.2, erase_mode: constant}", "video.erase_mode: expected one of pixel|rand|const");
    refuse("video: {spatial: multi_scale}", "video.resizer: expected pillow_bilinear");
    refuse("video: {spatial: short_side_crop, train_short_side: 0}", "expected at least img_size (224), found 0");
    refuse("kind: student\noptim: {layer_decay: 0.5}", "optim.layer_decay: this key does nothing in a student recipe");
    refuse("kind: student\nvideo: {erase_prob: 0.25}", "does nothing in a student recipe");
    refuse("optim: {schedule: multistep}", "milestones");
    refuse("base: other.yaml", "only files can have one");
    /* text that is not a recipe */
    refuse("a: 1\nb: 2\na: 3\n", "t.yaml:3:1: duplicate key 'a', first at line 1");
    refuse("teacher:\n\tdepth: 1\n", "t.yaml:2:1");
    refuse("teacher: !!python/object:x {}", "tags");
    refuse("a: 1\n---\nb: 2\n", "second document");
    refuse("<<: {a: 1}", "merge keys");
    refuse("- 1\n- 2\n", "expected `key: value` lines, found a list");
    refuse("{", "not YAML");
    refuse("? [a]\n: 1", "a key must be text");
    refuse("a: *nope", "does not exist");
    refuse("a: &a [*a]", "inside its own anchor");
    refuse("\"a\\0b\": 1", "NUL");
    refuse("\xff\xfe\x00", "t.yaml");
    refuse("name: \"a\\nb\"", "expected text");
    /* kept for later: must not be swallowed */
    refuse("video: {randaugment: rand-m7}", "unknown key");
}

static void test_limits(void **state)
{
    (void)state;
    kd_err err = {0};
    char *deep = kd_calloc(1, 400);
    assert_non_null(deep);
    memset(deep, '[', 200);
    refuse(deep, "nested deeper than 32");
    kd_free(deep);
    /* nine lines of nine aliases each would be 9^9 values */
    char bomb[1024];
    int n = snprintf(bomb, sizeof bomb, "a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for (int i = 1; i < 9; i++) {
        n += snprintf(bomb + n, sizeof bomb - (size_t)n, "a%d: &a%d [", i, i);
        for (int j = 0; j < 9; j++) {
            n += snprintf(bomb + n, sizeof bomb - (size_t)n, "%s*a%d", j ? "," : "", i - 1);
        }
        n += snprintf(bomb + n, sizeof bomb - (size_t)n, "]\n");
    }
    refuse(bomb, "more than 32768 values");
    char *big = kd_alloc(KD_YAML_MAX_BYTES + 1);
    assert_non_null(big);
    memset(big, '#', KD_YAML_MAX_BYTES + 1);
    assert_int_equal(kd_config_parse(big, KD_YAML_MAX_BYTES + 1, "t", NULL, 0, &cfg, &err), KD_E_CONFIG);
    kd_free(big);
}

/* Splits by source video name hundreds of numbers, Kinetics-710 as many classes. */
static void test_long_lists(void **state)
{
    (void)state;
    static char text[32768];
    kd_err err;
    size_t n = (size_t)snprintf(text, sizeof text, "data: {num_classes: 710, split: {by: subject, train: [1");
    for (int i = 2; i <= 1000; i++) {
        n += (size_t)snprintf(text + n, sizeof text - n, ", %d", i);
    }
    n += (size_t)snprintf(text + n, sizeof text - n, "]}, classes: [c0");
    for (int i = 1; i < 710; i++) {
        n += (size_t)snprintf(text + n, sizeof text - n, ", c%d", i);
    }
    (void)snprintf(text + n, sizeof text - n, "]}");
    assert_int_equal(parse(text, &err), KD_OK);
    assert_int_equal(cfg.data.split.train.n, 1000);
    assert_int_equal(cfg.data.split.train.v[999], 1000);
    assert_int_equal(cfg.data.classes.n, 710);
}

static void test_set(void **state)
{
    (void)state;
    kd_err err = {0};
    const char *sets[] = {
        "optim.base_lr=2e-3",       "data.split=ntu60-xview", "optim.betas=[0.8, 0.9]", "optim.base_lr=3e-3", "name=",
        "data.split.by=ntu120-xsub"};
    assert_int_equal(kd_config_load(NULL, 0, sets, KD_COUNTOF(sets), &cfg, &err), KD_OK);
    assert_true(cfg.optim.base_lr == 3e-3 && cfg.optim.betas[0] == 0.8);
    assert_string_equal(cfg.data.split.by, "ntu120-xsub");
    static const char *BAD[][2] = {
        {"optim.base_lr", "expected key.name=value"},
        {"=3", "expected key.name=value"},
        {"optim.=3", "expected key.name=value"},
        {"optim.momentun=0.5", "--set optim.momentun=0.5: optim.momentun: unknown key; did you mean 'optim.momentum'"},
        {"train.epochs=0", "--set train.epochs=0: train.epochs: expected an integer in [1, 100000], found '0'"},
        {"train.epochs={", "not YAML"},
        {"train={epochs: 1, epochs: 2}", "duplicate key"},
    };
    for (size_t i = 0; i < KD_COUNTOF(BAD); i++) {
        err = (kd_err){0};
        assert_int_equal(kd_config_load(NULL, 0, &BAD[i][0], 1, &cfg, &err), KD_E_CONFIG);
        if (strstr(err.msg, BAD[i][1]) == NULL) {
            fail_msg("'%s' lacks '%s'", err.msg, BAD[i][1]);
        }
    }
}

static void write_text(const char *path, const char *text)
{
    assert_int_equal(kd_io_write_file(path, text, strlen(text), NULL), KD_OK);
}

static void test_base(void **state)
{
    (void)state;
    char dir[] = "/tmp/kd_config_XXXXXX";
    char file[4][64];
    assert_non_null(mkdtemp(dir));
    for (int i = 0; i < 4; i++) {
        (void)snprintf(file[i], sizeof file[i], "%s/%d.yaml", dir, i);
    }
    kd_err err = {0};
    write_text(file[0], "optim: {base_lr: 0.5, weight_decay: 0.1, betas: [0.1, 0.2]}\n"
                        "data: {split: {by: subject, train: [1, 2, 3]}}\ntrain: {epochs: 7}\n");
    write_text(file[1], "base: 0.yaml\noptim:\n  base_lr: 0.25\ntrain:\n");
    write_text(file[2], "base: 1.yaml\noptim: {betas: [0.3, 0.4]}\ndata: {split: {train: [9]}}\n");
    assert_int_equal(kd_config_load(&(const char *){file[2]}, 1, NULL, 0, &cfg, &err), KD_OK);
    assert_true(cfg.optim.base_lr == 0.25 && cfg.optim.weight_decay == 0.1);
    assert_true(cfg.optim.betas[0] == 0.3);
    assert_int_equal(cfg.data.split.train.n, 1);
    assert_string_equal(cfg.data.split.by, "subject");
    assert_int_equal(cfg.train.epochs, 7); /* an empty section changes nothing */

    write_text(file[3], "base: 3.yaml\n");
    assert_int_equal(kd_config_load(&(const char *){file[3]}, 1, NULL, 0, &cfg, &err), KD_E_CONFIG);
    assert_non_null(strstr(err.msg, "leads back to itself"));
    write_text(file[3], "base: ./1.yaml\n");
    write_text(file[0], "base: 3.yaml\n");
    err = (kd_err){0};
    assert_int_equal(kd_config_load(&(const char *){file[2]}, 1, NULL, 0, &cfg, &err), KD_E_CONFIG);
    assert_non_null(strstr(err.msg, "3.yaml:1:1: base: "));
    write_text(file[0], "train: {epochs: x}\n");
    err = (kd_err){0};
    assert_int_equal(kd_config_load(&(const char *){file[2]}, 1, NULL, 0, &cfg, &err), KD_E_CONFIG);
    assert_non_null(strstr(err.msg, "0.yaml:1:17: train.epochs")); /* the file at fault, not the child */
    write_text(file[0], "base: gone.yaml\n");
    err = (kd_err){0};
    assert_int_equal(kd_config_load(&(const char *){file[0]}, 1, NULL, 0, &cfg, &err), KD_E_CONFIG);
    assert_non_null(strstr(err.msg, "0.yaml:1:1: base"));
    err = (kd_err){0};
    assert_int_equal(kd_config_load(&(const char *){dir}, 1, NULL, 0, &cfg, &err), KD_E_CONFIG);
    assert_int_equal(kd_io_remove_tree(dir, &err), KD_OK);
}

/* base: [a, b] and several files: merged in order, the later wins. */
static void test_composition(void **state)
{
    (void)state;
    char dir[] = "/tmp/kd_config_XXXXXX";
    char file[4][64];
    assert_non_null(mkdtemp(dir));
    for (int i = 0; i < 4; i++) {
        (void)snprintf(file[i], sizeof file[i], "%s/%d.yaml", dir, i);
    }
    kd_err err = {0};
    write_text(file[0], "kind: student\nkd: {weight: 0.1, temperature: 2}\n");
    write_text(file[1], "base: 0.yaml\nkind: student\nkd: {weight: 0.2}\nstudent: {name: last-e3-small}\n");
    write_text(file[2], "base: [1.yaml, 0.yaml]\ntrain: {epochs: 3}\n"); /* 0 twice: no cycle */
    assert_int_equal(kd_config_load(&(const char *){file[2]}, 1, NULL, 0, &cfg, &err), KD_OK);
    assert_true(cfg.kd.weight == 0.1 && cfg.kd.temperature == 2.0 && cfg.train.epochs == 3);
    assert_string_equal(cfg.student.name, "last-e3-small");
    write_text(file[2], "base: [0.yaml, 1.yaml]\ntrain: {epochs: 3}\nkd: {temperature: 5}\n");
    assert_int_equal(kd_config_load(&(const char *){file[2]}, 1, NULL, 0, &cfg, &err), KD_OK);
    assert_true(cfg.kd.weight == 0.2 && cfg.kd.temperature == 5.0);
    write_text(file[3], "train: {epochs: 9}\n");
    const char *const both[] = {file[2], file[3], file[0]};
    const char *const set[] = {"kd.temperature=7"};
    assert_int_equal(kd_config_load(both, 2, NULL, 0, &cfg, &err), KD_OK);
    assert_true(cfg.kd.weight == 0.2 && cfg.train.epochs == 9);
    assert_int_equal(kd_config_load(both, 3, set, 1, &cfg, &err), KD_OK);
    assert_true(cfg.kd.weight == 0.1 && cfg.kd.temperature == 7.0 && cfg.train.epochs == 9);

    write_text(file[3], "base:\n  - 0.yaml\n  - 2.yaml\n");
    write_text(file[0], "base: 3.yaml\n");
    assert_int_equal(kd_config_load(both, 3, NULL, 0, &cfg, &err), KD_E_CONFIG);
    assert_non_null(strstr(err.msg, "leads back to itself"));
    write_text(file[0], "train: {epochs: 1}\n");
    write_text(file[3], "base:\n  - 0.yaml\n  - gone.yaml\n");
    err = (kd_err){0};
    assert_int_equal(kd_config_load(&(const char *){file[3]}, 1, NULL, 0, &cfg, &err), KD_E_CONFIG);
    assert_non_null(strstr(err.msg, "3.yaml:3:5: base: "));
    static const char *const WRONG[] = {"base: [0.yaml, [1.yaml]]\n", "base: [0.yaml, '']\n", "base: {a: 0.yaml}\n",
                                        "base: []\n"};
    for (size_t i = 0; i < KD_COUNTOF(WRONG); i++) {
        write_text(file[3], WRONG[i]);
        err = (kd_err){0};
        assert_int_equal(kd_config_load(&(const char *){file[3]}, 1, NULL, 0, &cfg, &err), KD_E_CONFIG);
        assert_non_null(strstr(err.msg, "base: expected the path of a YAML file or a list of paths"));
    }
    write_text(file[3], "base: [0.yaml, 0.yaml, 0.yaml, 0.yaml, 0.yaml, 0.yaml, 0.yaml, 0.yaml]\n");
    write_text(file[2], "base: [3.yaml, 3.yaml, 3.yaml, 3.yaml, 3.yaml, 3.yaml, 3.yaml, 3.yaml]\n");
    err = (kd_err){0};
    assert_int_equal(kd_config_load(&(const char *){file[2]}, 1, NULL, 0, &cfg, &err), KD_E_CONFIG);
    assert_non_null(strstr(err.msg, "more than 64 files"));
    assert_int_equal(kd_io_remove_tree(dir, &err), KD_OK);
}

static void test_print_and_hash(void **state)
{
    (void)state;
    kd_err err;
    char h1[KD_CFG_HASH], h2[KD_CFG_HASH], diff[300];
    const char *text = "kind: student\nname: \"odd: 'name' # \\\\ \\\"x\\\" true\"\ndata: {root: /a b/c, "
                       "split: {by: camera, train: [2, 3]}, classes: ['true', '1', a]}\n"
                       "optim: {base_lr: 0.1, eps: 1.2345678901234567e-9, name: sgd}\n";
    assert_int_equal(parse(text, &err), KD_OK);
    for (int docs = 0; docs < 2; docs++) {
        char *yaml = kd_config_yaml(&cfg, docs != 0, false);
        assert_non_null(yaml);
        err = (kd_err){0};
        if (kd_config_parse(yaml, strlen(yaml), "y", NULL, 0, &cfg2, &err) != KD_OK) {
            fail_msg("%s", err.msg);
        }
        assert_memory_equal(&cfg, &cfg2, sizeof cfg);
        assert_null(strstr(yaml, "teacher:"));
        kd_free(yaml);
    }
    assert_int_equal(kd_config_hash(&cfg, "", h1), KD_OK);
    (void)snprintf(cfg2.data.root, sizeof cfg2.data.root, "/elsewhere");
    cfg2.train.threads = 3;
    assert_int_equal(kd_config_hash(&cfg2, "", h2), KD_OK);
    assert_string_equal(h1, h2);
    assert_false(kd_config_diff(&cfg, &cfg2, diff, sizeof diff));
    cfg2.optim.base_lr = 0.2;
    assert_int_equal(kd_config_hash(&cfg2, "", h2), KD_OK);
    assert_string_not_equal(h1, h2);
    assert_true(kd_config_diff(&cfg, &cfg2, diff, sizeof diff));
    assert_string_equal(diff, "optim.base_lr: 0.1 then, 0.2 now");
    char name[KD_CFG_NAME];
    assert_string_equal(kd_config_enum_name("train.device", KD_CFG_CUDA, name), "cuda");
    assert_string_equal(kd_config_enum_name("train.device", 9, name), "?");
}

/* Every row: a path that fits, a default its own parser takes, a documented meaning, a unique path.
 */
static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < kd_cfg_row_count; i++) {
        const kd_cfg_row *row = &kd_cfg_rows[i];
        assert_true(strlen(row->path) < KD_CFG_PATH_MAX && strlen(row->doc) > 5);
        assert_ptr_equal(kd_cfg_find(row->path), row);
        assert_true(kd_cfg_kinds_of(row) != 0);
        const char *dot = strrchr(row->path, '.');
        if (dot != NULL) { /* its section stands before it */
            char section[KD_CFG_PATH_MAX];
            (void)snprintf(section, sizeof section, "%.*s", (int)(dot - row->path), row->path);
            const kd_cfg_row *s = kd_cfg_find(section);
            assert_true(s != NULL && s->type == KD_CFG_SECTION && s < row);
        }
    }
    kd_config_defaults(&cfg);
}

static void each_yaml(const char *dir, void (*use)(const char *path), int *count)
{
    char **names = NULL;
    size_t n = 0;
    kd_err err = {0};
    assert_int_equal(kd_io_list_dir(dir, &names, &n, &err), KD_OK);
    for (size_t i = 0; i < n; i++) {
        if (!kd_path_has_suffix(names[i], ".yaml")) {
            continue;
        }
        char *path = kd_path_join(dir, names[i]);
        use(path);
        kd_free(path);
        (*count)++;
    }
    kd_free(names);
}

static void preset_loads(const char *path)
{
    kd_err err = {0};
    if (kd_config_load(&(const char *){path}, 1, NULL, 0, &cfg, &err) != KD_OK) {
        fail_msg("%s", err.msg);
    }
    const bool part =
        strstr(path, "/data/") != NULL || strstr(path, "/distill/") != NULL || strstr(path, "/kinetics.yaml") != NULL;
    assert_true(part || cfg.name[0] != '\0'); /* parts of recipes have no name of their own */
}

static void test_presets(void **state)
{
    (void)state;
    static const char *DIRS[] = {"data", "teacher", "teacher/model", "teacher/published", "student", "distill"};
    int count = 0;
    for (size_t i = 0; i < KD_COUNTOF(DIRS); i++) {
        char *dir = kd_path_join(KD_SOURCE_DIR "/configs", DIRS[i]);
        each_yaml(dir, preset_loads, &count);
        kd_free(dir);
    }
    assert_true(count >= 49);
    preset_loads(KD_SOURCE_DIR "/configs/teacher/ntu60_finetune.yaml");
    assert_true(cfg.optim.base_lr == 1e-3 && cfg.optim.scale_lr && cfg.optim.layer_decay == 0.75);
    assert_int_equal(cfg.train.batch_size * cfg.optim.accumulation, 32);
    kd_vit_cfg model = kd_teacher_model(&cfg.teacher, 60, cfg.video.mean, cfg.video.std); /* its drops are ignored */
    assert_true(cfg.teacher.drop_path == 0.2 && model.drop_path == 0.0f);
    assert_true(cfg.teacher.head_drop == 0.5 && model.head_drop == 0.0f);
    cfg.teacher.drops = KD_TEACHER_DROPS_APPLIED;
    model = kd_teacher_model(&cfg.teacher, 60, cfg.video.mean, cfg.video.std);
    assert_true(model.drop_path == 0.2f && model.head_drop == 0.5f);
}

/* Every size of the teacher on every data set. */
static void test_compositions(void **state)
{
    (void)state;
    static const char *const MODEL[] = {"s", "b", "l", "h", "g"};
    static const char *const DATA[] = {"ntu60_xsub", "ntu60_xview", "ntu120_xsub", "ntu120_xset", "hmdb51", "ucf101",
                                       "ssv2",       "k400",        "k600",        "k700",        "k710"};
    kd_err err = {0};
    for (size_t m = 0; m < KD_COUNTOF(MODEL); m++) {
        for (size_t d = 0; d < KD_COUNTOF(DATA); d++) {
            char model[512], data[512];
            (void)snprintf(model, sizeof model, KD_SOURCE_DIR "/configs/teacher/model/%s.yaml", MODEL[m]);
            (void)snprintf(data, sizeof data, KD_SOURCE_DIR "/configs/data/%s.yaml", DATA[d]);
            if (kd_config_load((const char *[]){model, data}, 2, NULL, 0, &cfg, &err) != KD_OK) {
                fail_msg("%s", err.msg);
            }
            assert_string_equal(cfg.teacher.variant, MODEL[m]);
            assert_true(cfg.data.num_classes > 0);
            assert_true((cfg.video.flip_prob == 0.0) == (strcmp(DATA[d], "ssv2") == 0));
        }
    }
}

static void is_refused(const char *path)
{
    kd_err err = {0};
    assert_int_equal(kd_config_load(&(const char *){path}, 1, NULL, 0, &cfg, &err), KD_E_CONFIG);
    if (strstr(err.msg, ".yaml") == NULL) {
        fail_msg("%s: no place in '%s'", path, err.msg);
    }
}

static void test_refuse_corpus(void **state)
{
    (void)state;
    int count = 0;
    each_yaml(KD_TEST_DIR "/refuse/config", is_refused, &count);
    assert_true(count >= 8);
}

/* The n-th allocation fails: no crash, no leak, KD_E_OOM or success. */
static void test_no_memory(void **state)
{
    (void)state;
    kd_err err;
    for (uint64_t n = 1; n < 200; n++) {
        kd_alloc_fail_at(n);
        err = (kd_err){0};
        const char *sets[] = {"optim.base_lr=0.5"};
        const kd_status st = kd_config_load(&(const char *){KD_SOURCE_DIR "/configs/teacher/ntu60_finetune.yaml"}, 1,
                                            sets, 1, &cfg, &err);
        kd_alloc_fail_at(0);
        if (st == KD_OK) {
            return;
        }
        assert_int_equal(st, KD_E_OOM);
    }
    fail_msg("never succeeded");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),          cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_values),         cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_limits),         cmocka_unit_test(test_set),
        cmocka_unit_test(test_base),           cmocka_unit_test(test_composition),
        cmocka_unit_test(test_print_and_hash), cmocka_unit_test(test_presets),
        cmocka_unit_test(test_refuse_corpus),  cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_compositions),   cmocka_unit_test(test_long_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
