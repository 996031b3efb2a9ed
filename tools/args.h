/* Command lines: verbs, long options, help, exit codes.  Every program and command of tools/ is described by a
 * constant table and parsed by one function, so that help, defaults and messages cannot drift apart.
 *
 * A command file looks like this:
 *
 *     typedef struct opts { const char *weights; int64_t top; bool force; } opts;
 *     static const kd_arg ARGS[] = {
 *         KD_OPT_STR(opts, weights, "weights", "PATH", NULL, "run directory, safetensors or .pth"),
 *         KD_OPT_INT(opts, top, "top", "K", "5", 1, 1000, "classes to print"),
 *         KD_OPT_FLAG(opts, force, "force", "overwrite"),
 *     };
 *     static const kd_cmd CMD = {
 *         .name = "teacher predict", .operands = "VIDEO...", .about = "Top-k classes of videos.",
 *         .args = ARGS, .arg_count = KD_COUNTOF(ARGS), .common = KD_COMMON_DEVICE | KD_COMMON_JSON,
 *         .min_operands = 1, .max_operands = -1 };
 *
 *     int cmd_predict(int argc, char **argv)
 *     {
 *         opts o; kd_common c; kd_operands in;
 *         const int rc = kd_args_parse(&CMD, argc, argv, &o, &c, &in);
 *         if (rc != KD_ARGS_RUN)
 *             return rc;
 *         kd_err err = {0};
 *         return kd_cmd_end(&CMD, predict(&o, &c, &in, &err), &err);
 *     }
 *
 * Rules of the language: `--name value` and `--name=value` are the same; `_` and `-` are the same in names; flags
 * take no value but accept `--flag=true|false` and `--no-flag`; a later option wins over an earlier one; `--`
 * ends the options; options and operands may be mixed.  -h/--help and -q, -v, --debug work in every command; help goes
 * to stdout with exit code 0.  A mistake prints at most three lines on stderr and gives exit code 2.  Nothing is
 * allocated: strings point into argv, and argv's order is changed (operands are moved to the front).
 */
#ifndef KD_TOOLS_ARGS_H
#define KD_TOOLS_ARGS_H

#include "kernels/kd_base.h"

typedef enum kd_arg_type {
    KD_ARG_FLAG,   /* bool */
    KD_ARG_INT,    /* int64_t, decimal, within [min, max] */
    KD_ARG_REAL,   /* double, finite, within [min, max] */
    KD_ARG_STR,    /* const char *, not empty */
    KD_ARG_CHOICE, /* const char *, one of `choices` ("a|b|c"); points at the user's spelling */
    KD_ARG_LIST    /* kd_arg_list, repeatable */
} kd_arg_type;

enum { KD_ARG_LIST_MAX = 64 };

typedef struct kd_arg_list {
    const char *item[KD_ARG_LIST_MAX];
    int count;
} kd_arg_list;

/* One option.  `fallback` is the default as the user would type it: it is parsed like a value and shown by
 * --help.  NULL leaves zero / NULL / false and help shows none (say in `help` what happens then). */
typedef struct kd_arg {
    const char *name; /* with '-', without the leading "--" */
    kd_arg_type type;
    size_t offset; /* of the field in the command's option struct */
    const char *meta;
    const char *fallback;
    const char *choices;
    double min, max;
    const char *help;
} kd_arg;

#define KD_OPT_FLAG(T, field, name, help)                                       \
    {                                                                           \
        name, KD_ARG_FLAG, offsetof(T, field), NULL, NULL, NULL, 0.0, 0.0, help \
    }
#define KD_OPT_INT(T, field, name, meta, fallback, lo, hi, help)                                     \
    {                                                                                                \
        name, KD_ARG_INT, offsetof(T, field), meta, fallback, NULL, (double)(lo), (double)(hi), help \
    }
#define KD_OPT_REAL(T, field, name, meta, fallback, lo, hi, help)                                     \
    {                                                                                                 \
        name, KD_ARG_REAL, offsetof(T, field), meta, fallback, NULL, (double)(lo), (double)(hi), help \
    }
#define KD_OPT_STR(T, field, name, meta, fallback, help)                           \
    {                                                                              \
        name, KD_ARG_STR, offsetof(T, field), meta, fallback, NULL, 0.0, 0.0, help \
    }
#define KD_OPT_CHOICE(T, field, name, fallback, choices, help)                           \
    {                                                                                    \
        name, KD_ARG_CHOICE, offsetof(T, field), NULL, fallback, choices, 0.0, 0.0, help \
    }
#define KD_OPT_LIST(T, field, name, meta, help)                                 \
    {                                                                           \
        name, KD_ARG_LIST, offsetof(T, field), meta, NULL, NULL, 0.0, 0.0, help \
    }

