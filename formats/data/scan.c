/* Pairing the files of a data folder: see scan.h. */
#include "formats/data/scan.h"

#include "formats/base/io.h"
#include "formats/data/scan_internal.h"

#include <stdlib.h>

static int compare_keys(const kdi_found *a, const kdi_found *b)
{
    const int c = memcmp(a->key, b->key, KD_MIN(a->key_len, b->key_len));
    return c != 0 ? c : a->key_len < b->key_len ? -1 : a->key_len > b->key_len;
}

static int compare_found(const void *pa, const void *pb)
{
    const kdi_found *a = pa;
    const kdi_found *b = pb;
    int c = compare_keys(a, b);
    if (c == 0) {
        c = (int)a->skeleton - (int)b->skeleton;
    }
    return c != 0 ? c : strcmp(a->path, b->path);
}

/* Keys by the rule, and the files in their order. */
static kd_status set_keys(kdi_walk *w, kd_key_rule rule)
{
    for (size_t i = 0; i < w->n_file; i++) {
        kdi_found *f = &w->file[i];
        f->key_len =
            rule == KD_KEY_PATH ? kd_sample_path_key(f->path + f->below, &f->key) : kd_sample_key(f->path, &f->key);
        if (f->key_len == 0 || f->key_len >= KD_SAMPLE_KEY_MAX) {
            return KD_FAIL(w->err, KD_E_DATA, "%s/%s: expected a %s of 1 to %d bytes before its ending, found %zu%s",
                           w->root, f->path, rule == KD_KEY_PATH ? "path" : "file name", KD_SAMPLE_KEY_MAX - 1,
                           f->key_len, f->key_len > 0 ? "; shorter folder names, or data.key: stem" : "");
        }
    }
    if (w->n_file > 1) {
        qsort(w->file, w->n_file, sizeof *w->file, compare_found);
    }
    return KD_OK;
}

/* The second of two files of one kind with the same key; NULL: there are none. */
static const kdi_found *twin(const kdi_walk *w)
{
    for (size_t i = 1; i < w->n_file; i++) {
        const kdi_found *a = &w->file[i - 1], *b = &w->file[i];
        if (a->skeleton == b->skeleton && compare_keys(a, b) == 0) {
            return b;
        }
    }
    return NULL;
}

static kd_status choose_keys(kdi_walk *w, kd_key_rule rule, kd_scan *out)
{
    out->key = rule == KD_KEY_PATH ? KD_KEY_PATH : KD_KEY_STEM;
    KD_TRY(set_keys(w, out->key));
    const kdi_found *two = twin(w);
    kd_sample_id id;
    if (two != NULL && rule == KD_KEY_AUTO && kd_data_set_of_name(two->key, two->key_len, &id) == NULL) {
        out->twice[0] = kd_strdup(two[-1].path);
        out->twice[1] = kd_strdup(two->path);
        if (out->twice[0] == NULL || out->twice[1] == NULL) {
            return KD_FAIL(w->err, KD_E_OOM, "%s: no memory for its list of files", w->root);
        }
        out->key = KD_KEY_PATH;
        KD_TRY(set_keys(w, KD_KEY_PATH));
        two = twin(w);
    }
    if (two == NULL) {
        return KD_OK;
    }
    return KD_FAIL(w->err, KD_E_DATA, "%s: sample %.*s lies there twice: %s and %s%s", w->root, (int)two->key_len,
                   two->key, two[-1].path, two->path,
                   rule == KD_KEY_STEM ? "; data.key: path tells them apart" : "; move one of them away");
}

static void count_item(kd_scan_counts *c, const kd_scan_item *it)
{
    c->videos += it->video != NULL;
    c->skeletons += it->skeleton != NULL;
    c->pairs += it->video != NULL && it->skeleton != NULL;
    c->named += it->set != NULL;
    if (it->skeleton == NULL) {
        c->video_only++;
        c->known_missing += it->set != NULL && it->set->missing != NULL && it->set->missing(&it->id);
    } else if (it->video == NULL) {
        c->skeleton_only++;
    }
}

