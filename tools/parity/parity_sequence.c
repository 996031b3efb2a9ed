/* Parity of skeleton sequences: length, both normalisations, streams, the augmentations one after the other. */
#include "student/skeleton/sequence.h"
#include "tools/parity/parity.h"

#include <stdio.h>

enum { FRAMES = 64, JOINTS = 25, BODIES = 2, STREAMS = 3, CELLS = 3 * FRAMES * JOINTS * BODIES, MOST_FRAMES = 4096 };

#define DISTANCE 3.0f /* of the recordings from the camera, by the fixtures' README */

typedef struct buffers {
    float x[CELLS], out[STREAMS][CELLS];
} buffers;

static kd_skeleton_opts rule(char which)
{
    const bool first = which == 'B';
    return (kd_skeleton_opts){.frames = FRAMES,
                              .max_bodies = BODIES,
                              .normalize = first ? KD_NORM_FIRST_FRAME : KD_NORM_CENTER_SPINE,
                              .yaw = first ? KD_YAW_REFERENCE : KD_YAW_NONE,
                              .bone_scale = true};
}

/* raw (frames,25,3,2) as a recording; a second body that is zero throughout is not there. */
static kd_status recording(const double *raw, size_t frames, kd_skeleton *s, kd_err *err)
{
    size_t bodies = 1;
    for (size_t i = 1; i < frames * JOINTS * 3 * BODIES; i += BODIES) {
        bodies = raw[i] != 0.0 ? BODIES : bodies;
    }
    KD_TRY(kd_skeleton_alloc(frames, frames * bodies, s, err));
    for (size_t b = 0; b < frames * bodies; b++) {
        const size_t t = b / bodies, m = b % bodies;
        s->first[t + 1] = (uint32_t)((t + 1) * bodies);
        s->body[b].id = 1 + m;
        for (size_t i = 0; i < (size_t)JOINTS * 3; i++) {
            s->body[b].xyz[i / 3][i % 3] = (float)raw[(t * JOINTS * 3 + i) * BODIES + m];
        }
    }
    return KD_OK;
}

/* The recording called `name`; its numbers are checked against the generator first. */
static kd_status load(parity *p, const kd_st_file *f, const char *name, kd_skeleton *s, kd_err *err)
{
    const kd_json *c = kd_json_get(kd_json_get(p->manifest, "cases"), name), *from = kd_json_get(c, "raw");
    const char *generator = NULL;
    char key[96];
    int64_t frames = 0, ko = 0, ks = 0;
    double *raw = NULL;
    KD_TRY(kd_json_get_range(c, "t_raw", 1, MOST_FRAMES, &frames, err));
    KD_TRY(kd_json_get_str(from, "name", &generator, err));
    KD_TRY(kd_json_get_range(from, "ko", -1048576, 1048576, &ko, err));
    KD_TRY(kd_json_get_range(from, "ks", -1048576, 1048576, &ks, err));
    const size_t n = (size_t)frames * JOINTS * 3 * BODIES;
    float *drawn = kd_alloc(n * sizeof *drawn);
    if (drawn == NULL) {
        return KD_FAIL(err, KD_E_OOM, "parity: out of memory");
    }
    kd_status st = KD_OK;
    (void)snprintf(key, sizeof key, "%s.raw", name);
    KD_GO(kd_parity_tensor(f, key, n, &raw, err));
    kd_parity_fill_last(generator, ko, ks, drawn, n);
    bool same = true;
    for (size_t i = 0; i < n; i++) {
        const float want = drawn[i] + (i / BODIES % 3 == 2 ? DISTANCE : 0.0f);
        same = same && ((double)want == raw[i] || (i % BODIES == 1 && raw[i] == 0.0));
    }
    kd_parity_check(p, key, same, NULL);
    st = recording(raw, (size_t)frames, s, err);
done:
    kd_free(drawn);
    kd_free(raw);
    return st;
}

static kd_status compare(parity *p, const kd_st_file *f, const char *name, const float *got, kd_err *err)
{
    double *want = NULL;
    KD_TRY(kd_parity_tensor(f, name, CELLS, &want, err));
    kd_parity_f32(p, name, got, want, CELLS, 0.0);
    kd_free(want);
    return KD_OK;
}

static void streams(const kd_skeleton_opts *k, const kd_sequence_draw *d, buffers *b)
{
    const kd_sequence_spec spec = {.skeleton = *k, .aug = {.scale = {1, 1}, .speed = {1, 1}}};
    float *dst[STREAMS] = {b->out[0], b->out[1], b->out[2]};
    kd_sequence_streams(&spec, d, b->x, KD_STREAM_JOINT | KD_STREAM_VELOCITY | KD_STREAM_BONE, dst);
}

