/* Checking a whole logit store, also a damaged one: every fault is told, what can still be read is
 * counted. */
#include "formats/base/io.h"
#include "formats/store/store_reader.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

typedef struct check {
    kd_store *s;
    kd_store_cursor *c;
    void (*fault)(void *user, const char *line);
    void *user;
    kd_store_verify_report *report;
    kd_err *err;
    kd_status st; /* KD_E_INTEGRITY once a fault was told; KD_E_OOM, KD_E_IO stop the walk */
    double *scratch;
    float *merged;
} check;

/* Tell one fault.  What the machine could not do (memory, read errors) is no fault of the file and
 * stops the walk. */
static bool tell(check *k, kd_status code, const char *line)
{
    const bool ours = code == KD_E_OOM || code == KD_E_IO;
    if (k->fault != NULL && !ours) {
        k->fault(k->user, line);
    }
    if (k->st == KD_OK || ours) {
        k->st = ours ? code : KD_E_INTEGRITY;
    }
    (void)KD_FAIL(k->err, k->st, "%s", line); /* keeps the first */
    return !ours;
}

static void KD_PRINTF(3, 4) tellf(check *k, uint64_t *count, const char *fmt, ...)
{
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    (*count)++;
    (void)tell(k, KD_E_INTEGRITY, line);
}

/* ---- one record ------------------------------------------------------------------------------ */

/* Why the values of a record cannot be what a teacher left; NULL when they can. */
static const char *value_fault(check *k, const kd_store_record *r)
{
    const kd_store_manifest *m = &k->s->head.m;
    const size_t c = (size_t)m->n_classes;
    double top = 0;
    double sum = 0;
    for (size_t i = 0; i < (size_t)r->n_views * c; i++) {
        if (!isfinite(r->logits[i])) {
            return "a logit is not finite";
        }
        top = KD_MAX(top, fabs((double)r->logits[i]));
    }
    for (int i = 0; i < m->feature_dim; i++) {
        if (!isfinite(r->feature[i])) {
            return "a feature is not finite";
        }
    }
    kdi_store_merge_views(r->logits, r->n_views, c, strcmp(m->merge, "score") == 0, k->scratch, k->merged);
    /* a logit off by d changes a probability by at most the factor exp(2 d); d is the rounding of
     * its dtype */
    const double rounding = m->logit_dtype == KD_F16 ? 0x1p-11 : 0x1p-23;
    const double allowed = expm1(2 * rounding * top) + 1e-5;
    for (size_t i = 0; i < c; i++) {
        const double p = (double)r->prob[i];
        sum += p;
        if (!(fabs(p - (double)k->merged[i]) <= allowed)) {
            return "the mean probability is not that of the logits";
        }
    }
    return fabs(sum - 1.0) <= 1e-3 ? NULL : "probabilities do not sum to 1";
}

static void check_values(check *k, const kd_raw *raw, const char *where)
{
    kd_store_record r;
    kd_err why = {0};
    const kd_status st = kd_store_lend(k->c, raw, &r, &why);
    if (st != KD_OK) {
        (void)tell(k, st, why.msg);
        return;
    }
    const char *what = value_fault(k, &r);
    if (what == NULL) {
        k->report->records++;
    } else {
        uint64_t bad = 0;
        tellf(k, &bad, "%s: %s", where, what);
        k->report->bad_records += (int64_t)bad;
    }
}

/* ---- by the index ---------------------------------------------------------------------------- */

static bool check_block(check *k, size_t number)
{
    kd_block b = {0};
    kd_err why = {0};
    kd_store *s = k->s;
    const kd_status st = kd_store_load_block(s, number, true, &b, &why);
    if (st != KD_OK) {
        k->report->bad_blocks++;
        k->report->bad_records += s->index.block[number].n;
        return tell(k, st, why.msg);
    }
    k->report->blocks++;
    for (int i = 0; i < b.n; i++) {
        why = (kd_err){0};
        if (kd_store_check_record(s, number, &b, i, &why) != KD_OK) {
            k->report->bad_records++;
            (void)tell(k, KD_E_INTEGRITY, why.msg);
            continue;
        }
        char where[400];
        (void)snprintf(where, sizeof where, "%.200s: block %zu at byte %llu, record %s", s->path, number,
                       (unsigned long long)s->index.block[number].offset, s->index.id[b.first + (uint64_t)i]);
        check_values(k, &b.rec[i], where);
    }
    kd_block_free(&b);
    return k->st == KD_OK || k->st == KD_E_INTEGRITY;
}

/* ---- without an index ------------------------------------------------------------------------ */

