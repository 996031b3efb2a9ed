/* From a described graph to a plan that runs: handles, the choice of an engine, plans kept for the process. */
#include "kernels/cuda/library/cudnn_graph.h"

#include <cuda_runtime_api.h>
#include <pthread.h>

enum { CONFIGS = 16 };

struct kd_dnn_plan {
    kd_dnn_key key;
    cudnnHandle_t handle;
    kd_dnn g; /* descriptors live as long as the plan */
    kd_dnn_desc plan;
    size_t workspace;
    struct kd_dnn_plan *next;
};

/* Guards handles and plans while compiling, and a handle's stream while launching. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static cudnnHandle_t handles[KD_CUDA_DEVICES];
static kd_dnn_plan *plans;
static kd_dnn_desc pretended; /* kd_dnn_pretend */

static const char *name_of(kd_op op)
{
    return kd_op_get(op)->name;
}

static void drop(kd_dnn_desc *d)
{
    if (*d != NULL) {
        (void)cudnnBackendDestroyDescriptor(*d);
        *d = NULL;
    }
}

kd_status kd_dnn_pretend(const char *json, kd_err *err)
{
    char why[256] = "";
    (void)pthread_mutex_lock(&lock);
    KD_ASSERT(plans == NULL);
    drop(&pretended);
    cudnnStatus_t st = cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &pretended);
    if (st == CUDNN_STATUS_SUCCESS) {
        st = cudnnBackendSetAttribute(pretended, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                                      (int64_t)strlen(json), json);
    }
    if (st == CUDNN_STATUS_SUCCESS) {
        st = cudnnBackendFinalize(pretended);
    }
    if (st != CUDNN_STATUS_SUCCESS) {
        cudnnGetLastErrorString(why, sizeof why);
        drop(&pretended);
    }
    (void)pthread_mutex_unlock(&lock);
    return st == CUDNN_STATUS_SUCCESS
               ? KD_OK
               : KD_FAIL(err, KD_E_UNSUPPORTED, "cuDNN refuses these device properties: %s", why);
}

/* The handle of a device, NULL when cuDNN does not start (said once). */
static cudnnHandle_t handle_of(int device)
{
    static bool off[KD_CUDA_DEVICES];
    if (handles[device] == NULL && !off[device]) {
        const cudnnStatus_t st = cudnnCreate(&handles[device]);
        if (st != CUDNN_STATUS_SUCCESS) {
            off[device] = true;
            handles[device] = NULL;
            kd_log(KD_LOG_WARN, "cuDNN does not start on device %d (%s): attention and convolution use our own kernels",
                   device, cudnnGetErrorString(st));
        }
    }
    return handles[device];
}

bool kd_dnn_key_start(kd_dnn_key *key, kd_op op, kd_dtype act)
{
    int device = -1;
    memset(key, 0, sizeof *key);
    if (pretended != NULL) {
        device = 0;
    } else if (cudaGetDevice(&device) != cudaSuccess || device < 0 || device >= KD_CUDA_DEVICES) {
        return false;
    }
    key->op = (int32_t)op;
    key->device = device;
    key->type = (int32_t)kd_dnn_type(act);
    key->flags = kd_cuda_get_flags(device) & (KD_CUDA_TF32 | KD_CUDA_ATOMICS);
    return act == KD_F32 || act == KD_BF16 || act == KD_F16;
}

cudnnDataType_t kd_dnn_type(kd_dtype t)
{
    return t == KD_BF16 ? CUDNN_DATA_BFLOAT16 : t == KD_F16 ? CUDNN_DATA_HALF : CUDNN_DATA_FLOAT;
}

int64_t kd_dnn_align(const void *p)
{
    int64_t n = 16;
    while (n > 2 && (uintptr_t)p % (uintptr_t)n != 0) {
        n /= 2;
    }
    return n;
}

/* ---- choosing an engine ---------------------------------------------------------------------- */

/* Bits of cudnnBackendNumericalNote_t that a strict plan must not have. */
static unsigned refused_notes(const kd_dnn_key *key, bool strict)
{
    unsigned bad = 0;
    if (strict) {
        bad = 1u << CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC | 1u << CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION |
              1u << CUDNN_NUMERICAL_NOTE_FFT | 1u << CUDNN_NUMERICAL_NOTE_WINOGRAD |
              1u << CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4 | 1u << CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6 |
              1u << CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13;
        if (key->type == CUDNN_DATA_FLOAT && (key->flags & KD_CUDA_TF32) == 0) { /* tensor cores know no plain f32 */
            bad |= 1u << CUDNN_NUMERICAL_NOTE_TENSOR_CORE | 1u << CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS;
        }
    }
    return bad;
}

