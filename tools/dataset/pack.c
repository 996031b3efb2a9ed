/* kd dataset pack: the videos of a data set once more, small and quick to decode. */
#include "formats/base/io.h"
#include "tools/dataset/pack_internal.h"
#include "tools/print.h"
#include "tools/process/out.h"
#include "tools/progress.h"
#include "tools/sample/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct pack_args {
    int64_t short_side, gop, quality;
    const char *codec, *video_dir;
} pack_args;

static const kd_arg PACK_ARGS[] = {
    KD_OPT_INT(pack_args, short_side, "short-side", "N", "256", 16, 2048,
               "pixels of the short side; smaller videos keep their size, made even"),
    KD_OPT_CHOICE(pack_args, codec, "codec", "h264", "h264|mjpeg|raw", "raw: RGB as it is, for small sets"),
    KD_OPT_INT(pack_args, gop, "gop", "N", "1", 1, 600,
               "h264: frames from one key frame to the next; 1: key frames alone"),
    KD_OPT_INT(pack_args, quality, "quality", "N", "0", 0, 51,
               "h264: crf (0: 18); mjpeg: quantiser 1 to 31 (0: 2); smaller is better"),
    KD_OPT_STR(pack_args, video_dir, "video-dir", "DIR", NULL, "folder of the videos, as data.video_dir"),
};

static const kd_cmd PACK = {
    .name = "kd dataset pack",
    .about = "Transcodes the videos of a data set once, so that every later reading is quick: small frames,\n"
             "key frames close together.  `data.video_dir: PACK` in a recipe reads the pack.",
    .args = PACK_ARGS,
    .arg_count = KD_COUNTOF(PACK_ARGS),
    .common = KD_COMMON_DATA | KD_COMMON_OUT | KD_COMMON_WORKERS | KD_COMMON_LIMIT | KD_COMMON_RESUME |
              KD_COMMON_FORCE | KD_COMMON_JSON,
    .max_operands = 0,
    .notes = "Paths, numbers and order of frames are the source's, so samplers pick the same ones; pixels are\n"
             "resized and, but for raw, compressed again: figures belong to the pack, whose recipe's hash is in\n"
             "every checkpoint, store and report.  A video that cannot be read is named and left out of the\n"
             "pack (exit code 3); --resume goes on, and makes anew what has another size in bytes in the source.",
    .examples =
        "kd dataset pack --data ntu --out /data/ntu-256\n"
        "teacher finetune --config configs/teacher/tiny.yaml --data ntu --set data.video_dir=/data/ntu-256 --out a",
};

static int64_t file_bytes(const char *path)
{
    struct stat sb;
    return stat(path, &sb) == 0 && S_ISREG(sb.st_mode) ? (int64_t)sb.st_size : -1;
}

/* Of the file, or of all pictures of a folder. */
static int64_t source_bytes(const char *path)
{
    char **names = NULL;
    size_t n = 0;
    int64_t sum = 0;
    if (!kd_path_is_dir(path)) {
        return file_bytes(path);
    }
    if (kd_io_list_dir(path, &names, &n, NULL) != KD_OK) {
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        char *one = kd_path_join(path, names[i]);
        sum += one != NULL ? KD_MAX(file_bytes(one), 0) : 0;
        kd_free(one);
    }
    kd_free(names);
    return sum;
}

/* The container that the name promises; raw frames fit one alone. */
static const char *container(const kdi_pack *j, const char *path)
{
    return j->raw                             ? "nut"
           : kd_path_has_suffix(path, ".avi") ? "avi"
           : kd_path_has_suffix(path, ".mp4") ? "mp4"
           : kd_path_has_suffix(path, ".mov") ? "mov"
                                              : "matroska";
}

static kd_status note(kdi_pack *j, const kd_pack_row *row, kd_err *err)
{
    char *line = kd_pack_line(row);
    if (line == NULL) {
        return KD_FAIL(err, KD_E_OOM, "pack: out of memory");
    }
    (void)pthread_mutex_lock(&j->lock);
    const kd_status st = kd_io_fd_write(j->part, line, strlen(line), j->part_path, err);
    (void)pthread_mutex_unlock(&j->lock);
    kd_free(line);
    return st;
}

static kd_status make(kdi_pack *j, const char *from, const char *to, kd_pack_row *row, kd_err *err)
{
    kd_video_info info;
    kd_video_writer_opts o = j->opts;
    o.container = container(j, to);
    if (kd_path_same(from, to)) {
        return KD_FAIL(err, KD_E_ARG, "%s: a link leads to the source %s: an output never replaces an input; remove it",
                       to, from);
    }
    char *dir = kd_path_dir(to);
    kd_status st = dir != NULL ? kd_io_mkdirs(dir, err) : KD_FAIL(err, KD_E_OOM, "pack: out of memory");
    kd_free(dir);
    KD_TRY(st);
    KD_TRY(kd_video_transcode(from, to, j->short_side, &o, &info, err));
    row->frames = (int64_t)info.frames;
    row->width = info.width;
    row->height = info.height;
    row->bytes = file_bytes(to);
    atomic_fetch_add(&j->made, 1);
    return note(j, row, err);
}

