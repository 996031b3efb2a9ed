/* Registry of joint layouts, and what is checked of all of them: see layout.h. */
#include "student/layout/layout.h"

#include "kernels/kd_params.h"
#include "student/layout/rows.h"

#include <stdio.h>
#include <string.h>

static const kd_layout *const ROWS[] = {&kd_layout_row_ntu25, &kd_layout_row_kinect20, &kd_layout_row_openpose18,
                                        &kd_layout_row_coco17, &kd_layout_row_mediapipe33};

int kd_layout_count(void)
{
    return (int)KD_COUNTOF(ROWS);
}

const kd_layout *kd_layout_at(int i)
{
    return i >= 0 && i < kd_layout_count() ? ROWS[i] : NULL;
}

const char *kd_layout_named(int i)
{
    const kd_layout *l = kd_layout_at(i);
    return l != NULL ? l->name : NULL;
}

const kd_layout *kd_layout_find(const char *name)
{
    for (size_t i = 0; i < KD_COUNTOF(ROWS); i++) {
        if (strcmp(ROWS[i]->name, name) == 0) {
            return ROWS[i];
        }
    }
    return NULL;
}

const kd_layout *kd_layout_ntu25(void)
{
    return ROWS[0];
}

/* ---- checks ---------------------------------------------------------------------------------- */

static kd_status check_joints(const kd_layout *l, kd_err *err)
{
    for (int v = 0; v < l->joints; v++) {
        const kd_layout_joint *j = &l->joint[v];
        if (j->name[0] == '\0') {
            return KD_FAIL(err, KD_E_CONFIG, "joint %d: expected a name, found none", v);
        }
        for (int w = 0; w < v; w++) {
            if (strcmp(j->name, l->joint[w].name) == 0) {
                return KD_FAIL(err, KD_E_CONFIG, "joint %d: expected a name of its own, found '%s' of joint %d", v,
                               j->name, w);
            }
        }
        if (j->region >= KD_REGIONS || j->bone >= l->joints || j->mirror >= l->joints) {
            return KD_FAIL(err, KD_E_CONFIG, "joint %d (%s): region %d, bone to %d, mirror %d are not of %d joints", v,
                           j->name, j->region, j->bone, j->mirror, l->joints);
        }
    }
    return KD_OK;
}

static uint8_t other_side(uint8_t region)
{
    static const uint8_t OTHER[KD_REGIONS] = {
        [KD_TORSO] = KD_TORSO,        [KD_HEAD] = KD_HEAD,          [KD_LEFT_ARM] = KD_RIGHT_ARM,
        [KD_RIGHT_ARM] = KD_LEFT_ARM, [KD_LEFT_LEG] = KD_RIGHT_LEG, [KD_RIGHT_LEG] = KD_LEFT_LEG};
    return OTHER[region];
}

static kd_status check_mirror(const kd_layout *l, kd_err *err)
{
    for (int v = 0; v < l->joints; v++) {
        const kd_layout_joint *j = &l->joint[v], *m = &l->joint[j->mirror];
        if (m->mirror != v) {
            return KD_FAIL(err, KD_E_CONFIG,
                           "mirror: expected pairs, found %s whose image is %s, whose own image is %s", j->name,
                           m->name, l->joint[m->mirror].name);
        }
        if (m->region != other_side(j->region)) {
            return KD_FAIL(err, KD_E_CONFIG,
                           "mirror: expected images in the same part of the other side, found %s and %s; a joint of an "
                           "arm or leg needs its pair",
                           j->name, m->name);
        }
    }
    return KD_OK;
}

static kd_status check_edges(const kd_layout *l, const uint8_t (*edge)[2], int n, kd_err *err)
{
    int root[KD_LAYOUT_JOINTS], left = l->joints;
    for (int v = 0; v < l->joints; v++) {
        root[v] = v;
    }
    for (int e = 0; e < n; e++) {
        const int a = edge[e][0], b = edge[e][1];
        if (a >= l->joints || b >= l->joints || a == b) {
            return KD_FAIL(err, KD_E_CONFIG, "edge %d: expected two of %d joints, found %d and %d", e, l->joints, a, b);
        }
        for (int f = 0; f < e; f++) {
            if ((edge[f][0] == a && edge[f][1] == b) || (edge[f][0] == b && edge[f][1] == a)) {
                return KD_FAIL(err, KD_E_CONFIG, "edge %d: %s and %s are connected by edge %d already", e,
                               l->joint[a].name, l->joint[b].name, f);
            }
        }
        const int from = root[a], to = root[b];
        left -= from != to;
        for (int v = 0; v < l->joints && from != to; v++) {
            root[v] = root[v] == from ? to : root[v];
        }
    }
    for (int v = 1; v < l->joints && left > 1; v++) {
        if (root[v] != root[0]) {
            return KD_FAIL(err, KD_E_CONFIG, "edges: expected a connected graph, found no way from %s to %s",
                           l->joint[0].name, l->joint[v].name);
        }
    }
    return KD_OK;
}

