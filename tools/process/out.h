/* One rule for what --out names, in every command, asked before the work begins:
 *
 *   - an output is never also an input, under whatever name or link;
 *   - what is there is refused without --force, and with it only a regular file is replaced, behind a link where `path`
 *     is one; a device, a pipe, a socket or a directory never;
 *   - a file can be made in the folder, or where that is missing, in the first one above it that is there;
 *   - what killed commands left in that folder under temporary names (formats/base/io.h) is removed.
 *
 * Run directories have the rest of the rule in distill/run/run.h, the folder of `kd dataset sample` in its own head.
 */
#ifndef KD_TOOLS_PROCESS_OUT_H
#define KD_TOOLS_PROCESS_OUT_H

#include "kernels/kd_base.h"

enum { KD_OUT_INPUTS = 1100 }; /* `distill compare` takes 1023 reports */

typedef struct kd_out {
    bool force;       /* --force: a regular file that is there is replaced */
    bool resume;      /* --resume: what is there is gone on with */
    bool resumable;   /* the command makes one file after another and has --resume: a refusal says so */
    bool dry_run;     /* nothing is made or removed */
    const char *data; /* folder of a data set: videos, pictures, skeletons and lists below it are inputs; NULL: none */
    const char *input[KD_OUT_INPUTS];
    int n;
} kd_out;

/* Whether what is or would be at `path` lies in `folder` at any depth: behind a link, as a link, or below a linked
 * folder.  False where `folder` is none. */
bool kd_out_lies_below(const char *path, const char *folder);

/* Note a path that the command reads; NULL and "" are ignored.  A run or a checkpoint stands for its files, but for
 * reports: what ends in .json and is no state.json. */
void kd_out_reads(kd_out *o, const char *path);

/* The file, whose folder is made where it is missing, or the folder with these files in it, may be written.
 * KD_E_ARG: it exists, is an input or no place for a file; KD_E_WRITE: the system refuses. */
KD_NODISCARD kd_status kd_out_file(const kd_out *o, const char *path, kd_err *err);
KD_NODISCARD kd_status kd_out_dir(const kd_out *o, const char *path, const char *const *files, size_t n, kd_err *err);

/* A logit store: the file, its name, and what an unfinished one would have left beside it. */
KD_NODISCARD kd_status kd_out_store(const kd_out *o, const char *path, kd_err *err);

/* KD_E_ARG: the name promises a file of another kind, which a logit store is not. */
KD_NODISCARD kd_status kd_out_store_name(const char *path, kd_err *err);

/* A run directory: with --force nothing that the command reads lies in it. */
KD_NODISCARD kd_status kd_out_run(const kd_out *o, const char *path, kd_err *err);

#endif
