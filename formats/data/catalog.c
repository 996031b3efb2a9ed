/* One scan of the root, or one of each kind's own folder, merged by key. */
#include "formats/data/catalog.h"

#include "formats/base/io.h"

static bool take(const kd_scan_item *it, bool videos, bool skeletons)
{
    return (videos && it->video != NULL) || (skeletons && it->skeleton != NULL);
}

static void put(kd_catalog *c, int which, const kd_scan_item *it, bool videos, bool skeletons)
{
    kd_catalog_item *last = c->n > 0 ? &c->item[c->n - 1] : NULL;
    if (last == NULL || strcmp(last->key, it->key) != 0) {
        last = &c->item[c->n++];
        *last = (kd_catalog_item){.key = it->key, .set = it->set, .id = it->id};
    }
    if (videos && it->video != NULL) {
        last->video_dir = c->dir[which];
        last->video = it->video;
    }
    if (skeletons && it->skeleton != NULL) {
        last->skeleton_dir = c->dir[which];
        last->skeleton = it->skeleton;
    }
}

static void merge(kd_catalog *c)
{
    const bool two = c->dir[1] != NULL;
    size_t i = 0, j = 0;
    while (i < c->scan[0].n || j < c->scan[1].n) {
        const kd_scan_item *a = i < c->scan[0].n ? &c->scan[0].item[i] : NULL;
        const kd_scan_item *b = j < c->scan[1].n ? &c->scan[1].item[j] : NULL;
        KD_ASSERT(a != NULL || b != NULL);
        const int order = a == NULL ? 1 : b == NULL ? -1 : strcmp(a->key, b->key);
        if (order <= 0) {
            if (take(a, true, !two)) {
                put(c, 0, a, true, !two);
            }
            i++;
        }
        if (order >= 0) {
            if (take(b, false, true)) {
                put(c, 1, b, false, true);
            }
            j++;
        }
    }
}

/* Folder of one kind when the two are scanned apart. */
static char *kind_dir(const kd_data_opts *cfg, const char *own, const char *of_layout)
{
    if (own[0] != '\0') {
        return kd_path_join(cfg->root, own);
    }
    return of_layout != NULL ? kd_path_join(cfg->root, of_layout) : kd_strdup(cfg->root);
}

kd_status kd_catalog_open(const kd_data_opts *cfg, kd_catalog *out, kd_err *err)
{
    kd_status st = KD_OK;
    kd_catalog c = {0};
    const kd_data_set *layout = kd_data_set_of_layout(cfg->layout);
    const bool apart = cfg->video_dir[0] != '\0' || cfg->skeleton_dir[0] != '\0';
    *out = c;
    if (cfg->root[0] == '\0') {
        return KD_FAIL(err, KD_E_CONFIG, "data.root: expected the folder of the data set (--data)");
    }
    c.dir[0] = apart ? kind_dir(cfg, cfg->video_dir, layout != NULL ? layout->video_dir : NULL) : kd_strdup(cfg->root);
    if (apart) {
        c.dir[1] = kind_dir(cfg, cfg->skeleton_dir, layout != NULL ? layout->skeleton_dir : NULL);
    }
    if (c.dir[0] == NULL || (apart && c.dir[1] == NULL)) {
        st = KD_FAIL(err, KD_E_OOM, "%s: no memory for its list of files", cfg->root);
        goto done;
    }
    for (int i = 0; i < 2; i++) {
        /* a folder of one kind that is nowhere named may be absent */
        const bool named = i == 0 ? cfg->video_dir[0] != '\0' : cfg->skeleton_dir[0] != '\0';
        if (c.dir[i] == NULL || (apart && !named && !kd_path_is_dir(c.dir[i]))) {
            continue;
        }
        KD_GO(kd_scan_folder(c.dir[i], &c.scan[i], err));
    }
    if (!apart && layout != NULL && c.scan[0].layout != layout) {
        st = KD_FAIL(err, KD_E_DATA,
                     "%s: expected %s/ or %s/ below it, found neither; data.layout flat takes "
                     "files as they lie",
                     cfg->root, layout->video_dir, layout->skeleton_dir);
        goto done;
    }
    c.item = kd_calloc(KD_MAX(c.scan[0].n + c.scan[1].n, 1), sizeof *c.item);
    if (c.item == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "%s: no memory for %zu files", cfg->root, c.scan[0].n + c.scan[1].n);
        goto done;
    }
    merge(&c);
    *out = c;
done:
    if (st != KD_OK) {
        kd_catalog_free(&c);
    }
    return st;
}

void kd_catalog_free(kd_catalog *c)
{
    if (c == NULL) {
        return;
    }
    for (int i = 0; i < 2; i++) {
        kd_scan_free(&c->scan[i]);
        kd_free(c->dir[i]);
    }
    kd_free(c->item);
    *c = (kd_catalog){0};
}

const kd_catalog_item *kd_catalog_find(const kd_catalog *c, const char *key)
{
    size_t lo = 0, hi = c->n;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        const int order = strcmp(c->item[mid].key, key);
        if (order == 0) {
            return &c->item[mid];
        }
        if (order < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return NULL;
}