/* Notes of a configuration's engine; all bits set when they cannot be read. */
static unsigned notes_of(kd_dnn_desc config)
{
    kd_dnn_desc engine = NULL;
    cudnnBackendNumericalNote_t note[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    int64_t n = 0;
    unsigned bits = ~0u;
    if (cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine) != CUDNN_STATUS_SUCCESS) {
        return bits;
    }
    if (cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &engine) ==
            CUDNN_STATUS_SUCCESS &&
        cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                 CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &n, note) == CUDNN_STATUS_SUCCESS) {
        bits = 0;
        for (int64_t i = 0; i < n && i < CUDNN_NUMERICAL_NOTE_TYPE_COUNT; i++) {
            bits |= 1u << (unsigned)note[i];
        }
    }
    (void)cudnnBackendDestroyDescriptor(engine);
    return bits;
}

/* A pretended card has no driver to load kernels into: its plan ends with the engine's configuration, which is
 * checked. */
static cudnnStatus_t pretend_plan(kd_dnn_plan *p, kd_dnn_desc config)
{
    int64_t n = 0, bytes = 0;
    const cudnnStatus_t st =
        cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n, &bytes);
    p->plan = st == CUDNN_STATUS_SUCCESS ? config : NULL; /* owned by p->g, as configurations are */
    p->workspace = bytes > 0 ? (size_t)bytes : 0;
    return st;
}

static cudnnStatus_t finalize_plan(kd_dnn_plan *p, kd_dnn_desc config)
{
    int64_t n = 0, bytes = 0;
    if (p->handle == NULL) {
        return pretend_plan(p, config);
    }
    cudnnStatus_t st = cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &p->plan);
    if (st == CUDNN_STATUS_SUCCESS) {
        st = cudnnBackendSetAttribute(p->plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &p->handle);
    }
    if (st == CUDNN_STATUS_SUCCESS) {
        st = cudnnBackendSetAttribute(p->plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                      1, &config);
    }
    if (st == CUDNN_STATUS_SUCCESS) {
        st = cudnnBackendFinalize(p->plan);
    }
    if (st == CUDNN_STATUS_SUCCESS) {
        st = cudnnBackendGetAttribute(p->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n,
                                      &bytes);
    }
    if (st != CUDNN_STATUS_SUCCESS) {
        drop(&p->plan);
        return st;
    }
    p->workspace = bytes > 0 ? (size_t)bytes : 0;
    return st;
}

/* First configuration of the heuristic that is allowed and can be built. */
static cudnnStatus_t pick(kd_dnn_plan *p, kd_dnn_desc graph, cudnnBackendHeurMode_t mode, unsigned bad)
{
    kd_dnn_desc heur = NULL, config[CONFIGS] = {NULL};
    int64_t n = 0;
    cudnnStatus_t st = cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, &heur);
    if (st == CUDNN_STATUS_SUCCESS) {
        st = cudnnBackendSetAttribute(heur, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                      &graph);
    }
    if (st == CUDNN_STATUS_SUCCESS) {
        st = cudnnBackendSetAttribute(heur, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    }
    if (st == CUDNN_STATUS_SUCCESS && p->handle == NULL) {
        st = cudnnBackendSetAttribute(heur, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                      &pretended);
    }
    if (st == CUDNN_STATUS_SUCCESS) {
        st = cudnnBackendFinalize(heur);
    }
    for (int i = 0; st == CUDNN_STATUS_SUCCESS && i < CONFIGS; i++) {
        st = cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &config[i]);
    }
    if (st == CUDNN_STATUS_SUCCESS) {
        st = cudnnBackendGetAttribute(heur, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, CONFIGS, &n,
                                      config);
    }
    if (st == CUDNN_STATUS_SUCCESS) {
        st = CUDNN_STATUS_NOT_SUPPORTED;
        for (int64_t i = 0; i < n && i < CONFIGS && p->plan == NULL; i++) {
            if (bad == 0 || (notes_of(config[i]) & bad) == 0) {
                st = finalize_plan(p, config[i]);
                if (st == CUDNN_STATUS_SUCCESS) { /* the plan may refer to it */
                    p->g.all[p->g.n_all++] = config[i];
                    config[i] = NULL;
                }
            }
        }
    }
    for (int i = 0; i < CONFIGS; i++) {
        drop(&config[i]);
    }
    drop(&heur);
    return st;
}

