/* See fuzz_folder.h. */
#include "tests/fuzz/fuzz_folder.h"

#include "formats/base/io.h"

#include <stdio.h>
#include <stdlib.h>

static char folder[64];

static void clean(void)
{
    (void)!kd_io_remove_tree(folder, NULL);
}

const char *fuzz_folder(void)
{
    static const char *const places[] = {"/dev/shm", "/tmp"};
    for (size_t i = 0; i < KD_COUNTOF(places) && folder[0] == '\0'; i++) {
        (void)snprintf(folder, sizeof folder, "%s/kd_fuzz_XXXXXX", places[i]);
        if (mkdtemp(folder) == NULL) {
            folder[0] = '\0';
        } else {
            KD_ASSERT(atexit(clean) == 0);
            kd_log_set_level(KD_LOG_ERROR);
        }
    }
    KD_ASSERT(folder[0] != '\0');
    return folder;
}

const char *fuzz_path(const char *name)
{
    static char path[4][128];
    static unsigned next;
    char *mine = path[next++ % KD_COUNTOF(path)];
    (void)snprintf(mine, sizeof path[0], "%s/%s", fuzz_folder(), name);
    return mine;
}

void fuzz_put(const char *name, const uint8_t *data, size_t bytes)
{
    FILE *f = fopen(fuzz_path(name), "wb");
    KD_ASSERT(f != NULL && fwrite(data, 1, bytes, f) == bytes && fclose(f) == 0);
}

uint8_t *fuzz_get(const char *name, size_t *bytes)
{
    uint8_t *data = NULL;
    KD_ASSERT(kd_io_read_file(fuzz_path(name), (size_t)1 << 24, &data, bytes, NULL) == KD_OK);
    return data;
}

size_t fuzz_mutate_from(const uint8_t *whole, size_t whole_bytes, uint8_t *data, size_t bytes, size_t room,
                        unsigned seed)
{
    if ((bytes < 2 || seed % 16 == 0) && whole_bytes <= room) {
        memcpy(data, whole, whole_bytes);
        bytes = whole_bytes;
    }
    return LLVMFuzzerMutate(data, bytes, room);
}
