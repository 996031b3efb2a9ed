/* CTR-GCN's denoising: see denoise.h. */
#include "formats/skeleton/denoise.h"

#include <inttypes.h>

enum { NOISE_LENGTH = 11, ACTORS = 2, PERSONS_MAX = 4096 };
static const double NOISE_WIDTH = 0.8, NOISE_SHARE = 0.69754;

/* A body id and all its joints. */
typedef struct person {
    uint64_t id;
    size_t start, frames; /* in frames that have a body */
    size_t at;            /* of `joints`: where its bodies begin */
    double motion;
    bool noise;
} person;

typedef struct scene {
    const kd_skeleton *s;
    person *person; /* [n], in the order of appearance */
    size_t n;
    const kd_skel_body **body; /* of all persons, one after another */
    size_t frames;             /* that have a body */
} scene;

/* ---- persons --------------------------------------------------------------------------------- */

static person *find(scene *c, uint64_t id)
{
    for (size_t i = 0; i < c->n; i++) {
        if (c->person[i].id == id) {
            return &c->person[i];
        }
    }
    return NULL;
}

static kd_status gather(scene *c, kd_err *err)
{
    const kd_skeleton *s = c->s;
    c->person = kd_calloc(s->n_bodies, sizeof *c->person);
    c->body = kd_calloc(s->n_bodies, sizeof(const kd_skel_body *));
    if (c->person == NULL || c->body == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory for %zu bodies", s->n_bodies);
    }
    for (size_t t = 0; t < s->frames; t++) {
        for (uint32_t b = s->first[t]; b < s->first[t + 1]; b++) {
            person *p = find(c, s->body[b].id);
            if (p == NULL && c->n == PERSONS_MAX) {
                return KD_FAIL(err, KD_E_DATA, "expected at most %d bodies by id, found more", PERSONS_MAX);
            }
            if (p == NULL) {
                p = &c->person[c->n++];
                *p = (person){.id = s->body[b].id, .start = c->frames};
            }
            p->frames++;
        }
        c->frames += s->first[t] != s->first[t + 1];
    }
    for (size_t i = 0, at = 0; i < c->n; i++) {
        person *p = &c->person[i];
        if (p->start + p->frames > c->frames) {
            return KD_FAIL(err, KD_E_DATA, "body %" PRIu64 " is there twice in a frame", p->id);
        }
        p->at = at;
        at += p->frames;
        p->frames = 0;
    }
    for (size_t b = 0; b < s->n_bodies; b++) {
        person *p = find(c, s->body[b].id);
        c->body[p->at + p->frames++] = &s->body[b];
    }
    return KD_OK;
}

/* ---- noise ----------------------------------------------------------------------------------- */

static double span(const kd_skel_body *b, int joints, int axis)
{
    float lo = b->xyz[0][axis], hi = lo;
    for (int v = 1; v < joints; v++) {
        lo = KD_MIN(lo, b->xyz[v][axis]);
        hi = KD_MAX(hi, b->xyz[v][axis]);
    }
    return (double)(hi - lo);
}

static bool noisy(const kd_skel_body *b, int joints)
{
    return span(b, joints, 0) > NOISE_WIDTH * span(b, joints, 1);
}

/* quiet: of the frames alone that are not noisy. */
static double motion_of(const scene *c, const person *p, bool quiet)
{
    const int joints = c->s->joints;
    double sum = 0.0;
    for (int axis = 0; axis < 3; axis++) {
        double mean = 0.0, square = 0.0;
        size_t n = 0;
        for (int pass = 0; pass < 2; pass++) {
            for (size_t i = 0; i < p->frames; i++) {
                const kd_skel_body *b = c->body[p->at + i];
                if (quiet && noisy(b, joints)) {
                    continue;
                }
                for (int v = 0; v < joints; v++) {
                    const double x = (double)b->xyz[v][axis];
                    mean += pass == 0 ? x : 0.0;
                    square += pass == 1 ? (x - mean) * (x - mean) : 0.0;
                    n += pass == 0;
                }
            }
            mean = pass == 0 ? mean / (double)n : mean;
        }
        sum += square / (double)n;
    }
    return sum;
}

static size_t left(const scene *c)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n; i++) {
        n += !c->person[i].noise;
    }
    return n;
}

