/* The table of tasks: one row and one file a kind of model.  The type of a row is distill/model/task.h. */
#ifndef KD_DISTILL_TASK_TASKS_H
#define KD_DISTILL_TASK_TASKS_H

#include "distill/model/task.h"

extern const kd_task kd_task_video;    /* VideoMAE on clips of frames */
extern const kd_task kd_task_skeleton; /* the LAST family on skeleton sequences */

int kd_task_count(void);
const kd_task *kd_task_at(int i); /* NULL past the end */

/* The task of a recipe. */
const kd_task *kd_task_of(const kd_config *cfg);

#endif
