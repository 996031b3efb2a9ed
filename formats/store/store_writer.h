/* The writer's state, shared by store_write.c and store_resume.c only. */
#ifndef KD_FORMATS_STORE_STORE_WRITER_H
#define KD_FORMATS_STORE_STORE_WRITER_H

#include "formats/store/store_internal.h"

#define KD_STORE_TAIL_MAGIC 0x5254444Bu /* "KDTR" */

struct kd_store_writer {
    char *path, *part, *tail; /* final, under construction, records of the block in progress; no tail: not resumable */
    int fd, tail_fd;          /* fd holds the lock */
    kd_store_head head;
    kd_zstd_packer *z;
    kd_store_index index; /* every id appended; blocks already written */
    uint64_t end;         /* bytes of whole frames in the part file */
    kd_raw *pending;      /* [block_records] records of the block in progress */
    int n_pending;
    size_t pending_bytes;
    uint64_t tail_bytes;
    bool broken;   /* a write failed: only closing is left */
    bool finished; /* a finished store was opened and nothing was added yet */
};

/* Write the pending records as one block. */
KD_NODISCARD kd_status kd_store_flush(kd_store_writer *w, bool clear_tail, kd_err *err);
/* Add one record (taken over on success); `tail`: it is new, so into the tail file and the index
 * too. */
KD_NODISCARD kd_status kd_store_push(kd_store_writer *w, kd_raw *r, bool tail, kd_err *err);
/* Rows of the seek table: manifest, blocks, index; room for n_blocks + 2. */
void kd_store_seek_rows(const kd_store_head *h, const kd_store_index *ix, size_t index_bytes, kd_seek_entry *row);

/* One entry of the tail file: "KDTR", u32 bytes, u64 XXH64, record.  `p` has room for head and
 * record. */
void kd_store_tail_entry(const kd_raw *r, uint8_t *p);
/* KD_E_STATE: what has the name of the tail file is none. */
KD_NODISCARD kd_status kd_store_check_tail(const kd_store_writer *w, kd_err *err);
/* A non-empty part file. */
KD_NODISCARD kd_status kd_store_take_part(kd_store_writer *w, kd_store_resume_info *info, kd_err *err);
/* A finished store under the final name: sets w->finished, unless the part file already goes
 * further. */
KD_NODISCARD kd_status kd_store_take_finished(kd_store_writer *w, uint64_t part_bytes, kd_store_resume_info *info,
                                              kd_err *err);
/* Before the first append to it: copy its blocks to the part file. */
KD_NODISCARD kd_status kd_store_reopen_finished(kd_store_writer *w, kd_err *err);

#endif
