/* Latency of the models of a comparison, measured in one go. */
#ifndef KD_TOOLS_COMMANDS_COMPARE_LATENCY_H
#define KD_TOOLS_COMMANDS_COMPARE_LATENCY_H

#include "distill/report/compare.h"
#include "tools/device.h"

/* Fills c->latency and the groups' latencies: one network a group, built from the recipe in the report of its typical
 * run with weights drawn anew (time does not depend on their values), one sample and view a pass, all networks by
 * turns, 10 to 200 passes each, ending after half a minute.  KD_E_DATA: a report whose recipe is missing or builds
 * another network than the one reported. */
KD_NODISCARD kd_status kd_compare_latency(kd_comparison *c, const kd_device_opts *device, kd_err *err);

#endif
