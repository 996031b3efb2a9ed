/* Skeletons of a half as rows of streams: read once, kept normalised, augmented anew every
 * epoch. */
#include "student/skeleton/sequence.h"

#include "formats/data/cache.h"
#include "formats/skeleton/denoise.h"

/* A sequence as it is kept: bodies 0 .. n-1, those behind are absent. */
typedef struct kept {
    int bodies;
    float x[]; /* (3, T, 25, bodies) */
} kept;

/* A sample that could not be read. */
typedef struct fault {
    kd_status code; /* KD_OK: it could */
    char *message;
} fault;

struct kd_sequence_source {
    kd_sequence_spec spec;
    const kd_half *half;
    bool train;
    int n_streams;
    int stream[KD_ROW_TENSORS]; /* 0 joint, 1 velocity, 2 bone, 3 bone velocity, in the student's order */
    unsigned bits;
    size_t floats; /* of one stream of one sample */
    kd_cache *cache;
    uint64_t cache_bytes;
    const kd_store_cut *cut; /* [half->n, cuts]; NULL: whole recordings */
    int cuts;
    fault *unread; /* [half->n] after kd_sequence_rows; each written by one thread */
};

static const char *const STREAM[KD_SKEL_STREAMS] = {"joint", "velocity", "bone", "bone_velocity"};

static size_t stream_floats(const kd_sequence_spec *s)
{
    const size_t joints = (size_t)kd_sequence_layout(s)->joints;
    return (size_t)3 * (size_t)s->skeleton.frames * joints * (size_t)s->skeleton.max_bodies;
}

/* Copy (positions, from) to (positions, to), zeros in what `from` lacks. */
static void change_bodies(const float *src, int from, size_t positions, int to, float *dst)
{
    for (size_t i = 0; i < positions; i++) {
        for (int m = 0; m < to; m++) {
            dst[i * (size_t)to + (size_t)m] = m < from ? src[i * (size_t)from + (size_t)m] : 0.0f;
        }
    }
}

static int bodies_used(const float *x, size_t positions, int bodies)
{
    for (int m = bodies - 1; m > 0; m--) {
        for (size_t i = 0; i < positions; i++) {
            if (x[i * (size_t)bodies + (size_t)m] != 0.0f) {
                return m + 1;
            }
        }
    }
    return 1;
}

static void keep(kd_sequence_source *s, size_t place, const float *x)
{
    const int bodies = s->spec.skeleton.max_bodies;
    const size_t positions = s->floats / (size_t)bodies;
    const int used = bodies_used(x, positions, bodies);
    const size_t bytes = sizeof(kept) + positions * (size_t)used * sizeof(float);
    if (!kd_cache_reserve(s->cache, bytes)) {
        return;
    }
    kept *k = kd_alloc(bytes);
    if (k == NULL) { /* keeping is optional */
        kd_cache_give_back(s->cache, bytes);
        return;
    }
    k->bodies = used;
    change_bodies(x, bodies, positions, used, k->x);
    (void)kd_cache_put(s->cache, place, k, bytes);
}

/* The frames of a view, in place: bodies keep their numbers, so that people are those of the whole recording. */
static kd_status cut_frames(kd_skeleton *skel, const kd_store_cut *cut, size_t *before, kd_err *err)
{
    const size_t first = (size_t)KD_MAX(cut->first, 0);
    if (first >= skel->frames) {
        return KD_FAIL(
            err, KD_E_DATA,
            "the teacher's view is of frames %d to %d, the recording has %zu; leave skeleton_aug.match_views "
            "out where videos and skeletons do not share their frames",
            cut->first, cut->last, skel->frames);
    }
    const size_t end = KD_MIN((size_t)KD_MAX(cut->last, cut->first) + 1, skel->frames);
    if (skel->first[first] == skel->first[end]) {
        return KD_FAIL(err, KD_E_DATA, "no frame from %zu to %zu, which the teacher's view is of, has a body", first,
                       end - 1);
    }
    *before = first;
    skel->first += first;
    skel->frames = end - first;
    return KD_OK;
}

