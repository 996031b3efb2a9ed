/* Parity of the students' constants: graph matrices and gather tables, by the names of their
 * tensors. */
#include "student/model/skeleton_graph.h"
#include "tools/parity/parity.h"

#include <stdlib.h>

enum { JOINTS = 25, ADJ = JOINTS * JOINTS }; /* fixtures are of ntu25 */

/* The matrix of that name; false: none of ours.  a holds 5 x 25 x 25. */
static bool matrix(const char *name, float *a, int *count)
{
    const int hop = strstr(name, "hop2") != NULL ? 2 : 1;
    *count = hop == 2 ? 5 : 3;
    if (strcmp(name, "A_flat") == 0) { /* the union of the semantic matrices, which are disjoint */
        *count = 1;
        kd_skel_semantic(kd_layout_ntu25(), a);
        for (int i = 0; i < ADJ; i++) {
            a[i] += a[ADJ + i] + a[2 * ADJ + i];
        }
        return true;
    }
    if (strncmp(name, "semantic_", 9) == 0) {
        kd_skel_semantic(kd_layout_ntu25(), a);
    } else if (strncmp(name, "spatial_hop", 11) == 0) {
        kd_skel_spatial(kd_layout_ntu25(), hop, a);
    } else {
        return false;
    }
    const char *how = strstr(name, "_sym_full");
    if (how != NULL) {
        kd_skel_norm_sym_full(a, *count, JOINTS);
    } else if (strstr(name, "per_partition_digraph") != NULL) {
        kd_skel_norm_columns(a, *count, JOINTS);
    } else if (strstr(name, "digraph_then_partition") != NULL) {
        kd_skel_norm_columns_of_sum(a, *count, JOINTS);
    } else if (strstr(name, "_raw") == NULL) {
        return false;
    }
    return true;
}

/* The table of that name: brasp_C, sgp_C (C, 25), part_joints. */
static bool table(const char *name, int32_t *idx, int max, int *count)
{
    const char *bar = strrchr(name, '_');
    const int channels = bar != NULL ? atoi(bar + 1) : 0;
    *count = channels * JOINTS;
    if (strcmp(name, "part_joints") == 0) {
        *count = JOINTS;
        kd_skel_parts(kd_layout_ntu25(), false, idx);
        return true;
    }
    if (channels < 1 || channels > max) {
        return false;
    }
    if (strncmp(name, "brasp_", 6) == 0 && strncmp(name, "brasp_sgp", 9) != 0) {
        kd_skel_brasp(kd_layout_ntu25(), channels, idx);
        return true;
    }
    if (strncmp(name, "sgp_", 4) == 0) {
        kd_skel_sgp(kd_layout_ntu25(), channels, idx);
        return true;
    }
    return false;
}

enum { CHANNELS_MAX = 4096 };

static kd_status one_constant(parity *p, const kd_st_file *f, const kd_st_entry *e, float *a, int32_t *idx, kd_err *err)
{
    int count = 0;
    if (matrix(e->name, a, &count)) {
        double *want = NULL;
        KD_TRY(kd_parity_tensor(f, e->name, (size_t)count * ADJ, &want, err));
        kd_parity_f32(p, e->name, a, want, (size_t)count * ADJ, 0.0);
        kd_free(want);
        return KD_OK;
    }
    if (table(e->name, idx, CHANNELS_MAX, &count)) {
        int64_t *want = NULL;
        int wrong = 0;
        KD_TRY(kd_parity_ints(f, e->name, (size_t)count, &want, err));
        for (int i = 0; i < count; i++) {
            wrong += want[i] != idx[i];
        }
        kd_free(want);
        kd_parity_item(p, e->name, (double)wrong, 0.0);
        return KD_OK;
    }
    kd_parity_skip(p, e->name, "a table this build does not have");
    return KD_OK;
}

kd_status kd_parity_constants(parity *p, kd_err *err)
{
    kd_st_file *f = NULL;
    float *a = kd_calloc(5 * ADJ, sizeof *a);
    int32_t *idx = kd_calloc((size_t)CHANNELS_MAX * JOINTS, sizeof *idx);
    kd_status st = a != NULL && idx != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "parity: out of memory");
    if (st != KD_OK) {
        goto done;
    }
    KD_GO(kd_parity_open(p, "semantic_raw", &f, err));
    for (size_t i = 0; i < kd_st_count(f); i++) {
        KD_GO(one_constant(p, f, kd_st_at(f, i), a, idx, err));
    }
done:
    kd_free(a);
    kd_free(idx);
    kd_st_close(f);
    return st;
}
