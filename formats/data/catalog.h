/* The files of a data set by sample key: what the scans of its folders found, as one list sorted
 * by key. */
#ifndef KD_FORMATS_DATA_CATALOG_H
#define KD_FORMATS_DATA_CATALOG_H

#include "formats/data/data_opts.h"
#include "formats/data/scan.h"

typedef struct kd_catalog_item {
    const char *key;
    const char *video_dir, *video;       /* NULL: there is none; path = dir / name */
    const char *skeleton_dir, *skeleton; /* likewise */
    const kd_data_set *set;              /* as in kd_scan_item */
    kd_sample_id id;
} kd_catalog_item;

typedef struct kd_catalog {
    kd_catalog_item *item; /* [n], sorted by key */
    size_t n;
    kd_scan scan[2];
    char *dir[2]; /* of the scans; [1] NULL when one scan serves both kinds */
} kd_catalog;

/* Scan what data.root, data.layout, data.video_dir and data.skeleton_dir say.  An empty root is
 * KD_E_CONFIG; the layout of a data set without its folders is KD_E_DATA. */
KD_NODISCARD kd_status kd_catalog_open(const kd_data_opts *cfg, kd_catalog *out, kd_err *err);
void kd_catalog_free(kd_catalog *c); /* zeroed or NULL is legal */

const kd_catalog_item *kd_catalog_find(const kd_catalog *c, const char *key); /* NULL: absent */

#endif
