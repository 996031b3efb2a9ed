/* `distill predict`: top-k classes of skeleton sequences, or of a growing stream of frames; by liblast. */
#include "distill/export/deploy.h"
#include "formats/base/io.h"
#include "formats/data/dataset.h"
#include "formats/skeleton/archive.h"
#include "formats/skeleton/denoise.h"
#include "formats/weights/safetensors.h"
#include "formats/weights/weights.h"
#include "student/stream/last.h"
#include "student/stream/recipe.h"
#include "tools/commands/commands.h"
#include "tools/predict/frames.h"
#include "tools/print.h"
#include "tools/process/process.h"
#include "tools/session.h"

#include <stdio.h>

typedef struct opts {
    const char *weights;
    int64_t top, window, every;
} opts;

enum { COMMON = KD_COMMON_CONFIG | KD_COMMON_SET | KD_COMMON_JSON };

typedef struct predictor {
    void *image; /* the student as a file of liblast */
    size_t bytes;
    kd_last_options room;
    kd_last *last;
    float *joints; /* of one sequence, [frames][bodies][V][C] */
    uint64_t *id;
    uint8_t *present;
    kd_ranked *ranked; /* [classes] */
    int *best;
    float *prob;
    bool scored;            /* joints are x, y and a confidence */
    bool denoise;           /* recordings, as the run's data */
    kd_archive_opts arrays; /* of skeleton archives, likewise */
} predictor;

/* ---- opening --------------------------------------------------------------------------------- */

/* A run, a checkpoint, or bare weights with their recipe: made into a file of liblast, as `distill export` does. */
static kd_status image_of_run(predictor *p, const opts *o, const kd_common *c, kd_err *err)
{
    kd_session s = {0};
    kd_model model = {0};
    kd_weights *w = NULL;
    kd_sets sets = {0};
    kd_load_report load = {0};
    const kd_json *names = NULL;
    int classes = 0;
    kd_status st = KD_OK;
    KD_GO(kd_sets_make(c, "eval", &sets, err));
    KD_GO(kd_sets_add(&sets, "train.device", "cpu", err));
    KD_GO(kd_sets_add(&sets, "train.dtype", "f32", err));
    KD_GO(kd_sets_add_int(&sets, "train.threads", 1, err));
    KD_GO(kd_session_open(c, "distill", o->weights, KD_WEIGHTS_MODEL, &sets, &s, err));
    KD_GO(kd_model_classes(s.task, s.cfg, o->weights, &w, &names, &classes, err));
    KD_GO(kd_model_open(s.task, s.cfg, classes, s.be, &model, err));
    KD_GO(kd_model_declare(&model, NULL, err));
    KD_GO(kd_model_load(&model, o->weights, "", false, NULL, &load, err));
    p->denoise = s.cfg->data.denoise != KD_DENOISE_NONE;
    p->arrays = kd_dataset_archive_opts(&s.cfg->data);
    const kd_deploy d = {.cfg = s.cfg, .model = &model, .names = names, .temperature = s.cfg->eval.temperature};
    st = kd_deploy_image(&d, &p->image, &p->bytes, err);
done:
    kd_load_report_free(&load);
    kd_model_close(&model);
    kd_weights_close(w);
    kd_session_close(&s);
    kd_sets_free(&sets);
    return st;
}

/* Is it meant as a file of liblast?  A damaged one is too: what is wrong with it is for liblast to say. */
static bool is_deployed(const char *path)
{
    static const char KEY[] = "\"lastkd\"";
    char head[4096];
    FILE *f = kd_path_is_file(path) ? fopen(path, "rbe") : NULL;
    const size_t n = f != NULL ? fread(head, 1, sizeof head, f) : 0;
    if (f != NULL) {
        (void)fclose(f);
    }
    if (memmem(head, n, KEY, sizeof KEY - 1) != NULL) {
        return true;
    }
    kd_st_file *whole = NULL; /* other writers may put the key far behind */
    const bool yes = n > 0 && kd_st_open(path, &whole, NULL) == KD_OK && kd_st_meta(whole, "lastkd") != NULL;
    kd_st_close(whole);
    return yes;
}

/* What the recipe of the file says of joints. */
static kd_status read_channels(predictor *p, const char *name, kd_err *err)
{
    kd_st_file *f = NULL;
    kd_last_recipe r;
    bool known = false;
    KD_TRY(kd_st_parse(p->image, p->bytes, name, &f, err));
    const char *channels = kd_st_meta(f, "skeleton.channels");
    kd_status st = kd_last_recipe_default(&r, err);
    if (st == KD_OK && channels != NULL) {
        st = kd_last_recipe_set(&r, "skeleton.channels", channels, &known, err);
    }
    p->scored = r.skeleton.channels == KD_CHANNELS_XY_SCORE;
    kd_st_close(f);
    return st;
}

