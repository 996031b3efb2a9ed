/* NTU-25 graphs: see skeleton_graph.h. */
#include "student/model/skeleton_graph.h"

#include <math.h>

#define V KD_JOINTS

/* clang-format off */
static const uint8_t graph_bones[24][2] = {
    {0, 1}, {1, 20}, {2, 20}, {3, 2}, {4, 20}, {5, 4}, {6, 5}, {7, 6}, {8, 20}, {9, 8}, {10, 9}, {11, 10},
    {12, 0}, {13, 12}, {14, 13}, {15, 14}, {16, 0}, {17, 16}, {18, 17}, {19, 18},
    {21, 22}, {22, 7}, {23, 24}, {24, 11}};
static const uint8_t v1_bones[24][2] = {
    {0, 1}, {1, 20}, {2, 20}, {3, 2}, {4, 20}, {5, 4}, {6, 5}, {7, 6}, {8, 20}, {9, 8}, {10, 9}, {11, 10},
    {12, 0}, {13, 12}, {14, 13}, {15, 14}, {16, 0}, {17, 16}, {18, 17}, {19, 18},
    {7, 21}, {7, 22}, {11, 23}, {11, 24}};
/* 0 torso, 1 head, 2 left arm, 3 right arm, 4 left leg, 5 right leg */
static const uint8_t body_part[V] = {
    0, 0, 0, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0, 2, 2, 3, 3};
static const uint8_t arm_ring[12] = {4, 5, 6, 7, 21, 22, 8, 9, 10, 11, 23, 24};
static const uint8_t leg_ring[8] = {12, 13, 14, 15, 16, 17, 18, 19};
static const uint8_t torso_ring[5] = {0, 1, 2, 3, 20};
static const int32_t parts_reference[V] = {
    0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 0, 1, 1, 2, 2, 0, 0};
static const int32_t parts_corrected[V] = {
    0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 0, 1, 1, 2, 2};
/* clang-format on */

void kd_skel_hops(int max_hop, int hop[KD_JOINTS][KD_JOINTS])
{
    for (int i = 0; i < V; i++) {
        for (int j = 0; j < V; j++) {
            hop[i][j] = i == j ? 0 : KD_HOP_FAR;
        }
    }
    for (int h = 1; h <= max_hop; h++) { /* one ring further each time */
        for (int i = 0; i < V; i++) {
            for (size_t e = 0; e < KD_COUNTOF(graph_bones); e++) {
                const int a = graph_bones[e][0], b = graph_bones[e][1];
                if (hop[i][a] == h - 1 && hop[i][b] == KD_HOP_FAR) {
                    hop[i][b] = h;
                }
                if (hop[i][b] == h - 1 && hop[i][a] == KD_HOP_FAR) {
                    hop[i][a] = h;
                }
            }
        }
    }
}

void kd_skel_spatial(int max_hop, float *a)
{
    int hop[V][V];
    kd_skel_hops(max_hop, hop);
    memset(a, 0, (size_t)(1 + 2 * max_hop) * KD_ADJ * sizeof *a);
    for (int j = 0; j < V; j++) {
        for (int i = 0; i < V; i++) {
            const int h = hop[j][i];
            if (h == KD_HOP_FAR) {
                continue;
            }
            const int from = hop[j][KD_CENTRE], to = hop[i][KD_CENTRE];
            const bool farther = from != KD_HOP_FAR && (to == KD_HOP_FAR || from < to);
            const int k = h == 0 ? 0 : 2 * h - 1 + (farther ? 1 : 0);
            a[k * KD_ADJ + j * V + i] = 1.0f;
        }
    }
}

void kd_skel_semantic(float a[3 * KD_ADJ])
{
    int hop[V][V];
    kd_skel_hops(2, hop);
    memset(a, 0, 3 * KD_ADJ * sizeof *a);
    for (int i = 0; i < V; i++) {
        for (int j = 0; j < V; j++) {
            if (hop[i][j] != KD_HOP_FAR) {
                const int k = body_part[i] == body_part[j] ? 0 : (hop[i][j] == 1 ? 1 : 2);
                a[k * KD_ADJ + i * V + j] = 1.0f;
            }
        }
    }
}

void kd_skel_v1_physical(float a[KD_ADJ])
{
    memset(a, 0, KD_ADJ * sizeof *a);
    for (int i = 0; i < V; i++) {
        a[i * V + i] = 1.0f;
    }
    for (size_t e = 0; e < KD_COUNTOF(v1_bones); e++) {
        a[v1_bones[e][0] * V + v1_bones[e][1]] = 1.0f;
        a[v1_bones[e][1] * V + v1_bones[e][0]] = 1.0f;
    }
    kd_skel_norm_sym_full(a, 1);
}

/* ---- normalisations -------------------------------------------------------------------------- */

/* Column sums (axis 0) or row sums (axis 1) over k matrices. */
static void sums(const float *a, int k, int axis, double s[V])
{
    memset(s, 0, V * sizeof *s);
    for (int m = 0; m < k * KD_ADJ; m++) {
        const int row = m / V % V, col = m % V;
        s[axis == 0 ? col : row] += (double)a[m];
    }
}

