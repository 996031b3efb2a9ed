/* samples.tsv of a run directory: see samples.h. */
#include "distill/run/samples.h"

#include "formats/base/io.h"

#include <stdio.h>
#include <stdlib.h>

enum { MAX_BYTES = 1 << 30 };

static const char *const HALF[KD_HALVES] = {"train", "val"};

kd_status kd_samples_write(const char *path, const kd_dataset *ds, kd_err *err)
{
    kd_writer *w = NULL;
    KD_TRY(kd_writer_open(path, &w, err));
    for (int h = 0; h < KD_HALVES; h++) {
        for (size_t i = 0; i < ds->half[h].n; i++) {
            const kd_data_sample *s = &ds->half[h].sample[i];
            char *line = kd_strf("%s\t%s\t%d\n", HALF[h], s->id, s->label);
            const kd_status st = line != NULL ? kd_writer_put(w, line, strlen(line), err)
                                              : KD_FAIL(err, KD_E_OOM, "%s: out of memory", path);
            kd_free(line);
            if (st != KD_OK) {
                kd_writer_abort(w);
                return st;
            }
        }
    }
    return kd_writer_commit(w, err);
}

/* ---- comparing ------------------------------------------------------------------------------- */

typedef struct difference {
    size_t gone, added, relabelled;
    char first_gone[80], first_added[80], first_relabelled[120];
} difference;

static void note(size_t *count, char *first, size_t size, const char *text)
{
    if ((*count)++ == 0) {
        (void)snprintf(first, size, "%s", text);
    }
}

/* One line of the file, cut into its parts in place; the line after it, NULL at the end. */
static char *cut_line(char *line, char **half, char **id, int *label)
{
    char *end = strchr(line, '\n');
    char *next = end != NULL ? end + 1 : NULL;
    if (end != NULL) {
        *end = '\0';
    }
    char *first = strchr(line, '\t'), *last = strrchr(line, '\t');
    *half = *id = NULL;
    if (first != NULL && last > first) {
        *first = *last = '\0';
        *half = line;
        *id = first + 1;
        *label = (int)strtol(last + 1, NULL, 10);
    }
    return next;
}

/* Both lists are in id order. */
static void compare(char *text, const char *name, const kd_half *now, difference *d)
{
    char *half, *id, labels[120];
    int label = 0;
    size_t i = 0;
    for (char *line = text; line != NULL && *line != '\0';) {
        line = cut_line(line, &half, &id, &label);
        if (half == NULL || strcmp(half, name) != 0) {
            continue;
        }
        while (i < now->n && strcmp(now->sample[i].id, id) < 0) {
            note(&d->added, d->first_added, sizeof d->first_added, now->sample[i++].id);
        }
        if (i == now->n || strcmp(now->sample[i].id, id) != 0) {
            note(&d->gone, d->first_gone, sizeof d->first_gone, id);
            continue;
        }
        if (now->sample[i].label != label) {
            (void)snprintf(labels, sizeof labels, "%.70s: %d then, %d now", id, label, now->sample[i].label);
            note(&d->relabelled, d->first_relabelled, sizeof d->first_relabelled, labels);
        }
        i++;
    }
    for (; i < now->n; i++) {
        note(&d->added, d->first_added, sizeof d->first_added, now->sample[i].id);
    }
}

/* "2 gone (S001...)" */
static size_t say(char *text, size_t size, size_t at, size_t count, const char *what, const char *first)
{
    if (count == 0 || at >= size) {
        return at;
    }
    return at + (size_t)snprintf(text + at, size - at, "%s%zu %s (%s%s)", at != 0 ? ", " : "", count, what, first,
                                 count > 1 ? ", ..." : "");
}

void kd_samples_differ(const char *path, const kd_dataset *ds, char *text, size_t size)
{
    text[0] = '\0';
    for (int h = 0; h < KD_HALVES && text[0] == '\0'; h++) {
        uint8_t *data = NULL;
        size_t bytes = 0;
        difference d = {.gone = 0};
        if (kd_io_read_file(path, MAX_BYTES, &data, &bytes, NULL) != KD_OK) {
            return;
        }
        compare((char *)data, HALF[h], &ds->half[h], &d);
        kd_free(data);
        size_t at = say(text, size, 0, d.gone, "gone", d.first_gone);
        at = say(text, size, at, d.added, "new", d.first_added);
        (void)say(text, size, at, d.relabelled, "with another label", d.first_relabelled);
    }
}