static kd_status open_last(predictor *p, kd_err *err)
{
    char why[KD_LAST_MESSAGE];
    kd_last_close(p->last);
    const int st = kd_last_open_memory(p->image, p->bytes, &p->room, &p->last, why, sizeof why);
    return st == KD_LAST_OK ? KD_OK : KD_FAIL(err, (kd_status)st, "%s", why);
}

/* Room for a sequence; the next one may be longer than all before. */
static kd_status make_room(predictor *p, size_t frames, size_t bodies, kd_err *err)
{
    const size_t places = frames * bodies;
    if (frames > (size_t)p->room.max_frames || bodies > (size_t)p->room.max_bodies) {
        p->room.max_frames = (int)KD_MAX(frames, (size_t)p->room.max_frames);
        p->room.max_bodies = (int)KD_MAX(bodies, (size_t)p->room.max_bodies);
        KD_TRY(open_last(p, err));
    }
    kd_free(p->joints);
    kd_free(p->id);
    kd_free(p->present);
    p->joints = kd_calloc(places, (size_t)kd_last_joints(p->last) * (size_t)kd_last_channels(p->last) * sizeof(float));
    p->id = kd_calloc(places, sizeof *p->id);
    p->present = kd_calloc(places, 1);
    return p->joints != NULL && p->id != NULL && p->present != NULL
               ? KD_OK
               : KD_FAIL(err, KD_E_OOM, "no memory for %zu frames of %zu bodies", frames, bodies);
}

static kd_status predictor_open(predictor *p, const opts *o, const kd_common *c, bool stream, kd_err *err)
{
    p->room = (kd_last_options){.window = (int)o->window, .max_frames = stream ? 1 : 1024, .max_bodies = 6};
    if (is_deployed(o->weights)) {
        if (c->config.count > 0 || c->set.count > 0) {
            return KD_FAIL(err, KD_E_ARG, "%s carries its recipe: --config and --set have no effect, leave them out",
                           o->weights);
        }
        uint8_t *file = NULL;
        KD_TRY(kd_io_read_file(o->weights, (size_t)1 << 28, &file, &p->bytes, err));
        p->image = file;
    } else {
        KD_TRY(image_of_run(p, o, c, err));
    }
    const kd_status st = open_last(p, err);
    if (st != KD_OK) {
        return kd_err_prefix(err, st, "%s", o->weights);
    }
    KD_TRY(read_channels(p, o->weights, err));
    const size_t classes = (size_t)kd_last_classes(p->last);
    p->ranked = kd_calloc(classes, sizeof *p->ranked);
    p->best = kd_calloc(classes, sizeof *p->best);
    p->prob = kd_calloc(classes, sizeof *p->prob);
    return p->ranked != NULL && p->best != NULL && p->prob != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "out of memory");
}

static void predictor_close(predictor *p)
{
    kd_last_close(p->last);
    kd_free(p->image);
    kd_free(p->joints);
    kd_free(p->id);
    kd_free(p->present);
    kd_free(p->ranked);
    kd_free(p->best);
    kd_free(p->prob);
}

/* ---- results --------------------------------------------------------------------------------- */

static kd_status failure(const predictor *p, int st, const char *where, kd_err *err)
{
    return KD_FAIL(err, (kd_status)st, "%s: %s", where, kd_last_message(p->last));
}

static kd_status rank(predictor *p, const opts *o, int *n, kd_err *err)
{
    *n = (int)KD_MIN(o->top, (int64_t)kd_last_classes(p->last));
    const int st = kd_last_top(p->last, *n, p->best, p->prob);
    if (st != KD_LAST_OK) {
        return failure(p, st, "predict", err);
    }
    for (int i = 0; i < *n; i++) {
        p->ranked[i] = (kd_ranked){p->best[i], kd_last_class_name(p->last, p->best[i]), (double)p->prob[i]};
    }
    return KD_OK;
}

/* ---- files ----------------------------------------------------------------------------------- */

/* The frames of a recording as rows of `bodies` places. */
static void spread(predictor *p, const kd_skeleton *s, size_t bodies)
{
    const size_t n = (size_t)kd_last_joints(p->last) * (size_t)kd_last_channels(p->last);
    for (size_t t = 0; t < s->frames; t++) {
        for (uint32_t i = s->first[t]; i < s->first[t + 1]; i++) {
            const size_t at = t * bodies + (i - s->first[t]);
            memcpy(p->joints + at * n, s->body[i].xyz, n * sizeof(float));
            p->id[at] = s->body[i].id;
            p->present[at] = 1;
        }
    }
}