/* Position of the next data frame's magic at or after `at`, or the end. */
static size_t next_frame(const kd_map *map, size_t at)
{
    static const uint8_t MAGIC[4] = {0x28, 0xB5, 0x2F, 0xFD};
    const uint8_t *p = at < map->bytes ? memmem(map->data + at, map->bytes - at, MAGIC, 4) : NULL;
    return p == NULL ? map->bytes : (size_t)(p - map->data);
}

static void walk_records(check *k, const kd_block *b, size_t at)
{
    kd_store *s = k->s;
    for (int i = 0; i < b->n; i++) {
        char id[KD_STORE_ID_MAX + 1];
        kd_raw_id(&b->rec[i], id);
        char where[640];
        (void)snprintf(where, sizeof where, "%.200s: block %u at byte %zu, record %s", s->path, b->number, at, id);
        uint64_t bad = 0;
        if (kd_raw_hash(&b->rec[i]) != kd_get64(b->rec[i].meta + 4)) {
            tellf(k, &bad, "%s: the record's checksum does not match", where);
        } else if (kd_index_find(&s->index, id) >= 0) {
            tellf(k, &bad, "%s: this id is there twice", where);
        } else if (!kd_index_add(&s->index, id, kd_raw_label(&b->rec[i]))) {
            (void)tell(k, KD_E_OOM, "verify: out of memory");
            return;
        } else {
            check_values(k, &b->rec[i], where);
        }
        k->report->bad_records += (int64_t)bad;
    }
}

static void walk_frames(check *k, const kd_map *map)
{
    size_t at = k->s->head.json_bytes + KD_ZSTD_SKIPPABLE_HEAD;
    bool running = true;
    while (running && at < map->bytes) {
        kd_zstd_info info;
        kd_block b = {0};
        kd_err why = {0};
        kd_status st = kd_zstd_look(map->data + at, map->bytes - at, KD_STORE_BLOCK_MAX, &info, &why);
        if (st == KD_OK && info.skippable) {
            at += info.frame_bytes;
            continue;
        }
        if (st == KD_OK) {
            st = kd_block_unpack(&k->s->head, map->data + at, info.frame_bytes, &b, &why);
        }
        if (st == KD_OK) {
            k->report->blocks++;
            walk_records(k, &b, at);
            at += info.frame_bytes;
        } else {
            k->report->bad_blocks++;
            (void)kd_err_prefix(&why, st, "%.200s: byte %zu", k->s->path, at);
            running = tell(k, st, why.msg);
            at = next_frame(map, at + 1);
        }
        kd_block_free(&b);
        running = running && (k->st == KD_OK || k->st == KD_E_INTEGRITY);
    }
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void check_all(check *k)
{
    kd_store *s = k->s;
    kd_err why = {0};
    kd_map map = {NULL, 0};
    kd_status st = kd_store_load_index(s, &why);
    if (st == KD_OK) {
        for (size_t i = 0; i < s->index.n_blocks; i++) {
            if (!check_block(k, i)) {
                return;
            }
        }
    } else {
        k->report->bad_structure++;
        if (!tell(k, st, why.msg)) {
            return;
        }
        why = (kd_err){0};
        st = kd_io_map(s->path, &map, &why);
        if (st != KD_OK) {
            (void)tell(k, st, why.msg);
            return;
        }
        walk_frames(k, &map);
        kd_io_unmap(&map);
    }
    const int64_t total = k->report->records + k->report->bad_records;
    if (s->head.m.expected > 0 && total != s->head.m.expected) {
        tellf(k, &k->report->bad_structure, "%.200s: %lld records, the manifest expects %lld", s->path,
              (long long)total, (long long)s->head.m.expected);
    }
}

kd_status kd_store_verify(const char *path, void (*fault)(void *user, const char *line), void *user,
                          kd_store_verify_report *report, kd_err *err)
{
    kd_store_verify_report unused;
    check k = {.fault = fault, .user = user, .err = err};
    k.report = report == NULL ? &unused : report;
    *k.report = (kd_store_verify_report){0};
    kd_err why = {0};
    kd_status st = kd_store_open_head(path, &k.s, &why);
    if (st != KD_OK) {
        k.report->bad_structure++;
        if (fault != NULL) {
            fault(user, why.msg);
        }
        return KD_FAIL(err, st, "%s", why.msg);
    }
    KD_GO(kd_store_cursor_new(k.s, &k.c, err));
    const size_t c = (size_t)k.s->head.m.n_classes;
    k.scratch = kd_alloc(2 * c * sizeof *k.scratch);
    k.merged = kd_alloc(c * sizeof *k.merged);
    if (k.scratch == NULL || k.merged == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
        goto done;
    }
    check_all(&k);
    st = k.st;
done:
    kd_free(k.scratch);
    kd_free(k.merged);
    kd_store_cursor_free(k.c);
    kd_store_close(k.s);
    return st;
}
