/* Operation graphs and plans of cuDNN's backend interface: see cudnn_graph.h. */
#include "kernels/cuda/library/cudnn_graph.h"

/* ---- describing: every call does nothing after the first failure ----------------------------- */

static void failed(kd_dnn *g, cudnnStatus_t st, const char *where)
{
    if (g->st == CUDNN_STATUS_SUCCESS && st != CUDNN_STATUS_SUCCESS) {
        g->st = st;
        g->where = where;
    }
}

static kd_dnn_desc make(kd_dnn *g, cudnnBackendDescriptorType_t type, const char *what)
{
    kd_dnn_desc d = NULL;
    if (g->st != CUDNN_STATUS_SUCCESS) {
        return NULL;
    }
    if (g->n_all == (int)KD_COUNTOF(g->all)) {
        failed(g, CUDNN_STATUS_INTERNAL_ERROR, "too many descriptors");
        return NULL;
    }
    failed(g, cudnnBackendCreateDescriptor(type, &d), what);
    if (g->st == CUDNN_STATUS_SUCCESS) {
        g->all[g->n_all++] = d;
    }
    return d;
}

static void set(kd_dnn *g, kd_dnn_desc d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t n,
                const void *values, const char *what)
{
    if (g->st == CUDNN_STATUS_SUCCESS) {
        failed(g, cudnnBackendSetAttribute(d, name, type, n, values), what);
    }
}

static void set_desc(kd_dnn *g, kd_dnn_desc d, cudnnBackendAttributeName_t name, kd_dnn_desc value, const char *what)
{
    set(g, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value, what);
}

static void finish(kd_dnn *g, kd_dnn_desc d, const char *what)
{
    if (g->st == CUDNN_STATUS_SUCCESS) {
        failed(g, cudnnBackendFinalize(d), what);
    }
}

static void finish_op(kd_dnn *g, kd_dnn_desc d, const char *what)
{
    finish(g, d, what);
    if (g->st == CUDNN_STATUS_SUCCESS) {
        if (g->n_op == (int)KD_COUNTOF(g->op)) {
            failed(g, CUDNN_STATUS_INTERNAL_ERROR, "too many operations");
        } else {
            g->op[g->n_op++] = d;
        }
    }
}

typedef enum where { IN_MEMORY, NOWHERE, ON_HOST } where;

static kd_dnn_desc tensor(kd_dnn *g, int64_t uid, cudnnDataType_t type, const kd_dnn_shape *s, int64_t align, where at)
{
    const kd_dnn_desc d = make(g, CUDNN_BACKEND_TENSOR_DESCRIPTOR, "tensor");
    const bool yes = true;
    int64_t rank = 0;
    while (rank < (int64_t)KD_COUNTOF(s->dim) && s->dim[rank] != 0) {
        rank++;
    }
    set(g, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type, "tensor type");
    set(g, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, rank, s->dim, "tensor dims");
    set(g, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, rank, s->stride, "tensor strides");
    set(g, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid, "tensor id");
    set(g, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &align, "tensor alignment");
    if (at != IN_MEMORY) {
        set(g, d, at == NOWHERE ? CUDNN_ATTR_TENSOR_IS_VIRTUAL : CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1,
            &yes, "tensor place");
    }
    finish(g, d, "tensor");
    return d;
}

kd_dnn_desc kd_dnn_tensor(kd_dnn *g, int64_t uid, cudnnDataType_t type, const kd_dnn_shape *s, int64_t align)
{
    return tensor(g, uid, type, s, align, IN_MEMORY);
}

kd_dnn_desc kd_dnn_scalar(kd_dnn *g, int64_t uid)
{
    const kd_dnn_shape one = {{1, 1, 1, 1}, {1, 1, 1, 1}};
    return tensor(g, uid, CUDNN_DATA_FLOAT, &one, 16, ON_HOST);
}

kd_dnn_desc kd_dnn_temp(kd_dnn *g, cudnnDataType_t type, const kd_dnn_shape *s)
{
    return tensor(g, 1000 + g->temporaries++, type, s, 16, NOWHERE);
}

typedef struct operand {
    cudnnBackendAttributeName_t name;
    kd_dnn_desc desc;
} operand;

static void pointwise(kd_dnn *g, cudnnPointwiseMode_t mode, const operand *with, int n)
{
    const cudnnDataType_t f32 = CUDNN_DATA_FLOAT;
    const kd_dnn_desc how = make(g, CUDNN_BACKEND_POINTWISE_DESCRIPTOR, "pointwise");
    set(g, how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode, "pointwise mode");
    set(g, how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &f32, "pointwise precision");
    finish(g, how, "pointwise");
    const kd_dnn_desc op = make(g, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, "pointwise operation");
    set_desc(g, op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how, "pointwise operation");
    for (int i = 0; i < n; i++) {
        set_desc(g, op, with[i].name, with[i].desc, "pointwise operand");
    }
    finish_op(g, op, "pointwise operation");
}

