/* Parity of frame sampling: tables of indices of VideoMAE's loaders and of MMAction2's. */
#include "formats/base/hash.h"
#include "teacher/clip/clip.h"
#include "tools/parity/parity.h"

#include <stdio.h>

enum { WIDEST = KD_CLIP_MAX_FRAMES, MOST_CLIPS = 64, MOST_FRAMES = 1 << 30 };

/* ---- VideoMAE's loaders: one table a tensor, one row a video --------------------------------- */

typedef enum frame_part { VAL, FIRST_END, LAST_END, ENDS, TEST, TEST_INTERLEAVED } frame_part;

/* What a table holds, by its name. */
typedef struct frame_table {
    bool known;
    kd_sampler sampler;
    frame_part part;
    int rate, frames, clips, start; /* frames 0: the width of a row; start: number of a video's first frame */
} frame_table;

static frame_table read_name(const char *name)
{
    static const struct {
        const char *form; /* the first number is the rate, or the number of parts */
        frame_table t;
    } FORM[] = {{"val_r%d%n", {true, KD_SAMPLER_OFFICIAL_DENSE, VAL, 0, 0, 1, 0}},
                {"train_r%d_end_min%n", {true, KD_SAMPLER_OFFICIAL_DENSE, FIRST_END, 0, 0, 1, 0}},
                {"train_r%d_end_max%n", {true, KD_SAMPLER_OFFICIAL_DENSE, LAST_END, 0, 0, 1, 0}},
                {"train_r%d_end_randint_range%n", {true, KD_SAMPLER_OFFICIAL_DENSE, ENDS, 0, 16, 1, 0}},
                {"test_r%d_seg%d%n", {true, KD_SAMPLER_OFFICIAL_DENSE, TEST, 0, 0, 1, 0}},
                {"rawframe_val_seg%d_start%d%n", {true, KD_SAMPLER_SEGMENTS, VAL, 0, 0, 1, 1}},
                {"rawframe_test_seg%dx%d_start1%n", {true, KD_SAMPLER_SEGMENTS, TEST_INTERLEAVED, 0, 0, 1, 1}},
                {"v1_ssv2_test_seg%dx%d%n", {true, KD_SAMPLER_SEGMENTS, TEST_INTERLEAVED, 0, 0, 1, 0}},
                {"videocls_sparse_test_seg%dx%d%n", {true, KD_SAMPLER_SPARSE, TEST_INTERLEAVED, 0, 0, 1, 0}}};
    for (size_t i = 0; i < KD_COUNTOF(FORM); i++) {
        int first = 0, second = 0, used = -1;
        const bool two = strstr(strstr(FORM[i].form, "%d") + 1, "%d") != NULL;
        const int n =
            two ? sscanf(name, FORM[i].form, &first, &second, &used) : sscanf(name, FORM[i].form, &first, &used);
        if (n != (two ? 2 : 1) || used != (int)strlen(name) || first < 1 || (two && second < 1)) {
            continue;
        }
        frame_table t = FORM[i].t;
        t.rate = t.sampler == KD_SAMPLER_OFFICIAL_DENSE ? first : 4;
        t.frames = t.sampler == KD_SAMPLER_OFFICIAL_DENSE ? t.frames : first;
        t.clips = t.part == TEST || t.part == TEST_INTERLEAVED ? second : 1;
        t.start = t.sampler == KD_SAMPLER_SEGMENTS && t.part == VAL ? second : t.start;
        return t;
    }
    return (frame_table){.known = false};
}

/* How many numbers a video's row has. */
static size_t width_of(const frame_table *t)
{
    return t->part == ENDS ? 2 : (size_t)t->frames * (size_t)t->clips;
}

/* One row as the reference writes it: clip after clip, or frames of all clips in rising order. */
static void make_row(const frame_table *t, const kd_frame_rule *rule, size_t n, int64_t *row)
{
    const size_t window = (size_t)rule->frames * (size_t)rule->rate;
    size_t idx[WIDEST], low, high;
    if (t->part == ENDS) {
        kd_frames_ends(rule, n, &low, &high);
        row[0] = high > low ? (int64_t)low : -1;
        row[1] = high > low ? (int64_t)high : -1;
        return;
    }
    for (int clip = 0; clip < t->clips; clip++) {
        switch (t->part) {
        case VAL:
            kd_frames_val(rule, n, idx);
            break;
        case FIRST_END:
        case LAST_END:
            kd_frames_window(rule, n, t->part == FIRST_END ? window : n - 1, idx);
            break;
        default:
            kd_frames_test(rule, n, clip, t->clips, idx);
            break;
        }
        for (int j = 0; j < t->frames; j++) {
            const int at = t->part == TEST_INTERLEAVED ? j * t->clips + clip : clip * t->frames + j;
            row[at] = (int64_t)idx[j] + t->start;
        }
    }
}

