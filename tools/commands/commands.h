/* Every command of the three programs: `int kd_cmd_X(int argc, char **argv)`, argv[0] being the verb, the result the
 * process's exit code.  A file cmd_*.c has one command, or those of one noun or of one set of options; the root README
 * lists which command starts in which file. */
#ifndef KD_TOOLS_COMMANDS_COMMANDS_H
#define KD_TOOLS_COMMANDS_COMMANDS_H

#include "tools/args.h"

int kd_cmd_bench(int argc, char **argv);
int kd_cmd_compare(int argc, char **argv);
int kd_cmd_config(int argc, char **argv);
int kd_cmd_config_check(int argc, char **argv);
int kd_cmd_config_show(int argc, char **argv);
int kd_cmd_dataset(int argc, char **argv);
int kd_cmd_dataset_annotate(int argc, char **argv);
int kd_cmd_dataset_check(int argc, char **argv);
int kd_cmd_dataset_pack(int argc, char **argv);
int kd_cmd_dataset_render(int argc, char **argv);
int kd_cmd_dataset_sample(int argc, char **argv);
int kd_cmd_dataset_scan(int argc, char **argv);
int kd_cmd_demo(int argc, char **argv);
int kd_cmd_distill_eval(int argc, char **argv);
int kd_cmd_distill_predict(int argc, char **argv);
int kd_cmd_distill_fuse(int argc, char **argv);
int kd_cmd_distill_sweep(int argc, char **argv);
int kd_cmd_distill_train(int argc, char **argv);
int kd_cmd_doctor(int argc, char **argv);
int kd_cmd_teacher_dump_logits(int argc, char **argv);
int kd_cmd_distill_dump_logits(int argc, char **argv);
int kd_cmd_export(int argc, char **argv);
int kd_cmd_finetune(int argc, char **argv);
int kd_cmd_logits(int argc, char **argv);
int kd_cmd_logits_export(int argc, char **argv);
int kd_cmd_logits_import(int argc, char **argv);
int kd_cmd_logits_info(int argc, char **argv);
int kd_cmd_logits_merge(int argc, char **argv);
int kd_cmd_logits_report(int argc, char **argv);
int kd_cmd_logits_verify(int argc, char **argv);
int kd_cmd_model(int argc, char **argv);
int kd_cmd_model_graph(int argc, char **argv);
int kd_cmd_model_info(int argc, char **argv);
int kd_cmd_parity(int argc, char **argv);
int kd_cmd_teacher_eval(int argc, char **argv);
int kd_cmd_teacher_predict(int argc, char **argv);
int kd_cmd_weights(int argc, char **argv);
int kd_cmd_weights_average(int argc, char **argv);
int kd_cmd_weights_convert(int argc, char **argv);
int kd_cmd_weights_zoo(int argc, char **argv);

#endif
