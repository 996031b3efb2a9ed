/* Parameters that eight-bit layers replace: see int8.h. */
#include "kernels/kd_params.h"
#include "student/stream/int8.h"

/* The value that a view looks at in the end. */
static int32_t root_of(const kd_program *p, int32_t v)
{
    kd_walk_value w = kd_walk_value_at(p, v);
    while (w.kind == KD_WALK_VIEW) {
        v = w.of;
        w = kd_walk_value_at(p, v);
    }
    return v;
}

/* Operand i of node k is the weight of a layer. */
static bool is_weight(const kd_quant *q, int32_t k, int32_t i)
{
    return i == 1 && kd_quant_of(q, k) != NULL;
}

bool *kd_last_unread(const kd_program *p, const kd_quant *q, const kd_params *params)
{
    bool *unread = kd_calloc((size_t)kd_params_count(params) + 1, sizeof *unread);
    bool *read = kd_calloc((size_t)kd_walk_values(p) + 1, sizeof *read);
    for (int32_t k = kd_program_nodes(p) - 1; k >= 0 && unread != NULL && read != NULL; k--) {
        const kd_walk_node n = kd_walk_node_at(p, k); /* readers come after what they read */
        for (int32_t i = 0; i < n.n_in; i++) {
            const int32_t v = n.in[i] != 0 ? root_of(p, n.in[i]) : 0;
            const bool folded = n.op == KD_OP_BN_FOLD && i == 0 && !read[root_of(p, n.out[0])];
            read[v] = read[v] || !(is_weight(q, k, i) || folded);
        }
    }
    for (int32_t v = 1; v < kd_walk_values(p) && unread != NULL && read != NULL; v++) {
        const kd_walk_value w = kd_walk_value_at(p, v);
        const int i = w.kind == KD_WALK_PARAM ? kd_params_find(params, w.name) : -1;
        if (i >= 0) {
            unread[i] = !read[v];
        }
    }
    if (read == NULL) {
        kd_free(unread);
        unread = NULL;
    }
    kd_free(read);
    return unread;
}
