/* Opening a finished logit store and reading records. */
#include "formats/base/io.h"
#include "formats/store/store_reader.h"

#include <errno.h>
#include <unistd.h>

kd_status kd_store_read_at(const kd_store *s, uint64_t at, size_t n, uint8_t **out, kd_err *err)
{
    *out = NULL;
    if (at > s->file_bytes || n > s->file_bytes - at) {
        return KD_FAIL(err, KD_E_INTEGRITY, "%s: byte %llu: %zu bytes expected, the file ends at %llu", s->path,
                       (unsigned long long)at, n, (unsigned long long)s->file_bytes);
    }
    uint8_t *p = kd_alloc(KD_MAX(n, (size_t)1));
    if (p == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for %zu bytes", s->path, n);
    }
    for (size_t got = 0; got < n;) {
        const ssize_t r = pread(s->fd, p + got, n - got, (off_t)(at + got));
        if (r < 0 && errno == EINTR) {
            continue;
        }
        if (r <= 0) {
            kd_free(p);
            return KD_FAIL(err, KD_E_IO, "%s: byte %llu: cannot read: %s", s->path, (unsigned long long)(at + got),
                           r < 0 ? strerror(errno) : "file ends");
        }
        got += (size_t)r;
    }
    *out = p;
    return KD_OK;
}

/* ---- opening --------------------------------------------------------------------------------- */

static kd_status read_head(kd_store *s, kd_err *err)
{
    uint8_t *p = NULL;
    if (s->file_bytes < KD_ZSTD_SKIPPABLE_HEAD) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: expected a logit store, found %s of %llu bytes", s->path,
                       s->file_bytes == 0 ? "an empty file" : "a file", (unsigned long long)s->file_bytes);
    }
    KD_TRY(kd_store_read_at(s, 0, KD_ZSTD_SKIPPABLE_HEAD, &p, err));
    const uint32_t magic = kd_get32(p);
    const size_t n = kd_get32(p + 4);
    kd_free(p);
    if (magic != KD_STORE_MANIFEST_MAGIC) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: not a logit store (begins with %08x)", s->path, magic);
    }
    if (n > KD_STORE_MANIFEST_MAX || n > s->file_bytes - KD_ZSTD_SKIPPABLE_HEAD) {
        return KD_FAIL(err, KD_E_INTEGRITY, "%s: a manifest of %zu bytes in a file of %llu", s->path, n,
                       (unsigned long long)s->file_bytes);
    }
    KD_TRY(kd_store_read_at(s, KD_ZSTD_SKIPPABLE_HEAD, n, &p, err));
    kd_err why = {0};
    const kd_status st = kd_store_head_parse((const char *)p, n, s->path, &s->head, &why);
    kd_free(p);
    if (st == KD_E_OOM) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", s->path);
    }
    if (st != KD_OK) {
        return KD_FAIL(err, KD_E_INTEGRITY, "%s: the manifest is damaged: %.200s", s->path, why.msg);
    }
    return KD_OK;
}

/* Index and seek table must tell the same story, and the file must hold exactly that. */
static kd_status match_index(kd_store *s, const kd_seek_entry *row, size_t n, kd_err *err)
{
    uint64_t at = s->head.json_bytes + KD_ZSTD_SKIPPABLE_HEAD;
    bool same = n == s->index.n_blocks + 2 && row[0].frame_bytes == at && row[0].content_bytes == 0 &&
                row[n - 1].content_bytes == 0 && row[0].checksum == (uint32_t)kd_xxh64("", 0) &&
                row[n - 1].checksum == row[0].checksum;
    for (size_t i = 0; i < s->index.n_blocks && same; i++) {
        kd_block_ref *b = &s->index.block[i];
        same = b->offset == at && b->frame_bytes == row[i + 1].frame_bytes &&
               b->content_bytes == row[i + 1].content_bytes && b->content_bytes <= KD_STORE_BLOCK_MAX;
        b->content_xxh = row[i + 1].checksum;
        at += b->frame_bytes;
        s->raw_bytes += b->content_bytes;
    }
    for (size_t i = 0; i < s->index.n && same; i++) {
        same = s->index.label[i] >= -1 && s->index.label[i] < s->head.m.n_classes;
    }
    return same ? KD_OK : KD_FAIL(err, KD_E_INTEGRITY, "%s: index and seek table contradict each other", s->path);
}

