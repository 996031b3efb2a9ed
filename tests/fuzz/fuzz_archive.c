/* Any bytes as a skeleton archive: one file; the labels beside an array of LAST's; the JSON of a sample of NW-UCLA's.
 * Opened and read, or refused: no crash, bounded memory. */
#include "formats/skeleton/archive.h"
#include "tests/fuzz/fuzz_folder.h"

#include <stdio.h>
#include <sys/stat.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* train_joint.npy of two samples (2, 3, 2, 25, 1), all 1. */
static void put_array(void)
{
    enum { HEAD = 128, NUMBERS = 2 * 3 * 2 * 25 };
    uint8_t file[HEAD + 4 * NUMBERS];
    memset(file, ' ', HEAD);
    memcpy(file, "\x93NUMPY\x01\x00\x76\x00", 10);
    static const char text[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3, 2, 25, 1), }";
    memcpy(file + 10, text, sizeof text - 1);
    file[HEAD - 1] = '\n';
    for (size_t i = 0; i < NUMBERS; i++) {
        memcpy(file + HEAD + 4 * i, &(float){1.0f}, 4);
    }
    fuzz_put("last/train_joint.npy", file, sizeof file);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    KD_ASSERT(mkdir(fuzz_path("last"), 0700) == 0 && mkdir(fuzz_path("ucla"), 0700) == 0);
    put_array();
    kd_log_set_level(KD_LOG_ERROR);
    return 0;
}

static void read_all(const char *path, const kd_archive_opts *o, int joints)
{
    const kd_skel_opts so = {.joints = joints};
    kd_err err = {0};
    kd_archive *a = NULL;
    const bool is = kd_archive_is(path);
    if (kd_archive_open(path, o, &a, &err) != KD_OK) {
        KD_ASSERT(a == NULL && err.msg[0] != '\0');
        return;
    }
    KD_ASSERT(is && a->n > 0);
    for (size_t i = 0; i < a->n; i++) {
        kd_skeleton s = {0};
        if (kd_archive_read(a, i, &so, &s, NULL) == KD_OK) {
            KD_ASSERT(s.frames > 0 && s.n_bodies > 0 && s.first[s.frames] == s.n_bodies && s.joints == joints);
        }
        KD_ASSERT(kd_archive_find(a, a->row[i].id) == i);
        kd_skeleton_free(&s);
    }
    for (size_t h = 0; h < a->n_halves; h++) {
        KD_ASSERT(kd_archive_find_half(a, a->half[h].name) != NULL);
        for (size_t i = 0; i < a->half[h].n; i++) {
            KD_ASSERT(kd_archive_find(a, a->half[h].id[i]) <= a->n);
        }
    }
    kd_archive_close(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    fuzz_put("file", data, bytes);
    read_all(fuzz_path("file"), NULL, 25);
    const kd_archive_opts o = {.scale = 0.001, .missing = -32768, .channel = {3, 4, 5}, .channels = true};
    read_all(fuzz_path("file"), &o, 25);
    fuzz_put("last/train_label.pkl", data, bytes);
    read_all(fuzz_path("last"), NULL, 25);
    fuzz_put("ucla/a01_s01_e00_v01.json", data, bytes);
    read_all(fuzz_path("ucla"), NULL, 20);
    return 0;
}
