/* The reader's state, shared by store_read.c, store_verify.c and store_merge.c only. */
#ifndef KD_FORMATS_STORE_STORE_READER_H
#define KD_FORMATS_STORE_STORE_READER_H

#include "formats/store/store_internal.h"

struct kd_store {
    char *path;
    int fd;
    uint64_t file_bytes, raw_bytes;
    kd_store_head head;
    kd_store_index index;
};

/* Open and read the manifest; then index and seek table.  kd_store_open is both. */
KD_NODISCARD kd_status kd_store_open_head(const char *path, kd_store **out, kd_err *err);
KD_NODISCARD kd_status kd_store_load_index(kd_store *s, kd_err *err);

KD_NODISCARD kd_status kd_store_read_at(const kd_store *s, uint64_t at, size_t n, uint8_t **out, kd_err *err);

/* Block k of the index; `exact` compares the frame and content checksums of index and seek table as
 * well. */
KD_NODISCARD kd_status kd_store_load_block(const kd_store *s, size_t k, bool exact, kd_block *out, kd_err *err);

/* Record `slot` of a loaded block k: its hash, and the index's id and label. */
KD_NODISCARD kd_status kd_store_check_record(const kd_store *s, size_t k, const kd_block *b, int slot, kd_err *err);

/* Turn a stored record into floats in the cursor's buffers. */
KD_NODISCARD kd_status kd_store_lend(kd_store_cursor *c, const kd_raw *r, kd_store_record *out, kd_err *err);

#endif
