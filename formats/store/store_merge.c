/* Merging rank shards into one store. */
#include "formats/base/io.h"
#include "formats/store/store_reader.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct row {
    uint64_t order;
    uint32_t shard;
    uint32_t record;
} row;

typedef struct merge {
    kd_store **s;
    kd_store_cursor **c;
    size_t n;
    row *row;
    size_t n_rows;
} merge;

static int by_order(const void *a, const void *b)
{
    const row *x = a;
    const row *y = b;
    if (x->order != y->order) {
        return x->order < y->order ? -1 : 1;
    }
    if (x->shard != y->shard) {
        return x->shard < y->shard ? -1 : 1;
    }
    return x->record < y->record ? -1 : x->record > y->record;
}

/* Number of a store among its shards, from 1, and how many there are; false: it is no shard. */
static bool shard_of(const kd_store *s, int *k, int *n)
{
    return sscanf(s->head.m.shard, "%9d/%9d", k, n) == 2;
}

/* Shards of one dump are merged all together or not at all. */
static kd_status check_shards(const merge *g, kd_err *err)
{
    int n = 0, k = 0, other = 0;
    if (!shard_of(g->s[0], &k, &n)) {
        n = 0;
    }
    for (size_t i = 1; i < g->n; i++) {
        if (shard_of(g->s[i], &k, &other) != (n > 0) || (n > 0 && other != n)) {
            return KD_FAIL(err, KD_E_DATA, "%.200s and %.200s: shard '%s' and shard '%s' are not of one dump",
                           g->s[0]->path, g->s[i]->path, g->s[0]->head.m.shard, g->s[i]->head.m.shard);
        }
    }
    for (int wanted = 1; wanted <= n; wanted++) {
        size_t found = 0;
        for (size_t i = 0; i < g->n; i++) {
            found += shard_of(g->s[i], &k, &other) && k == wanted;
        }
        if (found != 1) {
            return KD_FAIL(err, KD_E_DATA, "%.200s: expected each of its %d shards once, found %zu of shard %d/%d",
                           g->s[0]->path, n, found, wanted, n);
        }
    }
    return KD_OK;
}

/* Shards may say that they expect different counts; everything else must agree. */
static kd_status same_manifest(const kd_store *a, const kd_store *b, kd_err *err)
{
    char diff[300];
    kd_store_manifest m = b->head.m;
    kd_store_head h = {0};
    m.expected = a->head.m.expected;
    m.shard = a->head.m.shard; /* check_shards */
    KD_TRY(kd_store_head_make(&m, &h, err));
    const kd_status st = kd_store_head_same(&a->head, "in the first", &h, "in the second", diff, sizeof diff, err);
    kd_store_head_free(&h);
    if (st != KD_OK || diff[0] == '\0') {
        return st;
    }
    return KD_FAIL(err, KD_E_DATA, "%.100s and %.100s: the manifests differ: %s", a->path, b->path, diff);
}

static kd_status open_shards(merge *g, const char *const *paths, kd_err *err)
{
    size_t rows = 0;
    for (size_t i = 0; i < g->n; i++) {
        KD_TRY(kd_store_open(paths[i], &g->s[i], err));
        KD_TRY(kd_store_cursor_new(g->s[i], &g->c[i], err));
        if (i > 0) {
            KD_TRY(same_manifest(g->s[0], g->s[i], err));
        }
        rows += g->s[i]->index.n;
        for (size_t j = 0; j < i; j++) {
            for (size_t r = 0; r < g->s[i]->index.n; r++) {
                const char *id = g->s[i]->index.id[r];
                if (kd_store_find(g->s[j], id) >= 0) {
                    return KD_FAIL(err, KD_E_DATA, "id %s is in %s and in %s", id, paths[j], paths[i]);
                }
            }
        }
    }
    g->row = kd_calloc(KD_MAX(rows, (size_t)1), sizeof *g->row);
    return g->row == NULL ? KD_FAIL(err, KD_E_OOM, "merge: out of memory") : KD_OK;
}

static kd_status sort_rows(merge *g, kd_err *err)
{
    for (size_t i = 0; i < g->n; i++) {
        for (int64_t r = 0; r < kd_store_count(g->s[i]); r++) {
            kd_store_record rec;
            KD_TRY(kd_store_read(g->c[i], r, &rec, err));
            g->row[g->n_rows++] = (row){rec.order, (uint32_t)i, (uint32_t)r};
        }
    }
    qsort(g->row, g->n_rows, sizeof *g->row, by_order);
    return KD_OK;
}

kd_status kd_store_merge(const char *const *paths, size_t n, const char *out_path, bool replace, kd_err *err)
{
    if (n == 0) {
        return KD_FAIL(err, KD_E_ARG, "merge: no stores given");
    }
    if (!replace && kd_path_exists(out_path)) {
        return KD_FAIL(err, KD_E_STATE, "%s: already there", out_path);
    }
    merge g = {.n = n};
    kd_store_writer *w = NULL;
    kd_status st = KD_OK;
    g.s = kd_calloc(n, sizeof(kd_store *));
    g.c = kd_calloc(n, sizeof(kd_store_cursor *));
    if (g.s == NULL || g.c == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "merge: out of memory");
        goto done;
    }
    KD_GO(open_shards(&g, paths, err));
    KD_GO(check_shards(&g, err));
    KD_GO(sort_rows(&g, err));
    kd_store_manifest m = g.s[0]->head.m;
    m.shard = NULL;
    if (m.expected > 0) {
        m.expected = (int64_t)g.n_rows;
    }
    KD_GO(kd_store_writer_open(out_path, &m, KD_STORE_ONCE, &w, NULL, err));
    for (size_t i = 0; i < g.n_rows; i++) {
        kd_store_record rec;
        KD_GO(kd_store_read(g.c[g.row[i].shard], g.row[i].record, &rec, err));
        KD_GO(kd_store_append(w, &rec, err));
    }
    st = kd_store_writer_close(w, err);
    w = NULL;
done:
    if (w != NULL) {
        kd_store_writer_discard(w);
    }
    for (size_t i = 0; i < n; i++) {
        if (g.c != NULL) {
            kd_store_cursor_free(g.c[i]);
        }
        if (g.s != NULL) {
            kd_store_close(g.s[i]);
        }
    }
    kd_free(g.c);
    kd_free(g.s);
    kd_free(g.row);
    return st;
}
