/* Ground layer: see kd_base.h. */
#include "kernels/kd_base.h"

#include "kernels/kd_git_id.h" /* made by the build: tools/git_id.cmake */

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

const char *kd_version(void)
{
    return "0.1.0 (" KD_GIT_ID ")";
}

/* ---- status ---------------------------------------------------------------------------------- */

const char *kd_status_text(kd_status st)
{
    switch (st) {
#define KD_STATUS_CASE(name, value, code, text) \
    case name:                                  \
        return text;
        KD_STATUS_MAP(KD_STATUS_CASE)
#undef KD_STATUS_CASE
    }
    return "unknown status";
}

int kd_status_exit_code(kd_status st)
{
    switch (st) {
#define KD_STATUS_CASE(name, value, code, text) \
    case name:                                  \
        return code;
        KD_STATUS_MAP(KD_STATUS_CASE)
#undef KD_STATUS_CASE
    }
    return 1;
}

/* ---- errors ---------------------------------------------------------------------------------- */

kd_status kd_err_set(kd_err *err, kd_status code, const char *file, int line, const char *fmt, ...)
{
    if (err == NULL || err->code != KD_OK) {
        return code;
    }
    char raw[4 * sizeof err->msg];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(raw, sizeof raw, fmt, ap);
    va_end(ap);
    (void)kd_show_ends(err->msg, sizeof err->msg, raw); /* hostile names must not forge a second line */
    err->code = code;
    err->file = file;
    err->line = line;
    return code;
}

kd_status kd_err_prefix(kd_err *err, kd_status st, const char *fmt, ...)
{
    if (err == NULL) {
        return st;
    }
    char raw[256], whole[sizeof err->msg + sizeof raw + 2];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(raw, sizeof raw, fmt, ap);
    va_end(ap);
    (void)snprintf(whole, sizeof whole, "%s: %s", raw, err->msg);
    (void)kd_show_ends(err->msg, sizeof err->msg, whole);
    return err->code != KD_OK ? err->code : st;
}

void kd_bug(const char *file, int line, const char *what)
{
    (void)fprintf(stderr, "lastkd bug: %s:%d: %s\n", file, line, what);
    abort();
}

/* ---- sizes ----------------------------------------------------------------------------------- */

bool kd_size_mul(size_t a, size_t b, size_t *out)
{
    size_t r;
    if (__builtin_mul_overflow(a, b, &r)) {
        return false;
    }
    *out = r;
    return true;
}

bool kd_size_add(size_t a, size_t b, size_t *out)
{
    size_t r;
    if (__builtin_add_overflow(a, b, &r)) {
        return false;
    }
    *out = r;
    return true;
}

/* ---- allocation ------------------------------------------------------------------------------ */

static _Atomic uint64_t alloc_calls;
static _Atomic uint64_t alloc_fail_at;

void *kd_alloc(size_t bytes)
{
    const uint64_t n = atomic_fetch_add(&alloc_calls, 1) + 1;
    if (bytes == 0 || n == atomic_load(&alloc_fail_at)) {
        return NULL;
    }
    void *p = NULL;
    return posix_memalign(&p, 64, bytes) == 0 ? p : NULL;
}

void *kd_calloc(size_t count, size_t size)
{
    size_t bytes;
    if (!kd_size_mul(count, size, &bytes)) {
        return NULL;
    }
    void *p = kd_alloc(bytes);
    if (p != NULL) {
        memset(p, 0, bytes);
    }
    return p;
}

void *kd_realloc(void *p, size_t old_bytes, size_t bytes)
{
    void *q = kd_alloc(bytes);
    if (q != NULL && p != NULL) {
        memcpy(q, p, KD_MIN(old_bytes, bytes));
        kd_free(p);
    }
    return q;
}

void kd_free(void *p)
{
    free(p);
}

char *kd_strdup(const char *s)
{
    if (s == NULL) {
        return NULL;
    }
    const size_t n = strlen(s) + 1;
    char *d = kd_alloc(n);
    if (d != NULL) {
        memcpy(d, s, n);
    }
    return d;
}

