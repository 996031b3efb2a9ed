/* kd dataset sample, kd dataset render: data sets that are computed. */
#include "formats/base/io.h"
#include "tools/commands/commands.h"
#include "tools/process/out.h"
#include "tools/progress.h"
#include "tools/sample/pool.h"
#include "tools/sample/sample.h"

#include <inttypes.h>
#include <stdio.h>

static bool parse_size(const char *text, int *width, int *height)
{
    char rest = 0;
    return sscanf(text, "%4dx%4d%c", width, height, &rest) == 2;
}

/* ---- sample ---------------------------------------------------------------------------------- */

typedef struct sample_args {
    int64_t clips, performers, cameras, replications, rooms;
    const char *size;
    bool skeletons_only;
} sample_args;

static const kd_arg SAMPLE_ARGS[] = {
    KD_OPT_INT(sample_args, clips, "clips", "N", "0", 0, 100000,
               "only the first N clips (each 120 hold every person and action once); 0: all"),
    KD_OPT_INT(sample_args, performers, "performers", "N", "10", 1, 200, "people"),
    KD_OPT_INT(sample_args, cameras, "cameras", "N", "3", 1, 3, "views of every performance"),
    KD_OPT_INT(sample_args, replications, "replications", "N", "2", 1, 15, "times that everybody does everything"),
    KD_OPT_INT(sample_args, rooms, "rooms", "N", "1", 1, 200, "rooms a camera; the people are spread over them"),
    KD_OPT_STR(sample_args, size, "size", "WxH", "160x120", "of the videos"),
    KD_OPT_FLAG(sample_args, skeletons_only, "skeletons-only", "no videos"),
};

static const kd_cmd SAMPLE = {
    .name = "kd dataset sample",
    .about = "Makes the sample data set: 12 actions by 10 people before 3 cameras, as H.264 videos and\n"
             "Kinect-like .skeleton files with NTU RGB+D's names.  Seeded; nothing is downloaded.",
    .args = SAMPLE_ARGS,
    .arg_count = KD_COUNTOF(SAMPLE_ARGS),
    .common = KD_COMMON_OUT | KD_COMMON_SEED | KD_COMMON_THREADS | KD_COMMON_RESUME | KD_COMMON_FORCE | KD_COMMON_JSON,
    .max_operands = 0,
    .notes = "Three pairs of actions share their motion and differ in the object in the hand "
             "(drink/eat,\n"
             "hammer/ring a bell, wave/wave a flag): the video shows it, the skeleton does not.  "
             "One skeleton\n"
             "in four is badly tracked.  Accuracies on this set mean nothing outside it.",
    .examples = "kd dataset sample --out sample\n"
                "kd dataset scan --data sample",
};

static void print_sample(const kd_common *c, const kd_sample_result *r)
{
    if (c->json) {
        (void)printf(
            "{\"type\": \"result\", \"clips\": %zu, \"written\": %zu, \"badly_tracked\": %zu, \"frames\": %" PRIu64
            ", \"video_bytes\": %" PRIu64 ", \"skeleton_bytes\": %" PRIu64 "}\n",
            r->clips, r->written, r->badly_tracked, r->frames, r->video_bytes, r->skeleton_bytes);
        return;
    }
    (void)printf("%zu clips at %s (%zu written now: %" PRIu64 " frames, %.1f MB of video, %.1f MB of "
                 "skeletons, %zu badly tracked)\n",
                 r->clips, KD_SHOWN(c->out), r->written, r->frames, (double)r->video_bytes * 1e-6,
                 (double)r->skeleton_bytes * 1e-6, r->badly_tracked);
}

