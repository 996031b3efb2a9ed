/* Matrix products through cuBLASLt: descriptors, the choice of an algorithm, and running it.  What is multiplied for
 * which op stands in cublaslt_linear.c.
 *
 * Sums are always f32 (plain f32 too, TF32 only with KD_CUDA_TF32).  Of the ways to split k only "partial sums in f32
 * in the workspace" is allowed: its order is fixed.  The algorithm of a shape is chosen once in a process, by timing
 * the library's best guesses (unless KD_CUDA_UNTIMED), and kept: equal layers and later preparations get the same
 * one. */
#include "kernels/cuda/library/cublaslt.h"

#include <cuda_runtime_api.h>
#include <pthread.h>

enum { WORKSPACE_CAP = 32 << 20, GUESSES = 8, WARMUPS = 2, REPEATS = 8 };

typedef struct choice {
    kd_gemm how;
    cublasLtMatmulAlgo_t algo;
    size_t workspace;
    float ms; /* 0: not timed */
    struct choice *next;
} choice;

/* Handles and choices live until the process ends; the lock guards them and what only compiling does. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static cublasLtHandle_t handles[KD_CUDA_DEVICES];
static cudaStream_t streams[KD_CUDA_DEVICES]; /* for timing */
static choice *choices;

static void say(const kd_gemm *g, const char *what, cublasStatus_t st)
{
    kd_log(KD_LOG_VERBOSE, "cublaslt: product %lld x %lld x %lld, %s -> %s: %s (%s)", (long long)g->m, (long long)g->n,
           (long long)g->k, g->in == CUDA_R_32F ? "f32" : "half", g->out == CUDA_R_32F ? "f32" : "half", what,
           cublasLtGetStatusName(st));
}

static int32_t dtype_of(kd_dtype t)
{
    return t == KD_F32 ? CUDA_R_32F : t == KD_BF16 ? CUDA_R_16BF : t == KD_F16 ? CUDA_R_16F : -1;
}

static uint32_t alignment(const void *p)
{
    const uintptr_t low = (uintptr_t)p & (~(uintptr_t)p + 1);
    return low == 0 || low > 256 ? 256 : (uint32_t)low;
}

/* ---- descriptors ----------------------------------------------------------------------------- */

static void product_free(kd_lt_product *p)
{
    if (p->a != NULL) {
        (void)cublasLtMatrixLayoutDestroy(p->a);
    }
    if (p->b != NULL) {
        (void)cublasLtMatrixLayoutDestroy(p->b);
    }
    if (p->d != NULL) {
        (void)cublasLtMatrixLayoutDestroy(p->d);
    }
    if (p->desc != NULL) {
        (void)cublasLtMatmulDescDestroy(p->desc);
    }
    memset(p, 0, sizeof *p);
}

static cublasStatus_t layout(cublasLtMatrixLayout_t *out, int32_t type, int64_t rows, int64_t cols, bool transposed,
                             int64_t ld)
{
    return cublasLtMatrixLayoutCreate(out, (cudaDataType)type, (uint64_t)(transposed ? cols : rows),
                                      (uint64_t)(transposed ? rows : cols), ld);
}

static cublasStatus_t set_bias(const kd_lt_product *p, const void *bias)
{
    return cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
}

#define LT_TRY(expr)                           \
    do {                                       \
        const cublasStatus_t lt_st_ = (expr);  \
        if (lt_st_ != CUBLAS_STATUS_SUCCESS) { \
            return lt_st_;                     \
        }                                      \
    } while (0)

/* The caller frees *p, on failure too. */
static cublasStatus_t product_make(const kd_gemm *g, kd_lt_product *p)
{
    memset(p, 0, sizeof *p);
    LT_TRY(cublasLtMatmulDescCreate(&p->desc, (cublasComputeType_t)g->compute, CUDA_R_32F));
    LT_TRY(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &g->ta, sizeof g->ta));
    LT_TRY(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_TRANSB, &g->tb, sizeof g->tb));
    LT_TRY(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &g->epilogue, sizeof g->epilogue));
    if (g->epilogue != CUBLASLT_EPILOGUE_DEFAULT) {
        LT_TRY(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &g->out, sizeof g->out));
        LT_TRY(set_bias(p, (const void *)(uintptr_t)g->align[3])); /* only its alignment is looked at before run() */
    }
    LT_TRY(layout(&p->a, g->in, g->m, g->k, g->ta == CUBLAS_OP_T, g->lda));
    LT_TRY(layout(&p->b, g->in, g->k, g->n, g->tb == CUBLAS_OP_T, g->ldb));
    return layout(&p->d, g->out, g->m, g->n, false, g->m);
}

