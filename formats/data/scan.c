/* Scanning a data folder: see scan.h. */
#include "formats/data/scan.h"

#include "formats/base/io.h"

#include <stdlib.h>
#include <sys/stat.h>

#define DEPTH_MAX 8

typedef struct found {
    char *path; /* relative to the root */
    const char *key;
    size_t key_len;
    bool skeleton;
} found;

typedef struct folder {
    char *path; /* relative to the root, "" for itself */
    int depth;
} folder;

typedef struct scanner {
    const char *root;
    found *file;
    size_t n_file, room_file;
    folder *todo; /* every folder met; [0, at) are done */
    size_t n_todo, room_todo, at;
    struct seen {
        dev_t dev;
        ino_t ino;
    } * seen;
    size_t n_seen, room_seen;
    size_t other;
    kd_err *err;
} scanner;

bool kd_is_video_name(const char *name)
{
    static const char *const ending[] = {".avi",  ".mp4", ".mkv", ".webm", ".mov", ".mpg",
                                         ".mpeg", ".m4v", ".wmv", ".flv",  ".ts",  ".3gp"};
    for (size_t i = 0; i < KD_COUNTOF(ending); i++) {
        if (kd_path_has_suffix(name, ending[i])) {
            return true;
        }
    }
    return false;
}

bool kd_is_skeleton_name(const char *name)
{
    return kd_path_has_suffix(name, ".skeleton");
}

static kd_status no_memory(const scanner *s)
{
    return KD_FAIL(s->err, KD_E_OOM, "%s: no memory for its list of files", s->root);
}

/* Room for one more element of `size` bytes behind n. */
static bool grow(void **array, size_t n, size_t *room, size_t size)
{
    if (n < *room) {
        return true;
    }
    const size_t more = *room == 0 ? 256 : 2 * *room;
    void *p = kd_realloc(*array, *room * size, more * size);
    if (p == NULL) {
        return false;
    }
    *array = p;
    *room = more;
    return true;
}

static kd_status add_file(scanner *s, const char *dir, const char *name)
{
    void *array = s->file;
    if (!grow(&array, s->n_file, &s->room_file, sizeof *s->file)) {
        return no_memory(s);
    }
    s->file = array;
    found f = {.path = kd_path_join(dir, name), .skeleton = kd_is_skeleton_name(name)};
    if (f.path == NULL) {
        return no_memory(s);
    }
    f.key_len = kd_sample_key(f.path, &f.key);
    if (f.key_len == 0 || f.key_len >= KD_SAMPLE_KEY_MAX) {
        kd_status st = KD_FAIL(s->err, KD_E_DATA, "%s/%s: expected a file name of 1 to %d bytes before its first dot",
                               s->root, f.path, KD_SAMPLE_KEY_MAX - 1);
        kd_free(f.path);
        return st;
    }
    s->file[s->n_file++] = f;
    return KD_OK;
}

static kd_status add_folder(scanner *s, const char *dir, const char *name, int depth)
{
    void *array = s->todo;
    if (!grow(&array, s->n_todo, &s->room_todo, sizeof *s->todo)) {
        return no_memory(s);
    }
    s->todo = array;
    char *path = dir[0] != '\0' ? kd_path_join(dir, name) : kd_strdup(name);
    if (path == NULL) {
        return no_memory(s);
    }
    s->todo[s->n_todo++] = (folder){path, depth};
    return KD_OK;
}

/* Links can make a folder appear below itself: each (device, inode) is entered once. */
static kd_status first_visit(scanner *s, const char *full, bool *first)
{
    struct stat sb;
    *first = false;
    if (stat(full, &sb) != 0) {
        return KD_OK; /* listing it gives the reason */
    }
    for (size_t i = 0; i < s->n_seen; i++) {
        if (s->seen[i].dev == sb.st_dev && s->seen[i].ino == sb.st_ino) {
            return KD_OK;
        }
    }
    void *array = s->seen;
    if (!grow(&array, s->n_seen, &s->room_seen, sizeof *s->seen)) {
        return no_memory(s);
    }
    s->seen = array;
    s->seen[s->n_seen].dev = sb.st_dev;
    s->seen[s->n_seen++].ino = sb.st_ino;
    *first = true;
    return KD_OK;
}

