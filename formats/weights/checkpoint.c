/* Checkpoint directories: see checkpoint.h. */
#include "formats/weights/checkpoint.h"

#include "formats/base/hash.h"
#include "formats/base/io.h"

#include <stdio.h>

#define MAX_GROUPS 16
#define MAX_STATE  ((size_t)256 << 20)
#define HEX        16

static const char format_name[] = "lastkd-checkpoint";
static const char suffix[] = ".safetensors";
static const char tail_before[] = "\"xxh64\": \""; /* how state.json ends, around its 16 digits */
static const char tail_after[] = "\"\n}\n";

static void hex64(uint64_t v, char out[HEX + 1])
{
    (void)snprintf(out, HEX + 1, "%016llx", (unsigned long long)v);
}

static bool legal_name(const char *name, size_t n)
{
    static const char set[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    return n > 0 && n < 64 && strspn(name, set) >= n;
}

/* ---- saving ---------------------------------------------------------------------------------- */

static kd_status save_group(const char *tmp, const kd_ckpt_group *g, kd_json *files, kd_err *err)
{
    if (!legal_name(g->name, strlen(g->name))) {
        return KD_FAIL(err, KD_E_ARG, "checkpoint group \"%s\": not a legal name", g->name);
    }
    kd_map map = {NULL, 0};
    char *path = kd_strf("%s/%s%s", tmp, g->name, suffix);
    if (path == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", tmp);
    }
    kd_status st = kd_st_write(path, g->tensor, g->count, NULL, err);
    if (st == KD_OK) {
        st = kd_io_map(path, &map, err);
    }
    if (st == KD_OK) {
        char hex[HEX + 1];
        hex64(kd_xxh64_passing(map.data, map.bytes, kd_io_map_passed, &map), hex);
        kd_json *f = kd_json_set_object(files, kd_path_base(path));
        kd_json_set_i64(f, "bytes", (int64_t)map.bytes);
        kd_json_set_str(f, "xxh64", hex);
    }
    kd_io_unmap(&map);
    kd_free(path);
    return st;
}

static kd_status save_state(const char *tmp, kd_json *doc, kd_err *err)
{
    char *text = NULL;
    size_t n = 0;
    char *path = kd_path_join(tmp, "state.json");
    kd_status st = KD_OK;
    if (path == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "%s: out of memory", tmp);
        goto done;
    }
    kd_json_set_str(doc, "xxh64", "0000000000000000");
    KD_GO(kd_json_dump(doc, KD_JSON_PRETTY, &text, &n, err));
    char hex[HEX + 1];
    hex64(kd_xxh64(text, n), hex);
    memcpy(text + n - strlen(tail_after) - HEX, hex, HEX);
    KD_GO(kd_io_write_file(path, text, n, err));
done:
    kd_free(text);
    kd_free(path);
    return st;
}

kd_status kd_ckpt_save(const char *dir, const kd_ckpt_group *group, size_t groups, const kd_json *state, bool keep_prev,
                       kd_err *err)
{
    kd_status st = KD_OK;
    kd_json *doc = kd_json_object();
    char *tmp = NULL;
    char *parent = kd_path_dir(dir);
    char *prev = kd_strf("%s.prev", dir);
    bool made = false;
    if (doc == NULL || parent == NULL || prev == NULL || !kd_json_ok(state)) {
        st = KD_FAIL(err, KD_E_OOM, "%s: out of memory", dir);
        goto done;
    }
    if (groups > MAX_GROUPS) {
        st = KD_FAIL(err, KD_E_ARG, "%s: %zu groups of tensors, at most %d", dir, groups, MAX_GROUPS);
        goto done;
    }
    KD_GO(kd_io_mkdirs(parent, err));
    kd_io_sweep(parent); /* of a run that was killed */
    KD_GO(kd_io_temp_dir(dir, &tmp, err));
    made = true;
    kd_json_set_str(doc, "format", format_name);
    kd_json_set_i64(doc, "version", 1);
    kd_json *files = kd_json_set_object(doc, "files");
    for (size_t i = 0; i < groups; i++) {
        KD_GO(save_group(tmp, &group[i], files, err));
    }
    kd_json_set_copy(doc, "state", state);
    KD_GO(save_state(tmp, doc, err));
    KD_GO(kd_io_replace_dir(tmp, dir, keep_prev ? prev : NULL, err));
    made = false;
done:
    if (made && kd_io_remove_tree(tmp, NULL) != KD_OK) {
        kd_log(KD_LOG_WARN, "%s: could not be removed", tmp);
    }
    kd_json_free(doc);
    kd_free(tmp);
    kd_free(parent);
    kd_free(prev);
    return st;
}

