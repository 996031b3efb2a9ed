/* The model zoo: see zoo.h. */
#include "teacher/model/zoo.h"

static const kd_zoo_entry ZOO_TABLE[] = {
#define ZOO(name, variant, classes, data, layout, file, sha256, top1, licence, page) \
    {name, variant, classes, data, layout, file, sha256, top1, licence, page},
#include "teacher/model/zoo.inc"
#undef ZOO
};

const kd_zoo_entry *kd_zoo_at(int i)
{
    return i >= 0 && i < (int)KD_COUNTOF(ZOO_TABLE) ? &ZOO_TABLE[i] : NULL;
}

const kd_zoo_entry *kd_zoo_find(const char *name)
{
    for (size_t i = 0; i < KD_COUNTOF(ZOO_TABLE); i++) {
        if (strcmp(ZOO_TABLE[i].name, name) == 0) {
            return &ZOO_TABLE[i];
        }
    }
    return NULL;
}

int64_t kd_zoo_parameters(const kd_teacher_info *size, int classes)
{
    const int64_t d = size->dim, h = size->mlp_hidden;
    const int64_t patch = d * (3 * size->tubelet * size->patch * size->patch) + d;
    const int64_t attention = 3 * d * d + 2 * d + d * d + d; /* no bias on k */
    const int64_t mlp = 2 * d * h + h + d;
    const int64_t head = classes > 0 ? (d + 1) * classes : 0;
    return patch + size->depth * (attention + mlp + 4 * d) + 2 * d + head;
}