static kd_status check_bones(const kd_layout *l, kd_err *err)
{
    for (int v = 0; v < l->joints; v++) {
        int at = v, steps = 0;
        while (l->joint[at].bone != at && steps < l->joints) {
            at = l->joint[at].bone;
            steps++;
        }
        if (steps == l->joints) {
            return KD_FAIL(err, KD_E_CONFIG, "bones: expected a way to a joint without one, found a circle from %s",
                           l->joint[v].name);
        }
    }
    return KD_OK;
}

kd_status kd_layout_check(const kd_layout *l, kd_err *err)
{
    enum { FEWEST = 5 }; /* PartAttention writes the weights of five parts along the joints */
    if (l->joints < FEWEST || l->joints > KD_LAYOUT_JOINTS) {
        return KD_FAIL(err, KD_E_CONFIG, "joints: expected %d to %d, found %d", FEWEST, KD_LAYOUT_JOINTS, l->joints);
    }
    KD_TRY(check_joints(l, err));
    KD_TRY(check_mirror(l, err));
    KD_TRY(check_edges(l, l->edge, l->edges, err));
    if (l->v1_edges > 0) {
        KD_TRY(check_edges(l, l->v1_edge, l->v1_edges, err));
    }
    KD_TRY(check_bones(l, err));
    const uint8_t point[] = {l->centre, l->origin[0],   l->origin[1],  l->top[0],
                             l->top[1], l->shoulder[0], l->shoulder[1]};
    for (size_t i = 0; i < sizeof point; i++) {
        if (point[i] >= l->joints) {
            return KD_FAIL(err, KD_E_CONFIG, "centre, origin, top, shoulders: expected joints below %d, found %d",
                           l->joints, point[i]);
        }
    }
    return KD_OK;
}

/* ---- what follows from a layout -------------------------------------------------------------- */

void kd_layout_bones(kd_layout *l, int root)
{
    int hop[KD_LAYOUT_JOINTS];
    for (int v = 0; v < l->joints; v++) {
        hop[v] = v == root ? 0 : l->joints;
        l->joint[v].bone = (uint8_t)v;
    }
    for (int h = 0; h < l->joints; h++) {
        for (int e = 0; e < l->edges; e++) {
            for (int way = 0; way < 2; way++) {
                const uint8_t from = l->edge[e][way], to = l->edge[e][1 - way];
                if (hop[from] == h && (hop[to] > h + 1 || (hop[to] == h + 1 && from < l->joint[to].bone))) {
                    hop[to] = h + 1;
                    l->joint[to].bone = from;
                }
            }
        }
    }
}

/* Every number that models and data are derived from, in one order. */
static uint32_t crc_of(const kd_layout *l)
{
    uint8_t byte[KD_LAYOUT_JOINTS * (KD_LAYOUT_NAME + 3) + 4 * KD_LAYOUT_EDGES + 24];
    size_t n = 0;
    byte[n++] = (uint8_t)l->joints;
    for (int v = 0; v < l->joints; v++) {
        const kd_layout_joint *j = &l->joint[v];
        const size_t len = strlen(j->name);
        memcpy(byte + n, j->name, len + 1);
        n += len + 1;
        byte[n++] = j->region;
        byte[n++] = j->bone;
        byte[n++] = j->mirror;
    }
    byte[n++] = (uint8_t)l->edges;
    memcpy(byte + n, l->edge, 2 * (size_t)l->edges);
    n += 2 * (size_t)l->edges;
    byte[n++] = (uint8_t)l->v1_edges;
    memcpy(byte + n, l->v1_edge, 2 * (size_t)l->v1_edges);
    n += 2 * (size_t)l->v1_edges;
    const uint8_t point[] = {l->centre, l->origin[0],   l->origin[1],  l->top[0],
                             l->top[1], l->shoulder[0], l->shoulder[1]};
    memcpy(byte + n, point, sizeof point);
    return kd_crc32(byte, n + sizeof point);
}

const char *kd_layout_identity(const kd_layout *l, char out[KD_LAYOUT_IDENTITY])
{
    if (kd_layout_find(l->name) != NULL) {
        (void)snprintf(out, KD_LAYOUT_IDENTITY, "%s", l->name);
    } else {
        (void)snprintf(out, KD_LAYOUT_IDENTITY, "%s@%08x", l->name, (unsigned)crc_of(l));
    }
    return out;
}

kd_status kd_layout_map(const kd_layout *from, const kd_layout *to, uint8_t idx[KD_LAYOUT_JOINTS], kd_err *err)
{
    char missing[160] = "";
    int lacks = 0;
    for (int v = 0; v < to->joints; v++) {
        int w = 0;
        while (w < from->joints && strcmp(from->joint[w].name, to->joint[v].name) != 0) {
            w++;
        }
        if (w == from->joints) {
            const size_t n = strlen(missing);
            (void)snprintf(missing + n, sizeof missing - n, "%s%s", lacks == 0 ? "" : ", ", to->joint[v].name);
            lacks++;
        }
        idx[v] = (uint8_t)w;
    }
    if (lacks > 0) {
        return KD_FAIL(err, KD_E_CONFIG,
                       "layout %s cannot be made of %s: expected all its joints, found %d missing: %s", to->name,
                       from->name, lacks, missing);
    }
    return KD_OK;
}
