/* liblast against the toolkit: every student, streams and sequences, no memory taken in use, instances in threads, what
 * is refused.
 *
 * The library is linked as a user links it: its own copy of all code, seen through last.h.  KD_LAST_FRAMES,
 * KD_LAST_INSTANCES: more of both, by hand (tests/models/README.md). */
#include "formats/base/io.h"
#include "kernels/kd_program.h"
#include "kernels/kd_rng.h"
#include "student/skeleton/sequence.h"
#include "student/stream/last.h"
#include "student/stream/layout_text.h"
#include "tests/models/last_file.h"

/* clang-format off */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
/* clang-format on */

enum { V = KD_SKEL_JOINTS, BODY = 3 * V, CLASSES = 7 };

/* ---- memory: the linker sends the library's calls here (--wrap) ------------------------------ */

static atomic_ulong taken;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
int __real_posix_memalign(void **out, size_t align, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
int __wrap_posix_memalign(void **out, size_t align, size_t n);

void *__wrap_malloc(size_t n)
{
    atomic_fetch_add(&taken, 1);
    return __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    atomic_fetch_add(&taken, 1);
    return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    atomic_fetch_add(&taken, 1);
    return __real_realloc(p, n);
}

int __wrap_posix_memalign(void **out, size_t align, size_t n)
{
    atomic_fetch_add(&taken, 1);
    return __real_posix_memalign(out, align, n);
}

/* ---- students and frames --------------------------------------------------------------------- */

static long from_environment(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text != NULL ? strtol(text, NULL, 10) : otherwise;
}

/* Body m of frame t of a person who moves: around 2 m away, joints of 0.1 m steps. */
static void draw_body(uint64_t seed, int t, int m, float *xyz)
{
    kd_rng r = kd_rng_make(seed, KD_RNG_SAMPLE, (uint32_t)m, 0);
    for (int i = 0; i < BODY; i++) {
        const double rest = kd_rng_range(&r, -0.6, 0.6), speed = kd_rng_range(&r, 0.02, 0.2);
        xyz[i] = (float)(rest + 0.1 * sin(speed * t) + (i % 3 == 2 ? 2.0 : 0.0));
    }
}

static unsigned long opening; /* calls that the last open_image took */

static kd_last *open_image(const void *image, size_t bytes, const kd_last_options *o)
{
    kd_last *l = NULL;
    char why[KD_LAST_MESSAGE];
    opening = atomic_load(&taken);
    if (kd_last_open_memory(image, bytes, o, &l, why, sizeof why) != KD_LAST_OK) {
        fail_msg("%s", why);
    }
    opening = atomic_load(&taken) - opening;
    return l;
}

/* An instance of the student with drawn weights. */
static kd_last *open_drawn(const kd_last_recipe *r, bool eight, const kd_last_options *o)
{
    kd_last_recipe written = *r;
    kd_backend *be = NULL;
    size_t bytes = 0;
    assert_int_equal(kd_backend_cpu_open(1, &be, NULL), KD_OK);
    kd_params *p = last_file_params(r, be, 5);
    void *image = eight ? last_file_eight(&written, p, be, &bytes) : last_file_image(r, p, &bytes);
    kd_last *l = open_image(image, bytes, o);
    kd_free(image);
    kd_params_free(p);
    kd_backend_close(be);
    return l;
}

static kd_last *open_student(const kd_last_recipe *r, const kd_last_options *o)
{
    return open_drawn(r, false, o);
}

static void want(int st, int expected, const kd_last *l, const char *says)
{
    if (st != expected || strstr(kd_last_message(l), says) == NULL) {
        fail_msg("status %d, '%s'; expected %d, '%s'", st, kd_last_message(l), expected, says);
    }
}

/* ---- the toolkit's own answer ---------------------------------------------------------------- */

static void toolkit_logits(const kd_last_recipe *r, kd_params *p, kd_backend *be, const kd_skeleton *s, float *logits)
{
    static const char *const KIND[] = {"joint", "velocity", "bone"};
    kd_student_cfg c;
    kd_err err = {0};
    kd_val in[KD_STUDENT_MAX_STREAMS];
    kd_program *program = NULL;
    const size_t floats = (size_t)r->skeleton.frames * BODY * (size_t)r->skeleton.max_bodies;
    float *x = kd_calloc(4 * floats, sizeof *x);
    assert_int_equal(kd_last_recipe_model(r, &c, &err), KD_OK);
    kd_graph *g = kd_graph_create(&(kd_graph_opts){.params = p, .dtype = KD_F32});
    for (int i = 0; i < c.model->n_streams; i++) {
        in[i] = kd_input(g, c.model->streams[i], KD_F32, kd_shape5(1, 3, c.frames, V, c.bodies));
    }
    (void)kd_student_build(g, &c, in);
    assert_int_equal(kd_program_compile(g, be, &(kd_compile_opts){.loss = KD_NONE}, &program, &err), KD_OK);
    kd_sequence_spec spec;
    assert_int_equal(kd_last_recipe_sequence(r, &spec, &err), KD_OK);
    assert_int_equal(kd_sequence_make(&spec, s, x, &err), KD_OK);
    float *const dst[] = {x + floats, x + 2 * floats, x + 3 * floats};
    kd_sequence_streams(&spec, NULL, x, 7, dst);
    for (int k = 0; k < 3; k++) {
        if (kd_program_tensor(program, KIND[k]).data != NULL) {
            assert_int_equal(kd_program_write(program, KIND[k], dst[k], floats * sizeof *x), KD_OK);
        }
    }
    assert_int_equal(kd_program_run(program, NULL), KD_OK);
    assert_int_equal(kd_program_read_f32(program, "logits", logits, c.classes), KD_OK);
    kd_program_free(program);
    kd_free(x);
}

/* Largest difference, as a part of the largest logit: the two are compiled with other kernels for some layers. */
static void compare_student(const char *name, kd_backend *be)
{
    enum { FRAMES = 21 };
    const kd_last_recipe r = last_file_recipe(name);
    kd_params *p = last_file_params(&r, be, 3);
    size_t bytes = 0;
    void *image = last_file_image(&r, p, &bytes);
    kd_last *l = open_image(image, bytes, NULL);
    float joints[FRAMES][BODY], expected[CLASSES];
    kd_skeleton s;
    assert_int_equal(kd_skeleton_alloc(FRAMES, FRAMES, &s, NULL), KD_OK);
    for (int t = 0; t < FRAMES; t++) {
        draw_body(1, t, 0, joints[t]);
        memcpy(s.body[t].xyz, joints[t], sizeof joints[t]);
        s.first[t + 1] = (uint32_t)t + 1;
    }
    toolkit_logits(&r, p, be, &s, expected);
    want(kd_last_classify(l, joints[0], FRAMES, 1, NULL, NULL), KD_LAST_OK, l, "");
    const float *found = kd_last_logits(l);
    double most = 0.0, off = 0.0;
    for (int i = 0; i < CLASSES; i++) {
        most = fmax(most, fabs((double)expected[i]));
        off = fmax(off, fabs((double)expected[i] - (double)found[i]));
    }
    if (!(off <= 2e-5 * fmax(most, 1.0)) || !(most > 0.0)) {
        fail_msg("%s: logits differ by %g, the largest is %g", name, off, most);
    }
    assert_string_equal(kd_last_student(l), name);
    kd_last_close(l);
    kd_skeleton_free(&s);
    kd_free(image);
    kd_params_free(p);
}

static void test_every_student(void **state)
{
    (void)state;
    kd_backend *be = NULL;
    assert_int_equal(kd_backend_cpu_open(1, &be, NULL), KD_OK);
    for (int i = 0; i < kd_student_count(); i++) {
        compare_student(kd_student_name(i), be);
    }
    kd_backend_close(be);
}

/* ---- streams --------------------------------------------------------------------------------- */

/* A window of a stream is the sequence of its last frames, bit by bit, however many came before. */
static void check_stream(const kd_last_recipe *r, int window, int frames)
{
    kd_last *l = open_student(r, &(kd_last_options){.window = window});
    float(*joints)[2][BODY] = kd_calloc((size_t)frames, sizeof *joints);
    uint8_t(*present)[2] = kd_calloc((size_t)frames, sizeof *present);
    uint64_t(*id)[2] = kd_calloc((size_t)frames, sizeof *id);
    float logits[CLASSES];
    for (int t = 0; t < frames; t++) {
        for (int m = 0; m < 2; m++) {
            draw_body(2, t, m, joints[t][m]);
            present[t][m] = t % 5 != m;
            id[t][m] = (uint64_t)(t < 11 ? m : 1 - m) + 9;
        }
        want(kd_last_push(l, joints[t][0], 2, id[t], present[t]), KD_LAST_OK, l, "");
        assert_int_equal(kd_last_pushed(l), KD_MIN(t + 1, window));
        if (t % 7 != 0 && t != frames - 1) {
            continue;
        }
        want(kd_last_run(l), KD_LAST_OK, l, "");
        memcpy(logits, kd_last_logits(l), sizeof logits);
        const int from = KD_MAX(0, t + 1 - window);
        want(kd_last_classify(l, joints[from][0], t + 1 - from, 2, id[from], present[from]), KD_LAST_OK, l, "");
        assert_memory_equal(logits, kd_last_logits(l), sizeof logits);
    }
    kd_free(joints);
    kd_free(present);
    kd_free(id);
    kd_last_close(l);
}

static void test_streams(void **state)
{
    (void)state;
    kd_last_recipe r = last_file_recipe("last-e3-nano");
    check_stream(&r, 16, 60);
    check_stream(&r, 1, 9);
    r.skeleton.bodies = KD_BODIES_TRACKED;
    r.skeleton.max_bodies = 2;
    r.skeleton.resample = KD_RESAMPLE_LINEAR;
    check_stream(&r, 23, 90);
}

/* Who is seen: a tracked recipe follows the person of most frames, wherever in the list; the other takes the first. */
static void test_bodies(void **state)
{
    (void)state;
    kd_last_recipe r = last_file_recipe("sfz-nano");
    float joints[2][BODY], first[CLASSES];
    for (int tracked = 0; tracked < 2; tracked++) {
        r.skeleton.bodies = tracked ? KD_BODIES_TRACKED : KD_BODIES_FILE_ORDER;
        kd_last *l = open_student(&r, NULL);
        for (int turned = 0; turned < 2; turned++) {
            kd_last_reset(l);
            for (int t = 0; t < 10; t++) { /* person 4 is in all frames, person 8 leaves */
                const int n = t < 8 ? 2 : 1, at = n == 2 ? turned : 0;
                uint64_t id[2] = {8, 8};
                id[at] = 4;
                draw_body(3, t, 0, joints[at]);
                draw_body(3, t, 1, joints[1 - at]);
                want(kd_last_push(l, joints[0], n, id, NULL), KD_LAST_OK, l, "");
            }
            want(kd_last_run(l), KD_LAST_OK, l, "");
            if (!turned) {
                memcpy(first, kd_last_logits(l), sizeof first);
            }
        }
        assert_int_equal(memcmp(first, kd_last_logits(l), sizeof first) == 0, tracked);
        kd_last_close(l);
    }
}

/* ---- memory and threads ---------------------------------------------------------------------- */

static long resident_pages(void)
{
    long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f != NULL) {
        assert_int_equal(fscanf(f, "%ld %ld", &size, &resident), 2);
        (void)fclose(f);
    }
    return resident;
}

