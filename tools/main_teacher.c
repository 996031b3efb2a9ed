/* teacher: the video model. */
#include "tools/commands.h"

int main(int argc, char **argv)
{
    static const kd_verb VERBS[] = {
        {NULL, NULL, NULL},
    };
    return kd_dispatch("teacher", "The video teacher (VideoMAE): fine-tune, evaluate, dump logits.",
                       VERBS, argc, argv);
}
