/* What every training and evaluation command opens: the resolved config, its task, the device, progress. */
#ifndef KD_TOOLS_SESSION_H
#define KD_TOOLS_SESSION_H

#include "distill/task/tasks.h"
#include "kernels/kd_backend.h"
#include "tools/process/out.h"
#include "tools/progress.h"

typedef struct kd_session {
    kd_config *cfg;
    const kd_task *task;
    kd_backend *be;
    kd_ticker ticker;
    kd_progress progress;
} kd_session;

enum { KD_SESSION_SETS = KD_ARG_LIST_MAX + KD_COMMON_COUNT + 8 };

/* What overrides the recipe, as `--set` texts: the user's own ones, then the common options that were typed, then what
 * the command adds ("kd.store=..."), each winning over those before. */
typedef struct kd_sets {
    const char *text[KD_SESSION_SETS];
    size_t n;
    char *owned[KD_SESSION_SETS];
    size_t n_owned;
} kd_sets;

/* section: what the command works with, "train", or "eval" where nothing is trained; --batch-size belongs to it.
 * kd_sets_free ends `out`, after an error too. */
KD_NODISCARD kd_status kd_sets_make(const kd_common *c, const char *section, kd_sets *out, kd_err *err);
/* Add "key='value'" (quoted for YAML), or a list of values; value NULL, or an empty list: nothing. */
KD_NODISCARD kd_status kd_sets_add(kd_sets *s, const char *key, const char *value, kd_err *err);
KD_NODISCARD kd_status kd_sets_add_list(kd_sets *s, const char *key, const kd_arg_list *value, kd_err *err);
KD_NODISCARD kd_status kd_sets_add_int(kd_sets *s, const char *key, int64_t value, kd_err *err);
KD_NODISCARD kd_status kd_sets_add_bool(kd_sets *s, const char *key, bool value, kd_err *err);
void kd_sets_free(kd_sets *s); /* zeroed is legal */

/* --views: "5x3" (clips x crops), or "5x3x2" with each mirrored too.  KD_E_ARG names these and what is `also` legal
 * (", or train:N", or ""). */
KD_NODISCARD kd_status kd_read_views(const char *text, const char *also, int *clips, int *crops, bool *flips,
                                     kd_err *err);

/* What --weights means to a command. */
typedef enum kd_weights_use {
    KD_WEIGHTS_START, /* training starts from them; the recipe is --config's */
    KD_WEIGHTS_MODEL  /* the model itself: without --config the recipe is the one that lies with them */
} kd_weights_use;

/* Config: that of `c` and the weights (may be NULL), with the sets.  KD_E_CONFIG when its task belongs to another
 * program than `program` (NULL: any).  Then the device the config asks for, said in one line. */
KD_NODISCARD kd_status kd_session_open(const kd_common *c, const char *program, const char *weights, kd_weights_use use,
                                       kd_sets *sets, kd_session *out, kd_err *err);
/* What a command with this session and these weights (may be NULL) reads, and how its --out is meant. */
void kd_session_out(const kd_session *s, const kd_common *c, const char *weights, kd_out *out);
void kd_session_close(kd_session *s); /* zeroed is legal */

#endif
