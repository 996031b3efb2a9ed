/* Threads that wait for work soon sleep: see threads.h. */
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
    if (setenv("GOMP_SPINCOUNT", "10000", 1) == 0 && setenv("KMP_BLOCKTIME", "1", 1) == 0) { /* gcc's, LLVM's */
        (void)execv("/proc/self/exe", argv);
    }
}
