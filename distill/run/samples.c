/* samples.tsv of a run directory: see samples.h. */
#include "distill/run/samples.h"

#include "formats/base/io.h"

#include <stdio.h>
#include <stdlib.h>

enum { MAX_BYTES = 1 << 30 };

static const char *const HALF[KD_HALVES] = {"train", "val"};

kd_status kd_samples_write(const char *path, const kd_dataset *ds, unsigned need, kd_err *err)
{
    kd_writer *w = NULL;
    KD_TRY(kd_writer_open(path, &w, err));
    for (int h = 0; h < KD_HALVES; h++) {
        for (size_t i = 0; i < ds->half[h].n; i++) {
            const kd_data_sample *s = &ds->half[h].sample[i];
            char *line = kd_strf("%s\t%s\t%d\t%lld\n", HALF[h], s->id, s->label, (long long)kd_sample_bytes(s, need));
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
    size_t gone, added, relabelled, resized;
    char first_gone[80], first_added[80], first_relabelled[120], first_resized[80];
} difference;

static void note(size_t *count, char *first, size_t size, const char *text)
{
    if ((*count)++ == 0) {
        (void)snprintf(first, size, "%s", text);
    }
}

/* A line of the file. */
typedef struct entry {
    const char *half, *id; /* NULL: not a line of ours */
    int label;
    int64_t bytes;
} entry;

/* Cuts one line into its parts, in place; the line after it, NULL at the end. */
static char *cut_line(char *line, entry *e)
{
    char *end = strchr(line, '\n');
    char *next = end != NULL ? end + 1 : NULL;
    if (end != NULL) {
        *end = '\0';
    }
    *e = (entry){.half = NULL};
    char *bytes = strrchr(line, '\t'), *label = NULL, *id = strchr(line, '\t');
    if (bytes != NULL) {
        *bytes = '\0';
        label = strrchr(line, '\t');
    }
    if (label != NULL && id < label) {
        *label = *id = '\0';
        *e = (entry){line, id + 1, (int)strtol(label + 1, NULL, 10), strtoll(bytes + 1, NULL, 10)};
    }
    return next;
}

/* What is different in a sample that is there on both sides. */
static void compare_one(const entry *then, const kd_data_sample *now, unsigned need, difference *d)
{
    char labels[120];
    if (now->label != then->label) {
        (void)snprintf(labels, sizeof labels, "%.70s: %d then, %d now", then->id, then->label, now->label);
        note(&d->relabelled, d->first_relabelled, sizeof d->first_relabelled, labels);
    }
    if (kd_sample_bytes(now, need) != then->bytes) {
        note(&d->resized, d->first_resized, sizeof d->first_resized, then->id);
    }
}

/* Both lists are in id order. */
static void compare(char *text, const char *name, const kd_half *now, unsigned need, difference *d)
{
    entry e;
    size_t i = 0;
    for (char *line = text; line != NULL && *line != '\0';) {
        line = cut_line(line, &e);
        if (e.half == NULL || strcmp(e.half, name) != 0) {
            continue;
        }
        while (i < now->n && strcmp(now->sample[i].id, e.id) < 0) {
            note(&d->added, d->first_added, sizeof d->first_added, now->sample[i++].id);
        }
        if (i < now->n && strcmp(now->sample[i].id, e.id) == 0) {
            compare_one(&e, &now->sample[i++], need, d);
        } else {
            note(&d->gone, d->first_gone, sizeof d->first_gone, e.id);
        }
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

void kd_samples_differ(const char *path, const kd_dataset *ds, unsigned need, char *text, size_t size)
{
    text[0] = '\0';
    for (int h = 0; h < KD_HALVES && text[0] == '\0'; h++) {
        uint8_t *data = NULL;
        size_t bytes = 0;
        difference d = {.gone = 0};
        if (kd_io_read_file(path, MAX_BYTES, &data, &bytes, NULL) != KD_OK) {
            return;
        }
        compare((char *)data, HALF[h], &ds->half[h], need, &d);
        kd_free(data);
        size_t at = say(text, size, 0, d.gone, "gone", d.first_gone);
        at = say(text, size, at, d.added, "new", d.first_added);
        at = say(text, size, at, d.relabelled, "with another label", d.first_relabelled);
        (void)say(text, size, at, d.resized, "of another size", d.first_resized);
    }
}
