/* teacher: the video model. */
#include "tools/commands/commands.h"
#include "tools/process/process.h"
#include "tools/process/threads.h"

int main(int argc, char **argv)
{
    kd_threads_sleep(argv);
    kd_process_begin("teacher");
    static const kd_verb VERBS[] = {
        {"finetune", kd_cmd_finetune, "fine-tune from a checkpoint or from scratch; writes a run directory"},
        {"eval", kd_cmd_teacher_eval, "multi-view test; writes a report"},
        {"dump-logits", kd_cmd_teacher_dump_logits,
         "run the teacher over a data set, write the logit store; resumable"},
        {"predict", kd_cmd_teacher_predict, "top-k classes of videos"},
        {NULL, NULL, NULL},
    };
    return kd_process_end(
        kd_dispatch("teacher", "The video teacher (VideoMAE): fine-tune, evaluate, dump logits.", VERBS, argc, argv));
}
