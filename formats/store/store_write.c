/* Writing a logit store: append, flush, finish.  Taking up an unfinished one: store_resume.c. */
#include "formats/base/io.h"
#include "formats/store/store_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static void writer_free(kd_store_writer *w)
{
    if (w == NULL) {
        return;
    }
    for (int i = 0; i < w->n_pending; i++) {
        kd_raw_free(&w->pending[i]);
    }
    kd_free(w->pending);
    if (w->tail_fd >= 0) {
        (void)close(w->tail_fd);
    }
    if (w->fd >= 0) {
        (void)close(w->fd); /* and with it the lock */
    }
    kd_index_free(&w->index);
    kd_store_head_free(&w->head);
    kd_zstd_packer_free(w->z);
    if (w->tail == NULL) {
        kd_io_temp_end(w->part);
    }
    kd_free(w->path);
    kd_free(w->part);
    kd_free(w->tail);
    kd_free(w);
}

/* The name in messages: a temporary name tells nobody anything. */
static const char *shown(const kd_store_writer *w)
{
    return w->tail == NULL ? w->path : w->part;
}

/* The part of a store that nobody resumes. */
static void drop_once(const kd_store_writer *w)
{
    if (w->tail == NULL && w->fd >= 0) {
        (void)unlink(w->part);
    }
}

/* A finished store was left as it is: what stands beside it is of the kill before its last step. */
static void drop_beside_finished(const kd_store_writer *w)
{
    (void)unlink(w->part);
    if (kd_store_check_tail(w, NULL) == KD_OK) {
        (void)unlink(w->tail);
    }
}

/* ---- opening --------------------------------------------------------------------------------- */

/* Whether the file begins with `magic` or is empty, and has no other name. */
static bool begins_with(int fd, uint32_t magic)
{
    struct stat sb;
    uint8_t want[4], found[4];
    ssize_t n = -1;
    kd_put32(want, magic);
    do {
        n = pread(fd, found, sizeof found, 0); /* less than all of it: killed early */
    } while (n < 0 && errno == EINTR);
    return fstat(fd, &sb) == 0 && S_ISREG(sb.st_mode) && sb.st_nlink <= 1 && n >= 0 &&
           memcmp(found, want, (size_t)n) == 0;
}

static kd_status not_ours(const char *path, kd_err *err)
{
    return KD_FAIL(err, KD_E_STATE,
                   "%s: expected the unfinished part of a store, found another file; move it away or choose another "
                   "name for the store",
                   path);
}

/* The part file, locked.  It may be renamed or removed by its owner between open and lock: then
 * once more. */
static kd_status lock_part(kd_store_writer *w, kd_err *err)
{
    for (int tries = 0; tries < 16; tries++) {
        const int fd = kd_io_open(w->part, O_RDWR | O_CREAT | O_NONBLOCK | O_NOFOLLOW);
        struct stat a;
        struct stat b;
        if (fd < 0) {
            return errno == ELOOP ? not_ours(w->part, err)
                                  : KD_FAIL(err, KD_E_WRITE, "%s: cannot create: %s", w->part, strerror(errno));
        }
        if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
            (void)close(fd);
            return KD_FAIL(err, KD_E_LOCKED, "%s: another process is writing this store", w->part);
        }
        if (fstat(fd, &a) == 0 && S_ISREG(a.st_mode) && stat(w->part, &b) == 0 && a.st_ino == b.st_ino &&
            a.st_dev == b.st_dev) {
            w->fd = fd;
            return KD_OK;
        }
        (void)close(fd);
    }
    return not_ours(w->part, err);
}

kd_status kd_store_check_tail(const kd_store_writer *w, kd_err *err)
{
    if (w->tail == NULL || !kd_path_exists(w->tail)) {
        return KD_OK;
    }
    const int fd = kd_io_open(w->tail, O_RDONLY | O_NONBLOCK | O_NOFOLLOW);
    const bool ours = fd >= 0 && begins_with(fd, KD_STORE_TAIL_MAGIC);
    if (fd >= 0) {
        (void)close(fd);
    }
    return ours ? KD_OK : not_ours(w->tail, err);
}

