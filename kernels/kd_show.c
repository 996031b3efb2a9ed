/* Words of messages: text of others as kd_base.h shows it, names near to a misspelt one (kd_options.h). */
#include "kernels/kd_options.h"

#include <stdio.h>
#include <stdlib.h>

/* Bytes of the UTF-8 character at s and its code point; 0: no valid character. */
static size_t utf8_at(const char *s, uint32_t *code)
{
    static const uint32_t LEAST[] = {0, 0, 0x80, 0x800, 0x10000}; /* a longer form than needed is invalid */
    const unsigned char first = (unsigned char)s[0];
    const size_t n = first < 0x80                    ? 1
                     : first >= 0xc2 && first < 0xe0 ? 2
                     : (first >> 4) == 0xe           ? 3
                     : first >= 0xf0 && first < 0xf5 ? 4
                                                     : 0;
    uint32_t c = n == 1 ? first : first & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) { /* the NUL at the end is no continuation */
        if (((unsigned char)s[i] & 0xc0u) != 0x80u) {
            return 0;
        }
        c = c << 6 | ((unsigned char)s[i] & 0x3fu);
    }
    *code = c;
    return n == 0 || c < LEAST[n] || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff ? 0 : n;
}

/* Controls, line and paragraph separators, marks that turn the direction of what follows. */
static bool commands_terminal(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069);
}