typedef enum take { TAKE_BOTH, TAKE_VIDEOS, TAKE_SKELETONS } take;

static kd_status list_folder(scanner *s, const char *dir, int depth, take what, bool descend)
{
    char **name = NULL;
    size_t n = 0;
    kd_status st = KD_OK;
    char *full = kd_path_join(s->root, dir);
    char *below = NULL;
    if (full == NULL) {
        return no_memory(s);
    }
    bool enter = true;
    if (descend) {
        KD_GO(first_visit(s, full, &enter));
    }
    if (!enter && depth != 0) {
        goto done;
    }
    KD_GO(kd_io_list_dir(full, &name, &n, s->err));
    for (size_t i = 0; i < n; i++) {
        if (name[i][0] == '.') {
            continue;
        }
        const bool video = kd_is_video_name(name[i]);
        const bool skeleton = kd_is_skeleton_name(name[i]);
        if ((video && what != TAKE_SKELETONS) || (skeleton && what != TAKE_VIDEOS)) {
            KD_GO(add_file(s, dir, name[i]));
            continue;
        }
        if (descend && !video && !skeleton && depth < DEPTH_MAX) {
            below = kd_path_join(full, name[i]);
            if (below == NULL) {
                st = no_memory(s);
                goto done;
            }
            const bool is_dir = kd_path_is_dir(below);
            kd_free(below);
            below = NULL;
            if (is_dir) {
                KD_GO(add_folder(s, dir, name[i], depth + 1));
                continue;
            }
        }
        s->other++;
    }
done:
    kd_free(name);
    kd_free(full);
    return st;
}

static int compare_keys(const found *a, const found *b)
{
    const int c = memcmp(a->key, b->key, KD_MIN(a->key_len, b->key_len));
    return c != 0 ? c : a->key_len < b->key_len ? -1 : a->key_len > b->key_len;
}

static int compare_found(const void *pa, const void *pb)
{
    const found *a = pa;
    const found *b = pb;
    int c = compare_keys(a, b);
    if (c == 0) {
        c = (int)a->skeleton - (int)b->skeleton;
    }
    return c != 0 ? c : strcmp(a->path, b->path);
}

static void count_item(kd_scan_counts *c, const kd_scan_item *it)
{
    c->videos += it->video != NULL;
    c->skeletons += it->skeleton != NULL;
    c->pairs += it->video != NULL && it->skeleton != NULL;
    c->named += it->set != NULL;
    if (it->skeleton == NULL) {
        c->video_only++;
        c->known_missing += it->set != NULL && it->set->missing != NULL && it->set->missing(&it->id);
    } else if (it->video == NULL) {
        c->skeleton_only++;
    }
}

/* Sorted files to items.  Paths move to out->path; keys are appended there as strings of their own.
 */
