/* OpenPose's 18 key points (the COCO model), as Kinetics-Skeleton has them.
 *
 * Edges and centre are those of ST-GCN and MMAction2 (`Graph`, layout openpose), bones those of MMAction2's
 * JointToBone; the reference of LAST has no tables for them, so parts are ours. */
#include "student/layout/rows.h"

const kd_layout kd_layout_row_openpose18 = {
    .name = "openpose18",
    .joints = 18,
    .joint =
        {
            [0] = {"nose", KD_HEAD, 0, 0},
            [1] = {"neck", KD_TORSO, 0, 1},
            [2] = {"right_shoulder", KD_RIGHT_ARM, 1, 5},
            [3] = {"right_elbow", KD_RIGHT_ARM, 2, 6},
            [4] = {"right_wrist", KD_RIGHT_ARM, 3, 7},
            [5] = {"left_shoulder", KD_LEFT_ARM, 1, 2},
            [6] = {"left_elbow", KD_LEFT_ARM, 5, 3},
            [7] = {"left_wrist", KD_LEFT_ARM, 6, 4},
            [8] = {"right_hip", KD_RIGHT_LEG, 2, 11},
            [9] = {"right_knee", KD_RIGHT_LEG, 8, 12},
            [10] = {"right_ankle", KD_RIGHT_LEG, 9, 13},
            [11] = {"left_hip", KD_LEFT_LEG, 5, 8},
            [12] = {"left_knee", KD_LEFT_LEG, 11, 9},
            [13] = {"left_ankle", KD_LEFT_LEG, 12, 10},
            [14] = {"right_eye", KD_HEAD, 0, 15},
            [15] = {"left_eye", KD_HEAD, 0, 14},
            [16] = {"right_ear", KD_HEAD, 14, 17},
            [17] = {"left_ear", KD_HEAD, 15, 16},
        },
    .edges = 17,
    .edge = {{4, 3},
             {3, 2},
             {7, 6},
             {6, 5},
             {13, 12},
             {12, 11},
             {10, 9},
             {9, 8},
             {11, 5},
             {8, 2},
             {5, 1},
             {2, 1},
             {0, 1},
             {15, 0},
             {14, 0},
             {17, 15},
             {16, 14}},
    .centre = 1,
    .origin = {8, 11},
    .top = {1, 1},
    .shoulder = {5, 2},
    .source = "18 key points of OpenPose; edges, centre and bones of MMAction2, parts and shift tables are ours"};
