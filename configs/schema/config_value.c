/* Values of one row of the schema: what is expected, parsing, lists, defaults. */
#include "configs/schema/config_table.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

/* i-th of "a|b|c" and its length; NULL when there are fewer. */
static const char *enum_item(const char *names, int i, size_t *len)
{
    const char *p = names;
    for (int at = 0;; at++) {
        const size_t n = strcspn(p, "|");
        if (at == i) {
            *len = n;
            return p;
        }
        if (p[n] == '\0') {
            return NULL;
        }
        p += n + 1;
    }
}

/* "one of a|b|c" from a registry. */
static void registry_text(const kd_cfg_row *row, char *buf, size_t size)
{
    size_t used = (size_t)snprintf(buf, size, "one of ");
    const char *name = NULL;
    for (int i = 0; (name = row->registry(i)) != NULL && used + strlen(name) + 5 < size; i++) {
        used += (size_t)snprintf(buf + used, size - used, "%s%s", i > 0 ? "|" : "", name);
    }
    (void)snprintf(buf + used, size - used, "%s", name != NULL ? "|..." : "");
}

static const char *registry_name(size_t i, const void *user)
{
    return ((const kd_cfg_row *)user)->registry((int)i);
}

static size_t registry_count(const kd_cfg_row *row)
{
    int n = 0;
    while (row->registry(n) != NULL) {
        n++;
    }
    return (size_t)n;
}

/* "a list of at most 16 maps of match, lr_scale, decay" */
static void maps_text(const kd_cfg_row *row, char *buf, size_t size)
{
    size_t used = (size_t)snprintf(buf, size, "a list of at most %zu maps of ", row->cap);
    for (size_t i = 0; i < row->item->n_rows && used < size; i++) {
        const bool rest = row->item->row[i].type == KD_CFG_REST;
        used += (size_t)snprintf(buf + used, size - used, "%s%s", i > 0 ? ", " : "",
                                 rest ? "keys of a recipe" : row->item->row[i].path);
    }
}

void kd_cfg_expected(const kd_cfg_row *row, char *buf, size_t size)
{
    switch (row->type) {
    case KD_CFG_INT:
    case KD_CFG_INT64:
        (void)snprintf(buf, size, "an integer in [%.0f, %.0f]", row->lo, row->hi);
        break;
    case KD_CFG_REAL:
        (void)snprintf(buf, size, "a number in [%g, %g]", row->lo, row->hi);
        break;
    case KD_CFG_BOOL:
        (void)snprintf(buf, size, "true or false");
        break;
    case KD_CFG_ENUM:
        (void)snprintf(buf, size, "one of %s", row->names);
        break;
    case KD_CFG_NAME_OF:
        registry_text(row, buf, size);
        break;
    case KD_CFG_STR:
        (void)snprintf(buf, size, "text of at most %zu bytes", row->cap - 1);
        break;
    case KD_CFG_REALS:
        (void)snprintf(buf, size, "a list of %zu numbers in [%g, %g]", row->cap, row->lo, row->hi);
        break;
    case KD_CFG_NUMBERS:
        (void)snprintf(buf, size, "a list of at most %zu numbers in [%g, %g]", row->cap, row->lo, row->hi);
        break;
    case KD_CFG_INTS:
        (void)snprintf(buf, size, "a list of at most %zu integers in [%.0f, %.0f]", row->cap, row->lo, row->hi);
        break;
    case KD_CFG_NAMES:
        (void)snprintf(buf, size, "a list of at most %zu names of at most %d bytes", row->cap, KD_CFG_NAME - 1);
        break;
    case KD_CFG_PATHS:
        (void)snprintf(buf, size, "a path, or a list of at most %zu", row->cap);
        break;
    case KD_CFG_MAPS:
        maps_text(row, buf, size);
        break;
    case KD_CFG_REST:
        (void)snprintf(buf, size, "keys of a recipe of at most %zu bytes", row->cap - 1);
        break;
    case KD_CFG_SECTION:
        (void)snprintf(buf, size, "a map");
        break;
    }
}

/* "010", "-01.5": eight for a reader of YAML 1.1, ten for one of 1.2. */
static bool has_leading_zero(const char *text)
{
    text += text[0] == '-' || text[0] == '+';
    return text[0] == '0' && text[1] >= '0' && text[1] <= '9';
}

/* Decimal integer without blanks; false when it is anything else or beyond 2^53. */
static bool parse_integer(const char *text, int64_t *out)
{
    const char *p = text + (text[0] == '-' || text[0] == '+');
    if (*p == '\0' || strlen(p) > 16 || has_leading_zero(text) || strspn(p, "0123456789") != strlen(p)) {
        return false;
    }
    errno = 0;
    const long long v = strtoll(text, NULL, 10);
    *out = (int64_t)v;
    return errno == 0;
}

