/* Option parsing: see args.h. */
#include "tools/args_internal.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum { NAME_MAX_LEN = 48 };

const kd_common_row kd_common_rows[KD_COMMON_COUNT] = {
#define X(bit, type, field, name, meta, fallback, choices, min, max, key, help) \
    {{name, KD_ARG_##type, offsetof(kd_common, field), meta, fallback, choices, min, max, help}, key},
#include "tools/common.inc"
};

/* ---- messages -------------------------------------------------------------------------------- */

int kd_usage(const kd_cmd *cmd, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    (void)fprintf(stderr, "%s: %s\n(`%s --help` lists the options)\n", cmd->name, KD_SHOWN(text), cmd->name);
    return kd_status_exit_code(KD_E_ARG);
}

int kd_cmd_end(const kd_cmd *cmd, kd_status st, const kd_err *err)
{
    if (st == KD_OK) {
        return 0;
    }
    const char *text = err != NULL && err->code != KD_OK ? err->msg : kd_status_text(st);
    (void)fprintf(stderr, "%s: %s\n", cmd->name, text);
    if (err != NULL && err->code != KD_OK && kd_log_get_level() >= KD_LOG_DEBUG) {
        (void)fprintf(stderr, "(raised at %s:%d: %s)\n", err->file, err->line, kd_status_text(err->code));
    }
    return kd_status_exit_code(st);
}

/* ---- values ---------------------------------------------------------------------------------- */

static bool parse_bool(const char *text, bool *out)
{
    static const char *const YES[] = {"true", "yes", "on", "1"};
    static const char *const NO[] = {"false", "no", "off", "0"};
    for (size_t i = 0; i < KD_COUNTOF(YES); i++) {
        if (strcmp(text, YES[i]) == 0) {
            *out = true;
            return true;
        }
        if (strcmp(text, NO[i]) == 0) {
            *out = false;
            return true;
        }
    }
    return false;
}

static bool parse_int(const char *text, int64_t *out)
{
    const bool sign = *text == '-';
    if (text[sign] < '0' || text[sign] > '9') { /* strtoll would skip blanks */
        return false;
    }
    char *end = NULL;
    errno = 0;
    const long long v = strtoll(text, &end, 10);
    *out = (int64_t)v;
    return errno == 0 && *end == '\0';
}

static bool parse_real(const char *text, double *out)
{
    if (*text == '\0' || strspn(text, "0123456789+-.eE") != strlen(text)) { /* no nan, inf, hex */
        return false;
    }
    char *end = NULL;
    *out = strtod(text, &end);
    return *end == '\0' && isfinite(*out);
}

static bool choice_holds(const char *choices, const char *text)
{
    const size_t n = strlen(text);
    for (const char *p = choices; n > 0;) {
        const size_t len = strcspn(p, "|");
        if (len == n && strncmp(p, text, n) == 0) {
            return true;
        }
        if (p[len] == '\0') {
            return false;
        }
        p += len + 1;
    }
    return false;
}

static bool ends_in_onnx(const char *path)
{
    const size_t n = strlen(path);
    return n >= 5 && strcasecmp(path + n - 5, ".onnx") == 0;
}

/* 0, or the exit code after the message. */
static int store_value(const kd_cmd *cmd, const kd_arg *a, const char *text, void *base)
{
    void *dest = (char *)base + a->offset;
    switch (a->type) {
    case KD_ARG_FLAG: {
        bool on = false;
        if (!parse_bool(text, &on)) {
            return kd_usage(cmd, "--%s: expected true or false, found '%s'", a->name, text);
        }
        memcpy(dest, &on, sizeof on);
        return 0;
    }
    case KD_ARG_INT: {
        int64_t v = 0;
        if (!parse_int(text, &v) || (double)v < a->min || (double)v > a->max) {
            return kd_usage(cmd, "--%s: expected a whole number from %.0f to %.0f, found '%s'", a->name, a->min, a->max,
                            text);
        }
        memcpy(dest, &v, sizeof v);
        return 0;
    }
    case KD_ARG_REAL: {
        double v = 0.0;
        if (!parse_real(text, &v) || !(v >= a->min && v <= a->max)) {
            return kd_usage(cmd, "--%s: expected a number from %g to %g, found '%s'", a->name, a->min, a->max, text);
        }
        memcpy(dest, &v, sizeof v);
        return 0;
    }
    case KD_ARG_CHOICE:
        if (!choice_holds(a->choices, text)) {
            return kd_usage(cmd, "--%s: expected one of %s, found '%s'", a->name, a->choices, text);
        }
        memcpy(dest, &text, sizeof text);
        return 0;
    case KD_ARG_STR:
        if (*text == '\0') {
            return kd_usage(cmd, "--%s: expected %s, found an empty text", a->name, a->meta);
        }
        if (strcmp(a->name, "out") == 0 && ends_in_onnx(text) && !cmd->writes_onnx) {
            return kd_usage(
                cmd, "--out: only `distill export` writes ONNX, so nothing is written to %s; choose another name",
                text);
        }
        memcpy(dest, &text, sizeof text);
        return 0;
    case KD_ARG_LIST: {
        kd_arg_list *list = dest;
        if (list->count == KD_ARG_LIST_MAX) {
            return kd_usage(cmd, "--%s: given more than %d times", a->name, KD_ARG_LIST_MAX);
        }
        list->item[list->count++] = text;
        return 0;
    }
    }
    return kd_status_exit_code(KD_E_ARG);
}

/* ---- parsing --------------------------------------------------------------------------------- */

typedef struct parser {
    const kd_cmd *cmd;
    void *opts;
    kd_common *common;
} parser;

static const char *option_name(size_t i, const void *user)
{
    const kd_cmd *cmd = user;
    if (i < cmd->arg_count) {
        return cmd->args[i].name;
    }
    i -= cmd->arg_count;
    return kdi_takes(cmd, i) ? kd_common_rows[i].arg.name : NULL;
}

/* The row of an option, its destination struct and its bit (0 for a command's own). A command's own row hides a
 * common one of the same name. */
static const kd_arg *find_option(const parser *p, const char *name, void **base, uint32_t *bit)
{
    const kd_cmd *cmd = p->cmd;
    for (size_t i = 0; i < cmd->arg_count + KD_COMMON_COUNT; i++) {
        const char *known = option_name(i, cmd);
        if (known == NULL || strcmp(known, name) != 0) {
            continue;
        }
        const bool own = i < cmd->arg_count;
        *base = own ? p->opts : (void *)p->common;
        *bit = own ? 0u : 1u << (i - cmd->arg_count);
        return own ? &cmd->args[i] : &kd_common_rows[i - cmd->arg_count].arg;
    }
    return NULL;
}

static int unknown_option(const kd_cmd *cmd, const char *typed, const char *name)
{
    const char *ours = kdi_foreign_option(name);
    if (ours != NULL) {
        return kd_usage(cmd, "unknown option %s; here: %s", typed, ours);
    }
    const char *near = kd_nearest(name, cmd->arg_count + KD_COMMON_COUNT, option_name, cmd);
    if (near != NULL) {
        return kd_usage(cmd, "unknown option %s; did you mean --%s?", typed, near);
    }
    return kd_usage(cmd, "unknown option %s", typed);
}

/* Handles argv[*at], moves *at past what it used.  0, or the exit code. */
static int long_option(const parser *p, int argc, char **argv, int *at)
{
    const char *typed = argv[*at];
    const char *body = typed + 2;
    const size_t len = strcspn(body, "=");
    const char *value = body[len] == '=' ? body + len + 1 : NULL;
    char name[NAME_MAX_LEN];
    (void)snprintf(name, sizeof name, "%.*s", (int)KD_MIN(len, (size_t)NAME_MAX_LEN), body);
    for (char *c = name; *c != '\0'; c++) {
        *c = *c == '_' ? '-' : *c;
    }
    void *base = NULL;
    uint32_t bit = 0;
    const kd_arg *a = find_option(p, name, &base, &bit);
    const char *flag_text = "true";
    if (a == NULL && strncmp(name, "no-", 3) == 0) {
        a = find_option(p, name + 3, &base, &bit);
        flag_text = "false";
        if (a != NULL && (a->type != KD_ARG_FLAG || value != NULL)) {
            a = NULL;
        }
    }
    if (a == NULL) {
        return unknown_option(p->cmd, typed, name);
    }
    *at += 1;
    if (a->type == KD_ARG_FLAG) {
        value = value != NULL ? value : flag_text;
    } else if (value == NULL) {
        if (*at >= argc) {
            return kd_usage(p->cmd, "--%s: expected a value (%s)", a->name,
                            a->type == KD_ARG_CHOICE ? a->choices : a->meta);
        }
        value = argv[(*at)++];
    }
    p->common->given |= bit;
    return store_value(p->cmd, a, value, base);
}

static int short_options(const parser *p, const char *text)
{
    for (const char *c = text + 1; *c != '\0'; c++) {
        if (*c == 'q') {
            p->common->quiet = true;
        } else if (*c == 'v') {
            p->common->verbose = true;
        } else {
            return kd_usage(p->cmd, "unknown option %s", text);
        }
    }
    return 0;
}

static bool set_defaults(const parser *p)
{
    for (size_t i = 0; i < KD_COMMON_COUNT; i++) {
        const kd_arg *a = &kd_common_rows[i].arg;
        if (a->fallback != NULL && store_value(p->cmd, a, a->fallback, p->common) != 0) {
            return false;
        }
    }
    for (size_t i = 0; i < p->cmd->arg_count; i++) {
        const kd_arg *a = &p->cmd->args[i];
        void *dest = (char *)p->opts + a->offset;
        switch (a->type) { /* a struct on the caller's stack may hold anything */
        case KD_ARG_FLAG:
            memset(dest, 0, sizeof(bool));
            break;
        case KD_ARG_INT:
            memset(dest, 0, sizeof(int64_t));
            break;
        case KD_ARG_REAL:
            memset(dest, 0, sizeof(double));
            break;
        case KD_ARG_STR:
        case KD_ARG_CHOICE: {
            const char *none = NULL;
            memcpy(dest, &none, sizeof none);
            break;
        }
        case KD_ARG_LIST:
            memset(dest, 0, sizeof(kd_arg_list));
            break;
        }
        if (a->fallback != NULL && store_value(p->cmd, a, a->fallback, p->opts) != 0) {
            return false;
        }
    }
    return true;
}

/* The line as it was typed: parsing moves operands. */
static void keep_line(kd_common *c, const kd_cmd *cmd, int argc, char **argv)
{
    size_t n = (size_t)snprintf(c->typed, sizeof c->typed, "%s", cmd->name);
    for (int i = 1; i < argc && n < sizeof c->typed; i++) {
        n += (size_t)snprintf(c->typed + n, sizeof c->typed - n, " %s", argv[i]);
    }
}

static bool wants_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0) {
            return true;
        }
    }
    return false;
}

