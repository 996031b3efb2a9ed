/* Reading `.skeleton` text: see skeleton_file.h.  Writing is in skeleton_write.c. */
#include "formats/skeleton/skeleton_file.h"

#include "formats/base/io.h"

#include <math.h>
#include <stdio.h>

#define BODY_FIELDS     10
#define JOINT_FIELDS    12
#define FRAME_BYTES_MIN 1u /* shortest legal text, for bounding counts: "n\n" less its own line */
#define FILE_BYTES_MAX  ((size_t)1 << 30)

/* The same of a body: ten fields, "25\n", twelve fields a joint; the last line may lack its end. */
static size_t body_bytes_min(int joints)
{
    return 2u * BODY_FIELDS + (joints < 10 ? 2u : 3u) + (size_t)joints * 2u * JOINT_FIELDS - 1u;
}

typedef struct scanner {
    const char *p, *end; /* rest of the text */
    const char *name;
    size_t line;          /* number of the current line, from 1 */
    const char *at, *eol; /* rest of the current line, without CR and trailing blanks */
    kd_err *err;
} scanner;

#define FAIL_AT(s, ...) \
    (kd_err_prefix((s)->err, KD_FAIL((s)->err, KD_E_FORMAT, __VA_ARGS__), "%s:%zu", (s)->name, (s)->line))

static bool blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool next_line(scanner *s)
{
    if (s->p == s->end) {
        return false;
    }
    const char *nl = memchr(s->p, '\n', (size_t)(s->end - s->p));
    s->at = s->p;
    s->eol = nl != NULL ? nl : s->end;
    s->p = nl != NULL ? nl + 1 : s->end;
    s->line++;
    if (s->eol > s->at && s->eol[-1] == '\r') {
        s->eol--;
    }
    while (s->eol > s->at && blank(s->eol[-1])) {
        s->eol--;
    }
    return true;
}

static kd_status need_line(scanner *s, const char *what)
{
    if (!next_line(s)) {
        s->line++;
        return FAIL_AT(s, "expected %s, found the end of the file; it looks truncated", what);
    }
    return KD_OK;
}

/* The next field of the line; empty at its end. */
static size_t next_field(scanner *s, const char **field)
{
    while (s->at < s->eol && blank(*s->at)) {
        s->at++;
    }
    *field = s->at;
    while (s->at < s->eol && !blank(*s->at)) {
        s->at++;
    }
    return (size_t)(s->at - *field);
}

static size_t count_fields(const scanner *s)
{
    scanner copy = *s;
    const char *field;
    size_t n = 0;
    while (next_field(&copy, &field) != 0) {
        n++;
    }
    return n;
}

static bool parse_u64(const char *p, size_t n, uint64_t *out)
{
    uint64_t v = 0;
    if (n == 0) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        const unsigned d = (unsigned)(unsigned char)p[i] - '0';
        if (d > 9 || __builtin_mul_overflow(v, (uint64_t)10, &v) || __builtin_add_overflow(v, (uint64_t)d, &v)) {
            return false;
        }
    }
    *out = v;
    return true;
}

/* ---- numbers --------------------------------------------------------------------------------- */

/* The words printf of various C libraries makes of NaN and infinity. */
static bool is_special(const char *p, size_t n)
{
    if (n != 0 && (*p == '-' || *p == '+')) {
        p++;
        n--;
    }
    if (n >= 3) {
        const char c[3] = {(char)(p[0] | 0x20), (char)(p[1] | 0x20), (char)(p[2] | 0x20)};
        if (n == 3 && (memcmp(c, "nan", 3) == 0 || memcmp(c, "inf", 3) == 0)) {
            return true;
        }
        if (n == 8 && memcmp(c, "inf", 3) == 0) {
            return true; /* Infinity */
        }
        if (n > 5 && memcmp(c, "nan", 3) == 0 && p[3] == '(') {
            return true; /* nan(ind) */
        }
    }
    return n >= 6 && memcmp(p, "1.#", 3) == 0; /* 1.#IND00, 1.#QNAN, 1.#INF */
}