static kd_status read_index(kd_store *s, kd_err *err)
{
    uint8_t *footer = NULL;
    uint8_t *table = NULL;
    uint8_t *index = NULL;
    kd_seek_entry *row = NULL;
    size_t n = 0;
    kd_status st = KD_OK;
    const uint64_t least = KD_ZSTD_SKIPPABLE_HEAD + KD_SEEK_FOOTER_BYTES;
    if (s->file_bytes < least) {
        return KD_FAIL(err, KD_E_INTEGRITY, "%s: the file ends before its seek table", s->path);
    }
    KD_GO(kd_store_read_at(s, s->file_bytes - KD_SEEK_FOOTER_BYTES, KD_SEEK_FOOTER_BYTES, &footer, err));
    const uint64_t bytes = least + 12 * (uint64_t)kd_get32(footer);
    if (kd_get32(footer + 5) != KD_SEEK_FOOTER_MAGIC || bytes > s->file_bytes) {
        st = KD_FAIL(err, KD_E_INTEGRITY, "%s: no seek table at the end: the file was cut or never finished", s->path);
        goto done;
    }
    KD_GO(kd_store_read_at(s, s->file_bytes - bytes, (size_t)bytes, &table, err));
    st = kd_seek_table_parse(table, (size_t)bytes, &row, &n, err);
    if (st != KD_OK) {
        st = kd_err_prefix(err, st, "%s", s->path);
        goto done;
    }
    uint64_t sum = bytes;
    for (size_t i = 0; i < n; i++) {
        sum += row[i].frame_bytes;
    }
    if (n < 2 || sum != s->file_bytes) {
        st = KD_FAIL(err, KD_E_INTEGRITY, "%s: the seek table describes %llu bytes, the file has %llu", s->path,
                     (unsigned long long)sum, (unsigned long long)s->file_bytes);
        goto done;
    }
    const size_t index_bytes = row[n - 1].frame_bytes;
    KD_GO(kd_store_read_at(s, s->file_bytes - bytes - index_bytes, index_bytes, &index, err));
    st = kd_index_parse(index, index_bytes, s->head.hash, &s->index, err);
    if (st != KD_OK) {
        st = kd_err_prefix(err, st, "%s", s->path);
        goto done;
    }
    KD_GO(match_index(s, row, n, err));
done:
    kd_free(footer);
    kd_free(table);
    kd_free(index);
    kd_free(row);
    return st;
}

kd_status kd_store_open_head(const char *path, kd_store **out, kd_err *err)
{
    *out = NULL;
    kd_store *s = kd_calloc(1, sizeof *s);
    if (s == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
    }
    s->fd = -1;
    kd_status st = KD_OK;
    s->path = kd_strdup(path);
    if (s->path == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
        goto done;
    }
    if (kd_path_has_suffix(path, ".part")) {
        st = KD_FAIL(err, KD_E_FORMAT, "%s: an unfinished store; run dump-logits again with --resume", path);
        goto done;
    }
    KD_GO(kd_io_open_read(path, &s->fd, &s->file_bytes, err));
    KD_GO(read_head(s, err));
    *out = s;
    s = NULL;
done:
    kd_store_close(s);
    return st;
}

kd_status kd_store_load_index(kd_store *s, kd_err *err)
{
    const kd_status st = read_index(s, err);
    if (st != KD_OK) {
        kd_index_free(&s->index);
        s->raw_bytes = 0;
    }
    return st;
}