/* Options into the structs, operands to the front of argv: their number in *count.  0, or the exit code. */
static int parse_words(const parser *p, int argc, char **argv, int *count)
{
    int kept = 1;
    bool literal = false;
    for (int i = 1; i < argc;) {
        char *arg = argv[i];
        if (literal || arg[0] != '-' || arg[1] == '\0') {
            argv[kept++] = arg;
            i++;
        } else if (strcmp(arg, "--") == 0) {
            literal = true;
            i++;
        } else if (kdi_describe_mode(arg) == KDI_DESCRIBE_PARSE) {
            i++;
        } else {
            const int rc = arg[1] == '-' ? long_option(p, argc, argv, &i) : (i++, short_options(p, arg));
            if (rc != 0) {
                return rc;
            }
        }
    }
    *count = kept - 1;
    if (*count < p->cmd->min_operands) {
        return kd_usage(p->cmd, "expected %s, found %d argument%s",
                        p->cmd->operands != NULL ? p->cmd->operands : "more arguments", *count, *count == 1 ? "" : "s");
    }
    if (p->cmd->max_operands >= 0 && *count > p->cmd->max_operands) {
        return kd_usage(p->cmd, "unexpected argument '%s'", argv[1 + p->cmd->max_operands]);
    }
    return 0;
}

