/* kd dataset: make, list, check, split and draw data sets. */
#include "tools/commands.h"

int cmd_dataset(int argc, char **argv)
{
    static const kd_verb VERBS[] = {
        {"sample", cmd_dataset_sample, "make the synthetic NTU-shaped sample data set"},
        {"render", cmd_dataset_render, "draw .skeleton files as videos"},
        {NULL, NULL, NULL},
    };
    return kd_dispatch("kd dataset", "Make, list, check, split and draw data sets.", VERBS, argc,
                       argv);
}
