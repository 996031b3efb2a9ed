/* The plan of a study: one YAML file that names recipes, what varies, and the seeds.
 *
 *     name: students of JHMDB
 *     base: [../student/last-e3-nano.yaml, ../distill/ce.yaml]   # recipes, relative to the plan
 *     recipe: {data.root: jhmdb, train.epochs: 30}               # keys of every run
 *     axes:
 *       student: {nano: {}, small: {base: ../student/last-e3-small.yaml}}
 *       loss:
 *         ce: {}
 *         ce+kd: {base: ../distill/ce_kd.yaml, kd.store: "rgb-<fold>.logits.zst", kd.weight: 0.5}
 *     folds: {f1: {data.split: {by: subject, train: [1, 2]}}, f2: {data.split: {by: subject, train: [3, 4]}}}
 *     seeds: [0, 1, 2, 3, 4]
 *     baseline: {loss: ce}
 *     exclude: [{student: small, loss: ce+kd}]
 *
 * A cell is one value of every axis; its runs are its folds x seeds.  A value, a fold and `recipe` are parts of a
 * recipe: recipes under `base`, and keys, dotted or nested.  Of a run's parts (recipe, the values in the order of the
 * axes, the fold) first all recipes are merged, then all keys are laid upon them, as --config and --set do; relative
 * paths among the keys mean what they mean there, a file in the present directory.  In texts of a part `<axis>`,
 * `<fold>` and `<seed>` stand for the value's name, the fold's and the seed.
 *
 * baseline: the value of some axes.  A cell is measured against the cell that has these values there and its own ones
 * elsewhere; a cell that has them is a baseline itself.  Without the key nothing is measured against anything. */
#ifndef KD_DISTILL_STUDY_PLAN_H
#define KD_DISTILL_STUDY_PLAN_H

#include "configs/schema/kd_config.h"

enum {
    KD_PLAN_NAME = 64,
    KD_PLAN_AXES = 8,
    KD_PLAN_VALUES = 64,
    KD_PLAN_BASES = 8,
    KD_PLAN_SETS = 24, /* keys of one part */
    KD_PLAN_SEEDS = 64,
    KD_PLAN_EXCLUDED = 64,
    KD_PLAN_CELLS = 256
};

/* A part of a recipe. */
typedef struct kd_plan_part {
    char name[KD_PLAN_NAME];
    char *base[KD_PLAN_BASES]; /* paths as the present directory takes them */
    int n_base;
    char *set[KD_PLAN_SETS]; /* "key=value" */
    int n_set;
} kd_plan_part;

typedef struct kd_plan_axis {
    char name[KD_PLAN_NAME];
    kd_plan_part value[KD_PLAN_VALUES];
    int n;
} kd_plan_axis;

/* Indices of values by axis; -1: any. */
typedef struct kd_plan_choice {
    int value[KD_PLAN_AXES];
} kd_plan_choice;

typedef struct kd_plan {
    char *path;
    char name[KD_PLAN_NAME];
    kd_plan_part recipe;
    kd_plan_axis axis[KD_PLAN_AXES];
    int n_axes;
    kd_plan_axis fold; /* n 0: none */
    int64_t seed[KD_PLAN_SEEDS];
    int n_seeds;
    bool has_baseline;
    kd_plan_choice baseline, exclude[KD_PLAN_EXCLUDED];
    int n_exclude;
    kd_plan_choice cell[KD_PLAN_CELLS]; /* those that are not excluded */
    int n_cells;
} kd_plan;

/* KD_E_CONFIG ("plan.yaml:3:7: axes.loss: ..."), KD_E_OOM.  *out (kd_plan_free) is NULL after a failure. */
KD_NODISCARD kd_status kd_plan_load(const char *path, kd_plan **out, kd_err *err);
void kd_plan_free(kd_plan *p); /* NULL is legal */

/* "small ce+kd": names reports and rows of tables. */
void kd_plan_label(const kd_plan *p, int cell, char out[KD_CFG_NAME]);
/* "small_ce+kd": names folders. */
void kd_plan_folder(const kd_plan *p, int cell, char out[KD_CFG_NAME]);
/* The cell that `cell` is measured against; `cell` itself where it is a baseline; -1: there is none, or it is
 * excluded. */
int kd_plan_baseline(const kd_plan *p, int cell);

/* One run: a cell, a fold (0 where the plan has none), the index of a seed. */
typedef struct kd_plan_run {
    int cell, fold, seed;
} kd_plan_run;

/* Runs of the plan; run i has all cells and folds of a seed before the next seed, so that an interrupted study has
 * whole pairs. */
int kd_plan_runs(const kd_plan *p);
kd_plan_run kd_plan_at(const kd_plan *p, int i);
/* "small_ce+kd/f1/seed-0": unique, a path below the study's folder. */
char *kd_plan_path(const kd_plan *p, kd_plan_run run);

/* The finished recipe of a run, named by its cell's label.  KD_E_CONFIG says which cell and why. */
KD_NODISCARD kd_status kd_plan_recipe(const kd_plan *p, kd_plan_run run, kd_config *out, kd_err *err);

#endif
