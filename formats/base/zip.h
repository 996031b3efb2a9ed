/* Zip archives as .pth and .npz use them: strict reader over memory, writer of stored members.
 *
 * The reader believes the central directory (local headers of such files may hold zero sizes) and
 * checks it against the local headers and the file's size before anything is handed out: no member
 * reaches outside the file, none overlap, names are unique.  Nothing is ever extracted to disk.
 * Zip64 is read and written.  Refused: encryption, several disks, an ambiguous end record; methods
 * other than stored and deflate when the member is read.
 */
#ifndef KD_FORMATS_BASE_ZIP_H
#define KD_FORMATS_BASE_ZIP_H

#include "kernels/kd_base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kd_zip_entry {
    const char *name;
    const uint8_t *data; /* as stored in the archive */
    uint64_t packed;     /* bytes at data */
    uint64_t bytes;      /* bytes of the content */
    uint32_t crc;        /* CRC-32 of the content */
    uint16_t method;     /* 0 stored, 8 deflate */
} kd_zip_entry;

typedef struct kd_zip kd_zip;

/* `data` stays the caller's until kd_zip_close.  `origin` (copied) is what errors call it. */
KD_NODISCARD kd_status kd_zip_parse(const void *data, size_t bytes, const char *origin, kd_zip **out, kd_err *err);
void kd_zip_close(kd_zip *z); /* NULL is legal */

size_t kd_zip_count(const kd_zip *z);
const kd_zip_entry *kd_zip_at(const kd_zip *z, size_t i);           /* sorted by name */
const kd_zip_entry *kd_zip_find(const kd_zip *z, const char *name); /* NULL when absent */

/* KD_E_DATA when the members together claim far more than a file of numbers unpacks to (64 times the archive and 64 MiB
 * more): a few MB that would take gigabytes. */
KD_NODISCARD kd_status kd_zip_check_claims(const kd_zip *z, kd_err *err);

/* KD_E_INTEGRITY unless a stored member's bytes have its CRC; KD_E_FORMAT if it is not stored. */
KD_NODISCARD kd_status kd_zip_check_stored(const kd_zip *z, const kd_zip_entry *e, kd_err *err);

/* Content of a member, unpacked and checked (kd_free).  More than max_bytes: KD_E_DATA before any
 * allocation. */
KD_NODISCARD kd_status kd_zip_read(const kd_zip *z, const kd_zip_entry *e, size_t max_bytes, uint8_t **data,
                                   kd_err *err);

/* ---- writing: atomic (formats/base/io.h), members stored, content at multiples of 64 --------- */

typedef struct kd_zip_writer kd_zip_writer;
KD_NODISCARD kd_status kd_zip_writer_open(const char *path, kd_zip_writer **out, kd_err *err);
KD_NODISCARD kd_status kd_zip_writer_add(kd_zip_writer *w, const char *name, const void *data, size_t bytes,
                                         kd_err *err);
/* The content in two pieces, one after the other (a header and its data). */
KD_NODISCARD kd_status kd_zip_writer_add2(kd_zip_writer *w, const char *name, const void *a, size_t a_bytes,
                                          const void *b, size_t b_bytes, kd_err *err);
KD_NODISCARD kd_status kd_zip_writer_commit(kd_zip_writer *w, kd_err *err); /* frees w */
void kd_zip_writer_abort(kd_zip_writer *w);                                 /* NULL is legal */

#ifdef __cplusplus
}
#endif
#endif
