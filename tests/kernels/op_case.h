/* One row of a case table: an op, its operands, its attributes.  For each forward op, tests/cases/<family>.inc holds
 * `static const op_case cases_<op>[] = {...};`.  The driver (op_driver.h) builds a graph of each row and checks every
 * kernel that runs, backward ones included.
 */
#ifndef KD_TESTS_KERNELS_OP_CASE_H
#define KD_TESTS_KERNELS_OP_CASE_H

#include "kernels/kd_graph.h"
#include "kernels/kd_ops.h"

typedef enum operand_kind {
    NO,     /* absent */
    ACT,    /* input in the activation dtype, gradient wanted */
    STAT,   /* input in the stat dtype, gradient wanted */
    ACT_ND, /* the same two without a gradient: targets, masks, frames */
    STAT_ND,
    MATRIX, /* parameter in the activation dtype; its gradient is accumulated */
    PARAM,  /* parameter in the stat dtype */
    BUFFER, /* persistent state */
    INDEX,  /* i32 input in [0, a) */
    BYTES   /* u8 input */
} operand_kind;

typedef enum operand_gen {
    G_NORMAL = 0, /* b + a N(0,1); a 0 means 1 */
    G_RANGE,      /* uniform in [a, b) */
    G_PROB,       /* rows of probabilities over the last dim */
    G_MASK,       /* 0 or 1, the first one 1 */
    G_NONE_VALID, /* all 0 */
    G_PERM        /* INDEX only: a permutation */
} operand_gen;

typedef struct operand {
    operand_kind kind;
    kd_shape shape;
    operand_gen gen;
    double a, b;
} operand;

typedef struct op_case {
    operand in[KD_MAX_IN];
    const void *attr;
    double k;      /* tolerance in units of rounding of the largest output; 0: 64 */
    uint32_t also; /* bit o: output o joins the loss, as output 0 always does */
    bool no_diff;  /* forward only: a point where the derivative jumps, or a gradient no one defines */
} op_case;

/* clang-format off */
#define S0                  {0, {0}}
#define S1(a)               KD_SHAPE(a)
#define S2(a, b)            KD_SHAPE(a, b)
#define S3(a, b, c)         KD_SHAPE(a, b, c)
#define S4(a, b, c, d)      KD_SHAPE(a, b, c, d)
#define S5(a, b, c, d, e)   KD_SHAPE(a, b, c, d, e)
#define S6(a, b, c, d, e, f) KD_SHAPE(a, b, c, d, e, f)
/* clang-format on */

#endif