static void takes_no_memory(bool eight)
{
    kd_last_recipe r = last_file_recipe("sfz-nano");
    r.skeleton.bodies = KD_BODIES_TRACKED;
    kd_last *l = open_drawn(&r, eight, NULL);
    const long frames = from_environment("KD_LAST_FRAMES", 3000);
    float joints[2][BODY], sequence[40][BODY], prob[CLASSES];
    int label[CLASSES];
    long pages = 0;
    for (int t = 0; t < 40; t++) {
        draw_body(5, t, 0, sequence[t]);
    }
    const unsigned long before = atomic_load(&taken);
    for (long t = 0; t < frames; t++) {
        draw_body(4, (int)(t % 5000), 0, joints[0]);
        draw_body(4, (int)(t % 5000), 1, joints[1]);
        joints[0][0] = t % 50 == 7 ? NAN : joints[0][0]; /* failures take none either */
        (void)kd_last_push(l, joints[0], (int)(t % 3), NULL, NULL);
        if (t % 100 == 99) {
            want(kd_last_run(l), KD_LAST_OK, l, "");
            want(kd_last_classify(l, sequence[0], 40, 1, NULL, NULL), KD_LAST_OK, l, "");
            want(kd_last_top(l, 5, label, prob), KD_LAST_OK, l, "");
        }
        pages = t == frames / 4 ? resident_pages() : pages;
    }
    assert_int_equal(atomic_load(&taken) - before, 0);
    assert_true(opening > 10); /* the hook works */
    if (resident_pages() - pages > 64) {
        fail_msg("%ld frames: resident memory grew from %ld to %ld pages", frames, pages, resident_pages());
    }
    print_message("%ld frames%s: %ld pages resident after a quarter, %ld in the end\n", frames,
                  eight ? " in eight bits" : "", pages, resident_pages());
    kd_last_close(l);
}

