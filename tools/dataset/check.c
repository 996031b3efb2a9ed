/* kd dataset check: decodes and parses everything, names what is damaged. */
#include "distill/task/tasks.h"
#include "formats/base/io.h"
#include "formats/data/lists/quarantine.h"
#include "formats/skeleton/archive.h"
#include "formats/video/video.h"
#include "tools/commands/commands.h"
#include "tools/dataset/dataset_internal.h"
#include "tools/process/out.h"
#include "tools/progress.h"
#include "tools/sample/pool.h"
#include "tools/session.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>

static const kd_cmd CHECK = {
    .name = "kd dataset check",
    .about = "Decodes every video and parses every skeleton of a data folder, or of a recipe's lists, and names what\n"
             "is damaged.",
    .common = KD_COMMON_DATA | KD_COMMON_OUT | KD_COMMON_FORCE | KD_COMMON_THREADS | KD_COMMON_LIMIT | KD_COMMON_JSON |
              KD_COMMON_CONFIG | KD_COMMON_SET,
    .max_operands = 0,
    .notes = "Names every damaged file.  With --config the samples are those that the recipe lists, their files the\n"
             "kind that its model reads, its skeletons those of skeleton.layout (without it: .skeleton files of 25\n"
             "joints), and a listed sample without its file is named too (kind absent).  --out DIR gets\n"
             "quarantine.tsv: key, kind, path, problem, one line a damaged file;\n"
             "`data.quarantine: DIR/quarantine.tsv` in a recipe leaves these samples out.  Exit code 3 when anything\n"
             "is damaged or absent, 0 when all is well.  A video that has another number of frames than its skeleton\n"
             "is counted and listed (kind unequal), not damaged and not left out.",
};

typedef struct finding {
    char *video, *skeleton; /* what is wrong; NULL: nothing */
    size_t video_frames, skeleton_frames;
} finding;

/* Files of one sample; a kind that is not looked at is NULL. */
typedef struct suspect {
    const char *key, *video, *skeleton;
    const kd_archive *archive; /* holds the skeleton; NULL: a file of its own does */
    size_t row;
    int frames; /* that a list says; 0: none does */
} suspect;

typedef struct check_job {
    const char *root; /* of relative paths */
    suspect *item;    /* [n] */
    size_t n;
    finding *found; /* [n] */
    kd_scan scan;
    kd_archive *archive; /* that the scan looked into */
    kd_dataset data;     /* of a recipe */
    kd_video_opts video;
    kd_skel_opts skeleton; /* what a recipe's student expects; no joints: there is no recipe */
    char layout[KD_CFG_NAME];
    _Atomic uint64_t frames;
    _Atomic size_t rotated; /* videos with a rotation tag */
} check_job;

/* Damage is a finding, not a failure of the run; running out of memory is. */
static kd_status keep(kd_status st, const kd_err *own, char **out, kd_err *err)
{
    if (st == KD_E_IO || st == KD_E_FORMAT || st == KD_E_DATA) {
        *out = kd_strdup(own->msg);
        return *out != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "check: out of memory");
    }
    if (st != KD_OK && err != NULL) {
        *err = *own;
    }
    return st;
}

static kd_status check_one(void *ctx, size_t i, kd_err *err)
{
    check_job *j = ctx;
    const suspect *it = &j->item[i];
    finding *f = &j->found[i];
    if (it->video != NULL) {
        char *path = kd_path_join(j->root, it->video);
        kd_err own = {0};
        kd_video_info info = {0};
        const kd_status st = path != NULL ? kd_video_count(path, &j->video, &info, &own)
                                          : KD_FAIL(&own, KD_E_OOM, "check: out of memory");
        kd_free(path);
        f->video_frames = info.frames;
        atomic_fetch_add(&j->frames, info.frames);
        atomic_fetch_add(&j->rotated, st == KD_OK && info.rotation != 0 ? 1 : 0);
        KD_TRY(keep(st, &own, &f->video, err));
        if (st == KD_OK && it->frames > 0 && info.frames != (size_t)it->frames) {
            f->video = kd_strf("the list says %d frames, the video holds %zu", it->frames, info.frames);
            KD_TRY(f->video != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "check: out of memory"));
        }
    }
    if (it->skeleton != NULL) {
        char *path = kd_path_join(j->root, it->skeleton);
        const kd_skel_opts any = {.joints = KD_ARCHIVE_ANY_JOINTS};
        const bool told = j->skeleton.joints > 0;
        kd_err own = {0};
        kd_skeleton s = {0};
        const kd_status st = path == NULL ? KD_FAIL(&own, KD_E_OOM, "check: out of memory")
                             : it->archive != NULL
                                 ? kd_archive_read(it->archive, it->row, told ? &j->skeleton : &any, &s, &own)
                                 : kd_skeleton_read(path, &j->skeleton, &s, &own);
        kd_free(path);
        f->skeleton_frames = s.frames;
        kd_skeleton_free(&s);
        KD_TRY(keep(st, &own, &f->skeleton, err));
    }
    return KD_OK;
}

