/* Every system call and every allocation of formats/ goes wrong once: for each operation of the list, for each call
 * that the operation makes, the n-th one fails, for every n.
 *
 * Then the operation says so, naming the file; or it ends as if nothing had happened.  What stood there before is whole
 * (or already replaced by the finished new one), nothing of ours stays behind, no descriptor is left open.  Calls that
 * are interrupted or move half of the bytes change nothing at all.  Leaks are the address sanitizer's to find. */
#include "formats/base/hash.h"
#include "formats/data/dataset.h"
#include "formats/data/lists/listing.h"
#include "formats/log/tfevents.h"
#include "formats/skeleton/skeleton_file.h"
#include "formats/video/video.h"
#include "formats/weights/checkpoint.h"
#include "formats/weights/npy_write.h"
#include "formats/weights/pth.h"
#include "formats/weights/weights.h"
#include "tests/formats/fault_calls.h"
#include "tests/formats/store_case.h"

#include <stdio.h>

/* ---- the folder and what is in it ------------------------------------------------------------ */

#define WORK          in_root("work")
#define FILE_IN(name) in_root("work/" name)

static uint64_t hash_of(uint64_t sum, const void *data, size_t bytes)
{
    const uint64_t pair[2] = {sum, kd_xxh64(data, bytes)};
    return kd_xxh64(pair, sizeof pair);
}

/* Names and contents of everything below a folder. */
static uint64_t snapshot(const char *path)
{
    char **names = NULL;
    size_t n = 0;
    uint64_t sum = 0;
    kd_err err = {0};
    ok(kd_io_list_dir(path, &names, &n, &err), &err);
    for (size_t i = 0; i < n; i++) {
        char *child = kd_path_join(path, names[i]);
        assert_non_null(child);
        sum = hash_of(sum, names[i], strlen(names[i]));
        if (kd_path_is_dir(child)) {
            sum += snapshot(child);
        } else {
            size_t bytes = 0;
            uint8_t *data = slurp(child, &bytes);
            sum = hash_of(sum, data, bytes);
            kd_free(data);
        }
        kd_free(child);
    }
    kd_free(names);
    return sum;
}

static size_t open_descriptors(void)
{
    char **names = NULL;
    size_t n = 0;
    kd_err err = {0};
    ok(kd_io_list_dir("/proc/self/fd", &names, &n, &err), &err);
    kd_free(names);
    return n;
}

static void empty_folder(void)
{
    kd_err err = {0};
    ok(kd_io_remove_tree(WORK, &err), &err);
    ok(kd_io_mkdirs(WORK, &err), &err);
}

/* ---- reading --------------------------------------------------------------------------------- */

static uint64_t seen; /* of what the operation read */

static void see(const void *data, size_t bytes)
{
    seen = hash_of(seen, data, bytes);
}

static const float numbers[6] = {0.0f, 1.5f, -2.0f, 3.25f, 4.0f, -5.0f};
static const int64_t dims[2] = {2, 3};
static const kd_st_tensor tensors[2] = {{"head.weight", KD_ST_F32, 2, dims, numbers},
                                        {"head.bias", KD_ST_F32, 1, dims, numbers + 3}};

static kd_status write_skeleton(const char *path, kd_err *err)
{
    kd_skeleton s = {.frames = 0};
    KD_TRY(kd_skeleton_alloc(3, 3, &s, err));
    for (uint32_t t = 0; t < 3; t++) {
        s.first[t] = t;
        s.body[t].id = 7;
        for (size_t j = 0; j < KD_SKEL_JOINTS; j++) {
            s.body[t].xyz[j][2] = 2.0f + 0.25f * (float)t;
        }
    }
    s.first[3] = 3;
    const kd_status st = kd_skeleton_write(path, &s, err);
    kd_skeleton_free(&s);
    return st;
}

static kd_status write_list(const char *path, kd_err *err)
{
    const kd_list_item items[2] = {{.path = "a.skeleton", .key = "a", .label = 1, .frames = -1},
                                   {.path = "b.skeleton", .key = "b", .label = 0, .frames = -1}};
    return kd_listing_write(path, items, 2, KD_LIST_BLANK, err);
}

