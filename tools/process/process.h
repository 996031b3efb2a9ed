/* What a program does first and last, and what signals mean to it: descriptors, standard output, SIGINT and its kin.
 *
 *     int main(int argc, char **argv)
 *     {
 *         kd_process_begin("kd");
 *         return kd_process_end(kd_dispatch("kd", ...));
 *     }
 *
 * INT, TERM, XCPU, USR1, and HUP unless it was ignored at the start (nohup), ask for an orderly stop: work that saves
 * its state saves it, everything else removes its temporary files; exit code 130.  A second INT a second later or more
 * ends at once.  USR2: training saves a checkpoint and goes on.  PIPE ends the program without a word, as a reader such
 * as `head` expects, but not work whose results are files (kd_process_outlive_reader).  XFSZ is ignored: the write
 * fails with EFBIG and an error that names the file.  BUS within a mapped file: the file was cut while it was read; one
 * line that names it, exit code 3. */
#ifndef KD_TOOLS_PROCESS_PROCESS_H
#define KD_TOOLS_PROCESS_PROCESS_H

#include "kernels/kd_base.h"

/* First in main: handlers, and /dev/null for those of the descriptors 0 to 2 that are closed, so that no file of ours
 * becomes one of them.  A closed standard output still fails when something is written to it. */
void kd_process_begin(const char *program);

/* Last in main: the exit code of the process, `rc` unless standard output could not be written: 1 and a message then,
 * or 141 without one where the reader of a pipe has gone. */
KD_NODISCARD int kd_process_end(int rc);

/* From now on somebody asks kd_interrupted between two steps of the work: signals leave the stopping to them. */
void kd_process_polls(void);
bool kd_interrupted(void);

/* True once after each SIGUSR2. */
bool kd_save_wanted(void);

/* The results of this command are files: a reader of its output that goes away changes nothing. */
void kd_process_outlive_reader(void);

#endif
