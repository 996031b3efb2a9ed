/* Recorded skeletons to videos: framing and drawing.  See sample.h. */
#include "formats/skeleton/skeleton_file.h"
#include "formats/video/video.h"
#include "tools/sample/render.h"
#include "tools/sample/sample.h"
#include "tools/sample/vec3.h"

#include <stdlib.h>

/* Joints that bound a person: head, hands, feet, spine base. */
static const int OUTER[] = {3, 7, 11, 15, 19, 0};

/* Tracking that was lost shows as zeros or as bodies of impossible size: they are neither framed nor drawn. */
static bool believable(const kd_skel_body *b)
{
    const vec3 base = v3((double)b->xyz[0][0], (double)b->xyz[0][1], (double)b->xyz[0][2]);
    const vec3 neck = v3((double)b->xyz[20][0], (double)b->xyz[20][1], (double)b->xyz[20][2]);
    const double torso = v3_len(v3_sub(neck, base));
    if (!(torso > 0.2 && torso < 1.2)) {
        return false;
    }
    for (size_t i = 0; i < KD_COUNTOF(OUTER); i++) {
        const float z = b->xyz[OUTER[i]][2];
        if (!(z > 0.4f && z < 20.0f)) {
            return false;
        }
    }
    return true;
}

static int compare_float(const void *a, const void *b)
{
    const float x = *(const float *)a;
    const float y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Range of v without its most extreme `part` at either end: single jumps of the tracker do not count. */
static void range_of(float *v, size_t n, double part, double *lo, double *hi)
{
    qsort(v, n, sizeof *v, compare_float);
    const size_t cut = (size_t)(part * (double)n);
    *lo = (double)v[cut];
    *hi = (double)v[n - 1 - cut];
}

/* One camera for the whole recording: everybody in the picture, the floor under the lowest feet. */
static kd_status frame_clip(const kd_skeleton *s, const char *path, kd_render_view *view, kd_err *err)
{
    const size_t most = s->n_bodies * KD_COUNTOF(OUTER);
    float *v = kd_calloc(most, 3 * sizeof *v);
    size_t n = 0;
    if (v == NULL && most > 0) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
    }
    for (size_t i = 0; i < s->n_bodies; i++) {
        for (size_t k = 0; k < KD_COUNTOF(OUTER) && believable(&s->body[i]); k++) {
            const float *p = s->body[i].xyz[OUTER[k]];
            v[n] = p[0] / p[2];
            v[most + n] = p[1] / p[2];
            v[2 * most + n] = p[1];
            n++;
        }
    }
    if (n == 0) {
        kd_free(v);
        return KD_FAIL(err, KD_E_DATA,
                       "%s: no frame holds a believable body (25 joints in front of the camera, a "
                       "torso of 0.2 to 1.2 m)",
                       path);
    }
    double x0, x1, y0, y1, low, high;
    range_of(v, n, 0.01, &x0, &x1);
    range_of(v + most, n, 0.01, &y0, &y1);
    range_of(v + 2 * most, n, 0.02, &low, &high);
    kd_free(v);
    const double margin = 0.06; /* hair, soles and held arms reach beyond the joints */
    const double fit_x = 0.94 * view->width / KD_MAX(0.1, x1 - x0 + 2.0 * margin);
    const double fit_y = 0.94 * view->height / KD_MAX(0.1, y1 - y0 + 2.0 * margin);
    view->focal = KD_MIN(fit_x, fit_y);
    view->cx = 0.5 * view->width - view->focal * 0.5 * (x0 + x1);
    view->cy = 0.5 * view->height + view->focal * 0.5 * (y0 + y1);
    view->up[0] = 0.0;
    view->up[1] = 1.0;
    view->up[2] = 0.0;
    view->above = KD_MAX(0.2, 0.04 - low);
    return KD_OK;
}

static void draw_frame(kd_renderer *r, const kd_skeleton *s, size_t t, const kd_render_opts *o)
{
    kd_renderer_begin(r);
    for (uint32_t i = s->first[t]; i < s->first[t + 1]; i++) {
        if (!believable(&s->body[i])) {
            continue;
        }
        double joint[3 * KD_SYNTH_JOINTS];
        for (int j = 0; j < KD_SYNTH_JOINTS; j++) {
            for (int c = 0; c < 3; c++) {
                joint[3 * j + c] = (double)s->body[i].xyz[j][c];
            }
        }
        kd_render_clothes clothes;
        kd_render_dress(o->seed, o->person + 1000u * (i - s->first[t]), &clothes);
        kd_renderer_body(r, joint, &clothes);
    }
}

kd_status kd_sample_render(const char *skeleton_path, const char *video_path, const kd_render_opts *opts,
                           size_t *frames, kd_err *err)
{
    kd_skeleton s;
    memset(&s, 0, sizeof s);
    kd_renderer *r = NULL;
    kd_video_writer *w = NULL;
    kd_render_room room;
    kd_render_view view;
    kd_status st;
    memset(&view, 0, sizeof view);
    view.width = opts->width;
    view.height = opts->height;
    KD_GO(kd_skeleton_read(skeleton_path, NULL, &s, err));
    KD_GO(frame_clip(&s, skeleton_path, &view, err));
    kd_render_furnish(opts->seed, opts->place, &room);
    KD_GO(kd_renderer_open(&view, &room, &r, err));
    KD_GO(kd_video_writer_open(video_path, opts->width, opts->height, opts->fps, 1, NULL, &w, err));
    for (size_t t = 0; t < s.frames; t++) {
        draw_frame(r, &s, t, opts);
        KD_GO(kd_video_writer_frame(w, kd_renderer_rgb(r), 0, err));
    }
    st = kd_video_writer_close(w, err);
    w = NULL;
    if (frames != NULL) {
        *frames = s.frames;
    }
done:
    kd_video_writer_abort(w);
    kd_renderer_close(r);
    kd_skeleton_free(&s);
    return st;
}