typedef struct check_counts {
    size_t videos, skeletons, bad_videos, bad_skeletons, unequal, absent;
} check_counts;

/* One finding: a line of quarantine.tsv, or without that file a warning. */
static kd_status put_line(kd_writer *w, const char *key, const char *kind, const char *path, const char *problem,
                          kd_err *err)
{
    if (w == NULL) {
        kd_log(KD_LOG_WARN, "%s: %s: %s", key, kind, problem);
        return KD_OK;
    }
    char *line = kd_strf("%s\t%s\t%s\t%s\n", KD_SHOWN(key), kind, KD_SHOWN(path), KD_SHOWN(problem));
    const kd_status st =
        line != NULL ? kd_writer_put(w, line, strlen(line), err) : KD_FAIL(err, KD_E_OOM, "check: out of memory");
    kd_free(line);
    return st;
}

static kd_status write_findings(const check_job *j, kd_writer *w, check_counts *c, kd_err *err)
{
    for (int h = 0; h < KD_HALVES; h++) {
        for (size_t i = 0; i < j->data.half[h].n_left; i++) {
            const kd_left_out *l = &j->data.half[h].left[i];
            if (kd_fate_is_failure(l->why)) {
                c->absent++;
                KD_TRY(put_line(w, l->id, "absent", l->file != NULL ? l->file : "", kd_fate_text(l->why), err));
            }
        }
    }
    for (size_t i = 0; i < j->n; i++) {
        const suspect *it = &j->item[i];
        const finding *f = &j->found[i];
        c->videos += it->video != NULL;
        c->skeletons += it->skeleton != NULL;
        if (f->video != NULL) {
            c->bad_videos++;
            KD_TRY(put_line(w, it->key, "video", it->video, f->video, err));
        }
        if (f->skeleton != NULL) {
            c->bad_skeletons++;
            KD_TRY(put_line(w, it->key, "skeleton", it->skeleton, f->skeleton, err));
        }
        if (f->video == NULL && f->skeleton == NULL && it->video != NULL && it->skeleton != NULL &&
            f->video_frames != f->skeleton_frames) {
            char text[96];
            (void)snprintf(text, sizeof text, "%zu video frames, %zu skeleton frames", f->video_frames,
                           f->skeleton_frames);
            c->unequal++;
            KD_TRY(put_line(w, it->key, KD_QUARANTINE_UNEQUAL, it->video, text, err));
        }
    }
    return KD_OK;
}

static kd_status write_file(const check_job *j, const char *dir, const char *out, check_counts *c, kd_err *err)
{
    kd_writer *w = NULL;
    kd_status st;
    KD_TRY(kd_io_mkdirs(dir, err));
    KD_TRY(kd_writer_open(out, &w, err));
    KD_GO(kd_writer_put(w, KD_QUARANTINE_HEADING "\n", sizeof KD_QUARANTINE_HEADING, err));
    KD_GO(write_findings(j, w, c, err));
    st = kd_writer_commit(w, err);
    w = NULL;
done:
    kd_writer_abort(w);
    return st;
}

static void print_check(bool json, check_job *j, const check_counts *c, size_t skipped)
{
    (void)printf(json ? "{\"type\": \"result\", \"videos\": %zu, \"frames\": %" PRIu64 ", \"skeletons\": %zu, "
                        "\"damaged_videos\": %zu, \"damaged_skeletons\": %zu, \"unequal\": %zu, "
                        "\"skipped\": %zu, \"rotated\": %zu, \"absent\": %zu}\n"
                      : "%zu videos decoded (%" PRIu64 " frames), %zu skeletons parsed: %zu videos and "
                        "%zu skeletons damaged, %zu pairs of unequal length, %zu samples not looked at, %zu videos "
                        "rotated as their tags say, %zu listed files absent\n",
                 c->videos, atomic_load(&j->frames), c->skeletons, c->bad_videos, c->bad_skeletons, c->unequal, skipped,
                 atomic_load(&j->rotated), c->absent);
}

/* The joints of a student's files; a teacher reads none. */
static void expect_joints(check_job *j, const kd_config *cfg)
{
    const kd_layout *l = cfg->file_layout.joints > 0 ? &cfg->file_layout : &cfg->layout;
    if (l->joints > 0) {
        (void)snprintf(j->layout, sizeof j->layout, "%s", l->name);
        j->skeleton = (kd_skel_opts){
            .joints = l->joints, .layout = j->layout, .scored = cfg->skeleton.channels == KD_CHANNELS_XY_SCORE};
    }
}

