/* Walking over a data folder: where files of each kind are looked for, and what lies there.  See scan.h. */
#include "formats/base/io.h"
#include "formats/data/scan_internal.h"

#include <strings.h>
#include <sys/stat.h>

#define DEPTH_MAX    8
#define PICTURES_MIN 2 /* numbered pictures that make a folder a video */

static kd_status no_memory(const kdi_walk *w)
{
    return KD_FAIL(w->err, KD_E_OOM, "%s: no memory for its list of files", w->root);
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

static char *join(const char *dir, const char *name)
{
    return dir[0] != '\0' ? kd_path_join(dir, name) : kd_strdup(name);
}

/* Takes `path`; NULL stands for failed allocation. */
static kd_status add_file(kdi_walk *w, const kdi_place *place, char *path, bool frames)
{
    void *array = w->file;
    if (path == NULL || !grow(&array, w->n_file, &w->room_file, sizeof *w->file)) {
        kd_free(path);
        return no_memory(w);
    }
    w->file = array;
    const size_t head = strlen(place->dir);
    const bool inside = head > 0 && path[head] == '/';
    w->file[w->n_file++] = (kdi_found){.path = path,
                                       .below = inside ? head + 1 : 0,
                                       .skeleton = !frames && kd_is_skeleton_name(path),
                                       .frames = frames};
    return KD_OK;
}

static kd_status add_folder(kdi_walk *w, const char *dir, const char *name, int depth)
{
    void *array = w->todo;
    if (!grow(&array, w->n_todo, &w->room_todo, sizeof *w->todo)) {
        return no_memory(w);
    }
    w->todo = array;
    char *path = join(dir, name);
    if (path == NULL) {
        return no_memory(w);
    }
    w->todo[w->n_todo++] = (struct kdi_todo){path, depth};
    return KD_OK;
}

static size_t slot_of(const struct kdi_seen *seen, size_t room, dev_t dev, ino_t ino)
{
    size_t i = (size_t)((uint64_t)ino * 0x9e3779b97f4a7c15u ^ (uint64_t)dev) & (room - 1);
    while (seen[i].ino != 0 && (seen[i].ino != ino || seen[i].dev != dev)) {
        i = (i + 1) & (room - 1);
    }
    return i;
}

/* Links can make a folder appear below itself: each (device, inode) is entered once. */
static kd_status first_visit(kdi_walk *w, const char *full, bool *first)
{
    struct stat sb;
    *first = stat(full, &sb) != 0; /* listing it gives the reason */
    if (*first) {
        return KD_OK;
    }
    if (2 * w->n_seen >= w->room_seen) {
        const size_t room = w->room_seen == 0 ? 256 : 2 * w->room_seen;
        struct kdi_seen *seen = kd_calloc(room, sizeof *seen);
        if (seen == NULL) {
            return no_memory(w);
        }
        for (size_t i = 0; i < w->room_seen; i++) {
            if (w->seen[i].ino != 0) {
                seen[slot_of(seen, room, w->seen[i].dev, w->seen[i].ino)] = w->seen[i];
            }
        }
        kd_free(w->seen);
        w->seen = seen;
        w->room_seen = room;
    }
    struct kdi_seen *s = &w->seen[slot_of(w->seen, w->room_seen, sb.st_dev, sb.st_ino)];
    *first = s->ino == 0;
    if (*first) {
        *s = (struct kdi_seen){sb.st_dev, sb.st_ino};
        w->n_seen++;
    }
    return KD_OK;
}

/* ---- one folder ------------------------------------------------------------------------------ */

/* img_00001.jpg, 17.png: a picture whose stem ends in a digit. */
static bool numbered_picture(const char *name)
{
    const char *dot = strrchr(name, '.');
    return kd_is_picture_name(name) && dot != NULL && dot > name && dot[-1] >= '0' && dot[-1] <= '9';
}

static bool covers(const kdi_place *p, const char *dir, bool skeleton)
{
    const size_t n = strlen(p->dir);
    return (p->kinds & (skeleton ? KDI_SKELETONS : KDI_VIDEOS)) != 0 && strncmp(dir, p->dir, n) == 0 &&
           (n == 0 || dir[n] == '\0' || dir[n] == '/');
}

/* Was this file looked at, as one of a place? */
static kd_status count_aside(kdi_walk *w, const char *dir, const char *name, bool skeleton)
{
    for (size_t i = 0; i < w->n_place; i++) {
        if (covers(&w->place[i], dir, skeleton)) {
            return KD_OK;
        }
    }
    if (w->aside++ == 0 && (w->first_aside = join(dir, name)) == NULL) {
        return no_memory(w);
    }
    return KD_OK;
}

/* A folder is gone into, an array is remembered, everything else counted.  place NULL: nothing is counted. */
static kd_status other_entry(kdi_walk *w, const kdi_place *place, const char *dir, const char *name, int depth)
{
    bool is_dir = false;
    if (depth < DEPTH_MAX) {
        char *inner = join(dir, name);
        char *full = inner != NULL ? kd_path_join(w->root, inner) : NULL;
        kd_free(inner);
        if (full == NULL) {
            return no_memory(w);
        }
        is_dir = kd_path_is_dir(full);
        kd_free(full);
    }
    if (is_dir) {
        return add_folder(w, dir, name, depth + 1);
    }
    if (place == NULL) {
        return KD_OK;
    }
    w->other++;
    if (kd_is_array_name(name) && w->arrays++ == 0 && (w->array = join(dir, name)) == NULL) {
        return no_memory(w);
    }
    return KD_OK;
}

/* Are these the pictures of a video? */
static bool frame_folder(char *const *name, size_t n)
{
    size_t pictures = 0, videos = 0;
    for (size_t i = 0; i < n; i++) {
        pictures += numbered_picture(name[i]);
        videos += kd_is_video_name(name[i]);
    }
    return pictures >= PICTURES_MIN && videos == 0;
}

/* place NULL: count what lies aside. */
static kd_status list_folder(kdi_walk *w, const kdi_place *place, const char *dir, int depth)
{
    char **name = NULL;
    size_t n = 0;
    bool enter = true;
    kd_status st = KD_OK;
    char *full = kd_path_join(w->root, dir);
    if (full == NULL) {
        return no_memory(w);
    }
    KD_GO(first_visit(w, full, &enter));
    if (!enter && depth != 0) {
        goto done;
    }
    KD_GO(kd_io_list_dir(full, &name, &n, w->err));
    const bool frames = depth > 0 && frame_folder(name, n);
    if (frames && place != NULL && (place->kinds & KDI_VIDEOS) != 0) {
        KD_GO(add_file(w, place, kd_strdup(dir), true));
    } else if (frames && place == NULL) {
        KD_GO(count_aside(w, dir, "", false));
    }
    for (size_t i = 0; i < n; i++) {
        const bool video = kd_is_video_name(name[i]), skeleton = kd_is_skeleton_name(name[i]);
        if (name[i][0] == '.' || (frames && kd_is_picture_name(name[i]))) {
            continue;
        }
        if (!video && !skeleton) {
            KD_GO(other_entry(w, place, dir, name[i], depth));
        } else if (place == NULL) {
            KD_GO(count_aside(w, dir, name[i], skeleton));
        } else if ((place->kinds & (skeleton ? KDI_SKELETONS : KDI_VIDEOS)) != 0) {
            KD_GO(add_file(w, place, join(dir, name[i]), false));
        }
    }
done:
    kd_free(name);
    kd_free(full);
    return st;
}

static void forget_folders(kdi_walk *w)
{
    for (size_t i = 0; i < w->n_todo; i++) {
        kd_free(w->todo[i].path);
    }
    w->n_todo = w->at = 0;
    kd_free(w->seen);
    w->seen = NULL;
    w->n_seen = w->room_seen = 0;
}

static kd_status walk(kdi_walk *w, const kdi_place *place, const char *dir)
{
    kd_status st = list_folder(w, place, dir, 0);
    while (st == KD_OK && w->at < w->n_todo) {
        const struct kdi_todo f = w->todo[w->at++]; /* a copy: the array moves when it grows */
        st = list_folder(w, place, f.path, f.depth);
    }
    forget_folders(w);
    return st;
}

kd_status kdi_scan_archive(kdi_walk *w, const kd_archive *a)
{
    for (size_t i = 0; i < a->n; i++) {
        void *array = w->file;
        char *id = kd_strdup(a->row[i].id);
        if (id == NULL || !grow(&array, w->n_file, &w->room_file, sizeof *w->file)) {
            kd_free(id);
            return no_memory(w);
        }
        w->file = array;
        w->file[w->n_file++] = (kdi_found){.path = id, .skeleton = true};
    }
    return KD_OK;
}

kd_status kdi_scan_place(kdi_walk *w, const kdi_place *place)
{
    return walk(w, place, place->dir);
}

kd_status kdi_scan_aside(kdi_walk *w)
{
    return walk(w, NULL, "");
}

/* ---- places ---------------------------------------------------------------------------------- */

static kd_status add_place(kdi_walk *w, const char *dir, unsigned kinds)
{
    void *array = w->place;
    char *copy = kd_strdup(dir);
    if (copy == NULL || !grow(&array, w->n_place, &w->room_place, sizeof *w->place)) {
        kd_free(copy);
        return no_memory(w);
    }
    for (size_t n = strlen(copy); n > 1 && copy[n - 1] == '/'; n--) {
        copy[n - 1] = '\0';
    }
    w->place = array;
    w->place[w->n_place++] = (kdi_place){copy, kinds};
    return KD_OK;
}

/* The folders of the root whose name is `want`, in any case; without any, those that begin with it. */
static kd_status layout_places(kdi_walk *w, char *const *name, size_t n, const char *want, unsigned kind, bool *there)
{
    size_t best = 0;
    for (size_t i = 0; i < n; i++) {
        best = KD_MAX(best, strcmp(name[i], want) == 0 ? (size_t)2 : strcasecmp(name[i], want) == 0);
    }
    for (size_t i = 0; i < n; i++) {
        const bool hit = best == 2   ? strcmp(name[i], want) == 0
                         : best == 1 ? strcasecmp(name[i], want) == 0
                                     : strncasecmp(name[i], want, strlen(want)) == 0;
        char *full = hit ? kd_path_join(w->root, name[i]) : NULL;
        if (hit && full == NULL) {
            return no_memory(w);
        }
        const bool is_dir = hit && kd_path_is_dir(full);
        kd_free(full);
        if (is_dir) {
            KD_TRY(add_place(w, name[i], kind));
            *there = true;
        }
    }
    return KD_OK;
}

/* The first layout of which a folder is there; open: kinds without a place, less those that find one. */
static kd_status find_layout(kdi_walk *w, unsigned *open, const kd_data_set **layout)
{
    char **name = NULL;
    size_t n = 0;
    kd_status st;
    KD_TRY(kd_io_list_dir(w->root, &name, &n, w->err));
    const char *layout_name = NULL;
    for (int i = 0; *layout == NULL && (layout_name = kd_layout_name(i)) != NULL; i++) {
        const kd_data_set *set = kd_data_set_of_layout(layout_name);
        bool videos = false, skeletons = false;
        if (set != NULL && (*open & KDI_VIDEOS) != 0) {
            KD_GO(layout_places(w, name, n, set->video_dir, KDI_VIDEOS, &videos));
        }
        if (set != NULL && (*open & KDI_SKELETONS) != 0) {
            KD_GO(layout_places(w, name, n, set->skeleton_dir, KDI_SKELETONS, &skeletons));
        }
        *open &= ~((videos ? KDI_VIDEOS : 0) | (skeletons ? KDI_SKELETONS : 0));
        *layout = videos || skeletons ? set : NULL;
    }
    st = KD_OK;
done:
    kd_free(name);
    return st;
}

kd_status kdi_scan_places(kdi_walk *w, const kd_scan_opts *o, const kd_data_set **layout)
{
    unsigned open = o->archive == NULL ? KDI_VIDEOS | KDI_SKELETONS : KDI_VIDEOS;
    if (o->video_dir != NULL && o->video_dir[0] != '\0') {
        KD_TRY(add_place(w, o->video_dir, KDI_VIDEOS));
        open &= ~KDI_VIDEOS;
    }
    if (o->skeleton_dir != NULL && o->skeleton_dir[0] != '\0') {
        KD_TRY(add_place(w, o->skeleton_dir, KDI_SKELETONS));
        open &= ~KDI_SKELETONS;
    }
    if (open != 0) {
        KD_TRY(find_layout(w, &open, layout));
    }
    return open != 0 ? add_place(w, "", open) : KD_OK;
}

void kdi_scan_free(kdi_walk *w)
{
    for (size_t i = 0; i < w->n_file; i++) {
        kd_free(w->file[i].path);
    }
    for (size_t i = 0; i < w->n_place; i++) {
        kd_free(w->place[i].dir);
    }
    forget_folders(w);
    kd_free(w->todo);
    kd_free(w->file);
    kd_free(w->place);
    kd_free(w->array);
    kd_free(w->first_aside);
}
