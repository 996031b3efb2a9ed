/* kd dataset annotate: split lists from names. */
#include "configs/schema/kd_config.h"
#include "formats/base/io.h"
#include "formats/data/lists/listing.h"
#include "formats/data/scan.h"
#include "formats/data/sets/data_set.h"
#include "tools/commands/commands.h"
#include "tools/process/out.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct annotate_args {
    const char *split, *format;
    bool relative;
    bool with_missing;
} annotate_args;

static const kd_arg ARGS[] = {
    KD_OPT_STR(annotate_args, split, "split", "NAME|CONFIG", "ntu60-xsub",
               "a published split (another word lists them), or a config with a `data.split` of its own"),
    KD_OPT_STR(annotate_args, format, "format", "F", "auto",
               "list: `path label`, as VideoMAE and MMAction2 read; csv: quoted; auto: csv where a path holds blanks"),
    KD_OPT_FLAG(annotate_args, relative, "relative", "paths relative to --data, not absolute"),
    KD_OPT_FLAG(annotate_args, with_missing, "with-missing",
                "keep samples without a skeleton and those on the data set's list of missing skeletons"),
};

static const kd_cmd CMD = {
    .name = "kd dataset annotate",
    .about = "Writes train.csv and val.csv of a data folder with NTU names, one `path label` a line.",
    .args = ARGS,
    .arg_count = KD_COUNTOF(ARGS),
    .common = KD_COMMON_DATA | KD_COMMON_OUT | KD_COMMON_FORCE | KD_COMMON_JSON,
    .max_operands = 0,
    .notes = "The path is the video's, or the skeleton's where there is no video; the label is the "
             "action minus 1.\n"
             "`layout: list, split: list` in a recipe reads the lists back.  Every sample is accounted for:\n"
             "train + val + left out = listed.",
};

static kd_status split_of_config(const char *path, kd_split_opts *split, kd_err *err)
{
    kd_config *cfg = kd_calloc(1, sizeof *cfg);
    if (cfg == NULL) {
        return KD_FAIL(err, KD_E_OOM, "annotate: out of memory");
    }
    kd_status st = kd_config_load(&path, 1, NULL, 0, cfg, err);
    if (st == KD_OK && strcmp(cfg->data.split.by, KD_SPLIT_LIST) == 0) {
        st = KD_FAIL(err, KD_E_CONFIG, "%s: data.split.by: the split is a list already", path);
    }
    *split = cfg->data.split;
    kd_free(cfg);
    return st;
}

typedef struct annotation {
    kd_list_item *half[2]; /* train, val */
    size_t n[2];
    char **paths; /* one a scan item; owns */
    size_t n_paths;
    size_t no_name, no_skeleton, listed_missing, outside;
    int top_label[2];
} annotation;

/* `root` is what paths begin with: the absolute one of the data, or nothing. */
static kd_status sort_items(const kd_scan *scan, const char *root, const kd_split_opts *split, bool with_missing,
                            annotation *a, kd_err *err)
{
    for (size_t i = 0; i < scan->n; i++) {
        const kd_scan_item *it = &scan->item[i];
        if (it->set == NULL) {
            a->no_name++;
            continue;
        }
        if (!with_missing && it->skeleton == NULL && scan->counts.skeletons > 0) {
            a->no_skeleton++;
            continue;
        }
        if (!with_missing && it->set->missing != NULL && it->set->missing(&it->id)) {
            a->listed_missing++;
            continue;
        }
        const kd_split_side side = kd_split_side_of(split, it->key, &it->id);
        if (side == KD_SIDE_NONE) {
            a->outside++;
            continue;
        }
        char *path = kd_path_join(root, it->video != NULL ? it->video : it->skeleton);
        if (path == NULL) {
            return KD_FAIL(err, KD_E_OOM, "annotate: out of memory");
        }
        a->paths[a->n_paths++] = path;
        const int half = side == KD_SIDE_TRAIN ? 0 : 1;
        kd_list_item *out = &a->half[half][a->n[half]++];
        out->path = path;
        out->key = it->key;
        out->label = (int32_t)it->id.action - 1;
        out->frames = -1;
        a->top_label[half] = KD_MAX(a->top_label[half], (int)out->label);
    }
    return KD_OK;
}

/* The form of both lists: asked for, or what all paths allow. */
static kd_list_shape shape_of(const char *format, const annotation *a)
{
    const bool quotes =
        kd_listing_shape(a->half[0], a->n[0]) == KD_LIST_CSV || kd_listing_shape(a->half[1], a->n[1]) == KD_LIST_CSV;
    if (quotes && strcmp(format, "auto") == 0) {
        kd_log(KD_LOG_WARN, "paths hold blanks or commas: the lists are CSV (path,label), which readers that cut lines "
                            "at blanks do not take");
    }
    return strcmp(format, "csv") == 0 || (quotes && strcmp(format, "auto") == 0) ? KD_LIST_CSV : KD_LIST_BLANK;
}

static const char *const NAME[2] = {"train.csv", "val.csv"};