static kd_status one_sampling(parity *p, const kd_st_file *f, const kd_st_entry *e, const int64_t *length, size_t n,
                              kd_err *err)
{
    frame_table t = read_name(e->name);
    size_t wrong = 0;
    int64_t *want = NULL, row[WIDEST * MOST_CLIPS];
    char text[160];
    t.frames = t.frames > 0 ? t.frames : e->rank > 0 && e->dim[e->rank - 1] <= WIDEST ? (int)e->dim[e->rank - 1] : 0;
    if (!t.known || t.frames < 1 || t.frames > WIDEST || t.clips > MOST_CLIPS || e->count != n * width_of(&t)) {
        kd_parity_skip(p, e->name, "another data set's rule");
        return KD_OK;
    }
    const kd_frame_rule rule = {
        .sampler = t.sampler, .short_video = KD_SHORT_OFFICIAL, .frames = t.frames, .rate = t.rate};
    KD_TRY(kd_parity_ints(f, e->name, e->count, &want, err));
    for (size_t i = 0; i < n; i++) {
        make_row(&t, &rule, (size_t)length[i], row);
        for (size_t k = 0; k < width_of(&t); k++) {
            wrong += row[k] != want[i * width_of(&t) + k];
        }
    }
    kd_free(want);
    (void)snprintf(text, sizeof text, "%s: %zu indices", e->name, e->count);
    kd_parity_item(p, text, (double)wrong, 0.0);
    return KD_OK;
}

/* Where the clips of a test begin in the list of every 4th frame, for 16 frames: "frames": [start, ...]. */
static kd_status starts(parity *p, kd_err *err)
{
    const kd_frame_rule rule = {.frames = 16, .rate = 4};
    const kd_json *list = NULL;
    size_t wrong = 0;
    KD_TRY(kd_json_get_object(p->manifest, "test_seg5_starts_in_strided_list", &list, err));
    for (size_t i = 0; i < kd_json_count(list); i++) {
        const kd_json *e = kd_json_at(list, i);
        const int clips = (int)KD_MIN(kd_json_count(e), MOST_CLIPS);
        int n = 0;
        if (sscanf(kd_json_key(e), "%d", &n) != 1 || n < 1) {
            return KD_FAIL(err, KD_E_DATA, "'%s': expected a number of frames", kd_json_key(e));
        }
        for (int clip = 0; clip < clips; clip++) {
            size_t idx[WIDEST];
            int64_t start = -1;
            KD_TRY(kd_json_as_i64(kd_json_at(e, (size_t)clip), &start, err));
            kd_frames_test(&rule, (size_t)n, clip, clips, idx);
            wrong += (int64_t)idx[0] != start * rule.rate;
        }
    }
    kd_parity_item(p, "starts of the clips of a test", (double)wrong, 0.0);
    return KD_OK;
}

kd_status kd_parity_sampling(parity *p, kd_err *err)
{
    kd_st_file *f = NULL;
    int64_t *length = NULL;
    kd_status st = KD_OK;
    KD_GO(kd_parity_open(p, "lengths", &f, err));
    KD_GO(kd_parity_ints(f, "lengths", 0, &length, err));
    const size_t n = kd_st_find(f, "lengths")->count;
    for (size_t i = 0; i < n; i++) {
        if (length[i] < 1 || length[i] > MOST_FRAMES) {
            st = KD_FAIL(err, KD_E_DATA, "lengths: a video of %lld frames", (long long)length[i]);
            goto done;
        }
    }
    for (size_t i = 0; i < kd_st_count(f); i++) {
        const kd_st_entry *e = kd_st_at(f, i);
        if (strcmp(e->name, "lengths") != 0) {
            KD_GO(one_sampling(p, f, e, length, n, err));
        }
    }
    st = starts(p, err);
done:
    kd_free(length);
    kd_st_close(f);
    return st;
}

