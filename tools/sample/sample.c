/* Writing the sample data set: see sample.h. */
#include "tools/sample/sample.h"

#include "formats/base/io.h"
#include "formats/base/json.h"
#include "formats/skeleton/skeleton_file.h"
#include "formats/video/video.h"
#include "tools/sample/pool.h"
#include "tools/sample/render.h"

#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>

enum { FORMAT_VERSION = 1, FPS = 30, MAX_PERFORMERS = 200, MAX_REPLICATIONS = 15 };

bool kd_made_id(const kd_sample_opts *opts, size_t i, kd_synth_id *id)
{
    const size_t block = (size_t)opts->performers * KD_SYNTH_ACTIONS;
    const size_t total = block * (size_t)opts->cameras * (size_t)opts->replications;
    if (i >= total || (opts->clips > 0 && i >= opts->clips)) {
        return false;
    }
    const size_t turn = i / block; /* every block holds each person and action once, cameras mixed */
    const size_t in = i % block;
    const size_t person = in / KD_SYNTH_ACTIONS;
    const size_t action = in % KD_SYNTH_ACTIONS;
    id->performer = (int)person + 1;
    id->action = (int)action + 1;
    id->camera = (int)((turn + person + action) % (size_t)opts->cameras) + 1;
    id->replication = (int)(turn / (size_t)opts->cameras) + 1;
    return true;
}

/* ---- one clip -------------------------------------------------------------------------------- */

typedef struct job {
    const char *rgb_dir, *skeleton_dir;
    const kd_sample_opts *opts;
    _Atomic size_t written, badly;
    _Atomic uint64_t frames, video_bytes, skeleton_bytes;
} job;

static kd_status write_skeleton(const kd_synth_clip *clip, const char *path, kd_err *err)
{
    size_t bodies = 0;
    for (int t = 0; t < clip->frames; t++) {
        bodies += clip->tracked[t].body;
    }
    kd_skeleton s;
    KD_TRY(kd_skeleton_alloc((size_t)clip->frames, bodies, &s, err));
    uint32_t at = 0;
    for (int t = 0; t < clip->frames; t++) {
        const kd_synth_tracked *f = &clip->tracked[t];
        s.first[t] = at;
        if (f->body) {
            s.body[at].id = clip->body_id;
            memcpy(s.body[at].xyz, f->joint, sizeof s.body[at].xyz);
            memcpy(s.body[at].tracking, f->state, sizeof s.body[at].tracking);
            at++;
        }
    }
    s.first[clip->frames] = at;
    const kd_status st = kd_skeleton_write(path, &s, err);
    kd_skeleton_free(&s);
    return st;
}

static kd_status write_video(const kd_synth_clip *clip, const kd_sample_opts *o, const char *path, kd_err *err)
{
    kd_render_view view = {o->width,          o->height,
                           1.90 * o->height,  0.5 * o->width, /* from the knees to above the head */
                           0.5 * o->height,   {clip->up[0], clip->up[1], clip->up[2]},
                           clip->camera_above};
    kd_render_room room;
    kd_render_clothes clothes;
    const int rooms = KD_MAX(1, o->rooms);
    const int place = clip->id.camera + 16 * ((clip->id.performer - 1) % rooms);
    kd_render_furnish(o->seed, (uint32_t)place, &room);
    kd_render_dress(o->seed, (uint32_t)clip->id.performer, &clothes);
    kd_renderer *r = NULL;
    kd_video_writer *w = NULL;
    kd_status st;
    KD_GO(kd_renderer_open(&view, &room, &r, err));
    KD_GO(kd_video_writer_open(path, o->width, o->height, FPS, 1, NULL, &w, err));
    for (int t = 0; t < clip->frames; t++) {
        const kd_synth_frame *f = &clip->frame[t];
        kd_renderer_begin(r);
        kd_renderer_body(r, &f->joint[0][0], &clothes);
        if (f->prop_seen) {
            kd_renderer_prop(r, clip->prop, f->prop_at, f->prop_axis);
        }
        KD_GO(kd_video_writer_frame(w, kd_renderer_rgb(r), 0, err));
    }
    st = kd_video_writer_close(w, err);
    w = NULL;
done:
    kd_video_writer_abort(w);
    kd_renderer_close(r);
    return st;
}

