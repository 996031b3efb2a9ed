/* kd dataset pack: the videos of a data set once more, small and quick to decode. */
#include "formats/data/pack.h"

#include "formats/base/io.h"
#include "formats/data/scan.h"
#include "formats/video/video.h"
#include "tools/commands/commands.h"
#include "tools/print.h"
#include "tools/process/out.h"
#include "tools/progress.h"
#include "tools/sample/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK "lock"

typedef struct pack_args {
    int64_t short_side, gop, quality;
    const char *codec, *video_dir;
} pack_args;

static const kd_arg PACK_ARGS[] = {
    KD_OPT_INT(pack_args, short_side, "short-side", "N", "256", 16, 2048,
               "pixels of the short side; smaller videos keep their size"),
    KD_OPT_CHOICE(pack_args, codec, "codec", "h264", "h264|mjpeg|raw", "raw: RGB as it is, for small sets"),
    KD_OPT_INT(pack_args, gop, "gop", "N", "1", 1, 600,
               "h264: frames from one key frame to the next; 1: key frames alone"),
    KD_OPT_INT(pack_args, quality, "quality", "N", "0", 0, 51,
               "h264: crf (0: 18); mjpeg: quantiser 1 to 31 (0: 2); smaller is better"),
    KD_OPT_STR(pack_args, video_dir, "video-dir", "DIR", NULL, "folder of the videos below --data, as data.video_dir"),
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
             "pack (exit code 3); --resume goes on, and makes anew what has changed in the source.",
    .examples =
        "kd dataset pack --data ntu --out /data/ntu-256\n"
        "teacher finetune --config configs/teacher/tiny.yaml --data ntu --set data.video_dir=/data/ntu-256 --out a",
};

typedef struct job {
    const char *data, *out;
    kd_scan scan;
    kd_pack before; /* rows that are there already */
    kd_video_writer_opts opts;
    bool raw;
    int short_side, part; /* part: descriptor of pack.part */
    char *part_path;
    pthread_mutex_t lock; /* guards pack.part */
    kd_pack_row *row;     /* [scan.n]; frames 0: none */
    char **trouble;       /* [scan.n]; NULL: none */
    _Atomic size_t made;
} job;

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
static const char *container(const job *j, const char *path)
{
    return j->raw                             ? "nut"
           : kd_path_has_suffix(path, ".avi") ? "avi"
           : kd_path_has_suffix(path, ".mp4") ? "mp4"
           : kd_path_has_suffix(path, ".mov") ? "mov"
                                              : "matroska";
}

static kd_status note(job *j, const kd_pack_row *row, kd_err *err)
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