static kd_status read_sequence(const kd_sequence_spec *spec, const kd_data_sample *d, const kd_store_cut *cut, float *x,
                               kd_err *err)
{
    size_t before = 0;
    const kd_skel_opts opts = kd_sequence_file_opts(spec);
    kd_skeleton skel = {0};
    kd_status st;
    KD_GO(d->archive != NULL ? kd_archive_read(d->archive, d->row, &opts, &skel, err)
                             : kd_skeleton_read(d->skeleton, &opts, &skel, err));
    st = spec->denoise ? kd_skeleton_denoise(&skel, err) : KD_OK;
    st = st == KD_OK && cut != NULL ? cut_frames(&skel, cut, &before, err) : st;
    st = st == KD_OK ? kd_sequence_make(spec, &skel, x, err) : st;
    skel.first -= before;
    if (st != KD_OK) {
        st = kd_err_prefix(err, st, "%s", d->skeleton);
    }
done:
    kd_skeleton_free(&skel);
    return st;
}

/* Where the cut of a row stands in the list. */
static size_t place_of(const kd_sequence_source *s, const kd_item *item)
{
    return s->cut == NULL ? item->sample : (size_t)item->sample * (size_t)s->cuts + item->epoch % (uint32_t)s->cuts;
}

static kd_status load(kd_sequence_source *s, const kd_item *item, float *x, kd_err *err)
{
    const uint32_t sample = item->sample;
    const size_t place = place_of(s, item);
    const int bodies = s->spec.skeleton.max_bodies;
    const kept *k = s->cache != NULL ? kd_cache_get(s->cache, place) : NULL;
    if (k != NULL) {
        change_bodies(k->x, k->bodies, s->floats / (size_t)bodies, bodies, x);
        return KD_OK;
    }
    const kd_data_sample *d = &s->half->sample[sample];
    const kd_status st = read_sequence(&s->spec, d, s->cut != NULL ? &s->cut[place] : NULL, x, err);
    if (st != KD_OK) {
        return d->id != NULL ? kd_err_prefix(err, st, "%s", d->id) : st;
    }
    if (s->cache != NULL) {
        keep(s, place, x);
    }
    return KD_OK;
}

static kd_sequence_draw draw_of(const kd_sequence_source *s, const kd_item *item)
{
    kd_sequence_draw d =
        kd_sequence_draw_make(&s->spec, kd_rng_make(s->spec.seed, KD_RNG_SAMPLE, item->sample, item->epoch));
    d.flip = s->cut != NULL ? s->cut[place_of(s, item)].flip : d.flip;
    return d;
}

static void write_streams(const kd_sequence_source *s, const kd_sequence_draw *draw, const float *x, void *const *dst)
{
    float *sorted[KD_SKEL_STREAMS];
    int n = 0;
    for (int stream = 0; stream < KD_SKEL_STREAMS; stream++) {
        for (int i = 0; i < s->n_streams; i++) {
            if (s->stream[i] == stream) {
                sorted[n++] = dst[i];
            }
        }
    }
    kd_sequence_streams(&s->spec, draw, x, s->bits, sorted);
}

static kd_status sequence_fill(void *ctx, const kd_item *item, void *scratch, void *const *dst, kd_err *err)
{
    kd_sequence_source *s = ctx;
    float *x = scratch;
    KD_TRY(load(s, item, x, err));
    const kd_sequence_draw draw = s->train ? draw_of(s, item) : (kd_sequence_draw){.scale = 1.0};
    write_streams(s, s->train ? &draw : NULL, x, dst);
    return KD_OK;
}

/* Scratch of a worker: one sequence. */
static void worker_free(void *ctx, void *scratch)
{
    (void)ctx;
    kd_free(scratch);
}

static kd_status worker_new(void *ctx, void **scratch, kd_err *err)
{
    const kd_sequence_source *s = ctx;
    *scratch = kd_alloc(s->floats * sizeof(float));
    return *scratch != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "no memory for a skeleton worker");
}