static kd_status write_json(const char *path, int64_t value, kd_err *err)
{
    kd_json *doc = kd_json_object();
    kd_json_set_i64(doc, "value", value);
    const kd_status st = kd_json_write(doc, path, err);
    kd_json_free(doc);
    return st;
}

static kd_status save_checkpoint(int64_t value, kd_err *err)
{
    const kd_ckpt_group groups[2] = {{"model", tensors, 2}, {"optim", tensors, 1}};
    kd_json *state = kd_json_object();
    kd_json_set_i64(state, "step", value);
    const kd_status st = kd_ckpt_save(FILE_IN("last"), groups, 2, state, false, err);
    kd_json_free(state);
    return st;
}

static void with_files(void)
{
    kd_err err = {0};
    empty_folder();
    ok(write_json(FILE_IN("a.json"), 1, &err), &err);
    ok(kd_st_write(FILE_IN("a.safetensors"), tensors, 2, NULL, &err), &err);
    ok(kd_pth_write(FILE_IN("a.pth"), "model", tensors, 2, &err), &err);
    ok(kd_npy_write(FILE_IN("a.npy"), tensors, &err), &err);
    ok(kd_npz_write(FILE_IN("a.npz"), tensors, 2, &err), &err);
    ok(write_skeleton(FILE_IN("a.skeleton"), &err), &err);
    ok(write_skeleton(FILE_IN("b.skeleton"), &err), &err);
    ok(write_list(FILE_IN("train.csv"), &err), &err);
    spill(FILE_IN("val.csv"), (const uint8_t *)"c.skeleton 1\n", 13);
    ok(write_skeleton(FILE_IN("c.skeleton"), &err), &err);
    ok(save_checkpoint(1, &err), &err);
}

static kd_status read_whole(kd_err *err)
{
    uint8_t *data = NULL;
    size_t n = 0;
    KD_TRY(kd_io_read_file(FILE_IN("a.skeleton"), (size_t)1 << 20, &data, &n, err));
    see(data, n);
    kd_free(data);
    return KD_OK;
}

static kd_status read_map(kd_err *err)
{
    kd_map map;
    KD_TRY(kd_io_map(FILE_IN("a.skeleton"), &map, err));
    see(map.data, map.bytes);
    kd_io_unmap(&map);
    return KD_OK;
}

static kd_status read_json(kd_err *err)
{
    kd_json *doc = NULL;
    int64_t value = 0;
    KD_TRY(kd_json_load(FILE_IN("a.json"), &doc, err));
    const kd_status st = kd_json_get_i64(doc, "value", &value, err);
    see(&value, sizeof value);
    kd_json_free(doc);
    return st;
}

static kd_status read_safetensors(kd_err *err)
{
    kd_st_file *f = NULL;
    KD_TRY(kd_st_open(FILE_IN("a.safetensors"), &f, err));
    for (size_t i = 0; i < kd_st_count(f); i++) {
        see(kd_st_at(f, i)->data, kd_st_at(f, i)->bytes);
    }
    kd_st_close(f);
    return KD_OK;
}

static kd_status read_pth(kd_err *err)
{
    kd_pth *f = NULL;
    kd_status st = KD_OK;
    float v[6];
    KD_TRY(kd_pth_open(FILE_IN("a.pth"), "", &f, err));
    for (size_t i = 0; i < kd_pth_count(f) && st == KD_OK; i++) {
        st = kd_pth_read(f, kd_pth_at(f, i), v, err);
        see(v, kd_pth_at(f, i)->bytes);
    }
    kd_pth_close(f);
    return st;
}

static kd_status read_npz(kd_err *err)
{
    kd_npz *z = NULL;
    kd_npy a;
    float v[6];
    kd_status st = KD_OK;
    KD_TRY(kd_npz_open(FILE_IN("a.npz"), (size_t)1 << 20, &z, err));
    for (size_t i = 0; i < kd_npz_count(z) && st == KD_OK; i++) {
        st = kd_npz_get(z, kd_npz_name(z, i), &a, err);
        st = st == KD_OK ? kd_npy_to_f32(&a, v, err) : st;
        see(v, st == KD_OK ? a.bytes : 0);
    }
    kd_npz_close(z);
    return st;
}