static void test_takes_no_memory(void **state)
{
    (void)state;
    takes_no_memory(false);
    takes_no_memory(true);
}

enum { THREADS = 4 };

typedef struct crowd {
    kd_last **l;
    int first, n;
    float logits[CLASSES];
    int wrong;
} crowd;

/* Pushes to all its instances in turn; every one ends with the same window. */
static void *work(void *user)
{
    crowd *c = user;
    float joints[BODY];
    for (int t = 0; t < 20; t++) {
        draw_body(6, t, 0, joints);
        for (int i = c->first; i < c->first + c->n; i++) {
            c->wrong += kd_last_push(c->l[i], joints, 1, NULL, NULL) != KD_LAST_OK;
        }
    }
    for (int i = c->first; i < c->first + c->n; i++) {
        c->wrong +=
            kd_last_run(c->l[i]) != KD_LAST_OK || memcmp(kd_last_logits(c->l[i]), c->logits, sizeof c->logits) != 0;
    }
    return NULL;
}

static void run_instances(bool eight)
{
    const kd_last_recipe r = last_file_recipe("last-e3-nano");
    const int n = (int)from_environment("KD_LAST_INSTANCES", 24);
    kd_last **l = kd_calloc((size_t)n + 1, sizeof *l);
    pthread_t thread[THREADS];
    crowd c[THREADS];
    for (int i = 0; i <= n; i++) {
        l[i] = open_drawn(&r, eight, &(kd_last_options){.max_frames = 1, .max_bodies = 1});
    }
    crowd one = {.l = l, .first = n, .n = 1};
    (void)work(&one);
    for (int k = 0; k < THREADS; k++) {
        c[k] = (crowd){.l = l, .first = n * k / THREADS, .n = n * (k + 1) / THREADS - n * k / THREADS};
        memcpy(c[k].logits, kd_last_logits(l[n]), sizeof c[k].logits);
        assert_int_equal(pthread_create(&thread[k], NULL, work, &c[k]), 0);
    }
    for (int k = 0; k < THREADS; k++) {
        assert_int_equal(pthread_join(thread[k], NULL), 0);
        assert_int_equal(c[k].wrong, 0);
    }
    for (int i = 0; i <= n; i++) {
        kd_last_close(l[i]);
    }
    kd_free(l);
}

