/* Threads that wait for work sleep: see threads.h. */
#include "tools/process/threads.h"

#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

void kd_threads_sleep(char **argv)
{
    static const char *const POLICY[] = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"};
    for (size_t i = 0; i < sizeof POLICY / sizeof *POLICY; i++) {
        if (getenv(POLICY[i]) != NULL) {
            return;
        }
    }
    if (setenv("OMP_WAIT_POLICY", "passive", 1) == 0) {
        (void)execv("/proc/self/exe", argv);
    }
}
