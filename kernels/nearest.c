/* Nearest name: see kd_options.h. */
#include "kernels/kd_options.h"

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