/* ---- opening --------------------------------------------------------------------------------- */

struct kd_ckpt {
    char *dir;
    kd_json *doc;
    const kd_json *state;
    size_t count;
    bool fell_back;
    struct {
        const char *name; /* of the file, in doc */
        kd_st_file *file;
    } group[MAX_GROUPS];
};

static kd_status damaged(const char *path, const char *what, kd_err *err)
{
    return KD_FAIL(err, KD_E_INTEGRITY, "%s: the file is damaged (%s); use another checkpoint", path, what);
}

/* The text vouches for itself before anything in it is believed. */
static kd_status load_state(kd_ckpt *c, const char *path, kd_err *err)
{
    uint8_t *data = NULL;
    size_t n = 0;
    KD_TRY(kd_io_read_file(path, MAX_STATE, &data, &n, err));
    char *text = (char *)data;
    kd_status st = KD_OK;
    const size_t after = strlen(tail_after);
    const size_t before = strlen(tail_before);
    if (n < after + HEX + before || memcmp(text + n - after, tail_after, after) != 0 ||
        memcmp(text + n - after - HEX - before, tail_before, before) != 0) {
        st = damaged(path, "its end is not that of a checkpoint's state", err);
        goto done;
    }
    char found[HEX + 1];
    char expected[HEX + 1];
    memcpy(found, text + n - after - HEX, HEX);
    found[HEX] = '\0';
    memset(text + n - after - HEX, '0', HEX);
    hex64(kd_xxh64(text, n), expected);
    if (memcmp(found, expected, HEX) != 0) {
        st = damaged(path, "its checksum does not match its text", err);
        goto done;
    }
    KD_GO(kd_json_parse(text, n, path, &c->doc, err));
    const char *format = NULL;
    int64_t version = 0;
    KD_GO(kd_json_get_str(c->doc, "format", &format, err));
    KD_GO(kd_json_get_i64(c->doc, "version", &version, err));
    if (strcmp(format, format_name) != 0 || version != 1) {
        st = KD_FAIL(err, KD_E_FORMAT, "%s: expected %s version 1, found %s version %lld", path, format_name, format,
                     (long long)version);
        goto done;
    }
    c->state = kd_json_get(c->doc, "state");
done:
    kd_free(data);
    return st;
}

static kd_status check_file(const char *path, const kd_json *info, kd_err *err)
{
    int64_t bytes = 0;
    const char *expected = NULL;
    KD_TRY(kd_json_get_i64(info, "bytes", &bytes, err));
    KD_TRY(kd_json_get_str(info, "xxh64", &expected, err));
    kd_map map = {NULL, 0};
    if (!kd_path_is_file(path)) {
        return damaged(path, "it is missing", err);
    }
    KD_TRY(kd_io_map(path, &map, err));
    char found[HEX + 1];
    hex64(kd_xxh64_passing(map.data, map.bytes, kd_io_map_passed, &map), found);
    kd_status st = KD_OK;
    if (map.bytes != (uint64_t)bytes) {
        char what[96];
        (void)snprintf(what, sizeof what, "expected %lld bytes, found %zu", (long long)bytes, map.bytes);
        st = damaged(path, what, err);
    } else if (strcmp(found, expected) != 0) {
        st = damaged(path, "its checksum is not the recorded one", err);
    }
    kd_io_unmap(&map);
    return st;
}