/* Decimal number: digits with an optional point and exponent ("1e-3" and ".75" included; no hex,
 * nan, inf). */
static bool parse_real(const char *text, double *out)
{
    if (text[0] == '\0' || strlen(text) > 40 || has_leading_zero(text) ||
        strspn(text, "0123456789+-.eE") != strlen(text) || strpbrk(text, "0123456789") == NULL) {
        return false;
    }
    char *end = NULL;
    *out = strtod(text, &end);
    return *end == '\0' && isfinite(*out);
}

/* Control characters and the line breaks of Unicode would not survive printing; no path or name needs them. */
static bool clean_char(const char *s)
{
    const unsigned char c = (unsigned char)s[0];
    const unsigned char d = (unsigned char)s[1];
    return c >= 0x20 && c != 0x7f && !(c == 0xc2 && d < 0xa0) &&
           !(c == 0xe2 && d == 0x80 && ((unsigned char)s[2] & 0xfeu) == 0xa8);
}

static bool clean_text(const char *s)
{
    while (*s != '\0' && clean_char(s)) {
        s++;
    }
    return *s == '\0';
}

static bool is_text(const kd_cfg_row *row)
{
    return row->type == KD_CFG_STR || row->type == KD_CFG_NAMES || row->type == KD_CFG_PATHS;
}

/* `text` fit for a terminal and one line: control characters and the line breaks of Unicode as \n, \x1b, ... */
static void shown(const char *text, char *buf, size_t size)
{
    size_t n = 0;
    int left = 0; /* bytes of a line break of Unicode that are still to come */
    for (const char *p = text; *p != '\0' && n + 5 < size && n < 60; p++) {
        const unsigned char c = (unsigned char)*p;
        const char *name = strchr("\nn\tt\rr", *p);
        if (left == 0 && !clean_char(p)) {
            left = c == 0xe2 ? 3 : c == 0xc2 ? 2 : 1;
        }
        if (left == 0) {
            buf[n++] = *p;
            continue;
        }
        left--;
        n += (size_t)(c < 0x20 && name != NULL ? snprintf(buf + n, size - n, "\\%c", name[1])
                                               : snprintf(buf + n, size - n, "\\x%02x", c));
    }
    buf[n] = '\0';
}

static bool is_number(const kd_cfg_row *row)
{
    return row->type == KD_CFG_INT || row->type == KD_CFG_INT64 || row->type == KD_CFG_REAL ||
           row->type == KD_CFG_REALS || row->type == KD_CFG_NUMBERS || row->type == KD_CFG_INTS;
}

/* What a number that people write in their way should be: a decimal comma, a separator, a leading zero, 50.0. */
static void number_advice(const kd_cfg_row *row, const char *text, bool plain, char *buf, size_t size)
{
    const bool whole = row->type != KD_CFG_REAL && row->type != KD_CFG_REALS && row->type != KD_CFG_NUMBERS;
    char plainer[48];
    double x = 0;
    buf[0] = '\0';
    if (strlen(text) >= sizeof plainer) {
        return;
    }
    (void)snprintf(plainer, sizeof plainer, "%s", text);
    char *comma = strchr(plainer, ',');
    if (comma != NULL) {
        *comma = '.';
        if (!parse_real(plainer, &x)) {
            return;
        }
        (void)snprintf(buf, size,
                       whole ? "; a comma separates items: write the number without it"
                             : "; write the decimal point: %s",
                       plainer);
    } else if (!plain && (parse_real(text, &x) || has_leading_zero(text))) {
        (void)snprintf(buf, size, ", quoted, which is text; write it without quotes");
    } else if (has_leading_zero(text)) {
        (void)snprintf(buf, size, "; YAML readers take a leading zero for octal: write it without");
    } else if (whole && parse_real(text, &x) && x == rint(x) && fabs(x) < 1e15 && x >= row->lo && x <= row->hi) {
        (void)snprintf(buf, size, "; write %.0f", x);
    }
}

/* What to write instead; empty when nobody knows. */
static void advice(const kd_cfg_row *row, const char *text, bool plain, char *buf, size_t size)
{
    static const char *const yes[] = {"yes", "on", "y", "1"}, *const no[] = {"no", "off", "n", "0"};
    buf[0] = '\0';
    if (is_number(row)) {
        number_advice(row, text, plain, buf, size);
        return;
    }
    for (size_t i = 0; row->type == KD_CFG_BOOL && i < KD_COUNTOF(yes); i++) {
        const bool is_yes = strcasecmp(text, yes[i]) == 0;
        if (is_yes || strcasecmp(text, no[i]) == 0) {
            (void)snprintf(buf, size, "; write %s", is_yes ? "true" : "false");
        }
    }
    if (row->type == KD_CFG_BOOL && !plain) {
        (void)snprintf(buf, size, ", quoted, which is text; write it without quotes");
    }
    if (row->type == KD_CFG_NAME_OF) {
        const char *near = kd_nearest(text, registry_count(row), registry_name, row);
        if (near != NULL) {
            (void)snprintf(buf, size, "; did you mean '%s'?", near);
        }
    }
}

