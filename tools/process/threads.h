/* Threads that wait for work soon sleep instead of spinning. */
#ifndef KD_TOOLS_PROCESS_THREADS_H
#define KD_TOOLS_PROCESS_THREADS_H

/* Call in main, before anything else.  OpenMP's threads spin between two pieces of work for many milliseconds, unless
 * the environment says otherwise when its library is loaded: on a busy machine that takes the processors from the
 * thread that has the work.  Threads that never spin are slow on a quiet one.  The program starts itself again, once,
 * with a spin of less than a millisecond (kernels/PERF.md has the figures).  A policy that the user has set stands
 * (OMP_WAIT_POLICY, GOMP_SPINCOUNT, KMP_BLOCKTIME).  Where that is impossible the program goes on as it is. */
void kd_threads_sleep(char **argv);

#endif
