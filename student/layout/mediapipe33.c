/* The 33 landmarks of MediaPipe Pose (BlazePose GHUM).
 *
 * Edges are MediaPipe's POSE_CONNECTIONS and four more, since MediaPipe connects neither the mouth nor the face with
 * the body: nose to both shoulders, as in coco17, and nose to both corners of the mouth.  The
 * reference of LAST has no tables for them: bones (towards the nose) and parts are ours. */
#include "student/layout/rows.h"

const kd_layout kd_layout_row_mediapipe33 =
    {.name = "mediapipe33",
     .joints = 33,
     .joint =
         {
             [0] = {"nose", KD_HEAD, 0, 0},
             [1] = {"left_eye_inner", KD_HEAD, 0, 4},
             [2] = {"left_eye", KD_HEAD, 1, 5},
             [3] = {"left_eye_outer", KD_HEAD, 2, 6},
             [4] = {"right_eye_inner", KD_HEAD, 0, 1},
             [5] = {"right_eye", KD_HEAD, 4, 2},
             [6] = {"right_eye_outer", KD_HEAD, 5, 3},
             [7] = {"left_ear", KD_HEAD, 3, 8},
             [8] = {"right_ear", KD_HEAD, 6, 7},
             [9] = {"left_mouth", KD_HEAD, 0, 10},
             [10] = {"right_mouth", KD_HEAD, 0, 9},
             [11] = {"left_shoulder", KD_LEFT_ARM, 0, 12},
             [12] = {"right_shoulder", KD_RIGHT_ARM, 0, 11},
             [13] = {"left_elbow", KD_LEFT_ARM, 11, 14},
             [14] = {"right_elbow", KD_RIGHT_ARM, 12, 13},
             [15] = {"left_wrist", KD_LEFT_ARM, 13, 16},
             [16] = {"right_wrist", KD_RIGHT_ARM, 14, 15},
             [17] = {"left_pinky", KD_LEFT_ARM, 15, 18},
             [18] = {"right_pinky", KD_RIGHT_ARM, 16, 17},
             [19] = {"left_index", KD_LEFT_ARM, 15, 20},
             [20] = {"right_index", KD_RIGHT_ARM, 16, 19},
             [21] = {"left_thumb", KD_LEFT_ARM, 15, 22},
             [22] = {"right_thumb", KD_RIGHT_ARM, 16, 21},
             [23] = {"left_hip", KD_LEFT_LEG, 11, 24},
             [24] = {"right_hip", KD_RIGHT_LEG, 12, 23},
             [25] = {"left_knee", KD_LEFT_LEG, 23, 26},
             [26] = {"right_knee", KD_RIGHT_LEG, 24, 25},
             [27] = {"left_ankle", KD_LEFT_LEG, 25, 28},
             [28] = {"right_ankle", KD_RIGHT_LEG, 26, 27},
             [29] = {"left_heel", KD_LEFT_LEG, 27, 30},
             [30] = {"right_heel", KD_RIGHT_LEG, 28, 29},
             [31] = {"left_foot_index", KD_LEFT_LEG, 27, 32},
             [32] = {"right_foot_index", KD_RIGHT_LEG, 28, 31},
         },
     .edges = 39,
     .edge = {{0, 1},   {1, 2},   {2, 3},   {3, 7},   {0, 4},   {4, 5},   {5, 6},   {6, 8},   {9, 10},  {11, 12},
              {11, 13}, {13, 15}, {15, 17}, {15, 19}, {15, 21}, {17, 19}, {12, 14}, {14, 16}, {16, 18}, {16, 20},
              {16, 22}, {18, 20}, {11, 23}, {12, 24}, {23, 24}, {23, 25}, {24, 26}, {25, 27}, {26, 28}, {27, 29},
              {28, 30}, {29, 31}, {30, 32}, {27, 31}, {28, 32}, {0, 11},  {0, 12},  {0, 9},   {0, 10}},
     .centre = 0,
     .origin = {23, 24},
     .top = {11, 12},
     .shoulder = {11, 12},
     .source = "33 landmarks of MediaPipe Pose; edges of MediaPipe and nose to shoulders and mouth, bones, parts and "
               "shift tables are ours"};