static void sequence_label(void *ctx, const kd_item *item, int32_t *dst)
{
    *dst = ((const kd_sequence_source *)ctx)->half->sample[item->sample].label;
}

static const char *sequence_id(void *ctx, uint32_t sample)
{
    return ((const kd_sequence_source *)ctx)->half->sample[sample].id;
}

uint64_t kd_sequence_default_cache(void)
{
    return kd_cache_default((uint64_t)4 << 30);
}

static kd_status set_streams(kd_sequence_source *s, const char *const *streams, int n, kd_err *err)
{
    if (n < 1 || n > KD_SKEL_STREAMS) {
        return KD_FAIL(err, KD_E_ARG, "%d streams: expected 1 to %d", n, KD_SKEL_STREAMS);
    }
    for (int i = 0; i < n; i++) {
        int k = 0;
        while (k < KD_SKEL_STREAMS && strcmp(streams[i], STREAM[k]) != 0) {
            k++;
        }
        if (k == KD_SKEL_STREAMS || (s->bits >> k & 1) != 0) {
            return KD_FAIL(err, KD_E_ARG,
                           "stream '%s': expected joint, velocity, bone and bone_velocity, each at most once",
                           streams[i]);
        }
        s->stream[i] = k;
        s->bits |= 1u << k;
    }
    s->n_streams = n;
    return KD_OK;
}

static kd_status check(const kd_skeleton_opts *k, const kd_half *half, kd_err *err)
{
    if (k->frames < 4 || k->frames > 1024 || k->max_bodies < 1 || k->max_bodies > 2) {
        return KD_FAIL(err, KD_E_CONFIG, "sequences: expected 4 to 1024 frames and 1 or 2 bodies, found %d and %d",
                       k->frames, k->max_bodies);
    }
    for (size_t i = 0; i < half->n; i++) {
        if (half->sample[i].skeleton == NULL) {
            return KD_FAIL(err, KD_E_DATA, "%s: there is no skeleton", half->sample[i].id);
        }
    }
    return KD_OK;
}

kd_status kd_sequence_source_open(const kd_sequence_spec *spec, const kd_half *half, bool train,
                                  const char *const *streams, int n_streams, uint64_t cache_bytes,
                                  kd_sequence_source **out, kd_err *err)
{
    *out = NULL;
    KD_TRY(check(&spec->skeleton, half, err));
    kd_sequence_source *s = kd_calloc(1, sizeof *s);
    if (s == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory for %zu skeletons", half->n);
    }
    s->spec = *spec;
    s->half = half;
    s->train = train;
    s->floats = stream_floats(spec);
    s->cache_bytes = cache_bytes;
    kd_status st = set_streams(s, streams, n_streams, err);
    if (st == KD_OK && cache_bytes > 0) {
        s->cache = kd_cache_new(half->n, cache_bytes);
        if (s->cache == NULL) {
            st = KD_FAIL(err, KD_E_OOM, "no memory for %zu skeletons", half->n);
        }
    }
    if (st != KD_OK) {
        kd_sequence_source_close(s);
        return st;
    }
    *out = s;
    return KD_OK;
}

kd_status kd_sequence_source_cut(kd_sequence_source *s, const kd_store_cut *cut, int n, kd_err *err)
{
    size_t places;
    KD_ASSERT(s->train && n > 0 && s->cut == NULL);
    s->cut = cut;
    s->cuts = n;
    if (s->cache == NULL) {
        return KD_OK;
    }
    kd_cache_free(s->cache); /* a place a view */
    s->cache = kd_size_mul(s->half->n, (size_t)n, &places) ? kd_cache_new(places, s->cache_bytes) : NULL;
    return s->cache != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "no memory for %d views of %zu skeletons", n, s->half->n);
}

void kd_sequence_source_close(kd_sequence_source *s)
{
    if (s == NULL) {
        return;
    }
    kd_cache_free(s->cache);
    for (size_t i = 0; s->unread != NULL && i < s->half->n; i++) {
        kd_free(s->unread[i].message);
    }
    kd_free(s->unread);
    kd_free(s);
}