#define LEFT_OUT "%zu no skeleton, %zu on the list of known missing, %zu outside the split, %zu without an NTU name"

static kd_status write_halves(const char *dir, const char *format, const annotation *a, size_t listed, kd_err *err)
{
    const kd_list_shape shape = shape_of(format, a);
    for (int half = 0; half < 2; half++) {
        if (a->n[half] == 0) {
            return KD_FAIL(err, KD_E_DATA,
                           "%s would be empty: of %zu samples %zu fall to train, %zu to val; left out: " LEFT_OUT
                           "; --split takes other divisions",
                           NAME[half], listed, a->n[0], a->n[1], a->no_skeleton, a->listed_missing, a->outside,
                           a->no_name);
        }
    }
    KD_TRY(kd_io_mkdirs(dir, err));
    for (int half = 0; half < 2; half++) {
        char *path = kd_path_join(dir, NAME[half]);
        const kd_status st = path != NULL ? kd_listing_write(path, a->half[half], a->n[half], shape, err)
                                          : KD_FAIL(err, KD_E_OOM, "annotate: out of memory");
        kd_free(path);
        KD_TRY(st);
    }
    return KD_OK;
}

static kd_status annotate(const kd_common *c, const annotate_args *args, const kd_split_opts *split, kd_err *err)
{
    kd_scan scan;
    annotation a;
    memset(&a, 0, sizeof a);
    const kd_scan_opts o = {.root = c->data};
    kd_out out = {.force = c->force};
    kd_out_reads(&out, args->split);
    KD_TRY(kd_out_dir(&out, c->out, NAME, 2, err));
    KD_TRY(kd_scan_folder(&o, &scan, err));
    kd_status st = KD_OK;
    const size_t room = KD_MAX(scan.n, (size_t)1);
    char *root = args->relative ? NULL : realpath(c->data, NULL);
    a.half[0] = kd_calloc(room, sizeof **a.half);
    a.half[1] = kd_calloc(room, sizeof **a.half);
    a.paths = kd_calloc(room, sizeof *a.paths);
    if (a.half[0] == NULL || a.half[1] == NULL || a.paths == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "annotate: out of memory");
        goto done;
    }
    KD_GO(sort_items(&scan, root != NULL ? root : "", split, args->with_missing, &a, err));
    KD_GO(write_halves(c->out, args->format, &a, scan.n, err));
    (void)printf(c->json
                     ? "{\"type\": \"result\", \"listed\": %zu, \"train\": %zu, \"val\": %zu, \"no_skeleton\": %zu, "
                       "\"known_missing\": %zu, \"outside_split\": %zu, \"no_name\": %zu}\n"
                     : "%zu samples: train %zu, val %zu; left out: " LEFT_OUT "\n",
                 scan.n, a.n[0], a.n[1], a.no_skeleton, a.listed_missing, a.outside, a.no_name);
    if (a.top_label[0] != a.top_label[1]) {
        kd_log(KD_LOG_WARN, "train has labels up to %d, val up to %d: some classes are on one side only",
               a.top_label[0], a.top_label[1]);
    }
done:
    free(root); /* realpath's own */
    for (size_t i = 0; i < a.n_paths; i++) {
        kd_free(a.paths[i]);
    }
    kd_free(a.paths);
    kd_free(a.half[0]);
    kd_free(a.half[1]);
    kd_scan_free(&scan);
    return st;
}

static int unknown_split(const char *typed)
{
    char names[400] = "";
    size_t used = 0;
    const kd_named_split *named = NULL;
    const char *name = NULL;
    for (int i = 0; (name = kd_split_name(i)) != NULL && used < sizeof names; i++) {
        if (kd_data_set_of_split(name, &named) != NULL) {
            used += (size_t)snprintf(names + used, sizeof names - used, "%s, ", name);
        }
    }
    return kd_usage(&CMD, "--split: expected %.*s or a config file, found '%s'", (int)strlen(names) - 2, names, typed);
}

int kd_cmd_dataset_annotate(int argc, char **argv)
{
    annotate_args a;
    kd_common c;
    const int rc = kd_args_parse(&CMD, argc, argv, &a, &c, NULL);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    if (c.data == NULL || c.out == NULL) {
        return kd_usage(&CMD, "expected --data DIR and --out DIR");
    }
    if (strcmp(a.format, "auto") != 0 && strcmp(a.format, "list") != 0 && strcmp(a.format, "csv") != 0) {
        return kd_usage(&CMD, "--format: expected auto, list or csv, found '%s'", a.format);
    }
    kd_err err = {0};
    kd_split_opts split = {.train.n = 0};
    kd_status st = KD_OK;
    const kd_named_split *named = NULL;
    if (kd_data_set_of_split(a.split, &named) != NULL) {
        (void)snprintf(split.by, sizeof split.by, "%s", named->name);
    } else if (kd_path_is_file(a.split)) {
        st = split_of_config(a.split, &split, &err);
    } else {
        return unknown_split(a.split);
    }
    if (st == KD_OK) {
        st = annotate(&c, &a, &split, &err);
    }
    return kd_cmd_end(&CMD, st, &err);
}