static kd_status open_tail(kd_store_writer *w, kd_err *err)
{
    if (w->tail == NULL) {
        return KD_OK;
    }
    w->tail_fd = kd_io_open(w->tail, O_WRONLY | O_CREAT | O_EXCL | O_APPEND);
    if (w->tail_fd < 0) {
        return KD_FAIL(err, KD_E_WRITE, "%s: cannot create: %s", w->tail, strerror(errno));
    }
    return KD_OK;
}

static kd_status start_fresh(kd_store_writer *w, kd_err *err)
{
    uint8_t *frame = NULL;
    size_t bytes = 0;
    KD_TRY(kd_store_head_frame(&w->head, &frame, &bytes, err));
    kd_status st = KD_OK;
    KD_GO(kd_store_check_tail(w, err));
    if (ftruncate(w->fd, 0) != 0 || lseek(w->fd, 0, SEEK_SET) != 0) {
        st = KD_FAIL(err, KD_E_WRITE, "%s: cannot empty: %s", shown(w), strerror(errno));
        goto done;
    }
    KD_GO(kd_io_fd_write(w->fd, frame, bytes, shown(w), err));
    KD_GO(kd_io_fd_sync(w->fd, shown(w), err));
    w->end = bytes;
    if (w->tail != NULL) {
        (void)unlink(w->tail);
    }
    KD_GO(open_tail(w, err));
done:
    kd_free(frame);
    return st;
}

static kd_status open_locked(kd_store_writer *w, kd_store_start start, kd_store_resume_info *info, kd_err *err)
{
    struct stat sb;
    if (fstat(w->fd, &sb) != 0) {
        return KD_FAIL(err, KD_E_WRITE, "%s: cannot examine: %s", shown(w), strerror(errno));
    }
    const bool finished = kd_path_exists(w->path);
    if (start == KD_STORE_NEW && (finished || sb.st_size > 0)) {
        if (sb.st_size == 0) {
            (void)unlink(w->part);
        }
        return KD_FAIL(err, KD_E_STATE, "%s: already there%s; resume, or choose another name",
                       finished ? w->path : w->part, finished ? "" : ", unfinished");
    }
    if (start == KD_STORE_ONCE) { /* made a moment ago */
        return start_fresh(w, err);
    }
    if (start == KD_STORE_REPLACE) {
        return begins_with(w->fd, KD_STORE_MANIFEST_MAGIC) ? start_fresh(w, err) : not_ours(w->part, err);
    }
    if (finished) {
        KD_TRY(kd_store_take_finished(w, (uint64_t)sb.st_size, info, err));
        if (w->finished) {
            return KD_OK;
        }
    }
    return sb.st_size == 0 ? start_fresh(w, err) : kd_store_take_part(w, info, err);
}

/* The names, and w->fd on the part. */
static kd_status open_part(kd_store_writer *w, const char *path, kd_store_start start, kd_err *err)
{
    KD_TRY(kd_io_target(path, &w->path, err));
    if (start == KD_STORE_ONCE) {
        return kd_io_temp_open(w->path, &w->part, &w->fd, err);
    }
    w->part = kd_strf("%s.part", w->path);
    w->tail = kd_strf("%s.part.tail", w->path);
    if (w->part == NULL || w->tail == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
    }
    return lock_part(w, err);
}

kd_status kd_store_writer_open(const char *path, const kd_store_manifest *manifest, kd_store_start start,
                               kd_store_writer **out, kd_store_resume_info *info, kd_err *err)
{
    *out = NULL;
    kd_store_resume_info unused;
    info = info == NULL ? &unused : info;
    *info = (kd_store_resume_info){0};
    kd_store_writer *w = kd_calloc(1, sizeof *w);
    if (w == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
    }
    w->fd = w->tail_fd = -1;
    kd_status st = KD_OK;
    KD_GO(kd_store_head_make(manifest, &w->head, err));
    w->z = kd_zstd_packer_new();
    w->pending = kd_calloc((size_t)w->head.m.block_records, sizeof *w->pending);
    if (w->z == NULL || w->pending == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
        goto done;
    }
    KD_GO(open_part(w, path, start, err));
    KD_GO(open_locked(w, start, info, err));
    info->records = (int64_t)w->index.n;
    *out = w;
done:
    if (st != KD_OK) {
        drop_once(w);
        writer_free(w);
    }
    return st;
}

/* ---- appending ------------------------------------------------------------------------------- */

bool kd_store_has(const kd_store_writer *w, const char *id)
{
    return kd_index_find(&w->index, id) >= 0;
}