static cublasStatus_t product_run(cublasLtHandle_t lt, const kd_lt_product *p, bool add,
                                  const cublasLtMatmulAlgo_t *algo, const void *a, const void *b, void *d,
                                  void *workspace, size_t bytes, cudaStream_t stream)
{
    static const float one = 1.0f, zero = 0.0f;
    return cublasLtMatmul(lt, p->desc, &one, a, p->a, b, p->b, add ? &one : &zero, d, p->d, d, p->d, algo, workspace,
                          bytes, stream);
}

/* ---- choosing an algorithm ------------------------------------------------------------------- */

static cublasStatus_t set_limits(cublasLtMatmulPreference_t pref, const kd_gemm *g)
{
    static const cublasLtMatmulPreferenceAttributes_t align[3] = {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                                                                  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                                                                  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    const uint64_t cap = WORKSPACE_CAP;
    const uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE; /* or none: NONE is the absence of bits */
    LT_TRY(cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &cap, sizeof cap));
    LT_TRY(cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reduction,
                                                sizeof reduction));
    for (int i = 0; i < 3; i++) {
        LT_TRY(cublasLtMatmulPreferenceSetAttribute(pref, align[i], &g->align[i], sizeof g->align[i]));
    }
    return cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &g->align[2],
                                                sizeof g->align[2]);
}

static cublasStatus_t guess(cublasLtHandle_t lt, const kd_gemm *g, const kd_lt_product *p,
                            cublasLtMatmulHeuristicResult_t *out, int *n)
{
    cublasLtMatmulPreference_t pref = NULL;
    LT_TRY(cublasLtMatmulPreferenceCreate(&pref));
    cublasStatus_t st = set_limits(pref, g);
    if (st == CUBLAS_STATUS_SUCCESS) {
        st = cublasLtMatmulAlgoGetHeuristic(lt, p->desc, p->a, p->b, p->d, p->d, pref, GUESSES, out, n);
    }
    (void)cublasLtMatmulPreferenceDestroy(pref);
    return st;
}

/* Where timing writes: never into the program's values, which may be alive while it is prepared again. */
typedef struct arena {
    char *mem;
    void *d, *bias, *workspace;
    cudaEvent_t from, to;
    cudaStream_t stream;
} arena;

static void arena_free(arena *t)
{
    if (t->from != NULL) {
        (void)cudaEventDestroy(t->from);
    }
    if (t->to != NULL) {
        (void)cudaEventDestroy(t->to);
    }
    (void)cudaFree(t->mem);
    (void)cudaGetLastError(); /* a refused allocation must not be taken for a failed launch later */
}

static bool arena_make(int device, size_t out, size_t vector, arena *t)
{
    memset(t, 0, sizeof *t);
    if (streams[device] == NULL && cudaStreamCreateWithFlags(&streams[device], cudaStreamNonBlocking) != cudaSuccess) {
        return false;
    }
    t->stream = streams[device];
    const size_t d = kd_cuda_round(out), bias = kd_cuda_round(vector);
    if (cudaEventCreate(&t->from) != cudaSuccess || cudaEventCreate(&t->to) != cudaSuccess ||
        cudaMalloc((void **)&t->mem, d + bias + WORKSPACE_CAP) != cudaSuccess ||
        cudaMemsetAsync(t->mem, 0, d + bias, t->stream) != cudaSuccess) {
        return false;
    }
    t->d = t->mem;
    t->bias = t->mem + d;
    t->workspace = t->mem + d + bias;
    return true;
}

/* Time of one run; 0: it failed. */
typedef bool (*timed_run)(const void *what, const arena *t);

/* Milliseconds of one run; negative: it failed. */
static float time_runs(timed_run run, const void *what, const arena *t)
{
    float ms = -1.0f;
    for (int i = 0; i < WARMUPS + REPEATS; i++) {
        if (i == WARMUPS && cudaEventRecord(t->from, t->stream) != cudaSuccess) {
            return -1.0f;
        }
        if (!run(what, t)) {
            return -1.0f;
        }
    }
    if (cudaEventRecord(t->to, t->stream) != cudaSuccess || cudaEventSynchronize(t->to) != cudaSuccess ||
        cudaEventElapsedTime(&ms, t->from, t->to) != cudaSuccess) {
        return -1.0f;
    }
    return ms / REPEATS;
}

