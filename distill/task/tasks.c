/* The table of tasks: see tasks.h. */
#include "distill/task/tasks.h"

static const kd_task *const tasks[] = {&kd_task_video, &kd_task_skeleton};

int kd_task_count(void)
{
    return (int)KD_COUNTOF(tasks);
}

const kd_task *kd_task_at(int i)
{
    return i >= 0 && i < kd_task_count() ? tasks[i] : NULL;
}

const kd_task *kd_task_of(const kd_config *cfg)
{
    char kind[KD_CFG_NAME];
    (void)kd_config_enum_name("kind", (int)cfg->kind, kind);
    for (size_t i = 0; i < KD_COUNTOF(tasks); i++) {
        if (strcmp(tasks[i]->kind, kind) == 0) {
            return tasks[i];
        }
    }
    KD_ASSERT(false && "the schema knows a kind that has no task");
    return NULL;
}
