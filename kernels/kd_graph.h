/* The graph: a model is written once, forward only; gradients, recomputation, fusion and memory come from compile.
 *
 *     kd_graph *g = kd_graph_create(&(kd_graph_opts){.params = p, .dtype = KD_F32, .training = true});
 *     kd_val x = kd_input(g, "clip", KD_F32, kd_shape5(B, 3, T, H, W));
 *     ... builder calls (kd_layers.h, teacher/model/vit.h, student/...) ...
 *     kd_program_compile(g, backend, &(kd_compile_opts){.loss = loss}, &prog, &err);
 *
 * Builder errors are sticky: the first failure is kept in the graph with its scope name and shapes, later calls
 * return an absent value, and kd_program_compile reports it.  Model code therefore has no error ladder.
 *
 * Rules: a value is written by exactly one node (gradient slots of parameters excepted: those are added to, and
 * zeroed outside the program).  Reshape is free.  Shapes are static.  A graph is used by one thread.
 */
#ifndef KD_KERNELS_KD_GRAPH_H
#define KD_KERNELS_KD_GRAPH_H

#include "kernels/kd_op.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kd_graph kd_graph;
struct kd_params;

typedef struct kd_val { /* id of a value; 0: absent */
    int32_t id;
} kd_val;

#define KD_NONE ((kd_val){0})

typedef struct kd_graph_opts {
    struct kd_params *params; /* declared into or found in; outlives the graph */
    kd_dtype dtype;           /* activation dtype: f32, bf16, f16, f64 (tests) */
    bool training;            /* batch statistics, dropout and drop path are live */
} kd_graph_opts;

kd_graph *kd_graph_create(const kd_graph_opts *opts); /* NULL: out of memory */
void kd_graph_free(kd_graph *g);
kd_dtype kd_graph_dtype(const kd_graph *g); /* activation dtype */
bool kd_graph_training(const kd_graph *g);
const kd_err *kd_graph_error(const kd_graph *g); /* NULL: none so far */
/* Record a builder failure of the model's own (bad configuration); keeps the first. */
void kd_graph_fail(kd_graph *g, kd_status code, const char *fmt, ...) KD_PRINTF(3, 4);

/* ---- leaves ---------------------------------------------------------------------------------- */

/* A named input, filled before each run.  Floating inputs must have the stat dtype or the activation dtype. */
kd_val kd_input(kd_graph *g, const char *name, kd_dtype dtype, kd_shape shape);
/* A constant; `data` (dense, `dtype`) is copied. */
kd_val kd_const(kd_graph *g, const char *name, kd_dtype dtype, kd_shape shape, const void *data);

typedef enum kd_init_kind {
    KD_INIT_CONST,        /* a = value */
    KD_INIT_UNIFORM,      /* U(-a, a) */
    KD_INIT_NORMAL,       /* N(b, a^2) */
    KD_INIT_TRUNC_NORMAL, /* N(0, a^2) redrawn outside [-2, 2] absolute (timm) */
    KD_INIT_DATA          /* `data`, numel f32 values copied at declaration (anchor positions, identity + noise) */
} kd_init_kind;

typedef struct kd_init {
    kd_init_kind kind;
    float a, b;
    float scale; /* the drawn value is multiplied by this when non-zero (head init_scale) */
    const float *data;
} kd_init;

typedef enum kd_param_flags {
    KD_PARAM_MATRIX = 1,   /* used by matmul or convolution: kept in the activation dtype too (bf16 shadow) */
    KD_PARAM_NO_DECAY = 2, /* no weight decay */
    KD_PARAM_FROZEN = 4    /* never receives a gradient */
} kd_param_flags;

/* Trainable parameter "<scope>.<name>".  Declared on first use, found (and shape-checked) afterwards.  The value has
 * the activation dtype when KD_PARAM_MATRIX, else the stat dtype. */
kd_val kd_param(kd_graph *g, const char *name, kd_shape shape, kd_init init, unsigned flags);
/* Persistent state that no gradient reaches (running statistics), stat dtype, "<scope>.<name>", filled with `value`. */
kd_val kd_buffer(kd_graph *g, const char *name, kd_shape shape, float value);

/* ---- nodes ----------------------------------------------------------------------------------- */

/* Append an op.  in[n_in] may hold absent values; outs receives the op's n_out values (may be NULL when the op has
 * one output and the return value is enough).  Returns outs[0]. */
kd_val kd_node(kd_graph *g, kd_op op, const void *attr, const kd_val *in, int n_in, kd_val *outs);
/* The same for up to three inputs. */
kd_val kd_node1(kd_graph *g, kd_op op, const void *attr, kd_val a);
kd_val kd_node2(kd_graph *g, kd_op op, const void *attr, kd_val a, kd_val b);
kd_val kd_node3(kd_graph *g, kd_op op, const void *attr, kd_val a, kd_val b, kd_val c);

/* Same bytes, other shape. */
kd_val kd_reshape(kd_graph *g, kd_val x, kd_shape shape);
/* A view of x through which no gradient flows back (PyTorch's detach). */
kd_val kd_detach(kd_graph *g, kd_val x);

/* Spec of a value; of an absent value: rank -1. */
kd_spec kd_spec_of(const kd_graph *g, kd_val v);

/* Names: parameters and nodes declared between push and pop are prefixed "<scope>.". */
void kd_scope_push(kd_graph *g, const char *fmt, ...) KD_PRINTF(2, 3);
void kd_scope_pop(kd_graph *g);

/* Nodes between begin and end may be recomputed in backward instead of kept (compile option). */
void kd_recompute_begin(kd_graph *g);
void kd_recompute_end(kd_graph *g);

/* Id for the random numbers of one node: 1, 2, ... in building order, so equal in all programs of one model. */
uint32_t kd_graph_next_rng(kd_graph *g);

/* Keep a value until the end of the run under a name (logits, features). */
void kd_output(kd_graph *g, const char *name, kd_val v);

/* ---- gradient rules (called by compile) ----------------------------------------------------------------------
 * A rule runs once per forward node, last node first.  Inside a recomputed segment, kd_grad_in/out already name
 * the clones. */
typedef struct kd_grad_ctx kd_grad_ctx;

kd_val kd_grad_in(kd_grad_ctx *c, int i);   /* forward input i */
kd_val kd_grad_out(kd_grad_ctx *c, int i);  /* forward output i */
kd_val kd_grad_dout(kd_grad_ctx *c, int i); /* gradient of output i; absent if nothing depends on it */
const void *kd_grad_attr(kd_grad_ctx *c);
bool kd_grad_wants(kd_grad_ctx *c, int i); /* does anything need the gradient of input i? */
kd_graph *kd_grad_graph(kd_grad_ctx *c);   /* for kd_spec_of, kd_node (gradient-side helper nodes) */

/* Append a backward node.  Output j is the gradient of forward input grad_of[j] (-1: a helper value).
 * Outputs whose input wants no gradient are left absent (kernel sees data == NULL).  For inputs that are parameters the
 * output is the parameter's gradient slot, accumulated; otherwise gradients of one value are summed by add nodes.
 * If nothing is wanted the node is not emitted.  Returns output 0, absent if there is none. */
kd_val kd_grad_emit(kd_grad_ctx *c, kd_op op, const void *attr, const kd_val *in, int n_in, const int *grad_of,
                    int n_out);
/* The gradient of input i is `value` itself (add, reshape, ...). */
void kd_grad_pass(kd_grad_ctx *c, int i, kd_val value);

#ifdef __cplusplus
}
#endif
#endif
