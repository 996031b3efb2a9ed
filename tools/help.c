/* What the option tables say to people and to shells: --help, manual pages, completion (args.h). */
#include "tools/args_internal.h"

#include <stdio.h>

/* The default in force when the option is not typed, as the user would type it; NULL: none. */
static const char *default_of(const kd_cmd *cmd, size_t i)
{
    const kd_common_row *row = &kd_common_rows[i];
    const bool recipe = (cmd->common & (KD_COMMON_CONFIG | KD_COMMON_SET)) != 0;
    return row->key != NULL && recipe ? "the recipe's" : row->arg.fallback;
}

/* Calls `each` for the command's own options, then for the common ones it takes. */
typedef void (*option_fn)(const kd_cmd *cmd, const kd_arg *a, const char *fallback);

static void own_options(const kd_cmd *cmd, option_fn each)
{
    for (size_t i = 0; i < cmd->arg_count; i++) {
        each(cmd, &cmd->args[i], cmd->args[i].fallback);
    }
}

static void common_options(const kd_cmd *cmd, option_fn each)
{
    for (size_t i = 0; i < KD_COMMON_COUNT; i++) {
        if (kdi_takes(cmd, i)) {
            each(cmd, &kd_common_rows[i].arg, default_of(cmd, i));
        }
    }
}

static const char *value_of(const kd_arg *a)
{
    return a->type == KD_ARG_CHOICE ? a->choices : a->meta;
}

/* ---- --help ---------------------------------------------------------------------------------- */

static void help_row(const kd_cmd *cmd, const kd_arg *a, const char *fallback)
{
    (void)cmd;
    char left[96];
    const char *value = value_of(a);
    (void)snprintf(left, sizeof left, "--%s%s%s", a->name, value != NULL ? " " : "", value != NULL ? value : "");
    if (strlen(left) <= 28) {
        (void)printf("  %-28s %s", left, a->help);
    } else {
        (void)printf("  %s\n  %28s %s", left, "", a->help);
    }
    if (fallback != NULL) {
        (void)printf(" [%s]", fallback);
    }
    (void)putchar('\n');
}

/* Each line of the examples behind `before`. */
static void print_examples(const char *text, const char *before)
{
    while (text != NULL && *text != '\0') {
        const size_t n = strcspn(text, "\n");
        (void)printf("%s%.*s\n", before, (int)n, text);
        text += n + (text[n] == '\n');
    }
}

void kdi_print_help(const kd_cmd *cmd)
{
    (void)printf("usage: %s [options]%s%s\n\n%s\n", cmd->name, cmd->operands != NULL ? " " : "",
                 cmd->operands != NULL ? cmd->operands : "", cmd->about);
    if (cmd->arg_count > 0) {
        (void)printf("\noptions [default]:\n");
        own_options(cmd, help_row);
    }
    (void)printf("\ncommon options:\n");
    common_options(cmd, help_row);
    (void)printf("  %-28s %s\n", "-h, --help", "this text");
    if (cmd->notes != NULL) {
        (void)printf("\n%s\n", cmd->notes);
    }
    if (cmd->examples != NULL) {
        (void)printf("\nexamples:\n");
        print_examples(cmd->examples, "  ");
    }
}

/* ---- manual pages ---------------------------------------------------------------------------- */

/* Text for troff: nothing in it is a command. */
static void man_text(const char *s)
{
    bool start = true;
    for (; *s != '\0'; s++) {
        if (start && (*s == '.' || *s == '\'')) {
            (void)fputs("\\&", stdout);
        }
        if (*s == '\\') {
            (void)fputs("\\e", stdout);
        } else if (*s == '-') {
            (void)fputs("\\-", stdout);
        } else {
            (void)putchar(*s);
        }
        start = *s == '\n';
    }
}

static void man_row(const kd_cmd *cmd, const kd_arg *a, const char *fallback)
{
    (void)cmd;
    (void)printf(".TP\n\\fB\\-\\-");
    man_text(a->name);
    (void)printf("\\fR");
    if (value_of(a) != NULL) {
        (void)printf(" \\fI");
        man_text(value_of(a));
        (void)printf("\\fR");
    }
    (void)putchar('\n');
    man_text(a->help);
    if (fallback != NULL) {
        (void)printf(" [");
        man_text(fallback);
        (void)putchar(']');
    }
    (void)putchar('\n');
}

static void man_cmd(const kd_cmd *cmd)
{
    (void)printf(".SS \"");
    man_text(cmd->name);
    (void)printf(" [options]%s", cmd->operands != NULL ? " " : "");
    man_text(cmd->operands != NULL ? cmd->operands : "");
    (void)printf("\"\n");
    man_text(cmd->about);
    (void)putchar('\n');
    own_options(cmd, man_row);
    common_options(cmd, man_row);
    if (cmd->notes != NULL) {
        (void)printf(".PP\n.nf\n");
        man_text(cmd->notes);
        (void)printf("\n.fi\n");
    }
    if (cmd->examples != NULL) {
        (void)printf(".PP\n.nf\n");
        man_text(cmd->examples);
        (void)printf("\n.fi\n");
    }
}

