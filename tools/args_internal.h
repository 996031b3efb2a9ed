/* What the files of the command line share: args.c parses, help.c shows, verbs.c finds the command. */
#ifndef KD_TOOLS_ARGS_INTERNAL_H
#define KD_TOOLS_ARGS_INTERNAL_H

#include "tools/args.h"

/* Whether the command takes the common option of row i. */
static inline bool kdi_takes(const kd_cmd *cmd, size_t i)
{
    const uint32_t always = KD_COMMON_DEBUG | KD_COMMON_QUIET | KD_COMMON_VERBOSE;
    return ((cmd->common | always) & (1u << i)) != 0;
}

/* What to write here for an option of VideoMAE, MMAction2 or Hugging Face (foreign.inc); NULL: it is none of theirs.
 * name: without dashes. */
const char *kdi_foreign_option(const char *name);

void kdi_print_help(const kd_cmd *cmd);

/* The hidden option --describe=man|bash|parse (args.h). */
typedef enum kdi_describe {
    KDI_DESCRIBE_NOTHING, /* another word */
    KDI_DESCRIBE_MAN,
    KDI_DESCRIBE_BASH,
    KDI_DESCRIBE_PARSE
} kdi_describe;

kdi_describe kdi_describe_mode(const char *word);

/* On stdout: one command; a program's verbs with all that is below them. */
void kdi_describe_cmd(const kd_cmd *cmd, kdi_describe what);
int kdi_describe_verbs(const char *name, const char *about, const kd_verb *verbs, kdi_describe what);

#endif