/* The row of the pack as it was; false: none, or the file behind it is another. */
static bool take_row(const kdi_pack *j, kd_pack_row *row, const char *file)
{
    const char *path = row->path;
    const kd_pack_row *before = kd_pack_find(&j->before, path);
    if (before == NULL || file_bytes(file) != before->bytes) {
        return false;
    }
    *row = *before;
    row->path = path;
    return true;
}

static kd_status pack_one(void *ctx, size_t i, kd_err *err)
{
    kdi_pack *j = ctx;
    const char *video = j->scan.item[i].video;
    kd_pack_row *row = &j->row[i];
    if (video == NULL) {
        return KD_OK;
    }
    char *from = kd_path_join(j->data, video), *to = kd_path_join(j->out, row->path);
    kd_err own = {0};
    kd_status st = from != NULL && to != NULL ? KD_OK : KD_FAIL(&own, KD_E_OOM, "pack: out of memory");
    if (st == KD_OK) {
        const int64_t source = source_bytes(from);
        if (!take_row(j, row, to) || row->source_bytes != source) {
            row->source_bytes = source;
            st = make(j, from, to, row, &own);
        }
    }
    kd_free(from);
    kd_free(to);
    if (st == KD_E_IO || st == KD_E_FORMAT || st == KD_E_DATA) {
        row->frames = 0;
        j->trouble[i] = kd_strdup(own.msg);
        return j->trouble[i] != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "pack: out of memory");
    }
    if (st != KD_OK) {
        *err = own;
    }
    return st;
}

/* ---- the folder ------------------------------------------------------------------------------ */

/* A pack of a pack has been compressed twice: its recipe names the first one. */
static kd_status put_source(const kdi_pack *j, const pack_args *a, kd_json *recipe, kd_err *err)
{
    char *dir = a->video_dir != NULL ? kd_path_join(j->data, a->video_dir) : kd_strdup(j->data);
    kd_pack source = {.n = 0};
    kd_status st = dir != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "pack: out of memory");
    if (st == KD_OK && kd_pack_is(dir)) {
        st = kd_pack_read(dir, &source, err);
        kd_json_set_str(recipe, "source_pack", source.sha256);
    }
    kd_pack_free(&source);
    kd_free(dir);
    return st;
}

static kd_json *recipe_of(const pack_args *a, const kd_video_writer_opts *o)
{
    kd_json *r = kd_json_object();
    kd_json_set_i64(r, "short_side", a->short_side);
    kd_json_set_str(r, "resizer", "pillow_bicubic");
    kd_json_set_str(r, "codec", a->codec);
    if (o->codec == KD_VIDEO_H264) {
        kd_json_set_i64(r, "gop", o->gop);
    }
    if (o->codec != KD_VIDEO_RAW) {
        kd_json_set_i64(r, "quality", o->quality);
    }
    kd_json_set_str(r, "decoder", kd_video_decoder_version());
    return r;
}

/* Path of a video below the pack: as below the folder of the videos, whose slashes at the end a scan leaves out. */
static char *packed_path(const kdi_pack *j, const pack_args *a, const char *video)
{
    size_t n = a->video_dir != NULL ? strlen(a->video_dir) : 0;
    while (n > 1 && a->video_dir[n - 1] == '/') {
        n--;
    }
    const bool below = n > 0 && strncmp(video, a->video_dir, n) == 0 && (video[n] == '/' || a->video_dir[n - 1] == '/');
    const char *rest = below ? video + n : video;
    char *from = kd_path_join(j->data, video);
    const bool folder = from != NULL && kd_path_is_dir(from);
    kd_free(from);
    rest += below ? strspn(rest, "/") : 0;
    return folder ? kd_strf("%s" KD_PACK_OF_FOLDER, rest) : kd_strdup(rest);
}

/* The path names a file below the pack, and leads nowhere else. */
static kd_status check_path(const char *path, kd_err *err)
{
    if (strpbrk(path, "\t\n\r") != NULL) {
        return KD_FAIL(err, KD_E_DATA, "%s: a tab or a line break in a name is not kept in a pack", path);
    }
    if (!kdi_pack_stays_inside(path)) {
        return KD_FAIL(err, KD_E_DATA,
                       "%s: expected a video below --data or --video-dir; name its folder with "
                       "--video-dir",
                       path);
    }
    return KD_OK;
}