int kd_cmd_dataset_sample(int argc, char **argv)
{
    sample_args a;
    kd_common c;
    const int rc = kd_args_parse(&SAMPLE, argc, argv, &a, &c, NULL);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    kd_sample_opts o = {.seed = (uint64_t)c.seed,
                        .performers = (int)a.performers,
                        .cameras = (int)a.cameras,
                        .replications = (int)a.replications,
                        .clips = (size_t)a.clips,
                        .threads = kd_pool_threads(c.threads),
                        .skeletons_only = a.skeletons_only,
                        .resume = c.resume,
                        .force = c.force,
                        .rooms = (int)a.rooms};
    if (c.out == NULL) {
        return kd_usage(&SAMPLE, "--out: expected the directory to make");
    }
    if (!parse_size(a.size, &o.width, &o.height)) {
        return kd_usage(&SAMPLE, "--size: expected WxH such as 160x120, found '%s'", a.size);
    }
    kd_ticker ticker;
    const kd_progress progress = kd_ticker_start(&ticker, &c);
    kd_sample_result result;
    kd_err err = {0};
    const kd_status st = kd_sample_write(c.out, &o, &progress, &result, &err);
    if (st == KD_OK) {
        print_sample(&c, &result);
    }
    return kd_cmd_end(&SAMPLE, st, &err);
}

/* ---- render ---------------------------------------------------------------------------------- */

typedef struct render_args {
    const char *size;
    int64_t fps;
    bool videos_only;
} render_args;

static const kd_arg RENDER_ARGS[] = {
    KD_OPT_STR(render_args, size, "size", "WxH", "160x120", "of the videos"),
    KD_OPT_INT(render_args, fps, "fps", "N", "30", 1, 240, "frames a second, for players"),
    KD_OPT_FLAG(render_args, videos_only, "videos-only", "do not copy the skeletons beside the videos"),
};

static const kd_cmd RENDER = {
    .name = "kd dataset render",
    .operands = "[FILE.skeleton...]",
    .about = "Draws .skeleton files as videos of people in rooms, a frame for a frame, so that motion\n"
             "capture without video can be shown to a video model.",
    .args = RENDER_ARGS,
    .arg_count = KD_COUNTOF(RENDER_ARGS),
    .common = KD_COMMON_DATA | KD_COMMON_OUT | KD_COMMON_SEED | KD_COMMON_LIMIT | KD_COMMON_RESUME | KD_COMMON_FORCE |
              KD_COMMON_JSON | KD_COMMON_THREADS,
    .max_operands = -1,
    .notes = "--data DIR takes every .skeleton file of DIR (or of DIR/nturgb+d_skeletons).  --out "
             "DIR becomes\n"
             "an NTU tree: DIR/nturgb+d_rgb/NAME_rgb.avi and DIR/nturgb+d_skeletons/NAME.skeleton. "
             " Clothes follow\n"
             "the person's number in the name, the room follows setup and camera.  A file that "
             "cannot be drawn is\n"
             "named and counted; the rest is drawn, and the exit code is 3.",
};

typedef struct render_job {
    const kd_common *common;
    const render_args *args;
    kd_render_opts opts;
    kd_progress progress;
    char *rgb_dir, *skeleton_dir;
    size_t done, drawn, failed, frames;
    kd_err first; /* why the first file that failed could not be drawn */
} render_job;

/* Number behind a letter of an NTU name (S001C002P003...); 0 without one. */
static uint32_t name_number(const char *base, char letter)
{
    const char *p = strchr(base, letter);
    unsigned v = 0;
    return p != NULL && sscanf(p + 1, "%3u", &v) == 1 ? v : 0u;
}

static kd_status copy_file(const char *from, const char *to, kd_err *err)
{
    if (kd_path_same(from, to)) { /* --out is the tree that the skeletons lie in */
        return KD_OK;
    }
    uint8_t *data = NULL;
    size_t bytes = 0;
    KD_TRY(kd_io_read_file(from, (size_t)1 << 30, &data, &bytes, err));
    const kd_status st = kd_io_write_file(to, data, bytes, err);
    kd_free(data);
    return st;
}

