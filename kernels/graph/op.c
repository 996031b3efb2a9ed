/* The op table: every row of kd_op_list.inc points at the definition of its op in op/. */
#include "kernels/kd_op.h"

#include <stdio.h>

static const kd_op_def *const table[KD_OP_COUNT] = {
#define KD_OP(ID, op_name, family, ins, outs, op_flags) [KD_OP_##ID] = &kd_op_def_##op_name,
#include "kernels/kd_op_list.inc"
#undef KD_OP
};

const kd_op_def *kd_op_get(kd_op op)
{
    KD_ASSERT((int)op > 0 && (int)op < (int)KD_OP_COUNT);
    return table[op];
}

double kd_element(kd_dtype t, const void *data, int64_t i)
{
    switch (t) {
    case KD_F64:
        return ((const double *)data)[i];
    case KD_F32:
        return (double)((const float *)data)[i];
    case KD_BF16:
        return (double)kd_bf16_to_f32(((const uint16_t *)data)[i]);
    case KD_F16:
        return (double)kd_f16_to_f32(((const uint16_t *)data)[i]);
    case KD_I64:
        return (double)((const int64_t *)data)[i];
    case KD_I32:
        return (double)((const int32_t *)data)[i];
    case KD_U8:
        return (double)((const uint8_t *)data)[i];
    default:
        KD_ASSERT(false && "a dtype of kd_dtype");
        return 0.0;
    }
}

const char *kd_shape_text(const kd_shape *s, char *buf, size_t size)
{
    if (s->rank < 0) {
        (void)snprintf(buf, size, "absent");
        return buf;
    }
    size_t n = (size_t)snprintf(buf, size, "(");
    for (int i = 0; i < s->rank && n < size; i++) {
        n += (size_t)snprintf(buf + n, size - n, i == 0 ? "%lld" : ",%lld", (long long)s->dim[i]);
    }
    if (n < size) {
        (void)snprintf(buf + n, size - n, ")");
    }
    return buf;
}
