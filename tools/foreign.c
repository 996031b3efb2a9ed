/* Options of other programs: see args_internal.h. */
#include "tools/args_internal.h"

typedef struct row {
    const char *names, *ours;
} row;

static const row ROWS[] = {
#define F(names, ours) {names, ours},
#include "tools/foreign.inc"
};

/* Is `name`, '-' and '_' alike, one of the words of `names`? */
static bool is_among(const char *name, const char *names)
{
    while (*names != '\0') {
        const size_t n = strcspn(names, " ");
        size_t i = 0;
        while (i < n && (name[i] == names[i] || (name[i] == '-' && names[i] == '_'))) {
            i++;
        }
        if (i == n && name[n] == '\0') {
            return true;
        }
        names += n + (names[n] == ' ');
    }
    return false;
}

const char *kdi_foreign_option(const char *name)
{
    for (size_t i = 0; i < KD_COUNTOF(ROWS); i++) {
        if (is_among(name, ROWS[i].names)) {
            return ROWS[i].ours;
        }
    }
    return NULL;
}