static void say(const kd_cfg_row *row, const char *text, bool plain, char *what)
{
    char expected[KD_CFG_WHAT - 220], found[72], more[100];
    shown(text, found, sizeof found);
    if (is_text(row) && !clean_text(text)) {
        (void)snprintf(what, KD_CFG_WHAT,
                       "expected text without control characters, found '%s'; in double quotes a backslash begins an "
                       "escape: use single quotes or /",
                       found);
        return;
    }
    if (is_text(row) && plain && strcmp(text, "None") == 0) {
        (void)snprintf(what, KD_CFG_WHAT, "'None' is text in YAML; leave the value empty or write null");
        return;
    }
    kd_cfg_expected(row, expected, sizeof expected);
    advice(row, text, plain, more, sizeof more);
    (void)snprintf(what, KD_CFG_WHAT, "expected %s, found '%s'%s", expected, found, more);
}

static bool set_number(const kd_cfg_row *row, char *field, size_t i, const char *text)
{
    int64_t n = 0;
    double x = 0;
    if (row->type == KD_CFG_REAL || row->type == KD_CFG_REALS || row->type == KD_CFG_NUMBERS) {
        if (!parse_real(text, &x) || !(x >= row->lo && x <= row->hi)) {
            return false;
        }
        memcpy(field + (row->type == KD_CFG_NUMBERS ? offsetof(kd_cfg_numbers, v) : 0) + i * sizeof x, &x, sizeof x);
        return true;
    }
    if (!parse_integer(text, &n) || (double)n < row->lo || (double)n > row->hi) {
        return false;
    }
    if (row->type == KD_CFG_INT64) {
        memcpy(field, &n, sizeof n);
        return true;
    }
    const int v = (int)n;
    const size_t at = row->type == KD_CFG_INTS ? (i + 1) * sizeof v : 0;
    memcpy(field + at, &v, sizeof v);
    return true;
}

static bool set_enum(const kd_cfg_row *row, char *field, const char *text)
{
    size_t len = 0;
    const char *name;
    for (int i = 0; (name = enum_item(row->names, i, &len)) != NULL; i++) {
        if (strlen(text) == len && strncmp(text, name, len) == 0) {
            memcpy(field, &row->values[i], sizeof row->values[i]);
            return true;
        }
    }
    return false;
}

static bool set_name(const kd_cfg_row *row, char *field, const char *text)
{
    const char *name;
    for (int i = 0; (name = row->registry(i)) != NULL; i++) {
        if (strcmp(text, name) == 0) {
            KD_ASSERT(strlen(name) < row->cap);
            memset(field, 0, row->cap);
            memcpy(field, name, strlen(name));
            return true;
        }
    }
    return false;
}

static bool set_text(const kd_cfg_row *row, char *field, size_t i, const char *text, bool plain)
{
    const bool none = plain && strcmp(text, "None") == 0;
    bool ok = strlen(text) < row->cap && clean_text(text) && !none;
    char *to = field;
    size_t room = row->cap;
    if (row->type == KD_CFG_NAMES) {
        ok = text[0] != '\0' && strlen(text) < KD_CFG_NAME && clean_text(text);
        to = ((kd_cfg_names *)(void *)field)->v[i];
        room = KD_CFG_NAME;
    } else if (row->type == KD_CFG_PATHS) {
        ok = text[0] != '\0' && strlen(text) < KD_CFG_PATH && clean_text(text) && !none;
        to = ((kd_cfg_paths *)(void *)field)->v[i];
        room = KD_CFG_PATH;
    }
    if (ok) {
        memset(to, 0, room);
        memcpy(to, text, strlen(text));
    }
    return ok;
}

/* true, True and TRUE: what YAML 1.2 and PyYAML both take for it. */
static bool is_word(const char *text, const char *word)
{
    const bool tail = strcmp(text + (text[0] != '\0'), word + 1) == 0;
    const bool capitals = strcasecmp(text, word) == 0 && text[1] == word[1] - 'a' + 'A';
    return (tail && (text[0] == word[0] || text[0] == word[0] - 'a' + 'A')) ||
           (capitals && strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == strlen(text));
}