static kd_status prepare(kdi_pack *j, const pack_args *a, const kd_common *c, kd_err *err)
{
    const kd_scan_opts o = {.root = j->data, .video_dir = a->video_dir};
    KD_TRY(kd_scan_folder(&o, &j->scan, err));
    if (j->scan.counts.videos == 0) {
        return KD_FAIL(err, KD_E_DATA, "%s: holds no video; expected an NTU tree or a folder of videos", j->data);
    }
    KD_TRY(kdi_pack_check_place(j, a->video_dir, err));
    j->n = c->limit > 0 ? KD_MIN((size_t)c->limit, j->scan.n) : j->scan.n;
    j->row = kd_calloc(j->scan.n, sizeof *j->row);
    j->trouble = kd_calloc(j->scan.n, sizeof *j->trouble);
    if (j->row == NULL || j->trouble == NULL) {
        return KD_FAIL(err, KD_E_OOM, "pack: out of memory");
    }
    for (size_t i = 0; i < j->scan.n; i++) {
        if (j->scan.item[i].video != NULL && (j->row[i].path = packed_path(j, a, j->scan.item[i].video)) == NULL) {
            return KD_FAIL(err, KD_E_OOM, "pack: out of memory");
        }
        if (j->row[i].path != NULL) {
            KD_TRY(check_path(j->row[i].path, err));
        }
    }
    return KD_OK;
}

/* ---- the command ----------------------------------------------------------------------------- */

static kd_status print_pack(const kdi_pack *j, const kd_common *c, size_t failed, kd_err *err)
{
    int64_t frames = 0, bytes = 0, source = 0;
    size_t done = 0;
    for (size_t i = 0; i < j->scan.n; i++) {
        done += j->row[i].frames > 0;
        frames += j->row[i].frames;
        bytes += j->row[i].frames > 0 ? j->row[i].bytes : 0;
        source += j->row[i].frames > 0 ? j->row[i].source_bytes : 0;
    }
    if (c->json) {
        kd_json *d = kd_json_object();
        kd_json_set_str(d, "type", "result");
        kd_json_set_i64(d, "videos", (int64_t)done);
        kd_json_set_i64(d, "made", (int64_t)atomic_load(&j->made));
        kd_json_set_i64(d, "failed", (int64_t)failed);
        kd_json_set_i64(d, "frames", frames);
        kd_json_set_i64(d, "bytes", bytes);
        kd_json_set_i64(d, "source_bytes", source);
        return kd_print_json(d, err);
    }
    (void)printf("%zu videos at %s (%zu made now, %zu failed): %" PRId64 " frames, %.1f MB of %.1f MB\n", done,
                 KD_SHOWN(c->out), atomic_load(&j->made), failed, frames, (double)bytes * 1e-6, (double)source * 1e-6);
    return KD_OK;
}

/* What --limit does not reach stays in the pack. */
static kd_status keep_rest(kdi_pack *j, kd_err *err)
{
    for (size_t i = j->n; i < j->scan.n; i++) {
        char *file = j->row[i].path != NULL ? kd_path_join(j->out, j->row[i].path) : NULL;
        if (file == NULL && j->row[i].path != NULL) {
            return KD_FAIL(err, KD_E_OOM, "pack: out of memory");
        }
        (void)(file != NULL && take_row(j, &j->row[i], file));
        kd_free(file);
    }
    return KD_OK;
}

/* The rows that there are, as pack.tsv; what failed, as warnings. */
static kd_status finish(kdi_pack *j, const kd_common *c, kd_err *err)
{
    size_t n = 0, failed = 0;
    kd_pack_row *row = kd_calloc(j->scan.n, sizeof *row);
    if (row == NULL) {
        return KD_FAIL(err, KD_E_OOM, "pack: out of memory");
    }
    for (size_t i = 0; i < j->scan.n; i++) {
        if (j->row[i].frames > 0) {
            row[n++] = j->row[i];
        }
        if (j->trouble[i] != NULL) {
            failed++;
            kd_log(KD_LOG_ERROR, "%s", j->trouble[i]);
        }
    }
    kd_status st = kd_pack_finish(j->out, row, n, err);
    kd_free(row);
    if (st == KD_OK) {
        st = print_pack(j, c, failed, err);
    }
    return st == KD_OK && failed > 0
               ? KD_FAIL(err, KD_E_DATA,
                         "%s: %zu of %zu videos could not be read, named above; they are not in the pack", j->data,
                         failed, n + failed)
               : st;
}