/* `s` is freed, whatever is returned. */
static kd_status predict_skeleton(predictor *p, const char *name, kd_skeleton *s, const opts *o, bool json, kd_err *err)
{
    size_t bodies = 1;
    int n = 0;
    kd_status st = p->denoise ? kd_skeleton_denoise(s, err) : KD_OK;
    if (st != KD_OK) {
        st = kd_err_prefix(err, st, "%s", name);
        goto done;
    }
    for (size_t t = 0; t < s->frames; t++) {
        bodies = KD_MAX(bodies, (size_t)(s->first[t + 1] - s->first[t]));
    }
    KD_GO(make_room(p, s->frames, bodies, err));
    spread(p, s, bodies);
    const double t0 = kd_now();
    const int ran = kd_last_classify(p->last, p->joints, (int)s->frames, (int)bodies, p->id, p->present);
    const double ms = 1e3 * (kd_now() - t0);
    if (ran != KD_LAST_OK) {
        st = failure(p, ran, name, err);
        goto done;
    }
    KD_GO(rank(p, o, &n, err));
    const kd_prediction result = {.file = name, .ms = ms, .ranked = p->ranked, .n = n};
    st = kd_print_prediction(&result, json, err);
done:
    kd_skeleton_free(s);
    return st;
}

/* Every sample of an archive, by its id. */
static kd_status predict_archive(predictor *p, const char *file, const opts *o, bool json, kd_err *err)
{
    const kd_skel_opts so = {.joints = kd_last_joints(p->last), .scored = p->scored};
    kd_archive *a = NULL;
    KD_TRY(kd_archive_open(file, &p->arrays, &a, err));
    kd_status st = KD_OK;
    for (size_t i = 0; i < a->n && st == KD_OK; i++) {
        kd_skeleton s = {0};
        st = kd_interrupted() ? KD_FAIL(err, KD_E_CANCELLED, "interrupted: %zu of %zu samples done", i, a->n)
                              : kd_archive_read(a, i, &so, &s, err);
        st = st == KD_OK ? predict_skeleton(p, a->row[i].id, &s, o, json, err) : st;
    }
    kd_archive_close(a);
    return st;
}

static kd_status predict_file(predictor *p, const char *file, const opts *o, bool json, kd_err *err)
{
    kd_skeleton s = {0};
    if (kd_archive_is(file)) {
        return predict_archive(p, file, o, json, err);
    }
    const kd_skel_opts so = {.joints = kd_last_joints(p->last), .scored = p->scored};
    KD_TRY(kd_skeleton_read(file, &so, &s, err));
    return predict_skeleton(p, file, &s, o, json, err);
}

/* ---- a stream -------------------------------------------------------------------------------- */

static kd_status print_window(predictor *p, size_t frames, const opts *o, bool json, kd_err *err)
{
    int n = 0;
    const double t0 = kd_now();
    const int ran = kd_last_run(p->last);
    const double ms = 1e3 * (kd_now() - t0);
    if (ran == KD_LAST_E_DATA) { /* nobody in the window: the camera goes on */
        kd_log(KD_LOG_WARN, "frame %zu: %s", frames, kd_last_message(p->last));
        return KD_OK;
    }
    if (ran != KD_LAST_OK) {
        return failure(p, ran, "stdin", err);
    }
    KD_TRY(rank(p, o, &n, err));
    const kd_prediction result = {.frame = frames, .ms = ms, .ranked = p->ranked, .n = n};
    KD_TRY(kd_print_prediction(&result, json, err));
    return fflush(stdout) == 0 ? KD_OK : KD_FAIL(err, KD_E_WRITE, "stdout: writing failed");
}

/* One frame of the stream into the window. */
static kd_status push(predictor *p, const kd_skeleton *s, kd_err *err)
{
    spread(p, s, KD_SKEL_MAX_BODIES);
    const int st = kd_last_push(p->last, p->joints, (int)s->n_bodies, p->id, NULL);
    return st == KD_LAST_OK ? KD_OK : failure(p, st, "stdin", err);
}