void kd_skel_norm_columns_of_sum(float *a, int k)
{
    double s[V];
    sums(a, k, 0, s);
    for (int m = 0; m < k * KD_ADJ; m++) {
        a[m] = s[m % V] > 0.0 ? (float)((double)a[m] / s[m % V]) : 0.0f;
    }
}

void kd_skel_norm_sym_full(float *a, int k)
{
    double s[V];
    sums(a, k, 1, s);
    for (int i = 0; i < V; i++) {
        s[i] = s[i] > 0.0 ? 1.0 / sqrt(s[i]) : 0.0;
    }
    for (int m = 0; m < k * KD_ADJ; m++) {
        a[m] = (float)(s[m / V % V] * (double)a[m] * s[m % V]);
    }
}

void kd_skel_norm_columns(float *a, int k)
{
    for (int m = 0; m < k; m++) {
        kd_skel_norm_columns_of_sum(a + m * KD_ADJ, 1);
    }
}

/* ---- shift tables ---------------------------------------------------------------------------- */

/* Row `c` of a table: ring neighbours `step` places on, everyone else itself. */
static void ring_row(const uint8_t *ring, int len, int step, int32_t *row)
{
    for (int v = 0; v < V; v++) {
        row[v] = v;
    }
    for (int p = 0; p < len; p++) {
        row[ring[p]] = ring[(p + step) % len];
    }
}

/* Joints within two hops of v, itself included, ascending; returns how many. */
static int neighbours(int v, int list[V])
{
    int hop[V][V], n = 0;
    kd_skel_hops(2, hop);
    for (int j = 0; j < V; j++) {
        if (hop[v][j] != KD_HOP_FAR) {
            list[n++] = j;
        }
    }
    return n;
}

void kd_skel_brasp(int channels, int32_t *idx)
{
    const int arm = channels / 4, leg = channels / 2, torso = 5 * channels / 8;
    for (int c = 0; c < torso; c++) {
        if (c < arm) {
            ring_row(arm_ring, (int)KD_COUNTOF(arm_ring), c + 1, idx + c * V);
        } else if (c < leg) {
            ring_row(leg_ring, (int)KD_COUNTOF(leg_ring), c - arm + 1, idx + c * V);
        } else {
            ring_row(torso_ring, (int)KD_COUNTOF(torso_ring), c - leg + 1, idx + c * V);
        }
    }
    for (int v = 0; v < V; v++) {
        int near[V];
        const int n = neighbours(v, near);
        for (int c = torso; c < channels; c++) {
            idx[c * V + v] = near[(c - torso) % n];
        }
    }
}

/* Neighbours of v in one 0/1 partition by falling normalised weight.  The weight of (v,j) is
 * 1/sqrt(deg v deg j): fewer neighbours first, then the lower number. */
static int ranked(const float *a, int v, int list[V])
{
    int near[V], n = 0;
    for (int j = 0; j < V; j++) {
        if (j == v || a[v * V + j] == 0.0f) {
            continue;
        }
        int at = n++;
        const int degree = neighbours(j, near);
        for (; at > 0; at--) {
            int other[V];
            if (neighbours(list[at - 1], other) <= degree) {
                break;
            }
            list[at] = list[at - 1];
        }
        list[at] = j;
    }
    return n;
}

/* The joint that SGPShift reads for channel c at joint v, from the ranked lists. */
typedef struct sgp_lists {
    int list[2][V][V], n[2][V]; /* 0 within parts, 1 between parts */
} sgp_lists;

static void sgp_rank(sgp_lists *s)
{
    float a[3 * KD_ADJ];
    kd_skel_semantic(a);
    for (int v = 0; v < V; v++) {
        s->n[0][v] = ranked(a, v, s->list[0][v]);
        s->n[1][v] = ranked(a + KD_ADJ, v, s->list[1][v]);
    }
}

static int sgp_source(const sgp_lists *s, int channels, int c, int v)
{
    const int g = channels / 3, k = c < g ? 0 : 1;
    if (c >= 2 * g || s->n[k][v] == 0) {
        return v;
    }
    return s->list[k][v][(c - k * g) % s->n[k][v]];
}

void kd_skel_sgp(int channels, int32_t *idx)
{
    sgp_lists s;
    sgp_rank(&s);
    for (int m = 0; m < channels * V; m++) {
        idx[m] = sgp_source(&s, channels, m / V, m % V);
    }
}

void kd_skel_brasp_sgp(int channels, int32_t *idx)
{
    sgp_lists s;
    sgp_rank(&s);
    kd_skel_brasp(channels, idx);
    for (int c = 0; c < channels; c++) {
        int32_t first[V];
        memcpy(first, idx + c * V, sizeof first);
        for (int v = 0; v < V; v++) {
            idx[c * V + v] = first[sgp_source(&s, channels, c, v)];
        }
    }
}

void kd_skel_parts(bool corrected, int32_t parts[KD_JOINTS])
{
    memcpy(parts, corrected ? parts_corrected : parts_reference, V * sizeof *parts);
}
