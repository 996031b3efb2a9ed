/* What --out names: see out.h. */
#include "tools/process/out.h"

#include "formats/base/io.h"
#include "formats/data/scan.h"
#include "formats/data/sets/sample_id.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

void kd_out_reads(kd_out *o, const char *path)
{
    if (path != NULL && path[0] != '\0') {
        KD_ASSERT(o->n < KD_OUT_INPUTS);
        o->input[o->n++] = path;
    }
}

/* Both resolved. */
static bool begins_with(const char *path, const char *folder)
{
    const size_t n = strlen(folder);
    return strncmp(path, folder, n) == 0 && (folder[n - 1] == '/' || path[n] == '/' || path[n] == '\0');
}

bool kd_out_lies_below(const char *path, const char *folder)
{
    char inner[PATH_MAX], outer[PATH_MAX];
    if (!kd_path_is_dir(folder) || realpath(folder, outer) == NULL) {
        return false;
    }
    bool below = realpath(path, inner) != NULL && begins_with(inner, outer);
    char *dir = kd_path_dir(path);
    while (!below && dir != NULL) {
        below = realpath(dir, inner) != NULL && begins_with(inner, outer);
        char *up = strcmp(dir, ".") != 0 && strcmp(dir, "/") != 0 ? kd_path_dir(dir) : NULL;
        kd_free(dir);
        dir = up;
    }
    kd_free(dir);
    return below;
}

static bool is_report(const char *path)
{
    return kd_path_has_suffix(path, ".json") && strcmp(kd_path_base(path), "state.json") != 0;
}

static bool is_data(const char *path)
{
    return kd_is_video_name(path) || kd_is_skeleton_name(path) || kd_is_picture_name(path) || kd_is_array_name(path) ||
           kd_path_has_suffix(path, ".csv") || kd_path_has_suffix(path, ".txt") || kd_path_has_suffix(path, ".tsv");
}

/* The existing file `path` is `input`, or lies in it. */
static bool is_input(const char *path, const char *input)
{
    return kd_path_same(path, input) || (!is_report(path) && kd_out_lies_below(path, input));
}

/* Recipes name lists and folders as they stand, or as they stand below the data set. */
static bool is_input_below(const char *path, const char *folder, const char *input)
{
    char *below = folder != NULL && input[0] != '/' ? kd_path_join(folder, input) : NULL;
    const bool is = below != NULL && is_input(path, below);
    kd_free(below);
    return is;
}

/* The existing file `path`. */
static kd_status refuse_input(const kd_out *o, const char *path, kd_err *err)
{
    const char *found = o->data != NULL && is_data(path) && kd_out_lies_below(path, o->data) ? o->data : NULL;
    for (int i = 0; found == NULL && i < o->n; i++) {
        if (is_input(path, o->input[i]) || is_input_below(path, o->data, o->input[i])) {
            found = o->input[i];
        }
    }
    return found == NULL ? KD_OK
                         : KD_FAIL(err, KD_E_ARG,
                                   "%s: the command reads %s: an output never replaces an input; choose another name",
                                   path, found);
}

/* Something of this name is there. */
static kd_status refuse_existing(const kd_out *o, const char *path, kd_err *err)
{
    struct stat sb;
    if (stat(path, &sb) != 0) {
        return KD_FAIL(err, KD_E_ARG, "%s: expected a file to write, found a symbolic link that leads to no file",
                       path);
    }
    if (!S_ISREG(sb.st_mode)) {
        return KD_FAIL(err, KD_E_ARG, "%s: expected a file to write, found a %s; choose another name", path,
                       S_ISDIR(sb.st_mode)    ? "directory"
                       : S_ISFIFO(sb.st_mode) ? "pipe"
                       : S_ISSOCK(sb.st_mode) ? "socket"
                                              : "device");
    }
    KD_TRY(refuse_input(o, path, err));
    if (!o->force && !o->resume) {
        return KD_FAIL(err, KD_E_ARG, "%s exists: choose another name, %sor replace it with --force", path,
                       o->resumable ? "go on with --resume, " : "");
    }
    return KD_OK;
}

/* The nearest folder at or above `path` that is there; *dir: kd_free. */
static kd_status nearest_dir(const char *path, char **dir, kd_err *err)
{
    *dir = kd_strdup(path);
    while (*dir != NULL && !kd_path_exists(*dir) && strcmp(*dir, ".") != 0) {
        char *up = kd_path_dir(*dir);
        kd_free(*dir);
        *dir = up;
    }
    if (*dir == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
    }
    return kd_path_is_dir(*dir)
               ? KD_OK
               : KD_FAIL(err, KD_E_ARG, "%s: expected a directory, found a file; choose another name", *dir);
}