static kd_status pair(scanner *s, kd_scan *out)
{
    if (s->n_file == 0) {
        return KD_OK;
    }
    qsort(s->file, s->n_file, sizeof *s->file, compare_found);
    out->item = kd_calloc(s->n_file, sizeof *out->item);
    out->path = kd_calloc(2 * s->n_file, sizeof *out->path);
    if (out->item == NULL || out->path == NULL) {
        return no_memory(s);
    }
    for (size_t i = 0; i < s->n_file; i++) {
        found *f = &s->file[i];
        const bool same = i > 0 && compare_keys(f, &s->file[i - 1]) == 0;
        if (same && f->skeleton == s->file[i - 1].skeleton) {
            return KD_FAIL(s->err, KD_E_DATA, "%s: sample %.*s lies there twice: %s and %s", s->root, (int)f->key_len,
                           f->key, s->file[i - 1].path, f->path);
        }
        kd_scan_item *it = &out->item[same ? out->n - 1 : out->n];
        if (!same) {
            char *key = kd_strf("%.*s", (int)f->key_len, f->key);
            if (key == NULL) {
                return no_memory(s);
            }
            out->path[out->n_path++] = key;
            it->key = key;
            it->set = kd_data_set_of_name(key, f->key_len, &it->id);
            out->n++;
        }
        if (f->skeleton) {
            it->skeleton = f->path;
        } else {
            it->video = f->path;
        }
    }
    for (size_t i = 0; i < s->n_file; i++) { /* only now: a duplicate's message needs both */
        out->path[out->n_path++] = s->file[i].path;
        s->file[i].path = NULL;
    }
    for (size_t i = 0; i < out->n; i++) {
        count_item(&out->counts, &out->item[i]);
    }
    return KD_OK;
}

/* List the folders of a data set's layout; *there: one of them is there. */
static kd_status list_layout(scanner *s, const kd_data_set *set, bool *there)
{
    static const unsigned kinds[2] = {TAKE_VIDEOS, TAKE_SKELETONS};
    const char *const name[2] = {set->video_dir, set->skeleton_dir};
    for (int i = 0; i < 2; i++) {
        char *dir = kd_path_join(s->root, name[i]);
        if (dir == NULL) {
            return no_memory(s);
        }
        const bool is_dir = kd_path_is_dir(dir);
        kd_free(dir);
        *there |= is_dir;
        if (is_dir) {
            KD_TRY(list_folder(s, name[i], 0, kinds[i], false));
        }
    }
    return KD_OK;
}

static kd_status search(scanner *s, const kd_data_set **layout)
{
    const char *name = NULL;
    for (int i = 0; (name = kd_layout_name(i)) != NULL; i++) {
        const kd_data_set *set = kd_data_set_of_layout(name);
        bool there = false;
        if (set != NULL) {
            KD_TRY(list_layout(s, set, &there));
        }
        if (there) {
            *layout = set;
            return KD_OK;
        }
    }
    KD_TRY(list_folder(s, "", 0, TAKE_BOTH, true));
    while (s->at < s->n_todo) {
        const folder f = s->todo[s->at++]; /* a copy: the array moves when it grows */
        KD_TRY(list_folder(s, f.path, f.depth, TAKE_BOTH, true));
    }
    return KD_OK;
}

kd_status kd_scan_folder(const char *root, kd_scan *out, kd_err *err)
{
    scanner s = {.root = root, .err = err};
    kd_scan scan = {0};
    kd_status st;

    *out = (kd_scan){0};
    KD_GO(search(&s, &scan.layout));
    KD_GO(pair(&s, &scan));
    scan.counts.other_files = s.other;
    *out = scan;
    scan = (kd_scan){0};
done:
    for (size_t i = 0; i < s.n_file; i++) {
        kd_free(s.file[i].path);
    }
    for (size_t i = 0; i < s.n_todo; i++) {
        kd_free(s.todo[i].path);
    }
    kd_free(s.file);
    kd_free(s.todo);
    kd_free(s.seen);
    kd_scan_free(&scan);
    return st;
}

void kd_scan_free(kd_scan *scan)
{
    if (scan != NULL) {
        for (size_t i = 0; i < scan->n_path; i++) {
            kd_free(scan->path[i]);
        }
        kd_free(scan->path);
        kd_free(scan->item);
        *scan = (kd_scan){0};
    }
}

static int compare_item(const void *key, const void *item)
{
    return strcmp(key, ((const kd_scan_item *)item)->key);
}

const kd_scan_item *kd_scan_find(const kd_scan *scan, const char *key)
{
    return scan->n == 0 ? NULL : bsearch(key, scan->item, scan->n, sizeof *scan->item, compare_item);
}
