/* liblast: frames and results. */
#include "student/stream/last_state.h"

#include <math.h>
#include <stdio.h>

/* ---- failures -------------------------------------------------------------------------------- */

/* The message is that of the last failure, not of the first as elsewhere. */
static kd_err *fresh(kd_last *l)
{
    l->err.code = KD_OK;
    return &l->err;
}

const char *kd_last_message(const kd_last *l)
{
    return l->err.msg;
}

/* ---- frames ---------------------------------------------------------------------------------- */

typedef struct frame {
    const float *joints;
    int bodies;
    const uint64_t *id;
    const uint8_t *present;
} frame;

static bool is_there(const frame *f, int m)
{
    return f->present == NULL || f->present[m] != 0;
}

static kd_status check_frame(const kd_last *l, const frame *f, kd_err *err)
{
    const int joints = l->joints;
    if (f->bodies < 0 || f->bodies > l->most_bodies) {
        return KD_FAIL(err, KD_E_ARG, "a frame of %d bodies: expected 0 to %d (max_bodies)", f->bodies, l->most_bodies);
    }
    for (int m = 0; m < f->bodies; m++) {
        const float *p = f->joints + (size_t)m * (size_t)joints * 3;
        for (int i = 0; i < joints * 3 && is_there(f, m); i++) {
            if (!isfinite(p[i])) {
                return KD_FAIL(err, KD_E_DATA, "body %d, joint %d: expected a finite %c, found %g", m, i / 3,
                               "xyz"[i % 3], (double)p[i]);
            }
        }
    }
    return KD_OK;
}

/* Behind the others of the reel.  A body keeps its place: before one that is there, an absent body of a recipe that
 * goes by places is a body of zeros; of a recipe that follows people it is left out. */
static void append(const kd_last *l, kd_reel *r, const frame *f)
{
    const int t = r->start + r->n++;
    const bool tracked = l->recipe.skeleton.bodies == KD_BODIES_TRACKED;
    uint32_t at = r->first[t];
    uint32_t end = at;
    for (int m = 0; m < f->bodies; m++) {
        if (!is_there(f, m) && tracked) {
            continue;
        }
        kd_skel_body *b = &r->body[at++];
        b->id = f->id != NULL ? f->id[m] : (uint64_t)m;
        memset(b->xyz, 0, sizeof b->xyz);
        if (is_there(f, m)) {
            const size_t n = (size_t)l->joints * 3;
            memcpy(b->xyz, f->joints + (size_t)m * n, n * sizeof(float));
            end = at;
        }
    }
    r->first[t + 1] = end;
}

/* The frames in use go to the front. */
static void rewind_reel(kd_reel *r)
{
    const uint32_t before = r->first[r->start];
    memmove(r->body, r->body + before, (r->first[r->start + r->n] - before) * sizeof *r->body);
    for (int t = 0; t <= r->n; t++) {
        r->first[t] = r->first[r->start + t] - before;
    }
    r->start = 0;
}

int kd_last_push(kd_last *l, const float *joints, int bodies, const uint64_t *id, const uint8_t *present)
{
    kd_reel *r = &l->pushed;
    const frame f = {joints, bodies, id, present};
    const kd_status st = check_frame(l, &f, fresh(l));
    if (st != KD_OK) {
        return (int)st;
    }
    if (r->n == l->window) {
        r->start++;
        r->n--;
    }
    if (r->start + r->n == r->frames) {
        rewind_reel(r);
    }
    append(l, r, &f);
    return KD_LAST_OK;
}

int kd_last_pushed(const kd_last *l)
{
    return l->pushed.n;
}

void kd_last_reset(kd_last *l)
{
    l->pushed.start = 0;
    l->pushed.n = 0;
}

/* ---- results --------------------------------------------------------------------------------- */

static kd_status probabilities(kd_last *l, kd_err *err)
{
    const int n = l->model.classes;
    double top = -INFINITY, sum = 0.0;
    for (int i = 0; i < n; i++) {
        if (!isfinite(l->logits[i])) {
            return KD_FAIL(err, KD_E_NUMERIC, "expected finite logits, the student gave %g for class %d",
                           (double)l->logits[i], i);
        }
        top = fmax(top, (double)l->logits[i]);
    }
    for (int i = 0; i < n; i++) {
        sum += exp(((double)l->logits[i] - top) / l->recipe.temperature);
    }
    for (int i = 0; i < n; i++) {
        l->prob[i] = (float)(exp(((double)l->logits[i] - top) / l->recipe.temperature) / sum);
    }
    return KD_OK;
}

