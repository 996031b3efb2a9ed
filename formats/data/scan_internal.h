/* Between the walk over folders (scan_walk.c) and the pairing of what lies in them (scan.c). */
#ifndef KD_FORMATS_DATA_SCAN_INTERNAL_H
#define KD_FORMATS_DATA_SCAN_INTERNAL_H

#include "formats/data/scan.h"

#include <sys/types.h>

#define KDI_VIDEOS    1u
#define KDI_SKELETONS 2u

/* A file, or a folder of pictures. */
typedef struct kdi_found {
    char *path;   /* as kd_scan_item.video */
    size_t below; /* path + below is relative to the folder of its kind */
    const char *key;
    size_t key_len;
    bool skeleton, frames;
} kdi_found;

/* A folder of one kind or of both. */
typedef struct kdi_place {
    char *dir; /* relative to the root, "" for itself, or absolute */
    unsigned kinds;
} kdi_place;

typedef struct kdi_walk {
    const char *root;
    kdi_found *file;
    size_t n_file, room_file;
    kdi_place *place;
    size_t n_place, room_place;
    size_t other, arrays, aside;
    char *array, *first_aside;
    struct kdi_todo {
        char *path;
        int depth;
    } * todo; /* folders met below a place; [0, at) are done */
    size_t n_todo, room_todo, at;
    struct kdi_seen {
        dev_t dev;
        ino_t ino;
    } * seen; /* hash table of folders entered; ino 0: a free place */
    size_t n_seen, room_seen;
    kd_err *err;
} kdi_walk;

/* The places of both kinds; *layout as in kd_scan. */
KD_NODISCARD kd_status kdi_scan_places(kdi_walk *w, const kd_scan_opts *o, const kd_data_set **layout);

/* The rows of an archive, as skeletons. */
KD_NODISCARD kd_status kdi_scan_archive(kdi_walk *w, const kd_archive *a);

/* All files of a place. */
KD_NODISCARD kd_status kdi_scan_place(kdi_walk *w, const kdi_place *place);

/* Count the files below the root that lie in no place of their kind. */
KD_NODISCARD kd_status kdi_scan_aside(kdi_walk *w);

void kdi_scan_free(kdi_walk *w);

#endif