/* ---- MMAction2's tables: "table": [{total, clip_len, ...}, ...] ------------------------------- */

/* Aspects of a table, counted over its rows. */
typedef struct tally {
    const char *name;
    size_t compared, wrong;
} tally;

static void report(parity *p, const tally *t, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char text[160];
        (void)snprintf(text, sizeof text, "%s: %zu rows", t[i].name, t[i].compared);
        if (t[i].compared > 0) {
            kd_parity_item(p, text, (double)t[i].wrong, 0.0);
        }
    }
}

/* Integers of a row against its list `key`; a row without that list has nothing to compare. */
static void compare_ints(const kd_json *row, const char *key, const size_t *got, size_t n, tally *t)
{
    const kd_json *list = kd_json_get(row, key);
    bool same = kd_json_count(list) == n;
    for (size_t i = 0; i < n && same; i++) {
        double v = -1.0;
        same = kd_json_as_f64(kd_json_at(list, i), &v, NULL) == KD_OK && v == (double)got[i];
    }
    t->compared += list != NULL;
    t->wrong += list != NULL && !same;
}

static void compare_crc(const kd_json *row, const char *key, const size_t *got, size_t n, tally *t)
{
    const char *want = NULL;
    char have[12];
    int32_t narrow[WIDEST * MOST_CLIPS];
    for (size_t i = 0; i < n; i++) {
        narrow[i] = (int32_t)got[i];
    }
    (void)snprintf(have, sizeof have, "%08x", (unsigned)kd_crc32(narrow, n * sizeof *narrow));
    t->compared++;
    t->wrong += kd_json_get_str(row, key, &want, NULL) != KD_OK || strcmp(want, have) != 0;
}

enum { OFFSETS, INDICES, CRC, LOWEST, HIGHEST, CRC_LOWEST, CRC_HIGHEST, REPEATED, ASPECTS };

static kd_status sample_row(const kd_json *e, tally *t, kd_err *err)
{
    int64_t total = 0, frames = 0, rate = 0, clips = 0;
    KD_TRY(kd_json_get_range(e, "total", 1, MOST_FRAMES, &total, err));
    KD_TRY(kd_json_get_range(e, "clip_len", 1, WIDEST, &frames, err));
    KD_TRY(kd_json_get_range(e, "frame_interval", 1, 1 << 16, &rate, err));
    KD_TRY(kd_json_get_range(e, "num_clips", 1, MOST_CLIPS, &clips, err));
    kd_frame_rule rule = {.sampler = KD_SAMPLER_MMACTION2, .frames = (int)frames, .rate = (int)rate};
    size_t test[WIDEST * MOST_CLIPS] = {0}, low[WIDEST * MOST_CLIPS] = {0}, high[WIDEST * MOST_CLIPS] = {0},
                         first[MOST_CLIPS] = {0}, last[MOST_CLIPS] = {0};
    const size_t n = (size_t)frames * (size_t)clips, video = (size_t)total;
    double offset[MOST_CLIPS] = {0};
    size_t off = 0;
    KD_TRY(kd_json_get_f64s(e, "test_offsets", offset, (size_t)clips, err));
    t[OFFSETS].compared++;
    for (int k = 0; k < (int)clips; k++) {
        const size_t at = (size_t)k * (size_t)frames;
        off += !(offset[k] == kd_frames_test_offset(&rule, video, k, (int)clips));
        kd_frames_test(&rule, video, k, (int)clips, test + at);
        kd_frames_offsets(&rule, video, k, (int)clips, &first[k], &last[k]);
        kd_frames_from(&rule, video, (double)first[k], low + at);
        kd_frames_from(&rule, video, (double)last[k], high + at);
    }
    t[OFFSETS].wrong += off > 0;
    compare_ints(e, "test_inds", test, n, &t[INDICES]);
    compare_crc(e, "test_crc32", test, n, &t[CRC]);
    compare_ints(e, "train_offsets_min", first, (size_t)clips, &t[LOWEST]);
    compare_ints(e, "train_offsets_max", last, (size_t)clips, &t[HIGHEST]);
    compare_crc(e, "train_crc32_min", low, n, &t[CRC_LOWEST]);
    compare_crc(e, "train_crc32_max", high, n, &t[CRC_HIGHEST]);
    rule.out_of_bound = KD_BOUND_REPEAT_LAST;
    for (int k = 0; k < (int)clips; k++) {
        kd_frames_test(&rule, video, k, (int)clips, test + (size_t)k * (size_t)frames);
    }
    compare_ints(e, "repeat_last_test_inds", test, n, &t[REPEATED]);
    return KD_OK;
}

