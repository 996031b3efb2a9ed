/* Command lines: verbs, long options, help, exit codes.  Every program and command of tools/ is described by a
 * constant table and parsed by one function, so that help, defaults and messages cannot drift apart.
 *
 * A command file looks like this:
 *
 *     typedef struct opts { const char *weights; int64_t top; bool names; } opts;
 *     static const kd_arg ARGS[] = {
 *         KD_OPT_STR(opts, weights, "weights", "PATH", NULL, "run directory, safetensors or .pth"),
 *         KD_OPT_INT(opts, top, "top", "K", "5", 1, 1000, "classes to print"),
 *         KD_OPT_FLAG(opts, names, "names", "names of classes, not numbers"),
 *     };
 *     static const kd_cmd CMD = {
 *         .name = "teacher predict", .operands = "VIDEO...", .about = "Top-k classes of videos.",
 *         .args = ARGS, .arg_count = KD_COUNTOF(ARGS), .common = KD_COMMON_DEVICE | KD_COMMON_JSON,
 *         .min_operands = 1, .max_operands = -1 };
 *
 *     int kd_cmd_predict(int argc, char **argv)
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
 * allocated: strings point into argv, whose operands are moved to the front; kd_common.typed keeps the line as typed.
 *
 * One hidden option, of every program and command: --describe=man prints the manual page of the program from these
 * tables, --describe=bash its completion for bash (both made by the build), --describe=parse ends after parsing, with
 * exit code 0 if the line is right.
 */
#ifndef KD_TOOLS_ARGS_H
#define KD_TOOLS_ARGS_H

#include "kernels/kd_options.h"

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

/* The options that many commands share: tools/common.inc.  A command names those it takes (KD_COMMON_* bits); any
 * other is refused as unknown, but --debug, -q and -v, which every command takes. */
enum {
#define X(bit, ...) KD_COMMON_AT_##bit,
#include "tools/common.inc"
    KD_COMMON_COUNT
};
enum {
#define X(bit, ...) KD_COMMON_##bit = 1u << KD_COMMON_AT_##bit,
#include "tools/common.inc"
    KD_COMMON_COMPUTE = KD_COMMON_DEVICE | KD_COMMON_DTYPE | KD_COMMON_THREADS | KD_COMMON_PLAIN | KD_COMMON_NO_GRAPHS
};

enum { KD_COMMON_TYPED = 1024 };

typedef struct kd_common {
/* clang-format off */
#define KD_FIELD_FLAG   bool
#define KD_FIELD_INT    int64_t
#define KD_FIELD_STR    const char *
#define KD_FIELD_CHOICE const char *
#define KD_FIELD_LIST   kd_arg_list
#define X(bit, type, field, ...) KD_FIELD_##type field;
#include "tools/common.inc"
#undef KD_FIELD_FLAG
#undef KD_FIELD_INT
#undef KD_FIELD_STR
#undef KD_FIELD_CHOICE
#undef KD_FIELD_LIST
    /* clang-format on */
    uint32_t given; /* KD_COMMON_* bits of the options that were typed */
    char
        typed[KD_COMMON_TYPED]; /* the command line as typed, cut where it is longer: for run directories and reports */
} kd_common;

typedef struct kd_common_row {
    kd_arg arg;
    const char *key; /* of the recipe; see tools/common.inc */
} kd_common_row;

extern const kd_common_row kd_common_rows[KD_COMMON_COUNT]; /* row i belongs to the bit 1 << i */

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
    uint32_t common;      /* KD_COMMON_* bits */
    int min_operands;     /* checked before the command runs */
    int max_operands;     /* -1: any number */
    bool writes_onnx;     /* --out may be an ONNX file */
    const char *notes;    /* printed after the options: file layouts, exit codes; may be NULL */
    const char *examples; /* command lines, one a line, that a test runs (tests/cli/examples.sh); may be NULL */
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
 * -h, --help, --version, --describe=WHAT, an unknown verb (with the nearest one) and calls the rest. */
int kd_dispatch(const char *name, const char *about, const kd_verb *verbs, int argc, char **argv);

/* "lastkd 0.1.0 (id)" and a line per library, on stdout. */
void kd_print_version(const char *program);

#endif
