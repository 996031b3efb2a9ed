/* Does cuDNN take our graphs?  Compiles plans for an A100 and an H100 that are not here, from their properties: which
 * engine, how much workspace, and that nothing is refused that the models need.  Nothing runs.
 *
 *   test_cudnn_plans 80|90       exit 0: as expected, 1: a needed plan is refused, 77: cuDNN or a libcuda is not at
 *   hand
 */
#include "kernels/cuda/library/cudnn_graph.h"

#include <stdio.h>
#include <stdlib.h>

static const char *properties(const char *sm)
{
    if (strcmp(sm, "80") == 0) {
        return "{\"deviceName\":\"NVIDIA A100-SXM4-80GB\",\"deviceVer\":800,\"driverVer\":13000,\"cudaDeviceId\":0,"
               "\"multiProcessorCount\":108,\"totalGlobalMem\":84929347584,\"l2CacheSize\":41943040,\"smClockRateKHz\":"
               "1410000,"
               "\"memClockRateKHz\":1593000,\"warpSize\":32,\"regsPerBlock\":65536,\"maxRegistersPerSM\":65536,"
               "\"maxSharedMemoryPerBlock\":49152,\"maxSharedMemoryPerBlockOptin\":166912,"
               "\"reservedSharedMemoryPerBlock\":1024,"
               "\"maxCtasPerSM\":32,\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":2048,\"pciDeviceId\":0,"
               "\"isTccDriver\":0,"
               "\"supportCoopLaunch\":1,\"maxGridSize\":[2147483647,65535,65535],\"maxBlockSize\":[1024,1024,64]}";
    }
    return "{\"deviceName\":\"NVIDIA H100 80GB HBM3\",\"deviceVer\":900,\"driverVer\":13000,\"cudaDeviceId\":0,"
           "\"multiProcessorCount\":132,\"totalGlobalMem\":84929347584,\"l2CacheSize\":52428800,\"smClockRateKHz\":"
           "1980000,"
           "\"memClockRateKHz\":2619000,\"warpSize\":32,\"regsPerBlock\":65536,\"maxRegistersPerSM\":65536,"
           "\"maxSharedMemoryPerBlock\":49152,\"maxSharedMemoryPerBlockOptin\":232448,\"reservedSharedMemoryPerBlock\":"
           "1024,"
           "\"maxCtasPerSM\":32,\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":2048,\"pciDeviceId\":0,\"isTccDriver\":"
           "0,"
           "\"supportCoopLaunch\":1,\"maxGridSize\":[2147483647,65535,65535],\"maxBlockSize\":[1024,1024,64]}";
}

static void *const somewhere = (void *)(uintptr_t)4096; /* addresses are looked at, never followed */
static int needed_and_refused;

static bool plan(const char *name, kd_op op, kd_dtype act, kd_tensor *in, int n_in, kd_tensor *out, int n_out,
                 const void *attr, uint32_t accum, bool needed)
{
    const kd_kernel_def *def = kd_cudnn_kernel(op, act);
    kd_call c = {.in = in, .out = out, .n_in = n_in, .n_out = n_out, .attr = attr, .accum = accum};
    const kd_status st = def != NULL ? def->prepare(&c, NULL) : KD_E_UNSUPPORTED;
    const bool bad = st != KD_OK && (needed || st != KD_E_UNSUPPORTED);
    printf("%-52s %-5s %-10s", name, kd_dtype_name(act), st == KD_OK ? "planned" : bad ? "REFUSED" : "own kernel");
    if (st == KD_OK) {
        printf(" %12.2f MiB of scratch", (double)(def->scratch != NULL ? def->scratch(&c) : 0) / 1048576.0);
        def->release(&c);
    }
    printf("\n");
    needed_and_refused += bad;
    return st == KD_OK;
}

static kd_tensor at(kd_dtype t, kd_shape s)
{
    return (kd_tensor){somewhere, t, s};
}

static void attention(int64_t B, int64_t N, int32_t H, int64_t D, kd_dtype t, bool needed)
{
    char name[96];
    const kd_attention_attr attr = {.heads = H};
    const int64_t C = H * D;
    kd_tensor qkv = at(t, kd_shape3(B, N, 3 * C)), out[2] = {at(t, kd_shape3(B, N, C)), at(KD_F32, kd_shape3(B, H, N))};
    (void)snprintf(name, sizeof name, "attention B %lld N %lld H %d D %lld", (long long)B, (long long)N, (int)H,
                   (long long)D);
    (void)plan(name, KD_OP_ATTENTION, t, &qkv, 1, out, 2, &attr, 0, needed);
    kd_tensor no_stats[2] = {out[0], {NULL, KD_F32, out[1].shape}};
    (void)plan("  without lse", KD_OP_ATTENTION, t, &qkv, 1, no_stats, 2, &attr, 0, needed);
    kd_tensor in[4] = {out[0], qkv, out[0], out[1]}, dqkv = qkv;
    (void)plan("  backward, fixed order", KD_OP_ATTENTION_BWD, t, in, 4, &dqkv, 1, &attr, 0, needed);
    kd_cuda_set_flags(0, KD_CUDA_ATOMICS);
    (void)plan("  backward, order of arrival", KD_OP_ATTENTION_BWD, t, in, 4, &dqkv, 1, &attr, 0, needed);
    kd_cuda_set_flags(0, 0);
}

