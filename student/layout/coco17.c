/* The 17 key points of COCO, as pyskl's and MMAction2's HRNet poses have them.
 *
 * Edges and centre are those of MMAction2 (`Graph`, layout coco), bones those of its JointToBone; the reference of LAST
 * has no tables for them, so parts are ours: shoulders belong to the arms and hips to the legs, as in ntu25, and the
 * face is the head.  There is no torso. */
#include "student/layout/rows.h"

const kd_layout kd_layout_row_coco17 = {
    .name = "coco17",
    .joints = 17,
    .joint =
        {
            [0] = {"nose", KD_HEAD, 0, 0},
            [1] = {"left_eye", KD_HEAD, 0, 2},
            [2] = {"right_eye", KD_HEAD, 0, 1},
            [3] = {"left_ear", KD_HEAD, 1, 4},
            [4] = {"right_ear", KD_HEAD, 2, 3},
            [5] = {"left_shoulder", KD_LEFT_ARM, 0, 6},
            [6] = {"right_shoulder", KD_RIGHT_ARM, 0, 5},
            [7] = {"left_elbow", KD_LEFT_ARM, 5, 8},
            [8] = {"right_elbow", KD_RIGHT_ARM, 6, 7},
            [9] = {"left_wrist", KD_LEFT_ARM, 7, 10},
            [10] = {"right_wrist", KD_RIGHT_ARM, 8, 9},
            [11] = {"left_hip", KD_LEFT_LEG, 0, 12},
            [12] = {"right_hip", KD_RIGHT_LEG, 0, 11},
            [13] = {"left_knee", KD_LEFT_LEG, 11, 14},
            [14] = {"right_knee", KD_RIGHT_LEG, 12, 13},
            [15] = {"left_ankle", KD_LEFT_LEG, 13, 16},
            [16] = {"right_ankle", KD_RIGHT_LEG, 14, 15},
        },
    .edges = 16,
    .edge = {{15, 13},
             {13, 11},
             {16, 14},
             {14, 12},
             {11, 5},
             {12, 6},
             {9, 7},
             {7, 5},
             {10, 8},
             {8, 6},
             {5, 0},
             {6, 0},
             {1, 0},
             {3, 1},
             {2, 0},
             {4, 2}},
    .centre = 0,
    .origin = {11, 12},
    .top = {5, 6},
    .shoulder = {5, 6},
    .source = "17 key points of COCO; edges, centre and bones of MMAction2, parts and shift tables are ours"};
