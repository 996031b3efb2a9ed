/* Shared by report.c (writing) and report_read.c. */
#ifndef KD_DISTILL_REPORT_REPORT_INTERNAL_H
#define KD_DISTILL_REPORT_REPORT_INTERNAL_H

#include "distill/report/report.h"

#define REPORT_FORMAT "lastkd report"

KD_NODISCARD kd_status kdi_report_hash_ids(kd_report *r, kd_err *err); /* also refuses duplicate ids */
KD_NODISCARD kd_status kdi_report_measure(kd_report *r, kd_err *err);

#endif