static kd_status render_one(render_job *j, const char *path, kd_err *err)
{
    const char *base = kd_path_base(path);
    char *stem = kd_path_stem(path);
    char *video = kd_strf("%s/%s_rgb.avi", j->rgb_dir, stem != NULL ? stem : "");
    char *copy = kd_strf("%s/%s", j->skeleton_dir, base);
    kd_status st = KD_OK;
    size_t frames = 0;
    if (stem == NULL || video == NULL || copy == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "render: out of memory");
        goto done;
    }
    if (j->common->resume && kd_path_is_file(video) && (j->args->videos_only || kd_path_is_file(copy))) {
        goto done;
    }
    j->opts.person = name_number(base, 'P');
    j->opts.place = name_number(base, 'S') * 16u + name_number(base, 'C');
    KD_GO(kd_sample_render(path, video, &j->opts, &frames, err));
    if (!j->args->videos_only) {
        KD_GO(copy_file(path, copy, err));
    }
    j->drawn++;
    j->frames += frames;
done:
    kd_free(stem);
    kd_free(video);
    kd_free(copy);
    return st;
}

/* Data errors are the file's own affair; anything else ends the run. */
static kd_status render_next(render_job *j, const char *path, kd_err *err)
{
    kd_err own = {0};
    const kd_status st = render_one(j, path, &own);
    if (st == KD_E_FORMAT || st == KD_E_DATA || st == KD_E_IO) {
        kd_progress_note(&j->progress, own.msg);
        if (j->failed++ == 0) {
            j->first = own;
        }
    } else if (st != KD_OK) {
        *err = own;
        return st;
    }
    kd_progress_step(&j->progress, ++j->done, NAN);
    return kd_progress_stop(&j->progress) ? KD_FAIL(err, KD_E_CANCELLED, "interrupted; --resume goes on from here")
                                          : KD_OK;
}

/* A video in the tree that the skeletons are read from is part of the data set. */
static kd_status refuse_recording(const render_job *j, const char *video, kd_err *err)
{
    char *path = kd_path_join(j->rgb_dir, video);
    kd_status st = KD_OK;
    if (path == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "render: out of memory");
    } else if (kd_path_exists(path)) {
        st = KD_FAIL(err, KD_E_ARG,
                     "%s: belongs to the data set that the command reads: an output never replaces an input; choose "
                     "another --out, or draw what has no video with --resume",
                     path);
    }
    kd_free(path);
    return st;
}

/* Videos and copies of these .skeleton files below `dir` may be written. */
static kd_status check_out(const render_job *j, const char *dir, char *const *names, size_t n, kd_err *err)
{
    const kd_out out = {.force = j->common->force, .resume = j->common->resume, .resumable = true};
    char **video = kd_calloc(n, sizeof *video);
    const char **copy = kd_calloc(n, sizeof *copy);
    size_t copies = 0;
    kd_status st = video != NULL && copy != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "render: out of memory");
    for (size_t i = 0; i < n && st == KD_OK; i++) {
        const char *base = kd_path_base(names[i]);
        char *stem = kd_path_stem(base), *from = kd_path_join(dir, names[i]), *to = kd_path_join(j->skeleton_dir, base);
        video[i] = kd_strf("%s_rgb.avi", stem != NULL ? stem : "");
        if (stem == NULL || from == NULL || to == NULL || video[i] == NULL) {
            st = KD_FAIL(err, KD_E_OOM, "render: out of memory");
        } else if (!kd_path_same(from, to)) {
            copy[copies++] = base;
        } else { /* it lies where it belongs, and what lies beside it is its recording */
            st = out.force ? refuse_recording(j, video[i], err) : KD_OK;
        }
        kd_free(stem);
        kd_free(from);
        kd_free(to);
    }
    KD_GO(st);
    KD_GO(kd_out_dir(&out, j->rgb_dir, (const char *const *)video, n, err));
    KD_GO(j->args->videos_only ? KD_OK : kd_out_dir(&out, j->skeleton_dir, copy, copies, err));
    KD_GO(kd_io_mkdirs(j->rgb_dir, err));
    st = j->args->videos_only ? KD_OK : kd_io_mkdirs(j->skeleton_dir, err);
done:
    for (size_t i = 0; video != NULL && i < n; i++) {
        kd_free(video[i]);
    }
    kd_free(video);
    kd_free((void *)copy);
    return st;
}

