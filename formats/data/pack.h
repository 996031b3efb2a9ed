/* A pack: a folder of transcoded videos, small and quick to decode, in the place of a data set's own.
 *
 * `kd dataset pack` makes one; `data.video_dir: PACK` reads it.  Every video keeps its path, its number of frames and
 * their order, so that samplers pick the same frames; the pixels are those of the pack, and so its recipe's hash is in
 * every checkpoint, store and report.
 *
 *   pack.json   {"kind": "lastkd pack", "version": 1, "recipe": {...}, "sha256": hash of the recipe's text}
 *   pack.tsv    heading, then a line a video, sorted by path: path, frames, width, height, bytes, bytes of the source
 *   pack.part   the lines of a pack that is not finished, in the order of making
 *
 * A finished pack holds the files of its rows alone.  A recipe of a pack of a pack has `source_pack`, the first one's
 * hash. */
#ifndef KD_FORMATS_DATA_PACK_H
#define KD_FORMATS_DATA_PACK_H

#include "formats/base/hash.h"
#include "formats/base/json.h"

#define KD_PACK_HEAD "pack.json"
#define KD_PACK_ROWS "pack.tsv"
#define KD_PACK_PART "pack.part"

#define KD_PACK_OF_FOLDER ".mkv" /* behind the path of a folder of pictures, which is one file in a pack */

typedef struct kd_pack_row {
    const char *path; /* below the pack's folder */
    int64_t frames;   /* decoded when the pack was made */
    int width, height;
    int64_t bytes, source_bytes;
} kd_pack_row;

typedef struct kd_pack {
    char sha256[KD_SHA256_HEX]; /* of the recipe */
    kd_pack_row *row;           /* [n], sorted by path, each once */
    size_t n;
    char *text; /* owns the paths */
} kd_pack;

/* Does `dir` hold a pack, finished or not? */
bool kd_pack_is(const char *dir);

/* KD_E_STATE: the pack is not finished; KD_E_FORMAT: its files are damaged; KD_E_IO, KD_E_OOM. */
KD_NODISCARD kd_status kd_pack_read(const char *dir, kd_pack *out, kd_err *err);
/* The rows of an unfinished pack; none where it has none.  A last line without its end is dropped; of two rows of a
 * path the later one counts. */
KD_NODISCARD kd_status kd_pack_read_part(const char *dir, kd_pack *out, kd_err *err);
void kd_pack_free(kd_pack *pack); /* zeroed or NULL is legal */

/* NULL: the pack has no such video. */
const kd_pack_row *kd_pack_find(const kd_pack *pack, const char *path);

/* Text of pack.json for a recipe, which is freed; kd_free. */
KD_NODISCARD kd_status kd_pack_head(kd_json *recipe, char **text, size_t *bytes, kd_err *err);
/* A row as a line; kd_free.  NULL: out of memory. */
char *kd_pack_line(const kd_pack_row *row);
/* pack.tsv of these rows, in any order; pack.part is removed. */
KD_NODISCARD kd_status kd_pack_finish(const char *dir, kd_pack_row *row, size_t n, kd_err *err);

#endif
