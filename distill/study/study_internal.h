/* Shared by study*.c. */
#ifndef KD_DISTILL_STUDY_STUDY_INTERNAL_H
#define KD_DISTILL_STUDY_STUDY_INTERNAL_H

#include "distill/report/text.h"
#include "distill/study/study.h"

/* How the intervals and tests were made. */
void kdi_study_about(const kd_study *s, kd_text *t);

KD_NODISCARD kd_status kdi_study_html(const kd_study *s, const char *path, kd_err *err);

#endif
