/* Shapes, specs and tensor views.  Tensors are dense and row-major; kernels never see strides.  A view never owns. */
#ifndef KD_KERNELS_KD_TENSOR_H
#define KD_KERNELS_KD_TENSOR_H

#include "kernels/kd_base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KD_MAX_RANK 6

typedef struct kd_shape {
    int32_t rank; /* 0: scalar; -1: absent (optional operand not given) */
    int64_t dim[KD_MAX_RANK];
} kd_shape;

typedef struct kd_spec { /* what a value is, before it has bytes */
    kd_dtype dtype;
    kd_shape shape;
} kd_spec;

typedef struct kd_tensor {
    void *data; /* NULL: absent operand, or an output nobody wants */
    kd_dtype dtype;
    kd_shape shape;
} kd_tensor;

/* {rank, {dims}} of 1 to 6 dims, for tables: a constant initialiser where the functions below are none. */
#define KD_SHAPE(...)                                       \
    {                                                       \
        sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), \
        {                                                   \
            __VA_ARGS__                                     \
        }                                                   \
    }

/* Shapes of 0 to 6 dims: kd_shape3(B, N, C). */
static inline kd_shape kd_shape0(void)
{
    kd_shape s = {0, {0}};
    return s;
}
static inline kd_shape kd_shape1(int64_t a)
{
    kd_shape s = {1, {a}};
    return s;
}
static inline kd_shape kd_shape2(int64_t a, int64_t b)
{
    kd_shape s = {2, {a, b}};
    return s;
}
static inline kd_shape kd_shape3(int64_t a, int64_t b, int64_t c)
{
    kd_shape s = {3, {a, b, c}};
    return s;
}
static inline kd_shape kd_shape4(int64_t a, int64_t b, int64_t c, int64_t d)
{
    kd_shape s = {4, {a, b, c, d}};
    return s;
}
static inline kd_shape kd_shape5(int64_t a, int64_t b, int64_t c, int64_t d, int64_t e)
{
    kd_shape s = {5, {a, b, c, d, e}};
    return s;
}
static inline kd_shape kd_shape_absent(void)
{
    kd_shape s = {-1, {0}};
    return s;
}

/* Product of the dims [from, to); 1 for an empty range. */
static inline int64_t kd_shape_span(const kd_shape *s, int from, int to)
{
    int64_t n = 1;
    for (int i = from; i < to; i++) {
        n *= s->dim[i];
    }
    return n;
}

static inline int64_t kd_shape_numel(const kd_shape *s)
{
    return s->rank < 0 ? 0 : kd_shape_span(s, 0, s->rank);
}

static inline bool kd_shape_equal(const kd_shape *a, const kd_shape *b)
{
    if (a->rank != b->rank) {
        return false;
    }
    for (int i = 0; i < a->rank; i++) {
        if (a->dim[i] != b->dim[i]) {
            return false;
        }
    }
    return true;
}

static inline size_t kd_spec_bytes(const kd_spec *s)
{
    return (size_t)kd_shape_numel(&s->shape) * kd_dtype_size(s->dtype);
}

/* Element i of host memory that holds numbers of this dtype. */
double kd_element(kd_dtype t, const void *data, int64_t i);

/* "(4,3,64,25)" into buf; returns buf. */
const char *kd_shape_text(const kd_shape *s, char *buf, size_t size);
#define KD_SHAPE_TEXT_MAX 96

#ifdef __cplusplus
}
#endif
#endif
