/* Skeletons to arrays: joints, bodies, length.  Normalisation is in sequence_normalize.c. */
#include "student/skeleton/sequence_internal.h"

const kd_layout *kd_sequence_layout(const kd_sequence_spec *s)
{
    return s->layout.joints > 0 ? &s->layout : kd_layout_ntu25();
}

/* What the files hold. */
static const kd_layout *file_layout(const kd_sequence_spec *s)
{
    return s->file_layout.joints > 0 ? &s->file_layout : kd_sequence_layout(s);
}

kd_skel_opts kd_sequence_file_opts(const kd_sequence_spec *s)
{
    return (kd_skel_opts){
        .joints = file_layout(s)->joints, .layout = file_layout(s)->name, .scored = kdi_frames_of(s).scored};
}

bool kdi_present(const kdi_frames *f, const float *x, int t, int m)
{
    for (int c = 0; c < 3; c++) {
        for (int v = 0; v < f->l->joints; v++) {
            if (x[kdi_at(f, c, t, v, m)] != 0.0f) {
                return true;
            }
        }
    }
    return false;
}

/* ---- bodies ---------------------------------------------------------------------------------- */

/* Which bodies of a recording go to which slot. */
typedef struct cast {
    bool tracked;
    int n; /* tracked: people found, at most max_bodies */
    uint64_t id[2];
} cast;

typedef struct seen {
    uint64_t id;
    size_t first, count; /* body number of the first sight; frames */
} seen;

static bool sorts_before(const seen *a, const seen *b)
{
    return a->id != b->id ? a->id < b->id : a->first < b->first;
}

/* Moves list[i] down the heap of n until nothing below it sorts behind it. */
static void sift(seen *list, size_t i, size_t n)
{
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        child += child + 1 < n && sorts_before(&list[child], &list[child + 1]);
        if (!sorts_before(&list[i], &list[child])) {
            return;
        }
        const seen up = list[child];
        list[child] = list[i];
        list[i] = up;
    }
}

/* qsort() of the C library may take memory, which kd_sequence_make_in promises not to. */
static void sort_seen(seen *list, size_t n)
{
    for (size_t i = n / 2; i-- > 0;) {
        sift(list, i, n);
    }
    for (size_t left = n; left > 1;) {
        const seen last = list[--left];
        list[left] = list[0];
        list[0] = last;
        sift(list, 0, left);
    }
}

static bool ranks_before(const seen *a, const seen *b)
{
    return a->count != b->count ? a->count > b->count : a->first < b->first;
}

/* The people seen in most frames; of equals, the one seen first.  list [s->n_bodies] is scratch. */
static void choose_people(const kd_skeleton *s, int most, seen *list, cast *out)
{
    for (size_t i = 0; i < s->n_bodies; i++) {
        list[i] = (seen){.id = s->body[i].id, .first = i, .count = 1};
    }
    sort_seen(list, s->n_bodies);
    seen best[2] = {{0}};
    for (size_t i = 0; i < s->n_bodies;) {
        seen p = list[i];
        for (i++; i < s->n_bodies && list[i].id == p.id; i++) {
            p.count++;
        }
        for (int k = 0; k < most; k++) {
            if (best[k].count == 0 || ranks_before(&p, &best[k])) {
                const seen pushed = best[k];
                best[k] = p;
                p = pushed;
            }
        }
    }
    out->n = 0;
    for (int k = 0; k < most && best[k].count > 0; k++) {
        out->id[out->n++] = best[k].id;
    }
}

static const kd_skel_body *body_at(const kd_skeleton *s, const cast *c, size_t t, int m)
{
    const uint32_t first = s->first[t], end = s->first[t + 1];
    if (!c->tracked) {
        return (uint32_t)m < end - first ? &s->body[first + (uint32_t)m] : NULL;
    }
    for (uint32_t i = first; m < c->n && i < end; i++) {
        if (s->body[i].id == c->id[m]) {
            return &s->body[i];
        }
    }
    return NULL;
}

/* ---- length ---------------------------------------------------------------------------------- */

void kd_sequence_index(size_t n, int frames, size_t *idx)
{
    const double step = (double)(n - 1) / (double)(frames - 1);
    for (int t = 0; t < frames; t++) {
        if (n <= (size_t)frames) {
            idx[t] = KD_MIN((size_t)t, n - 1);
        } else {
            idx[t] = t == frames - 1 ? n - 1 : (size_t)((double)t * step);
        }
    }
}

typedef struct source {
    const kd_skeleton *s;
    cast people;
    uint8_t joint[KD_LAYOUT_JOINTS]; /* of the file, that is joint v */
} source;

/* Joint v between two bodies, or of `a` alone.  A joint that one of them lacks is that of the nearer body. */
static void put_joint(const kdi_frames *f, const source *from, int v, const kd_skel_body *a, const kd_skel_body *b,
                      float w, float p[3])
{
    const float *pa = a->xyz[from->joint[v]], *pb = b != NULL ? b->xyz[from->joint[v]] : pa;
    const float *nearer = w > 0.5f ? pb : pa;
    const bool apart = f->scored && (!(pa[2] > 0.0f) || !(pb[2] > 0.0f));
    for (int c = 0; c < 3; c++) {
        p[c] = apart ? nearer[c] : b == NULL || w == 0.0f ? pa[c] : pa[c] + (pb[c] - pa[c]) * w;
    }
    if (f->scored && !(p[2] > 0.0f)) {
        p[0] = p[1] = p[2] = 0.0f;
    }
}

