/* formats/weights/checkpoint: what is saved comes back; every flipped byte is found; a kill anywhere leaves old or
 * new. */
#include "formats/base/io.h"
#include "formats/weights/checkpoint.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
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
static char dir[128]; /* <root>/checkpoints/last */

static int setup(void **state)
{
    (void)state;
    (void)snprintf(root, sizeof root, "/tmp/kd_ckpt_XXXXXX");
    if (mkdtemp(root) == NULL) {
        return -1;
    }
    (void)snprintf(dir, sizeof dir, "%s/checkpoints/last", root);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    kd_io_fail_after_bytes(-1);
    return kd_io_remove_tree(root, NULL) == KD_OK ? 0 : -1;
}

static kd_status save(int64_t step, kd_err *err)
{
    float w[6];
    for (int i = 0; i < 6; i++) {
        w[i] = (float)step + 0.25f * (float)i;
    }
    const int64_t dw[2] = {2, 3};
    const int64_t dm[1] = {6};
    const kd_st_tensor model[2] = {{"head.weight", KD_ST_F32, 2, dw, w}, {"head.bias", KD_ST_F32, 1, &dw[0], w}};
    const kd_st_tensor optim[2] = {{"m.head.weight", KD_ST_F32, 1, dm, w}, {"step", KD_ST_I64, 0, NULL, &step}};
    const kd_ckpt_group groups[2] = {{"model", model, 2}, {"optim", optim, 2}};
    kd_json *s = kd_json_object();
    kd_json_set_i64(s, "step", step);
    kd_json_set_f64(s, "best", 0.1);
    const kd_status st = kd_ckpt_save(dir, groups, 2, s, true, err);
    kd_json_free(s);
    return st;
}

/* The step of a checkpoint after checking that its files belong together. */
static int64_t step_of(const kd_ckpt *c)
{
    int64_t step = -1;
    int64_t stored = -2;
    float first = 0;
    assert_int_equal(kd_json_get_i64(kd_ckpt_state(c), "step", &step, NULL), KD_OK);
    memcpy(&stored, kd_st_find(kd_ckpt_tensors(c, "optim"), "step")->data, sizeof stored);
    assert_int_equal(stored, step);
    memcpy(&first, kd_st_find(kd_ckpt_tensors(c, "model"), "head.weight")->data, sizeof first);
    assert_true(first == (float)step);
    return step;
}

static int64_t open_last(void)
{
    kd_ckpt *c = NULL;
    kd_err err = {0};
    if (kd_ckpt_open_last(dir, &c, &err) != KD_OK) {
        fail_msg("%s", err.msg);
    }
    const int64_t step = step_of(c);
    kd_ckpt_close(c);
    return step;
}

static void test_round_trip(void **state)
{
    (void)state;
    kd_ckpt *c = NULL;
    bool there = true;
    assert_int_equal(kd_ckpt_exists(dir, &there, NULL), KD_OK);
    assert_false(there);
    assert_int_equal(kd_ckpt_open_last(dir, &c, NULL), KD_E_IO);
    assert_int_equal(save(5, NULL), KD_OK);
    assert_int_equal(kd_ckpt_exists(dir, &there, NULL), KD_OK);
    assert_true(there);
    assert_int_equal(kd_ckpt_open(dir, &c, NULL), KD_OK);
    assert_int_equal(step_of(c), 5);
    double best = 0;
    assert_int_equal(kd_json_get_f64(kd_ckpt_state(c), "best", &best, NULL), KD_OK);
    assert_true(best == 0.1);
    assert_null(kd_ckpt_tensors(c, "ema"));
    assert_null(kd_ckpt_tensors(c, "mod"));
    assert_string_equal(kd_ckpt_dir(c), dir);
    assert_false(kd_ckpt_fell_back(c));
    assert_int_equal(save(6, NULL), KD_OK); /* while the old one is mapped */
    assert_int_equal(step_of(c), 5);
    kd_ckpt_close(c);
    assert_int_equal(open_last(), 6);
    char prev[160];
    (void)snprintf(prev, sizeof prev, "%s.prev", dir);
    assert_int_equal(kd_ckpt_open(prev, &c, NULL), KD_OK);
    assert_int_equal(step_of(c), 5);
    kd_ckpt_close(c);
}