static void man_head(const char *name, const char *about)
{
    (void)printf(".\\\" Made from the option tables of the program: %s --describe=man\n", name);
    (void)printf(".TH %s 1 \"\" lastkd lastkd\n.SH NAME\n%s \\- ", name, name);
    man_text(about);
    (void)printf("\n.SH SYNOPSIS\n.B %s\nCOMMAND [options]\n.br\n.B %s\nCOMMAND \\-\\-help\n.SH COMMANDS\n", name,
                 name);
}

/* ---- completion for bash --------------------------------------------------------------------- */

/* _PROGRAM_words "COMMAND" prints what may follow it, _PROGRAM_words "COMMAND --option" the values of the option; it
 * fails for a line that is neither.  No words: a free value, which bash completes as a file. */
static const char BASH_HEAD[] =
    "# Completion for bash, made from the option tables of the program: %s --describe=bash\n"
    "_%s_words() {\n"
    "    case $1 in\n";

static const char BASH_TAIL[] =
    "    *) return 1 ;;\n"
    "    esac\n"
    "}\n"
    "_%s_complete() {\n"
    "    local at=%s word words i\n"
    "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
    "        word=${COMP_WORDS[i]}\n"
    "        _%s_words \"$at $word\" >/dev/null && [[ $word != -* ]] && at=\"$at $word\"\n"
    "    done\n"
    "    words=$(_%s_words \"$at ${COMP_WORDS[COMP_CWORD - 1]}\") || words=$(_%s_words \"$at\")\n"
    "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\")\n"
    "}\n"
    "complete -o default -F _%s_complete %s\n";

static void bash_name(const kd_cmd *cmd, const kd_arg *a, const char *fallback)
{
    (void)cmd;
    (void)fallback;
    (void)printf("--%s ", a->name);
}

static void bash_values(const kd_cmd *cmd, const kd_arg *a, const char *fallback)
{
    (void)fallback;
    if (a->type == KD_ARG_FLAG) {
        return;
    }
    (void)printf("    '%s --%s') ", cmd->name, a->name);
    if (a->type == KD_ARG_CHOICE) {
        (void)printf("echo '");
        for (const char *c = a->choices; *c != '\0'; c++) {
            (void)putchar(*c == '|' ? ' ' : *c);
        }
        (void)printf("' ");
    }
    (void)printf(";;\n");
}

static void bash_cmd(const kd_cmd *cmd)
{
    (void)printf("    '%s') echo '", cmd->name);
    own_options(cmd, bash_name);
    common_options(cmd, bash_name);
    (void)printf("--help' ;;\n");
    own_options(cmd, bash_values);
    common_options(cmd, bash_values);
}

/* ---- --describe ------------------------------------------------------------------------------ */

kdi_describe kdi_describe_mode(const char *word)
{
    return strcmp(word, "--describe=man") == 0     ? KDI_DESCRIBE_MAN
           : strcmp(word, "--describe=bash") == 0  ? KDI_DESCRIBE_BASH
           : strcmp(word, "--describe=parse") == 0 ? KDI_DESCRIBE_PARSE
                                                   : KDI_DESCRIBE_NOTHING;
}

void kdi_describe_cmd(const kd_cmd *cmd, kdi_describe what)
{
    if (what == KDI_DESCRIBE_MAN) {
        man_cmd(cmd);
    } else {
        bash_cmd(cmd);
    }
}

int kdi_describe_verbs(const char *name, const char *about, const kd_verb *verbs, kdi_describe what)
{
    static char mode[2][16] = {"--describe=man", "--describe=bash"};
    const bool program = strchr(name, ' ') == NULL, man = what == KDI_DESCRIBE_MAN;
    if (program && man) {
        man_head(name, about);
    } else if (program) {
        (void)printf(BASH_HEAD, name, name);
    }
    if (!man) {
        (void)printf("    '%s') echo '", name);
        for (size_t i = 0; verbs[i].name != NULL; i++) {
            (void)printf("%s ", verbs[i].name);
        }
        (void)printf("--help%s' ;;\n", program ? " --version" : "");
    }
    for (size_t i = 0; verbs[i].name != NULL; i++) {
        char verb[32];
        (void)snprintf(verb, sizeof verb, "%s", verbs[i].name);
        char *argv[] = {verb, mode[man ? 0 : 1], NULL};
        const int rc = verbs[i].run(2, argv);
        if (rc != 0) {
            return rc;
        }
    }
    if (program && !man) {
        (void)printf(BASH_TAIL, name, name, name, name, name, name, name);
    }
    return 0;
}
