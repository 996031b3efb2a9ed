/* Joint layouts: the named ones are sound, what is wrong with one is named, bones and choices of joints. */
#include "student/layout/layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void named(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int joints, edges;
    } known[] = {
        {"ntu25", 25, 24}, {"kinect20", 20, 19}, {"openpose18", 18, 17}, {"coco17", 17, 16}, {"mediapipe33", 33, 39}};
    assert_int_equal(kd_layout_count(), KD_COUNTOF(known));
    for (int i = 0; i < kd_layout_count(); i++) {
        char text[KD_LAYOUT_IDENTITY];
        kd_err err = {0};
        const kd_layout *l = kd_layout_find(known[i].name);
        assert_ptr_equal(l, kd_layout_at(i));
        assert_string_equal(kd_layout_named(i), known[i].name);
        assert_int_equal(l->joints, known[i].joints);
        assert_int_equal(l->edges, known[i].edges);
        assert_int_equal(kd_layout_check(l, &err), KD_OK);
        assert_string_equal(kd_layout_identity(l, text), known[i].name);
        for (int v = 0; v < l->joints; v++) { /* sides are told by names */
            const bool left = strncmp(l->joint[v].name, "left_", 5) == 0;
            const char *other = l->joint[l->joint[v].mirror].name;
            if (left || strncmp(l->joint[v].name, "right_", 6) == 0) {
                assert_int_equal(strncmp(other, left ? "right_" : "left_", left ? 6 : 5), 0);
                assert_string_equal(l->joint[v].name + (left ? 5 : 6), other + (left ? 6 : 5));
            } else {
                assert_int_equal(l->joint[v].mirror, v);
            }
        }
    }
    assert_ptr_equal(kd_layout_ntu25(), kd_layout_find("ntu25"));
    assert_null(kd_layout_find("ntu"));
    assert_null(kd_layout_named(kd_layout_count()));
}

static void refused(const kd_layout *l, const char *words)
{
    kd_err err = {0};
    assert_int_equal(kd_layout_check(l, &err), KD_E_CONFIG);
    if (strstr(err.msg, words) == NULL) {
        fail_msg("expected '%s', found '%s'", words, err.msg);
    }
}

static void refusals(void **state)
{
    (void)state;
    kd_layout l = *kd_layout_find("coco17");
    l.joints = 4;
    refused(&l, "joints: expected 5 to 64, found 4");
    l = *kd_layout_find("coco17");
    l.joint[3].name[0] = '\0';
    refused(&l, "joint 3: expected a name");
    l = *kd_layout_find("coco17");
    (void)snprintf(l.joint[3].name, sizeof l.joint[3].name, "nose");
    refused(&l, "'nose' of joint 0");
    l = *kd_layout_find("coco17");
    l.joint[5].mirror = 8;
    refused(&l,
            "mirror: expected pairs, found left_shoulder whose image is right_elbow, whose own image is left_elbow");
    l = *kd_layout_find("coco17");
    l.joint[15].mirror = 15;
    l.joint[16].mirror = 16;
    refused(&l, "left_ankle and left_ankle; a joint of an arm or leg needs its pair");
    l = *kd_layout_find("coco17");
    l.edges--; /* right ear */
    refused(&l, "no way from nose to right_ear");
    l = *kd_layout_find("coco17");
    l.edge[1][0] = 13;
    l.edge[1][1] = 15;
    refused(&l, "edge 1: left_knee and left_ankle are connected by edge 0 already");
    l = *kd_layout_find("coco17");
    l.edge[2][0] = 17;
    refused(&l, "edge 2: expected two of 17 joints, found 17 and 14");
    l = *kd_layout_find("coco17");
    l.joint[0].bone = 1;
    refused(&l, "bones: expected a way to a joint without one, found a circle from nose");
    l = *kd_layout_find("coco17");
    l.centre = 17;
    refused(&l, "joints below 17, found 17");
}

static void bones(void **state)
{
    (void)state;
    kd_layout l = *kd_layout_find("mediapipe33");
    kd_layout_bones(&l, 0);
    for (int v = 0; v < l.joints; v++) { /* the row's are the shortest ways to the nose, but for toes beside heels */
        assert_int_equal(l.joint[v].bone, kd_layout_find("mediapipe33")->joint[v].bone);
    }
    char text[KD_LAYOUT_IDENTITY], other[KD_LAYOUT_IDENTITY];
    (void)snprintf(l.name, sizeof l.name, "mine");
    assert_int_equal(strncmp(kd_layout_identity(&l, text), "mine@", 5), 0);
    assert_int_equal(strlen(text), 13);
    l.joint[5].bone = 6;
    assert_string_not_equal(kd_layout_identity(&l, other), text);
}

static void choices(void **state)
{
    (void)state;
    uint8_t idx[KD_LAYOUT_JOINTS];
    kd_err err = {0};
    assert_int_equal(kd_layout_map(kd_layout_ntu25(), kd_layout_find("kinect20"), idx, &err), KD_OK);
    for (int v = 0; v < 20; v++) {
        assert_int_equal(idx[v], v);
    }
    assert_int_equal(kd_layout_map(kd_layout_find("mediapipe33"), kd_layout_find("coco17"), idx, &err), KD_OK);
    static const uint8_t mp[17] = {0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28};
    assert_memory_equal(idx, mp, sizeof mp);
    assert_int_equal(kd_layout_map(kd_layout_find("coco17"), kd_layout_find("openpose18"), idx, &err), KD_E_CONFIG);
    assert_non_null(strstr(err.msg, "layout openpose18 cannot be made of coco17"));
    assert_non_null(strstr(err.msg, "1 missing: neck"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(named), cmocka_unit_test(refusals), cmocka_unit_test(bones),
                                       cmocka_unit_test(choices)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