/* The options many commands share (product.md section 2).  A command names those it takes; any other is refused
 * as unknown.  The same bits in kd_common.given tell what the user typed, so that a config's value can stand. */
enum {
    KD_COMMON_CONFIG = 1u << 0,
    KD_COMMON_SET = 1u << 1,
    KD_COMMON_DATA = 1u << 2,
    KD_COMMON_OUT = 1u << 3,
    KD_COMMON_DEVICE = 1u << 4,
    KD_COMMON_DTYPE = 1u << 5,
    KD_COMMON_SEED = 1u << 6,
    KD_COMMON_THREADS = 1u << 7,
    KD_COMMON_WORKERS = 1u << 8,
    KD_COMMON_EPOCHS = 1u << 9,
    KD_COMMON_BATCH_SIZE = 1u << 10,
    KD_COMMON_LIMIT = 1u << 11,
    KD_COMMON_RESUME = 1u << 12,
    KD_COMMON_DRY_RUN = 1u << 13,
    KD_COMMON_JSON = 1u << 14,
    KD_COMMON_DEBUG = 1u << 15, /* the last three are always accepted */
    KD_COMMON_QUIET = 1u << 16,
    KD_COMMON_VERBOSE = 1u << 17,
    KD_COMMON_PLAIN = 1u << 18,
    KD_COMMON_NO_GRAPHS = 1u << 19,
    KD_COMMON_COMPUTE = KD_COMMON_DEVICE | KD_COMMON_DTYPE | KD_COMMON_THREADS | KD_COMMON_PLAIN | KD_COMMON_NO_GRAPHS
};

typedef struct kd_common {
    const char *config;
    kd_arg_list set; /* "a.b=c" each */
    const char *data;
    const char *out;
    const char *device; /* auto | cpu | cuda */
    const char *dtype;  /* f32 | bf16 | fp16 */
    int64_t seed;
    int64_t threads; /* 0: every core this process may use */
    int64_t workers; /* 0: decided by the command */
    int64_t epochs;  /* 0: not given */
    int64_t batch_size;
    int64_t limit; /* 0: no limit */
    bool resume, dry_run, json, debug, quiet, verbose;
    bool plain_kernels, no_graphs;
    uint32_t given; /* KD_COMMON_* bits of the options that were typed */
} kd_common;

typedef struct kd_operands {
    char **item;
    int count;
} kd_operands;

typedef struct kd_cmd {
    const char *name;     /* as typed: "distill compare" */
    const char *operands; /* "TEACHER.json STUDENT.json..."; NULL: none */
    const char *about;    /* a sentence or a few lines */
    const kd_arg *args;
    size_t arg_count;
    uint32_t common;   /* KD_COMMON_* bits */
    int min_operands;  /* checked before the command runs */
    int max_operands;  /* -1: any number */
    const char *notes; /* printed after the options: examples, file layouts; may be NULL */
} kd_cmd;

enum { KD_ARGS_RUN = -1 };

/* Fills `opts` (the struct the table's offsets refer to; may be NULL without own options), `common` and `operands`
 * (both may be NULL).  argv[0] is the verb and is skipped.  Sets the log level from -q, -v, --debug.  Returns
 * KD_ARGS_RUN, or the exit code with which the command ends at once (0 after help, 2 after a usage error). */
KD_NODISCARD int kd_args_parse(const kd_cmd *cmd, int argc, char **argv, void *opts, kd_common *common,
                               kd_operands *operands);

/* A usage error the command itself finds ("--views: expected ..."): prints it and a pointer to --help; returns 2. */
int kd_usage(const kd_cmd *cmd, const char *fmt, ...) KD_PRINTF(2, 3);

/* Prints the failure, if it is one, as "distill compare: message" and returns the exit code. */
int kd_cmd_end(const kd_cmd *cmd, kd_status st, const kd_err *err);

/* ---- verbs ----------------------------------------------------------------------------------- */
typedef struct kd_verb {
    const char *name;
    int (*run)(int argc, char **argv); /* argv[0] is the verb */
    const char *about;                 /* one line */
} kd_verb;

/* `name` is what was typed so far ("kd", "kd dataset"); `verbs` ends with a row whose name is NULL.  Handles no verb,
 * -h,
 * --help, --version, an unknown verb (with the nearest one) and calls the rest. */
int kd_dispatch(const char *name, const char *about, const kd_verb *verbs, int argc, char **argv);

/* Nearest of `count` names to `word` by edit distance, NULL when none is near. `get(i, user)` gives a name or NULL. */
const char *kd_nearest(const char *word, size_t count, const char *(*get)(size_t i, const void *user),
                       const void *user);

/* "lastkd 0.1.0 (id)" and a line per library, on stdout. */
void kd_print_version(const char *program);

#endif