kd_status kd_parity_sample_frames(parity *p, kd_err *err)
{
    tally t[ASPECTS] = {[OFFSETS] = {.name = "test, where clips begin"},
                        [INDICES] = {.name = "test, frames"},
                        [CRC] = {.name = "test, CRC of the frames"},
                        [LOWEST] = {.name = "training, first start"},
                        [HIGHEST] = {.name = "training, last start"},
                        [CRC_LOWEST] = {.name = "training, CRC of the frames from the first start"},
                        [CRC_HIGHEST] = {.name = "training, CRC of the frames from the last start"},
                        [REPEATED] = {.name = "test, frames, out_of_bound repeat_last"}};
    const kd_json *table = kd_json_get(p->manifest, "table");
    if (kd_json_get(kd_json_at(table, 0), "frame_interval") == NULL) {
        return KD_FAIL(err, KD_E_UNSUPPORTED, "a table that is not SampleFrames'");
    }
    for (size_t i = 0; i < kd_json_count(table); i++) {
        KD_TRY(sample_row(kd_json_at(table, i), t, err));
    }
    report(p, t, ASPECTS);
    return KD_OK;
}

static kd_status uniform_row(const kd_json *e, tally *t, kd_err *err)
{
    static const char *const TEST_OF[] = {"test_1clip", "test_2clip", "test_3clip"};
    int64_t total = 0, frames = 0;
    size_t low[WIDEST] = {0}, high[WIDEST] = {0}, test[3 * WIDEST] = {0};
    KD_TRY(kd_json_get_range(e, "total", 1, MOST_FRAMES, &total, err));
    KD_TRY(kd_json_get_range(e, "clip_len", 1, WIDEST, &frames, err));
    const kd_frame_rule rule = {.sampler = KD_SAMPLER_MMACTION2_UNIFORM, .frames = (int)frames};
    for (int j = 0; j < (int)frames; j++) {
        kd_frames_range(&rule, (size_t)total, j, &low[j], &high[j]);
    }
    compare_ints(e, "train_low", low, (size_t)frames, &t[0]);
    compare_ints(e, "train_high_inclusive", high, (size_t)frames, &t[1]);
    for (int clips = 1; clips <= 3; clips++) {
        for (int k = 0; k < clips; k++) {
            kd_frames_test(&rule, (size_t)total, k, clips, test + (size_t)k * (size_t)frames);
        }
        compare_ints(e, TEST_OF[clips - 1], test, (size_t)clips * (size_t)frames, &t[1 + clips]);
    }
    return KD_OK;
}

kd_status kd_parity_uniform_sample(parity *p, kd_err *err)
{
    tally t[] = {{.name = "training, first frame of each part"},
                 {.name = "training, last frame of each part"},
                 {.name = "test, 1 clip"},
                 {.name = "test, 2 clips"},
                 {.name = "test, 3 clips"},
                 {.name = "the whole video evenly"}};
    const kd_json *table = kd_json_get(p->manifest, "table"), *even = kd_json_get(p->manifest, "linspace_int_16");
    for (size_t i = 0; i < kd_json_count(table); i++) {
        KD_TRY(uniform_row(kd_json_at(table, i), t, err));
    }
    for (size_t i = 0; i < kd_json_count(even); i++) {
        const kd_frame_rule rule = {.sampler = KD_SAMPLER_UNIFORM_LINSPACE, .frames = 16};
        const char *key = kd_json_key(kd_json_at(even, i));
        size_t idx[16] = {0};
        int n = 0;
        if (sscanf(key, "%d", &n) != 1 || n < 1) {
            return KD_FAIL(err, KD_E_DATA, "'%s': expected a number of frames", key);
        }
        kd_frames_val(&rule, (size_t)n, idx);
        compare_ints(even, key, idx, 16, &t[5]);
    }
    report(p, t, KD_COUNTOF(t));
    kd_parity_skip(p, "ava_temporal_crop_16x4", "a rule of detection");
    kd_parity_skip(p, "mmaction2_SampleAVAFrames_test", "a rule of detection");
    return KD_OK;
}