static void put_body(const kdi_frames *f, const source *from, float *x, int t, int m, const kd_skel_body *a,
                     const kd_skel_body *b, float w)
{
    for (int v = 0; v < f->l->joints; v++) {
        float p[3];
        put_joint(f, from, v, a, b, w, p);
        for (int c = 0; c < 3; c++) {
            x[kdi_at(f, c, t, v, m)] = p[c];
        }
    }
}

static void resample_linear(const kdi_frames *f, const source *from, float *x)
{
    const kd_skeleton *s = from->s;
    const double step = (double)(s->frames - 1) / (double)(f->k->frames - 1);
    for (int t = 0; t < f->k->frames; t++) {
        const double pos = t == f->k->frames - 1 ? (double)(s->frames - 1) : (double)t * step;
        const size_t lo = (size_t)pos, hi = KD_MIN(lo + 1, s->frames - 1);
        const float w = (float)(pos - (double)lo);
        for (int m = 0; m < f->k->max_bodies; m++) {
            const kd_skel_body *a = body_at(s, &from->people, lo, m), *b = body_at(s, &from->people, hi, m);
            const kd_skel_body *nearer = w > 0.5f ? b : a;
            if (a != NULL && b != NULL) {
                put_body(f, from, x, t, m, a, b, w);
            } else if (nearer != NULL) {
                put_body(f, from, x, t, m, nearer, NULL, 0.0f);
            }
        }
    }
}

static void resample_pad(const kdi_frames *f, const source *from, float *x)
{
    size_t idx[1024]; /* skeleton.frames is at most that */
    KD_ASSERT(f->k->frames >= 2 && (size_t)f->k->frames <= KD_COUNTOF(idx));
    kd_sequence_index(from->s->frames, f->k->frames, idx);
    for (int t = 0; t < f->k->frames; t++) {
        for (int m = 0; m < f->k->max_bodies; m++) {
            const kd_skel_body *b = body_at(from->s, &from->people, idx[t], m);
            if (b != NULL) {
                put_body(f, from, x, t, m, b, NULL, 0.0f);
            }
        }
    }
}

/* The joints of the skeleton are those that the spec expects. */
static kd_status choose_joints(const kd_sequence_spec *spec, const kd_skeleton *skel, source *from, kd_err *err)
{
    const kd_layout *file = file_layout(spec), *l = kd_sequence_layout(spec);
    if (skel->joints != file->joints) {
        return KD_FAIL(err, KD_E_DATA, "expected %d joints (layout %s), found %d", file->joints, file->name,
                       skel->joints);
    }
    if (skel->scored != kdi_frames_of(spec).scored) {
        return KD_FAIL(err, KD_E_DATA, "expected joints of %s (skeleton.channels), found %s",
                       kdi_frames_of(spec).scored ? "x, y and a confidence" : "x, y and z",
                       skel->scored ? "x, y and a confidence" : "x, y and z");
    }
    if (spec->file_layout.joints > 0) {
        return kd_layout_map(file, l, from->joint, err);
    }
    for (int v = 0; v < l->joints; v++) {
        from->joint[v] = (uint8_t)v;
    }
    return KD_OK;
}

size_t kd_sequence_scratch(size_t n_bodies)
{
    return (n_bodies + 1) * sizeof(seen);
}

kd_status kd_sequence_make_in(const kd_sequence_spec *spec, const kd_skeleton *skel, void *scratch, float *x,
                              kd_err *err)
{
    if (skel->frames == 0 || skel->n_bodies == 0) {
        return KD_FAIL(err, KD_E_DATA, "no frame of %zu has a body", skel->frames);
    }
    const kdi_frames f = kdi_frames_of(spec);
    source from = {.s = skel, .people = {.tracked = f.k->bodies == KD_BODIES_TRACKED}};
    KD_TRY(choose_joints(spec, skel, &from, err));
    if (from.people.tracked) {
        choose_people(skel, f.k->max_bodies, scratch, &from.people);
    }
    memset(x, 0, (size_t)3 * (size_t)f.k->frames * (size_t)f.l->joints * (size_t)f.k->max_bodies * sizeof *x);
    if (f.k->resample == KD_RESAMPLE_LINEAR) {
        resample_linear(&f, &from, x);
    } else {
        resample_pad(&f, &from, x);
    }
    kd_sequence_normalize(spec, x);
    return KD_OK;
}

kd_status kd_sequence_make(const kd_sequence_spec *spec, const kd_skeleton *skel, float *x, kd_err *err)
{
    void *scratch = kd_alloc(kd_sequence_scratch(skel->n_bodies));
    if (scratch == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory for %zu bodies", skel->n_bodies);
    }
    const kd_status st = kd_sequence_make_in(spec, skel, scratch, x, err);
    kd_free(scratch);
    return st;
}
