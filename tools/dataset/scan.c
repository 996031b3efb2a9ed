/* kd dataset scan: what lies in a data folder. */
#include "formats/base/io.h"
#include "formats/base/json.h"
#include "tools/commands/commands.h"
#include "tools/dataset/dataset_internal.h"

#include <stdio.h>

static const kd_cmd SCAN = {
    .name = "kd dataset scan",
    .about = "Lists a data folder: videos and skeletons, paired by name, with what is missing on "
             "either side.\n"
             "Opens no file but a skeleton archive (--data FILE).",
    .common = KD_COMMON_DATA | KD_COMMON_JSON,
    .max_operands = 0,
    .notes = "The folder is an NTU tree (DIR/nturgb+d_rgb, DIR/nturgb+d_skeletons, folders below them and\n"
             "names that begin so) or any folder of videos, of folders of pictures (img_00001.jpg, ...) and of\n"
             ".skeleton files.  Names such as S001C002P003R002A013 tell setup, camera, person and action; other\n"
             "samples are named by their files, or by their paths where file names are not unique.",
};

enum { NUMBERS = 1000 };

/* How many samples each action, person, camera and setup has. */
typedef struct tally {
    size_t of[4][NUMBERS];
} tally;

static const char *const TALLY_NAME[4] = {"actions", "persons", "cameras", "setups"};

static void count_items(const kd_scan *s, tally *t)
{
    memset(t, 0, sizeof *t);
    for (size_t i = 0; i < s->n; i++) {
        if (s->item[i].set != NULL) {
            const kd_sample_id *id = &s->item[i].id;
            t->of[0][id->action % NUMBERS]++;
            t->of[1][id->subject % NUMBERS]++;
            t->of[2][id->camera % NUMBERS]++;
            t->of[3][id->setup % NUMBERS]++;
        }
    }
}

static void print_tally(const char *name, const size_t of[NUMBERS])
{
    size_t kinds = 0;
    size_t least = SIZE_MAX;
    size_t most = 0;
    for (size_t i = 0; i < NUMBERS; i++) {
        if (of[i] > 0) {
            kinds++;
            least = KD_MIN(least, of[i]);
            most = KD_MAX(most, of[i]);
        }
    }
    if (kinds > 0) {
        (void)printf("  %-10s %zu (%zu%s", name, kinds, least, least == most ? " each)\n" : "");
        if (least != most) {
            (void)printf(" to %zu samples each)\n", most);
        }
    }
}

static void print_lonely(const kd_scan *s, bool video)
{
    size_t shown = 0;
    for (size_t i = 0; i < s->n && shown < 5; i++) {
        const kd_scan_item *it = &s->item[i];
        if (video ? it->video != NULL && it->skeleton == NULL : it->video == NULL && it->skeleton != NULL) {
            (void)printf("    %s\n", KD_SHOWN(it->key));
            shown++;
        }
    }
    const size_t all = video ? s->counts.video_only : s->counts.skeleton_only;
    if (all > shown) {
        (void)printf("    and %zu more\n", all - shown);
    }
}

/* What is there and not taken. */
static void print_hints(const kd_scan *s)
{
    const kd_scan_counts *c = &s->counts;
    if (s->twice[0] != NULL) {
        (void)printf("  named by their paths: %s and %s have one file name\n", KD_SHOWN(s->twice[0]),
                     KD_SHOWN(s->twice[1]));
    }
    if (c->frame_folders > 0) {
        (void)printf("  %zu of the videos are folders of pictures\n", c->frame_folders);
    }
    if (c->arrays > 0) {
        (void)printf("  %zu files that may be skeleton arrays are not looked at (the first: %s); --data FILE or "
                     "data.skeleton_file reads one\n",
                     c->arrays, KD_SHOWN(s->array));
    }
    if (c->aside > 0) {
        (void)printf("  %zu files in folders not looked at (the first: %s); data.video_dir and data.skeleton_dir name "
                     "folders\n",
                     c->aside, KD_SHOWN(s->first_aside));
    }
    if (c->pairs == 0 && c->videos > 0 && c->skeletons > 0) {
        (void)printf("  no video has the name of a skeleton: %s, %s\n", KD_SHOWN(s->item[0].key),
                     KD_SHOWN(s->item[s->n - 1].key));
    }
}

static void print_scan(const kd_scan *s, const tally *t)
{
    const kd_scan_counts *c = &s->counts;
    char layout[KD_CFG_NAME] = "folder searched";
    if (s->layout != NULL) {
        (void)snprintf(layout, sizeof layout, "%s layout", s->layout->title);
    }
    (void)printf("%zu samples (%s): %zu videos, %zu skeletons, %zu pairs\n", s->n, layout, c->videos, c->skeletons,
                 c->pairs);
    print_hints(s);
    if (c->named < s->n) {
        (void)printf("  %zu samples have no NTU name: their label must come from a list\n", s->n - c->named);
    }
    for (size_t k = 0; k < 4; k++) {
        print_tally(TALLY_NAME[k], t->of[k]);
    }
    if (c->video_only > 0 && c->skeletons > 0) {
        (void)printf("  %zu videos without a skeleton (%zu on NTU's list of missing skeletons)\n", c->video_only,
                     c->known_missing);
        print_lonely(s, true);
    }
    if (c->skeleton_only > 0 && c->videos > 0) {
        (void)printf("  %zu skeletons without a video\n", c->skeleton_only);
        print_lonely(s, false);
    }
    const char *name = NULL;
    for (int split = 0; (name = kd_split_name(split)) != NULL; split++) {
        kd_split_opts by = {.train.n = 0};
        (void)snprintf(by.by, sizeof by.by, "%s", name);
        size_t side[3] = {0, 0, 0};
        for (size_t i = 0; i < s->n && !kd_split_by_field(&by); i++) {
            side[kd_split_side_of(&by, s->item[i].key, &s->item[i].id)]++;
        }
        if (side[KD_SIDE_TRAIN] > 0 && side[KD_SIDE_VAL] > 0) {
            (void)printf("  as %-12s train %zu, val %zu\n", name, side[KD_SIDE_TRAIN], side[KD_SIDE_VAL]);
        }
    }
}