static kd_status pack(const pack_args *a, const kd_common *c, kd_err *err)
{
    static const char *const CODEC[] = {"h264", "mjpeg"};
    const bool h264 = strcmp(a->codec, CODEC[0]) == 0, jpeg = strcmp(a->codec, CODEC[1]) == 0;
    kdi_pack j = {.data = c->data, .out = c->out, .raw = !h264 && !jpeg, .short_side = (int)a->short_side, .part = -1};
    j.opts = (kd_video_writer_opts){.codec = h264   ? KD_VIDEO_H264
                                             : jpeg ? KD_VIDEO_MJPEG
                                                    : KD_VIDEO_RAW,
                                    .quality = a->quality > 0 ? (int)a->quality
                                               : h264         ? 18
                                                              : 2,
                                    .gop = (int)a->gop,
                                    .b_frames = -1};
    kd_out rule = {.force = true, .data = c->data};
    kd_ticker ticker;
    const kd_progress progress = kd_ticker_start(&ticker, c);
    kd_lock *lock = NULL;
    kd_json *recipe = NULL;
    char *lock_path = kd_path_join(c->out, KDI_PACK_LOCK);
    kd_status st = KD_OK;
    (void)pthread_mutex_init(&j.lock, NULL);
    j.part_path = kd_path_join(c->out, KD_PACK_PART);
    if (lock_path == NULL || j.part_path == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "pack: out of memory");
    }
    KD_GO(st);
    KD_GO(kd_out_dir(&rule, c->out, (const char *const[]){KD_PACK_HEAD, KD_PACK_ROWS}, 2, err));
    KD_GO(prepare(&j, a, c, err));
    KD_GO(kdi_pack_check_folder(&j, err));
    KD_GO(kd_io_mkdirs(j.out, err));
    KD_GO(kd_io_lock(lock_path, &lock, err));
    kd_io_sweep(j.out);
    recipe = recipe_of(a, &j.opts);
    KD_GO(put_source(&j, a, recipe, err));
    st = kdi_pack_claim(&j, c, recipe, err);
    recipe = NULL;
    KD_GO(st);
    j.part = kd_io_open(j.part_path, O_WRONLY | O_CREAT | O_APPEND);
    if (j.part < 0) {
        st = KD_FAIL(err, KD_E_WRITE, "%s: cannot write: %s", j.part_path, strerror(errno));
        goto done;
    }
    kd_progress_begin(&progress, "pack", "videos", 0, j.n);
    KD_GO(kd_pool_run(pack_one, &j, j.n, kd_pool_threads(c->workers), &progress, err));
    kd_progress_end(&progress, NULL);
    KD_GO(keep_rest(&j, err));
    st = finish(&j, c, err);
    if (st == KD_OK || st == KD_E_DATA) { /* KD_E_DATA: videos that could not be read, named */
        kd_err own = {0};
        const kd_status swept = kdi_pack_sweep(&j, &own);
        if (swept != KD_OK && st == KD_OK) {
            st = KD_FAIL(err, swept, "the pack is whole, but %s", own.msg);
        } else if (swept != KD_OK) {
            kd_log(KD_LOG_ERROR, "%s", own.msg);
        }
    }
done:
    kd_json_free(recipe);
    if (j.part >= 0) {
        (void)close(j.part);
    }
    kd_io_unlock(lock);
    for (size_t i = 0; i < j.scan.n; i++) {
        if (j.row != NULL) {
            kd_free((char *)(uintptr_t)j.row[i].path);
        }
        if (j.trouble != NULL) {
            kd_free(j.trouble[i]);
        }
    }
    kd_free(j.row);
    kd_free(j.trouble);
    kd_free(j.part_path);
    kd_free(lock_path);
    kd_pack_free(&j.before);
    kd_pack_free(&j.old);
    kd_scan_free(&j.scan);
    (void)pthread_mutex_destroy(&j.lock);
    return st;
}

int kd_cmd_dataset_pack(int argc, char **argv)
{
    pack_args a;
    kd_common c;
    const int rc = kd_args_parse(&PACK, argc, argv, &a, &c, NULL);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    if (c.data == NULL) {
        return kd_usage(&PACK, "--data: expected the folder of the videos");
    }
    if (c.out == NULL) {
        return kd_usage(&PACK, "--out: expected the folder of the pack");
    }
    if (a.quality > 31 && strcmp(a.codec, "mjpeg") == 0) {
        return kd_usage(&PACK, "--quality: expected 1 to 31 for mjpeg, found %d", (int)a.quality);
    }
    if (a.gop != 1 && strcmp(a.codec, "h264") != 0) {
        return kd_usage(&PACK, "--gop: says nothing of %s, whose every frame is a key frame; leave it out", a.codec);
    }
    if (a.quality != 0 && strcmp(a.codec, "raw") == 0) {
        return kd_usage(&PACK, "--quality: raw frames are not compressed; leave it out");
    }
    kd_err err = {0};
    return kd_cmd_end(&PACK, pack(&a, &c, &err), &err);
}
