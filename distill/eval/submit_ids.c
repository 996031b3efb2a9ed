/* Ids and their videos: see submit_ids.h. */
#include "distill/eval/submit_ids.h"

#include "formats/base/io.h"
#include "formats/data/lists/lines.h"
#include "formats/data/scan.h"

#include <stdlib.h>

enum { LIST_MOST = 1 << 28 };

typedef struct finder {
    kd_id_list *l;
    const char *root;
    kd_key_rule key;
    kd_scan scan;
    bool scanned; /* not before an id is no path */
} finder;

static char *keep(kd_id_list *l, const char *s, size_t len)
{
    char **text = kd_realloc(l->text, l->n_text * sizeof *text, (l->n_text + 1) * sizeof *text);
    if (text == NULL) {
        return NULL;
    }
    l->text = text;
    char *copy = kd_alloc(len + 1);
    if (copy != NULL) {
        memcpy(copy, s, len);
        copy[len] = '\0';
        l->text[l->n_text++] = copy;
    }
    return copy;
}

static kd_status add(kd_id_list *l, const char *id, size_t id_len, const char *video, kd_err *err)
{
    kd_half *h = &l->half;
    kd_data_sample *s = kd_realloc(h->sample, h->n * sizeof *s, (h->n + 1) * sizeof *s);
    if (s != NULL) {
        h->sample = s;
        s += h->n;
        *s = (kd_data_sample){.label = -1};
        s->id = keep(l, id, id_len);
        s->video = s->id != NULL ? keep(l, video, strlen(video)) : NULL;
    }
    if (s == NULL || s->video == NULL) {
        return KD_FAIL(err, KD_E_OOM, "submission: out of memory for %zu ids", h->n + 1);
    }
    h->n++;
    return KD_OK;
}

/* ---- from an id to a video ------------------------------------------------------------------- */

static kd_status scan_once(finder *f, kd_err *err)
{
    const kd_scan_opts o = {.root = f->root, .key = f->key};
    KD_TRY(f->scanned ? KD_OK : kd_scan_folder(&o, &f->scan, err));
    f->scanned = true;
    return KD_OK;
}

/* Is `name` a path below the root?  Else an item of the scan by its key. */
static kd_status find(finder *f, const char *name, char **video, kd_err *err)
{
    const char *key;
    *video = kd_path_join(f->root, name);
    if (*video != NULL && kd_path_exists(*video)) {
        return KD_OK;
    }
    kd_free(*video);
    *video = NULL;
    KD_TRY(scan_once(f, err));
    const size_t n = f->scan.key == KD_KEY_PATH ? kd_sample_path_key(name, &key) : kd_sample_key(name, &key);
    char *wanted = kd_alloc(n + 1);
    if (wanted == NULL) {
        return KD_FAIL(err, KD_E_OOM, "submission: out of memory");
    }
    memcpy(wanted, key, n);
    wanted[n] = '\0';
    const kd_scan_item *item = kd_scan_find(&f->scan, wanted);
    kd_free(wanted);
    *video = item != NULL && item->video != NULL ? kd_path_join(f->root, item->video) : NULL;
    return KD_OK;
}

static kd_status take(finder *f, const char *list, size_t line, char *name, kd_on_bad on_bad, kd_err *err)
{
    const char *id;
    char *video = NULL;
    size_t len = strlen(name);
    for (char *p = name; *p != '\0'; p++) {
        *p = *p == '\\' ? '/' : *p;
    }
    while (len > 0 && name[len - 1] == '/') {
        name[--len] = '\0';
    }
    const size_t n = f->key == KD_KEY_PATH ? kd_sample_path_key(name, &id) : kd_sample_key(name, &id);
    if (n == 0) {
        return KD_FAIL_LINE(err, KD_E_FORMAT, list, line, "expected an id or a path, found '%.80s'", name);
    }
    KD_TRY(find(f, name, &video, err));
    kd_status st = KD_OK;
    if (video != NULL) {
        st = add(f->l, id, n, video, err);
    } else if (on_bad == KD_BAD_FAIL) {
        st = KD_FAIL_LINE(err, KD_E_DATA, list, line,
                          "%.80s: expected a video or a folder of pictures below %s, found none "
                          "(data.on_bad_sample: skip leaves it out)",
                          name, f->root);
    } else {
        f->l->n_absent++;
        kd_log(KD_LOG_WARN, "left out: %s:%zu: %.80s: no video below %s", list, line, name, f->root);
    }
    kd_free(video);
    return st;
}

static kd_status read_list(finder *f, const char *list, kd_on_bad on_bad, kd_err *err)
{
    uint8_t *text = NULL;
    size_t bytes = 0, len;
    kd_lines lines;
    const char *line;
    kd_status st = KD_OK;
    KD_TRY(kd_io_read_file(list, LIST_MOST, &text, &bytes, err));
    KD_GO(kd_lines_open((const char *)text, bytes, list, &lines, err));
    while (kd_lines_next(&lines, &line, &len)) {
        size_t n = 0;
        while (n < len && line[n] != ',' && line[n] != '\t') {
            n++;
        }
        const bool heading = lines.number == 1 && n == 2 && memcmp(line, "id", 2) == 0;
        if (len == 0 || line[0] == '#' || heading) {
            continue;
        }
        char *name = keep(f->l, line, n);
        KD_GO(name != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "submission: out of memory"));
        KD_GO(take(f, list, lines.number, name, on_bad, err));
    }
