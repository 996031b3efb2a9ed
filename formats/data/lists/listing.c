/* Split lists, read: see listing.h.  Keys and writing are in listing_keys.c, data sets' own forms in split_lists.c. */
#include "formats/data/lists/listing.h"

#include "formats/base/io.h"
#include "formats/data/lists/fields.h"
#include "formats/data/lists/lines.h"
#include "formats/data/lists/listing_internal.h"

#include <stdlib.h>

#define FILE_BYTES_MAX ((size_t)256 << 20)

enum column { PATH, LABEL, FRAMES, START, END, PART, COLUMNS };

typedef struct parser {
    kd_lines in;
    const char *name;
    const char *line; /* the current one */
    size_t len;
    char delimiter;      /* ' ' stands for any run of blanks */
    bool heading;        /* the first line names columns */
    int column[COLUMNS]; /* under a heading; -1: there is none */
    size_t columns;      /* of the heading */
    size_t numbers;      /* behind the path, in the first sample line; SIZE_MAX before it */
    bool by_name;        /* labels are class names */
    char *out;           /* where the next string goes in the listing's text */
    kd_err *err;
} parser;

#define FAIL_AT(s, ...) KD_FAIL_LINE((s)->err, KD_E_FORMAT, (s)->name, (s)->in.number, __VA_ARGS__)
#define SHOWN(s)        (int)KD_MIN((s)->len, (size_t)KD_LINES_SHOWN), (s)->line

/* An empty line or a comment.  HMDB51 has clips whose names begin with '#'; a blank stands behind their mark. */
static bool skipped(const kd_lines *in, const char *line, size_t len)
{
    const bool mark = in->blank_end && len > 6 && memcmp(line + len - 6, ".avi ", 5) == 0;
    return len == 0 || (*line == '#' && !mark);
}

/* ---- what kind of list ----------------------------------------------------------------------- */

static const char *const HEADING[COLUMNS][16] = {
    [PATH] = {"path", "file", "filename", "file_name", "filepath", "file_path", "video", "video_path", "clip",
              "youtube_id", "video_id", "video_name", "name", "id"},
    [LABEL] = {"label", "class", "class_id", "label_id", "label_idx", "target", "category", "action", "class_name",
               "classname"},
    [FRAMES] = {"frames", "total_frames", "num_frames", "n_frames"},
    [START] = {"time_start"},
    [END] = {"time_end"},
    [PART] = {"split"},
};

/* Columns of a heading; true when one of them is a label's. */
static bool read_heading(const kdi_row *r, int column[COLUMNS])
{
    for (int c = 0; c < COLUMNS; c++) {
        column[c] = -1;
        for (int w = 0; w < (int)KD_COUNTOF(HEADING[c]) && HEADING[c][w] != NULL && column[c] < 0; w++) {
            for (int i = 0; i < (int)KD_MIN(r->n, (size_t)KDI_ROW_FIELDS) && column[c] < 0; i++) {
                column[c] = kdi_field_is(&r->f[i], HEADING[c][w]) ? i : -1;
            }
        }
    }
    return column[LABEL] >= 0 && r->n >= 2;
}

static bool heading(parser *s, const char *line, size_t len)
{
    static const char candidate[] = "\t,; ";
    for (const char *d = candidate; *d != '\0'; d++) {
        const kdi_row r = kdi_row_split(line, len, *d);
        if (read_heading(&r, s->column)) {
            s->delimiter = *d;
            s->columns = r.n;
            s->column[PATH] = s->column[PATH] >= 0 ? s->column[PATH] : s->column[LABEL] == 0 ? 1 : 0;
            return true;
        }
    }
    return false;
}

/* The delimiter under which most lines end in a whole number; of equals the one that suits the first line.  0: none
 * suits any. */
