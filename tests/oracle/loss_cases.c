/* loss_cases DIR: every row of the table of loss terms on 200 batches drawn anew.  DIR/ROW.jsonl says what each batch
 * is, DIR/ROW.safetensors holds what went in and what came out, as f64: "7.z", "7.teacher", "7.f64.value",
 * "7.f32.grad", ...
 *
 * The options of a row are those that terms.inc lists after the row, drawn around their defaults; a recipe that the
 * schema refuses is drawn again. */
#include "configs/schema/kd_config.h"
#include "distill/batch/mixup.h"
#include "formats/base/merge.h"
#include "formats/weights/safetensors.h"
#include "tests/kernels/f64_backend.h"
#include "tests/train/loss_bench.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

enum { CASES = 200, MOST = 32 * CASES, OPTIONS = 12, TEXT = 96 };

static void need(kd_status st, const kd_err *err)
{
    if (st != KD_OK) {
        (void)fprintf(stderr, "loss_cases: %s\n", err->msg);
        exit(1);
    }
}

/* ---- the table and its options --------------------------------------------------------------- */

typedef enum option_kind { OPTION_NONE, OPTION_REAL, OPTION_INT, OPTION_ENUM } option_kind;

/* A row of the table, or an option of the rows before it. */
static const struct entry {
    const char *row, *option, *fallback, *texts;
    double lo, hi;
    size_t at;
    option_kind kind;
} entries[] = {
#define KD_TERM(name, ...) {.row = #name},
#define REAL(field, def, least, most, flags, doc) \
    {.option = #field,                            \
     .fallback = (def),                           \
     .lo = (least),                               \
     .hi = (most),                                \
     .at = offsetof(kd_loss_opts, field),         \
     .kind = OPTION_REAL},
#define INT(field, def, least, most, flags, doc) \
    {.option = #field,                           \
     .fallback = (def),                          \
     .lo = (least),                              \
     .hi = (most),                               \
     .at = offsetof(kd_loss_opts, field),        \
     .kind = OPTION_INT},
#define ENUM(field, type, map, def, flags, doc) \
    {.option = #field, .texts = KD_ENUM_NAMES(map), .at = offsetof(kd_loss_opts, field), .kind = OPTION_ENUM},
#define KD_TERM_SCHEDULE(...)
#include "distill/kd/terms.inc"
};

/* Rows that follow one another share the options that follow them. */
static size_t options_of(const char *row, const struct entry **out)
{
    size_t i = 0, n = 0;
    while (entries[i].row == NULL || strcmp(entries[i].row, row) != 0) {
        i++;
    }
    while (i < KD_COUNTOF(entries) && entries[i].row != NULL) {
        i++;
    }
    for (; i < KD_COUNTOF(entries) && entries[i].row == NULL && n < OPTIONS; i++) {
        out[n++] = &entries[i];
    }
    return n;
}

/* Of 12 bits, so that f32 holds the number. */
static double rounded(double v)
{
    int exponent = 0;
    const double m = frexp(v, &exponent);
    return ldexp(rint(ldexp(m, 12)), exponent - 12);
}

/* "kd.dkd_alpha=0.73".  A number is drawn within a factor of 4 of its default, or of 1 where the default is no
 * factor. */
static void draw_option(kd_rng *r, const struct entry *e, int classes, char text[TEXT])
{
    if (e->kind == OPTION_REAL) {
        const double def = strtod(e->fallback, NULL), v = (def > 0.0 ? def : 1.0) * exp2(kd_rng_range(r, -2.0, 2.0));
        (void)snprintf(text, TEXT, "kd.%s=%.17g", e->option, KD_MIN(KD_MAX(rounded(v), e->lo), e->hi));
    } else if (e->kind == OPTION_INT) {
        const uint32_t span = (uint32_t)KD_MIN(e->hi, (double)classes) - (uint32_t)e->lo + 1;
        (void)snprintf(text, TEXT, "kd.%s=%u", e->option, (uint32_t)e->lo + kd_rng_below(r, span));
    } else {
        uint32_t n = 1;
        const char *from = e->texts;
        for (const char *c = e->texts; *c != '\0'; c++) {
            n += *c == '|';
        }
        for (uint32_t i = kd_rng_below(r, n); i > 0; i--) {
            from = strchr(from, '|') + 1;
        }
        (void)snprintf(text, TEXT, "kd.%s=%.*s", e->option, (int)strcspn(from, "|"), from);
    }
}

static void print_option(FILE *out, const struct entry *e, const kd_loss_opts *o)
{
    const char *field = (const char *)o + e->at;
    if (e->kind == OPTION_REAL) {
        double v;
        memcpy(&v, field, sizeof v);
        (void)fprintf(out, "\"%s\": %.17g", e->option, v);
        return;
    }
    int v;
    memcpy(&v, field, sizeof v);
    if (e->kind == OPTION_INT) {
        (void)fprintf(out, "\"%s\": %d", e->option, v);
        return;
    }
    const char *from = e->texts;
    for (; v > 0; v--) {
        from = strchr(from, '|') + 1;
    }
    (void)fprintf(out, "\"%s\": \"%.*s\"", e->option, (int)strcspn(from, "|"), from);
}

/* ---- tensors of a file under way ------------------------------------------------------------- */

typedef struct tensors {
    kd_st_tensor t[MOST];
    int64_t dim[MOST][2];
    char name[MOST][32];
    size_t n;
} tensors;

static double *room(tensors *f, int number, const char *name, int rows, int columns)
{
    double *v = kd_calloc((size_t)rows * (size_t)columns, sizeof *v);
    if (v == NULL || f->n == MOST) {
        exit(1);
    }
    (void)snprintf(f->name[f->n], sizeof f->name[0], "%d.%s", number, name);
    f->dim[f->n][0] = rows;
    f->dim[f->n][1] = columns;
    f->t[f->n] = (kd_st_tensor){.name = f->name[f->n], .dtype = KD_ST_F64, .rank = 2, .dim = f->dim[f->n], .data = v};
    f->n++;
    return v;
}

static void save(tensors *f, const char *path)
{
    kd_err err = {0};
    need(kd_st_write(path, f->t, f->n, NULL, &err), &err);
    for (size_t i = 0; i < f->n; i++) {
        kd_free((void *)(uintptr_t)f->t[i].data);
    }
    f->n = 0;
}

static void widen(const float *from, double *to, int n)
{
    for (int i = 0; i < n; i++) {
        to[i] = (double)from[i];
    }
}

/* Numbers that f32 holds. */
static double *normal(tensors *f, kd_rng *r, int number, const char *name, int rows, int columns, double scale)
{
    double *v = room(f, number, name, rows, columns);
    for (int i = 0; i < rows * columns; i++) {
        v[i] = (double)(float)(scale * kd_rng_normal(r));
    }
    return v;
}

/* ---- one case -------------------------------------------------------------------------------- */

typedef struct sizes {
    int B, K, S, P; /* rows, classes, widths of the student's and of the teacher's features */
} sizes;

typedef struct one {
    int number;
    sizes n;
    const kd_term_def *def;
    bool pair, mixed;
    bool raw; /* the teacher answers with logits, not probabilities */
    double smoothing;
    kd_rng r;
    kd_config *cfg;
    kd_loss l;
    loss_data d;
} one;

static int between(kd_rng *r, int lo, int hi)
{
    return lo + (int)kd_rng_below(r, (uint32_t)(hi - lo + 1));
}

/* The term with options of its own, and beside the cross-entropy the KL term, with which it shares an op. */
static void draw_loss(one *c)
{
    static char text[2 * OPTIONS + 4][TEXT];
    const char *sets[2 * OPTIONS + 4];
    const struct entry *option[2 * OPTIONS];
    kd_err err = {0};
    size_t m = options_of(c->def->name, option);
    c->l = (kd_loss){.stores = 1,
                     .feature_dim = {c->n.P},
                     .embed_dim = c->n.P,
                     .mixed = c->mixed,
                     .latent = true,
                     .peers = (c->def->reads & KD_READS_PEERS) != 0 ? 1 : 0};
    m += c->pair ? options_of("kl", option + m) : 0;
    for (int tries = 0; tries < 1000; tries++) {
        size_t n = 0;
        sets[n++] = "kind=student";
        if (c->mixed) {
            sets[n++] = "mixup.alpha=0.8";
        }
        if ((c->def->reads & KD_READS_CLASSES) != 0) {
            sets[n++] = "kd.class_embed=classes.npz";
        }
        if ((c->def->reads & KD_READS_AVERAGE) != 0) {
            sets[n++] = "optim.ema_decay=0.9";
        }
        if ((c->def->reads & KD_READS_PEERS) != 0) {
            sets[n++] = "mutual=[{}]";
        }
        for (size_t i = 0; i < m; i++) {
            if (option[i]->kind == OPTION_INT || kd_rng_uniform(&c->r) < 0.8) { /* a default may exceed the classes */
                draw_option(&c->r, option[i], c->n.K, text[n]);
                sets[n] = text[n];
                n++;
            }
        }
        if (kd_config_load(NULL, 0, sets, n, c->cfg, &err) != KD_OK) {
            continue;
        }
        int weighed = 0;
        for (int i = 0; i < kd_term_count(); i++) {
            const bool wanted = kd_term_at(i) == c->def || (c->pair && strcmp(kd_term_at(i)->name, "kl") == 0);
            weighed += wanted && kd_term_read(i, &c->cfg->kd).weight > 0.0;
        }
        if (weighed == (c->pair ? 2 : 1)) {
            return;
        }
    }
    (void)fprintf(stderr, "loss_cases: %s: no options that weigh the term: %s\n", c->def->name, err.msg);
    exit(1);
}

static void add_terms(one *c)
{
    kd_err err = {0};
    for (int i = 0; i < kd_term_count(); i++) {
        const kd_term term = kd_term_read(i, &c->cfg->kd);
        if (term.def == c->def || (c->pair && strcmp(term.def->name, "kl") == 0)) {
            need(kd_loss_add(&c->l, &term, &err), &err);
        }
    }
}

/* What the batch consists of, as training has it: rows that were read, have a label, have an answer; pairs. */
typedef struct batch {
    double *read, *labelled, *taught, *embedded, *label, *perm, *lam;
    int32_t y[64], partner[64], cut[4 * 64];
    float has_label[64], kind[64], share[64];
} batch;

/* How many rows have what a term reads: none of them, all of them, or most. */
static double share_of_rows(kd_rng *r)
{
    const uint32_t which = kd_rng_below(r, 20);
    return which == 0 ? 0.0 : which < 6 ? 1.0 : 0.7;
}

static void draw_rows(one *c, tensors *f, batch *b)
{
    const int n = c->n.B;
    const double labels = share_of_rows(&c->r), answers = share_of_rows(&c->r);
    double **const column[] = {&b->read, &b->labelled, &b->taught, &b->embedded, &b->label, &b->perm, &b->lam};
    static const char *const name[] = {"read", "labelled", "taught", "embedded", "label", "perm", "lam"};
    for (size_t i = 0; i < KD_COUNTOF(column); i++) {
        *column[i] = room(f, c->number, name[i], n, 1);
    }
    for (int i = 0; i < n; i++) {
        const bool read = kd_rng_uniform(&c->r) < 0.9, label = kd_rng_uniform(&c->r) < labels;
        const bool taught = c->mixed || kd_rng_uniform(&c->r) < answers;
        b->read[i] = read ? 1.0 : 0.0;
        b->labelled[i] = read && label ? 1.0 : 0.0;
        b->taught[i] = read && taught ? 1.0 : 0.0;
        b->embedded[i] = b->labelled[i] > 0.0 || b->taught[i] > 0.0 ? 1.0 : 0.0;
        b->y[i] = read && label ? between(&c->r, 0, c->n.K - 1) : -1;
        b->label[i] = b->y[i];
        b->has_label[i] = (float)b->labelled[i];
        b->kind[i] = (float)(b->read[i] + b->labelled[i]);
    }
    kd_mixup_opts mix = c->cfg->mixup;
    mix.partner = kd_rng_below(&c->r, 2) != 0 ? KD_PARTNER_PERMUTE : KD_PARTNER_FLIP;
    mix.cutmix_alpha = c->mixed && kd_rng_below(&c->r, 2) != 0 ? 1.0 : 0.0;
    mix.mode = mix.partner == KD_PARTNER_PERMUTE ? KD_MIXUP_ELEM : (kd_mixup_mode)kd_rng_below(&c->r, 3);
    kd_mix out = {.perm = b->partner, .lam = b->share, .cut = b->cut};
    kd_mix_draw(&mix, 5, (uint32_t)c->number, 0, n, b->kind, 32, &out);
    for (int i = 0; i < n; i++) {
        b->perm[i] = b->partner[i];
        b->lam[i] = (double)b->share[i];
    }
}

/* Rows of probabilities at T, of mixed samples mixed, in f32 as training mixes them; sums are 1 in f64 again. */
static void mix_answers(const one *c, const batch *b, const double *t, double temperature, bool raw, double *out)
{
    const int n = c->n.B, k = c->n.K;
    float *rows = kd_calloc((size_t)(n * k), sizeof *rows), *mixed = kd_calloc((size_t)(n * k), sizeof *mixed);
    double *work = kd_calloc((size_t)k, sizeof *work);
    if (rows == NULL || mixed == NULL || work == NULL) {
        exit(1);
    }
    for (int i = 0; i < n; i++) {
        memcpy(work, t + i * k, (size_t)k * sizeof *work);
        if (!raw) {
            kd_probabilities(work, (size_t)k, temperature);
        }
        for (int j = 0; j < k; j++) {
            rows[i * k + j] = (float)work[j];
        }
    }
    kd_mix_rows(rows, n, (size_t)k, b->partner, b->share, mixed);
    widen(mixed, out, n * k);
    for (int i = 0; i < n && !raw; i++) {
        double sum = 0.0;
        for (int j = 0; j < k; j++) {
            sum += out[i * k + j];
        }
        for (int j = 0; j < k; j++) {
            out[i * k + j] /= sum;
        }
    }
    kd_free(rows);
    kd_free(mixed);
    kd_free(work);
}

/* Targets, and the teacher's answers: NaN where there is none, so that a term which reads it shows. */
static void draw_answers(one *c, tensors *f, const batch *b)
{
    const int n = c->n.B, k = c->n.K;
    const kd_term *reader = &c->l.term[c->l.n - 1];
    double *t = normal(f, &c->r, c->number, "t", n, k, exp2(kd_rng_range(&c->r, -2.0, 3.0)));
    double *fed = room(f, c->number, "teacher", n, k), *feature = room(f, c->number, "feature", n, c->n.P);
    double *target = room(f, c->number, "target", n, k), *embed = room(f, c->number, "embed_target", n, k);
    float *rows = kd_calloc((size_t)(n * k), sizeof *rows);
    if (rows == NULL) {
        exit(1);
    }
    kd_targets(b->y, b->has_label, n, k, c->smoothing, c->mixed ? b->partner : NULL, c->mixed ? b->share : NULL, rows);
    widen(rows, target, n * k);
    const int temperature = reader->def->temperature;
    mix_answers(c, b, t, temperature >= 0 ? reader->param[temperature] : 1.0, c->raw, fed);
    mix_answers(c, b, t, 1.0, false, embed);
    for (int i = 0; i < n; i++) {
        if (b->labelled[i] > 0.0) {
            memcpy(embed + i * k, target + i * k, (size_t)k * sizeof *embed);
        }
        if (b->taught[i] == 0.0) {
            fed[i * k] = (double)NAN;
        }
        for (int j = 0; j < c->n.P; j++) {
            feature[i * c->n.P + j] = b->taught[i] > 0.0 ? (double)(float)kd_rng_normal(&c->r) : (double)NAN;
        }
    }
    kd_free(rows);
    c->d.target = target;
    c->d.teacher = fed;
    c->d.feature = feature;
    c->d.embed_target = embed;
}

static void draw_data(one *c, tensors *f, batch *b)
{
    const sizes *n = &c->n;
    kd_rng *r = &c->r;
    draw_rows(c, f, b);
    draw_answers(c, f, b);
    c->d.labelled = b->labelled;
    c->d.taught = b->taught;
    c->d.embedded = b->embedded;
    c->d.z = normal(f, r, c->number, "z", n->B, n->K, exp2(kd_rng_range(r, -2.0, 3.0)));
    double *s = normal(f, r, c->number, "s", n->B, n->S, exp2(kd_rng_range(r, -2.0, 1.0)));
    if (n->B > 2 && kd_rng_below(r, 10) == 0) { /* two samples that the student does not tell apart */
        memcpy(s + n->S, s, (size_t)n->S * sizeof *s);
    }
    c->d.s = s;
    c->d.embed = normal(f, r, c->number, "embed", n->K, n->P, 1.0);
    c->d.projector = normal(f, r, c->number, "projector", n->P, n->S, 1.0);
    c->d.bias = normal(f, r, c->number, "bias", 1, n->P, 0.5);
}

static void keep(tensors *f, const one *c, kd_dtype t, const char *what, const void *from, int rows, int columns)
{
    char name[24];
    (void)snprintf(name, sizeof name, "%s.%s", kd_dtype_name(t), what);
    double *out = room(f, c->number, name, rows, columns);
    for (int i = 0; i < rows * columns; i++) {
        out[i] = loss_bench_at(from, t, i);
    }
}

static void answer(const one *c, tensors *f, kd_dtype t, kd_backend *be)
{
    kd_err err = {0};
    loss_bench b = {.t = t, .rows = c->n.B, .classes = c->n.K, .width = c->n.S, .be = be};
    const bool features = (c->def->reads & KD_LOSS_OF_FEATURES) != 0;
    need(loss_bench_open(&b, &c->l, &err), &err);
    (void)snprintf(err.msg, sizeof err.msg, "%s: it did not run", c->def->name);
    need(loss_bench_run(&b, &c->l, &c->d), &err);
    keep(f, c, t, "value", loss_bench_tensor(&b, "loss"), 1, 1);
    keep(f, c, t, features ? "grad_s" : "grad_z", loss_bench_tensor(&b, features ? "grad:s" : "grad:z"), c->n.B,
         features ? c->n.S : c->n.K);
    for (int i = 0; i < kd_params_count(b.params); i++) {
        const kd_shape *s = &kd_params_at(b.params, i)->shape;
        const bool weight = s->rank == 2;
        keep(f, c, t, weight ? "grad_projector" : "grad_bias", kd_params_grad(b.params, i), weight ? (int)s->dim[0] : 1,
             (int)s->dim[s->rank - 1]);
    }
    loss_bench_close(&b);
}

static void print_case(FILE *out, const one *c)
{
    const struct entry *option[2 * OPTIONS];
    size_t m = options_of(c->def->name, option);
    m += c->pair ? options_of("kl", option + m) : 0;
    (void)fprintf(out, "{\"pair\": %s, \"mixed\": %s, \"raw\": %s, \"smoothing\": %.17g, \"options\": {",
                  c->pair ? "true" : "false", c->mixed ? "true" : "false", c->raw ? "true" : "false", c->smoothing);
    for (size_t i = 0; i < m; i++) {
        (void)fprintf(out, i > 0 ? ", " : "%s", "");
        print_option(out, option[i], &c->cfg->kd);
    }
    (void)fprintf(out, "}}\n");
}

static void row(const char *dir, int i, kd_backend *const be[2])
{
    static tensors f;
    char path[2][512];
    const kd_term_def *def = kd_term_at(i);
    (void)snprintf(path[0], sizeof path[0], "%s/%s.jsonl", dir, def->name);
    (void)snprintf(path[1], sizeof path[1], "%s/%s.safetensors", dir, def->name);
    FILE *out = fopen(path[0], "w");
    kd_config *cfg = kd_calloc(1, sizeof *cfg);
    if (out == NULL || cfg == NULL) {
        (void)fprintf(stderr, "loss_cases: %s cannot be written\n", path[0]);
        exit(1);
    }
    for (int number = 0; number < CASES; number++) {
        static batch b;
        one c = {
            .number = number, .def = def, .cfg = cfg, .r = kd_rng_make(9, KD_RNG_TEST, (uint32_t)i, (uint32_t)number)};
        c.n = (sizes){between(&c.r, 1, 40), between(&c.r, 2, 60), 2 * between(&c.r, 1, 24), between(&c.r, 2, 48)};
        c.mixed = kd_rng_below(&c.r, 2) != 0;
        c.pair = strcmp(def->name, "ce") == 0 && kd_rng_below(&c.r, 2) != 0;
        c.smoothing = kd_rng_below(&c.r, 2) != 0 ? kd_rng_range(&c.r, 0.0, 0.3) : 0.0;
        draw_loss(&c);
        add_terms(&c);
        const kd_term_def *reader = c.l.term[c.l.n - 1].def;
        c.raw = !c.mixed || reader->raw || (reader->reads & KD_READS_LOGITS) == 0;
        draw_data(&c, &f, &b);
        answer(&c, &f, KD_F64, be[0]);
        answer(&c, &f, KD_F32, be[1]);
        print_case(out, &c);
        kd_loss_free(&c.l);
    }
    save(&f, path[1]);
    (void)fclose(out);
    kd_free(cfg);
}

int main(int argc, char **argv)
{
    kd_err err = {0};
    kd_backend *be[2] = {kd_f64_backend_open(), NULL};
    if (argc != 2) {
        (void)fprintf(stderr, "usage: loss_cases DIR\n");
        return 2;
    }
    need(be[0] != NULL ? kd_backend_cpu_open(1, &be[1], &err) : KD_E_OOM, &err);
    for (int i = 0; i < kd_term_count(); i++) {
        row(argv[1], i, be);
    }
    kd_backend_close(be[0]);
    kd_backend_close(be[1]);
    return 0;
}
