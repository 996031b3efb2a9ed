/* See media_case.h. */
#include "tests/formats/media_case.h"

#include "formats/base/io.h"
#include "formats/video/png.h"

#define ONE (1 << 16)

const int32_t kd_media_turn[4][9] = {{ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30},
                                     {0, ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30},
                                     {-ONE, 0, 0, 0, -ONE, 0, 0, 0, 1 << 30},
                                     {0, -ONE, 0, ONE, 0, 0, 0, 0, 1 << 30}};

void kd_media_paint(uint8_t *rgb, int w, int h, int t)
{
    for (int y = 0; y < h; y++) {
        for (int x = 0; x < w; x++) {
            uint8_t *p = rgb + 3 * (y * w + x);
            const bool corner = x < w / 3 && y < h / 3; /* top left */
            p[0] = (uint8_t)(40 + 4 * t);
            p[1] = corner ? 220 : 60;
            p[2] = (uint8_t)(200 - 4 * t);
        }
    }
}

int kd_media_which(const uint8_t *rgb)
{
    return (rgb[0] - 40 + 2) / 4;
}

static kd_status write_clip(const char *path, int frames, const kd_video_writer_opts *opts, kd_err *err)
{
    kd_video_writer *v = NULL;
    uint8_t rgb[KD_MEDIA_W * KD_MEDIA_H * 3];
    KD_TRY(kd_video_writer_open(path, KD_MEDIA_W, KD_MEDIA_H, 30, 1, opts, &v, err));
    for (int t = 0; t < frames; t++) {
        kd_media_paint(rgb, KD_MEDIA_W, KD_MEDIA_H, t);
        const kd_status st = kd_video_writer_frame(v, rgb, 0, err);
        if (st != KD_OK) {
            kd_video_writer_abort(v);
            return st;
        }
    }
    return kd_video_writer_close(v, err);
}

kd_status kd_media_clip(const char *path, int frames, kd_err *err)
{
    const kd_video_writer_opts o = {
        .codec = KD_VIDEO_MPEG4, .b_frames = -1, .container = kd_path_has_suffix(path, ".mp4") ? "mp4" : "avi"};
    return write_clip(path, frames, &o, err);
}

static uint8_t *find(uint8_t *p, size_t n, const char tag[4])
{
    for (size_t i = 0; i + 4 <= n; i++) {
        if (memcmp(p + i, tag, 4) == 0) {
            return p + i;
        }
    }
    return NULL;
}

static uint32_t get32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) {
        p[i] = (uint8_t)(v >> (8 * i));
    }
}

/* ---- AVI ------------------------------------------------------------------------------------- */

typedef struct output {
    uint8_t *p, *index; /* the file; entries of idx1, 16 bytes each */
    size_t n, movi;     /* bytes so far; offset of the word "movi", which idx1 counts from */
    uint32_t chunks;
} output;

static void put_chunk(output *o, const uint8_t *data, uint32_t n, uint32_t flags)
{
    uint8_t *e = o->index + (size_t)16 * o->chunks++;
    memcpy(e, "00dc", 4);
    put32(e + 4, flags);
    put32(e + 8, (uint32_t)(o->n - o->movi));
    put32(e + 12, n);
    memcpy(o->p + o->n, "00dc", 4);
    put32(o->p + o->n + 4, n);
    memcpy(o->p + o->n + 8, data, n);
    o->n += 8 + n + (n & 1u);
}

static void put_repeats(output *o, int picture, const int *after, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (after[i] == picture) {
            put_chunk(o, o->p, 0, 0);
        }
    }
}