static void test_instances(void **state)
{
    (void)state;
    run_instances(false);
    run_instances(true);
}

/* ---- results and refusals -------------------------------------------------------------------- */

static void test_results(void **state)
{
    (void)state;
    kd_last_recipe r = last_file_recipe("sfz-nano");
    r.class_names = "a\nb\nc\nd\ne\nf\ng h";
    r.temperature = 2.5;
    kd_last *l = open_student(&r, NULL);
    float joints[BODY], prob[CLASSES];
    int label[CLASSES];
    double sum = 0.0, whole = 0.0;
    assert_null(kd_last_probabilities(l));
    assert_int_equal(kd_last_best(l), -1);
    want(kd_last_run(l), KD_LAST_E_STATE, l, "no frame was pushed yet");
    want(kd_last_top(l, 1, label, prob), KD_LAST_E_STATE, l, "no result yet");
    draw_body(7, 3, 0, joints);
    want(kd_last_push(l, joints, 1, NULL, NULL), KD_LAST_OK, l, "");
    want(kd_last_run(l), KD_LAST_OK, l, "");
    want(kd_last_top(l, CLASSES, label, prob), KD_LAST_OK, l, "");
    for (int i = 0; i < CLASSES; i++) {
        sum += exp((double)kd_last_logits(l)[i] / 2.5);
        whole += (double)prob[i];
        assert_true(i == 0 || prob[i] <= prob[i - 1]);
        assert_true(prob[i] == kd_last_probabilities(l)[label[i]]);
    }
    assert_true(fabs(whole - 1.0) < 1e-6);
    assert_true(fabs(exp((double)kd_last_logits(l)[2] / 2.5) / sum - (double)kd_last_probabilities(l)[2]) < 1e-6);
    assert_int_equal(kd_last_best(l), label[0]);
    assert_string_equal(kd_last_class_name(l, 6), "g h");
    assert_null(kd_last_class_name(l, 7));
    assert_string_equal(kd_last_stream_name(l, 1), "bone");
    assert_null(kd_last_stream_name(l, 3));
    assert_int_equal(
        kd_last_streams(l) + 10 * kd_last_channels(l) + 100 * kd_last_joints(l) + 10000 * kd_last_frames(l), 162533);
    want(kd_last_top(l, 8, label, prob), KD_LAST_E_ARG, l, "expected 1 to 7");
    want(kd_last_push(l, joints, 7, NULL, NULL), KD_LAST_E_ARG, l, "a frame of 7 bodies: expected 0 to 6");
    want(kd_last_classify(l, joints, 0, 1, NULL, NULL), KD_LAST_E_ARG, l, "expected 1 to 1024");
    assert_null(kd_last_logits(l)); /* that attempt failed */
    joints[4] = INFINITY;
    want(kd_last_classify(l, joints, 1, 1, NULL, NULL), KD_LAST_E_DATA, l,
         "frame 0: body 0, joint 1: expected a finite y");
    want(kd_last_push(l, joints, 1, NULL, (const uint8_t[]){0}), KD_LAST_OK, l,
         ""); /* nobody looks at an absent body */
    kd_last_reset(l);
    want(kd_last_push(l, NULL, 0, NULL, NULL), KD_LAST_OK, l, "");
    want(kd_last_run(l), KD_LAST_E_DATA, l, "no frame of 1 has a body");
    kd_last_close(l);
}