static kd_status read_npy(kd_err *err)
{
    kd_npy_file *f = NULL;
    KD_TRY(kd_npy_open(FILE_IN("a.npy"), &f, err));
    see(kd_npy_array(f)->data, kd_npy_array(f)->bytes);
    kd_npy_close(f);
    return KD_OK;
}

static kd_status read_skeleton(kd_err *err)
{
    const kd_skel_opts opts = {.nan = KD_SKEL_NAN_FAIL};
    kd_skeleton s;
    KD_TRY(kd_skeleton_read(FILE_IN("a.skeleton"), &opts, &s, err));
    see(s.body, s.n_bodies * sizeof *s.body);
    kd_skeleton_free(&s);
    return KD_OK;
}

static kd_status read_list(kd_err *err)
{
    kd_listing list;
    KD_TRY(kd_listing_read(FILE_IN("train.csv"), &list, err));
    see(&list.n, sizeof list.n);
    kd_listing_free(&list);
    return KD_OK;
}

static kd_status read_weights_of(const char *path, kd_err *err)
{
    kd_weights *w = NULL;
    kd_status st = KD_OK;
    float v[6];
    char hex[KD_SHA256_HEX];
    KD_TRY(kd_weights_open(path, NULL, &w, err));
    for (size_t i = 0; i < kd_weights_count(w) && st == KD_OK; i++) {
        st = kd_weights_read_f32(w, kd_weights_at(w, i), v, err);
        see(v, kd_weights_at(w, i)->bytes);
    }
    st = st == KD_OK ? kd_weights_sha256(w, hex, err) : st;
    see(hex, st == KD_OK ? sizeof hex : 0);
    kd_weights_close(w);
    return st;
}

static kd_status read_weights(kd_err *err)
{
    KD_TRY(read_weights_of(FILE_IN("a.safetensors"), err));
    return read_weights_of(FILE_IN("a.pth"), err);
}

static kd_status read_checkpoint(kd_err *err)
{
    kd_ckpt *c = NULL;
    int64_t step = 0;
    KD_TRY(kd_ckpt_open_last(FILE_IN("last"), &c, err));
    const kd_status st = kd_json_get_i64(kd_ckpt_state(c), "step", &step, err);
    see(&step, sizeof step);
    see(kd_st_at(kd_ckpt_tensors(c, "model"), 0)->data, sizeof numbers);
    kd_ckpt_close(c);
    return st;
}

static kd_status read_dataset(kd_err *err)
{
    kd_data_opts *cfg = kd_calloc(1, sizeof *cfg);
    kd_dataset ds;
    if (cfg == NULL) {
        return KD_FAIL(err, KD_E_OOM, "test: out of memory");
    }
    (void)snprintf(cfg->root, sizeof cfg->root, "%s", WORK);
    (void)snprintf(cfg->layout, sizeof cfg->layout, "%s", "flat");
    (void)snprintf(cfg->split.by, sizeof cfg->split.by, "%s", "list");
    (void)snprintf(cfg->train_list, sizeof cfg->train_list, "%s", "train.csv");
    (void)snprintf(cfg->val_list, sizeof cfg->val_list, "%s", "val.csv");
    cfg->num_classes = 2;
    const unsigned both = 1u << KD_HALF_TRAIN | 1u << KD_HALF_VAL;
    const kd_status st = kd_dataset_open(cfg, KD_NEED_SKELETON, both, &ds, err);
    for (int h = 0; h < KD_HALVES && st == KD_OK; h++) {
        for (size_t i = 0; i < ds.half[h].n; i++) {
            see(ds.half[h].sample[i].id, strlen(ds.half[h].sample[i].id));
            see(&ds.half[h].sample[i].label, sizeof(int));
        }
    }
    kd_dataset_free(&ds);
    kd_free(cfg);
    return st;
}

/* ---- writing --------------------------------------------------------------------------------- */

static kd_status put_file(kd_err *err)
{
    return kd_io_write_file(FILE_IN("a.json"), numbers, sizeof numbers, err);
}

static kd_status put_json(kd_err *err)
{
    return write_json(FILE_IN("a.json"), 2, err);
}

static kd_status put_safetensors(kd_err *err)
{
    return kd_st_write(FILE_IN("a.safetensors"), tensors, 1, NULL, err);
}

