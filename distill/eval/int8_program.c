/* Eight bits in the places of f32: see int8_program.h. */
#include "distill/eval/int8_program.h"

#include "kernels/int8/int8.h"

enum { ALIGN = 64 };

static kd_status make_layer(const kd_program *p, const kd_quant_layer *l, kd_int8 *out)
{
    const kd_walk_node n = kd_walk_node_at(p, l->node);
    const kd_tensor in[2] = {{.shape = kd_walk_value_at(p, n.in[0]).spec.shape},
                             {.shape = kd_walk_value_at(p, n.in[1]).spec.shape}};
    const kd_tensor y = {.shape = kd_walk_value_at(p, n.out[0]).spec.shape};
    const kd_call c = {.in = in, .out = &y, .n_in = 2, .n_out = 1, .attr = n.attr};
    return kd_int8_make(l->op, &c, l->weight, l->scale, l->x_scale, l->x_zero, out);
}

kd_status kd_int8_program_open(kd_program *p, const kd_quant *q, kd_int8_program *out, kd_err *err)
{
    size_t scratch = 1;
    *out = (kd_int8_program){.n = q->n, .layer = kd_calloc((size_t)q->n + 1, sizeof *out->layer)};
    kd_status st = out->layer != NULL ? KD_OK : KD_E_OOM;
    for (int32_t i = 0; i < q->n && st == KD_OK; i++) {
        st = make_layer(p, &q->layer[i], &out->layer[i]);
        scratch = st == KD_OK ? KD_MAX(scratch, kd_int8_scratch(&out->layer[i])) : scratch;
    }
    out->scratch = st == KD_OK ? kd_alloc(scratch + ALIGN) : NULL;
    if (out->scratch == NULL) {
        return KD_FAIL(err, KD_E_OOM, "int8: out of memory");
    }
    char *aligned = out->scratch;
    aligned += (ALIGN - (uintptr_t)aligned % ALIGN) % ALIGN;
    for (int32_t i = 0; i < q->n; i++) {
        out->layer[i].scratch = aligned;
        kd_walk_replace(p, q->layer[i].node, &kd_int8_def, &out->layer[i]);
    }
    return KD_OK;
}

void kd_int8_program_close(kd_int8_program *e)
{
    for (int32_t i = 0; e->layer != NULL && i < e->n; i++) {
        kd_int8_free(&e->layer[i]);
    }
    kd_free(e->layer);
    kd_free(e->scratch);
    *e = (kd_int8_program){.n = 0};
}
