/* The runs of a plan on disk: what is done, what is to be done, doing it.  Files of a study in its folder:
 *
 *     runs/CELL/[FOLD/]seed-N/       a run directory each
 *     recipes/CELL/[FOLD/]seed-N.yaml  its resolved recipe
 *     logs/CELL/[FOLD/]seed-N.log    what the run said
 *     pooled/CELL/seed-N.json        with folds: the report of all folds of a seed
 *     times.jsonl                    processor time of every finished run
 *     sweep.{json,csv,md,html}       the findings
 *     lock */
#ifndef KD_TOOLS_STUDY_SWEEP_H
#define KD_TOOLS_STUDY_SWEEP_H

#include "distill/study/plan.h"
#include "distill/train/train.h"
#include "tools/args.h"

typedef enum kd_sweep_state {
    KD_SWEEP_OPEN,   /* no report: not begun, or to be resumed */
    KD_SWEEP_DONE,   /* its report was made by this recipe, seed and stores */
    KD_SWEEP_OTHER,  /* what lies there is of another recipe: `why` */
    KD_SWEEP_FAILED, /* by this command: `why` */
    KD_SWEEP_STOPPED
} kd_sweep_state;

typedef struct kd_sweep_run {
    kd_plan_run at;
    char *path; /* "CELL/FOLD/seed-N" */
    kd_sweep_state state;
    char why[640]; /* a message of kd_err and the name of the program fit */
    double cpu;    /* processor seconds of a run that is done; 0: not known */
} kd_sweep_run;

typedef struct kd_sweep {
    const kd_plan *plan;
    const char *out;
    kd_sweep_run *run;
    int n, done;
    int jobs, cores;
    bool force, json, quiet, reports_only;
} kd_sweep;

/* Paths in the study's folder (kd_free); NULL: out of memory. */
char *kd_sweep_path(const kd_sweep *s, const char *folder, const char *path, const char *ending);

/* Check every run of the plan as `distill train --dry-run` does (runs that differ in their seed alone once) and find
 * out the state of every run.  What would end a run before its first step, a mistake in a recipe, missing data, a store
 * of other data, is refused here, before another run has trained.  kd_sweep_close ends it, after a failure too. */
KD_NODISCARD kd_status kd_sweep_look(kd_sweep *s, const kd_common *c, kd_err *err);
void kd_sweep_close(kd_sweep *s);

/* A dry run of a recipe on one thread, silent; `measure`: with the forecast's steps. */
KD_NODISCARD kd_status kd_sweep_try(const kd_common *c, const kd_config *cfg, bool measure, kd_train_result *r,
                                    kd_err *err);

/* What is to be done and the processor hours it takes: of cells with a finished run by its time, of the others by a few
 * steps of each kind of run on `cores` processors. */
KD_NODISCARD kd_status kd_sweep_forecast(kd_sweep *s, const kd_common *c, kd_err *err);

/* Do what is open, `jobs` runs at once, each a process of this program.  A run that fails is named and the others go
 * on; their number is *failed.  KD_E_CANCELLED: asked to stop, all runs have saved their state. */
KD_NODISCARD kd_status kd_sweep_work(kd_sweep *s, int *failed, kd_err *err);

#endif