/* What stands for the character at s: its bytes or an escape, up to 8 bytes.  Returns how far s goes on. */
static size_t shown_at(const char *s, char out[9])
{
    uint32_t c = 0;
    const size_t n = utf8_at(s, &c);
    if (n == 0) {
        (void)snprintf(out, 9, "\\x%02x", (unsigned char)*s);
        return 1;
    }
    if (!commands_terminal(c)) {
        memcpy(out, s, n);
        out[n] = '\0';
    } else if (c == '\n' || c == '\r' || c == '\t') {
        (void)snprintf(out, 9, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
    } else {
        (void)snprintf(out, 9, c < 0x80 ? "\\x%02x" : "\\u%04x", (unsigned)c);
    }
    return n;
}

char *kd_show(char *out, size_t size, const char *text)
{
    size_t n = 0;
    size_t whole = 0; /* up to here "..." still fits behind */
    while (*text != '\0') {
        char one[9];
        text += shown_at(text, one);
        const size_t m = strlen(one);
        if (n + m >= size) {
            (void)snprintf(out + whole, size - whole, "...");
            return out;
        }
        memcpy(out + n, one, m);
        n += m;
        whole = n + 4 <= size ? n : whole;
    }
    out[n] = '\0';
    return out;
}

char *kd_show_ends(char *out, size_t size, const char *text)
{
    char one[9];
    size_t all = 0;
    for (const char *at = text; *at != '\0'; all += strlen(one)) {
        at += shown_at(at, one);
    }
    if (all < size || size < 32) {
        return kd_show(out, size, text);
    }
    (void)kd_show(out, size - size / 3, text);
    const size_t n = strlen(out);
    while (all >= size - n) {
        text += shown_at(text, one);
        all -= strlen(one);
    }
    (void)kd_show(out + n, size - n, text);
    return out;
}

/* ---- lists of whole numbers ------------------------------------------------------------------ */

enum { LIST_TEXT = 320, MOST_PARTS = 12, PARTS_SHOWN = 10 };

/* The number at *at, which is left behind it and behind a comma and a blank that lead to another number. */
static long take_number(const char **at, bool *more)
{
    char *end = NULL;
    const long value = strtol(*at, &end, 10);
    const char *next = end + (*end == ',') + (end[0] == ',' && end[1] == ' ');
    *more = next > end && *next >= '0' && *next <= '9';
    *at = *more ? next : end;
    return value;
}

/* What stands for the list of numbers at *at, which is left behind the list; fewer than three numbers stay as they
 * are written. */
static void shorten_list(const char **at, char out[LIST_TEXT])
{
    const char *const begin = *at;
    size_t n = 0, cut = 0;
    int parts = 0, numbers = 0;
    bool more = true;
    long next = take_number(at, &more);
    const char *const mark = more && (*at)[-1] == ' ' ? ", " : ",";
    for (bool have = true; have; parts++) {
        const long first = next;
        long last = first - 1;
        while (have && next == last + 1) {
            last = next;
            numbers++;
            have = more;
            next = have ? take_number(at, &more) : next;
        }
        cut = parts == PARTS_SHOWN ? n : cut;
        if (parts < MOST_PARTS) {
            n += (size_t)snprintf(out + n, LIST_TEXT - n, "%s%ld", parts > 0 ? mark : "", first);
            n += last > first ? (size_t)snprintf(out + n, LIST_TEXT - n, "%s%ld", last > first + 1 ? "-" : mark, last)
                              : 0;
        }
    }
    if (numbers < 3) {
        (void)snprintf(out, LIST_TEXT, "%.*s", (int)KD_MIN(*at - begin, LIST_TEXT - 1), begin);
    } else if (parts > MOST_PARTS) {
        (void)snprintf(out + cut, LIST_TEXT - cut, "%s... (%d numbers)", mark, numbers);
    }
}

char *kd_show_lists(char *out, size_t size, const char *text)
{
    char plain[2048] = "";
    size_t n = 0;
    while (*text != '\0' && n + 1 < sizeof plain) { /* more than what fits is cut in any case */
        char part[LIST_TEXT];
        const size_t words = strcspn(text, "0123456789");
        if (words == 0) {
            shorten_list(&text, part);
        } else {
            (void)snprintf(part, sizeof part, "%.*s", (int)KD_MIN(words, sizeof part - 1), text);
            text += KD_MIN(words, sizeof part - 1);
        }
        n += (size_t)snprintf(plain + n, sizeof plain - n, "%s", part);
    }
    return kd_show(out, size, plain);
}

void kd_show_pair(char a_shown[KD_SHOWN_PAIR], char b_shown[KD_SHOWN_PAIR], const char *a, const char *b)
{
    enum { LONG = 48 };
    size_t same = 0;
    while (a[same] != '\0' && a[same] == b[same]) {
        same++;
    }
    while (same > 0 && strchr(",= ['", a[same - 1]) == NULL) { /* to the beginning of a number or a word */
        same--;
    }
    same = same > LONG ? same : 0;
    char *const out[] = {a_shown, b_shown};
    const char *const text[] = {a + same, b + same};
    for (int i = 0; i < 2; i++) {
        const size_t n = same > 0 ? (size_t)snprintf(out[i], KD_SHOWN_PAIR, "...") : 0;
        (void)kd_show_lists(out[i] + n, KD_SHOWN_PAIR - n, text[i]);
    }
}

/* ---- nearest name ---------------------------------------------------------------------------- */

enum { LETTERS = 48 };

int kd_edit_distance(const char *a, const char *b)
{
    int d[LETTERS][LETTERS];
    const size_t la = strlen(a);
    const size_t lb = strlen(b);
    if (la >= LETTERS || lb >= LETTERS) {
        return 99;
    }
    for (size_t i = 0; i <= la; i++) {
        for (size_t j = 0; j <= lb; j++) {
            if (i == 0 || j == 0) {
                d[i][j] = (int)(i + j);
                continue;
            }
            int best = d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
            best = KD_MIN(best, d[i - 1][j] + 1);
            best = KD_MIN(best, d[i][j - 1] + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                best = KD_MIN(best, d[i - 2][j - 2] + 1);
            }
            d[i][j] = best;
        }
    }
    return d[la][lb];
}

int kd_edit_limit(size_t letters)
{
    return letters <= 3 ? 1 : letters <= 6 ? 2 : 3;
}

const char *kd_nearest(const char *word, size_t count, const char *(*get)(size_t i, const void *user), const void *user)
{
    const size_t letters = strlen(word);
    const char *best = NULL;
    int least = kd_edit_limit(letters) + 1;
    for (size_t i = 0; i < count; i++) {
        const char *name = get(i, user);
        if (name == NULL) {
            continue;
        }
        const bool begun = letters >= 3 && strncmp(word, name, letters) == 0;
        const int d = begun ? KD_MIN(1, kd_edit_distance(word, name)) : kd_edit_distance(word, name);
        if (d < least) {
            least = d;
            best = name;
        }
    }
    return best;
}