/* Sorted files to items.  Paths move to out->path; keys are appended there as strings of their own. */
static kd_status pair(kdi_walk *w, kd_scan *out)
{
    if (w->n_file == 0) {
        return KD_OK;
    }
    out->item = kd_calloc(w->n_file, sizeof *out->item);
    out->path = kd_calloc(2 * w->n_file, sizeof *out->path);
    if (out->item == NULL || out->path == NULL) {
        return KD_FAIL(w->err, KD_E_OOM, "%s: no memory for its list of files", w->root);
    }
    for (size_t i = 0; i < w->n_file; i++) {
        kdi_found *f = &w->file[i];
        const bool same = i > 0 && compare_keys(f, &w->file[i - 1]) == 0;
        kd_scan_item *it = &out->item[same ? out->n - 1 : out->n];
        if (!same) {
            char *key = kd_strf("%.*s", (int)f->key_len, f->key);
            if (key == NULL) {
                return KD_FAIL(w->err, KD_E_OOM, "%s: no memory for its list of files", w->root);
            }
            out->path[out->n_path++] = key;
            it->key = key;
            it->set = kd_data_set_of_name(key, f->key_len, &it->id);
            out->n++;
        }
        if (f->skeleton) {
            it->skeleton = f->path;
        } else {
            it->video = f->path;
        }
        out->counts.frame_folders += f->frames;
    }
    for (size_t i = 0; i < w->n_file; i++) { /* only now: keys of the files before point into their paths */
        out->path[out->n_path++] = w->file[i].path;
        w->file[i].path = NULL;
    }
    for (size_t i = 0; i < out->n; i++) {
        count_item(&out->counts, &out->item[i]);
    }
    return KD_OK;
}

kd_status kd_scan_folder(const kd_scan_opts *opts, kd_scan *out, kd_err *err)
{
    kdi_walk w = {.root = opts->root, .err = err};
    kd_scan scan = {0};
    kd_status st;

    *out = (kd_scan){0};
    const bool file = (kd_path_exists(opts->root) && !kd_path_is_dir(opts->root)) ||
                      (opts->archive != NULL && strcmp(opts->root, opts->archive->path) == 0);
    if (file && opts->archive == NULL) {
        return KD_FAIL(err, KD_E_DATA, "%s: a file; expected the folder of a data set", opts->root);
    }
    if (opts->archive != NULL) {
        KD_GO(kdi_scan_archive(&w, opts->archive));
    }
    if (!file) {
        KD_GO(kdi_scan_places(&w, opts, &scan.layout));
    }
    for (size_t i = 0; i < w.n_place; i++) {
        KD_GO(kdi_scan_place(&w, &w.place[i]));
    }
    if (opts->aside && !file) {
        KD_GO(kdi_scan_aside(&w));
    }
    KD_GO(choose_keys(&w, opts->key, &scan));
    KD_GO(pair(&w, &scan));
    scan.counts.other_files = w.other;
    scan.counts.arrays = w.arrays;
    scan.counts.aside = w.aside;
    scan.array = w.array;
    scan.first_aside = w.first_aside;
    w.array = w.first_aside = NULL;
    *out = scan;
    scan = (kd_scan){0};
done:
    kdi_scan_free(&w);
    kd_scan_free(&scan);
    return st;
}

void kd_scan_free(kd_scan *scan)
{
    if (scan != NULL) {
        for (size_t i = 0; i < scan->n_path; i++) {
            kd_free(scan->path[i]);
        }
        kd_free(scan->path);
        kd_free(scan->item);
        kd_free(scan->twice[0]);
        kd_free(scan->twice[1]);
        kd_free(scan->array);
        kd_free(scan->first_aside);
        *scan = (kd_scan){0};
    }
}

static int compare_item(const void *key, const void *item)
{
    return strcmp(key, ((const kd_scan_item *)item)->key);
}

const kd_scan_item *kd_scan_find(const kd_scan *scan, const char *key)
{
    return scan->n == 0 ? NULL : bsearch(key, scan->item, scan->n, sizeof *scan->item, compare_item);
}
