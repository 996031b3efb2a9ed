/* The library kernels in front of our own: which there are, what they may do, and how they call our kernels. */
#include "kernels/cuda/library/library.h"

#include "kernels/kd_ops.h"

#include <pthread.h>
#include <stdlib.h>

const kd_kernel_def *kd_cuda_library(kd_op op, kd_dtype act, int rank)
{
    const kd_kernel_def *found[2];
    int n = 0;
#if defined(KD_HAVE_CUDNN)
    found[n] = kd_cudnn_kernel(op, act);
    n += found[n] != NULL;
#endif
    found[n] = kd_cublaslt_kernel(op, act);
    n += found[n] != NULL;
    return rank >= 0 && rank < n ? found[rank] : NULL;
}

/* ---- flags ----------------------------------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    bool set;
    unsigned flags;
} of_device[KD_CUDA_DEVICES];
static bool env_read;
static unsigned env_flags;

static unsigned flag_of(const char *word, size_t n)
{
    static const struct {
        const char *name;
        unsigned flag;
    } known[] = {{"tf32", KD_CUDA_TF32}, {"atomics", KD_CUDA_ATOMICS}, {"untimed", KD_CUDA_UNTIMED}};
    for (size_t i = 0; i < KD_COUNTOF(known); i++) {
        if (strlen(known[i].name) == n && memcmp(known[i].name, word, n) == 0) {
            return known[i].flag;
        }
    }
    kd_log(KD_LOG_WARN, "KD_CUDA: '%.*s' is not known, expected tf32, atomics or untimed", (int)n, word);
    return 0;
}

static unsigned read_env(void)
{
    unsigned flags = 0;
    const char *at = getenv("KD_CUDA");
    while (at != NULL && *at != '\0') {
        const size_t n = strcspn(at, ",");
        flags |= n > 0 ? flag_of(at, n) : 0;
        at += n + (at[n] == ',');
    }
    return flags;
}

void kd_cuda_set_flags(int device, unsigned flags)
{
    if (device >= 0 && device < KD_CUDA_DEVICES) {
        (void)pthread_mutex_lock(&lock);
        of_device[device].set = true;
        of_device[device].flags = flags;
        (void)pthread_mutex_unlock(&lock);
    }
}

unsigned kd_cuda_env_flags(void)
{
    (void)pthread_mutex_lock(&lock);
    if (!env_read) {
        env_flags = read_env();
        env_read = true;
    }
    const unsigned flags = env_flags;
    (void)pthread_mutex_unlock(&lock);
    return flags;
}

unsigned kd_cuda_get_flags(int device)
{
    const unsigned env = kd_cuda_env_flags();
    (void)pthread_mutex_lock(&lock);
    const bool own = device >= 0 && device < KD_CUDA_DEVICES && of_device[device].set;
    const unsigned flags = own ? of_device[device].flags : env;
    (void)pthread_mutex_unlock(&lock);
    return flags;
}

/* ---- our own kernels, from inside a library kernel ------------------------------------------- */

kd_status kd_cuda_run_own(kd_op op, kd_dtype act, const void *attr, const kd_tensor *in, int n_in, const kd_tensor *out,
                          bool accum, void *scratch, const kd_call *c)
{
    const kd_kernel_def *def = kd_cuda_own(op, act);
    if (def == NULL) {
        return KD_E_UNSUPPORTED;
    }
    const kd_call sub = {.in = in,
                         .out = out,
                         .n_in = n_in,
                         .n_out = 1,
                         .accum = accum ? 1u : 0u,
                         .attr = attr,
                         .scratch = scratch,
                         .step = c->step,
                         .stream = c->stream};
    return def->run(&sub);
}

size_t kd_cuda_own_scratch(kd_op op, kd_dtype act, const void *attr, const kd_tensor *in, const kd_tensor *out)
{
    const kd_kernel_def *def = kd_cuda_own(op, act);
    const kd_call sub = {.in = in, .out = out, .n_in = 1, .n_out = 1, .attr = attr};
    return def != NULL && def->scratch != NULL ? def->scratch(&sub) : 0;
}

static const kd_sum_lead_attr columns = {.keep = 1, .to_stat = 1};

static kd_tensor as_rows(const kd_tensor *t, int64_t n)
{
    return (kd_tensor){t->data, t->dtype, kd_shape2(kd_shape_numel(&t->shape) / n, n)};
}

kd_status kd_cuda_column_sum(const kd_tensor *dy, int64_t n, const kd_tensor *out, bool accum, void *scratch,
                             const kd_call *c)
{
    const kd_tensor rows = as_rows(dy, n);
    return kd_cuda_run_own(KD_OP_SUM_LEAD, dy->dtype, &columns, &rows, 1, out, accum, scratch, c);
}

size_t kd_cuda_column_sum_scratch(const kd_tensor *dy, int64_t n, const kd_tensor *out)
{
    const kd_tensor rows = as_rows(dy, n);
    return kd_cuda_own_scratch(KD_OP_SUM_LEAD, dy->dtype, &columns, &rows, out);
}