static char find_delimiter(kd_lines in)
{
    static const char candidate[] = "\t,; ";
    size_t hits[sizeof candidate] = {0};
    bool first[sizeof candidate] = {false};
    const char *line;
    size_t len, lines = 0;
    while (kd_lines_next(&in, &line, &len)) {
        if (skipped(&in, line, len)) {
            continue;
        }
        for (size_t d = 0; candidate[d] != '\0'; d++) {
            int64_t v;
            const kdi_row r = kdi_row_split(line, len, candidate[d]);
            const bool hit = r.n >= 2 && kdi_field_int(kdi_row_end(&r, 0), &v);
            hits[d] += hit;
            first[d] |= hit && lines == 0;
        }
        lines++;
    }
    size_t best = 0;
    for (size_t d = 1; candidate[d] != '\0'; d++) {
        if (hits[d] > hits[best] || (hits[d] == hits[best] && first[d] && !first[best])) {
            best = d;
        }
    }
    return hits[best] > 0 ? candidate[best] : '\0';
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* Copy text into the listing's: quotes undone, zero added. */
static const char *keep(parser *s, const char *p, size_t n)
{
    char *start = s->out;
    const bool quoted = n >= 2 && p[0] == '"' && p[n - 1] == '"';
    if (quoted) {
        p++;
        n -= 2;
    }
    for (size_t i = 0; i < n; i++) {
        if (quoted && p[i] == '"' && i + 1 < n && p[i + 1] == '"') {
            i++;
        }
        *s->out++ = p[i];
    }
    *s->out++ = '\0';
    return start;
}

/* A path: backslashes turned, "./" in front and slashes at the end cut off, several slashes made one. */
static const char *keep_path(parser *s, const char *p, size_t n)
{
    char *start = s->out;
    (void)keep(s, p, n);
    char *to = start;
    for (const char *from = start; *from != '\0'; from++) {
        const char c = *from == '\\' ? '/' : *from;
        if (c != '/' || to == start || to[-1] != '/') {
            *to++ = c;
        }
    }
    while (to > start + 1 && to[-1] == '/') {
        to--;
    }
    *to = '\0';
    s->out = to + 1;
    while (start[0] == '.' && start[1] == '/') {
        start += 2;
    }
    return start;
}

static kd_status take_label(parser *s, int64_t label, kd_list_item *item)
{
    if (label < -1 || label > KD_LISTING_LABEL_MAX) {
        return FAIL_AT(s, "expected a label from 0 to %d, or -1 (none), found %lld", KD_LISTING_LABEL_MAX,
                       (long long)label);
    }
    item->label = label < 0 ? KD_LIST_NO_LABEL : (int32_t)label;
    return KD_OK;
}

static kd_status take_frames(parser *s, int64_t frames, kd_list_item *item)
{
    if (frames < 1 || frames > INT32_MAX) {
        return FAIL_AT(s,
                       "expected a path, its number of frames (1 or more) and a label, found '%.*s'; rows of several "
                       "labels are not read",
                       SHOWN(s));
    }
    item->frames = (int32_t)frames;
    return KD_OK;
}

/* A row under a heading: columns by name. */
static kd_status named_row(parser *s, const kdi_row *r, kd_list_item *item)
{
    int64_t v;
    if (r->n != s->columns || r->n > KDI_ROW_FIELDS) {
        return FAIL_AT(s, "expected %zu fields as in the heading, found %zu: '%.*s'", s->columns, r->n, SHOWN(s));
    }
    const kdi_field *path = &r->f[s->column[PATH]], *label = &r->f[s->column[LABEL]];
    const bool number = kdi_field_int(label, &v);
    const bool none = label->len == 0 || (number && v == -1);
    if (s->numbers == SIZE_MAX && !none) {
        s->by_name = !number;
        s->numbers = 1;
    }
    if (!none && number == s->by_name) {
        return FAIL_AT(s, "expected a label (%s, as in the first line), found '%.*s'",
                       s->by_name ? "the name of a class" : "a whole number", (int)KD_MIN(label->len, (size_t)40),
                       label->at);
    }
    if (none) {
        item->label = KD_LIST_NO_LABEL;
    } else if (number) {
        KD_TRY(take_label(s, v, item));
    } else {
        item->class = keep(s, label->at, label->len);
    }
    if (s->column[FRAMES] >= 0) {
        if (!kdi_field_int(&r->f[s->column[FRAMES]], &v)) {
            return FAIL_AT(s, "expected a number of frames, found '%.*s'", SHOWN(s));
        }
        KD_TRY(take_frames(s, v, item));
    }
    if (s->column[PART] >= 0) {
        item->part = keep(s, r->f[s->column[PART]].at, r->f[s->column[PART]].len);
    }
    if (s->column[START] >= 0 && s->column[END] >= 0) { /* Kinetics: the file is ID_START_END */
        int64_t end;
        if (!kdi_field_int(&r->f[s->column[START]], &v) || !kdi_field_int(&r->f[s->column[END]], &end)) {
            return FAIL_AT(s, "expected time_start and time_end in whole seconds, found '%.*s'", SHOWN(s));
        }
        item->path = kdi_listing_printf(&s->out, "%.*s_%06lld_%06lld.mp4", (int)path->len, path->at, (long long)v,
                                        (long long)end);
        return KD_OK;
    }
    item->path = keep_path(s, path->at, path->len);
    return KD_OK;
}

/* A row whose fields are neither a path and a label nor a path, frames and a label. */
static kd_status refuse_fields(parser *s, const kdi_row *r)
{
    if (s->delimiter == ',' && (r->n == 7 || r->n == 8) && memchr(r->f[2].at, '.', r->f[2].len) != NULL) {
        return FAIL_AT(s, "a row of AVA (video, second, box, action, person): lists of boxes are not read; expected a "
                          "path and a label");
    }
    return FAIL_AT(s, "expected 2 fields (path, label) or 3 (path, frames, label), found %zu: '%.*s'", r->n, SHOWN(s));
}

/* A row whose numbers are not those of the lines before. */
static kd_status refuse_row(parser *s, const kdi_row *r, size_t numbers)
{
    static const char candidate[] = "\t,; ";
    static const char *const NAMED[] = {"tab", "comma", "semicolon", "blank"};
    if (r->open_quote) {
        return FAIL_AT(s, "expected a closing quote, found '%.*s'", SHOWN(s));
    }
    if (numbers == 0 && r->n > 3 && s->delimiter == ',') {
        return refuse_fields(s, r);
    }
    if (numbers == 0) {
        return FAIL_AT(s, "expected a path, a %s and a label (a whole number), found '%.*s'",
                       NAMED[strchr(candidate, s->delimiter) - candidate], SHOWN(s));
    }
    if (numbers >= 3) {
        return FAIL_AT(s,
                       "expected a path and a label, or a path, its number of frames and a label, found '%.*s'; rows "
                       "of several labels and of cut-out clips (path start frames label) are not read%s",
                       SHOWN(s), s->delimiter == ' ' ? " (a path that ends in numbers is written in quotes)" : "");
    }
    return FAIL_AT(s,
                   "expected %zu %s behind the path as in the lines before, found %zu: '%.*s'; rows of several "
                   "labels are not read",
                   s->numbers, s->numbers == 1 ? "number" : "numbers", numbers, SHOWN(s));
}

/* A row without a heading: a path and one or two numbers. */
static kd_status plain_row(parser *s, const kdi_row *r, kd_list_item *item)
{
    int64_t v[3] = {0};
    size_t numbers = 0;
    while (numbers < 3 && numbers + 1 < r->n && kdi_field_int(kdi_row_end(r, numbers), &v[numbers])) {
        numbers++;
    }
    const size_t head = r->n - numbers;
    const kdi_field *path = &r->f[0], *end = kdi_row_end(r, numbers);
    const bool blanks = s->delimiter == ' ' && !path->quoted; /* the path may hold some */
    if (numbers > 0 && numbers < 3 && head > 1 && !blanks) {
        return refuse_fields(s, r);
    }
    if (s->numbers == SIZE_MAX && numbers >= 1 && numbers <= 2) {
        s->numbers = numbers;
    }
    if (r->open_quote || numbers == 0 || numbers != s->numbers) {
        return refuse_row(s, r, numbers);
    }
    KD_TRY(take_label(s, v[0], item));
    if (numbers == 2) {
        KD_TRY(take_frames(s, v[1], item));
    }
    item->path = keep_path(s, path->at, (size_t)(end->at + end->len - path->at));
    return KD_OK;
}

static kd_status unlabelled_row(parser *s, kd_list_item *item)
{
    item->path = keep_path(s, s->line, s->len);
    if (!kd_is_video_name(item->path)) {
        return FAIL_AT(s, "expected a path, a tab, comma or blank, and a label (a whole number), found '%.*s'",
                       SHOWN(s));
    }
    return KD_OK;
}

static kd_status parse_line(parser *s, kd_list_form form, kd_list_item *item)
{
    *item = (kd_list_item){.label = -1, .frames = -1, .line = (uint32_t)s->in.number};
    if (form == KD_LIST_UNLABELLED) {
        return unlabelled_row(s, item);
    }
    const kdi_row r = kdi_row_split(s->line, s->len, s->delimiter);
    return s->heading ? named_row(s, &r, item) : plain_row(s, &r, item);
}

/* ---- the list -------------------------------------------------------------------------------- */

/* HMDB51's files: names without a folder, marks 0, 1 and 2, a blank behind every mark. */
static bool holds_marks(const kd_listing *list, bool all_blank)
{
    bool marks = all_blank && list->n > 0;
    for (size_t i = 0; i < list->n && marks; i++) {
        const kd_list_item *it = &list->item[i];
        marks = it->label >= 0 && it->label <= 2 && it->frames < 0 && strchr(it->path, '/') == NULL;
    }
    return marks;
}

/* The heading, the delimiter and the form, before the first row is read. */
static kd_status look(parser *s, kd_list_form *form)
{
    kd_lines ahead = s->in;
    const char *line;
    size_t len = 0;
    *form = KD_LIST_ROWS;
    while (kd_lines_next(&ahead, &line, &len) && skipped(&ahead, line, len)) {
    }
    if (len == 0) {
        return KD_OK;
    }
    if (len > 16 && memcmp(line, "original_vido_id", 16) == 0) {
        return KD_FAIL_LINE(s->err, KD_E_FORMAT, s->name, ahead.number,
                            "a list of single frames (original_vido_id video_id frame_id path labels), as AVA and "
                            "Charades have: not read; expected a path and a label");
    }
    s->heading = heading(s, line, len);
    if (s->heading) {
        s->in = ahead;
        *form = s->column[START] >= 0 && s->column[END] >= 0 ? KD_LIST_KINETICS : KD_LIST_ROWS;
        return KD_OK;
    }
    s->delimiter = find_delimiter(s->in);
    if (s->delimiter == '\0') {
        const kdi_row r = kdi_row_split(line, len, ',');
        *form = r.n > 2 ? KD_LIST_ROWS : KD_LIST_UNLABELLED;
        s->delimiter = ',';
    }
    return KD_OK;
}

kd_status kd_listing_parse(const char *text, size_t len, const char *name, kd_listing *out, kd_err *err)
{
    parser s = {.name = name, .numbers = SIZE_MAX, .err = err};
    kd_listing list = {.form = KD_LIST_ROWS};
    size_t lines = 1;
    bool all_blank = true;
    kd_status st = KD_OK;

    *out = (kd_listing){.form = KD_LIST_ROWS};
    if (len > FILE_BYTES_MAX) {
        return KD_FAIL(err, KD_E_DATA, "%s: %zu bytes, at most %zu are read", name, len, FILE_BYTES_MAX);
    }
    KD_TRY(kd_lines_open(text, len, name, &s.in, err));
    if (kdi_listing_is_json(s.in.p, (size_t)(s.in.end - s.in.p))) {
        return kdi_listing_json(s.in.p, (size_t)(s.in.end - s.in.p), name, out, err);
    }
    for (size_t i = 0; i < len; i++) {
        lines += text[i] == '\n' || text[i] == '\r';
    }
    /* a path, a class name and a part, each with a zero, and what Kinetics' file names add */
    list.text = kd_alloc(len + 40 * lines);
    list.item = kd_alloc(lines * sizeof *list.item);
    if (list.text == NULL || list.item == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "%s: no memory for %zu lines", name, lines);
        goto done;
    }
    s.out = list.text;
    KD_GO(look(&s, &list.form));
    while (kd_lines_next(&s.in, &s.line, &s.len)) {
        if (skipped(&s.in, s.line, s.len)) {
            continue;
        }
        all_blank = all_blank && s.in.blank_end;
        KD_GO(parse_line(&s, list.form, &list.item[list.n]));
        list.n++;
    }
    if (list.n == 0) {
        st = KD_FAIL(err, KD_E_DATA, "%s: expected samples, found none", name);
        goto done;
    }
    if (holds_marks(&list, all_blank)) {
        list.form = KD_LIST_MARKS;
    }
    *out = list;
    list = (kd_listing){.form = KD_LIST_ROWS};
done:
    kd_listing_free(&list);
    return st;
}

kd_status kd_listing_read(const char *path, kd_listing *out, kd_err *err)
{
    uint8_t *text = NULL;
    size_t len = 0;
    *out = (kd_listing){.form = KD_LIST_ROWS};
    KD_TRY(kd_io_read_file(path, FILE_BYTES_MAX, &text, &len, err));
    const kd_status st = kd_listing_parse((const char *)text, len, path, out, err);
    kd_free(text);
    return st;
}

void kd_listing_free(kd_listing *list)
{
    if (list != NULL) {
        kd_free(list->item);
        kd_free(list->text);
        kd_free(list->keys);
        *list = (kd_listing){.form = KD_LIST_ROWS};
    }
}