/* The samples that a recipe lists. */
static kd_status open_lists(const kd_common *c, check_job *j, unsigned *need, kd_err *err)
{
    kd_sets sets;
    kd_config *cfg = kd_calloc(1, sizeof *cfg);
    if (cfg == NULL) {
        return KD_FAIL(err, KD_E_OOM, "check: out of memory");
    }
    kd_status st = kd_sets_make(c, "eval", &sets, err);
    st = st == KD_OK ? kd_config_load(c->config.item, (size_t)c->config.count, sets.text, sets.n, cfg, err) : st;
    if (st == KD_OK) {
        *need = kd_task_of(cfg)->need;
        expect_joints(j, cfg);
        j->video.numbered = cfg->video.start_index >= 0;
        j->video.first_number = (size_t)KD_MAX(cfg->video.start_index, 0);
        st = kd_dataset_open(&cfg->data, *need, 0, &j->data, err);
    }
    kd_sets_free(&sets);
    kd_free(cfg);
    return st;
}

static kd_status find_suspects(const kd_common *c, check_job *j, kd_err *err)
{
    unsigned need = 0;
    KD_TRY(c->config.count > 0 ? open_lists(c, j, &need, err) : kdi_dataset_scan(c->data, &j->scan, &j->archive, err));
    const size_t most = j->scan.n + j->data.half[KD_HALF_TRAIN].n + j->data.half[KD_HALF_VAL].n;
    j->item = kd_calloc(KD_MAX(most, 1), sizeof *j->item);
    j->found = kd_calloc(KD_MAX(most, 1), sizeof *j->found);
    if (j->item == NULL || j->found == NULL) {
        return KD_FAIL(err, KD_E_OOM, "check: out of memory");
    }
    for (size_t i = 0; i < j->scan.n; i++) {
        const kd_scan_item *it = &j->scan.item[i];
        const bool inside = j->archive != NULL && it->skeleton != NULL;
        j->item[j->n++] = (suspect){it->key,
                                    it->video,
                                    it->skeleton,
                                    inside ? j->archive : NULL,
                                    inside ? kd_archive_find(j->archive, it->skeleton) : 0,
                                    0};
    }
    for (int h = 0; h < KD_HALVES; h++) {
        for (size_t i = 0; i < j->data.half[h].n; i++) {
            const kd_data_sample *s = &j->data.half[h].sample[i];
            j->item[j->n++] = (suspect){s->id,
                                        (need & KD_NEED_VIDEO) != 0 ? s->video : NULL,
                                        (need & KD_NEED_SKELETON) != 0 ? s->skeleton : NULL,
                                        s->archive,
                                        s->row,
                                        s->frames};
        }
    }
    return KD_OK;
}

static kd_status check_all(const kd_common *c, const kd_progress *progress, kd_err *err)
{
    check_counts counts = {0};
    check_job j = {.root = c->config.count > 0 ? "" : c->data};
    const kd_out rule = {.force = c->force};
    char *out = NULL;
    kd_status st = KD_OK;
    if (c->out != NULL) {
        KD_TRY(kd_out_dir(&rule, c->out, (const char *const[]){KD_QUARANTINE_FILE}, 1, err));
        out = kd_path_join(c->out, KD_QUARANTINE_FILE);
    }
    KD_GO(c->out == NULL || out != NULL ? find_suspects(c, &j, err) : KD_FAIL(err, KD_E_OOM, "check: out of memory"));
    const size_t all = j.n;
    j.n = c->limit > 0 ? KD_MIN((size_t)c->limit, all) : all;
    kd_progress_begin(progress, "check", "samples", 0, j.n);
    KD_GO(kd_pool_run(check_one, &j, j.n, kd_pool_threads(c->threads), progress, err));
    kd_progress_end(progress, NULL);
    KD_GO(out != NULL ? write_file(&j, c->out, out, &counts, err) : write_findings(&j, NULL, &counts, err));
    print_check(c->json, &j, &counts, all - j.n);
    const size_t bad = counts.bad_videos + counts.bad_skeletons;
    if (bad + counts.absent > 0) {
        st = KD_FAIL(err, KD_E_DATA, "%zu damaged%s files, named %s%s", bad + counts.absent,
                     counts.absent > 0 ? " or absent" : "",
                     out != NULL ? "in " : "above; --out DIR writes " KD_QUARANTINE_FILE, out != NULL ? out : "");
    }
done:
    for (size_t i = 0; j.found != NULL && i < j.n; i++) {
        kd_free(j.found[i].video);
        kd_free(j.found[i].skeleton);
    }
    kd_free(j.found);
    kd_free(j.item);
    kd_free(out);
    kd_dataset_free(&j.data);
    kd_scan_free(&j.scan);
    kd_archive_close(j.archive);
    return st;
}

int kd_cmd_dataset_check(int argc, char **argv)
{
    kd_common c;
    const int rc = kd_args_parse(&CHECK, argc, argv, NULL, &c, NULL);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    if (c.config.count == 0 && (c.data == NULL || c.set.count > 0)) {
        return kd_usage(&CHECK, c.data == NULL ? "--data: expected the folder to check, or --config with a recipe"
                                               : "--set: expected --config with the recipe that it changes");
    }
    kd_ticker ticker;
    const kd_progress progress = kd_ticker_start(&ticker, &c);
    kd_err err = {0};
    return kd_cmd_end(&CHECK, check_all(&c, &progress, &err), &err);
}