/* KD_E_FORMAT or a neighbour of it with a message; never an instance. */
static void refused(const void *image, size_t bytes, const char *says)
{
    kd_last *l = NULL;
    char why[KD_LAST_MESSAGE] = "";
    char *copy = kd_alloc(bytes + 1); /* its own block: a read behind the end is seen */
    memcpy(copy, image, bytes);
    char *exact = bytes > 0 ? kd_alloc(bytes) : copy;
    memcpy(exact, copy, bytes);
    const int st = kd_last_open_memory(exact, bytes, NULL, &l, why, sizeof why);
    if (st == KD_LAST_OK || l != NULL || strstr(why, says) == NULL || why[0] == '\0') {
        fail_msg("status %d, says '%s', expected '%s'", st, why, says);
    }
    if (exact != copy) {
        kd_free(exact);
    }
    kd_free(copy);
}

static void test_cuts(void **state)
{
    (void)state;
    kd_backend *be = NULL;
    size_t bytes = 0;
    assert_int_equal(kd_backend_cpu_open(1, &be, NULL), KD_OK);
    const kd_last_recipe r = last_file_recipe("last-e3-nano");
    kd_params *p = last_file_params(&r, be, 5);
    char *image = last_file_image(&r, p, &bytes);
    for (size_t n = 0; n < bytes; n += n < 4000 ? 1 + n / 64 : bytes / 50) {
        refused(image, n, "");
    }
    const float nan = NAN;
    memcpy(image + bytes - sizeof nan, &nan, sizeof nan);
    refused(image, bytes, "is not finite");
    image[8] = '[';
    refused(image, bytes, "byte 8: expected '{', found '[\"__metadata'");
    kd_free(image);
    kd_params_free(p);
    kd_backend_close(be);
}

