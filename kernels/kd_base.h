/* Ground layer of lastkd: status codes, error records, checked sizes, counted allocation, log, dtypes.
 *
 * Everything else includes this header; it includes nothing of ours.  C11 and C++17 (nvcc) both accept it.
 *
 * Error model.  A function that can fail returns kd_status and is KD_NODISCARD.  On cold paths (open, parse,
 * compile) the last argument is `kd_err *err`, caller-owned, may be NULL, filled once at the first failure with
 * one line: what went wrong, where (file, offset or line:column, sample id, key), expected, found, what to do.
 * Hot paths (kernels, program run) return the code alone.  Nothing below tools/ calls exit().
 */
#ifndef KD_KERNELS_KD_BASE_H
#define KD_KERNELS_KD_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#    define KD_NODISCARD          __attribute__((warn_unused_result))
#    define KD_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#    define KD_UNUSED             __attribute__((unused))
#    define KD_NORETURN           __attribute__((noreturn))
#else
#    define KD_NODISCARD
#    define KD_PRINTF(fmt, first)
#    define KD_UNUSED
#    define KD_NORETURN
#endif

/* name, value, process exit code (1 run failed, 2 usage or config, 3 data unreadable or
 * inconsistent, 4 integrity, 5 memory or device, 6 locked, 130 interrupted), text */
#define KD_STATUS_MAP(X)                                       \
    X(KD_OK, 0, 0, "ok")                                       \
    X(KD_E_ARG, -1, 2, "bad argument")                         \
    X(KD_E_CONFIG, -2, 2, "bad configuration")                 \
    X(KD_E_SHAPE, -3, 2, "shape mismatch")                     \
    X(KD_E_DTYPE, -4, 2, "dtype mismatch")                     \
    X(KD_E_IO, -5, 3, "cannot read")                           \
    X(KD_E_FORMAT, -6, 3, "malformed data")                    \
    X(KD_E_DATA, -7, 3, "inconsistent data")                   \
    X(KD_E_INTEGRITY, -8, 4, "integrity check failed")         \
    X(KD_E_OOM, -9, 5, "out of memory")                        \
    X(KD_E_DEVICE, -10, 5, "device failed")                    \
    X(KD_E_LOCKED, -11, 6, "locked by another process")        \
    X(KD_E_WRITE, -12, 1, "cannot write")                      \
    X(KD_E_UNSUPPORTED, -13, 1, "not supported by this build") \
    X(KD_E_STATE, -14, 1, "wrong state")                       \
    X(KD_E_NUMERIC, -15, 1, "non-finite number")               \
    X(KD_E_CANCELLED, -16, 130, "interrupted")

typedef enum kd_status {
#define KD_STATUS_ENUM(name, value, code, text) name = value,
    KD_STATUS_MAP(KD_STATUS_ENUM)
#undef KD_STATUS_ENUM
} kd_status;

const char *kd_status_text(kd_status st); /* static string, never NULL */
int kd_status_exit_code(kd_status st);    /* process exit code of the table above */

/* One failure.  `msg` is one line without a trailing newline. */
typedef struct kd_err {
    kd_status code;
    int line;         /* where in our source it was raised */
    const char *file; /* static string */
    char msg[512];
} kd_err;

/* Record a failure and return `code`.  Keeps the first record: a filled err (code != KD_OK) is left as it is. */
kd_status kd_err_set(kd_err *err, kd_status code, const char *file, int line, const char *fmt, ...) KD_PRINTF(5, 6);

/* Put "prefix: " before an existing message (a parser knows the line, its caller the file). Returns err's code
 * (`st` when err is NULL). */
kd_status kd_err_prefix(kd_err *err, kd_status st, const char *fmt, ...) KD_PRINTF(3, 4);

/* Its value is `code` itself, so that the compiler sees a failure path as one. */
#define KD_FAIL(err, code, ...) ((void)kd_err_set((err), (code), __FILE__, __LINE__, __VA_ARGS__), (code))

/* Text of others (names, labels, paths, messages of libraries) for a terminal, a log or a row of a table: `out` [size],
 * size >= 4, gets it on one line.  Control characters, line separators, marks that turn the direction of writing and
 * bytes that are no UTF-8 become \n, \r, \t, \xNN or \uNNNN; what does not fit is cut and ends in "...".  Returns
 * `out`. */
char *kd_show(char *out, size_t size, const char *text);

/* kd_show of a message: what does not fit loses its middle, "...", because a message ends in what to do.  The message
 * of a kd_err and the lines of kd_log have gone through it. */
char *kd_show_ends(char *out, size_t size, const char *text);

/* kd_show of a text with lists of whole numbers ("train=1,2,3,7", "[1, 2, 3, 7]"): runs are written "1-3,7", and of a
 * list of more than 12 such parts 10 are shown with the count of its numbers. */
char *kd_show_lists(char *out, size_t size, const char *text);

/* Two texts that differ, for one message: kd_show_lists of both; a long beginning that both share becomes "...". */
enum { KD_SHOWN_PAIR = 128 };
void kd_show_pair(char a_shown[KD_SHOWN_PAIR], char b_shown[KD_SHOWN_PAIR], const char *a, const char *b);