typedef struct candidate {
    cublasLtHandle_t lt;
    const kd_lt_product *p;
    const cublasLtMatmulHeuristicResult_t *r;
    const void *a, *b;
    bool add;
} candidate;

static bool run_candidate(const void *what, const arena *t)
{
    const candidate *k = what;
    return product_run(k->lt, k->p, k->add, &k->r->algo, k->a, k->b, t->d, t->workspace, k->r->workspaceSize,
                       t->stream) == CUBLAS_STATUS_SUCCESS;
}

/* Index of the fastest guess; the library's own first unless another is at least 3 % faster, so that noise decides
 * little. */
static int fastest(cublasLtHandle_t lt, const kd_gemm *g, kd_lt_product *p, const cublasLtMatmulHeuristicResult_t *r,
                   int n, const void *a, const void *b, float *ms)
{
    arena t;
    int best = -1;
    const size_t d = (size_t)g->m * (size_t)g->n * (g->out == CUDA_R_32F ? 4u : 2u);
    if (arena_make(g->device, d, (size_t)KD_MAX(g->m, g->n) * 4u, &t) &&
        (g->epilogue == CUBLASLT_EPILOGUE_DEFAULT || set_bias(p, t.bias) == CUBLAS_STATUS_SUCCESS)) {
        for (int i = 0; i < n; i++) {
            const candidate k = {lt, p, &r[i], a, b, g->add != 0};
            const float now = r[i].state == CUBLAS_STATUS_SUCCESS ? time_runs(run_candidate, &k, &t) : -1.0f;
            if (now >= 0.0f && (best < 0 || now < 0.97f * *ms)) {
                best = i;
                *ms = now;
            }
        }
    } else {
        kd_log(KD_LOG_VERBOSE, "cublaslt: no memory to time algorithms in, taking the library's first");
    }
    arena_free(&t);
    return best;
}

/* The choice for g, made at first sight; NULL: the library offers none.  Call with the lock held. */
static const choice *choose(cublasLtHandle_t lt, const kd_gemm *g, const void *a, const void *b)
{
    for (const choice *c = choices; c != NULL; c = c->next) {
        if (memcmp(&c->how, g, sizeof *g) == 0) {
            return c->workspace == SIZE_MAX ? NULL : c;
        }
    }
    cublasLtMatmulHeuristicResult_t r[GUESSES];
    int n = 0, best = -1;
    float ms = 0.0f;
    kd_lt_product p;
    memset(r, 0, sizeof r);
    choice *c = kd_calloc(1, sizeof *c);
    if (c == NULL) {
        return NULL;
    }
    cublasStatus_t st = product_make(g, &p);
    if (st == CUBLAS_STATUS_SUCCESS) {
        st = guess(lt, g, &p, r, &n);
    }
    if (st == CUBLAS_STATUS_SUCCESS && n > 0) {
        best = g->timed && n > 1 ? fastest(lt, g, &p, r, n, a, b, &ms) : -1;
        best = best < 0 && r[0].state == CUBLAS_STATUS_SUCCESS ? 0 : best;
    }
    product_free(&p);
    (void)cudaGetLastError(); /* what an attempt left must not be taken for a failed launch */
    c->how = *g;
    c->workspace = SIZE_MAX; /* refused, remembered */
    if (best >= 0) {
        c->algo = r[best].algo;
        c->workspace = r[best].workspaceSize;
        c->ms = ms;
        kd_log(KD_LOG_DEBUG, "cublaslt: product %lld x %lld x %lld epilogue %d: guess %d of %d, %.4f ms, %zu bytes",
               (long long)g->m, (long long)g->n, (long long)g->k, (int)g->epilogue, best, n, (double)ms, c->workspace);
    } else {
        say(g, "not offered, own kernel instead", st);
    }
    c->next = choices;
    choices = c;
    return best >= 0 ? c : NULL;
}

/* ---- preparing a call ------------------------------------------------------------------------ */

/* Handle of the current device, NULL when there is none (said once). */
static cublasLtHandle_t handle_of(int device)
{
    static bool failed[KD_CUDA_DEVICES];
    if (handles[device] == NULL && !failed[device]) {
        const cublasStatus_t st = cublasLtCreate(&handles[device]);
        if (st != CUBLAS_STATUS_SUCCESS) {
            failed[device] = true;
            handles[device] = NULL;
            kd_log(KD_LOG_WARN,
                   "cuBLASLt does not start on device %d (%s): matrix products use our own, slower kernels", device,
                   cublasLtGetStatusName(st));
        }
    }
    return handles[device];
}