/* A layout of one's own travels with the student. */
static void test_layouts(void **state)
{
    static const struct {
        const char *from, *to, *says;
    } CASE[] = {
        {"name own", "name ", "layout, line 1: expected a name"},
        {"joint ", "joints ", "layout, line 1: expected centre"},
        {"edge 0 1", "edge 0 64", "expected a joint's number or part, found ' 64"},
        {"edge 0 1", "edge 0 0", "edge"},
        {"centre", "middle", "expected centre"},
        {"shoulder 4 8\n", "shoulder 4 8\nend", "expected the end of the layout"},
        {"centre 20", "centre 25", "expected joints below 25"},
    };
    (void)state;
    kd_last_recipe r = last_file_recipe("sfz-nano");
    r.layout = *kd_layout_ntu25();
    (void)snprintf(r.layout.name, sizeof r.layout.name, "own");
    (void)snprintf(r.skeleton.layout, sizeof r.skeleton.layout, "own");
    kd_last *l = open_student(&r, NULL), *named = NULL;
    kd_last_recipe same = last_file_recipe("sfz-nano");
    named = open_student(&same, NULL);
    float joints[BODY], logits[CLASSES];
    draw_body(8, 0, 0, joints);
    want(kd_last_classify(named, joints, 1, 1, NULL, NULL), KD_LAST_OK, named, "");
    memcpy(logits, kd_last_logits(named), sizeof logits);
    want(kd_last_classify(l, joints, 1, 1, NULL, NULL), KD_LAST_OK, l, "");
    assert_memory_equal(logits, kd_last_logits(l), sizeof logits);
    kd_last_close(l);
    kd_last_close(named);
    char text[KD_LAYOUT_TEXT], edited[KD_LAYOUT_TEXT + 64];
    kd_layout_print(&r.layout, text);
    for (size_t i = 0; i < KD_COUNTOF(CASE); i++) {
        const char *at = strstr(text, CASE[i].from);
        kd_layout out;
        kd_err err = {0};
        assert_non_null(at);
        (void)snprintf(edited, sizeof edited, "%.*s%s%s", (int)(at - text), text, CASE[i].to,
                       at + strlen(CASE[i].from));
        if (kd_layout_scan(edited, &out, &err) == KD_OK || strstr(err.msg, CASE[i].says) == NULL) {
            fail_msg("'%s' for '%s': says '%s', expected '%s'", CASE[i].to, CASE[i].from, err.msg, CASE[i].says);
        }
    }
}

