/* The folder of `kd dataset pack`: who may have it, and what an earlier run left there. */
#include "formats/base/io.h"
#include "tools/dataset/pack_internal.h"
#include "tools/process/out.h"

#include <errno.h>
#include <unistd.h>

/* Rows whose videos are not in the data set any more are named; where no row's video is, the pack is another's. */
static kd_status check_before(const kdi_pack *j, kd_err *err)
{
    size_t gone = j->before.n;
    uint8_t *there = kd_calloc(KD_MAX(j->before.n, 1), 1);
    if (there == NULL) {
        return KD_FAIL(err, KD_E_OOM, "pack: out of memory");
    }
    for (size_t i = 0; i < j->scan.n; i++) {
        const kd_pack_row *row = j->row[i].path != NULL ? kd_pack_find(&j->before, j->row[i].path) : NULL;
        if (row != NULL) {
            there[row - j->before.row] = 1;
            gone--;
        }
    }
    const uint8_t *first = memchr(there, 0, j->before.n);
    const char *name = gone > 0 ? j->before.row[first - there].path : "";
    kd_free(there);
    if (gone > 0 && gone == j->before.n) {
        return KD_FAIL(err, KD_E_ARG,
                       "%s: holds the pack of another data set, with %s, and nothing of %s; choose another --out, or "
                       "replace it with --force",
                       j->out, name, j->data);
    }
    if (gone > 0) {
        kd_log(KD_LOG_WARN, "%s: %zu videos of the pack are not in the data set any more and leave it, the first: %s",
               j->out, gone, name);
    }
    return KD_OK;
}

/* The rows that a resumed run finds go to a new pack.part, so that the folder is an unfinished pack from here on. */
static kd_status take_over(kdi_pack *j, kd_err *err)
{
    char *rows = kd_path_join(j->out, KD_PACK_ROWS);
    kd_status st = rows != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "pack: out of memory");
    if (st == KD_OK) {
        st = kd_path_is_file(rows) ? kd_pack_read(j->out, &j->before, err) : kd_pack_read_part(j->out, &j->before, err);
    }
    kd_writer *w = NULL;
    KD_GO(st);
    KD_GO(check_before(j, err));
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

/* A pack, or a folder that is new or empty.  Asked before the lock is made: a folder of others gets no file. */
kd_status kdi_pack_check_folder(const kdi_pack *j, kd_err *err)
{
    char **names = NULL;
    size_t n = 0;
    if (!kd_path_is_dir(j->out) || kd_pack_is(j->out)) {
        return KD_OK;
    }
    KD_TRY(kd_io_list_dir(j->out, &names, &n, err));
    const bool free = n == 0 || (n == 1 && strcmp(names[0], KDI_PACK_LOCK) == 0);
    kd_free(names);
    return free ? KD_OK : KD_FAIL(err, KD_E_ARG, "%s: is not empty and holds no pack; choose another --out", j->out);
}

static kd_status refuse_inside(const kdi_pack *j, const char *folder, kd_err *err)
{
    return !kd_out_lies_below(j->out, folder)
               ? KD_OK
               : KD_FAIL(err, KD_E_ARG,
                         "%s: lies in %s, where the data set's videos are looked for: the pack's would be found as "
                         "more of them; choose an --out elsewhere",
                         j->out, folder);
}

/* The pack does not lie where the next scan looks for videos: below video_dir, a layout's folders or the root. */
kd_status kdi_pack_check_place(const kdi_pack *j, const char *video_dir, kd_err *err)
{
    size_t head = 0;
    const char *last = "";
    if (video_dir != NULL || j->scan.layout == NULL) {
        char *folder = video_dir != NULL ? kd_path_join(j->data, video_dir) : kd_strdup(j->data);
        const kd_status st =
            folder != NULL ? refuse_inside(j, folder, err) : KD_FAIL(err, KD_E_OOM, "pack: out of memory");
        kd_free(folder);
        return st;
    }
    for (size_t i = 0; i < j->scan.n; i++) {
        const char *video = j->scan.item[i].video;
        if (video == NULL || (head > 0 && strncmp(video, last, head) == 0)) {
            continue;
        }
        last = video;
        head = strcspn(video, "/") + 1;
        char *folder = kd_strf("%s/%.*s", j->data, (int)head - 1, video);
        const kd_status st =
            folder != NULL ? refuse_inside(j, folder, err) : KD_FAIL(err, KD_E_OOM, "pack: out of memory");
        kd_free(folder);
        KD_TRY(st);
    }
    return KD_OK;
}