/* kd_show of a path or a name as an argument of printf. */
#define KD_SHOWN(text) kd_show((char[KD_SHOWN_MAX]){0}, KD_SHOWN_MAX, (text))
enum { KD_SHOWN_MAX = 4608 };

/* Return at once on failure; only where there is nothing to free. */
#define KD_TRY(expr)                         \
    do {                                     \
        const kd_status kd_try_st_ = (expr); \
        if (kd_try_st_ != KD_OK)             \
            return kd_try_st_;               \
    } while (0)

/* Jump to the function's single `done:` label; needs `kd_status st` in scope. */
#define KD_GO(expr)      \
    do {                 \
        st = (expr);     \
        if (st != KD_OK) \
            goto done;   \
    } while (0)

#define KD_COUNTOF(a) (sizeof(a) / sizeof((a)[0]))
#define KD_MIN(a, b)  ((a) < (b) ? (a) : (b))
#define KD_MAX(a, b)  ((a) > (b) ? (a) : (b))

/* Our own bug, never input: prints and aborts. */
KD_NORETURN void kd_bug(const char *file, int line, const char *what);
#define KD_ASSERT(cond) ((cond) ? (void)0 : kd_bug(__FILE__, __LINE__, #cond))

/* ---- checked sizes: false on overflow, *out untouched ---------------------------------------- */
KD_NODISCARD bool kd_size_mul(size_t a, size_t b, size_t *out);
KD_NODISCARD bool kd_size_add(size_t a, size_t b, size_t *out);

/* ---- allocation -------------------------------------------------------------------------------------------
 * All of our heap memory comes from here.  64-byte aligned; zero bytes gives NULL.  NULL on failure.  The count
 * of calls so far proves "no allocation in a step"; the hook makes the n-th call fail in tests. */
void *kd_alloc(size_t bytes);                              /* uninitialised */
void *kd_calloc(size_t count, size_t size);                /* zeroed; NULL on overflow too */
void *kd_realloc(void *p, size_t old_bytes, size_t bytes); /* keeps min(old, new) bytes; p untouched on failure */
void kd_free(void *p);                                     /* NULL is legal */
char *kd_strdup(const char *s);                            /* NULL in, NULL out */
char *kd_strf(const char *fmt, ...) KD_PRINTF(1, 2);       /* allocated formatted string; kd_free */
uint64_t kd_alloc_calls(void);                             /* calls to the allocating functions since start */
void kd_alloc_fail_at(uint64_t n);                         /* tests: the n-th call from now fails (0: never) */

/* ---- log: stderr, one line an event ---------------------------------------------------------- */
typedef enum kd_log_level { KD_LOG_ERROR, KD_LOG_WARN, KD_LOG_INFO, KD_LOG_VERBOSE, KD_LOG_DEBUG } kd_log_level;
void kd_log(kd_log_level level, const char *fmt, ...) KD_PRINTF(2, 3);
void kd_log_set_level(kd_log_level level); /* default KD_LOG_INFO */
kd_log_level kd_log_get_level(void);

/* ---- time ------------------------------------------------------------------------------------ */
double kd_now(void); /* monotonic seconds */

/* ---- dtypes ---------------------------------------------------------------------------------- */
#define KD_DTYPE_MAP(X)           \
    X(KD_F32, "f32", 4, "F32")    \
    X(KD_BF16, "bf16", 2, "BF16") \
    X(KD_F16, "fp16", 2, "F16")   \
    X(KD_F64, "f64", 8, "F64")    \
    X(KD_I32, "i32", 4, "I32")    \
    X(KD_I64, "i64", 8, "I64")    \
    X(KD_U8, "u8", 1, "U8")

typedef enum kd_dtype { /* last column: the name safetensors uses */
#define KD_DTYPE_ENUM(name, text, size, st) name,
                        KD_DTYPE_MAP(KD_DTYPE_ENUM)
#undef KD_DTYPE_ENUM
                            KD_DTYPE_COUNT
} kd_dtype;

size_t kd_dtype_size(kd_dtype t);
const char *kd_dtype_name(kd_dtype t);
bool kd_dtype_parse(const char *text, kd_dtype *out); /* "f32", "bf16", "fp16", ... */

static inline float kd_bits_f32(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint32_t kd_f32_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float kd_bf16_to_f32(uint16_t h)
{
    return kd_bits_f32((uint32_t)h << 16);
}

/* Round to nearest even; NaN stays NaN (quiet). */
static inline uint16_t kd_f32_to_bf16(float f)
{
    const uint32_t u = kd_f32_bits(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) {
        return (uint16_t)((u >> 16) | 0x40u);
    }
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

float kd_f16_to_f32(uint16_t h);
uint16_t kd_f32_to_f16(float f); /* round to nearest even, overflow to infinity */

/* ---- version --------------------------------------------------------------------------------- */
const char *kd_version(void); /* "0.1.0 (git id)" */

#ifdef __cplusplus
}
#endif
#endif