static uint64_t size_of(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 ? (uint64_t)s.st_size : 0;
}

static kd_status write_clip(void *ctx, size_t i, kd_err *err)
{
    job *j = ctx;
    kd_synth_clip *clip = kd_alloc(sizeof *clip);
    kd_synth_id id;
    const bool made = kd_made_id(j->opts, i, &id);
    KD_ASSERT(made);
    char *skeleton = kd_strf("%s/S003C%03dP%03dR%03dA%03d.skeleton", j->skeleton_dir, id.camera, id.performer,
                             id.replication, id.action);
    char *video =
        kd_strf("%s/S003C%03dP%03dR%03dA%03d_rgb.avi", j->rgb_dir, id.camera, id.performer, id.replication, id.action);
    kd_status st = KD_OK;
    if (clip == NULL || skeleton == NULL || video == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "sample data set: out of memory");
        goto done;
    }
    const bool want_video = !j->opts->skeletons_only;
    if (j->opts->resume && kd_path_is_file(skeleton) && (!want_video || kd_path_is_file(video))) {
        goto done;
    }
    KD_GO(kd_synth_make(j->opts->seed, id, clip, err));
    if (want_video) {
        KD_GO(write_video(clip, j->opts, video, err));
        atomic_fetch_add(&j->video_bytes, size_of(video));
    }
    KD_GO(write_skeleton(clip, skeleton, err));
    atomic_fetch_add(&j->skeleton_bytes, size_of(skeleton));
    atomic_fetch_add(&j->frames, (uint64_t)clip->frames);
    atomic_fetch_add(&j->written, 1);
    atomic_fetch_add(&j->badly, clip->badly_tracked);
done:
    kd_free(clip);
    kd_free(skeleton);
    kd_free(video);
    return st;
}

/* ---- the set --------------------------------------------------------------------------------- */

static kd_status check_opts(const kd_sample_opts *o, kd_err *err)
{
    if (o->performers < 1 || o->performers > MAX_PERFORMERS || o->cameras < 1 || o->cameras > KD_SYNTH_CAMERAS ||
        o->replications < 1 || o->replications > MAX_REPLICATIONS || o->rooms < 0 || o->rooms > MAX_PERFORMERS) {
        return KD_FAIL(err, KD_E_ARG,
                       "sample data set of %d performers, %d cameras, %d replications, %d rooms: "
                       "expected 1..%d, 1..%d, 1..%d, 1..%d",
                       o->performers, o->cameras, o->replications, o->rooms, MAX_PERFORMERS, KD_SYNTH_CAMERAS,
                       MAX_REPLICATIONS, MAX_PERFORMERS);
    }
    if (o->width < 32 || o->width > 1920 || o->height < 32 || o->height > 1080 || o->width % 2 != 0 ||
        o->height % 2 != 0) {
        return KD_FAIL(err, KD_E_ARG, "pictures of %dx%d: expected even sides, 32x32 to 1920x1080", o->width,
                       o->height);
    }
    if (!o->skeletons_only && !kd_video_available()) {
        return KD_FAIL(err, KD_E_UNSUPPORTED,
                       "videos need FFmpeg, which this build leaves out; --skeletons-only works");
    }
    return KD_OK;
}

static kd_json *describe(const kd_sample_opts *o)
{
    kd_json *d = kd_json_object();
    kd_json_set_str(d, "kind", "lastkd sample data set");
    kd_json_set_i64(d, "version", FORMAT_VERSION);
    kd_json_set_i64(d, "seed", (int64_t)o->seed);
    kd_json_set_i64(d, "performers", o->performers);
    kd_json_set_i64(d, "cameras", o->cameras);
    kd_json_set_i64(d, "replications", o->replications);
    if (o->rooms > 1) { /* else as sets were described before there were rooms to choose */
        kd_json_set_i64(d, "rooms", o->rooms);
    }
    kd_json_set_i64(d, "width", o->width);
    kd_json_set_i64(d, "height", o->height);
    kd_json_set_bool(d, "videos", !o->skeletons_only);
    kd_json *classes = kd_json_set_array(d, "classes");
    for (int a = 1; a <= KD_SYNTH_ACTIONS; a++) {
        kd_json_push_str(classes, kd_synth_action_name(a));
    }
    return d;
}

