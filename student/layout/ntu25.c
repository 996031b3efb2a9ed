/* NTU RGB+D: the 25 joints of Kinect v2.
 *
 * The LAST reference uses three edge lists: its graph class hangs hand tips on the thumbs (`edge`), LAST v1 both on the
 * hands (`v1_edge`), the bone stream the thumbs on the wrists (`bone`).  Its part table of PartAttention misses neck
 * and head. */
#include "student/layout/rows.h"

const kd_layout kd_layout_row_ntu25 = {
    .name = "ntu25",
    .joints = 25,
    .joint =
        {
            [0] = {"spine_base", KD_TORSO, 0, 0},
            [1] = {"spine_mid", KD_TORSO, 0, 1},
            [2] = {"neck", KD_TORSO, 20, 2},
            [3] = {"head", KD_HEAD, 2, 3},
            [4] = {"left_shoulder", KD_LEFT_ARM, 20, 8},
            [5] = {"left_elbow", KD_LEFT_ARM, 4, 9},
            [6] = {"left_wrist", KD_LEFT_ARM, 5, 10},
            [7] = {"left_hand", KD_LEFT_ARM, 6, 11},
            [8] = {"right_shoulder", KD_RIGHT_ARM, 20, 4},
            [9] = {"right_elbow", KD_RIGHT_ARM, 8, 5},
            [10] = {"right_wrist", KD_RIGHT_ARM, 9, 6},
            [11] = {"right_hand", KD_RIGHT_ARM, 10, 7},
            [12] = {"left_hip", KD_LEFT_LEG, 0, 16},
            [13] = {"left_knee", KD_LEFT_LEG, 12, 17},
            [14] = {"left_ankle", KD_LEFT_LEG, 13, 18},
            [15] = {"left_foot", KD_LEFT_LEG, 14, 19},
            [16] = {"right_hip", KD_RIGHT_LEG, 0, 12},
            [17] = {"right_knee", KD_RIGHT_LEG, 16, 13},
            [18] = {"right_ankle", KD_RIGHT_LEG, 17, 14},
            [19] = {"right_foot", KD_RIGHT_LEG, 18, 15},
            [20] = {"spine_shoulder", KD_TORSO, 1, 20},
            [21] = {"left_hand_tip", KD_LEFT_ARM, 7, 23},
            [22] = {"left_thumb", KD_LEFT_ARM, 6, 24},
            [23] = {"right_hand_tip", KD_RIGHT_ARM, 11, 21},
            [24] = {"right_thumb", KD_RIGHT_ARM, 10, 22},
        },
    .edges = 24,
    .edge = {{0, 1},  {1, 20},  {2, 20},  {3, 2},   {4, 20},  {5, 4},   {6, 5},   {7, 6},
             {8, 20}, {9, 8},   {10, 9},  {11, 10}, {12, 0},  {13, 12}, {14, 13}, {15, 14},
             {16, 0}, {17, 16}, {18, 17}, {19, 18}, {21, 22}, {22, 7},  {23, 24}, {24, 11}},
    .v1_edges = 24,
    .v1_edge = {{0, 1},  {1, 20},  {2, 20},  {3, 2},   {4, 20}, {5, 4},   {6, 5},   {7, 6},
                {8, 20}, {9, 8},   {10, 9},  {11, 10}, {12, 0}, {13, 12}, {14, 13}, {15, 14},
                {16, 0}, {17, 16}, {18, 17}, {19, 18}, {7, 21}, {7, 22},  {11, 23}, {11, 24}},
    .centre = 20,
    .origin = {0, 0},
    .top = {2, 2},
    .shoulder = {4, 8},
    .unparted = 1u << 2 | 1u << 3,
    .source = "25 joints of Kinect v2 as in NTU RGB+D; all tables are those of the LAST reference"};