char *kd_strf(const char *fmt, ...)
{
    va_list ap;
    va_list again;
    va_start(ap, fmt);
    va_copy(again, ap);
    const int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *s = n < 0 ? NULL : kd_alloc((size_t)n + 1);
    if (s != NULL) {
        (void)vsnprintf(s, (size_t)n + 1, fmt, again);
    }
    va_end(again);
    return s;
}

uint64_t kd_alloc_calls(void)
{
    return atomic_load(&alloc_calls);
}

void kd_alloc_fail_at(uint64_t n)
{
    atomic_store(&alloc_fail_at, n == 0 ? 0 : atomic_load(&alloc_calls) + n);
}

/* ---- log ------------------------------------------------------------------------------------- */

static _Atomic int log_level = KD_LOG_INFO;

void kd_log(kd_log_level level, const char *fmt, ...)
{
    if ((int)level > atomic_load(&log_level)) {
        return;
    }
    static const char *const tag[] = {"error: ", "warning: ", "", "", "debug: "};
    char raw[8192], line[2048];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(raw, sizeof raw, fmt, ap);
    va_end(ap);
    char clock[32] = "";
    if (atomic_load(&log_level) >= (int)KD_LOG_DEBUG) { /* seconds of a clock without a date: differences count */
        (void)snprintf(clock, sizeof clock, "[%.3f] ", kd_now());
    }
    (void)fprintf(stderr, "%s%s%s\n", clock, tag[level], kd_show_ends(line, sizeof line, raw));
}

void kd_log_set_level(kd_log_level level)
{
    atomic_store(&log_level, (int)level);
}

kd_log_level kd_log_get_level(void)
{
    return (kd_log_level)atomic_load(&log_level);
}

double kd_now(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

/* ---- dtypes ---------------------------------------------------------------------------------- */

size_t kd_dtype_size(kd_dtype t)
{
    static const size_t size[] = {
#define KD_DTYPE_SIZE(name, text, bytes, st) bytes,
        KD_DTYPE_MAP(KD_DTYPE_SIZE)
#undef KD_DTYPE_SIZE
    };
    KD_ASSERT((size_t)t < KD_COUNTOF(size));
    return size[t];
}

const char *kd_dtype_name(kd_dtype t)
{
    static const char *const name[] = {
#define KD_DTYPE_TEXT(id, text, bytes, st) text,
        KD_DTYPE_MAP(KD_DTYPE_TEXT)
#undef KD_DTYPE_TEXT
    };
    return (size_t)t < KD_COUNTOF(name) ? name[t] : "?";
}

bool kd_dtype_parse(const char *text, kd_dtype *out)
{
    for (int t = 0; t < KD_DTYPE_COUNT; t++) {
        if (strcmp(text, kd_dtype_name((kd_dtype)t)) == 0) {
            *out = (kd_dtype)t;
            return true;
        }
    }
    return false;
}

float kd_f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t expo = (h >> 10) & 0x1fu;
    const uint32_t mant = h & 0x3ffu;
    if (expo == 0x1f) {
        return kd_bits_f32(sign | 0x7f800000u | (mant << 13));
    }
    if (expo == 0) { /* zero or subnormal: mant * 2^-24, exact */
        const float v = (float)mant * 0x1p-24f;
        return sign != 0 ? -v : v;
    }
    return kd_bits_f32(sign | ((expo + 112u) << 23) | (mant << 13));
}

uint16_t kd_f32_to_f16(float f)
{
    const uint32_t u = kd_f32_bits(f);
    const uint16_t sign = (uint16_t)((u >> 16) & 0x8000u);
    const uint32_t mag = u & 0x7fffffffu;
    if (mag > 0x7f800000u) {
        return (uint16_t)(sign | 0x7e00u);
    }
    if (mag >= 0x477ff000u) { /* 65520 and above round to infinity */
        return (uint16_t)(sign | 0x7c00u);
    }
    if (mag < 0x38800000u) { /* result is subnormal: let the adder round at 2^-24 */
        const float r = kd_bits_f32(mag) + 0.5f;
        return (uint16_t)(sign | (kd_f32_bits(r) - 0x3f000000u));
    }
    return (uint16_t)(sign | ((mag + 0xfffu + ((mag >> 13) & 1u) - 0x38000000u) >> 13));
}
