/* Graphs of a joint layout: see skeleton_graph.h. */
#include "student/model/skeleton_graph.h"

#include <math.h>

void kd_skel_hops(const kd_layout *l, int max_hop, int hop[KD_LAYOUT_JOINTS][KD_LAYOUT_JOINTS])
{
    for (int i = 0; i < l->joints; i++) {
        for (int j = 0; j < l->joints; j++) {
            hop[i][j] = i == j ? 0 : KD_HOP_FAR;
        }
    }
    for (int h = 1; h <= max_hop; h++) { /* one ring further each time */
        for (int i = 0; i < l->joints; i++) {
            for (int e = 0; e < l->edges; e++) {
                const int a = l->edge[e][0], b = l->edge[e][1];
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

void kd_skel_spatial(const kd_layout *l, int max_hop, float *a)
{
    const int v = l->joints, adj = v * v;
    int hop[KD_LAYOUT_JOINTS][KD_LAYOUT_JOINTS];
    kd_skel_hops(l, max_hop, hop);
    memset(a, 0, (size_t)((1 + 2 * max_hop) * adj) * sizeof *a);
    for (int j = 0; j < v; j++) {
        for (int i = 0; i < v; i++) {
            const int h = hop[j][i];
            if (h == KD_HOP_FAR) {
                continue;
            }
            const int from = hop[j][l->centre], to = hop[i][l->centre];
            const bool farther = from != KD_HOP_FAR && (to == KD_HOP_FAR || from < to);
            const int k = h == 0 ? 0 : 2 * h - 1 + (farther ? 1 : 0);
            a[k * adj + j * v + i] = 1.0f;
        }
    }
}

void kd_skel_semantic(const kd_layout *l, float *a)
{
    const int v = l->joints, adj = v * v;
    int hop[KD_LAYOUT_JOINTS][KD_LAYOUT_JOINTS];
    kd_skel_hops(l, 2, hop);
    memset(a, 0, (size_t)(3 * adj) * sizeof *a);
    for (int i = 0; i < v; i++) {
        for (int j = 0; j < v; j++) {
            if (hop[i][j] != KD_HOP_FAR) {
                const int k = l->joint[i].region == l->joint[j].region ? 0 : (hop[i][j] == 1 ? 1 : 2);
                a[k * adj + i * v + j] = 1.0f;
            }
        }
    }
}

void kd_skel_v1_physical(const kd_layout *l, float *a)
{
    const int v = l->joints, n = l->v1_edges > 0 ? l->v1_edges : l->edges;
    const uint8_t(*edge)[2] = l->v1_edges > 0 ? l->v1_edge : l->edge;
    memset(a, 0, (size_t)(v * v) * sizeof *a);
    for (int i = 0; i < v; i++) {
        a[i * v + i] = 1.0f;
    }
    for (int e = 0; e < n; e++) {
        a[edge[e][0] * v + edge[e][1]] = 1.0f;
        a[edge[e][1] * v + edge[e][0]] = 1.0f;
    }
    kd_skel_norm_sym_full(a, 1, v);
}

/* ---- normalisations -------------------------------------------------------------------------- */

/* Column sums (axis 0) or row sums (axis 1) over k matrices. */
static void sums(const float *a, int k, int v, int axis, double s[KD_LAYOUT_JOINTS])
{
    memset(s, 0, KD_LAYOUT_JOINTS * sizeof *s);
    for (int m = 0; m < k * v * v; m++) {
        const int row = m / v % v, col = m % v;
        s[axis == 0 ? col : row] += (double)a[m];
    }
}

void kd_skel_norm_columns_of_sum(float *a, int k, int v)
{
    double s[KD_LAYOUT_JOINTS];
    sums(a, k, v, 0, s);
    for (int m = 0; m < k * v * v; m++) {
        a[m] = s[m % v] > 0.0 ? (float)((double)a[m] / s[m % v]) : 0.0f;
    }
}

void kd_skel_norm_sym_full(float *a, int k, int v)
{
    double s[KD_LAYOUT_JOINTS];
    sums(a, k, v, 1, s);
    for (int i = 0; i < v; i++) {
        s[i] = s[i] > 0.0 ? 1.0 / sqrt(s[i]) : 0.0;
    }
    for (int m = 0; m < k * v * v; m++) {
        a[m] = (float)(s[m / v % v] * (double)a[m] * s[m % v]);
    }
}

void kd_skel_norm_columns(float *a, int k, int v)
{
    for (int m = 0; m < k; m++) {
        kd_skel_norm_columns_of_sum(a + m * v * v, 1, v);
    }
}

/* ---- shift tables ---------------------------------------------------------------------------- */

typedef struct ring {
    uint8_t joint[KD_LAYOUT_JOINTS];
    int n;
} ring;

/* Joints of the regions [from, to], region by region. */
static ring ring_of(const kd_layout *l, kd_region from, kd_region to)
{
    ring r = {.n = 0};
    for (unsigned region = from; region <= to; region++) {
        for (int v = 0; v < l->joints; v++) {
            if (l->joint[v].region == region) {
                r.joint[r.n++] = (uint8_t)v;
            }
        }
    }
    return r;
}

/* Torso and head as one list. */
static ring torso_of(const kd_layout *l)
{
    ring r = {.n = 0};
    for (int v = 0; v < l->joints; v++) {
        if (l->joint[v].region == KD_TORSO || l->joint[v].region == KD_HEAD) {
            r.joint[r.n++] = (uint8_t)v;
        }
    }
    return r;
}

/* A row of a table: ring neighbours `step` places on, everyone else itself. */
static void ring_row(const kd_layout *l, const ring *r, int step, int32_t *row)
{
    for (int v = 0; v < l->joints; v++) {
        row[v] = v;
    }
    for (int p = 0; p < r->n; p++) {
        row[r->joint[p]] = r->joint[(p + step) % r->n];
    }
}

/* Joints within two hops of each, itself included, ascending. */
typedef struct vicinity {
    int n[KD_LAYOUT_JOINTS];
    uint8_t list[KD_LAYOUT_JOINTS][KD_LAYOUT_JOINTS];
} vicinity;

static void vicinity_of(const kd_layout *l, vicinity *near)
{
    int hop[KD_LAYOUT_JOINTS][KD_LAYOUT_JOINTS];
    kd_skel_hops(l, 2, hop);
    for (int v = 0; v < l->joints; v++) {
        near->n[v] = 0;
        for (int j = 0; j < l->joints; j++) {
            if (hop[v][j] != KD_HOP_FAR) {
                near->list[v][near->n[v]++] = (uint8_t)j;
            }
        }
    }
}

void kd_skel_brasp(const kd_layout *l, int channels, int32_t *idx)
{
    const int arm = channels / 4, leg = channels / 2, torso = 5 * channels / 8;
    const ring arms = ring_of(l, KD_LEFT_ARM, KD_RIGHT_ARM), legs = ring_of(l, KD_LEFT_LEG, KD_RIGHT_LEG);
    const ring body = torso_of(l);
    vicinity near;
    for (int c = 0; c < torso; c++) {
        if (c < arm) {
            ring_row(l, &arms, c + 1, idx + c * l->joints);
        } else if (c < leg) {
            ring_row(l, &legs, c - arm + 1, idx + c * l->joints);
        } else {
            ring_row(l, &body, c - leg + 1, idx + c * l->joints);
        }
    }
    vicinity_of(l, &near);
    for (int v = 0; v < l->joints; v++) {
        KD_ASSERT(near.n[v] > 0); /* a joint is near itself */
        for (int c = torso; c < channels; c++) {
            idx[c * l->joints + v] = near.list[v][(c - torso) % near.n[v]];
        }
    }
}

/* The joints that SGPShift reads, ranked: 0 within parts, 1 between parts. */
typedef struct sgp_lists {
    uint8_t list[2][KD_LAYOUT_JOINTS][KD_LAYOUT_JOINTS];
    int n[2][KD_LAYOUT_JOINTS];
} sgp_lists;

/* Neighbours of joint v in a 0/1 partition by falling normalised weight.  The weight of (v,j) is 1/sqrt(deg v deg j):
 * fewer neighbours first, then the lower number. */
static int ranked(const kd_layout *l, const float *a, const vicinity *near, int v, uint8_t *list)
{
    int n = 0;
    for (int j = 0; j < l->joints; j++) {
        if (j == v || a[v * l->joints + j] == 0.0f) {
            continue;
        }
        int at = n++;
        for (; at > 0 && near->n[list[at - 1]] > near->n[j]; at--) {
            list[at] = list[at - 1];
        }
        list[at] = (uint8_t)j;
    }
    return n;
}

static void sgp_rank(const kd_layout *l, sgp_lists *s)
{
    float a[3 * KD_MAX_ADJ];
    vicinity near;
    kd_skel_semantic(l, a);
    vicinity_of(l, &near);
    for (int k = 0; k < 2; k++) {
        for (int v = 0; v < l->joints; v++) {
            s->n[k][v] = ranked(l, a + k * l->joints * l->joints, &near, v, s->list[k][v]);
        }
    }
}

/* The joint that SGPShift reads for channel c at joint v. */
static int sgp_source(const sgp_lists *s, int channels, int c, int v)
{
    const int g = channels / 3, k = c < g ? 0 : 1;
    if (c >= 2 * g || s->n[k][v] == 0) {
        return v;
    }
    return s->list[k][v][(c - k * g) % s->n[k][v]];
}

void kd_skel_sgp(const kd_layout *l, int channels, int32_t *idx)
{
    sgp_lists s;
    sgp_rank(l, &s);
    for (int m = 0; m < channels * l->joints; m++) {
        idx[m] = sgp_source(&s, channels, m / l->joints, m % l->joints);
    }
}

void kd_skel_brasp_sgp(const kd_layout *l, int channels, int32_t *idx)
{
    sgp_lists s;
    sgp_rank(l, &s);
    kd_skel_brasp(l, channels, idx);
    for (int c = 0; c < channels; c++) {
        int32_t first[KD_LAYOUT_JOINTS];
        memcpy(first, idx + c * l->joints, (size_t)l->joints * sizeof *first);
        for (int v = 0; v < l->joints; v++) {
            idx[c * l->joints + v] = first[sgp_source(&s, channels, c, v)];
        }
    }
}

void kd_skel_parts(const kd_layout *l, bool corrected, int32_t *parts)
{
    static const int32_t PART[KD_REGIONS] = {
        [KD_TORSO] = 0, [KD_HEAD] = 0, [KD_LEFT_ARM] = 1, [KD_RIGHT_ARM] = 2, [KD_LEFT_LEG] = 3, [KD_RIGHT_LEG] = 4};
    int n = 0;
    for (int v = 0; v < l->joints; v++) {
        if (corrected || (l->unparted >> v & 1u) == 0) {
            parts[n++] = PART[l->joint[v].region];
        }
    }
    while (n < l->joints) { /* what is missing at the end is torso */
        parts[n++] = 0;
    }
}