kd_status kd_store_open(const char *path, kd_store **out, kd_err *err)
{
    kd_store *s = NULL;
    *out = NULL;
    KD_TRY(kd_store_open_head(path, &s, err));
    const kd_status st = kd_store_load_index(s, err);
    if (st != KD_OK) {
        kd_store_close(s);
        return st;
    }
    *out = s;
    return KD_OK;
}

void kd_store_close(kd_store *s)
{
    if (s == NULL) {
        return;
    }
    if (s->fd >= 0) {
        (void)close(s->fd);
    }
    kd_index_free(&s->index);
    kd_store_head_free(&s->head);
    kd_free(s->path);
    kd_free(s);
}

/* ---- looking --------------------------------------------------------------------------------- */

const kd_store_head *kd_store_head_of(const kd_store *s)
{
    return &s->head;
}

const kd_store_index *kd_store_index_of(const kd_store *s)
{
    return &s->index;
}

kd_status kd_store_find_tap(const kd_store *s, const char *name, int *offset, int *width, kd_err *err)
{
    const kd_store_manifest *m = &s->head.m;
    int at = 0, first = -1;
    *offset = 0;
    *width = m->n_taps > 0 ? m->tap[0].rows * m->tap[0].width : m->feature_dim;
    for (int i = 0; i < m->n_taps; i++) {
        const int values = m->tap[i].rows * m->tap[i].width;
        if (strcmp(m->tap[i].name, name[0] != '\0' ? name : "fc_norm") == 0) {
            first = i;
            *offset = at;
            *width = values;
        }
        at += values;
    }
    if (m->feature_dim == 0) {
        return KD_FAIL(err, KD_E_DATA,
                       "%s: holds no features; dump it with --features, or leave out the terms that read features "
                       "(kd.feature, kd.rkd_distance_weight, kd.sp_weight, ...)",
                       s->path);
    }
    if (name[0] != '\0' && first < 0 && (m->n_taps > 0 || strcmp(m->feature, name) != 0)) {
        return KD_FAIL(err, KD_E_DATA, "%s: expected a feature called %s, found %s", s->path, name, m->feature);
    }
    return KD_OK;
}

const kd_store_manifest *kd_store_get_manifest(const kd_store *s)
{
    return &s->head.m;
}

const char *kd_store_manifest_json(const kd_store *s)
{
    return s->head.json;
}

int64_t kd_store_count(const kd_store *s)
{
    return (int64_t)s->index.n;
}

int64_t kd_store_block_count(const kd_store *s)
{
    return (int64_t)s->index.n_blocks;
}

const char *kd_store_path(const kd_store *s)
{
    return s->path;
}

uint64_t kd_store_file_bytes(const kd_store *s)
{
    return s->file_bytes;
}

uint64_t kd_store_raw_bytes(const kd_store *s)
{
    return s->raw_bytes;
}

int kd_store_label(const kd_store *s, int64_t i)
{
    return i < 0 || i >= kd_store_count(s) ? -1 : s->index.label[i];
}

int64_t kd_store_find(const kd_store *s, const char *id)
{
    return kd_index_find(&s->index, id);
}

/* ---- cursor ---------------------------------------------------------------------------------- */

struct kd_store_cursor {
    const kd_store *s;
    kd_block block;
    size_t loaded; /* number of the block + 1; 0: none */
    char id[KD_STORE_ID_MAX + 1];
    float *logits, *prob, *feature;
    kd_store_view *views;
    int32_t *frames;
    size_t cap_views, cap_frames;
};

kd_status kd_store_cursor_new(const kd_store *s, kd_store_cursor **out, kd_err *err)
{
    *out = NULL;
    kd_store_cursor *c = kd_calloc(1, sizeof *c);
    if (c == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", s->path);
    }
    c->s = s;
    c->prob = kd_alloc((size_t)s->head.m.n_classes * sizeof *c->prob);
    c->feature = kd_alloc(KD_MAX((size_t)s->head.m.feature_dim, (size_t)1) * sizeof *c->feature);
    if (c->prob == NULL || c->feature == NULL) {
        kd_store_cursor_free(c);
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", s->path);
    }
    *out = c;
    return KD_OK;
}

