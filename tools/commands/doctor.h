/* Inside kd doctor: measured speed of the paths that a run takes. Each returns a negative number where the path does
 * not work here, with the reason in *err. */
#ifndef KD_TOOLS_COMMANDS_DOCTOR_H
#define KD_TOOLS_COMMANDS_DOCTOR_H

#include "kernels/kd_base.h"

/* Frames per second of one thread, decoding a clip of 320x240 that is encoded here; `codec` is the encoder's name. */
double kd_doctor_decode(const char *dir, char codec[32], kd_err *err);

/* Milliseconds of one forward pass of a student, one sample, one thread. */
double kd_doctor_student(const char *name, kd_err *err);

/* Seconds of one clip through a ViT-L, from one measured block of its 24. */
double kd_doctor_teacher(kd_dtype dtype, int *threads, kd_err *err);

#endif