static void compile(kd_dnn_plan *p, bool strict)
{
    kd_dnn *g = &p->g;
    kd_dnn_desc graph = NULL;
    const unsigned bad = refused_notes(&p->key, strict);
    const char *where = g->where;
    cudnnStatus_t st = g->st;
    if (st == CUDNN_STATUS_SUCCESS && g->n_all + 2 > (int)KD_COUNTOF(g->all)) {
        st = CUDNN_STATUS_INTERNAL_ERROR;
    }
    if (st == CUDNN_STATUS_SUCCESS) {
        where = "operation graph";
        st = cudnnBackendCreateDescriptor(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, &graph);
    }
    if (graph != NULL) {
        g->all[g->n_all++] = graph;
        if (p->handle != NULL) {
            st = cudnnBackendSetAttribute(graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &p->handle);
        }
        if (st == CUDNN_STATUS_SUCCESS) {
            st = cudnnBackendSetAttribute(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, g->n_op,
                                          g->op);
        }
        if (st == CUDNN_STATUS_SUCCESS) {
            st = cudnnBackendFinalize(graph);
        }
    }
    if (st == CUDNN_STATUS_SUCCESS) {
        where = "no engine";
        st = pick(p, graph, CUDNN_HEUR_MODE_A, bad);
        if (st != CUDNN_STATUS_SUCCESS) {
            st = pick(p, graph, CUDNN_HEUR_MODE_FALLBACK, bad);
        }
    }
    if (st != CUDNN_STATUS_SUCCESS) {
        char why[256] = "";
        cudnnGetLastErrorString(why, sizeof why);
        for (char *nl = why; (nl = strchr(nl, '\n')) != NULL;) {
            *nl = ' ';
        }
        kd_log(KD_LOG_VERBOSE, "cudnn: %s (%lld,%lld,%lld,%lld): %s: %s: %s; another kernel takes it",
               name_of((kd_op)p->key.op), (long long)p->key.v[0], (long long)p->key.v[1], (long long)p->key.v[2],
               (long long)p->key.v[3], where, cudnnGetErrorString(st), why);
    }
}

const kd_dnn_plan *kd_dnn_plan_for(const kd_dnn_key *key, kd_dnn_describe describe, bool strict)
{
    (void)pthread_mutex_lock(&lock);
    kd_dnn_plan *p = plans;
    while (p != NULL && memcmp(&p->key, key, sizeof *key) != 0) {
        p = p->next;
    }
    if (p == NULL) {
        const cudnnHandle_t handle = pretended != NULL ? NULL : handle_of(key->device);
        p = handle != NULL || pretended != NULL ? kd_calloc(1, sizeof *p) : NULL;
        if (p != NULL) {
            p->key = *key;
            p->handle = handle;
            describe(&p->g, key);
            compile(p, strict);
            (void)cudaGetLastError(); /* what an engine's attempt left must not be taken for a failed launch */
            if (p->plan == NULL) {    /* kept as a refusal */
                for (int i = p->g.n_all; i-- > 0;) {
                    drop(&p->g.all[i]);
                }
            }
            p->next = plans;
            plans = p;
        }
    }
    (void)pthread_mutex_unlock(&lock);
    return p != NULL && p->plan != NULL ? p : NULL;
}

size_t kd_dnn_workspace(const kd_dnn_plan *plan)
{
    return plan->workspace;
}

/* ---- running --------------------------------------------------------------------------------- */

void kd_dnn_prep_clear(kd_dnn_prep *p)
{
    drop(&p->pack);
}

/* A finalised pack cannot be changed: a new one when an address did. */
static cudnnStatus_t bind(kd_dnn_prep *p, int n, const int64_t *uid, void *const *ptr, void *workspace)
{
    const size_t bytes = (size_t)n * sizeof *ptr;
    if (p->pack != NULL && p->n == n && p->workspace == workspace && memcmp(p->ptr, ptr, bytes) == 0) {
        return CUDNN_STATUS_SUCCESS;
    }
    drop(&p->pack);
    p->n = n;
    p->workspace = workspace;
    memcpy(p->ptr, ptr, bytes);
    memcpy(p->uid, uid, (size_t)n * sizeof *uid);
    cudnnStatus_t st = cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &p->pack);
    if (st == CUDNN_STATUS_SUCCESS) {
        st = cudnnBackendSetAttribute(p->pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n, p->ptr);
    }
    if (st == CUDNN_STATUS_SUCCESS) {
        st = cudnnBackendSetAttribute(p->pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n, p->uid);
    }
    if (st == CUDNN_STATUS_SUCCESS) {
        st =
            cudnnBackendSetAttribute(p->pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &p->workspace);
    }
    if (st == CUDNN_STATUS_SUCCESS) {
        st = cudnnBackendFinalize(p->pack);
    }
    if (st != CUDNN_STATUS_SUCCESS) {
        drop(&p->pack);
    }
    return st;
}

kd_status kd_dnn_run(kd_dnn_prep *p, int n, const int64_t *uid, void *const *ptr, void *workspace, void *stream)
{
    KD_ASSERT(n <= (int)KD_COUNTOF(p->ptr) && p->plan->handle != NULL);
    cudnnStatus_t st = bind(p, n, uid, ptr, workspace);
    if (st == CUDNN_STATUS_SUCCESS) {
        (void)pthread_mutex_lock(&lock);
        st = cudnnSetStream(p->plan->handle, stream);
        if (st == CUDNN_STATUS_SUCCESS) {
            st = cudnnBackendExecute(p->plan->handle, p->plan->plan, p->pack);
        }
        (void)pthread_mutex_unlock(&lock);
    }
    return st == CUDNN_STATUS_SUCCESS ? KD_OK : KD_E_DEVICE;
}