static kd_status put_pth(kd_err *err)
{
    return kd_pth_write(FILE_IN("a.pth"), NULL, tensors, 1, err);
}

static kd_status put_npz(kd_err *err)
{
    return kd_npz_write(FILE_IN("a.npz"), tensors, 1, err);
}

static kd_status put_skeleton(kd_err *err)
{
    return write_skeleton(FILE_IN("d.skeleton"), err);
}

static kd_status put_list(kd_err *err)
{
    return write_list(FILE_IN("val.csv"), err);
}

static kd_status put_checkpoint(kd_err *err)
{
    return save_checkpoint(2, err);
}

static kd_status convert_weights(kd_err *err)
{
    kd_weights *w = NULL;
    KD_TRY(kd_weights_open(FILE_IN("a.pth"), NULL, &w, err));
    const kd_status st = kd_weights_save(w, FILE_IN("a.safetensors"), 0, NULL, err);
    kd_weights_close(w);
    return st;
}

static kd_status hold_lock(kd_err *err)
{
    kd_lock *lock = NULL;
    KD_TRY(kd_io_lock(FILE_IN("lock"), &lock, err));
    kd_io_unlock(lock);
    return KD_OK;
}

static kd_status make_folders(kd_err *err)
{
    return kd_io_mkdirs(FILE_IN("x/y"), err);
}

/* ---- stores ---------------------------------------------------------------------------------- */

static kd_status write_store(const char *path, int from, int to, kd_store_start start, kd_err *err)
{
    const kd_store_manifest m = manifest(KD_F16);
    kd_store_writer *w = NULL;
    kd_status st = kd_store_writer_open(path, &m, start, &w, NULL, err);
    for (int i = from; i < to && st == KD_OK; i++) {
        sample s;
        make_sample(i, &s);
        st = kd_store_has(w, s.id) ? KD_OK : kd_store_append(w, &s.rec, err);
    }
    if (st == KD_OK) {
        return kd_store_writer_close(w, err);
    }
    kd_store_writer_abandon(w);
    return st;
}

static void with_stores(void)
{
    kd_err err = {0};
    const kd_store_manifest m = manifest(KD_F16);
    empty_folder();
    ok(write_store(FILE_IN("a.logits.zst"), 0, 6, KD_STORE_NEW, &err), &err);
    ok(write_store(FILE_IN("b.logits.zst"), 6, 11, KD_STORE_NEW, &err), &err);
    write_some(FILE_IN("part.logits.zst"), &m, 0, 6, 1, false, false);
}

static kd_status read_store(kd_err *err)
{
    kd_store *s = NULL;
    kd_store_cursor *c = NULL;
    kd_store_record r;
    kd_status st = KD_OK;
    KD_GO(kd_store_open(FILE_IN("a.logits.zst"), &s, err));
    KD_GO(kd_store_cursor_new(s, &c, err));
    for (int64_t i = 0; i < kd_store_count(s); i++) {
        KD_GO(kd_store_read(c, i, &r, err));
        see(r.logits, (size_t)r.n_views * CLASSES * sizeof *r.logits);
    }
done:
    kd_store_cursor_free(c);
    kd_store_close(s);
    return st;
}

static kd_status verify_store(kd_err *err)
{
    kd_store_verify_report report;
    KD_TRY(kd_store_verify(FILE_IN("a.logits.zst"), NULL, NULL, &report, err));
    see(&report.records, sizeof report.records);
    return KD_OK;
}

static kd_status put_store(kd_err *err)
{
    return write_store(FILE_IN("new.logits.zst"), 0, 7, KD_STORE_RESUME, err);
}

static kd_status resume_store(kd_err *err)
{
    return write_store(FILE_IN("part.logits.zst"), 0, 9, KD_STORE_RESUME, err);
}

static kd_status merge_stores(kd_err *err)
{
    const char *const parts[2] = {FILE_IN("a.logits.zst"), FILE_IN("b.logits.zst")};
    return kd_store_merge(parts, 2, FILE_IN("merged.logits.zst"), false, err);
}

static kd_status export_store(kd_err *err)
{
    return kd_store_export_npz(FILE_IN("a.logits.zst"), FILE_IN("a.npz"), err);
}

