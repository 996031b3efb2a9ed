/* What every training and evaluation command opens: the resolved config, the device, progress. */
#ifndef KD_TOOLS_SESSION_H
#define KD_TOOLS_SESSION_H

#include "configs/schema/kd_config.h"
#include "kernels/kd_backend.h"
#include "tools/progress.h"

typedef struct kd_session {
    kd_config *cfg;
    kd_backend *be;
    kd_ticker ticker;
    kd_progress progress;
    char command[1024]; /* as typed */
} kd_session;

enum { KD_SESSION_SETS = KD_ARG_LIST_MAX + 16 };

/* The common options as `--set` texts, after the user's own ones; plus `extra` ("kd.store=..."), which win. */
typedef struct kd_sets {
    const char *text[KD_SESSION_SETS];
    size_t n;
    char *owned[KD_SESSION_SETS];
    size_t n_owned;
} kd_sets;

/* batch_key: what --batch-size means: "train.batch_size", or "eval.batch_size" where nothing is trained. */
KD_NODISCARD kd_status kd_sets_make(const kd_common *c, const char *batch_key, kd_sets *out, kd_err *err);
/* Add "path='value'" (quoted for YAML); value NULL: nothing. */
KD_NODISCARD kd_status kd_sets_add(kd_sets *s, const char *path, const char *value, kd_err *err);
void kd_sets_free(kd_sets *s);

/* Config: `config` (may be NULL) with the sets; when it is NULL and `weights` is not, the recipe that lies with the
 * weights. Then the device the config asks for, said in one line. */
KD_NODISCARD kd_status kd_session_open(const kd_common *c, const char *config, const char *weights, const kd_sets *sets,
                                       int argc, char **argv, const char *program, kd_session *out, kd_err *err);
void kd_session_close(kd_session *s); /* zeroed is legal */

#endif