static double power_of_ten(double v, int64_t e)
{
    static const double p10[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    /* |e| <= 22 and v < 2^53: one correctly rounded operation, hence the decimal's nearest double
     */
    if (v == 0.0) {
        return v;
    }
    for (; e > 22; e -= 22) {
        v *= 1e22;
        if (v > 1e300) {
            return v; /* far beyond every limit: size no longer matters */
        }
    }
    for (; e < -22; e += 22) {
        v /= 1e22;
        if (v < 1e-300) {
            return 0.0;
        }
    }
    return e < 0 ? v / p10[-e] : v * p10[e];
}

/* Decimal number.  Up to 15 significant digits are exact; more are cut behind the 18th, far below
 * float's resolution. */
static bool parse_number(const char *p, size_t n, double *out)
{
    const char *end = p + n;
    bool minus = false;
    uint64_t mantissa = 0;
    int digits = 0; /* significant ones taken */
    int64_t exponent = 0;
    bool any = false;
    bool fraction = false;

    if (p < end && (*p == '-' || *p == '+')) {
        minus = *p++ == '-';
    }
    for (; p < end; p++) {
        const unsigned d = (unsigned)(unsigned char)*p - '0';
        if (d <= 9) {
            any = true;
            if (digits < 18) {
                mantissa = mantissa * 10 + d;
                digits += mantissa != 0;
                exponent -= fraction;
            } else {
                exponent += !fraction;
            }
        } else if (*p == '.' && !fraction) {
            fraction = true;
        } else {
            break;
        }
    }
    if (!any) {
        return false;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        bool e_minus = false;
        int64_t e = 0;
        p++;
        if (p < end && (*p == '-' || *p == '+')) {
            e_minus = *p++ == '-';
        }
        if (p == end) {
            return false;
        }
        for (; p < end; p++) {
            const unsigned d = (unsigned)(unsigned char)*p - '0';
            if (d > 9) {
                return false;
            }
            if (e < 100000) {
                e = e * 10 + d;
            }
        }
        exponent += e_minus ? -e : e;
    }
    if (p != end) {
        return false;
    }
    const double v = power_of_ten((double)mantissa, exponent);
    *out = minus ? -v : v;
    return true;
}

/* ---- grammar --------------------------------------------------------------------------------- */

/* A line that holds one count, at most `max`. */
static kd_status count_line(scanner *s, const char *what, uint64_t max, const char *why, size_t *out)
{
    const char *field;
    uint64_t v;
    KD_TRY(need_line(s, what));
    const size_t fields = count_fields(s);
    const size_t n = next_field(s, &field);
    if (fields != 1 || !parse_u64(field, n, &v)) {
        return FAIL_AT(s, "expected %s, found '%.*s'%s", what, (int)KD_MIN(n, (size_t)40), field,
                       fields > 1 ? " and more fields" : "");
    }
    if (v > max) {
        return FAIL_AT(s, "expected %s of at most %llu (%s), found %llu", what, (unsigned long long)max, why,
                       (unsigned long long)v);
    }
    *out = (size_t)v;
    return KD_OK;
}

static kd_status need_fields(const scanner *s, size_t expected, const char *what)
{
    const size_t found = count_fields(s);
    if (found != expected) {
        return FAIL_AT(s, "expected %zu numbers (%s), found %zu%s", expected, what, found,
                       s->p == s->end ? "; the file looks truncated" : "");
    }
    return KD_OK;
}

/* A field whose value is not kept: any number, or the Kinect's own NaN or infinity. */
static kd_status skip_number(scanner *s)
{
    const char *field;
    double v;
    const size_t n = next_field(s, &field);
    if (!parse_number(field, n, &v) && !is_special(field, n)) {
        return FAIL_AT(s, "expected a number, found '%.*s'", (int)KD_MIN(n, (size_t)40), field);
    }
    return KD_OK;
}

static kd_status joint_line(scanner *s, size_t joint, const kd_skel_opts *opts, kd_skel_body *b, bool *drop)
{
    static const char axis[] = "xyz";
    const char *field;
    size_t n;
    KD_TRY(need_line(s, "a joint"));
    KD_TRY(need_fields(s, JOINT_FIELDS, "a joint"));
    for (int k = 0; k < 3; k++) {
        double v = 0.0;
        n = next_field(s, &field);
        const bool special = is_special(field, n);
        if (!special && !parse_number(field, n, &v)) {
            return FAIL_AT(s, "joint %zu: expected %c in metres, found '%.*s'", joint, axis[k],
                           (int)KD_MIN(n, (size_t)40), field);
        }
        if (special || !(fabs(v) <= (double)KD_SKEL_MAX_METRES)) {
            if (opts->nan != KD_SKEL_NAN_DROP) {
                return FAIL_AT(s, "joint %zu: expected a finite %c of at most %g m, found '%.*s'", joint, axis[k],
                               (double)KD_SKEL_MAX_METRES, (int)KD_MIN(n, (size_t)40), field);
            }
            *drop = true;
            v = 0.0;
        }
        b->xyz[joint][k] = (float)v;
    }
    for (int k = 3; k < JOINT_FIELDS - 1; k++) {
        KD_TRY(skip_number(s));
    }
    n = next_field(s, &field);
    uint64_t state;
    if (!parse_u64(field, n, &state) || state > 2) {
        return FAIL_AT(s, "joint %zu: expected a tracking state of 0, 1 or 2, found '%.*s'", joint,
                       (int)KD_MIN(n, (size_t)40), field);
    }
    b->tracking[joint] = (uint8_t)state;
    return KD_OK;
}

static int expected_joints(const kd_skel_opts *opts)
{
    return opts->joints > 0 ? opts->joints : KD_SKEL_JOINTS;
}

static kd_status body_block(scanner *s, const kd_skel_opts *opts, kd_skel_body *b, bool *drop)
{
    const char *field;
    size_t joints;
    memset(b, 0, sizeof *b); /* padding too: equal skeletons are equal bytes */
    KD_TRY(need_line(s, "a body"));
    KD_TRY(need_fields(s, BODY_FIELDS, "a body"));
    const size_t n = next_field(s, &field);
    if (!parse_u64(field, n, &b->id)) {
        return FAIL_AT(s, "expected a body id of 64 bits, found '%.*s'", (int)KD_MIN(n, (size_t)40), field);
    }
    for (int k = 1; k < BODY_FIELDS; k++) {
        KD_TRY(skip_number(s));
    }
    KD_TRY(count_line(s, "a joint count", UINT64_MAX, "any", &joints));
    if (joints != (size_t)expected_joints(opts)) {
        return FAIL_AT(s, "expected %d joints%s%s%s, found %zu", expected_joints(opts),
                       opts->layout != NULL ? " (layout " : "", opts->layout != NULL ? opts->layout : "",
                       opts->layout != NULL ? ")" : "", joints);
    }
    for (size_t j = 0; j < joints; j++) {
        KD_TRY(joint_line(s, j, opts, b, drop));
    }
    return KD_OK;
}

static kd_status need_bodies(scanner *s, kd_skeleton *out, size_t *room, size_t more)
{
    const size_t need = out->n_bodies + more;
    if (need <= *room) {
        return KD_OK;
    }
    const size_t grown = KD_MAX(need, 2 * *room); /* bounded: every body claimed has its bytes in the file */
    kd_skel_body *body = kd_realloc(out->body, *room * sizeof *body, grown * sizeof *body);
    if (body == NULL) {
        return KD_FAIL(s->err, KD_E_OOM, "%s:%zu: no memory for %zu bodies", s->name, s->line, grown);
    }
    out->body = body;
    *room = grown;
    return KD_OK;
}

bool kd_skel_body_is_zero(const kd_skel_body *b)
{
    for (int j = 0; j < KD_SKEL_MAX_JOINTS; j++) {
        for (int k = 0; k < 3; k++) {
            if (b->xyz[j][k] != 0.0f) {
                return false;
            }
        }
    }
    return true;
}

static kd_status need_body(const scanner *s, const kd_skeleton *skel)
{
    for (size_t i = 0; i < skel->n_bodies; i++) {
        if (!kd_skel_body_is_zero(&skel->body[i])) {
            return KD_OK;
        }
    }
    if (skel->n_bodies > 0) {
        return KD_FAIL(s->err, KD_E_DATA,
                       "%s: no body: expected a body, found %zu whose joints are all 0 (tracking lost) in %zu frames",
                       s->name, skel->n_bodies, skel->frames);
    }
    return KD_FAIL(s->err, KD_E_FORMAT, "%s: no body: expected a body, found none in %zu frames%s", s->name,
                   skel->frames, skel->dropped != 0 ? " (all dropped for their coordinates)" : "");
}

static kd_status all_frames(scanner *s, const kd_skel_opts *opts, kd_skeleton *out)
{
    const size_t least = body_bytes_min(expected_joints(opts));
    size_t room = 0;
    out->joints = expected_joints(opts);
    for (size_t t = 0; t < out->frames; t++) {
        size_t bodies = 0;
        KD_TRY(count_line(s, "a body count", KD_SKEL_MAX_BODIES, "more than any sensor gives", &bodies));
        const size_t fit = (size_t)(s->end - s->p) / least;
        if (bodies > fit) {
            return FAIL_AT(s,
                           "frame %zu claims %zu bodies, the rest of the file can hold %zu; it "
                           "looks truncated",
                           t, bodies, fit);
        }
        KD_TRY(need_bodies(s, out, &room, bodies));
        out->first[t] = (uint32_t)out->n_bodies;
        for (size_t b = 0; b < bodies; b++) {
            bool drop = false;
            KD_TRY(body_block(s, opts, &out->body[out->n_bodies], &drop));
            out->n_bodies += !drop;
            out->dropped += drop;
        }
        out->empty_frames += out->first[t] == out->n_bodies;
    }
    out->first[out->frames] = (uint32_t)out->n_bodies;
    while (next_line(s)) {
        if (s->at != s->eol) {
            return FAIL_AT(s, "expected the end of the file behind %zu frames, found '%.*s'", out->frames,
                           (int)KD_MIN((size_t)(s->eol - s->at), (size_t)40), s->at);
        }
    }
    return opts->allow_no_body ? KD_OK : need_body(s, out);
}

/* Skeletons in other forms, told by their first bytes, and anything else that is no text. */
static kd_status refuse_others(scanner *s, size_t len)
{
    static const struct {
        const char *magic, *what;
    } OTHER[] = {{"\x93NUMPY", "a NumPy array"},
                 {"PK\x03\x04", "a zip archive, such as .npz"},
                 {"\x80\x02", "a pickle"},
                 {"\x80\x03", "a pickle"},
                 {"\x80\x04", "a pickle"},
                 {"\x80\x05", "a pickle"},
                 {"\x89HDF", "an HDF5 file"},
                 {"{", "JSON"},
                 {"[", "JSON"}};
    for (size_t i = 0; i < KD_COUNTOF(OTHER); i++) {
        const size_t n = strlen(OTHER[i].magic);
        if (len >= n && memcmp(s->p, OTHER[i].magic, n) == 0) {
            return KD_FAIL(s->err, KD_E_FORMAT,
                           "%s: expected a .skeleton text of NTU RGB+D, found %s; --data FILE and data.skeleton_file "
                           "read skeleton arrays",
                           s->name, OTHER[i].what);
        }
    }
    const size_t head = KD_MIN(len, (size_t)256);
    for (size_t i = 0; i < head; i++) {
        const unsigned char c = (unsigned char)s->p[i];
        if (c >= 0x7f || (c < ' ' && c != '\n' && c != '\r' && c != '\t')) {
            return KD_FAIL(s->err, KD_E_FORMAT, "%s:1: expected a frame count, found binary data", s->name);
        }
    }
    return KD_OK;
}

kd_status kd_skeleton_parse(const char *text, size_t len, const char *name, const kd_skel_opts *opts, kd_skeleton *out,
                            kd_err *err)
{
    const kd_skel_opts plain = {0};
    scanner s = {.p = text, .end = text + len, .name = name, .err = err};
    kd_skeleton skel = {0};
    kd_status st;

    *out = (kd_skeleton){0};
    if (opts == NULL) {
        opts = &plain;
    }
    s.line = opts->lines_before;
    if (len > FILE_BYTES_MAX) {
        return KD_FAIL(err, KD_E_DATA, "%s: %zu bytes, at most %zu are read", name, len, FILE_BYTES_MAX);
    }
    KD_GO(refuse_others(&s, len));
    if (opts->scored) {
        st = KD_FAIL(err, KD_E_FORMAT,
                     "%s: expected joints of x, y and a confidence, found a .skeleton text of x, y, z", name);
        goto done;
    }
    KD_GO(count_line(&s, "a frame count", KD_SKEL_MAX_FRAMES, "the limit", &skel.frames));
    if (skel.frames == 0) {
        st = FAIL_AT(&s, "expected at least 1 frame, found 0");
        goto done;
    }
    /* every frame takes its own line: a claim beyond that is refused before memory is taken for it
     */
    const size_t fit = (size_t)(s.end - s.p) / FRAME_BYTES_MIN;
    if (skel.frames > fit) {
        st = FAIL_AT(&s, "%zu frames claimed, the rest of the file can hold %zu; it looks truncated", skel.frames, fit);
        goto done;
    }
    skel.first = kd_calloc(skel.frames + 1, sizeof *skel.first);
    if (skel.first == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "%s: no memory for %zu frames", name, skel.frames);
        goto done;
    }
    KD_GO(all_frames(&s, opts, &skel));
    *out = skel;
    skel = (kd_skeleton){0};
done:
    kd_skeleton_free(&skel);
    return st;
}

kd_status kd_skeleton_read(const char *path, const kd_skel_opts *opts, kd_skeleton *out, kd_err *err)
{
    uint8_t *text = NULL;
    size_t len = 0;
    *out = (kd_skeleton){0};
    KD_TRY(kd_io_read_file(path, FILE_BYTES_MAX, &text, &len, err));
    const kd_status st = kd_skeleton_parse((const char *)text, len, path, opts, out, err);
    kd_free(text);
    return st;
}

void kd_skeleton_free(kd_skeleton *s)
{
    if (s != NULL) {
        kd_free(s->first);
        kd_free(s->body);
        *s = (kd_skeleton){0};
    }
}
