/* kd: the tool belt. */
#include "tools/commands/commands.h"
#include "tools/process/process.h"
#include "tools/process/threads.h"

int main(int argc, char **argv)
{
    kd_threads_sleep(argv);
    kd_process_begin("kd");
    static const kd_verb VERBS[] = {
        {"dataset", kd_cmd_dataset, "make, list, check, split and draw data sets"},
        {"logits", kd_cmd_logits, "describe, check, merge, export, import and report logit stores"},
        {"config", kd_cmd_config, "check and show configurations"},
        {"doctor", kd_cmd_doctor, "what this machine can do, what is missing, measured speed of each path"},
        {"parity", kd_cmd_parity, "run fixtures of the references and compare with their golden values"},
        {"weights", kd_cmd_weights, "describe, convert and compare weights"},
        {"model", kd_cmd_model, "parameters, multiply-adds, program listing"},
        {"bench", kd_cmd_bench, "measured speed of kernels, models, decoding and the store"},
        {"demo", kd_cmd_demo, "the whole path on the sample data set, ending in the HTML report"},
        {NULL, NULL, NULL},
    };
    return kd_process_end(
        kd_dispatch("kd", "lastkd's tool belt: data sets, weights, logit stores, checks.", VERBS, argc, argv));
}
