/* Taking up an unfinished (or extending a finished) logit store: keep whole valid blocks and tail
 * records, cut the rest. */
#include "formats/base/io.h"
#include "formats/store/store_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define TAIL_MAX ((size_t)1 << 30)

typedef struct raw_list {
    kd_raw *v;
    size_t n, cap;
} raw_list;

static void list_free(raw_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        kd_raw_free(&l->v[i]);
    }
    kd_free(l->v);
}

static bool list_add(raw_list *l, const kd_raw *r)
{
    if (l->n == l->cap) {
        const size_t cap = l->cap == 0 ? 64 : 2 * l->cap;
        kd_raw *v = kd_realloc(l->v, l->cap * sizeof *v, cap * sizeof *v);
        if (v == NULL) {
            return false;
        }
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = *r;
    return true;
}

void kd_store_tail_entry(const kd_raw *r, uint8_t *p)
{
    const size_t n = kd_raw_bytes(r);
    KD_ASSERT(r->data != NULL);
    memcpy(p + KD_STORE_TAIL_HEAD, r->data, n);
    kd_put32(p, KD_STORE_TAIL_MAGIC);
    kd_put32(p + 4, (uint32_t)n);
    kd_put64(p + 8, kd_xxh64(r->data, n));
}

/* ---- the part file --------------------------------------------------------------------------- */

/* The manifest in the part file must be ours.  *bytes 0: it was not yet whole, start afresh. */
static kd_status match_manifest(kd_store_writer *w, const kd_map *map, size_t *bytes, kd_err *err)
{
    uint8_t *frame = NULL;
    size_t n = 0;
    char diff[300];
    kd_store_head other = {0};
    kd_zstd_info info;
    *bytes = 0;
    KD_TRY(kd_store_head_frame(&w->head, &frame, &n, err));
    kd_status st = KD_OK;
    if (memcmp(map->data, frame, KD_MIN(n, map->bytes)) == 0) {
        *bytes = map->bytes >= n ? n : 0;
        goto done;
    }
    if (kd_zstd_look(map->data, map->bytes, KD_STORE_MANIFEST_MAX, &info, NULL) != KD_OK ||
        info.magic != KD_STORE_MANIFEST_MAGIC ||
        kd_store_head_parse((const char *)map->data + 8, info.content_bytes, w->part, &other, NULL) != KD_OK) {
        st = KD_FAIL(err, KD_E_INTEGRITY, "%s: the manifest is damaged; remove the file to start over", w->part);
    } else {
        KD_GO(kd_store_head_same(&other, "then", &w->head, "now", diff, sizeof diff, err));
        st = diff[0] != '\0'
                 ? KD_FAIL(err, KD_E_DATA,
                           "%s: --resume expects what the store began with: %s; give that, or another --out", w->part,
                           diff)
                 : KD_FAIL(err, KD_E_INTEGRITY, "%s: the manifest is damaged", w->part);
    }
done:
    kd_store_head_free(&other);
    kd_free(frame);
    return st;
}

/* Records of a block that may be kept: hashes right, ids new. */
static bool block_is_good(const kd_store_writer *w, const kd_block *b, uint64_t first)
{
    if (b->number != w->index.n_blocks || b->first != first || b->n > w->head.m.block_records) {
        return false;
    }
    for (int i = 0; i < b->n; i++) {
        char id[KD_STORE_ID_MAX + 1];
        kd_raw_id(&b->rec[i], id);
        if (kd_raw_hash(&b->rec[i]) != kd_get64(b->rec[i].meta + 4) || kd_index_find(&w->index, id) >= 0) {
            return false;
        }
        for (int j = 0; j < i; j++) {
            char twin[KD_STORE_ID_MAX + 1];
            kd_raw_id(&b->rec[j], twin);
            if (strcmp(id, twin) == 0) {
                return false;
            }
        }
    }
    return true;
}

static kd_status keep_block(kd_store_writer *w, const kd_block *b, const uint8_t *frame, size_t bytes, uint64_t first,
                            kd_err *err)
{
    const kd_block_ref ref = {.offset = w->end,
                              .frame_bytes = (uint32_t)bytes,
                              .content_bytes = (uint32_t)b->content_bytes,
                              .n = (uint32_t)b->n,
                              .first = first,
                              .frame_xxh = kd_xxh64(frame, bytes),
                              .content_xxh = b->content_xxh};
    bool ok = kd_index_add_block(&w->index, &ref);
    for (int i = 0; i < b->n && ok; i++) {
        char id[KD_STORE_ID_MAX + 1];
        kd_raw_id(&b->rec[i], id);
        ok = kd_index_add(&w->index, id, kd_raw_label(&b->rec[i]));
    }
    w->end += bytes;
    return ok ? KD_OK : KD_FAIL(err, KD_E_OOM, "%s: out of memory", w->part);
}

/* Copy a block's records out, so that the block can be written again when it is full. */
static kd_status take_back(kd_store_writer *w, const kd_block *b, raw_list *list, kd_err *err)
{
    for (int i = 0; i < b->n; i++) {
        const kd_raw *r = &b->rec[i];
        const size_t n = kd_raw_bytes(r);
        uint8_t *data = kd_alloc(n);
        if (data == NULL) {
            return KD_FAIL(err, KD_E_OOM, "%s: out of memory", w->part);
        }
        uint8_t *p = data;
        memcpy(p, r->meta, r->meta_bytes);
        p += r->meta_bytes;
        memcpy(p, r->logits, r->logits_bytes);
        p += r->logits_bytes;
        memcpy(p, r->prob, r->prob_bytes);
        p += r->prob_bytes;
        if (r->feature_bytes > 0) {
            memcpy(p, r->feature, r->feature_bytes);
        }
        kd_raw copy = {0};
        const kd_status st = kd_raw_adopt(&w->head, data, n, &copy, err);
        if (st != KD_OK || !list_add(list, &copy)) {
            kd_free(data);
            return st != KD_OK ? st : KD_FAIL(err, KD_E_OOM, "%s: out of memory", w->part);
        }
    }
    const kd_block_ref *last = &w->index.block[--w->index.n_blocks];
    w->end = last->offset;
    return KD_OK;
}

/* Walk the frames after the manifest; w->end stops behind the last good one.  A short last block
 * goes to `list`. */
static kd_status scan_blocks(kd_store_writer *w, const kd_map *map, raw_list *list, uint64_t *dropped, kd_err *err)
{
    kd_block b = {0};
    uint64_t first = 0;
    kd_status st = KD_OK;
    bool end = false;
    while (!end && w->end < map->bytes) {
        const uint8_t *p = map->data + w->end;
        const size_t left = map->bytes - (size_t)w->end;
        kd_zstd_info info;
        st = kd_zstd_look(p, left, KD_STORE_BLOCK_MAX, &info, NULL);
        end = st != KD_OK || info.skippable;
        kd_block next = {0};
        if (!end) {
            st = kd_block_unpack(&w->head, p, info.frame_bytes, &next, NULL);
            end = st != KD_OK || !block_is_good(w, &next, first);
        }
        if (st == KD_E_OOM) {
            kd_block_free(&next);
            st = KD_FAIL(err, KD_E_OOM, "%s: out of memory", w->part);
            goto done;
        }
        st = KD_OK;
        if (end) { /* an index here: the store was about to be finished, nothing is lost */
            *dropped = info.magic == KD_STORE_INDEX_MAGIC ? 0 : left;
            kd_block_free(&next);
            break;
        }
        kd_block_free(&b);
        b = next;
        first += (uint64_t)b.n;
        KD_GO(keep_block(w, &b, p, info.frame_bytes, first - (uint64_t)b.n, err));
    }
    if (b.n > 0 && b.n < w->head.m.block_records) {
        KD_GO(take_back(w, &b, list, err));
    }
done:
    kd_block_free(&b);
    return st;
}

/* ---- the tail file --------------------------------------------------------------------------- */

/* Whole entries of the tail file whose ids are not in a block. */
static kd_status read_tail(kd_store_writer *w, raw_list *list, kd_store_resume_info *info, kd_err *err)
{
    uint8_t *text = NULL;
    size_t bytes = 0;
    size_t at = 0;
    if (!kd_path_exists(w->tail)) {
        return KD_OK;
    }
    KD_TRY(kd_io_read_file(w->tail, TAIL_MAX, &text, &bytes, err));
    kd_status st = KD_OK;
    while (bytes - at >= KD_STORE_TAIL_HEAD) {
        const uint8_t *p = text + at;
        const size_t n = kd_get32(p + 4);
        if (kd_get32(p) != KD_STORE_TAIL_MAGIC || n > bytes - at - KD_STORE_TAIL_HEAD || n == 0 ||
            kd_get64(p + 8) != kd_xxh64(p + KD_STORE_TAIL_HEAD, n)) {
            break;
        }
        uint8_t *data = kd_alloc(n);
        kd_raw r = {0};
        char id[KD_STORE_ID_MAX + 1];
        if (data == NULL) {
            st = KD_FAIL(err, KD_E_OOM, "%s: out of memory", w->tail);
            goto done;
        }
        memcpy(data, p + KD_STORE_TAIL_HEAD, n);
        if (kd_raw_adopt(&w->head, data, n, &r, NULL) != KD_OK) {
            kd_free(data);
            break;
        }
        at += KD_STORE_TAIL_HEAD + n;
        kd_raw_id(&r, id);
        if (kd_store_has(w, id)) {
            kd_raw_free(&r);
            continue;
        }
        if (!kd_index_add(&w->index, id, kd_raw_label(&r)) || !list_add(list, &r)) {
            kd_raw_free(&r);
            st = KD_FAIL(err, KD_E_OOM, "%s: out of memory", w->tail);
            goto done;
        }
        info->tail_records++;
    }
    info->dropped_bytes += bytes - at;
done:
    kd_free(text);
    return st;
}

/* Replace the tail file by these records, whole or not at all, and open it for appending. */
static kd_status write_tail(kd_store_writer *w, const kd_raw *rec, size_t n, kd_err *err)
{
    kd_writer *out = NULL;
    KD_TRY(kd_writer_open(w->tail, &out, err));
    kd_status st = KD_OK;
    w->tail_bytes = 0;
    for (size_t i = 0; i < n && st == KD_OK; i++) {
        const size_t bytes = KD_STORE_TAIL_HEAD + kd_raw_bytes(&rec[i]);
        uint8_t *entry = kd_alloc(bytes);
        if (entry == NULL) {
            st = KD_FAIL(err, KD_E_OOM, "%s: out of memory", w->tail);
            break;
        }
        kd_store_tail_entry(&rec[i], entry);
        st = kd_writer_put(out, entry, bytes, err);
        kd_free(entry);
        w->tail_bytes += bytes;
    }
    if (st != KD_OK) {
        kd_writer_abort(out);
        return st;
    }
    KD_TRY(kd_writer_commit(out, err));
    if (w->tail_fd >= 0) {
        (void)close(w->tail_fd);
    }
    w->tail_fd = kd_io_open(w->tail, O_WRONLY | O_APPEND | O_NOFOLLOW);
    if (w->tail_fd < 0) {
        return KD_FAIL(err, KD_E_WRITE, "%s: cannot open: %s", w->tail, strerror(errno));
    }
    return KD_OK;
}

/* ---- together -------------------------------------------------------------------------------- */

/* The order matters under a kill: the records leave the part file only after the tail file holds
 * them. */
static kd_status restore_pending(kd_store_writer *w, raw_list *list, kd_err *err)
{
    KD_TRY(write_tail(w, list->v, list->n, err));
    if (ftruncate(w->fd, (off_t)w->end) != 0) {
        return KD_FAIL(err, KD_E_WRITE, "%s: cannot cut: %s", w->part, strerror(errno));
    }
    const size_t blocks = w->index.n_blocks;
    for (size_t i = 0; i < list->n; i++) {
        KD_TRY(kd_store_push(w, &list->v[i], false, err));
    }
    return w->index.n_blocks == blocks ? KD_OK : write_tail(w, w->pending, (size_t)w->n_pending, err);
}

kd_status kd_store_take_part(kd_store_writer *w, kd_store_resume_info *info, kd_err *err)
{
    kd_map map = {NULL, 0};
    raw_list list = {NULL, 0, 0};
    size_t manifest_bytes = 0;
    uint64_t dropped = 0;
    kd_status st = KD_OK;
    KD_GO(kd_store_check_tail(w, err));
    KD_GO(kd_io_map(w->part, &map, err));
    KD_GO(match_manifest(w, &map, &manifest_bytes, err));
    if (manifest_bytes > 0) {
        w->end = manifest_bytes;
        KD_GO(scan_blocks(w, &map, &list, &dropped, err));
        info->dropped_bytes = dropped;
        KD_GO(read_tail(w, &list, info, err));
    } else { /* killed while the manifest was written: nothing else can be there */
        uint8_t *frame = NULL;
        size_t n = 0;
        info->dropped_bytes = map.bytes;
        KD_GO(kd_store_head_frame(&w->head, &frame, &n, err));
        st = lseek(w->fd, 0, SEEK_SET) == 0 ? kd_io_fd_write(w->fd, frame, n, w->part, err)
                                            : KD_FAIL(err, KD_E_WRITE, "%s: cannot seek: %s", w->part, strerror(errno));
        kd_free(frame);
        KD_GO(st);
        w->end = n;
    }
    kd_io_unmap(&map);
    KD_GO(restore_pending(w, &list, err));
done:
    kd_io_unmap(&map);
    list_free(&list);
    return st;
}

static uint64_t blocks_end(const kd_store_index *ix, const kd_store_head *h)
{
    if (ix->n_blocks == 0) {
        return h->json_bytes + KD_ZSTD_SKIPPABLE_HEAD;
    }
    const kd_block_ref *b = &ix->block[ix->n_blocks - 1];
    return b->offset + b->frame_bytes;
}

kd_status kd_store_take_finished(kd_store_writer *w, uint64_t part_bytes, kd_store_resume_info *info, kd_err *err)
{
    kd_store *s = NULL;
    char diff[300];
    KD_TRY(kd_store_open(w->path, &s, err));
    kd_status st = KD_OK;
    const kd_store_head *h = kd_store_head_of(s);
    const kd_store_index *ix = kd_store_index_of(s);
    KD_GO(kd_store_head_same(h, "then", &w->head, "now", diff, sizeof diff, err));
    if (diff[0] != '\0') {
        st = KD_FAIL(err, KD_E_DATA, "%s: --resume expects what the store began with: %s; give that, or another --out",
                     w->path, diff);
        goto done;
    }
    if (part_bytes > blocks_end(ix, h)) {
        goto done; /* an extension was under way: go on with it */
    }
    for (size_t i = 0; i < ix->n; i++) {
        if (!kd_index_add(&w->index, ix->id[i], ix->label[i])) {
            st = KD_FAIL(err, KD_E_OOM, "%s: out of memory", w->path);
            goto done;
        }
    }
    w->finished = true;
    info->was_complete = true;
done:
    kd_store_close(s);
    return st;
}

kd_status kd_store_reopen_finished(kd_store_writer *w, kd_err *err)
{
    kd_map map = {NULL, 0};
    kd_store *s = NULL;
    kd_store_resume_info info = {0};
    kd_status st = KD_OK;
    KD_GO(kd_store_open(w->path, &s, err));
    const uint64_t end = blocks_end(kd_store_index_of(s), kd_store_head_of(s));
    KD_GO(kd_io_map(w->path, &map, err));
    if (ftruncate(w->fd, 0) != 0 || lseek(w->fd, 0, SEEK_SET) != 0 || end > map.bytes) {
        st = KD_FAIL(err, KD_E_WRITE, "%s: cannot copy the finished store", w->part);
        goto done;
    }
    KD_GO(kd_io_fd_write(w->fd, map.data, (size_t)end, w->part, err));
    KD_GO(kd_io_fd_sync(w->fd, w->part, err));
    KD_GO(kd_store_check_tail(w, err));
    (void)unlink(w->tail);
    kd_index_free(&w->index);
    w->finished = false;
    KD_GO(kd_store_take_part(w, &info, err));
done:
    if (st != KD_OK) {
        w->broken = true;
    }
    kd_io_unmap(&map);
    kd_store_close(s);
    return st;
}
