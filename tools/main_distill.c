/* distill: the skeleton student and what it learns from the teacher. */
#include "tools/commands/commands.h"
#include "tools/process/process.h"
#include "tools/process/threads.h"

int main(int argc, char **argv)
{
    kd_threads_sleep(argv);
    kd_process_begin("distill");
    static const kd_verb VERBS[] = {
        {"train", kd_cmd_distill_train, "train a student with cross-entropy and distillation"},
        {"eval", kd_cmd_distill_eval, "evaluate a student; writes a report"},
        {"dump-logits", kd_cmd_distill_dump_logits, "a student's logits of a data set, so that it can teach"},
        {"compare", kd_cmd_compare, "the teacher-versus-student report: HTML, Markdown, JSON, CSV"},
        {"export", kd_cmd_export, "a student as .pth, safetensors or ONNX, in eight bits too"},
        {"fuse", kd_cmd_distill_fuse, "score fusion: several reports to one"},
        {"sweep", kd_cmd_distill_sweep, "a study: students x losses x seeds, one paired table"},
        {"predict", kd_cmd_distill_predict, "top-k classes of skeleton sequences"},
        {NULL, NULL, NULL},
    };
    return kd_process_end(kd_dispatch("distill",
                                      "The skeleton student (LAST family): train with a teacher's logits, evaluate, "
                                      "compare.",
                                      VERBS, argc, argv));
}