/* What an archive names itself. */
static void print_halves(const kd_archive *a)
{
    for (size_t i = 0; a != NULL && i < a->n_halves; i++) {
        (void)printf("  split %-14s %zu samples (data.split: list, data.train_list or data.val_list: %s)\n",
                     KD_SHOWN(a->half[i].name), a->half[i].n, KD_SHOWN(a->half[i].name));
    }
}

static kd_status print_scan_json(const kd_scan *s, const tally *t, kd_err *err)
{
    kd_json *d = kd_json_object();
    kd_json_set_bool(d, "ntu_layout", s->layout != NULL);
    kd_json_set_i64(d, "samples", (int64_t)s->n);
    kd_json_set_i64(d, "videos", (int64_t)s->counts.videos);
    kd_json_set_i64(d, "skeletons", (int64_t)s->counts.skeletons);
    kd_json_set_i64(d, "pairs", (int64_t)s->counts.pairs);
    kd_json_set_i64(d, "video_only", (int64_t)s->counts.video_only);
    kd_json_set_i64(d, "skeleton_only", (int64_t)s->counts.skeleton_only);
    kd_json_set_i64(d, "known_missing", (int64_t)s->counts.known_missing);
    kd_json_set_i64(d, "ntu_names", (int64_t)s->counts.named);
    kd_json_set_i64(d, "other_files", (int64_t)s->counts.other_files);
    kd_json_set_i64(d, "frame_folders", (int64_t)s->counts.frame_folders);
    kd_json_set_i64(d, "skeleton_arrays", (int64_t)s->counts.arrays);
    kd_json_set_i64(d, "not_looked_at", (int64_t)s->counts.aside);
    kd_json_set_str(d, "key", s->key == KD_KEY_PATH ? "path" : "stem");
    for (size_t k = 0; k < 4; k++) {
        kd_json *o = kd_json_set_object(d, TALLY_NAME[k]);
        for (size_t i = 0; i < NUMBERS; i++) {
            char key[8];
            (void)snprintf(key, sizeof key, "%zu", i);
            if (t->of[k][i] > 0) {
                kd_json_set_i64(o, key, (int64_t)t->of[k][i]);
            }
        }
    }
    char *text = NULL;
    const kd_status st = kd_json_dump(d, KD_JSON_PRETTY, &text, NULL, err);
    if (st == KD_OK) {
        (void)fputs(text, stdout);
    }
    kd_free(text);
    kd_json_free(d);
    return st;
}

kd_status kdi_dataset_scan(const char *dir, kd_scan *s, kd_archive **archive, kd_err *err)
{
    kd_scan_opts o = {.root = dir, .aside = true};
    *archive = NULL;
    if (kd_path_is_file(dir) || kd_archive_is(dir)) {
        KD_TRY(kd_archive_open(dir, NULL, archive, err));
        o.archive = *archive;
    }
    KD_TRY(kd_scan_folder(&o, s, err));
    if (s->n > 0) {
        return KD_OK;
    }
    const char *first = s->array != NULL ? s->array : s->first_aside;
    const kd_status st = KD_FAIL(
        err, KD_E_DATA, "%s: holds no video and no .skeleton file%s%s%s; expected an NTU tree or a folder of them", dir,
        s->array != NULL ? "; a file of skeleton arrays is read as --data FILE or by data.skeleton_file ("
        : first != NULL  ? " in the folders of its layout, but elsewhere ("
                         : "",
        first != NULL ? first : "", first != NULL ? ")" : "");
    kd_scan_free(s);
    return st;
}

int kd_cmd_dataset_scan(int argc, char **argv)
{
    kd_common c;
    const int rc = kd_args_parse(&SCAN, argc, argv, NULL, &c, NULL);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    if (c.data == NULL) {
        return kd_usage(&SCAN, "--data: expected the folder to list");
    }
    kd_err err = {0};
    kd_scan s = {0};
    kd_archive *archive = NULL;
    tally *t = kd_alloc(sizeof *t);
    kd_status st =
        t != NULL ? kdi_dataset_scan(c.data, &s, &archive, &err) : KD_FAIL(&err, KD_E_OOM, "scan: out of memory");
    if (st == KD_OK) {
        count_items(&s, t);
        if (c.json) {
            st = print_scan_json(&s, t, &err);
        } else {
            print_scan(&s, t);
            print_halves(archive);
        }
    }
    kd_scan_free(&s);
    kd_archive_close(archive);
    kd_free(t);
    return kd_cmd_end(&SCAN, st, &err);
}
