/* Operations and kernels: the one signature, the op table, the kernel table.
 *
 * An op is layer-sized (linear, layernorm, attention, joint_mix, ...) and belongs to a family.  Adding an op touches
 * six files (README.md, "Add an op"): a row in kd_op_list.inc, the contract in kd_ops.h, the rules in op/<family>.c,
 * the reference kernels in cpu/<family>.c, the CUDA kernels in cuda/<family>.cu, and cases in tests/cases/<family>.inc.
 * Kernels of fast/ and of libraries override table slots and are optional.
 *
 * Rules every kernel obeys:
 *   - no allocation, no synchronisation, no log, no globals; scratch is asked for at compile time and planned;
 *   - operands are dense row-major; an absent optional input and an output nobody wants have data == NULL (any output:
 *     a recomputed layernorm may be wanted for its statistics alone); in[] has every operand the op can have;
 *   - outputs are written whole and never read, unless bit i of `accum` is set: the kernel then adds to out[i].  An
 *     output that can be the gradient of a parameter must honour accum; others may ignore accum, because the compiler
 *     sets it for gradients of parameters alone;
 *   - saved-for-backward values (mean, lse, ...) are declared outputs: the planner sees everything;
 *   - statistics, softmax sums, losses and parameter gradients are computed and stored in the stat dtype: f32 for
 *     f32/bf16/fp16 programs, f64 for f64 programs (tests);
 *   - reductions run in an order fixed by the shapes, never by the number of threads: same inputs, same bits;
 *   - NaN in gives NaN out wherever the maths says so.
 */
#ifndef KD_KERNELS_KD_OP_H
#define KD_KERNELS_KD_OP_H

#include "kernels/kd_tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KD_MAX_IN  12
#define KD_MAX_OUT 8

/* Everything that changes from step to step without changing the program.  Lives in device memory next to the
 * program, so that a captured CUDA graph sees new values. */
typedef struct kd_step {
    uint64_t seed;
    uint64_t step;            /* optimiser step or micro-step: the `epoch` counter of KD_RNG_DROPOUT */
    float grad_scale;         /* d(loss) fed to backward: 1/accumulation */
    const double *loss_scale; /* fp16: device memory, KD_CTL_LOSS_SCALE of the optimiser; NULL: 1 */
} kd_step;

typedef struct kd_call {
    const kd_tensor *in, *out; /* indexed as documented for the op in kd_ops.h */
    int n_in, n_out;
    uint32_t accum;     /* bit i: add into out[i] */
    uint32_t static_in; /* bit i: in[i] keeps its value from prepare() to release() (weights in a forward-only
                                * program): prepare() may pack it */
    bool ahead;         /* prepare(): static inputs have no values yet.  Decide everything, pack nothing: release()
                                * and another prepare() come before the first run() */
    const void *attr;   /* kd_<op>_attr */
    void *scratch;      /* 256-byte aligned, as many bytes as the slot's scratch() asked for */
    const kd_step *step;
    void *prep;   /* what the slot's prepare() left (a oneDNN primitive, a cuBLASLt algorithm) */
    void *stream; /* CUDA stream; NULL on the CPU */
} kd_call;

typedef kd_status (*kd_kernel)(const kd_call *c);

/* One slot of a backend's table.  run == NULL: unsupported, reported at compile time with the node's scope name. */
typedef struct kd_kernel_def {
    kd_kernel run;
    size_t (*scratch)(const kd_call *c);           /* NULL: none; c has shapes and attr, no data */
    kd_status (*prepare)(kd_call *c, kd_err *err); /* NULL: nothing; called once with data bound; sets c->prep.
                                                          * KD_E_UNSUPPORTED: use the next slower slot for this call */
    void (*release)(kd_call *c);
    bool by_shape; /* prepare() looks at shapes and addresses only: no need to repeat it when static inputs change */
} kd_kernel_def;

typedef enum kd_op_flags {
    KD_OP_EFFECT = 1,      /* writes persistent state (running statistics): never cloned, never dropped */
    KD_OP_INPLACE0 = 2,    /* out[0] may share the bytes of in[0] (same size); kernel takes no restrict on the pair */
    KD_OP_NODIFF = 4,      /* gradients stop here (input preparation) */
    KD_OP_INPLACE_LAST = 8 /* out[0] may share the bytes of in[kd_op_def.n_in - 1], the last operand */
} kd_op_flags;

typedef enum kd_op {
    KD_OP_NONE = 0,
#define KD_OP(ID, name, family, n_in, n_out, flags) KD_OP_##ID,
#include "kernels/kd_op_list.inc"
#undef KD_OP
    KD_OP_COUNT
} kd_op;

struct kd_grad_ctx;

/* One op: a row of kd_op_list.inc (name, operand counts, flags) and its rules, which op/<family>.c writes with
 * KD_OP_DEFINE.  attr_size and each rule may be left out. */
typedef struct kd_op_def {
    const char *name;
    uint8_t n_in, n_out; /* maxima; trailing inputs may be absent */
    uint8_t flags;       /* kd_op_flags */
    size_t attr_size;
    /* Shape and dtype rule.  in[i].shape.rank == -1: absent.  Fills out[0..n_out).  NULL: never a graph's node. */
    kd_status (*infer)(const kd_spec *in, int n_in, const void *attr, kd_spec *out, kd_err *err);
    /* Gradient rule (kd_graph.h, kd_grad_*).  NULL: not differentiable. */
    kd_status (*grad)(struct kd_grad_ctx *ctx);
    /* Multiply-accumulates of one call (`kd model info`, reports); data pointers tell which operands are there.  NULL:
     * none.  Counted are products summed over a dim (matrix products, convolutions, mixing); not elementwise
     * arithmetic, not gradients. */
    int64_t (*macs)(const kd_call *c);
} kd_op_def;

#define KD_OP(ID, op_name, family, ins, outs, op_flags)                                           \
    enum { KD_IN_##op_name = (ins), KD_OUT_##op_name = (outs), KD_FLAGS_##op_name = (op_flags) }; \
    extern const kd_op_def kd_op_def_##op_name;
#include "kernels/kd_op_list.inc"
#undef KD_OP

/* The definition of op `op_name`, for op/<family>.c: KD_OP_DEFINE(mul, .infer = mul_infer, .grad = mul_grad); */
#define KD_OP_DEFINE(op_name, ...)                                      \
    const kd_op_def kd_op_def_##op_name = {.name = #op_name,            \
                                           .n_in = KD_IN_##op_name,     \
                                           .n_out = KD_OUT_##op_name,   \
                                           .flags = KD_FLAGS_##op_name, \
                                           __VA_ARGS__}

const kd_op_def *kd_op_get(kd_op op); /* never NULL for a valid id; the table is constant: any thread may ask */

/* The operand whose bytes out[0] may take over, -1: none. */
static inline int kd_op_in_place(const kd_op_def *def)
{
    const bool last = (def->flags & KD_OP_INPLACE_LAST) != 0;
    return (def->flags & KD_OP_INPLACE0) != 0 ? 0 : last ? def->n_in - 1 : -1;
}

/* Stat dtype of a program's activation dtype: f64 for f64, else f32. */
static inline kd_dtype kd_stat_dtype(kd_dtype act)
{
    return act == KD_F64 ? KD_F64 : KD_F32;
}

#ifdef __cplusplus
}
#endif
#endif