done:
    kd_free(text);
    return st;
}

/* Is a video at `dir`, or below it? */
static bool holds_video(const kd_scan *scan, const char *dir)
{
    const size_t n = strlen(dir);
    for (size_t i = 0; i < scan->n; i++) {
        const char *video = scan->item[i].video;
        if (video != NULL && strncmp(video, dir, n) == 0 && (video[n] == '\0' || video[n] == '/')) {
            return true;
        }
    }
    return false;
}

/* Folders of the folder that give no id: an id without a row has a name. */
static kd_status name_absent(finder *f, kd_on_bad on_bad, kd_err *err)
{
    char **name = NULL;
    size_t n = 0;
    kd_status st = kd_io_list_dir(f->root, &name, &n, err);
    for (size_t i = 0; i < n && st == KD_OK; i++) {
        char *path = kd_path_join(f->root, name[i]);
        const bool absent =
            path != NULL && name[i][0] != '.' && kd_path_is_dir(path) && !holds_video(&f->scan, name[i]);
        if (path == NULL) {
            st = KD_FAIL(err, KD_E_OOM, "submission: out of memory");
        } else if (absent && on_bad == KD_BAD_FAIL) {
            st = KD_FAIL(err, KD_E_DATA,
                         "%s: expected a video, or two numbered pictures and more, found neither (a list of ids takes "
                         "a single picture; data.on_bad_sample: skip leaves the folder out)",
                         path);
        } else if (absent) {
            f->l->n_absent++;
            kd_log(KD_LOG_WARN, "left out: %s: neither a video nor two numbered pictures in it", path);
        }
        kd_free(path);
    }
    kd_free(name);
    return st;
}

static kd_status read_folder(finder *f, kd_on_bad on_bad, kd_err *err)
{
    KD_TRY(scan_once(f, err));
    KD_TRY(name_absent(f, on_bad, err));
    for (size_t i = 0; i < f->scan.n; i++) {
        const kd_scan_item *item = &f->scan.item[i];
        char *video = item->video != NULL ? kd_path_join(f->root, item->video) : NULL;
        const kd_status st = video != NULL ? add(f->l, item->key, strlen(item->key), video, err) : KD_OK;
        kd_free(video);
        KD_TRY(st);
    }
    return KD_OK;
}

/* ---- order ----------------------------------------------------------------------------------- */

static bool is_number(const char *s)
{
    return s[strspn(s, "0123456789")] == '\0';
}

static int by_bytes(const void *a, const void *b)
{
    const kd_data_sample *x = a, *y = b;
    return strcmp(x->id, y->id);
}

/* Of any length; 7 before 007. */
static int by_number(const void *a, const void *b)
{
    const kd_data_sample *x = a, *y = b;
    const char *p = x->id + strspn(x->id, "0"), *q = y->id + strspn(y->id, "0");
    const size_t n = strlen(p), m = strlen(q);
    const int order = n != m ? (n < m ? -1 : 1) : strcmp(p, q);
    return order != 0 ? order : strcmp(y->id, x->id);
}

static kd_status sort(kd_half *h, const char *list, kd_err *err)
{
    bool numbers = true;
    for (size_t i = 0; i < h->n; i++) {
        numbers = numbers && is_number(h->sample[i].id);
    }
    qsort(h->sample, h->n, sizeof *h->sample, numbers ? by_number : by_bytes);
    for (size_t i = 1; i < h->n; i++) {
        if (strcmp(h->sample[i].id, h->sample[i - 1].id) == 0) {
            return KD_FAIL(err, KD_E_DATA, "%s: id %s is there twice: %s and %s (data.key: path makes ids of paths)",
                           list, h->sample[i].id, h->sample[i - 1].video, h->sample[i].video);
        }
    }
    return KD_OK;
}

kd_status kd_id_list_open(const char *ids, const char *root, kd_key_rule key, kd_on_bad on_bad, kd_id_list *out,
                          kd_err *err)
{
    const bool folder = kd_path_is_dir(ids);
    finder f = {.l = out, .root = folder ? ids : root, .key = key};
    kd_status st = KD_OK;
    *out = (kd_id_list){.n_text = 0};
    KD_GO(folder ? read_folder(&f, on_bad, err) : read_list(&f, ids, on_bad, err));
    if (out->half.n == 0) {
        st = KD_FAIL(err, KD_E_DATA, "%s: expected ids of videos below %s, found none", ids, f.root);
        goto done;
    }
    st = sort(&out->half, ids, err);
done:
    kd_scan_free(&f.scan);
    if (st != KD_OK) {
        kd_id_list_free(out);
    }
    return st;
}

void kd_id_list_free(kd_id_list *l)
{
    for (size_t i = 0; i < l->n_text; i++) {
        kd_free(l->text[i]);
    }
    kd_free(l->text);
    kd_free(l->half.sample);
    *l = (kd_id_list){.n_text = 0};
}
