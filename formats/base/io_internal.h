/* Shared by the files of io.h. */
#ifndef KD_FORMATS_BASE_IO_INTERNAL_H
#define KD_FORMATS_BASE_IO_INTERNAL_H

#include "formats/base/io.h"

#include <sys/types.h>

const char *kdi_kind_of(mode_t mode); /* "directory", "pipe", ... */

/* A free name beside `path` that kd_io_sweep leaves alone (kd_free); NULL: out of memory. */
char *kdi_set_aside_name(const char *path);

void kd_io_step(void); /* fault hook: call before everything that changes the disk */

/* KD_E_WRITE "path: cannot <what>: <text of errno code>", with advice when the disk is full */
kd_status kd_io_fail_write(kd_err *err, const char *what, const char *path, int code);

#define KDI_SNIFF_BYTES 512 /* of the start of a file: enough for every sign that kdi_sniff looks for */

/* What stands in the place of the file that was meant, and what to do about it: a Git LFS pointer, a web page, the
 * one-line answer of a server that had nothing.  NULL: nothing of the kind.  `data`: the first KDI_SNIFF_BYTES bytes,
 * or all where the file is shorter (n).  Static string. */
const char *kdi_sniff(const void *data, size_t n);

kd_status kd_io_sync_parent(const char *path, kd_err *err); /* fsync of the directory that holds path */

#endif
