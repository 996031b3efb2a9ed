/* Inside the comparison's page: its sections, each appended to the text. */
#ifndef KD_DISTILL_REPORT_COMPARE_HTML_H
#define KD_DISTILL_REPORT_COMPARE_HTML_H

#include "distill/report/compare_internal.h"
#include "distill/report/svg.h"
#include "distill/report/text.h"

/* "<section id=...><h2>...</h2>"; the caller closes it. */
static inline void kdi_html_section(kd_text *t, const char *id, const char *title)
{
    kd_text_f(t, "<section id=\"%s\"><h2>%s</h2>\n", id, title);
}

/* An interval in per cent. */
static inline kd_interval kdi_html_percent(const kd_interval *v)
{
    const kd_interval p = {100.0 * v->mean, 100.0 * v->low, 100.0 * v->high};
    return p;
}

KD_NODISCARD kd_status kdi_html_people(kd_text *t, const kd_comparison *c, kd_err *err);
KD_NODISCARD kd_status kdi_html_curves(kd_text *t, const kd_comparison *c, kd_err *err);
void kdi_html_agreement(kd_text *t, const kd_comparison *c);
KD_NODISCARD kd_status kdi_html_errors(kd_text *t, const kd_comparison *c, kd_err *err);
void kdi_html_calibration(kd_text *t, const kd_comparison *c);
void kdi_html_size(kd_text *t, const kd_comparison *c);
KD_NODISCARD kd_status kdi_html_confusion(kd_text *t, const kd_comparison *c, kd_err *err);
void kdi_html_provenance(kd_text *t, const kd_comparison *c);

#endif
