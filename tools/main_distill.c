/* distill: the skeleton student and what it learns from the teacher. */
#include "tools/commands.h"

int main(int argc, char **argv)
{
    static const kd_verb VERBS[] = {
        {"compare", cmd_compare, "the teacher-versus-student report: HTML, Markdown, JSON, CSV"},
        {NULL, NULL, NULL},
    };
    return kd_dispatch(
        "distill",
        "The skeleton student (LAST family): train with a teacher's logits, evaluate, "
        "compare.",
        VERBS, argc, argv);
}