typedef struct conv {
    int64_t n, ci, h, w, co;
    int32_t kh, kw, stride, pad;
} conv;

static void convolution(const conv *k, kd_dtype t)
{
    char name[96];
    const int64_t ho = (k->h + 2 * k->pad - k->kh) / k->stride + 1, wo = k->w - k->kw + 1;
    kd_conv2d_attr attr = {.stride = {k->stride, 1}, .pad = {k->pad, 0}, .dilation = {1, 1}, .groups = 1};
    attr.kernel[0] = k->kh;
    attr.kernel[1] = k->kw;
    attr.x_shape = kd_shape4(k->n, k->ci, k->h, k->w);
    kd_tensor x = at(t, attr.x_shape), w = at(t, kd_shape4(k->co, k->ci, k->kh, k->kw)),
              y = at(t, kd_shape4(k->n, k->co, ho, wo));
    kd_tensor b = at(KD_F32, kd_shape1(k->co)), dw = at(KD_F32, w.shape);
    (void)snprintf(name, sizeof name, "conv2d %lldx%lldx%lldx%lld to %lld, kernel %dx%d stride %d", (long long)k->n,
                   (long long)k->ci, (long long)k->h, (long long)k->w, (long long)k->co, k->kh, k->kw, k->stride);
    kd_tensor in[3] = {x, w, b};
    (void)plan(name, KD_OP_CONV2D, t, in, 2, &y, 1, &attr, 0, true);
    (void)plan("  with a bias", KD_OP_CONV2D, t, in, 3, &y, 1, &attr, 0, false);
    kd_tensor for_x[2] = {y, w}, for_w[2] = {y, x};
    (void)plan("  gradient of x", KD_OP_CONV2D_BWD_X, t, for_x, 2, &x, 1, &attr, 0, true);
    (void)plan("  gradient of W", KD_OP_CONV2D_BWD_W, t, for_w, 2, &dw, 1, &attr, 0, t == KD_F32);
    (void)plan("  gradient of W, added", KD_OP_CONV2D_BWD_W, t, for_w, 2, &dw, 1, &attr, 1, false);
}

typedef struct volume {
    int64_t n, ci, t, h, w, co;
    int32_t kernel[3], stride[3], pad[3];
} volume;

static void convolution3d(const volume *k, kd_dtype t)
{
    char name[96];
    const int64_t in[3] = {k->t, k->h, k->w};
    kd_conv3d_attr attr = {.dilation = {1, 1, 1}, .groups = 1, .x_shape = kd_shape5(k->n, k->ci, k->t, k->h, k->w)};
    kd_tensor x = at(t, attr.x_shape), y = at(t, kd_shape5(k->n, k->co, 0, 0, 0));
    kd_tensor w = at(t, kd_shape5(k->co, k->ci, k->kernel[0], k->kernel[1], k->kernel[2]));
    for (int i = 0; i < 3; i++) {
        attr.stride[i] = k->stride[i];
        attr.pad[i] = k->pad[i];
        attr.kernel[i] = k->kernel[i];
        y.shape.dim[2 + i] = (in[i] + 2 * k->pad[i] - k->kernel[i]) / k->stride[i] + 1;
    }
    kd_tensor b = at(KD_F32, kd_shape1(k->co)), dw = at(KD_F32, w.shape);
    (void)snprintf(name, sizeof name, "conv3d %lldx%lldx%lldx%lldx%lld to %lld, %dx%dx%d stride %d,%d", (long long)k->n,
                   (long long)k->ci, (long long)k->t, (long long)k->h, (long long)k->w, (long long)k->co, k->kernel[0],
                   k->kernel[1], k->kernel[2], k->stride[0], k->stride[1]);
    kd_tensor of[3] = {x, w, b};
    (void)plan(name, KD_OP_CONV3D, t, of, 2, &y, 1, &attr, 0, true);
    (void)plan("  with a bias", KD_OP_CONV3D, t, of, 3, &y, 1, &attr, 0, false);
    kd_tensor for_x[2] = {y, w}, for_w[2] = {y, x};
    (void)plan("  gradient of x", KD_OP_CONV3D_BWD_X, t, for_x, 2, &x, 1, &attr, 0, true);
    (void)plan("  gradient of W", KD_OP_CONV3D_BWD_W, t, for_w, 2, &dw, 1, &attr, 0, t == KD_F32);
    (void)plan("  gradient of W, added", KD_OP_CONV3D_BWD_W, t, for_w, 2, &dw, 1, &attr, 1, false);
}

