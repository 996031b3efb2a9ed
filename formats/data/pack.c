/* The files of a pack: see pack.h. */
#include "formats/data/pack.h"

#include "formats/base/io.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define HEADING        "path\tframes\twidth\theight\tbytes\tsource_bytes\n"
#define FILE_BYTES_MAX ((size_t)1 << 30)
#define KIND           "lastkd pack"
enum { VERSION = 1, FIELDS = 6 };

bool kd_pack_is(const char *dir)
{
    char *path = kd_path_join(dir, KD_PACK_HEAD);
    const bool yes = path != NULL && kd_path_is_file(path);
    kd_free(path);
    return yes;
}

void kd_pack_free(kd_pack *pack)
{
    if (pack != NULL) {
        kd_free(pack->row);
        kd_free(pack->text);
        *pack = (kd_pack){0};
    }
}

/* ---- rows ------------------------------------------------------------------------------------ */

static int by_path(const void *a, const void *b)
{
    return strcmp(((const kd_pack_row *)a)->path, ((const kd_pack_row *)b)->path);
}

const kd_pack_row *kd_pack_find(const kd_pack *pack, const char *path)
{
    const kd_pack_row key = {.path = path};
    return pack->n > 0 ? bsearch(&key, pack->row, pack->n, sizeof key, by_path) : NULL;
}

/* A number that ends at `stop`; false: something else stands there. */
static bool read_number(const char *text, char stop, int64_t *out, const char **next)
{
    char *end = NULL;
    const long long v = text[0] >= '0' && text[0] <= '9' ? strtoll(text, &end, 10) : -1;
    if (end == NULL || *end != stop) {
        return false;
    }
    *out = v;
    *next = end + 1;
    return true;
}

static bool read_row(char *line, kd_pack_row *r)
{
    int64_t v[FIELDS - 1];
    char *tab = strchr(line, '\t');
    if (tab == NULL || tab == line) {
        return false;
    }
    const char *at = tab + 1;
    for (int i = 0; i < FIELDS - 1; i++) {
        if (!read_number(at, i < FIELDS - 2 ? '\t' : '\0', &v[i], &at)) {
            return false;
        }
    }
    *tab = '\0';
    *r = (kd_pack_row){line, v[0], (int)KD_MIN(v[1], 1 << 20), (int)KD_MIN(v[2], 1 << 20), v[3], v[4]};
    return r->frames > 0;
}

/* The lines of `pack->text`, each ended by a line feed. */
static kd_status read_rows(kd_pack *pack, const char *path, bool heading, kd_err *err)
{
    size_t lines = 0, number = 1;
    char *at = pack->text;
    if (heading) {
        if (strncmp(at, HEADING, sizeof HEADING - 1) != 0) {
            return KD_FAIL(err, KD_E_FORMAT, "%s: line 1: expected the heading of a pack; make the pack again", path);
        }
        at += sizeof HEADING - 1;
        number++;
    }
    for (const char *p = at; *p != '\0'; p++) {
        lines += *p == '\n';
    }
    pack->row = kd_calloc(lines + 1, sizeof *pack->row);
    if (pack->row == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: no memory for %zu rows", path, lines);
    }
    for (char *end; (end = strchr(at, '\n')) != NULL; at = end + 1, number++) {
        *end = '\0';
        if (!read_row(at, &pack->row[pack->n++])) {
            return KD_FAIL(err, KD_E_FORMAT,
                           "%s: line %zu: expected a path and five numbers with tabs between them; make the pack again",
                           path, number);
        }
    }
    if (*at != '\0' && heading) {
        return KD_FAIL(err, KD_E_FORMAT, "%s: line %zu has no end: the file is cut; make the pack again", path, number);
    }
    return KD_OK;
}

static kd_status load(const char *dir, const char *name, bool heading, kd_pack *pack, kd_err *err)
{
    char *path = kd_path_join(dir, name);
    uint8_t *data = NULL;
    size_t bytes = 0;
    kd_status st = path != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "%s: out of memory", dir);
    if (st == KD_OK) {
        st = kd_io_read_file(path, FILE_BYTES_MAX, &data, &bytes, err);
    }
    if (st == KD_OK && (pack->text = kd_alloc(bytes + 1)) == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "%s: no memory for %zu bytes", path, bytes);
    }
    if (st == KD_OK) {
        memcpy(pack->text, data, bytes);
        pack->text[bytes] = '\0';
        st = read_rows(pack, path, heading, err);
    }
    kd_free(data);
    kd_free(path);
    return st;
}

/* The rows by path, the later of two alone. */
static void sort_rows(kd_pack *pack)
{
    size_t kept = 0;
    qsort(pack->row, pack->n, sizeof *pack->row, by_path);
    for (size_t i = 0; i < pack->n; i++) {
        if (kept > 0 && strcmp(pack->row[kept - 1].path, pack->row[i].path) == 0) {
            if (pack->row[i].path > pack->row[kept - 1].path) { /* paths lie in the order of the lines */
                pack->row[kept - 1] = pack->row[i];
            }
        } else {
            pack->row[kept++] = pack->row[i];
        }
    }
    pack->n = kept;
}