int64_t kd_store_writer_count(const kd_store_writer *w)
{
    return (int64_t)w->index.n;
}

kd_status kd_store_flush(kd_store_writer *w, bool clear_tail, kd_err *err)
{
    uint8_t *frame = NULL;
    size_t bytes = 0;
    kd_seek_entry e;
    const uint64_t first = w->index.n_blocks == 0
                               ? 0
                               : w->index.block[w->index.n_blocks - 1].first + w->index.block[w->index.n_blocks - 1].n;
    kd_status st = KD_OK;
    KD_GO(kd_block_pack(&w->head, w->z, w->pending, w->n_pending, (uint32_t)w->index.n_blocks, first, &frame, &bytes,
                        &e, err));
    const kd_block_ref ref = {.offset = w->end,
                              .frame_bytes = e.frame_bytes,
                              .content_bytes = e.content_bytes,
                              .n = (uint32_t)w->n_pending,
                              .first = first,
                              .frame_xxh = kd_xxh64(frame, bytes),
                              .content_xxh = e.checksum};
    if (lseek(w->fd, (off_t)w->end, SEEK_SET) < 0) {
        st = KD_FAIL(err, KD_E_WRITE, "%s: cannot seek: %s", shown(w), strerror(errno));
        goto done;
    }
    KD_GO(kd_io_fd_write(w->fd, frame, bytes, shown(w), err));
    KD_GO(kd_io_fd_sync(w->fd, shown(w), err));
    if (!kd_index_add_block(&w->index, &ref)) {
        st = KD_FAIL(err, KD_E_OOM, "%s: out of memory", shown(w));
        goto done;
    }
    w->end += bytes;
    for (int i = 0; i < w->n_pending; i++) {
        kd_raw_free(&w->pending[i]);
    }
    w->n_pending = 0;
    w->pending_bytes = 0;
    if (clear_tail && w->tail != NULL) { /* what stays behind after a failure is recognised by its ids */
        (void)!ftruncate(w->tail_fd, 0);
        w->tail_bytes = 0;
    }
done:
    kd_free(frame);
    if (st != KD_OK) {
        w->broken = true;
        (void)!ftruncate(w->fd, (off_t)w->end);
    }
    return st;
}

/* The record as an entry of the tail file; a failed write leaves the file as it was. */
static kd_status put_tail(kd_store_writer *w, const kd_raw *r, kd_err *err)
{
    const size_t n = kd_raw_bytes(r);
    uint8_t *entry = kd_alloc(KD_STORE_TAIL_HEAD + n);
    if (entry == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", w->tail);
    }
    kd_store_tail_entry(r, entry);
    const kd_status st = kd_io_fd_write(w->tail_fd, entry, KD_STORE_TAIL_HEAD + n, w->tail, err);
    kd_free(entry);
    if (st != KD_OK) {
        (void)!ftruncate(w->tail_fd, (off_t)w->tail_bytes);
        return st;
    }
    w->tail_bytes += KD_STORE_TAIL_HEAD + n;
    return KD_OK;
}

kd_status kd_store_push(kd_store_writer *w, kd_raw *r, bool tail, kd_err *err)
{
    const size_t n = kd_raw_bytes(r);
    if (w->n_pending > 0 && w->pending_bytes + n > KD_STORE_BLOCK_SOFT) {
        KD_TRY(kd_store_flush(w, tail, err));
    }
    char id[KD_STORE_ID_MAX + 1];
    kd_raw_id(r, id);
    if (tail) {
        const uint64_t before = w->tail_bytes;
        KD_TRY(w->tail != NULL ? put_tail(w, r, err) : KD_OK);
        if (!kd_index_add(&w->index, id, kd_raw_label(r))) {
            if (w->tail != NULL) {
                (void)!ftruncate(w->tail_fd, (off_t)before);
            }
            w->tail_bytes = before;
            return KD_FAIL(err, KD_E_OOM, "%s: out of memory", shown(w));
        }
    }
    w->pending[w->n_pending++] = *r;
    w->pending_bytes += n;
    *r = (kd_raw){0};
    return w->n_pending == w->head.m.block_records ? kd_store_flush(w, tail, err) : KD_OK;
}