static kd_status render_dir(render_job *j, const char *data, kd_err *err)
{
    char *inner = kd_strf("%s/nturgb+d_skeletons", data);
    const char *dir = inner != NULL && kd_path_is_dir(inner) ? inner : data;
    char **names = NULL;
    size_t count = 0;
    size_t total = 0;
    kd_status st;
    KD_GO(kd_io_list_dir(dir, &names, &count, err));
    for (size_t i = 0; i < count; i++) {
        if (kd_path_has_suffix(names[i], ".skeleton")) {
            names[total++] = names[i];
        }
    }
    if (total == 0) {
        st = KD_FAIL(err, KD_E_DATA, "%s: holds no .skeleton file", dir);
        goto done;
    }
    if (j->common->limit > 0) {
        total = KD_MIN(total, (size_t)j->common->limit);
    }
    KD_GO(check_out(j, dir, names, total, err));
    kd_progress_begin(&j->progress, "render", "files", 0, total);
    for (size_t i = 0; i < total; i++) {
        char *path = kd_path_join(dir, names[i]);
        st = path != NULL ? render_next(j, path, err) : KD_FAIL(err, KD_E_OOM, "out of memory");
        kd_free(path);
        if (st != KD_OK) {
            goto done;
        }
    }
    kd_progress_end(&j->progress, NULL);
done:
    kd_free(names);
    kd_free(inner);
    return st;
}

static kd_status render_all(render_job *j, const kd_operands *in, kd_err *err)
{
    if (in->count == 0) {
        KD_TRY(render_dir(j, j->common->data, err));
    } else {
        KD_TRY(check_out(j, "", in->item, (size_t)in->count, err));
        kd_progress_begin(&j->progress, "render", "files", 0, (uint64_t)in->count);
        for (int i = 0; i < in->count; i++) {
            KD_TRY(render_next(j, in->item[i], err));
        }
        kd_progress_end(&j->progress, NULL);
    }
    if (j->failed > 0) {
        return j->common->quiet
                   ? KD_FAIL(err, KD_E_DATA, "%zu of %zu files could not be drawn, the first: %.400s", j->failed,
                             j->done, j->first.msg)
                   : KD_FAIL(err, KD_E_DATA, "%zu of %zu files could not be drawn (named above)", j->failed, j->done);
    }
    return KD_OK;
}

int kd_cmd_dataset_render(int argc, char **argv)
{
    render_args a;
    kd_common c;
    kd_operands in;
    const int rc = kd_args_parse(&RENDER, argc, argv, &a, &c, &in);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    if (c.out == NULL) {
        return kd_usage(&RENDER, "--out: expected the directory for the videos");
    }
    if ((in.count == 0) == (c.data == NULL)) {
        return kd_usage(&RENDER, "expected either --data DIR or .skeleton files");
    }
    render_job j;
    memset(&j, 0, sizeof j);
    if (!parse_size(a.size, &j.opts.width, &j.opts.height)) {
        return kd_usage(&RENDER, "--size: expected WxH such as 160x120, found '%s'", a.size);
    }
    kd_ticker ticker;
    kd_err err = {0};
    j.common = &c;
    j.args = &a;
    j.opts.seed = (uint64_t)c.seed;
    j.opts.fps = (int)a.fps;
    j.progress = kd_ticker_start(&ticker, &c);
    j.rgb_dir = kd_strf("%s/nturgb+d_rgb", c.out);
    j.skeleton_dir = kd_strf("%s/nturgb+d_skeletons", c.out);
    const kd_status st = j.rgb_dir != NULL && j.skeleton_dir != NULL ? render_all(&j, &in, &err)
                                                                     : KD_FAIL(&err, KD_E_OOM, "out of memory");
    if (st == KD_OK || st == KD_E_DATA) {
        (void)printf(c.json
                         ? "{\"type\": \"result\", \"files\": %zu, \"drawn\": %zu, \"frames\": %zu, \"failed\": %zu}\n"
                         : "%zu files: %zu drawn now (%zu frames), %zu failed\n",
                     j.done, j.drawn, j.frames, j.failed);
    }
    kd_free(j.rgb_dir);
    kd_free(j.skeleton_dir);
    return kd_cmd_end(&RENDER, st, &err);
}