kd_status kd_pack_read_part(const char *dir, kd_pack *out, kd_err *err)
{
    char *path = kd_path_join(dir, KD_PACK_PART);
    const bool there = path != NULL && kd_path_is_file(path);
    *out = (kd_pack){0};
    kd_free(path);
    if (!there) {
        return KD_OK;
    }
    const kd_status st = load(dir, KD_PACK_PART, false, out, err);
    if (st != KD_OK) {
        kd_pack_free(out);
        return st;
    }
    sort_rows(out);
    return KD_OK;
}

/* ---- head ------------------------------------------------------------------------------------ */

static kd_status hash_recipe(const kd_json *recipe, char hex[KD_SHA256_HEX], kd_err *err)
{
    char *text = NULL;
    size_t bytes = 0;
    KD_TRY(kd_json_dump(recipe, KD_JSON_COMPACT, &text, &bytes, err));
    const kd_status st = kd_sha256(text, bytes, hex, err);
    kd_free(text);
    return st;
}

kd_status kd_pack_head(kd_json *recipe, char **text, size_t *bytes, kd_err *err)
{
    char hex[KD_SHA256_HEX] = "";
    kd_json *head = kd_json_object();
    kd_status st = hash_recipe(recipe, hex, err);
    kd_json_set_str(head, "kind", KIND);
    kd_json_set_i64(head, "version", VERSION);
    kd_json_set_copy(head, "recipe", recipe);
    kd_json_set_str(head, "sha256", hex);
    if (st == KD_OK) {
        st = kd_json_dump(head, KD_JSON_PRETTY, text, bytes, err);
    }
    kd_json_free(head);
    kd_json_free(recipe);
    return st;
}

static kd_status read_head(const char *path, char sha256[KD_SHA256_HEX], kd_err *err)
{
    uint8_t *data = NULL;
    size_t bytes = 0;
    kd_json *head = NULL;
    const kd_json *recipe = NULL;
    const char *kind = "", *said = "";
    int64_t version = 0;
    kd_status st;
    KD_GO(kd_io_read_file(path, 1 << 20, &data, &bytes, err));
    KD_GO(kd_json_parse((const char *)data, bytes, path, &head, err));
    KD_GO(kd_json_get_str(head, "kind", &kind, err));
    KD_GO(kd_json_get_i64(head, "version", &version, err));
    KD_GO(kd_json_get_object(head, "recipe", &recipe, err));
    KD_GO(kd_json_get_str(head, "sha256", &said, err));
    KD_GO(hash_recipe(recipe, sha256, err));
    if (strcmp(kind, KIND) != 0 || version != VERSION) {
        st = KD_FAIL(err, KD_E_FORMAT, "%s: expected kind '" KIND "', version %d, found '%s', %" PRId64, path, VERSION,
                     kind, version);
    } else if (strcmp(said, sha256) != 0) {
        st = KD_FAIL(err, KD_E_FORMAT, "%s: the recipe's hash is %.12s, the file says %.12s: it was changed", path,
                     sha256, said);
    }
done:
    kd_json_free(head);
    kd_free(data);
    return st;
}

kd_status kd_pack_read(const char *dir, kd_pack *out, kd_err *err)
{
    char *head = kd_path_join(dir, KD_PACK_HEAD), *rows = kd_path_join(dir, KD_PACK_ROWS);
    kd_status st = head != NULL && rows != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "%s: out of memory", dir);
    *out = (kd_pack){0};
    if (st == KD_OK) {
        st = read_head(head, out->sha256, err);
    }
    if (st == KD_OK && !kd_path_is_file(rows)) {
        st = KD_FAIL(err, KD_E_STATE, "%s: the pack is not finished; go on with `kd dataset pack ... --resume`", dir);
    }
    if (st == KD_OK) {
        st = load(dir, KD_PACK_ROWS, true, out, err);
    }
    if (st != KD_OK) {
        kd_pack_free(out);
    } else {
        sort_rows(out);
    }
    kd_free(head);
    kd_free(rows);
    return st;
}

/* ---- writing --------------------------------------------------------------------------------- */

char *kd_pack_line(const kd_pack_row *r)
{
    return kd_strf("%s\t%" PRId64 "\t%d\t%d\t%" PRId64 "\t%" PRId64 "\n", r->path, r->frames, r->width, r->height,
                   r->bytes, r->source_bytes);
}

static kd_status write_rows(const char *path, const kd_pack_row *row, size_t n, kd_err *err)
{
    kd_writer *w = NULL;
    kd_status st;
    KD_TRY(kd_writer_open(path, &w, err));
    KD_GO(kd_writer_put(w, HEADING, sizeof HEADING - 1, err));
    for (size_t i = 0; i < n; i++) {
        char *line = kd_pack_line(&row[i]);
        st = line != NULL ? kd_writer_put(w, line, strlen(line), err)
                          : KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
        kd_free(line);
        if (st != KD_OK) {
            goto done;
        }
    }
    st = kd_writer_commit(w, err);
    w = NULL;
done:
    kd_writer_abort(w);
    return st;
}

kd_status kd_pack_finish(const char *dir, kd_pack_row *row, size_t n, kd_err *err)
{
    char *path = kd_path_join(dir, KD_PACK_ROWS), *part = kd_path_join(dir, KD_PACK_PART);
    kd_status st = path != NULL && part != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "%s: out of memory", dir);
    if (st == KD_OK) {
        qsort(row, n, sizeof *row, by_path);
        st = write_rows(path, row, n, err);
    }
    if (st == KD_OK) {
        (void)unlink(part);
    }
    kd_free(path);
    kd_free(part);
    return st;
}