/* gelu(x W^T + b) */
static void linear(int64_t rows, int64_t ci, int64_t co, kd_dtype t, bool needed)
{
    char name[96];
    const kd_linear_attr attr = {.act = KD_ACT_GELU};
    kd_tensor in[3] = {at(t, kd_shape2(rows, ci)), at(t, kd_shape2(co, ci)), at(KD_F32, kd_shape1(co))};
    kd_tensor y = at(t, kd_shape2(rows, co));
    (void)snprintf(name, sizeof name, "linear %lld x %lld to %lld, bias, GELU", (long long)rows, (long long)ci,
                   (long long)co);
    (void)plan(name, KD_OP_LINEAR, t, in, 3, &y, 1, &attr, 0, needed);
    (void)plan("  without a bias", KD_OP_LINEAR, t, in, 2, &y, 1, &attr, 0, needed);
    kd_tensor kept[2] = {y, y};
    (void)plan("  its input kept", KD_OP_LINEAR, t, in, 3, kept, 2, &attr, 0, needed);
    (void)plan("  kept, without a bias", KD_OP_LINEAR, t, in, 2, kept, 2, &attr, 0, needed);
    kd_tensor back[3] = {in[0], at(t, kd_shape2(ci, co)), y}; /* of the layer behind it */
    (void)plan("  its gradient inside the next layer's", KD_OP_LINEAR_BWD_X, t, back, 3, &y, 1, &attr, 0, needed);
}

int main(int argc, char **argv)
{
    static const conv convs[] = {{64, 64, 64, 25, 64, 1, 1, 1, 0},   {64, 64, 64, 25, 128, 1, 1, 1, 0},
                                 {64, 64, 64, 25, 64, 9, 1, 1, 4},   {64, 64, 64, 25, 128, 9, 1, 2, 4},
                                 {64, 128, 32, 25, 128, 5, 1, 1, 2}, {64, 3, 64, 25, 64, 1, 1, 1, 0}};
    /* SlowFast 8x8, R50: stems, then convolutions of residual blocks of both pathways */
    static const volume volumes[] = {{8, 3, 32, 224, 224, 8, {5, 7, 7}, {1, 2, 2}, {2, 3, 3}},
                                     {8, 3, 8, 224, 224, 64, {1, 7, 7}, {1, 2, 2}, {0, 3, 3}},
                                     {8, 8, 32, 56, 56, 8, {3, 1, 1}, {1, 1, 1}, {1, 0, 0}},
                                     {8, 64, 8, 56, 56, 64, {1, 3, 3}, {1, 1, 1}, {0, 1, 1}},
                                     {8, 128, 8, 56, 56, 128, {1, 3, 3}, {1, 2, 2}, {0, 1, 1}},
                                     {8, 640, 8, 28, 28, 256, {3, 1, 1}, {1, 1, 1}, {1, 0, 0}},
                                     {8, 64, 8, 56, 56, 256, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}},
                                     {8, 8, 32, 56, 56, 16, {5, 1, 1}, {4, 1, 1}, {2, 0, 0}}};
    static const kd_dtype half[] = {KD_BF16, KD_F16}, all[] = {KD_F32, KD_BF16, KD_F16};
    kd_err err = {0};
    if (argc != 2 || (strcmp(argv[1], "80") != 0 && strcmp(argv[1], "90") != 0)) {
        (void)fprintf(stderr, "usage: %s 80|90\n", argv[0]);
        return 2;
    }
    if (getenv("KD_VERBOSE") != NULL) {
        kd_log_set_level(KD_LOG_DEBUG);
    }
    if (kd_dnn_pretend(properties(argv[1]), &err) != KD_OK) {
        printf("skipped: %s\n", err.msg);
        return 77;
    }
    for (size_t i = 0; i < KD_COUNTOF(half); i++) {
        attention(8, 1568, 16, 64, half[i], true);
        attention(64, 1568, 16, 64, half[i], true);
        attention(2, 1568, 12, 64, half[i], true);
        attention(1, 392, 6, 64, half[i], true);
        attention(2, 8, 2, 8, half[i], false);
        attention(2, 17, 4, 24, half[i], false);
    }
    for (size_t i = 0; i < KD_COUNTOF(half); i++) {
        linear(8 * 1568, 1024, 4096, half[i], true);
        linear(64 * 1568, 768, 3072, half[i], true);
        linear(17, 24, 40, half[i], false);
    }
    for (size_t t = 0; t < KD_COUNTOF(all); t++) {
        for (size_t i = 0; i < KD_COUNTOF(convs); i++) {
            convolution(&convs[i], all[t]);
        }
        for (size_t i = 0; i < KD_COUNTOF(volumes); i++) {
            convolution3d(&volumes[i], all[t]);
        }
    }
    printf("%d needed plans refused for sm_%s, cuDNN %zu\n", needed_and_refused, argv[1], cudnnGetVersion());
    return needed_and_refused == 0 ? 0 : 1;
}
