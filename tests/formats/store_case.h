/* What the tests of the logit store share: a folder, a manifest, records with known content. */
#ifndef KD_TESTS_FORMATS_STORE_CASE_H
#define KD_TESTS_FORMATS_STORE_CASE_H

#include "formats/base/io.h"
#include "formats/store/logit_store.h"

/* cmocka needs the first three */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
/* clang-format on */

enum { CLASSES = 5, DIM = 8, VIEWS = 3, FRAMES = 4, RECORDS = 23 };

extern char root[64];
extern const char *const NAMES[CLASSES];

/* A record with known content: a function of i, as is the number of views. */
typedef struct sample {
    char id[32];
    float logits[VIEWS * CLASSES], feature[DIM];
    int32_t frames[VIEWS][FRAMES];
    kd_store_view views[VIEWS];
    kd_store_record rec;
} sample;

int make_root(void **state);
int drop_root(void **state);
/* Path of a name in the test's folder; the same name gives the same string for good. */
const char *in_root(const char *name);
kd_store_manifest manifest(kd_dtype t);
void make_sample(int i, sample *s);
void ok(kd_status st, const kd_err *err);
/* Records from, from + step, ... below `to`; those present are left out. */
void write_some(const char *path, const kd_store_manifest *m, int from, int to, int step, bool resume, bool finish);
void spill(const char *path, const uint8_t *p, size_t n); /* a file of these bytes, not flushed */
uint8_t *slurp(const char *path, size_t *n);              /* kd_free */
void assert_same_file(const char *a, const char *b);
void check_record(const kd_store_record *r, int i);

#endif