kd_producer kd_sequence_producer(kd_sequence_source *s)
{
    kd_producer p = {.ctx = s,
                     .samples = s->half->n,
                     .views = 1,
                     .n_tensors = s->n_streams,
                     .grain = 8,
                     .scratch_new = worker_new,
                     .scratch_free = worker_free,
                     .fill = sequence_fill,
                     .label = sequence_label,
                     .id = sequence_id};
    for (int i = 0; i < s->n_streams; i++) {
        const int64_t dim[4] = {3, s->spec.skeleton.frames, kd_sequence_layout(&s->spec)->joints,
                                s->spec.skeleton.max_bodies};
        p.tensor[i] = kd_row_spec_of(STREAM[s->stream[i]], KD_F32, 4, dim);
    }
    return p;
}

/* ---- sequences and draws apart --------------------------------------------------------------- */

static kd_status rows_fill(void *ctx, const kd_item *item, void *scratch, void *const *dst, kd_err *err)
{
    (void)scratch;
    kd_sequence_source *s = ctx;
    fault *f = &s->unread[item->sample];
    kd_err why = {0};
    const kd_status st = load(s, item, dst[0], &why);
    if (st == KD_OK) {
        return KD_OK;
    }
    if (!kd_sample_unreadable(st)) {
        return KD_FAIL(err, st, "%s", why.msg);
    }
    memset(dst[0], 0, s->floats * sizeof(float));
    f->message = kd_strdup(why.msg);
    f->code = st;
    return f->message != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "no memory for a message");
}

static kd_status draws_fill(void *ctx, const kd_item *item, void *scratch, void *const *dst, kd_err *err)
{
    (void)scratch;
    const kd_sequence_source *s = ctx;
    const fault *f = s->unread != NULL ? &s->unread[item->sample] : NULL;
    if (f != NULL && f->code != KD_OK) {
        return KD_FAIL(err, f->code, "%s", f->message);
    }
    const kd_sequence_draw draw = draw_of(s, item);
    kd_sequence_draw_pack(&draw, dst[0], dst[1]);
    return KD_OK;
}

kd_status kd_sequence_rows(kd_sequence_source *s, kd_producer *out, kd_err *err)
{
    KD_ASSERT(s->unread == NULL);
    s->unread = kd_calloc(KD_MAX(s->half->n, 1), sizeof *s->unread);
    if (s->unread == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory for %zu skeletons", s->half->n);
    }
    *out = kd_sequence_producer(s);
    out->n_tensors = 1;
    out->tensor[0].name = "sequence";
    out->scratch_new = NULL;
    out->scratch_free = NULL;
    out->fill = rows_fill;
    return KD_OK;
}

kd_producer kd_sequence_draws(kd_sequence_source *s)
{
    kd_producer p = kd_sequence_producer(s);
    p.n_tensors = 2;
    p.tensor[0] = kd_row_spec_of("draw", KD_F32, 1, (const int64_t[]){KD_SKEL_DRAW});
    p.tensor[1] = kd_row_spec_of("idraw", KD_I32, 1, (const int64_t[]){KD_SKEL_IDRAW});
    p.scratch_new = NULL;
    p.scratch_free = NULL;
    p.fill = draws_fill;
    return p;
}

kd_status kd_sequence_read(const kd_sequence_spec *spec, const char *path, const char *const *streams, int n_streams,
                           void *const *dst, kd_err *err)
{
    kd_data_sample sample = {.skeleton = path};
    const kd_half half = {.sample = &sample, .n = 1};
    kd_sequence_source *s = NULL;
    void *scratch = NULL;
    kd_status st;
    KD_GO(kd_sequence_source_open(spec, &half, false, streams, n_streams, 0, &s, err));
    KD_GO(worker_new(s, &scratch, err));
    KD_GO(sequence_fill(s, &(kd_item){0}, scratch, dst, err));
done:
    worker_free(s, scratch);
    kd_sequence_source_close(s);
    return st;
}
