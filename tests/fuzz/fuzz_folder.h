/* What targets share whose parser takes a path: a folder in memory, a file of the input's bytes in it, and a mutator
 * that begins with a whole file of ours. */
#ifndef KD_TESTS_FUZZ_FUZZ_FOLDER_H
#define KD_TESTS_FUZZ_FUZZ_FOLDER_H

#include "kernels/kd_base.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t bytes, size_t room);

/* Makes the folder; it goes with the process.  The same path each time. */
const char *fuzz_folder(void);
/* Path of a name in it, in a buffer that the next call but three overwrites. */
const char *fuzz_path(const char *name);
void fuzz_put(const char *name, const uint8_t *data, size_t bytes);
uint8_t *fuzz_get(const char *name, size_t *bytes); /* kd_free */

/* One time in sixteen, and where the input is empty, `whole` takes its place; then libFuzzer's own mutation. */
size_t fuzz_mutate_from(const uint8_t *whole, size_t whole_bytes, uint8_t *data, size_t bytes, size_t room,
                        unsigned seed);

#endif