static void judge_spread(scene *c, person *p)
{
    size_t bad = 0;
    for (size_t i = 0; i < p->frames; i++) {
        bad += noisy(c->body[p->at + i], c->s->joints);
    }
    if (bad > 0 && (double)bad / (double)p->frames >= NOISE_SHARE) {
        p->noise = true;
    } else if (bad > 0) {
        p->motion = KD_MIN(p->motion, motion_of(c, p, true));
    }
}

static void judge(scene *c)
{
    for (size_t i = 0; i < c->n; i++) {
        c->person[i].motion = motion_of(c, &c->person[i], false);
        c->person[i].noise = c->person[i].frames <= NOISE_LENGTH;
    }
    for (size_t i = 0; i < c->n && left(c) > 1; i++) {
        if (!c->person[i].noise) {
            judge_spread(c, &c->person[i]);
        }
    }
}

/* ---- actors ---------------------------------------------------------------------------------- */

/* The next person by falling motion; of equals, the one seen first.  NULL: all were taken. */
static person *next_person(scene *c)
{
    person *best = NULL;
    for (size_t i = 0; i < c->n; i++) {
        person *p = &c->person[i];
        if (!p->noise && (best == NULL || p->motion > best->motion)) {
            best = p;
        }
    }
    return best;
}

/* What an actor has so far: frames start to end, the last one included; a new actor's is [0, 0], as in the
 * reference. */
typedef struct interval {
    int64_t start, end;
} interval;

static void cast_actors(scene *c, const kd_skel_body **slot)
{
    interval has[ACTORS] = {{0, 0}, {0, 0}};
    bool first = true;
    for (person *p = next_person(c); p != NULL; p = next_person(c)) {
        const interval own = {(int64_t)p->start, (int64_t)(p->start + p->frames) - 1};
        int a = 0;
        while (!first && a < ACTORS && KD_MIN(has[a].end, own.end) - KD_MAX(has[a].start, own.start) > 0) {
            a++;
        }
        if (a < ACTORS) {
            has[a].start = first ? own.start : KD_MIN(own.start, has[a].start);
            has[a].end = first ? own.end : KD_MAX(own.end, has[a].end);
            for (size_t i = 0; i < p->frames; i++) {
                slot[(p->start + i) * ACTORS + (size_t)a] = c->body[p->at + i];
            }
        }
        first = false;
        p->noise = true; /* taken */
    }
}

static bool seen(const kd_skel_body *b)
{
    return b != NULL && !kd_skel_body_is_zero(b);
}

static kd_status write_actors(const scene *c, const kd_skel_body *const *slot, kd_skeleton *out, kd_err *err)
{
    kd_skeleton s = {0};
    size_t frames = 0, n = 0;
    KD_TRY(kd_skeleton_alloc(c->frames, ACTORS * c->frames, &s, err));
    for (size_t t = 0; t < c->frames; t++) {
        const kd_skel_body *const *b = slot + t * ACTORS;
        if (c->n > 1 && !seen(b[0]) && !seen(b[1])) {
            continue;
        }
        s.first[frames++] = (uint32_t)n;
        for (int a = 0; a < (seen(b[1]) ? ACTORS : 1); a++) {
            s.body[n] = b[a] != NULL ? *b[a] : (kd_skel_body){.id = 0};
            s.body[n++].id = (uint64_t)a;
        }
    }
    s.first[frames] = (uint32_t)n;
    s.frames = frames;
    s.n_bodies = n;
    s.joints = c->s->joints;
    s.scored = c->s->scored;
    *out = s;
    return KD_OK;
}

kd_status kd_skeleton_denoise(kd_skeleton *s, kd_err *err)
{
    scene c = {.s = s};
    const kd_skel_body **slot = NULL;
    kd_skeleton out = {0};
    kd_status st;
    KD_GO(gather(&c, err));
    if (c.n > 1) {
        judge(&c);
    }
    if (left(&c) == 0) {
        st = KD_FAIL(err, KD_E_DATA, "no body: expected a body of more than %d frames, found %zu shorter ones",
                     NOISE_LENGTH, c.n);
        goto done;
    }
    slot = kd_calloc(ACTORS * c.frames, sizeof(const kd_skel_body *));
    if (slot == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "no memory for %zu frames", c.frames);
        goto done;
    }
    cast_actors(&c, slot);
    KD_GO(write_actors(&c, slot, &out, err));
    kd_skeleton_free(s);
    *s = out;
done:
    kd_free(slot);
    kd_free(c.person);
    kd_free(c.body);
    return st;
}
