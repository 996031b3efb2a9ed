/* Sample names: see sample_id.h. */
#include "formats/data/sets/sample_id.h"

static bool three_digits(const char *s, uint16_t *out)
{
    unsigned v = 0;
    for (int i = 0; i < 3; i++) {
        const unsigned d = (unsigned)(unsigned char)s[i] - '0';
        if (d > 9) {
            return false;
        }
        v = v * 10 + d;
    }
    *out = (uint16_t)v;
    return v != 0;
}

bool kd_sample_id_parse(const char *s, size_t len, kd_sample_id *out)
{
    kd_sample_id id;
    if (len != KD_SAMPLE_ID_LEN || s[0] != 'S' || s[4] != 'C' || s[8] != 'P' || s[12] != 'R' || s[16] != 'A' ||
        !three_digits(s + 1, &id.setup) || !three_digits(s + 5, &id.camera) || !three_digits(s + 9, &id.subject) ||
        !three_digits(s + 13, &id.replication) || !three_digits(s + 17, &id.action)) {
        return false;
    }
    *out = id;
    return true;
}

/* ---- endings --------------------------------------------------------------------------------- */

#define VIDEOS                                                                                                        \
    ".avi", ".mp4", ".mkv", ".webm", ".mov", ".mpg", ".mpeg", ".m4v", ".wmv", ".flv", ".ts", ".mts", ".m2ts", ".3gp", \
        ".ogv", ".vob", ".gif", ".mjpeg", ".mjpg", ".divx", ".asf", ".y4m"
#define SKELETONS ".skeleton"
#define PICTURES  ".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff"
#define ARRAYS    ".npy", ".npz", ".pkl", ".pickle", ".h5", ".hdf5", ".mat"

/* Bytes of the ending of `name` when the list has it, 0 otherwise. */
static size_t ending_in(const char *name, size_t n, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const size_t len = strlen(list[i]);
        size_t k = 0;
        while (len <= n && k < len && (name[n - len + k] | (name[n - len + k] >= 'A' ? 0x20 : 0)) == list[i][k]) {
            k++;
        }
        if (k == len) {
            return len;
        }
    }
    return 0;
}

#define ENDING_IN(name, n, ...) \
    ending_in(name, n, (const char *const[]){__VA_ARGS__}, KD_COUNTOF(((const char *const[]){__VA_ARGS__})))

bool kd_is_video_name(const char *name)
{
    return ENDING_IN(name, strlen(name), VIDEOS) > 0;
}

bool kd_is_skeleton_name(const char *name)
{
    return ENDING_IN(name, strlen(name), SKELETONS) > 0;
}

bool kd_is_picture_name(const char *name)
{
    return ENDING_IN(name, strlen(name), PICTURES) > 0;
}

bool kd_is_array_name(const char *name)
{
    return ENDING_IN(name, strlen(name), ARRAYS) > 0;
}

/* ---- keys ------------------------------------------------------------------------------------ */

size_t kd_sample_key(const char *path, const char **start)
{
    const char *base = path;
    for (const char *p = path; *p != '\0'; p++) {
        if (*p == '/' || *p == '\\') {
            base = p + 1;
        }
    }
    size_t n = strlen(base);
    n -= ENDING_IN(base, n, VIDEOS, SKELETONS, PICTURES);
    kd_sample_id id;
    if (n > KD_SAMPLE_ID_LEN && kd_sample_id_parse(base, KD_SAMPLE_ID_LEN, &id)) {
        const size_t tail = n - KD_SAMPLE_ID_LEN;
        const char *t = base + KD_SAMPLE_ID_LEN;
        if ((tail == 4 && memcmp(t, "_rgb", 4) == 0) || (tail == 9 && memcmp(t, "_skeleton", 9) == 0)) {
            n = KD_SAMPLE_ID_LEN;
        }
    }
    *start = base;
    return base[0] == '.' ? 0 : n;
}

size_t kd_sample_path_key(const char *path, const char **start)
{
    kd_sample_id id;
    const size_t n = kd_sample_key(path, start);
    if (n == 0 || kd_sample_id_parse(*start, n, &id)) {
        return n;
    }
    const size_t head = (size_t)(*start - path);
    *start = path;
    return head + n;
}

bool kd_sample_id_from_path(const char *path, kd_sample_id *out)
{
    const char *key;
    const size_t n = kd_sample_key(path, &key);
    return kd_sample_id_parse(key, n, out);
}

void kd_sample_id_format(const kd_sample_id *id, char out[KD_SAMPLE_ID_LEN + 1])
{
    static const char letter[] = "SCPRA";
    const uint16_t part[5] = {id->setup, id->camera, id->subject, id->replication, id->action};
    for (int i = 0; i < 5; i++) {
        KD_ASSERT(part[i] >= 1 && part[i] <= 999);
        out[4 * i] = letter[i];
        out[4 * i + 1] = (char)('0' + part[i] / 100);
        out[4 * i + 2] = (char)('0' + part[i] / 10 % 10);
        out[4 * i + 3] = (char)('0' + part[i] % 10);
    }
    out[KD_SAMPLE_ID_LEN] = '\0';
}