static kd_status run_reel(kd_last *l, kd_reel *r, kd_err *err)
{
    l->done = false;
    if (r->n == 0) {
        return KD_FAIL(err, KD_E_STATE, "no frame was pushed yet");
    }
    rewind_reel(r);
    const kd_skeleton s = {.frames = (size_t)r->n,
                           .joints = l->joints,
                           .scored = l->spec.skeleton.channels == KD_CHANNELS_XY_SCORE,
                           .n_bodies = r->first[r->n],
                           .first = r->first,
                           .body = r->body};
    KD_TRY(kd_sequence_make_in(&l->spec, &s, l->scratch, l->x, err));
    kd_sequence_streams(&l->spec, NULL, l->x, l->bits, l->stream);
    const kd_status st = kd_program_run(l->program, NULL);
    if (st != KD_OK) {
        return KD_FAIL(err, st, "forward pass failed in %s", kd_program_where(l->program));
    }
    KD_TRY(kd_program_read_f32(l->program, "logits", l->logits, l->model.classes));
    KD_TRY(probabilities(l, err));
    l->done = true;
    return KD_OK;
}

int kd_last_run(kd_last *l)
{
    return (int)run_reel(l, &l->pushed, fresh(l));
}

int kd_last_classify(kd_last *l, const float *joints, int frames, int bodies, const uint64_t *id,
                     const uint8_t *present)
{
    kd_reel *r = &l->sequence;
    kd_err *err = fresh(l);
    l->done = false;
    r->start = 0;
    r->n = 0;
    if (frames < 1 || frames > r->frames) {
        return (int)KD_FAIL(err, KD_E_ARG, "a sequence of %d frames: expected 1 to %d (max_frames)", frames, r->frames);
    }
    for (int t = 0; t < frames; t++) {
        const size_t at = (size_t)t * (size_t)KD_MAX(bodies, 0);
        const frame f = {joints + at * (size_t)l->joints * 3, bodies, id != NULL ? id + at : NULL,
                         present != NULL ? present + at : NULL};
        const kd_status st = check_frame(l, &f, err);
        if (st != KD_OK) {
            return (int)kd_err_prefix(err, st, "frame %d", t);
        }
        append(l, r, &f);
    }
    return (int)run_reel(l, r, err);
}

const float *kd_last_logits(const kd_last *l)
{
    return l->done ? l->logits : NULL;
}

const float *kd_last_probabilities(const kd_last *l)
{
    return l->done ? l->prob : NULL;
}

int kd_last_best(const kd_last *l)
{
    int best = 0;
    for (int i = 1; i < l->model.classes; i++) {
        best = l->logits[i] > l->logits[best] ? i : best;
    }
    return l->done ? best : -1;
}

/* Does class a stand before class b? */
static bool before(const kd_last *l, int a, int b)
{
    return l->logits[a] > l->logits[b] || (l->logits[a] == l->logits[b] && a < b);
}

int kd_last_top(kd_last *l, int k, int *classes, float *prob)
{
    kd_err *err = fresh(l);
    if (!l->done) {
        return (int)KD_FAIL(err, KD_E_STATE, "there is no result yet");
    }
    if (k < 1 || k > l->model.classes) {
        return (int)KD_FAIL(err, KD_E_ARG, "the %d likeliest classes: expected 1 to %d", k, l->model.classes);
    }
    for (int i = 0, n = 0; i < l->model.classes; i++) { /* insertion into the k best so far */
        int at = n;
        while (at > 0 && before(l, i, classes[at - 1])) {
            at--;
        }
        if (at == k) {
            continue;
        }
        n = KD_MIN(n + 1, k);
        memmove(&classes[at + 1], &classes[at], (size_t)(n - 1 - at) * sizeof *classes);
        classes[at] = i;
    }
    for (int i = 0; i < k && prob != NULL; i++) {
        prob[i] = l->prob[classes[i]];
    }
    return KD_LAST_OK;
}

/* ---- what the student is --------------------------------------------------------------------- */

const char *kd_last_student(const kd_last *l)
{
    return l->model.model->name;
}

int kd_last_classes(const kd_last *l)
{
    return l->model.classes;
}

const char *kd_last_class_name(const kd_last *l, int i)
{
    return i >= 0 && i < l->model.classes ? l->name[i] : NULL;
}

int kd_last_joints(const kd_last *l)
{
    return l->joints;
}

int kd_last_channels(const kd_last *l)
{
    (void)l;
    return 3;
}

int kd_last_bodies(const kd_last *l)
{
    return l->model.bodies;
}

int kd_last_frames(const kd_last *l)
{
    return l->model.frames;
}

int kd_last_window(const kd_last *l)
{
    return l->window;
}

int kd_last_streams(const kd_last *l)
{
    return l->model.model->n_streams;
}

const char *kd_last_stream_name(const kd_last *l, int i)
{
    return i >= 0 && i < l->model.model->n_streams ? kd_student_stream(l->model.model, l->recipe.student.stream, i)
                                                   : NULL;
}

const char *kd_last_version(void)
{
    return kd_version();
}