void kd_dnn_pointwise(kd_dnn *g, cudnnPointwiseMode_t mode, kd_dnn_desc a, kd_dnn_desc b, kd_dnn_desc y)
{
    const operand with[3] = {{CUDNN_ATTR_OPERATION_POINTWISE_XDESC, a},
                             {CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y},
                             {CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b}};
    pointwise(g, mode, with, b != NULL ? 3 : 2);
}

void kd_dnn_pointwise_bwd(kd_dnn *g, cudnnPointwiseMode_t mode, kd_dnn_desc dy, kd_dnn_desc x, kd_dnn_desc dx)
{
    const operand with[3] = {{CUDNN_ATTR_OPERATION_POINTWISE_DYDESC, dy},
                             {CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x},
                             {CUDNN_ATTR_OPERATION_POINTWISE_DXDESC, dx}};
    pointwise(g, mode, with, 3);
}

void kd_dnn_matmul(kd_dnn *g, kd_dnn_desc a, kd_dnn_desc b, kd_dnn_desc c)
{
    const cudnnDataType_t f32 = CUDNN_DATA_FLOAT;
    const kd_dnn_desc how = make(g, CUDNN_BACKEND_MATMUL_DESCRIPTOR, "matmul");
    set(g, how, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &f32, "matmul precision");
    finish(g, how, "matmul");
    const kd_dnn_desc op = make(g, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, "matmul operation");
    set_desc(g, op, CUDNN_ATTR_OPERATION_MATMUL_ADESC, a, "matmul a");
    set_desc(g, op, CUDNN_ATTR_OPERATION_MATMUL_BDESC, b, "matmul b");
    set_desc(g, op, CUDNN_ATTR_OPERATION_MATMUL_CDESC, c, "matmul c");
    set_desc(g, op, CUDNN_ATTR_OPERATION_MATMUL_DESC, how, "matmul operation");
    finish_op(g, op, "matmul operation");
}

void kd_dnn_reduce(kd_dnn *g, cudnnReduceTensorOp_t how, kd_dnn_desc x, kd_dnn_desc y)
{
    const cudnnDataType_t f32 = CUDNN_DATA_FLOAT;
    const kd_dnn_desc red = make(g, CUDNN_BACKEND_REDUCTION_DESCRIPTOR, "reduction");
    set(g, red, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &f32, "reduction precision");
    set(g, red, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &how, "reduction operator");
    finish(g, red, "reduction");
    const kd_dnn_desc op = make(g, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, "reduction operation");
    set_desc(g, op, CUDNN_ATTR_OPERATION_REDUCTION_DESC, red, "reduction operation");
    set_desc(g, op, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x, "reduction x");
    set_desc(g, op, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y, "reduction y");
    finish_op(g, op, "reduction operation");
}

void kd_dnn_reshape(kd_dnn *g, kd_dnn_desc x, kd_dnn_desc y)
{
    const kd_dnn_desc op = make(g, CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR, "reshape operation");
    set_desc(g, op, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x, "reshape x");
    set_desc(g, op, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y, "reshape y");
    finish_op(g, op, "reshape operation");
}

static kd_dnn_desc conv_desc(kd_dnn *g, const kd_dnn_window *at)
{
    const cudnnDataType_t f32 = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const kd_dnn_desc d = make(g, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, "convolution");
    set(g, d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &f32, "convolution precision");
    set(g, d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode, "convolution mode");
    set(g, d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &at->dims, "convolution rank");
    set(g, d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, at->dims, at->pad, "convolution padding");
    set(g, d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, at->dims, at->pad, "convolution padding");
    set(g, d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, at->dims, at->dilation, "convolution dilation");
    set(g, d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, at->dims, at->stride, "convolution stride");
    finish(g, d, "convolution");
    return d;
}

void kd_dnn_conv(kd_dnn *g, kd_dnn_conv_kind kind, const kd_dnn_window *at, kd_dnn_desc x, kd_dnn_desc w, kd_dnn_desc y,
                 bool add)
{
    static const struct {
        cudnnBackendDescriptorType_t type;
        cudnnBackendAttributeName_t x, w, y, conv, alpha, beta;
    } names[3] = {
        {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
        {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
        {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA}};
    const float alpha = 1.0f, beta = add ? 1.0f : 0.0f;
    const kd_dnn_desc how = conv_desc(g, at);
    const kd_dnn_desc op = make(g, names[kind].type, "convolution operation");
    set_desc(g, op, names[kind].conv, how, "convolution operation");
    set_desc(g, op, names[kind].x, x, "convolution x");
    set_desc(g, op, names[kind].w, w, "convolution w");
    set_desc(g, op, names[kind].y, y, "convolution y");
    set(g, op, names[kind].alpha, CUDNN_TYPE_FLOAT, 1, &alpha, "convolution alpha");
    set(g, op, names[kind].beta, CUDNN_TYPE_FLOAT, 1, &beta, "convolution beta");
    finish_op(g, op, "convolution operation");
}
