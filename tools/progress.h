/* The listener of distill/run/progress.h: a live bar on a terminal, a line every ten seconds elsewhere, one JSON
 * object a line with --json, nothing but the end with -q.  Bars and lines go to stderr, JSON to stdout.  NO_COLOR and
 * TERM=dumb are honoured. */
#ifndef KD_TOOLS_PROGRESS_H
#define KD_TOOLS_PROGRESS_H

#include "distill/run/progress.h"
#include "tools/args.h"

typedef struct kd_ticker {
    bool json, quiet, tty, color, open;
    char phase[64], unit[16];
    uint64_t first, done, total;
    uint64_t whole_first, whole_before, whole_total; /* of all phases; before: what phases before this one did */
    double loss, started, shown, whole_started;
    unsigned drawn; /* columns of the bar on the terminal */
} kd_ticker;

/* Fills *ticker from the common options and returns an interface that points at it; from now on
 * the work asks whether it shall stop or save (process.h).  The ticker must outlive the interface. */
kd_progress kd_ticker_start(kd_ticker *ticker, const kd_common *common);

#endif
