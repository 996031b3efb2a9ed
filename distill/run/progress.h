/* How long work reports where it stands, without knowing who listens.
 *
 * distill/ calls these; tools/progress.c implements them (a bar on a terminal, a line every ten seconds elsewhere, JSON
 * lines with --json).  Every call is cheap (the listener limits its own rate) and safe with a NULL interface.  One
 * thread calls at a time.
 *
 *     kd_progress_whole(p, 2 * total, 40 * total);            // phases that are parts of one run, for its forecast
 *     kd_progress_begin(p, "epoch 3/40", "clips", 0, total);
 *     for (...) {
 *         kd_progress_step(p, done, loss);
 *         if (kd_progress_stop(p)) { ... save state ...; return KD_E_CANCELLED; }
 *     }
 *     kd_progress_end(p, "top-1 81.2 %");
 */
#ifndef KD_DISTILL_RUN_PROGRESS_H
#define KD_DISTILL_RUN_PROGRESS_H

#include "kernels/kd_base.h"

#include <math.h>

typedef struct kd_progress {
    void *user;
    /* A phase starts: what is done (one or two words), the unit counted, how many in all (0: unknown).  The strings are
     * copied. `first` of them are already done (a resumed run); they do not count for the rate. */
    void (*begin)(void *user, const char *phase, const char *unit, uint64_t first, uint64_t total);
    /* `done` so far, `loss` the present loss or NAN where there is none. */
    void (*step)(void *user, uint64_t done, double loss);
    /* The phase ends; `summary` may be NULL. */
    void (*end)(void *user, const char *summary);
    /* A record for the log that is worth a line of its own ("checkpoint written to ..."). */
    void (*note)(void *user, const char *text);
    /* The phases that follow are parts of a whole of `total` units, of which `first` are done: time between phases then
     * counts for the forecast of the whole. */
    void (*whole)(void *user, uint64_t first, uint64_t total);
    /* True once the user asked to stop (Ctrl-C, SIGTERM): save and return KD_E_CANCELLED. */
    bool (*stop)(void *user);
    /* True once for each time the user asked for a checkpoint (SIGUSR2): save and go on. */
    bool (*save)(void *user);
} kd_progress;

static inline void kd_progress_begin(const kd_progress *p, const char *phase, const char *unit, uint64_t first,
                                     uint64_t total)
{
    if (p != NULL && p->begin != NULL) {
        p->begin(p->user, phase, unit, first, total);
    }
}

static inline void kd_progress_step(const kd_progress *p, uint64_t done, double loss)
{
    if (p != NULL && p->step != NULL) {
        p->step(p->user, done, loss);
    }
}

static inline void kd_progress_end(const kd_progress *p, const char *summary)
{
    if (p != NULL && p->end != NULL) {
        p->end(p->user, summary);
    }
}

static inline void kd_progress_note(const kd_progress *p, const char *text)
{
    if (p != NULL && p->note != NULL) {
        p->note(p->user, text);
    }
}

static inline void kd_progress_whole(const kd_progress *p, uint64_t first, uint64_t total)
{
    if (p != NULL && p->whole != NULL) {
        p->whole(p->user, first, total);
    }
}

static inline bool kd_progress_stop(const kd_progress *p)
{
    return p != NULL && p->stop != NULL && p->stop(p->user);
}

static inline bool kd_progress_save(const kd_progress *p)
{
    return p != NULL && p->save != NULL && p->save(p->user);
}

#endif
