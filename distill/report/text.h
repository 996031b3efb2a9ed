/* Text that grows: pages, tables.  A failed allocation marks the text; kd_text_write then gives KD_E_OOM, so nothing
 * has to be checked in between. */
#ifndef KD_DISTILL_REPORT_TEXT_H
#define KD_DISTILL_REPORT_TEXT_H

#include "kernels/kd_base.h"

typedef struct kd_text {
    char *data; /* NUL-terminated once something was added */
    size_t len, cap;
    bool failed;
} kd_text;

void kd_text_add(kd_text *t, const char *s);
void kd_text_f(kd_text *t, const char *fmt, ...) KD_PRINTF(2, 3); /* at most 4095 bytes a call */
void kd_text_html(kd_text *t, const char *s); /* escaped for element content and quoted attributes; NULL adds nothing */
void kd_text_csv(kd_text *t, const char *s); /* one field: quoted, "" inside; a leading =, +, -, @ gets a ' before it */
void kd_text_md(kd_text *t, const char *s);  /* one table cell of Markdown: no markup, no line ends */
KD_NODISCARD kd_status kd_text_write(const kd_text *t, const char *path, kd_err *err); /* atomic */
void kd_text_free(kd_text *t);

#endif
