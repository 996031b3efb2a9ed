/* Parameters and buffers of one model, shared by all its programs (train, eval, dump).
 *
 * Declared by the graph builder in forward order; then allocated once as slabs, one contiguous run of memory a kind:
 *   value  stat dtype (f32)   the master copy
 *   shadow activation dtype   what matmuls and convolutions read when it differs from f32 (bf16, fp16)
 *   grad   stat dtype         always added to; zeroed outside the programs
 *   buffer stat dtype         running statistics
 * Every tensor starts at a multiple of 16 elements; the padding stays zero.  Backward fills gradient slots from the end
 * of the slab to its start, so ranks can reduce buckets from the end while backward still runs.
 */
#ifndef KD_KERNELS_KD_PARAMS_H
#define KD_KERNELS_KD_PARAMS_H

#include "kernels/kd_backend.h"
#include "kernels/kd_graph.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kd_params kd_params;

typedef struct kd_param_info {
    char *name; /* official checkpoint name; owned by kd_params */
    kd_shape shape;
    kd_init init;
    unsigned flags; /* kd_param_flags */
    bool buffer;    /* persistent state, not trained */
    int64_t numel;
    int64_t offset; /* elements from the start of its slab */
    float lr_scale; /* layer-wise learning rate factor, 1 by default; set before kd_optim_create */
    bool decay;     /* weight decay applies; !NO_DECAY by default */
} kd_param_info;

kd_params *kd_params_create(kd_dtype stat); /* f32, or f64 in tests; NULL: out of memory */
void kd_params_free(kd_params *p);

/* Declare or find; used by kd_param / kd_buffer.  Index, or -1 with err filled (shape differs, declared after
 * alloc). */
int kd_params_declare(kd_params *p, const char *name, const kd_shape *shape, const kd_init *init, unsigned flags,
                      bool buffer, kd_err *err);

int kd_params_count(const kd_params *p);                  /* parameters and buffers */
kd_param_info *kd_params_at(kd_params *p, int i);         /* borrowed */
int kd_params_find(const kd_params *p, const char *name); /* -1: absent */
int64_t kd_params_numel(const kd_params *p);              /* trainable scalars, without padding */

/* Allocate the slabs on `be` (idempotent; a later call may add the shadow or the gradients).  No declaration
 * afterwards. */
KD_NODISCARD kd_status kd_params_alloc(kd_params *p, kd_backend *be, kd_dtype act, bool grads, kd_err *err);
/* Draw every value from its init; independent of declaration order: keyed by (seed, CRC-32 of the name). */
KD_NODISCARD kd_status kd_params_init(kd_params *p, uint64_t seed, kd_err *err);

/* Whole-tensor access in f32 from the host (f64 slabs convert).  n must be numel. */
KD_NODISCARD kd_status kd_params_read(kd_params *p, int i, float *dst, int64_t n);
KD_NODISCARD kd_status kd_params_write(kd_params *p, int i, const float *src, int64_t n);
KD_NODISCARD kd_status kd_params_read_grad(kd_params *p, int i, float *dst, int64_t n);

/* Device pointers; NULL when that slab does not exist. */
void *kd_params_value(kd_params *p, int i);
void *kd_params_shadow(kd_params *p, int i, kd_dtype act); /* the value itself when act is the stat dtype */
void *kd_params_grad(kd_params *p, int i);
void *kd_params_value_slab(kd_params *p);
void *kd_params_grad_slab(kd_params *p);
void *kd_params_shadow_slab(kd_params *p);
void *kd_params_buffer_slab(kd_params *p);
int64_t kd_params_slab_numel(const kd_params *p); /* trainable slab with padding, elements */
int64_t kd_params_buffer_numel(const kd_params *p);
kd_dtype kd_params_dtype(const kd_params *p);
kd_dtype kd_params_shadow_dtype(const kd_params *p); /* == kd_params_dtype when there is no shadow */
kd_backend *kd_params_backend(const kd_params *p);

KD_NODISCARD kd_status kd_params_zero_grad(kd_params *p);
void kd_params_rest_grad(kd_params *p); /* zero, and without memory until written, where the device can do that */
/* Values changed: refresh the shadow, and let forward-only programs repack.  Called by write, init and the
 * optimiser. */
KD_NODISCARD kd_status kd_params_changed(kd_params *p);
/* The optimiser changed the values and refreshed the shadow in the same pass. */
void kd_params_updated(kd_params *p);
/* Running statistics changed (a training program ran). */
void kd_params_buffers_changed(kd_params *p);
uint64_t kd_params_version(const kd_params *p);

/* CRC-32 (zlib) of a byte string: names to random streams; also used by the fixtures' generators. */
uint32_t kd_crc32(const void *data, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