/* ---- videos ---------------------------------------------------------------------------------- */

#ifdef KD_SYSCALLS_VIDEO
static kd_status write_video(const char *path, int frames, kd_err *err)
{
    static uint8_t rgb[32 * 32 * 3];
    const kd_video_writer_opts opts = {.codec = KD_VIDEO_MJPEG};
    kd_video_writer *w = NULL;
    KD_TRY(kd_video_writer_open(path, 32, 32, 25, 1, &opts, &w, err));
    for (int t = 0; t < frames; t++) {
        memset(rgb, 40 * (t + 1), sizeof rgb);
        const kd_status st = kd_video_writer_frame(w, rgb, 0, err);
        if (st != KD_OK) {
            kd_video_writer_abort(w);
            return st;
        }
    }
    return kd_video_writer_close(w, err);
}

static void with_video(void)
{
    kd_err err = {0};
    empty_folder();
    ok(write_video(FILE_IN("a.avi"), 3, &err), &err);
}

static kd_status read_video(kd_err *err)
{
    static const size_t idx[2] = {0, 2};
    const kd_video_opts opts = {.lenient = false};
    kd_video_clip clip = {.rgb = NULL};
    kd_video_info info;
    const kd_status st = kd_video_read(FILE_IN("a.avi"), &opts, idx, 2, &clip, &info, err);
    if (st == KD_OK) {
        see(clip.rgb, clip.n * (size_t)clip.width * (size_t)clip.height * 3);
    }
    kd_video_clip_free(&clip);
    return st;
}

static kd_status put_video(kd_err *err)
{
    return write_video(FILE_IN("a.avi"), 2, err);
}
#endif

/* ---- all of it ------------------------------------------------------------------------------- */

typedef enum leaves {
    LEAVES_NOTHING,
    LEAVES_PART, /* a part that the same call goes on with */
    LEAVES_TEXT  /* what it writes only informs: success may leave another text */
} leaves;

typedef struct operation {
    const char *name;
    void (*prepare)(void);
    kd_status (*run)(kd_err *err);
    leaves after; /* a failure */
} operation;

static const operation operations[] = {
    {"read a file", with_files, read_whole, LEAVES_NOTHING},
    {"map a file", with_files, read_map, LEAVES_NOTHING},
    {"read json", with_files, read_json, LEAVES_NOTHING},
    {"read safetensors", with_files, read_safetensors, LEAVES_NOTHING},
    {"read pth", with_files, read_pth, LEAVES_NOTHING},
    {"read npz", with_files, read_npz, LEAVES_NOTHING},
    {"read npy", with_files, read_npy, LEAVES_NOTHING},
    {"read skeleton", with_files, read_skeleton, LEAVES_NOTHING},
    {"read list", with_files, read_list, LEAVES_NOTHING},
    {"read weights", with_files, read_weights, LEAVES_NOTHING},
    {"read checkpoint", with_files, read_checkpoint, LEAVES_NOTHING},
    {"open a data set", with_files, read_dataset, LEAVES_NOTHING},
    {"write a file", with_files, put_file, LEAVES_NOTHING},
    {"write json", with_files, put_json, LEAVES_NOTHING},
    {"write safetensors", with_files, put_safetensors, LEAVES_NOTHING},
    {"write pth", with_files, put_pth, LEAVES_NOTHING},
    {"write npz", with_files, put_npz, LEAVES_NOTHING},
    {"write skeleton", with_files, put_skeleton, LEAVES_NOTHING},
    {"write list", with_files, put_list, LEAVES_NOTHING},
    {"save checkpoint", with_files, put_checkpoint, LEAVES_NOTHING},
    {"convert weights", with_files, convert_weights, LEAVES_NOTHING},
    {"hold a lock", with_files, hold_lock, LEAVES_TEXT},
    {"make folders", with_files, make_folders, LEAVES_PART},
    {"read store", with_stores, read_store, LEAVES_NOTHING},
    {"verify store", with_stores, verify_store, LEAVES_NOTHING},
    {"write store", with_stores, put_store, LEAVES_PART},
    {"resume store", with_stores, resume_store, LEAVES_PART},
    {"merge stores", with_stores, merge_stores, LEAVES_NOTHING},
    {"export store", with_stores, export_store, LEAVES_NOTHING},
#ifdef KD_SYSCALLS_VIDEO
    {"read video", with_video, read_video, LEAVES_NOTHING},
    {"write video", with_video, put_video, LEAVES_NOTHING},
#endif
};