kd_status kd_store_append(kd_store_writer *w, const kd_store_record *rec, kd_err *err)
{
    if (w->broken) {
        return KD_FAIL(err, KD_E_STATE, "%s: an earlier write failed; open it again to resume", shown(w));
    }
    if (rec->id != NULL && kd_store_has(w, rec->id)) {
        return KD_FAIL(err, KD_E_DATA, "%s: id %s is in the store already", w->path, rec->id);
    }
    kd_raw r = {0};
    KD_TRY(kd_raw_encode(&w->head, rec, &r, err));
    kd_status st = KD_OK;
    if (w->finished) {
        KD_GO(kd_store_reopen_finished(w, err));
    }
    KD_GO(kd_store_push(w, &r, true, err));
done:
    kd_raw_free(&r);
    return st;
}

/* ---- finishing ------------------------------------------------------------------------------- */

static kd_status write_end(kd_store_writer *w, kd_err *err)
{
    const size_t n = w->index.n_blocks + 2;
    kd_seek_entry *row = kd_calloc(n, sizeof *row);
    uint8_t *index = NULL;
    uint8_t *table = NULL;
    size_t index_bytes = 0;
    size_t table_bytes = 0;
    kd_status st = KD_OK;
    if (row == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "%s: out of memory", shown(w));
        goto done;
    }
    KD_GO(kd_index_make(&w->index, w->head.hash, &index, &index_bytes, err));
    kd_store_seek_rows(&w->head, &w->index, index_bytes, row);
    KD_GO(kd_seek_table_make(row, n, &table, &table_bytes, err));
    if (lseek(w->fd, (off_t)w->end, SEEK_SET) < 0) {
        st = KD_FAIL(err, KD_E_WRITE, "%s: cannot seek: %s", shown(w), strerror(errno));
        goto done;
    }
    KD_GO(kd_io_fd_write(w->fd, index, index_bytes, shown(w), err));
    KD_GO(kd_io_fd_write(w->fd, table, table_bytes, shown(w), err));
    KD_GO(kd_io_fd_sync(w->fd, shown(w), err));
    KD_GO(kd_io_rename(w->part, w->path, err));
    if (w->tail != NULL) {
        (void)unlink(w->tail);
    }
done:
    kd_free(row);
    kd_free(index);
    kd_free(table);
    return st;
}

void kd_store_seek_rows(const kd_store_head *h, const kd_store_index *ix, size_t index_bytes, kd_seek_entry *row)
{
    const uint32_t nothing = (uint32_t)kd_xxh64("", 0); /* checksum of an empty content */
    row[0] = (kd_seek_entry){(uint32_t)(h->json_bytes + KD_ZSTD_SKIPPABLE_HEAD), 0, nothing};
    for (size_t i = 0; i < ix->n_blocks; i++) {
        const kd_block_ref *b = &ix->block[i];
        row[i + 1] = (kd_seek_entry){b->frame_bytes, b->content_bytes, b->content_xxh};
    }
    row[ix->n_blocks + 1] = (kd_seek_entry){(uint32_t)index_bytes, 0, nothing};
}

kd_status kd_store_writer_close(kd_store_writer *w, kd_err *err)
{
    if (w == NULL) {
        return KD_OK;
    }
    kd_status st = KD_OK;
    if (w->broken) {
        st = KD_FAIL(err, KD_E_STATE, "%s: an earlier write failed; open it again to resume", shown(w));
        goto done;
    }
    const int64_t expected = w->head.m.expected;
    if (expected > 0 && expected != (int64_t)w->index.n) {
        st = KD_FAIL(err, KD_E_DATA, "%s: %zu records, the manifest expects %lld; the part file stays", w->path,
                     w->index.n, (long long)expected);
        goto done;
    }
    if (w->finished) { /* nothing was added */
        drop_beside_finished(w);
        goto done;
    }
    if (w->n_pending > 0) {
        KD_GO(kd_store_flush(w, false, err));
    }
    KD_GO(write_end(w, err));
done:
    if (st != KD_OK) {
        drop_once(w);
    }
    writer_free(w);
    return st;
}

void kd_store_writer_abandon(kd_store_writer *w)
{
    if (w != NULL && w->finished) {
        drop_beside_finished(w);
    }
    writer_free(w);
}

void kd_store_writer_discard(kd_store_writer *w)
{
    if (w != NULL) {
        (void)unlink(w->part);
        if (w->tail != NULL) {
            (void)unlink(w->tail);
        }
    }
    writer_free(w);
}
