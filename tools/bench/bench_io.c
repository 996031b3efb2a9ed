/* Decoding and the logit store. */
#include "formats/store/logit_store.h"
#include "formats/video/video.h"
#include "kernels/kd_rng.h"
#include "tools/bench/bench.h"

#include <stdio.h>
#include <unistd.h>

/* ---- decode ---------------------------------------------------------------------------------- */

enum { CLIP_FRAMES = 16 };

typedef struct decode_bench {
    const char *path;
    kd_video_opts opts;
} decode_bench;

static kd_status decode_all(void *ctx)
{
    const decode_bench *d = ctx;
    kd_video_info info;
    return kd_video_count(d->path, NULL, &info, NULL);
}

/* 16 frames spread evenly, as a test clip takes them. */
static kd_status spread(void *ctx, size_t frames, size_t *idx, size_t n, kd_err *err)
{
    (void)ctx;
    (void)err;
    for (size_t i = 0; i < n; i++) {
        idx[i] = i * frames / n;
    }
    return KD_OK;
}

static kd_status decode_clip(void *ctx)
{
    const decode_bench *d = ctx;
    kd_video_info info;
    kd_video_clip clip = {0};
    const kd_status st = kd_video_sample(d->path, &d->opts, spread, NULL, CLIP_FRAMES, &clip, &info, NULL);
    kd_video_clip_free(&clip);
    return st;
}

kd_status kd_bench_decode(kd_bench *b, char *const *paths, int count, kd_err *err)
{
    for (int i = 0; i < count; i++) {
        char label[128];
        const char *name = strrchr(paths[i], '/') != NULL ? strrchr(paths[i], '/') + 1 : paths[i];
        kd_video_info info;
        KD_TRY(kd_video_count(paths[i], NULL, &info, err));
        decode_bench d = {.path = paths[i]};
        (void)snprintf(label, sizeof label, "%.40s %dx%d %s: every frame", name, info.width, info.height, info.codec);
        KD_TRY(kd_bench_time(b, label, (double)info.frames, "frames", decode_all, &d, err));
        (void)snprintf(label, sizeof label, "%.40s: %d frames as RGB, first reading", name, CLIP_FRAMES);
        KD_TRY(kd_bench_time(b, label, 1.0, "clips", decode_clip, &d, err));
        d.opts.known_frames = info.frames;
        (void)snprintf(label, sizeof label, "%.40s: %d frames as RGB, later readings", name, CLIP_FRAMES);
        KD_TRY(kd_bench_time(b, label, 1.0, "clips", decode_clip, &d, err));
    }
    return KD_OK;
}

/* ---- store ----------------------------------------------------------------------------------- */

enum { RECORDS = 2000, STORE_CLASSES = 60, FEATURES = 1024, READS = 256 };

typedef struct store_bench {
    char path[512];
    float logits[STORE_CLASSES], feature[FEATURES];
    char names[STORE_CLASSES][8];
    const char *classes[STORE_CLASSES];
    kd_store *store;
    kd_store_cursor *cursor;
    uint32_t seed;
} store_bench;

static kd_status write_store(void *ctx)
{
    store_bench *s = ctx;
    static const int32_t frames[CLIP_FRAMES] = {0};
    const kd_store_view view = {.n_frames = CLIP_FRAMES, .frames = frames};
    const kd_store_manifest m = {.teacher = "bench",
                                 .views = "1x1",
                                 .merge = "prob",
                                 .feature = "fc_norm",
                                 .classes = s->classes,
                                 .n_classes = STORE_CLASSES,
                                 .logit_dtype = KD_F16,
                                 .feature_dim = FEATURES,
                                 .feature_dtype = KD_F16};
    kd_store_writer *w = NULL;
    kd_rng r = kd_rng_make(1, KD_RNG_TEST, 0, 0);
    (void)unlink(s->path);
    KD_TRY(kd_store_writer_open(s->path, &m, KD_STORE_NEW, &w, NULL, NULL));
    for (int i = 0; i < RECORDS; i++) {
        char id[KD_STORE_ID_MAX];
        for (int k = 0; k < STORE_CLASSES; k++) {
            s->logits[k] = 8.0f * kd_rng_unit(kd_rng_u32(&r)) - 4.0f;
        }
        for (int k = 0; k < FEATURES; k++) {
            s->feature[k] = 2.0f * kd_rng_unit(kd_rng_u32(&r)) - 1.0f;
        }
        (void)snprintf(id, sizeof id, "sample%06d", i);
        const kd_store_record rec = {
            .id = id, .order = (uint64_t)i, .n_views = 1, .logits = s->logits, .feature = s->feature, .views = &view};
        const kd_status st = kd_store_append(w, &rec, NULL);
        if (st != KD_OK) {
            kd_store_writer_discard(w);
            return st;
        }
    }
    return kd_store_writer_close(w, NULL);
}

static kd_status read_in_order(void *ctx)
{
    store_bench *s = ctx;
    kd_store_record rec;
    for (int64_t i = 0; i < RECORDS; i++) {
        KD_TRY(kd_store_read(s->cursor, i, &rec, NULL));
    }
    return KD_OK;
}

static kd_status read_at_random(void *ctx)
{
    store_bench *s = ctx;
    kd_store_record rec;
    for (int i = 0; i < READS; i++) {
        const uint32_t at = kd_rng_at(2, KD_RNG_TEST, s->seed, 0, (uint64_t)i) % RECORDS;
        KD_TRY(kd_store_read(s->cursor, at, &rec, NULL));
    }
    s->seed++;
    return KD_OK;
}

kd_status kd_bench_store(kd_bench *b, const char *dir, kd_err *err)
{
    store_bench *s = kd_calloc(1, sizeof *s);
    kd_status st;
    if (s == NULL) {
        return KD_FAIL(err, KD_E_OOM, "out of memory");
    }
    (void)snprintf(s->path, sizeof s->path, "%s/kd-bench-%ld.logits.zst", dir, (long)getpid());
    for (int k = 0; k < STORE_CLASSES; k++) {
        (void)snprintf(s->names[k], sizeof s->names[k], "c%d", k);
        s->classes[k] = s->names[k];
    }
    KD_GO(kd_bench_time(b, "store: write 2000 records, 60 logits and 1024 features in fp16", RECORDS, "records",
                        write_store, s, err));
    KD_GO(kd_store_open(s->path, &s->store, err));
    KD_GO(kd_store_cursor_new(s->store, &s->cursor, err));
    KD_GO(kd_bench_time(b, "store: read 2000 records in order", RECORDS, "records", read_in_order, s, err));
    KD_GO(kd_bench_time(b, "store: read 256 records at random", READS, "records", read_at_random, s, err));
    kd_log(KD_LOG_INFO, "store: %.1f bytes a record on disk, %.1f unpacked",
           (double)kd_store_file_bytes(s->store) / RECORDS, (double)kd_store_raw_bytes(s->store) / RECORDS);
done:
    kd_store_cursor_free(s->cursor);
    kd_store_close(s->store);
    (void)unlink(s->path);
    kd_free(s);
    return st;
}
