/* Inside of student/layout: the named layouts, one a file. */
#ifndef KD_STUDENT_LAYOUT_ROWS_H
#define KD_STUDENT_LAYOUT_ROWS_H

#include "student/layout/layout.h"

extern const kd_layout kd_layout_row_ntu25, kd_layout_row_kinect20, kd_layout_row_openpose18, kd_layout_row_coco17,
    kd_layout_row_mediapipe33;

#endif