static kd_status load_groups(kd_ckpt *c, kd_err *err)
{
    const kd_json *files = NULL;
    KD_TRY(kd_json_get_object(c->doc, "files", &files, err));
    if (kd_json_count(files) > MAX_GROUPS) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: too many files", c->dir);
    }
    for (size_t i = 0; i < kd_json_count(files); i++) {
        const kd_json *info = kd_json_at(files, i);
        const char *name = kd_json_key(info);
        const size_t n = strlen(name);
        const size_t m = strlen(suffix);
        if (n <= m || strcmp(name + n - m, suffix) != 0 || !legal_name(name, n - m)) {
            return KD_FAIL(err, KD_E_FORMAT, "%s: state.json names a file \"%s\"", c->dir, name);
        }
        char *path = kd_path_join(c->dir, name);
        if (path == NULL) {
            return KD_FAIL(err, KD_E_OOM, "%s: out of memory", c->dir);
        }
        kd_status st = check_file(path, info, err);
        if (st == KD_OK) {
            c->group[c->count].name = name;
            st = kd_st_open(path, &c->group[c->count].file, err);
            c->count += st == KD_OK;
        }
        kd_free(path);
        if (st != KD_OK) {
            return st;
        }
    }
    return KD_OK;
}

kd_status kd_ckpt_open(const char *dir, kd_ckpt **out, kd_err *err)
{
    *out = NULL;
    kd_status st = KD_OK;
    char *path = kd_path_join(dir, "state.json");
    kd_ckpt *c = kd_calloc(1, sizeof *c);
    if (c != NULL) {
        c->dir = kd_strdup(dir);
    }
    if (path == NULL || c == NULL || c->dir == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "%s: out of memory", dir);
        goto done;
    }
    KD_GO(load_state(c, path, err));
    KD_GO(load_groups(c, err));
    *out = c;
    c = NULL;
done:
    kd_free(path);
    kd_ckpt_close(c);
    return st;
}

/* Is the checkpoint itself at fault (absent, incomplete, damaged), and not the machine? */
static bool is_lost(const char *dir, kd_status st)
{
    bool there = true;
    char *path = kd_path_join(dir, "state.json");
    const bool gone = st == KD_E_IO && path != NULL && kd_io_exists(path, &there, NULL) == KD_OK && !there;
    kd_free(path);
    return gone || st == KD_E_INTEGRITY || st == KD_E_FORMAT;
}

kd_status kd_ckpt_open_last(const char *dir, kd_ckpt **out, kd_err *err)
{
    kd_err first = {0};
    const kd_status st = kd_ckpt_open(dir, out, &first);
    if (st == KD_OK) {
        return KD_OK;
    }
    char *prev = kd_strf("%s.prev", dir);
    if (prev == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", dir);
    }
    const kd_status again = is_lost(dir, st) ? kd_ckpt_open(prev, out, NULL) : st;
    if (again == KD_OK) {
        (*out)->fell_back = true;
        kd_log(KD_LOG_WARN, "%s; taking the previous checkpoint %s", first.msg, prev);
    }
    kd_free(prev);
    return again == KD_OK ? KD_OK : KD_FAIL(err, st, "%s", first.msg);
}

void kd_ckpt_close(kd_ckpt *c)
{
    if (c == NULL) {
        return;
    }
    for (size_t i = 0; i < c->count; i++) {
        kd_st_close(c->group[i].file);
    }
    kd_json_free(c->doc);
    kd_free(c->dir);
    kd_free(c);
}

kd_status kd_ckpt_exists(const char *dir, bool *yes, kd_err *err)
{
    char *prev = kd_strf("%s.prev", dir);
    *yes = false;
    if (prev == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", dir);
    }
    kd_status st = kd_io_exists(dir, yes, err);
    if (st == KD_OK && !*yes) {
        st = kd_io_exists(prev, yes, err);
    }
    kd_free(prev);
    return st;
}

const char *kd_ckpt_dir(const kd_ckpt *c)
{
    return c->dir;
}

bool kd_ckpt_fell_back(const kd_ckpt *c)
{
    return c->fell_back;
}

const kd_json *kd_ckpt_state(const kd_ckpt *c)
{
    return c->state;
}

const kd_st_file *kd_ckpt_tensors(const kd_ckpt *c, const char *name)
{
    const size_t n = strlen(name);
    for (size_t i = 0; i < c->count; i++) {
        if (strncmp(c->group[i].name, name, n) == 0 && strcmp(c->group[i].name + n, suffix) == 0) {
            return c->group[i].file;
        }
    }
    return NULL;
}