static void flip_all(const char *name)
{
    char path[200];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    uint8_t *data = NULL;
    size_t n = 0;
    assert_int_equal(kd_io_read_file(path, 1 << 20, &data, &n, NULL), KD_OK);
    assert_true(n > 100);
    for (size_t i = 0; i < n; i++) {
        const uint8_t old = data[i];
        data[i] = (uint8_t)(old ^ (1u << (i % 8)));
        FILE *f = fopen(path, "wb"); /* no fsync: this runs some thousand times */
        assert_non_null(f);
        assert_int_equal(fwrite(data, 1, n, f), n);
        assert_int_equal(fclose(f), 0);
        kd_ckpt *c = NULL;
        kd_err err = {0};
        if (kd_ckpt_open(dir, &c, &err) != KD_E_INTEGRITY) {
            fail_msg("%s: flip at byte %zu not found (%s)", name, i, err.msg);
        }
        assert_non_null(strstr(err.msg, name));
        data[i] = old;
    }
    assert_int_equal(kd_io_write_file(path, data, n, NULL), KD_OK);
    assert_int_equal(truncate(path, (off_t)n - 1), 0);
    kd_ckpt *c = NULL;
    assert_int_equal(kd_ckpt_open(dir, &c, NULL), KD_E_INTEGRITY);
    assert_int_equal(kd_io_write_file(path, data, n, NULL), KD_OK);
    kd_free(data);
    assert_int_equal(open_last(), 2);
}

static void test_flips(void **state)
{
    (void)state;
    assert_int_equal(save(2, NULL), KD_OK);
    flip_all("model.safetensors");
    flip_all("optim.safetensors");
    flip_all("state.json");
}

static void test_fall_back(void **state)
{
    (void)state;
    assert_int_equal(save(1, NULL), KD_OK);
    assert_int_equal(save(2, NULL), KD_OK);
    char path[200];
    (void)snprintf(path, sizeof path, "%s/model.safetensors", dir);
    assert_int_equal(unlink(path), 0);
    kd_log_set_level(KD_LOG_ERROR);
    kd_ckpt *c = NULL;
    assert_int_equal(kd_ckpt_open(dir, &c, NULL), KD_E_INTEGRITY);
    assert_int_equal(kd_ckpt_open_last(dir, &c, NULL), KD_OK);
    assert_true(kd_ckpt_fell_back(c));
    assert_int_equal(step_of(c), 1);
    kd_ckpt_close(c);
    kd_log_set_level(KD_LOG_INFO);
}

/* How many names stand in checkpoints/. */
static size_t beside(void)
{
    char parent[96];
    char **names = NULL;
    size_t n = 0;
    (void)snprintf(parent, sizeof parent, "%s/checkpoints", root);
    assert_int_equal(kd_io_list_dir(parent, &names, &n, NULL), KD_OK);
    kd_free(names);
    return n;
}

static void test_disk_full(void **state)
{
    (void)state;
    assert_int_equal(save(1, NULL), KD_OK);
    bool worked = false;
    for (int64_t n = 0; !worked; n += 37) {
        kd_err err = {0};
        kd_io_fail_after_bytes(n);
        const kd_status st = save(2, &err);
        kd_io_fail_after_bytes(-1);
        assert_true(st == KD_OK || st == KD_E_WRITE);
        worked = st == KD_OK;
        assert_int_equal(open_last(), worked ? 2 : 1);
        assert_int_equal(beside(), worked ? 2 : 1); /* last, last.prev */
    }
}

static void test_killed(void **state)
{
    (void)state;
    kd_log_set_level(KD_LOG_ERROR);
    assert_int_equal(save(1, NULL), KD_OK);
    int64_t now = 1;
    int kills = 0;
    for (int64_t n = 1;; n++) {
        const pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            kd_io_kill_at_step(n);
            _exit(save(now + 1, NULL) == KD_OK ? 0 : 3);
        }
        int status = 0;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        const int64_t found = open_last();
        assert_true(found == now || found == now + 1);
        now = found;
        if (WIFEXITED(status)) {
            assert_int_equal(status, 0);
            break;
        }
        assert_int_equal(WTERMSIG(status), SIGKILL);
        kills++;
    }
    assert_true(kills > 15);
    assert_int_equal(beside(), 2); /* what the killed ones left is gone */
    kd_log_set_level(KD_LOG_INFO);
}

static void test_names(void **state)
{
    (void)state;
    const kd_ckpt_group bad = {"../evil", NULL, 0};
    kd_json *s = kd_json_object();
    assert_int_equal(kd_ckpt_save(dir, &bad, 1, s, false, NULL), KD_E_ARG);
    assert_false(kd_path_exists(dir));
    kd_json_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flips, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fall_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_disk_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_killed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_names, setup, teardown),
    };
    return cmocka_run_group_tests_name("checkpoint", tests, NULL, NULL);
}