void kd_store_cursor_free(kd_store_cursor *c)
{
    if (c == NULL) {
        return;
    }
    kd_block_free(&c->block);
    kd_free(c->logits);
    kd_free(c->prob);
    kd_free(c->feature);
    kd_free(c->views);
    kd_free(c->frames);
    kd_free(c);
}

static void get_floats(const uint8_t *p, size_t n, kd_dtype t, float *out)
{
    for (size_t i = 0; i < n; i++) {
        if (t == KD_F32) {
            out[i] = kd_bits_f32(kd_get32(p + 4 * i));
        } else {
            const uint16_t u = kd_get16(p + 2 * i);
            out[i] = t == KD_F16 ? kd_f16_to_f32(u) : kd_bf16_to_f32(u);
        }
    }
}

static kd_status reserve(kd_store_cursor *c, size_t views, size_t frames, kd_err *err)
{
    if (views > c->cap_views) {
        kd_free(c->logits);
        kd_free(c->views);
        c->cap_views = 0;
        c->logits = kd_calloc(views * (size_t)c->s->head.m.n_classes, sizeof *c->logits);
        c->views = kd_calloc(views, sizeof *c->views);
        if (c->logits == NULL || c->views == NULL) {
            return KD_FAIL(err, KD_E_OOM, "%s: out of memory", c->s->path);
        }
        c->cap_views = views;
    }
    if (frames > c->cap_frames) {
        kd_free(c->frames);
        c->cap_frames = 0;
        c->frames = kd_calloc(frames, sizeof *c->frames);
        if (c->frames == NULL) {
            return KD_FAIL(err, KD_E_OOM, "%s: out of memory", c->s->path);
        }
        c->cap_frames = frames;
    }
    return KD_OK;
}

/* The meta entry was checked when its block was taken apart, so its lengths can be relied on. */
static void get_views(kd_store_cursor *c, const kd_raw *r)
{
    const uint8_t *p = r->meta + KD_STORE_RECORD_HEAD + r->meta[26];
    int32_t *frames = c->frames;
    for (int v = 0; v < kd_raw_views(r); v++) {
        kd_store_view *view = &c->views[v];
        *view = (kd_store_view){.clip = kd_get16(p),
                                .crop = kd_get16(p + 2),
                                .crop_x = (int)(int32_t)kd_get32(p + 4),
                                .crop_y = (int)(int32_t)kd_get32(p + 8),
                                .flip = p[12] != 0,
                                .seed = kd_get64(p + 16),
                                .n_frames = kd_get16(p + 14),
                                .frames = frames};
        p += KD_STORE_VIEW_HEAD;
        for (int f = 0; f < view->n_frames; f++, p += 4) {
            *frames++ = (int32_t)kd_get32(p);
        }
    }
}

kd_status kd_store_lend(kd_store_cursor *c, const kd_raw *r, kd_store_record *out, kd_err *err)
{
    const kd_store_manifest *m = &c->s->head.m;
    const int views = kd_raw_views(r);
    const size_t frames = (r->meta_bytes - KD_STORE_RECORD_HEAD - r->meta[26] - (size_t)views * KD_STORE_VIEW_HEAD) / 4;
    KD_TRY(reserve(c, (size_t)views, KD_MAX(frames, (size_t)1), err));
    kd_raw_id(r, c->id);
    get_views(c, r);
    get_floats(r->logits, (size_t)views * (size_t)m->n_classes, m->logit_dtype, c->logits);
    get_floats(r->prob, (size_t)m->n_classes, KD_F32, c->prob);
    get_floats(r->feature, (size_t)m->feature_dim, m->feature_dtype, c->feature);
    *out = (kd_store_record){.id = c->id,
                             .order = kd_raw_order(r),
                             .label = kd_raw_label(r),
                             .n_views = views,
                             .logits = c->logits,
                             .prob = c->prob,
                             .feature = m->feature_dim > 0 ? c->feature : NULL,
                             .views = c->views};
    return KD_OK;
}

