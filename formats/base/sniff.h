/* What a file is when a download went wrong: told by its first bytes, the same for every kind of file. */
#ifndef KD_FORMATS_BASE_SNIFF_H
#define KD_FORMATS_BASE_SNIFF_H

#include "kernels/kd_base.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KD_SNIFF_BYTES 512 /* of the start of a file: enough for every sign looked for */

/* What stands in the place of the file that was meant, and what to do about it: a Git LFS pointer, a web page, the
 * one-line answer of a server that had nothing.  NULL: nothing of the kind.  `data`: the first KD_SNIFF_BYTES bytes, or
 * all where the file is shorter (n).  Static string. */
const char *kd_sniff(const void *data, size_t n);

#ifdef __cplusplus
}
#endif
#endif