int kd_args_parse(const kd_cmd *cmd, int argc, char **argv, void *opts, kd_common *common, kd_operands *operands)
{
    kd_common spare;
    parser p = {cmd, opts, common != NULL ? common : &spare};
    const kdi_describe what = argc > 1 ? kdi_describe_mode(argv[argc - 1]) : KDI_DESCRIBE_NOTHING;
    memset(p.common, 0, sizeof *p.common);
    if (wants_help(argc, argv)) {
        kdi_print_help(cmd);
        return 0;
    }
    if (what == KDI_DESCRIBE_MAN || what == KDI_DESCRIBE_BASH) {
        kdi_describe_cmd(cmd, what);
        return 0;
    }
    if (!set_defaults(&p)) {
        return kd_status_exit_code(KD_E_ARG);
    }
    keep_line(p.common, cmd, argc, argv);
    int count = 0;
    const int rc = parse_words(&p, argc, argv, &count);
    if (rc != 0) {
        return rc;
    }
    if (operands != NULL) {
        operands->item = argv + 1;
        operands->count = count;
    }
    if (p.common->resume && p.common->force) {
        return kd_usage(cmd, "--resume goes on with what is there, --force replaces it: expected one of the two");
    }
    kd_log_set_level(p.common->debug     ? KD_LOG_DEBUG
                     : p.common->quiet   ? KD_LOG_ERROR
                     : p.common->verbose ? KD_LOG_VERBOSE
                                         : KD_LOG_INFO);
    return what == KDI_DESCRIBE_PARSE ? 0 : KD_ARGS_RUN;
}