static kd_status compare_case(parity *p, const kd_st_file *f, const char *name, buffers *b, kd_err *err)
{
    static const char *const stream[STREAMS] = {"joint", "velocity", "bone"};
    char key[96];
    kd_skeleton s = {0};
    int64_t *index = NULL;
    kd_status st = KD_OK;
    KD_GO(load(p, f, name, &s, err));
    for (const char *which = "AB"; *which != '\0'; which++) {
        const kd_skeleton_opts k = rule(*which);
        KD_GO(kd_sequence_make(&(kd_sequence_spec){.skeleton = k}, &s, b->x, err));
        streams(&k, NULL, b);
        for (int i = 0; i < STREAMS; i++) {
            (void)snprintf(key, sizeof key, "%s.%c.%s", name, *which, stream[i]);
            KD_GO(compare(p, f, key, b->out[i], err));
        }
    }
    (void)snprintf(key, sizeof key, "%s.index", name);
    if (kd_st_find(f, key) != NULL) {
        size_t have[FRAMES];
        bool same = true;
        KD_GO(kd_parity_ints(f, key, FRAMES, &index, err));
        kd_sequence_index(s.frames, FRAMES, have);
        for (int i = 0; i < FRAMES; i++) {
            same = same && (int64_t)have[i] == index[i];
        }
        kd_parity_check(p, key, same, NULL);
    }
done:
    kd_free(index);
    kd_skeleton_free(&s);
    return st;
}

/* The reference's order: rotation, scale and shear, mirror, speed, mask; each item adds one. */
static kd_status compare_augmented(parity *p, const kd_st_file *f, buffers *b, kd_err *err)
{
    const kd_json *aug = kd_json_get(p->manifest, "aug");
    const char *source = NULL;
    char name[64];
    int64_t length = 0, start = 0, masked[2];
    double scale = 0.0, shear = 0.0;
    kd_sequence_draw d = {.scale = 1.0};
    kd_skeleton s = {0};
    KD_TRY(kd_json_get_str(aug, "source", &source, err));
    KD_TRY(kd_json_get_f64(aug, "angle_deg", &d.angle_deg, err));
    KD_TRY(kd_json_get_f64(aug, "scale", &scale, err));
    KD_TRY(kd_json_get_f64(aug, "shear", &shear, err));
    KD_TRY(kd_json_get_range(aug, "T_sub", 1, FRAMES, &length, err));
    KD_TRY(kd_json_get_range(aug, "start", 0, FRAMES - length, &start, err));
    KD_TRY(kd_json_get_i64s(aug, "mask", masked, KD_COUNTOF(masked), err));
    (void)snprintf(name, sizeof name, "%.*s", (int)strcspn(source, "."), source);
    kd_status st = KD_OK;
    if (strncmp(source + strlen(name), ".A.joint", 9) != 0) {
        return KD_FAIL(err, KD_E_DATA, "aug.source: expected NAME.A.joint, found %s", source);
    }
    for (size_t i = 0; i < KD_COUNTOF(masked); i++) {
        if (masked[i] < 0 || masked[i] >= JOINTS) {
            return KD_FAIL(err, KD_E_DATA, "aug.mask: joint %lld of %d", (long long)masked[i], JOINTS);
        }
    }
    const kd_skeleton_opts k = rule('A');
    KD_GO(load(p, f, name, &s, err));
    KD_GO(kd_sequence_make(&(kd_sequence_spec){.skeleton = k}, &s, b->x, err));
    static const char *const step[] = {"aug.rot", "aug.rot_scale_shear", "aug.plus_flip", "aug.plus_speed",
                                       "aug.plus_mask"};
    for (size_t i = 0; i < KD_COUNTOF(step); i++) {
        d.scale = i >= 1 ? scale : 1.0;
        d.shear = i >= 1 ? shear : 0.0;
        d.flip = i >= 2;
        d.speed_frames = i >= 3 ? (int)length : 0;
        d.speed_start = i >= 3 ? (int)start : 0;
        d.masked = i >= 4 ? 1u << masked[0] | 1u << masked[1] : 0;
        streams(&k, &d, b);
        KD_GO(compare(p, f, step[i], b->out[0], err));
    }
done:
    kd_skeleton_free(&s);
    return st;
}

kd_status kd_parity_sequence(parity *p, kd_err *err)
{
    const kd_json *cases = kd_json_get(p->manifest, "cases");
    kd_st_file *f = NULL;
    buffers *b = kd_calloc(1, sizeof *b);
    kd_status st = KD_OK;
    if (b == NULL) {
        return KD_FAIL(err, KD_E_OOM, "parity: out of memory");
    }
    KD_GO(kd_parity_open(p, "aug.rot", &f, err));
    for (size_t i = 0; i < kd_json_count(cases); i++) {
        KD_GO(compare_case(p, f, kd_json_key(kd_json_at(cases, i)), b, err));
    }
    KD_GO(compare_augmented(p, f, b, err));
done:
    kd_st_close(f);
    kd_free(b);
    return st;
}
