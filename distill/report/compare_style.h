/* What the pages have in common: head, style sheet for light and dark, end. */
#ifndef KD_DISTILL_REPORT_COMPARE_STYLE_H
#define KD_DISTILL_REPORT_COMPARE_STYLE_H

#include "distill/report/text.h"

/* Everything up to the link that skips to the element `figures`; `title` and `subject` become "title: subject". */
void kd_page_begin(kd_text *t, const char *title, const char *subject, const char *figures);
/* From the end of <main> on. */
void kd_page_end(kd_text *t);

#endif