/* A file can be made in `path`, or where its first missing folder would be.  Nothing is made but for the moment of
 * trying: work that is refused later leaves nothing. */
static kd_status try_dir(const kd_out *o, const char *path, kd_err *err)
{
    char *dir = NULL, *probe = NULL, *name = NULL;
    int fd = -1;
    kd_status st = KD_OK;
    KD_GO(nearest_dir(path, &dir, err));
    if (access(dir, W_OK | X_OK) != 0) {
        st = KD_FAIL(err, KD_E_WRITE, "%s: cannot make a file here: %s", dir, strerror(errno));
        goto done;
    }
    if (o->dry_run) {
        goto done;
    }
    kd_io_sweep(dir);
    probe = kd_path_join(dir, "probe");
    KD_GO(probe != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "%s: out of memory", dir));
    KD_GO(kd_io_temp_open(probe, &name, &fd, err));
    (void)close(fd);
    (void)unlink(name);
    kd_io_temp_end(name);
done:
    kd_free(name);
    kd_free(probe);
    kd_free(dir);
    return st;
}

/* /dev/stdout and its kin name what is open, not a place; memory file systems below /dev are places. */
static bool names_device(const char *path)
{
    return strncmp(path, "/proc/", 6) == 0 || (strncmp(path, "/dev/", 5) == 0 && strncmp(path, "/dev/shm/", 9) != 0);
}

static kd_status check_file(const kd_out *o, const char *path, kd_err *err)
{
    const size_t n = strlen(path);
    if (n == 0 || path[n - 1] == '/' || names_device(path)) {
        return KD_FAIL(err, KD_E_ARG, "%s: expected the name of a file to write, found %s", path,
                       n > 0 && path[n - 1] == '/' ? "a directory's"
                       : n > 0                     ? "a device's"
                                                   : "nothing");
    }
    return kd_path_exists(path) ? refuse_existing(o, path, err) : KD_OK;
}

kd_status kd_out_file(const kd_out *o, const char *path, kd_err *err)
{
    char real[PATH_MAX];
    KD_TRY(check_file(o, path, err));
    char *dir = kd_path_dir(realpath(path, real) != NULL ? real : path);
    kd_status st = dir != NULL ? try_dir(o, dir, err) : KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
    if (st == KD_OK && !o->dry_run) {
        st = kd_io_mkdirs(dir, err);
    }
    kd_free(dir);
    return st;
}

static kd_status check_dir(const char *path, kd_err *err)
{
    if (!kd_path_exists(path) || kd_path_is_dir(path)) {
        return KD_OK;
    }
    return KD_FAIL(err, KD_E_ARG, "%s: expected a directory or a free name, found a file; choose another name", path);
}

kd_status kd_out_dir(const kd_out *o, const char *path, const char *const *files, size_t n, kd_err *err)
{
    KD_TRY(check_dir(path, err));
    for (size_t i = 0; i < n; i++) {
        char *file = kd_path_join(path, files[i]);
        const kd_status st =
            file != NULL ? check_file(o, file, err) : KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
        kd_free(file);
        KD_TRY(st);
    }
    return try_dir(o, path, err);
}

kd_status kd_out_store_name(const char *path, kd_err *err)
{
    static const char *const OTHER[] = {".npz", ".npy", ".json", ".csv", ".tsv", ".pth", ".pt", ".safetensors"};
    for (size_t i = 0; i < KD_COUNTOF(OTHER); i++) {
        if (kd_path_has_suffix(path, OTHER[i])) {
            return KD_FAIL(err, KD_E_ARG, "%s: expected the name of a logit store, NAME.logits.zst, found %s%s", path,
                           OTHER[i], i == 0 ? " (`kd logits export` writes that of a store)" : "");
        }
    }
    return KD_OK;
}

kd_status kd_out_store(const kd_out *o, const char *path, kd_err *err)
{
    KD_TRY(kd_out_file(o, path, err));
    KD_TRY(kd_out_store_name(path, err));
    char *part = kd_strf("%s.part", path);
    kd_status st = part != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
    if (st == KD_OK && kd_path_exists(part) && !o->force && !o->resume) {
        st = KD_FAIL(err, KD_E_ARG, "%s: an unfinished store: go on with it by --resume, or start over with --force",
                     part);
    }
    kd_free(part);
    return st;
}

kd_status kd_out_run(const kd_out *o, const char *path, kd_err *err)
{
    KD_TRY(check_dir(path, err));
    for (int i = 0; o->force && i < o->n; i++) {
        if (kd_path_exists(path) && kd_out_lies_below(o->input[i], path)) {
            return KD_FAIL(err, KD_E_ARG, "%s lies in %s, which --force would replace; choose another --out",
                           o->input[i], path);
        }
    }
    return try_dir(o, path, err);
}