bool kd_cfg_set_item(const kd_cfg_row *row, void *base, size_t i, const char *text, bool plain, char *what)
{
    char *field = (char *)base + row->offset;
    bool ok = false;
    switch (row->type) {
    case KD_CFG_INT:
    case KD_CFG_INT64:
    case KD_CFG_REAL:
    case KD_CFG_REALS:
    case KD_CFG_NUMBERS:
    case KD_CFG_INTS:
        ok = plain && set_number(row, field, i, text);
        break;
    case KD_CFG_BOOL: {
        const bool v = is_word(text, "true");
        ok = plain && (v || is_word(text, "false"));
        if (ok) {
            memcpy(field, &v, sizeof v);
        }
        break;
    }
    case KD_CFG_ENUM:
        ok = set_enum(row, field, text);
        break;
    case KD_CFG_NAME_OF:
        ok = set_name(row, field, text);
        break;
    case KD_CFG_STR:
    case KD_CFG_NAMES:
    case KD_CFG_PATHS:
    case KD_CFG_REST:
        ok = set_text(row, field, i, text, plain);
        break;
    case KD_CFG_MAPS:
    case KD_CFG_SECTION:
        break;
    }
    if (!ok) {
        say(row, text, plain, what);
    }
    return ok;
}

int kd_cfg_list_count(const kd_cfg_row *row, const kd_config *cfg)
{
    if (row->type == KD_CFG_REALS) {
        return (int)row->cap;
    }
    int n = 0;
    memcpy(&n, (const char *)cfg + row->offset, sizeof n); /* first member of every list struct */
    return n;
}

void kd_cfg_list_set_count(const kd_cfg_row *row, kd_config *cfg, int n)
{
    if (row->type == KD_CFG_REALS) {
        return;
    }
    char *field = (char *)cfg + row->offset;
    const size_t bytes = row->type == KD_CFG_NAMES     ? sizeof(kd_cfg_names)
                         : row->type == KD_CFG_PATHS   ? sizeof(kd_cfg_paths)
                         : row->type == KD_CFG_NUMBERS ? sizeof(kd_cfg_numbers)
                         : row->type == KD_CFG_MAPS    ? row->item->first + row->cap * row->item->bytes
                                                       : (row->cap + 1) * sizeof(int);
    memset(field, 0, bytes); /* no stale items: equal configs are equal bytes */
    memcpy(field, &n, sizeof n);
}

void *kd_cfg_map_at(const kd_cfg_row *row, kd_config *cfg, size_t i)
{
    return (char *)cfg + row->offset + row->item->first + i * row->item->bytes;
}

void kd_cfg_map_defaults(const kd_cfg_row *row, void *item)
{
    for (size_t k = 0; k < row->item->n_rows; k++) {
        char what[KD_CFG_WHAT];
        KD_ASSERT(kd_cfg_set_item(&row->item->row[k], item, 0, row->item->row[k].fallback, true, what));
    }
}

static void default_list(const kd_cfg_row *row, kd_config *cfg)
{
    char text[160];
    char what[KD_CFG_WHAT];
    int n = 0;
    KD_ASSERT(strlen(row->fallback) < sizeof text);
    (void)snprintf(text, sizeof text, "%s", row->fallback);
    char *save = NULL;
    kd_cfg_list_set_count(row, cfg, 0);
    for (char *p = strtok_r(text, "[], ", &save); p != NULL; p = strtok_r(NULL, "[], ", &save)) {
        KD_ASSERT(kd_cfg_set_item(row, cfg, (size_t)n, p, true, what));
        n++;
    }
    KD_ASSERT(row->type == KD_CFG_REALS ? n == (int)row->cap : n == 0);
}

void kd_config_defaults(kd_config *out)
{
    memset(out, 0, sizeof *out); /* padding too */
    for (size_t i = 0; i < kd_cfg_row_count; i++) {
        const kd_cfg_row *row = &kd_cfg_rows[i];
        char what[KD_CFG_WHAT];
        if (kd_cfg_is_list(row)) {
            default_list(row, out);
        } else if (row->type != KD_CFG_SECTION) {
            KD_ASSERT(kd_cfg_set_item(row, out, 0, row->fallback, true, what));
        }
    }
}

void kd_cfg_enum_text(const kd_cfg_row *row, int value, char *buf, size_t size)
{
    const char *name = NULL;
    size_t len = 0;
    (void)snprintf(buf, size, "?");
    for (int i = 0; (name = enum_item(row->names, i, &len)) != NULL; i++) {
        if (row->values[i] == value) {
            (void)snprintf(buf, size, "%.*s", (int)len, name);
            return;
        }
    }
}

const char *kd_config_enum_name(const char *path, int value, char buf[KD_CFG_NAME])
{
    const kd_cfg_row *row = kd_cfg_find(path);
    (void)snprintf(buf, KD_CFG_NAME, "?");
    if (row != NULL && row->type == KD_CFG_ENUM) {
        kd_cfg_enum_text(row, value, buf, KD_CFG_NAME);
    }
    return buf;
}
