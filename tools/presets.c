/* Presets beside the program: see presets.h. */
#include "tools/presets.h"

#include "formats/base/io.h"

#include <errno.h>
#include <unistd.h>

kd_status kd_preset_path(const char *name, char **out, kd_err *err)
{
    static const char *const PLACES[] = {"/../share/lastkd/configs", "/share/lastkd/configs"};
    char program[4096];
    *out = NULL;
    const ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    if (n < 0) {
        return KD_FAIL(err, KD_E_IO, "/proc/self/exe: %s", strerror(errno));
    }
    program[n] = '\0';
    char *dir = kd_path_dir(program);
    if (dir == NULL) {
        return KD_FAIL(err, KD_E_OOM, "out of memory");
    }
    for (size_t i = 0; i < KD_COUNTOF(PLACES); i++) {
        char *path = kd_strf("%s%s/%s", dir, PLACES[i], name);
        if (path != NULL && kd_path_exists(path)) {
            kd_free(dir);
            *out = path;
            return KD_OK;
        }
        kd_free(path);
    }
    const kd_status st = KD_FAIL(err, KD_E_IO, "preset %s: expected in %s%s or %s%s, found in neither", name, dir,
                                 PLACES[0], dir, PLACES[1]);
    kd_free(dir);
    return st;
}
