/* Writing `.skeleton` text: see skeleton_file.h. */
#include "formats/base/io.h"
#include "formats/skeleton/skeleton_file.h"

#include <math.h>
#include <stdio.h>

/* longest texts: 12 fields of up to 16 characters; 20-digit ids; counts */
#define JOINT_BYTES_MAX 224u
#define BODY_BYTES_MAX  96u /* without its joints */
#define FRAME_BYTES_MAX 16u

/* Nominal Kinect v2 intrinsics: focal length and centre in pixels of the 512x424 depth and
 * 1920x1080 colour picture. Real sensors differ by some pixels; these columns are for drawing, no
 * model reads them. */
static const struct {
    double f, cx, cy;
} depth_camera = {365.5, 256.0, 212.0}, colour_camera = {1060.0, 960.0, 540.0};

void kd_skeleton_project(const float xyz[3], float *colour_x, float *colour_y)
{
    const double z = (double)xyz[2];
    *colour_x = z > 0.0 ? (float)(colour_camera.cx + colour_camera.f * (double)xyz[0] / z) : 0.0f;
    *colour_y = z > 0.0 ? (float)(colour_camera.cy - colour_camera.f * (double)xyz[1] / z) : 0.0f;
}

/* snprintf follows the locale's decimal point: put back the dot, the only thing that differs. */
static size_t put(char *text, size_t room, const char *fmt, double v)
{
    const int n = snprintf(text, room, fmt, v);
    KD_ASSERT(n > 0 && (size_t)n < room);
    for (int i = 0; i < n; i++) {
        if (text[i] == ',') {
            text[i] = '.';
        }
    }
    return (size_t)n;
}

static size_t put_joint(char *text, const kd_skel_body *b, size_t j)
{
    const double z = (double)b->xyz[j][2];
    const double x_z = z > 0.0 ? (double)b->xyz[j][0] / z : 0.0;
    const double y_z = z > 0.0 ? (double)b->xyz[j][1] / z : 0.0;
    const double pixel[4] = {depth_camera.cx + depth_camera.f * x_z, depth_camera.cy - depth_camera.f * y_z,
                             colour_camera.cx + colour_camera.f * x_z, colour_camera.cy - colour_camera.f * y_z};
    size_t n = 0;
    for (int k = 0; k < 3; k++) {
        n += put(text + n, JOINT_BYTES_MAX - n, "%.9g ", (double)b->xyz[j][k]);
    }
    for (int k = 0; k < 4; k++) {
        n += put(text + n, JOINT_BYTES_MAX - n, "%.7g ", z > 0.0 ? pixel[k] : 0.0);
    }
    const int tail = snprintf(text + n, JOINT_BYTES_MAX - n, "0 0 0 0 %u\n", (unsigned)b->tracking[j]);
    return n + (size_t)tail;
}

static kd_status check(const kd_skeleton *s, kd_err *err)
{
    if (s->frames == 0 || s->frames > KD_SKEL_MAX_FRAMES) {
        return KD_FAIL(err, KD_E_ARG, "skeleton: expected 1 to %d frames, found %zu", KD_SKEL_MAX_FRAMES, s->frames);
    }
    if (s->joints < 1 || s->joints > KD_SKEL_MAX_JOINTS || s->scored) {
        return KD_FAIL(err, KD_E_ARG, "skeleton: expected x, y, z of 1 to %d joints, found %s of %d",
                       KD_SKEL_MAX_JOINTS, s->scored ? "x, y, confidence" : "x, y, z", s->joints);
    }
    for (size_t t = 0; t < s->frames; t++) {
        if (s->first[t] > s->first[t + 1] || s->first[t + 1] > s->n_bodies ||
            s->first[t + 1] - s->first[t] > KD_SKEL_MAX_BODIES) {
            return KD_FAIL(err, KD_E_ARG, "skeleton: frame %zu holds bodies %u to %u of %zu", t, s->first[t],
                           s->first[t + 1], s->n_bodies);
        }
    }
    for (size_t i = 0; i < s->n_bodies; i++) {
        for (size_t j = 0; j < (size_t)s->joints; j++) {
            for (int k = 0; k < 3; k++) {
                if (!(fabsf(s->body[i].xyz[j][k]) <= KD_SKEL_MAX_METRES)) {
                    return KD_FAIL(err, KD_E_NUMERIC, "skeleton: body %zu joint %zu is not within %g m", i, j,
                                   (double)KD_SKEL_MAX_METRES);
                }
            }
            if (s->body[i].tracking[j] > 2) {
                return KD_FAIL(err, KD_E_ARG, "skeleton: body %zu joint %zu has tracking state %u", i, j,
                               (unsigned)s->body[i].tracking[j]);
            }
        }
    }
    return KD_OK;
}

kd_status kd_skeleton_alloc(size_t frames, size_t n_bodies, kd_skeleton *out, kd_err *err)
{
    *out = (kd_skeleton){.frames = frames, .joints = KD_SKEL_JOINTS, .n_bodies = n_bodies};
    if (frames == 0 || frames > KD_SKEL_MAX_FRAMES || n_bodies > frames * KD_SKEL_MAX_BODIES) {
        *out = (kd_skeleton){0};
        return KD_FAIL(err, KD_E_ARG, "skeleton: %zu frames with %zu bodies are beyond the limits", frames, n_bodies);
    }
    out->first = kd_calloc(frames + 1, sizeof *out->first);
    out->body = n_bodies != 0 ? kd_calloc(n_bodies, sizeof *out->body) : NULL;
    if (out->first == NULL || (n_bodies != 0 && out->body == NULL)) {
        kd_skeleton_free(out);
        return KD_FAIL(err, KD_E_OOM, "skeleton: no memory for %zu frames with %zu bodies", frames, n_bodies);
    }
    return KD_OK;
}

kd_status kd_skeleton_format(const kd_skeleton *s, char **text, size_t *len, kd_err *err)
{
    KD_TRY(check(s, err));
    const size_t body = BODY_BYTES_MAX + (size_t)s->joints * JOINT_BYTES_MAX;
    const size_t room = 32 + s->frames * FRAME_BYTES_MAX + s->n_bodies * body; /* within limits */
    char *out = kd_alloc(room);
    if (out == NULL) {
        return KD_FAIL(err, KD_E_OOM, "skeleton: no memory for %zu bytes of text", room);
    }
    size_t n = (size_t)snprintf(out, room, "%zu\n", s->frames);
    for (size_t t = 0; t < s->frames; t++) {
        n += (size_t)snprintf(out + n, room - n, "%u\n", s->first[t + 1] - s->first[t]);
        for (size_t b = s->first[t]; b < s->first[t + 1]; b++) {
            n += (size_t)snprintf(out + n, room - n, "%llu 0 1 1 1 1 0 0 0 2\n%d\n", (unsigned long long)s->body[b].id,
                                  s->joints);
            for (size_t j = 0; j < (size_t)s->joints; j++) {
                n += put_joint(out + n, &s->body[b], j);
            }
        }
    }
    *text = out;
    *len = n;
    return KD_OK;
}

kd_status kd_skeleton_write(const char *path, const kd_skeleton *s, kd_err *err)
{
    char *text = NULL;
    size_t len = 0;
    kd_status st = kd_skeleton_format(s, &text, &len, err);
    if (st != KD_OK) {
        return kd_err_prefix(err, st, "%s", path);
    }
    st = kd_io_write_file(path, text, len, err);
    kd_free(text);
    return st;
}