static kd_status rebuild(const char *path, uint8_t *p, size_t bytes, output *o, const int *after, size_t n, kd_err *err)
{
    uint8_t *movi = find(p, bytes, "movi");
    uint8_t *avih = find(p, bytes, "avih");
    uint8_t *strh = find(p, bytes, "strh");
    if (movi == NULL || avih == NULL || strh == NULL) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: no AVI", path);
    }
    const uint8_t *end = movi + get32(movi - 4);
    o->movi = (size_t)(movi - p);
    o->n = o->movi + 4;
    memcpy(o->p, p, o->n);
    put_repeats(o, -1, after, n);
    int picture = 0;
    for (const uint8_t *c = movi + 4; c < end; picture++) {
        const uint32_t size = get32(c + 4);
        put_chunk(o, c + 8, size, picture == 0 ? 0x10 : 0); /* a key frame */
        put_repeats(o, picture, after, n);
        c += 8 + size + (size & 1u);
    }
    put32(o->p + o->movi - 4, (uint32_t)(o->n - o->movi));
    memcpy(o->p + o->n, "idx1", 4);
    put32(o->p + o->n + 4, 16 * o->chunks);
    memcpy(o->p + o->n + 8, o->index, (size_t)16 * o->chunks);
    o->n += 8 + (size_t)16 * o->chunks;
    put32(o->p + 4, (uint32_t)o->n - 8);
    put32(o->p + (avih - p) + 8 + 16, o->chunks);
    put32(o->p + (strh - p) + 8 + 32, o->chunks);
    return kd_io_write_file(path, o->p, o->n, err);
}

kd_status kd_media_repeats(const char *path, int frames, const int *after, size_t n, kd_err *err)
{
    const kd_video_writer_opts opts = {.codec = KD_VIDEO_MPEG4, .b_frames = -1};
    uint8_t *p = NULL;
    size_t bytes = 0;
    KD_TRY(write_clip(path, frames, &opts, err));
    KD_TRY(kd_io_read_file(path, 64 << 20, &p, &bytes, err));
    const size_t chunks = (size_t)frames + n;
    output o = {.p = kd_calloc(1, bytes + 24 * chunks + 64), .index = kd_calloc(chunks, 16)};
    const kd_status st = o.p != NULL && o.index != NULL ? rebuild(path, p, bytes, &o, after, n, err)
                                                        : KD_FAIL(err, KD_E_OOM, "%s: no memory", path);
    kd_free(p);
    kd_free(o.p);
    kd_free(o.index);
    return st;
}

/* ---- MP4 ------------------------------------------------------------------------------------- */

kd_status kd_media_matrix(const char *path, const int32_t matrix[9], kd_err *err)
{
    enum { TO_MATRIX = 4 + 4 + 20 + 16 }; /* of tkhd, version 0: its name, flags, times and ids, layer to volume */
    uint8_t *p = NULL;
    size_t n = 0;
    KD_TRY(kd_io_read_file(path, 64 << 20, &p, &n, err));
    uint8_t *tkhd = find(p, n, "tkhd");
    if (tkhd == NULL || tkhd[4] != 0) {
        kd_free(p);
        return KD_FAIL(err, KD_E_FORMAT, "%s: no MP4 with a track header of version 0", path);
    }
    for (int i = 0; i < 36; i++) {
        tkhd[TO_MATRIX + i] = (uint8_t)((uint32_t)matrix[i / 4] >> (24 - 8 * (i % 4)));
    }
    const kd_status st = kd_io_write_file(path, p, n, err);
    kd_free(p);
    return st;
}

/* ---- folders --------------------------------------------------------------------------------- */

kd_status kd_media_frames(const char *dir, const char *prefix, int first, int frames, kd_err *err)
{
    uint8_t rgb[KD_MEDIA_W * KD_MEDIA_H * 3];
    KD_TRY(kd_io_mkdirs(dir, err));
    for (int t = 0; t < frames; t++) {
        uint8_t *png = NULL;
        size_t n = 0;
        kd_media_paint(rgb, KD_MEDIA_W, KD_MEDIA_H, t);
        KD_TRY(kd_png_encode(rgb, KD_MEDIA_W, KD_MEDIA_H, 3, &png, &n, err));
        char *path = kd_strf("%s/%s%05d.png", dir, prefix, first + t);
        const kd_status st =
            path != NULL ? kd_io_write_file(path, png, n, err) : KD_FAIL(err, KD_E_OOM, "%s: no memory", dir);
        kd_free(path);
        kd_free(png);
        KD_TRY(st);
    }
    return KD_OK;
}
