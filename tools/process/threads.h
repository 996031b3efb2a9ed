/* Threads that wait for work sleep instead of spinning. */
#ifndef KD_TOOLS_PROCESS_THREADS_H
#define KD_TOOLS_PROCESS_THREADS_H

/* Call in main, before anything else.  OpenMP's threads spin between two pieces of work, for milliseconds, unless the
 * environment says otherwise when its library is loaded: on a busy machine that takes the processors from the thread
 * that has the work (24.5 s instead of 1.9 s for a small training, measured).  So the program starts itself again with
 * OMP_WAIT_POLICY=passive, once; a policy that the user has set stands (OMP_WAIT_POLICY, GOMP_SPINCOUNT,
 * KMP_BLOCKTIME).  Where that is impossible the program goes on as it is. */
void kd_threads_sleep(char **argv);

#endif
