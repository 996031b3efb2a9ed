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

size_t kd_sample_key(const char *path, const char **start)
{
    const char *base = path;
    for (const char *p = path; *p != '\0'; p++) {
        if (*p == '/' || *p == '\\') {
            base = p + 1;
        }
    }
    size_t n = strcspn(base, ".");
    kd_sample_id id;
    if (n > KD_SAMPLE_ID_LEN && kd_sample_id_parse(base, KD_SAMPLE_ID_LEN, &id)) {
        const size_t tail = n - KD_SAMPLE_ID_LEN;
        const char *t = base + KD_SAMPLE_ID_LEN;
        if ((tail == 4 && memcmp(t, "_rgb", 4) == 0) || (tail == 9 && memcmp(t, "_skeleton", 9) == 0)) {
            n = KD_SAMPLE_ID_LEN;
        }
    }
    *start = base;
    return n;
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
