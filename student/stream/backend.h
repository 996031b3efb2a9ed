/* The device of liblast: one thread, the heap, and the kernels of forward programs of students (ops.inc).  The
 * toolkit's own CPU backend brings OpenMP, oneDNN and the kernels of training along. */
#ifndef KD_STUDENT_STREAM_BACKEND_H
#define KD_STUDENT_STREAM_BACKEND_H

#include "kernels/kd_backend.h"

kd_backend *kd_last_backend_open(void); /* kd_backend_close; NULL: out of memory */

#endif