/* The directory is ours to fill when it is new, empty, or holds the same data set and that is to be gone on with. */
static kd_status claim_dir(const char *dir, const kd_sample_opts *o, kd_err *err)
{
    char *path = kd_strf("%s/sample.json", dir);
    kd_json *want = describe(o);
    uint8_t *old = NULL;
    size_t old_bytes = 0;
    char *text = NULL;
    size_t bytes = 0;
    char **names = NULL;
    size_t count = 0;
    kd_status st = path != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "sample data set: out of memory");
    if (st != KD_OK) {
        goto done;
    }
    KD_GO(kd_json_dump(want, KD_JSON_PRETTY, &text, &bytes, err));
    KD_GO(kd_io_mkdirs(dir, err));
    kd_io_sweep(dir);
    if (kd_path_is_file(path)) {
        KD_GO(kd_io_read_file(path, 1 << 20, &old, &old_bytes, err));
        if (old_bytes != bytes || memcmp(old, text, bytes) != 0) {
            st = KD_FAIL(err, KD_E_ARG,
                         "%s: holds a sample data set made with other options; choose another "
                         "--out or remove it",
                         dir);
        } else if (!o->resume && !o->force) {
            st = KD_FAIL(err, KD_E_ARG,
                         "%s: holds this sample data set already, perhaps unfinished; go on with --resume, or make it "
                         "again with --force",
                         dir);
        }
        goto done;
    }
    KD_GO(kd_io_list_dir(dir, &names, &count, err));
    if (count > 0) {
        st = KD_FAIL(err, KD_E_ARG, "%s: is not empty and holds no sample data set; choose another --out", dir);
        goto done;
    }
    KD_GO(kd_io_write_file(path, text, bytes, err));
done:
    kd_free(names);
    kd_free(old);
    kd_free(text);
    kd_free(path);
    kd_json_free(want);
    return st;
}

static kd_status write_classes(const char *dir, kd_err *err)
{
    char text[512] = "";
    size_t at = 0;
    for (int a = 1; a <= KD_SYNTH_ACTIONS; a++) {
        at += (size_t)snprintf(text + at, sizeof text - at, "%s\n", kd_synth_action_name(a));
    }
    char *path = kd_strf("%s/classes.txt", dir);
    const kd_status st =
        path != NULL ? kd_io_write_file(path, text, at, err) : KD_FAIL(err, KD_E_OOM, "sample data set: out of memory");
    kd_free(path);
    return st;
}

kd_status kd_sample_write(const char *dir, const kd_sample_opts *opts, const kd_progress *progress,
                          kd_sample_result *out, kd_err *err)
{
    memset(out, 0, sizeof *out);
    KD_TRY(check_opts(opts, err));
    KD_TRY(claim_dir(dir, opts, err));
    KD_TRY(write_classes(dir, err));
    job j;
    memset(&j, 0, sizeof j);
    char *rgb = kd_strf("%s/nturgb+d_rgb", dir);
    char *skeletons = kd_strf("%s/nturgb+d_skeletons", dir);
    kd_status st = KD_OK;
    if (rgb == NULL || skeletons == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "sample data set: out of memory");
        goto done;
    }
    if (!opts->skeletons_only) {
        KD_GO(kd_io_mkdirs(rgb, err));
    }
    KD_GO(kd_io_mkdirs(skeletons, err));
    kd_io_sweep(rgb);
    kd_io_sweep(skeletons);
    j.rgb_dir = rgb;
    j.skeleton_dir = skeletons;
    j.opts = opts;
    for (kd_synth_id id; kd_made_id(opts, out->clips, &id);) {
        out->clips++;
    }
    kd_progress_begin(progress, "sample data set", "clips", 0, out->clips);
    st = kd_pool_run(write_clip, &j, out->clips, opts->threads, progress, err);
    if (st == KD_OK) {
        kd_progress_end(progress, NULL);
    }
    out->written = atomic_load(&j.written);
    out->badly_tracked = atomic_load(&j.badly);
    out->frames = atomic_load(&j.frames);
    out->video_bytes = atomic_load(&j.video_bytes);
    out->skeleton_bytes = atomic_load(&j.skeleton_bytes);
done:
    kd_free(rgb);
    kd_free(skeletons);
    return st;
}
