/* kd dataset: make, list, check, split and draw data sets. */
#include "tools/commands/commands.h"

int cmd_dataset(int argc, char **argv)
{
    static const kd_verb VERBS[] = {
        {"sample", cmd_dataset_sample, "make the synthetic NTU-shaped sample data set"},
        {"scan", cmd_dataset_scan, "list a data folder and pair videos with skeletons"},
        {"check", cmd_dataset_check, "decode and parse everything, name what is damaged"},
        {"annotate", cmd_dataset_annotate, "write the split lists train.csv and val.csv"},
        {"render", cmd_dataset_render, "draw .skeleton files as videos"},
        {NULL, NULL, NULL},
    };
    return kd_dispatch("kd dataset", "Make, list, check, split and draw data sets.", VERBS, argc, argv);
}
