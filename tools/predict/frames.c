/* Frames of a growing text: see frames.h. */
#include "tools/predict/frames.h"

#include <stdlib.h>

enum {
    LINE_BYTES = 4096, /* of the longest line, far beyond twelve numbers */
    TEXT_BYTES = 4 << 20
};

struct kd_frames {
    FILE *in;
    const char *name;
    int joints;      /* of a body */
    size_t line;     /* lines read */
    size_t first;    /* line in which the frame under way begins, from 1 */
    size_t expected; /* frames; 0: not known */
    size_t met;
    bool begun;
    size_t used;
    char text[TEXT_BYTES]; /* of the frame under way, behind the frame count of a text of its own */
};

kd_status kd_frames_open(FILE *in, const char *name, int joints, kd_frames **out, kd_err *err)
{
    kd_frames *f = kd_alloc(sizeof *f);
    *out = f;
    if (f == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", name);
    }
    f->in = in;
    f->name = name;
    f->joints = joints;
    f->line = f->first = f->expected = f->met = f->used = 0;
    f->begun = false;
    return KD_OK;
}

void kd_frames_close(kd_frames *f)
{
    kd_free(f);
}

size_t kd_frames_count(const kd_frames *f)
{
    return f->met;
}

/* The next line to the end of the text.  *got false: the input ends. */
static kd_status take_line(kd_frames *f, bool *got, kd_err *err)
{
    char *line = f->text + f->used;
    *got = false;
    if (f->used + LINE_BYTES > TEXT_BYTES) {
        return KD_FAIL(err, KD_E_FORMAT, "%s:%zu: a frame of more than %d MiB", f->name, f->line, TEXT_BYTES >> 20);
    }
    if (fgets(line, LINE_BYTES, f->in) == NULL) {
        return ferror(f->in) == 0 ? KD_OK : KD_FAIL(err, KD_E_IO, "%s: reading failed", f->name);
    }
    const size_t n = strlen(line); /* what stands behind a zero byte spoils the line, and the parser says so */
    f->line++;
    if (n == LINE_BYTES - 1 && line[n - 1] != '\n') {
        return KD_FAIL(err, KD_E_FORMAT, "%s:%zu: a line of more than %d bytes", f->name, f->line, LINE_BYTES - 2);
    }
    f->used += n;
    *got = true;
    return KD_OK;
}

static kd_status cut_short(const kd_frames *f, const char *what, kd_err *err)
{
    return KD_FAIL(err, KD_E_FORMAT, "%s:%zu: expected %s, found the end of the input", f->name, f->line + 1, what);
}

/* The number alone on the line that starts at text[at]. */
static bool number_at(const kd_frames *f, size_t at, size_t *out)
{
    char *end = NULL;
    const char *p = f->text + at;
    *out = 0;
    if (*p < '0' || *p > '9' || strspn(p, "0123456789") > 9) {
        return false;
    }
    *out = (size_t)strtoul(p, &end, 10);
    return end[strspn(end, " \t\r\n")] == '\0';
}

/* A line that must hold a number of at most `most`. */
static kd_status take_count(kd_frames *f, const char *what, size_t most, size_t *out, kd_err *err)
{
    const size_t at = f->used;
    bool got;
    KD_TRY(take_line(f, &got, err));
    if (!got) {
        return cut_short(f, what, err);
    }
    if (!number_at(f, at, out) || *out > most) {
        return KD_FAIL(err, KD_E_FORMAT, "%s:%zu: expected %s of at most %zu, found '%.*s'", f->name, f->line, what,
                       most, (int)strcspn(f->text + at, "\r\n"), f->text + at);
    }
    return KD_OK;
}

static kd_status take_body(kd_frames *f, kd_err *err)
{
    bool got;
    size_t joints = 0;
    KD_TRY(take_line(f, &got, err));
    if (!got) {
        return cut_short(f, "a body", err);
    }
    KD_TRY(take_count(f, "a joint count", KD_SKEL_MAX_JOINTS, &joints, err));
    for (size_t j = 0; j < joints; j++) {
        KD_TRY(take_line(f, &got, err));
        if (!got) {
            return cut_short(f, "a joint", err);
        }
    }
    return KD_OK;
}

/* Only blank lines to the end of the input. */
static kd_status take_end(kd_frames *f, kd_err *err)
{
    for (bool got = true; got;) {
        f->used = 0;
        KD_TRY(take_line(f, &got, err));
        if (got && f->text[strspn(f->text, " \t\r\n")] != '\0') {
            return KD_FAIL(err, KD_E_FORMAT, "%s:%zu: expected the end of the input behind %zu frames, found '%.40s'",
                           f->name, f->line, f->expected, f->text);
        }
    }
    return KD_OK;
}

/* The line that begins a frame.  Where the number of frames is not known, the input may end there, after blank lines
 * too. */
static kd_status take_first(kd_frames *f, size_t *bodies, bool *end, kd_err *err)
{
    const size_t at = f->used;
    for (bool got = true; f->expected == 0; f->used = at) {
        const int c = fgetc(f->in);
        if (c == EOF) {
            *end = true;
            return KD_OK;
        }
        (void)ungetc(c, f->in);
        if (c != '\n' && c != '\r' && c != ' ' && c != '\t') {
            break;
        }
        KD_TRY(take_line(f, &got, err));
        if (f->text[at + strspn(f->text + at, " \t\r\n")] != '\0') {
            return KD_FAIL(err, KD_E_FORMAT, "%s:%zu: expected a body count, found '%.40s'", f->name, f->line,
                           f->text + at);
        }
    }
    f->first = f->line + 1;
    return take_count(f, "a body count", KD_SKEL_MAX_BODIES, bodies, err);
}

/* The lines of the next frame, behind the frame count 1: the text of a recording of one frame. */
static kd_status take_frame(kd_frames *f, bool *end, kd_err *err)
{
    static const char ONE[] = "1\n";
    size_t bodies = 0;
    memcpy(f->text, ONE, sizeof ONE);
    f->used = sizeof ONE - 1;
    KD_TRY(take_first(f, &bodies, end, err));
    for (size_t b = 0; b < bodies; b++) {
        KD_TRY(take_body(f, err));
    }
    return KD_OK;
}

kd_status kd_frames_next(kd_frames *f, kd_skeleton *out, bool *end, kd_err *err)
{
    *out = (kd_skeleton){0};
    *end = false;
    if (!f->begun) {
        f->used = 0;
        KD_TRY(take_count(f, "a frame count", KD_SKEL_MAX_FRAMES, &f->expected, err));
        f->begun = true;
    }
    if (f->expected != 0 && f->met == f->expected) {
        *end = true;
        return take_end(f, err);
    }
    KD_TRY(take_frame(f, end, err));
    if (*end) {
        return KD_OK;
    }
    f->met++;
    /* the frame count of the text of one frame is a line that nobody sent */
    const kd_skel_opts opts = {.allow_no_body = true, .joints = f->joints, .lines_before = f->first - 2};
    const kd_status st = kd_skeleton_parse(f->text, f->used, f->name, &opts, out, err);
    return st == KD_E_FORMAT ? KD_E_DATA : st;
}
