/* Paths of a recipe: which of them the present directory gives their meaning. */
#include "configs/schema/config_table.h"
#include "configs/schema/kd_config.h"
#include "formats/base/io.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

static bool is_path(const kd_cfg_row *row)
{
    return row->type == KD_CFG_PATHS || (row->type == KD_CFG_STR && row->cap == KD_CFG_PATH);
}

/* Paths that are looked for below data.root alone. */
static bool is_below_root(const kd_cfg_row *row)
{
    return strcmp(row->path, "data.video_dir") == 0 || strcmp(row->path, "data.skeleton_dir") == 0;
}

/* A key that takes a path and says nothing of it keeps its meaning in one directory alone. */
static void test_flags(void **state)
{
    (void)state;
    int n = 0;
    for (size_t i = 0; i < kd_cfg_row_count; i++) {
        const kd_cfg_row *row = &kd_cfg_rows[i];
        const unsigned flags = row->flags & (KD_CFG_HERE | KD_CFG_LISTED);
        if (is_path(row) && !is_below_root(row) && flags != KD_CFG_HERE && flags != KD_CFG_LISTED) {
            fail_msg("%s: expected HERE or LISTED", row->path);
        }
        if (flags != 0 && !is_path(row)) {
            fail_msg("%s: expected a path", row->path);
        }
        n += flags != 0;
    }
    assert_true(n >= 12);
}

static void test_absolute(void **state)
{
    (void)state;
    kd_config *cfg = kd_calloc(1, sizeof *cfg);
    kd_err err = {0};
    char here[KD_CFG_PATH], want[2 * KD_CFG_PATH];
    assert_non_null(cfg);
    assert_non_null(getcwd(here, sizeof here));
    (void)snprintf(want, sizeof want, "%s/there.txt", here);
    assert_int_equal(kd_io_write_file("there.txt", "x", 1, &err), KD_OK);
    const char *const name[] = {"there.txt", "gone.txt"};
    for (int gone = 0; gone < 2; gone++) {
        kd_config_defaults(cfg);
        for (size_t i = 0; i < kd_cfg_row_count; i++) {
            if (kd_cfg_rows[i].type == KD_CFG_STR && is_path(&kd_cfg_rows[i])) {
                (void)snprintf((char *)cfg + kd_cfg_rows[i].offset, KD_CFG_PATH, "%s", name[gone]);
            }
        }
        assert_int_equal(kd_config_absolute(cfg, &err), KD_OK);
        (void)snprintf(want, sizeof want, "%s/%s", here, name[gone]);
        assert_string_equal(cfg->kd.class_embed, want);
        assert_string_equal(cfg->student.weights, want);
        assert_string_equal(cfg->data.unlabelled, gone == 0 ? want : name[gone]);
        assert_string_equal(cfg->data.quarantine, gone == 0 ? want : name[gone]);
        assert_string_equal(cfg->data.video_dir, name[gone]);
    }
    kd_config_defaults(cfg);
    assert_int_equal(kd_config_absolute(cfg, &err), KD_OK);
    assert_string_equal(cfg->skeleton.layout, "ntu25");
    assert_string_equal(cfg->data.root, "");
    assert_int_equal(unlink("there.txt"), 0);
    kd_free(cfg);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_flags), cmocka_unit_test(test_absolute)};
    return cmocka_run_group_tests_name("paths", tests, NULL, NULL);
}