bool kd_lt_complete(kd_gemm *g, kd_dtype in, kd_dtype out, const void *a, const void *b, const void *d,
                    const void *vector)
{
    int device = -1;
    if (g->m < 1 || g->n < 1 || g->k < 1 || cudaGetDevice(&device) != cudaSuccess || device < 0 ||
        device >= KD_CUDA_DEVICES) {
        return false;
    }
    const unsigned flags = kd_cuda_get_flags(device);
    g->device = device;
    g->timed = (flags & KD_CUDA_UNTIMED) == 0;
    g->in = dtype_of(in);
    g->out = dtype_of(out);
    g->compute = in == KD_F32 && (flags & KD_CUDA_TF32) != 0 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    g->align[0] = alignment(a);
    g->align[1] = alignment(b);
    g->align[2] = alignment(d);
    g->align[3] = alignment(vector);
    return g->in >= 0 && g->out >= 0;
}

void kd_lt_release(kd_call *c)
{
    kd_lt_prep *p = c->prep;
    if (p != NULL) {
        product_free(&p->p);
        kd_free(p);
        c->prep = NULL;
    }
}

static kd_status bind(kd_call *c, cublasLtHandle_t lt, const kd_gemm *g, const choice *how)
{
    kd_lt_prep *p = kd_calloc(1, sizeof *p);
    if (p == NULL) {
        return KD_E_OOM;
    }
    p->lt = lt;
    p->algo = how->algo;
    p->workspace = how->workspace;
    p->ms = how->ms;
    p->add = g->add != 0;
    p->bgrad = g->epilogue == CUBLASLT_EPILOGUE_BGRADB;
    c->prep = p;
    const cublasStatus_t st = product_make(g, &p->p);
    if (st != CUBLAS_STATUS_SUCCESS) {
        say(g, "descriptors", st);
        kd_lt_release(c);
        return KD_E_UNSUPPORTED;
    }
    return KD_OK;
}

kd_status kd_lt_prepare(kd_call *c, const kd_gemm *g, const void *a, const void *b)
{
    (void)pthread_mutex_lock(&lock);
    const cublasLtHandle_t lt = handle_of(g->device);
    const choice *how = lt != NULL ? choose(lt, g, a, b) : NULL;
    const kd_status st = how != NULL ? bind(c, lt, g, how) : KD_E_UNSUPPORTED;
    (void)pthread_mutex_unlock(&lock);
    return st;
}

kd_status kd_lt_run(const kd_call *c, const void *a, const void *b, void *d)
{
    const kd_lt_prep *p = c->prep;
    const cublasStatus_t st = product_run(p->lt, &p->p, p->add, &p->algo, a, b, d, c->scratch, p->workspace, c->stream);
    return st == CUBLAS_STATUS_SUCCESS ? KD_OK : KD_E_DEVICE;
}

kd_status kd_lt_set_vector(const kd_lt_prep *p, const void *vector)
{
    return set_bias(&p->p, vector) == CUBLAS_STATUS_SUCCESS ? KD_OK : KD_E_DEVICE;
}

/* ---- the other way to a bias gradient -------------------------------------------------------- */

typedef struct column_sum {
    const kd_tensor *dy;
    int64_t n;
} column_sum;

static bool run_column_sum(const void *what, const arena *t)
{
    const column_sum *k = what;
    const kd_tensor out = {t->bias, KD_F32, kd_shape1(k->n)};
    const kd_call c = {.stream = t->stream};
    return kd_cuda_column_sum(k->dy, k->n, &out, false, t->d, &c) == KD_OK;
}

float kd_lt_time_column_sum(int device, const kd_tensor *dy, int64_t n)
{
    const column_sum what = {dy, n};
    const kd_tensor out = {NULL, KD_F32, kd_shape1(n)};
    arena t;
    (void)pthread_mutex_lock(&lock);
    const bool ready = arena_make(device, kd_cuda_column_sum_scratch(dy, n, &out), (size_t)n * 4u, &t);
    const float ms = ready ? time_runs(run_column_sum, &what, &t) : -1.0f;
    arena_free(&t);
    (void)pthread_mutex_unlock(&lock);
    return ms;
}