typedef struct outcome {
    uint64_t before, after, seen; /* of the run in which nothing fails */
} outcome;

static int wrong;

static void complain(const operation *op, fault_call call, fault_how how, long n, const char *what, const char *detail)
{
    static const char *const manner[] = {"fails", "is short", "is interrupted"};
    print_error("%s, %s %ld %s: %s%s%s\n", op->name, fault_name(call), n, manner[how], what,
                detail[0] != '\0' ? ": " : "", detail);
    wrong++;
}

static void list_names(char *text, size_t room)
{
    char **names = NULL;
    size_t n = 0, at = 0;
    kd_err err = {0};
    ok(kd_io_list_dir(WORK, &names, &n, &err), &err);
    for (size_t i = 0; i < n && at < room; i++) {
        at += (size_t)snprintf(text + at, room - at, "%s ", names[i]);
    }
    kd_free(names);
}

/* After a failure: what was there, or the finished new one; a part file is gone on with. */
static void check_folder(const operation *op, const outcome *good, fault_call call, fault_how how, long n)
{
    const uint64_t now = snapshot(WORK);
    if (now == good->before || now == good->after) {
        return;
    }
    kd_err err = {0};
    char names[300] = "";
    if (op->after == LEAVES_PART && op->run(&err) == KD_OK && snapshot(WORK) == good->after) {
        return;
    }
    list_names(names, sizeof names);
    complain(op, call, how, n, "the folder is neither as before nor as after", err.msg[0] != '\0' ? err.msg : names);
}

/* Returns false when the operation makes fewer than n such calls. */
static bool one_fault(const operation *op, const outcome *good, fault_call call, fault_how how, long n)
{
    kd_err err = {0};
    const bool memory = call >= FAULT_POSIX_MEMALIGN;
    op->prepare();
    const size_t descriptors = open_descriptors();
    seen = 0;
    fault_arm(call, how, n);
    const kd_status st = op->run(&err);
    const long calls = fault_disarm();
    if (st == KD_OK && op->after != LEAVES_TEXT && (seen != good->seen || snapshot(WORK) != good->after)) {
        char names[300] = "";
        list_names(names, sizeof names);
        complain(op, call, how, n, "success, with another result", names);
    } else if (st != KD_OK && how != FAULT_FAILS) {
        complain(op, call, how, n, "no success", err.msg);
    } else if (st != KD_OK && memory && st != KD_E_OOM) {
        complain(op, call, how, n, "expected to be out of memory", err.msg);
    } else if (st != KD_OK && !memory && strstr(err.msg, root) == NULL) {
        complain(op, call, how, n, "the message names no file", err.msg);
    }
    if (st != KD_OK) {
        check_folder(op, good, call, how, n);
    }
    if (open_descriptors() != descriptors) {
        complain(op, call, how, n, "a descriptor stays open", "");
    }
    return calls >= n;
}

static void every_call_fails_once(void **state)
{
    enum { MOST = 3000 };
    long faults = 0;
    (void)state;
    for (size_t i = 0; i < KD_COUNTOF(operations); i++) {
        const operation *op = &operations[i];
        outcome good;
        kd_err err = {0};
        op->prepare();
        good.before = snapshot(WORK);
        seen = 0;
        ok(op->run(&err), &err);
        good.seen = seen;
        good.after = snapshot(WORK);
        for (int c = 0; c < FAULT_COUNT; c++) {
            for (int h = FAULT_FAILS; h <= FAULT_IS_STOPPED; h++) {
                const fault_call call = (fault_call)c;
                const fault_how how = (fault_how)h;
                for (long n = 1; n < MOST && fault_can(call, how) && one_fault(op, &good, call, how, n); n++) {
                    faults++;
                }
            }
        }
    }
    print_message("%ld faults\n", faults);
    assert_true(faults > 1000);
    assert_int_equal(wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_call_fails_once)};
    kd_log_set_level(KD_LOG_ERROR);
    return cmocka_run_group_tests(tests, make_root, drop_root);
}