static kd_status predict_stream(predictor *p, const opts *o, bool json, kd_err *err)
{
    kd_frames *frames = NULL;
    size_t spoilt = 0, pushed = 0, printed = 0;
    kd_status st = KD_OK;
    if (p->scored) {
        return KD_FAIL(err, KD_E_DATA,
                       "stdin: expected joints of x, y and a confidence (skeleton.channels: xy_score), which .skeleton "
                       "text is not; give the student an archive");
    }
    KD_GO(make_room(p, 1, KD_SKEL_MAX_BODIES, err));
    KD_GO(kd_frames_open(stdin, "stdin", kd_last_joints(p->last), &frames, err));
    const size_t window = (size_t)kd_last_window(p->last), every = o->every > 0 ? (size_t)o->every : window;
    for (bool end = false; !end;) {
        kd_skeleton one = {0};
        st = kd_interrupted() ? KD_FAIL(err, KD_E_CANCELLED, "interrupted: %zu frames done", pushed)
                              : kd_frames_next(frames, &one, &end, err);
        if (st == KD_E_DATA) {
            kd_log(KD_LOG_WARN, "frame %zu left out: %s", kd_frames_count(frames), err->msg);
            *err = (kd_err){0};
            spoilt++;
            st = KD_OK;
        } else if (st == KD_OK && !end) {
            st = push(p, &one, err);
            pushed += st == KD_OK;
        }
        kd_skeleton_free(&one);
        const bool due = pushed >= window && (pushed - window) % every == 0;
        if (st == KD_OK && pushed > printed && (due || end)) {
            st = print_window(p, kd_frames_count(frames), o, json, err);
            printed = pushed;
        }
        KD_GO(st);
    }
    if (pushed == 0 || spoilt > 0) {
        st = KD_FAIL(err, KD_E_DATA, "stdin: %zu frames classified, %zu left out%s", pushed, spoilt,
                     pushed == 0 ? "; expected at least one" : " as spoilt");
    }
done:
    kd_frames_close(frames);
    return st;
}

/* ---- the command ----------------------------------------------------------------------------- */

/* NULL: the options fit. */
static const char *misused(const opts *o, const kd_operands *in)
{
    const bool stream = in->count > 0 && strcmp(in->item[0], "-") == 0;
    if (o->weights == NULL) {
        return "--weights PATH is needed";
    }
    for (int i = 0; i < in->count; i++) {
        if (strcmp(in->item[i], "-") == 0 && in->count > 1) {
            return "- reads stdin and stands alone";
        }
    }
    return !stream && (o->every != 0 || o->window != 0) ? "--every and --window belong to a stream, -" : NULL;
}

int kd_cmd_distill_predict(int argc, char **argv)
{
    static const kd_arg args[] = {
        KD_OPT_STR(opts, weights, "weights", "PATH", NULL,
                   "run directory (its best checkpoint), checkpoint, safetensors or .pth; or what `distill export "
                   "--format safetensors` wrote; needed"),
        KD_OPT_INT(opts, top, "top", "K", "5", 1, 1000, "classes to print"),
        KD_OPT_INT(opts, window, "window", "N", "0", 0, 65536, "stream: frames looked at; 0: as many as the model's"),
        KD_OPT_INT(opts, every, "every", "N", "0", 0, 1000000,
                   "stream: frames from one result to the next, once the window is full; 0: a window"),
    };
    static const kd_cmd cmd = {
        .name = "distill predict",
        .operands = "FILE.skeleton|ARCHIVE... | -",
        .about =
            "Top-k classes of skeleton sequences, with the latency from frames to probabilities (liblast: f32 on\n"
            "one thread of the CPU, or a file in eight bits).\n"
            "-: frames from stdin as they come, .skeleton text; the frame count 0 says that the number is unknown.\n"
            "A spoilt frame is left out and named; exit status 3 then.",
        .args = args,
        .arg_count = KD_COUNTOF(args),
        .common = COMMON,
        .min_operands = 1,
        .max_operands = -1};
    opts o = {0};
    kd_common c;
    kd_operands in;
    kd_err err = {0};
    const int rc = kd_args_parse(&cmd, argc, argv, &o, &c, &in);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    const char *wrong = misused(&o, &in);
    if (wrong != NULL) {
        return kd_usage(&cmd, "%s", wrong);
    }
    predictor p = {0};
    const bool stream = strcmp(in.item[0], "-") == 0;
    kd_status st = predictor_open(&p, &o, &c, stream, &err);
    if (st == KD_OK && stream) {
        st = predict_stream(&p, &o, c.json, &err);
    } else {
        for (int i = 0; i < in.count && st == KD_OK; i++) {
            st = kd_interrupted() ? KD_FAIL(&err, KD_E_CANCELLED, "interrupted: %d of %d files done", i, in.count)
                                  : predict_file(&p, in.item[i], &o, c.json, &err);
        }
    }
    predictor_close(&p);
    return kd_cmd_end(&cmd, st, &err);
}
