/* Folders of numbered pictures: see frames.h. */
#include "formats/video/frames.h"

#include "formats/base/io.h"

#include <stdlib.h>
#include <strings.h>

typedef struct numbered {
    char *name;
    size_t prefix; /* letters before the number */
    size_t digits;
    unsigned long number;
} numbered;

void kd_frames_free(kd_frames *f)
{
    if (f != NULL) {
        kd_free(f->name);
        *f = (kd_frames){0};
    }
}

static bool is_picture(const char *name)
{
    static const char *const ending[] = {".jpg", ".jpeg", ".png", ".bmp", ".webp"};
    for (size_t i = 0; i < KD_COUNTOF(ending) && name[0] != '.'; i++) {
        if (kd_path_has_suffix(name, ending[i])) {
            return true;
        }
    }
    return false;
}

static bool is_flow(const char *name)
{
    static const char *const prefix[] = {"flow_x", "flow_y", "x_", "y_"};
    for (size_t i = 0; i < KD_COUNTOF(prefix); i++) {
        if (strncasecmp(name, prefix[i], strlen(prefix[i])) == 0) {
            return true;
        }
    }
    return false;
}

/* The number that the name ends in, before the ending. */
static bool read_number(char *name, numbered *out)
{
    const size_t stem = (size_t)(strrchr(name, '.') - name);
    size_t first = stem;
    while (first > 0 && name[first - 1] >= '0' && name[first - 1] <= '9') {
        first--;
    }
    *out = (numbered){.name = name, .prefix = first, .digits = stem - first};
    if (out->digits == 0 || out->digits > 9) {
        return false;
    }
    out->number = strtoul(name + first, NULL, 10);
    return true;
}

static int by_number(const void *a, const void *b)
{
    const numbered *x = a;
    const numbered *y = b;
    return x->number != y->number ? (x->number < y->number ? -1 : 1) : strcmp(x->name, y->name);
}

static bool same_form(const numbered *a, const numbered *b)
{
    return a->prefix == b->prefix && strncmp(a->name, b->name, a->prefix) == 0 &&
           strcmp(a->name + a->prefix + a->digits, b->name + b->prefix + b->digits) == 0;
}

/* Sorted pictures: one form of names, numbers without gap from `first`, or from 0 or 1. */
static kd_status check_run(const char *dir, const size_t *first, const numbered *p, size_t n, kd_err *err)
{
    if (first != NULL && (n == 0 || p[0].number != *first)) {
        return KD_FAIL(err, KD_E_DATA, "%s: expected a picture of number %zu (video.start_index), found %s%s", dir,
                       *first, n == 0 ? "smaller numbers alone" : "as the first one ", n == 0 ? "" : p[0].name);
    }
    for (size_t i = 1; i < n; i++) {
        if (!same_form(&p[0], &p[i])) {
            return KD_FAIL(err, KD_E_DATA,
                           "%s: expected pictures of one name and ending, found %s and %s; keep one kind in the folder",
                           dir, p[0].name, p[i].name);
        }
    }
    if (first == NULL && p[0].number > 1) {
        return KD_FAIL(err, KD_E_DATA,
                       "%s: expected pictures numbered from 0 or 1, the first is %s (video.start_index names another)",
                       dir, p[0].name);
    }
    for (size_t i = 1; i < n; i++) {
        if (p[i].number == p[i - 1].number) {
            return KD_FAIL(err, KD_E_DATA, "%s: %s and %s have one number", dir, p[i - 1].name, p[i].name);
        }
        if (p[i].number != p[i - 1].number + 1) {
            return KD_FAIL(err, KD_E_DATA, "%s: picture %lu is missing: %s is followed by %s; extract the frames again",
                           dir, p[i - 1].number + 1, p[i - 1].name, p[i].name);
        }
    }
    return KD_OK;
}

kd_status kd_frames_list(const char *dir, const size_t *first, kd_frames *out, kd_err *err)
{
    char **names = NULL;
    size_t count = 0, n = 0, skip = 0;
    kd_status st = KD_OK;
    *out = (kd_frames){0};
    KD_TRY(kd_io_list_dir(dir, &names, &count, err));
    numbered *p = kd_calloc(count + 1, sizeof *p);
    if (p == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "%s: no memory for %zu names", dir, count);
        goto done;
    }
    for (size_t i = 0; i < count; i++) {
        if (!is_picture(names[i]) || is_flow(names[i])) {
            continue;
        }
        if (!read_number(names[i], &p[n])) {
            st = KD_FAIL(err, KD_E_DATA, "%s: expected names that end in a number (img_00001.jpg), found %s", dir,
                         names[i]);
            goto done;
        }
        n++;
    }
    if (n == 0) {
        st = KD_FAIL(err, KD_E_IO,
                     "%s: expected a video file or a folder of numbered pictures, found a folder without pictures "
                     "(%zu other names)",
                     dir, count);
        goto done;
    }
    qsort(p, n, sizeof *p, by_number);
    while (first != NULL && skip < n && p[skip].number < *first) {
        skip++;
    }
    KD_GO(check_run(dir, first, p + skip, n - skip, err));
    for (size_t i = skip; i < n; i++) {
        names[i - skip] = p[i].name; /* the block of kd_io_list_dir holds the texts too */
    }
    *out = (kd_frames){.name = names, .n = n - skip};
    names = NULL;
done:
    kd_free(p);
    kd_free(names);
    return st;
}

/* ---- sizes ----------------------------------------------------------------------------------- */

static int big16(const uint8_t *p)
{
    return p[0] << 8 | p[1];
}

/* The frame header of a JPEG (SOF0 to SOF15, without tables of others in that range). */
static bool jpeg_size(const uint8_t *p, size_t n, int *width, int *height)
{
    for (size_t at = 2; at + 9 <= n && p[at] == 0xff;) {
        const uint8_t mark = p[at + 1];
        if (mark == 0xff) { /* fill */
            at++;
            continue;
        }
        if (mark >= 0xc0 && mark <= 0xcf && mark != 0xc4 && mark != 0xc8 && mark != 0xcc) {
            *height = big16(p + at + 5);
            *width = big16(p + at + 7);
            return true;
        }
        at += 2 + (size_t)big16(p + at + 2);
    }
    return false;
}

bool kd_picture_size(const uint8_t *data, size_t n, int *width, int *height)
{
    if (n >= 4 && data[0] == 0xff && data[1] == 0xd8) {
        return jpeg_size(data, n, width, height);
    }
    if (n >= 24 && memcmp(data, "\x89PNG\r\n\x1a\n", 8) == 0 && big16(data + 16) == 0 && big16(data + 20) == 0) {
        *width = big16(data + 18);
        *height = big16(data + 22);
        return true;
    }
    if (n >= 26 && memcmp(data, "BM", 2) == 0) {
        *width = data[18] | data[19] << 8;
        *height = data[22] | data[23] << 8;
        return true;
    }
    return false;
}
