/* Inside the comparison's page: its style sheet, light and dark. */
#ifndef KD_DISTILL_REPORT_COMPARE_STYLE_H
#define KD_DISTILL_REPORT_COMPARE_STYLE_H

/* Several strings, as C promises room for 4095 characters in one. */
extern const char *const kdi_compare_style[];
extern const int kdi_compare_style_parts;

#endif