static kd_status make(job *j, const char *from, const char *to, kd_pack_row *row, kd_err *err)
{
    kd_video_info info;
    kd_video_writer_opts o = j->opts;
    o.container = container(j, to);
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

static kd_status pack_one(void *ctx, size_t i, kd_err *err)
{
    job *j = ctx;
    const char *video = j->scan.item[i].video;
    kd_pack_row *row = &j->row[i];
    if (video == NULL) {
        return KD_OK;
    }
    char *from = kd_path_join(j->data, video), *to = kd_path_join(j->out, row->path);
    kd_err own = {0};
    kd_status st = from != NULL && to != NULL ? KD_OK : KD_FAIL(&own, KD_E_OOM, "pack: out of memory");
    if (st == KD_OK) {
        const kd_pack_row *before = kd_pack_find(&j->before, row->path);
        row->source_bytes = source_bytes(from);
        if (before != NULL && before->source_bytes == row->source_bytes && file_bytes(to) == before->bytes) {
            const char *path = row->path;
            *row = *before;
            row->path = path;
        } else {
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

/* The rows that a resumed run finds go to a new pack.part, so that the folder is an unfinished pack from here on. */
static kd_status take_over(job *j, kd_err *err)
{
    char *rows = kd_path_join(j->out, KD_PACK_ROWS);
    kd_status st = rows != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "pack: out of memory");
    if (st == KD_OK) {
        st = kd_path_is_file(rows) ? kd_pack_read(j->out, &j->before, err) : kd_pack_read_part(j->out, &j->before, err);
    }
    kd_writer *w = NULL;
    KD_GO(st);
    KD_GO(kd_writer_open(j->part_path, &w, err));
    for (size_t i = 0; i < j->before.n; i++) {
        char *line = kd_pack_line(&j->before.row[i]);
        st = line != NULL ? kd_writer_put(w, line, strlen(line), err) : KD_FAIL(err, KD_E_OOM, "pack: out of memory");
        kd_free(line);
        KD_GO(st);
    }
    st = kd_writer_commit(w, err);
    w = NULL;
    if (st == KD_OK) {
        (void)unlink(rows);
    }
done:
    kd_writer_abort(w);
    kd_free(rows);
    return st;
}

/* New or empty, or this very pack and asked for. */
static kd_status claim(job *j, const kd_common *c, kd_json *recipe, kd_err *err)
{
    char *head = kd_path_join(j->out, KD_PACK_HEAD), *text = NULL;
    uint8_t *old = NULL;
    size_t bytes = 0, old_bytes = 0, count = 0;
    char **names = NULL;
    kd_status st = kd_pack_head(recipe, &text, &bytes, err);
    if (st == KD_OK && head == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "pack: out of memory");
    }
    KD_GO(st);
    if (!kd_pack_is(j->out)) {
        KD_GO(kd_io_list_dir(j->out, &names, &count, err));
        if (count > 1 || (count == 1 && strcmp(names[0], LOCK) != 0)) {
            st = KD_FAIL(err, KD_E_ARG, "%s: is not empty and holds no pack; choose another --out", j->out);
            goto done;
        }
    } else {
        KD_GO(kd_io_read_file(head, 1 << 20, &old, &old_bytes, err));
        const bool same = old_bytes == bytes && memcmp(old, text, bytes) == 0;
        if (!c->force && (!same || !c->resume)) {
            st =
                KD_FAIL(err, KD_E_ARG,
                        same ? "%s: holds this pack already, perhaps unfinished; go on with --resume, or make it again "
                               "with --force"
                             : "%s: holds a pack of another recipe; choose another --out, or replace it with --force",
                        j->out);
            goto done;
        }
    }
    KD_GO(kd_io_write_file(head, text, bytes, err));
    if (c->resume && !c->force) {
        KD_GO(take_over(j, err));
    } else {
        char *rows = kd_path_join(j->out, KD_PACK_ROWS);
        (void)unlink(j->part_path);
        (void)!(rows != NULL && unlink(rows) == 0);
        kd_free(rows);
    }
done:
    kd_free(names);
    kd_free(old);
    kd_free(text);
    kd_free(head);
    return st;
}

/* Path of item i below the pack: as below the folder of the videos. */
static char *packed_path(const job *j, const pack_args *a, const char *video)
{
    const size_t n = a->video_dir != NULL ? strlen(a->video_dir) : 0;
    const bool below = n > 0 && strncmp(video, a->video_dir, n) == 0 && (video[n] == '/' || a->video_dir[n - 1] == '/');
    const char *rest = below ? video + n + (video[n] == '/') : video;
    char *from = kd_path_join(j->data, video);
    const bool folder = from != NULL && kd_path_is_dir(from);
    kd_free(from);
    return folder ? kd_strf("%s" KD_PACK_OF_FOLDER, rest) : kd_strdup(rest);
}

static kd_status prepare(job *j, const pack_args *a, const kd_common *c, kd_err *err)
{
    const kd_scan_opts o = {.root = j->data, .video_dir = a->video_dir};
    KD_TRY(kd_scan_folder(&o, &j->scan, err));
    if (j->scan.counts.videos == 0) {
        return KD_FAIL(err, KD_E_DATA, "%s: holds no video; expected an NTU tree or a folder of videos", j->data);
    }
    if (c->limit > 0 && (size_t)c->limit < j->scan.n) {
        j->scan.n = (size_t)c->limit;
    }
    j->row = kd_calloc(j->scan.n, sizeof *j->row);
    j->trouble = kd_calloc(j->scan.n, sizeof *j->trouble);
    if (j->row == NULL || j->trouble == NULL) {
        return KD_FAIL(err, KD_E_OOM, "pack: out of memory");
    }
    for (size_t i = 0; i < j->scan.n; i++) {
        if (j->scan.item[i].video != NULL && (j->row[i].path = packed_path(j, a, j->scan.item[i].video)) == NULL) {
            return KD_FAIL(err, KD_E_OOM, "pack: out of memory");
        }
        if (j->row[i].path != NULL && strpbrk(j->row[i].path, "\t\n\r") != NULL) {
            return KD_FAIL(err, KD_E_DATA, "%s: a tab or a line break in a name is not kept in a pack", j->row[i].path);
        }
    }
    return KD_OK;
}

/* ---- the command ----------------------------------------------------------------------------- */

static kd_status print_pack(const job *j, const kd_common *c, size_t failed, kd_err *err)
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

/* The rows that there are, as pack.tsv; what failed, as warnings. */
static kd_status finish(job *j, const kd_common *c, kd_err *err)
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
    job j = {.data = c->data, .out = c->out, .raw = !h264 && !jpeg, .short_side = (int)a->short_side, .part = -1};
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
    char *lock_path = kd_path_join(c->out, LOCK);
    kd_status st = KD_OK;
    (void)pthread_mutex_init(&j.lock, NULL);
    j.part_path = kd_path_join(c->out, KD_PACK_PART);
    if (lock_path == NULL || j.part_path == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "pack: out of memory");
    }
    KD_GO(st);
    KD_GO(kd_out_dir(&rule, c->out, (const char *const[]){KD_PACK_HEAD, KD_PACK_ROWS}, 2, err));
    KD_GO(prepare(&j, a, c, err));
    KD_GO(kd_io_mkdirs(j.out, err));
    KD_GO(kd_io_lock(lock_path, &lock, err));
    kd_io_sweep(j.out);
    KD_GO(claim(&j, c, recipe_of(a, &j.opts), err));
    j.part = kd_io_open(j.part_path, O_WRONLY | O_CREAT | O_APPEND);
    if (j.part < 0) {
        st = KD_FAIL(err, KD_E_WRITE, "%s: cannot write: %s", j.part_path, strerror(errno));
        goto done;
    }
    kd_progress_begin(&progress, "pack", "videos", 0, j.scan.n);
    KD_GO(kd_pool_run(pack_one, &j, j.scan.n, kd_pool_threads(c->workers), &progress, err));
    kd_progress_end(&progress, NULL);
    st = finish(&j, c, err);
done:
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
    kd_err err = {0};
    return kd_cmd_end(&PACK, pack(&a, &c, &err), &err);
}
