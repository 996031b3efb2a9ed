/* kd dataset: make, list, check, split and draw data sets. */
#include "tools/commands/commands.h"

int kd_cmd_dataset(int argc, char **argv)
{
    static const kd_verb VERBS[] = {
        {"sample", kd_cmd_dataset_sample, "make the synthetic NTU-shaped sample data set"},
        {"scan", kd_cmd_dataset_scan, "list a data folder and pair videos with skeletons"},
        {"check", kd_cmd_dataset_check, "decode and parse everything, name what is damaged"},
        {"annotate", kd_cmd_dataset_annotate, "write the split lists train.csv and val.csv"},
        {"pack", kd_cmd_dataset_pack, "transcode the videos to a small fast cache"},
        {"render", kd_cmd_dataset_render, "draw .skeleton files as videos"},
        {NULL, NULL, NULL},
    };
    return kd_dispatch("kd dataset", "Make, list, check, split and draw data sets.", VERBS, argc, argv);
}