bool kdi_pack_stays_inside(const char *path)
{
    return path[0] != '/' && strncmp(path, "../", 3) != 0 && strstr(path, "/../") == NULL;
}

/* Rows of a pack that --force replaces, finished or not; a damaged one has none that can be trusted. */
static void read_old(kdi_pack *j)
{
    if (kd_pack_read(j->out, &j->old, NULL) == KD_OK) {
        return;
    }
    kd_pack_free(&j->old);
    if (kd_pack_read_part(j->out, &j->old, NULL) != KD_OK) {
        kd_pack_free(&j->old);
    }
}

static kd_status remove_stale(const kdi_pack *j, const kd_pack *then, const kd_pack *now, kd_err *err)
{
    kd_status st = KD_OK;
    for (size_t i = 0; i < then->n && st == KD_OK; i++) {
        const char *path = then->row[i].path;
        if (kd_pack_find(now, path) != NULL || !kdi_pack_stays_inside(path)) {
            continue;
        }
        char *file = kd_path_join(j->out, path);
        st = file != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "pack: out of memory");
        if (st == KD_OK && unlink(file) != 0 && errno != ENOENT) {
            st = KD_FAIL(err, KD_E_WRITE, "%s: is no longer of the pack and cannot be removed: %s", file,
                         strerror(errno));
        }
        kd_free(file);
    }
    return st;
}

kd_status kdi_pack_sweep(const kdi_pack *j, kd_err *err)
{
    kd_pack now = {.n = 0};
    KD_TRY(kd_pack_read(j->out, &now, err));
    char *last = kd_strdup("");
    kd_status st = last != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "pack: out of memory");
    for (size_t i = 0; i < now.n && st == KD_OK; i++) { /* rows are sorted by path, so folders come in runs */
        char *file = kd_path_join(j->out, now.row[i].path), *dir = file != NULL ? kd_path_dir(file) : NULL;
        st = dir != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "pack: out of memory");
        if (st == KD_OK && strcmp(dir, last) != 0) {
            kd_io_sweep(dir);
            kd_free(last);
            last = dir;
            dir = NULL;
        }
        kd_free(dir);
        kd_free(file);
    }
    st = st == KD_OK ? remove_stale(j, &j->before, &now, err) : st;
    st = st == KD_OK ? remove_stale(j, &j->old, &now, err) : st;
    kd_free(last);
    kd_pack_free(&now);
    return st;
}

static kd_status remove_rows(const kdi_pack *j, kd_err *err)
{
    char *rows = kd_path_join(j->out, KD_PACK_ROWS);
    const char *const path[] = {j->part_path, rows};
    kd_status st = rows != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "pack: out of memory");
    for (size_t i = 0; i < KD_COUNTOF(path) && st == KD_OK; i++) {
        if (unlink(path[i]) != 0 && errno != ENOENT) {
            st = KD_FAIL(err, KD_E_WRITE, "%s: cannot remove: %s", path[i], strerror(errno));
        }
    }
    kd_free(rows);
    return st;
}

/* A new folder, or this very pack and asked for. */
kd_status kdi_pack_claim(kdi_pack *j, const kd_common *c, kd_json *recipe, kd_err *err)
{
    char *head = kd_path_join(j->out, KD_PACK_HEAD), *text = NULL;
    uint8_t *old = NULL;
    size_t bytes = 0, old_bytes = 0;
    kd_status st = kd_pack_head(recipe, &text, &bytes, err);
    if (st == KD_OK && head == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "pack: out of memory");
    }
    KD_GO(st);
    if (kd_pack_is(j->out)) {
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
    if (c->resume && !c->force) {
        KD_GO(kd_io_write_file(head, text, bytes, err));
        KD_GO(take_over(j, err));
    } else {
        read_old(j);
        KD_GO(remove_rows(j, err)); /* first: a kill must not leave the new head over the rows of the old recipe */
        KD_GO(kd_io_write_file(head, text, bytes, err));
    }
done:
    kd_free(old);
    kd_free(text);
    kd_free(head);
    return st;
}
