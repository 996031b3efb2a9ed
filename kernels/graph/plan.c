/* Memory planner: lifetimes to offsets, greedy by size (the rule XNNPACK and TFLite use; see kd_program_check_plan
 * for the independent proof). */
#include "kernels/graph/graph_internal.h"

#include <stdlib.h>

typedef struct order_item {
    size_t bytes;
    int32_t index;
} order_item;

static int by_size(const void *a, const void *b)
{
    const order_item *x = a, *y = b;
    if (x->bytes != y->bytes) {
        return x->bytes < y->bytes ? 1 : -1;
    }
    return x->index < y->index ? -1 : 1; /* total order: the plan is a function of the graph */
}

static int by_offset(const void *a, const void *b)
{
    const kdi_slot *const *x = a, *const *y = b;
    if ((*x)->offset != (*y)->offset) {
        return (*x)->offset < (*y)->offset ? -1 : 1;
    }
    return 0;
}

/* Lowest offset at which `bytes` fit between the placed slots that overlap in time (sorted by offset). */
static size_t lowest_gap(kdi_slot *const *busy, int n, size_t bytes)
{
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        if (busy[i]->offset >= at && busy[i]->offset - at >= bytes) {
            break;
        }
        at = KD_MAX(at, busy[i]->offset + busy[i]->bytes);
    }
    return at;
}

kd_status kdi_plan(kdi_slot *slots, int n, bool reuse, size_t *total)
{
    order_item *order = kd_calloc((size_t)n + 1, sizeof *order);
    kdi_slot **busy = kd_calloc((size_t)n + 1, sizeof(kdi_slot *));
    kd_status st = KD_OK;
    *total = 0;
    if (order == NULL || busy == NULL) {
        st = KD_E_OOM;
        goto done;
    }
    for (int i = 0; i < n; i++) {
        slots[i].bytes = (slots[i].bytes + KDI_ALIGN - 1) / KDI_ALIGN * KDI_ALIGN;
        order[i] = (order_item){slots[i].bytes, i};
    }
    qsort(order, (size_t)n, sizeof *order, by_size);
    for (int k = 0; k < n; k++) {
        kdi_slot *s = &slots[order[k].index];
        int n_busy = 0;
        for (int j = 0; j < k; j++) {
            kdi_slot *o = &slots[order[j].index];
            if (!reuse || (o->first <= s->last && s->first <= o->last)) {
                busy[n_busy++] = o;
            }
        }
        qsort(busy, (size_t)n_busy, sizeof *busy, by_offset);
        s->offset = lowest_gap(busy, n_busy, s->bytes);
        *total = KD_MAX(*total, s->offset + s->bytes);
    }
done:
    kd_free(order);
    kd_free(busy);
    return st;
}
