/* Lines of a text that people and other programs write: lists, class names, quarantine.tsv.
 *
 * A UTF-8 byte order mark is skipped; lines end with LF, CRLF or CR; blanks at both ends of a line are cut off, tabs
 * with them.  A UTF-16 text and a zero byte are refused by name.
 */
#ifndef KD_FORMATS_DATA_LISTS_LINES_H
#define KD_FORMATS_DATA_LISTS_LINES_H

#include "kernels/kd_base.h"

#define KD_LINES_SHOWN 80 /* bytes of a line that a message shows at most */

typedef struct kd_lines {
    const char *p, *end;
    size_t number;  /* of the current line, from 1 */
    bool blank_end; /* blanks were cut off at its end */
} kd_lines;

/* KD_E_FORMAT: the text is none.  `name` is only for messages. */
KD_NODISCARD kd_status kd_lines_open(const char *text, size_t bytes, const char *name, kd_lines *out, kd_err *err);

/* The next line, which may be empty; false past the last. */
bool kd_lines_next(kd_lines *s, const char **line, size_t *len);

/* Fail at the current line: "name:line: ...". */
#define KD_FAIL_LINE(err, code, name, line, ...) \
    (kd_err_prefix((err), KD_FAIL((err), (code), __VA_ARGS__), "%s:%zu", (name), (size_t)(line)))

#endif
