/* What the files of `kd dataset pack` share: the job, and whom its folder belongs to. */
#ifndef KD_TOOLS_DATASET_PACK_INTERNAL_H
#define KD_TOOLS_DATASET_PACK_INTERNAL_H

#include "formats/data/pack.h"
#include "formats/data/scan.h"
#include "formats/video/video.h"
#include "tools/commands/commands.h"

#include <pthread.h>
#include <stdatomic.h>

#define KDI_PACK_LOCK "lock"

typedef struct kdi_pack {
    const char *data, *out;
    kd_scan scan;
    size_t n;       /* of scan.n: packed in this run (--limit) */
    kd_pack before; /* rows that are there already, */
    kd_pack old;    /* and of a pack that is replaced */
    kd_video_writer_opts opts;
    bool raw;
    int short_side, part; /* part: descriptor of pack.part */
    char *part_path;
    pthread_mutex_t lock; /* guards pack.part */
    kd_pack_row *row;     /* [scan.n]; frames 0: none */
    char **trouble;       /* [scan.n]; NULL: none */
    _Atomic size_t made;
} kdi_pack;

/* KD_E_ARG: the folder of the pack holds something else, or lies where the data set's videos are looked for. */
KD_NODISCARD kd_status kdi_pack_check_folder(const kdi_pack *j, kd_err *err);
KD_NODISCARD kd_status kdi_pack_check_place(const kdi_pack *j, const char *video_dir, kd_err *err);

/* The folder, which is locked, becomes an unfinished pack of this recipe, which is freed; with --resume j->before
 * holds the rows that there are.  KD_E_ARG: a pack is there, and neither --resume nor --force goes on with it. */
KD_NODISCARD kd_status kdi_pack_claim(kdi_pack *j, const kd_common *c, kd_json *recipe, kd_err *err);

/* Is a path of a row one below the pack's folder? */
bool kdi_pack_stays_inside(const char *path);

/* Of the finished pack: files of rows that it has no longer, and what killed runs left, are removed.  KD_E_WRITE. */
KD_NODISCARD kd_status kdi_pack_sweep(const kdi_pack *j, kd_err *err);

#endif