kd_status kd_store_load_block(const kd_store *s, size_t k, bool exact, kd_block *out, kd_err *err)
{
    const kd_block_ref *b = &s->index.block[k];
    uint8_t *frame = NULL;
    kd_status st = kd_store_read_at(s, b->offset, b->frame_bytes, &frame, err);
    if (st != KD_OK) {
        return st;
    }
    if (exact && kd_xxh64(frame, b->frame_bytes) != b->frame_xxh) {
        st = KD_FAIL(err, KD_E_INTEGRITY, "the frame's checksum does not match the index");
    }
    if (st == KD_OK) {
        st = kd_block_unpack(&s->head, frame, b->frame_bytes, out, err);
    }
    if (st == KD_OK && (out->number != k || out->first != b->first || out->n != (int)b->n ||
                        out->content_bytes != b->content_bytes || (exact && out->content_xxh != b->content_xxh))) {
        st = KD_FAIL(err, KD_E_INTEGRITY, "the block does not match the index");
    }
    kd_free(frame);
    if (st != KD_OK) {
        kd_block_free(out);
        const char *id = b->n > 0 && b->first < s->index.n ? s->index.id[b->first] : "?";
        return kd_err_prefix(err, st, "%.200s: block %zu at byte %llu (%u records from %.64s)", s->path, k,
                             (unsigned long long)b->offset, b->n, id);
    }
    return KD_OK;
}

static size_t block_of(const kd_store_index *ix, uint64_t i)
{
    size_t lo = 0;
    size_t hi = ix->n_blocks - 1;
    while (lo < hi) {
        const size_t mid = hi - (hi - lo) / 2;
        if (ix->block[mid].first <= i) {
            lo = mid;
        } else {
            hi = mid - 1;
        }
    }
    return lo;
}

kd_status kd_store_check_record(const kd_store *s, size_t k, const kd_block *b, int slot, kd_err *err)
{
    char id[KD_STORE_ID_MAX + 1];
    const kd_raw *r = &b->rec[slot];
    const uint64_t i = b->first + (uint64_t)slot;
    kd_raw_id(r, id);
    const char *what = NULL;
    if (kd_raw_hash(r) != kd_get64(r->meta + 4)) {
        what = "the record's checksum does not match";
    } else if (strcmp(id, s->index.id[i]) != 0) {
        what = "the index names another id";
    } else if (kd_raw_label(r) != s->index.label[i]) {
        what = "the index has another label";
    }
    if (what == NULL) {
        return KD_OK;
    }
    return KD_FAIL(err, KD_E_INTEGRITY, "%.200s: block %zu at byte %llu, record %llu (%s): %s", s->path, k,
                   (unsigned long long)s->index.block[k].offset, (unsigned long long)i, s->index.id[i], what);
}

kd_status kd_store_read(kd_store_cursor *c, int64_t i, kd_store_record *out, kd_err *err)
{
    const kd_store *s = c->s;
    if (i < 0 || i >= kd_store_count(s)) {
        return KD_FAIL(err, KD_E_ARG, "%s: record %lld of %lld", s->path, (long long)i, (long long)kd_store_count(s));
    }
    const size_t k = block_of(&s->index, (uint64_t)i);
    if (c->loaded != k + 1) {
        c->loaded = 0;
        KD_TRY(kd_store_load_block(s, k, false, &c->block, err));
        c->loaded = k + 1;
    }
    const int slot = (int)((uint64_t)i - c->block.first);
    KD_TRY(kd_store_check_record(s, k, &c->block, slot, err));
    return kd_store_lend(c, &c->block.rec[slot], out, err);
}

kd_status kd_store_read_id(kd_store_cursor *c, const char *id, kd_store_record *out, kd_err *err)
{
    const int64_t i = kd_store_find(c->s, id);
    if (i < 0) {
        return KD_FAIL(err, KD_E_DATA, "%s: no record for id %s", c->s->path, id);
    }
    return kd_store_read(c, i, out, err);
}