/* A recipe's values: files without tensors, because the recipe is judged first. */
static void test_recipes(void **state)
{
    static const struct {
        const char *pairs, *says;
    } CASE[] = {
        {"\"a\":\"b\"", "expected the key lastkd"},
        {"\"lastkd\":\"2\"", "expected format 1, found '2'"},
        {"\"lastkd\":\"1\",\"student.name\":\"LAST\"", "no student 'LAST'"},
        {"\"lastkd\":\"1\"", "classes: the key is missing"},
        {"\"lastkd\":\"1\",\"classes\":\"0\"", "classes: expected a whole number"},
        {"\"lastkd\":\"1\",\"classes\":\"2.5\"", "classes: expected a whole number"},
        {"\"lastkd\":\"1\",\"classes\":\"70000\"", "classes: expected a whole number"},
        {"\"lastkd\":\"1\",\"classes\":\"3\",\"class_names\":\"a\\nb\"", "expected 3 lines, as classes says, found 2"},
        {"\"lastkd\":\"1\",\"temperature\":\"nan\"", "temperature: expected a number"},
        {"\"lastkd\":\"1\",\"skeleton.frames\":\"2000\"", "skeleton.frames: expected a whole number from 4 to 1024"},
        {"\"lastkd\":\"1\",\"skeleton.yaw\":\"left\"", "skeleton.yaw: expected none|reference|corrected, found 'left'"},
        {"\"lastkd\":\"1\",\"skeleton.bone_scale\":\"yes\"", "skeleton.bone_scale: expected true or false"},
        {"\"lastkd\":\"1\",\"skeleton.zoom\":\"3\"", "skeleton.zoom: this library has no such option"},
        {"\"lastkd\":\"1\",\"student.weights\":\"x\"", "student.weights: this library has no such option"},
        {"\"lastkd\":\"1\",\"classes\":\"4\"", "tensor "},
    };
    (void)state;
    for (size_t i = 0; i < KD_COUNTOF(CASE); i++) {
        char *text = kd_strf("{\"__metadata__\":{%s}}", CASE[i].pairs);
        const size_t n = strlen(text);
        char *image = kd_calloc(n + 8, 1);
        image[0] = (char)(n & 0xff);
        image[1] = (char)(n >> 8);
        memcpy(image + 8, text, n);
        refused(image, n + 8, CASE[i].says);
        kd_free(image);
        kd_free(text);
    }
}

static void test_refuse_corpus(void **state)
{
    (void)state;
    uint8_t *list;
    size_t len, files = 0;
    char *save = NULL;
    assert_int_equal(kd_io_read_file(KD_TEST_DIR "/refuse/last/EXPECT", 1 << 20, &list, &len, NULL), KD_OK);
    for (char *line = strtok_r((char *)list, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
        char *says = strchr(line, '\t');
        assert_non_null(says);
        *says++ = '\0';
        char *path = kd_strf("%s/refuse/last/%s", KD_TEST_DIR, line);
        uint8_t *image;
        size_t bytes;
        assert_int_equal(kd_io_read_file(path, 1 << 20, &image, &bytes, NULL), KD_OK);
        refused(image, bytes, says);
        kd_free(image);
        kd_free(path);
        files++;
    }
    assert_true(files >= 20);
    kd_free(list);
}

static void test_paths(void **state)
{
    (void)state;
    kd_last *l = NULL;
    char why[KD_LAST_MESSAGE];
    assert_int_equal(kd_last_open("no/such/file", NULL, &l, why, sizeof why), KD_LAST_E_IO);
    assert_non_null(strstr(why, "no/such/file: cannot open"));
    assert_int_equal(kd_last_open(KD_TEST_DIR, NULL, &l, why, sizeof why), KD_LAST_E_FORMAT);
    assert_non_null(strstr(why, "expected a regular file"));
    assert_int_equal(kd_last_open("no/such/file", NULL, &l, NULL, 0), KD_LAST_E_IO);
    assert_null(l);
    kd_last_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_student), cmocka_unit_test(test_streams),
        cmocka_unit_test(test_bodies),        cmocka_unit_test(test_takes_no_memory),
        cmocka_unit_test(test_instances),     cmocka_unit_test(test_results),
        cmocka_unit_test(test_cuts),          cmocka_unit_test(test_recipes),
        cmocka_unit_test(test_layouts),       cmocka_unit_test(test_refuse_corpus),
        cmocka_unit_test(test_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
