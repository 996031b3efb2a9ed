/* kd: the tool belt. */
#include "tools/commands/commands.h"

int main(int argc, char **argv)
{
    static const kd_verb VERBS[] = {
        {"dataset", cmd_dataset, "make, list, check, split and draw data sets"},
        {"logits", cmd_logits, "describe, check, merge and export logit stores"},
        {"config", cmd_config, "check and show configurations"},
        {"doctor", cmd_doctor, "what this machine can do, what is missing, measured speed of each path"},
        {"parity", cmd_parity, "run fixtures of the references and compare with their golden values"},
        {"weights", cmd_weights, "describe, convert and compare weights"},
        {"model", cmd_model, "parameters, multiply-adds, program listing"},
        {"bench", cmd_bench, "measured speed of kernels, models, decoding and the store"},
        {"demo", cmd_demo, "the whole path on the sample data set, ending in the HTML report"},
        {NULL, NULL, NULL},
    };
    return kd_dispatch("kd", "lastkd's tool belt: data sets, weights, logit stores, checks.", VERBS, argc, argv);
}
