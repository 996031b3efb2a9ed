/* TensorBoard event files: see tfevents.h.  Field numbers: tensorboard's event.proto,
 * summary.proto, hparams' plugin_data.proto and tensor.proto. */
#include "formats/log/tfevents.h"

#include "formats/base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

struct kd_tfevents {
    char *path;
    int fd;
    double fixed_time; /* below 0: the clock */
};

/* ---- CRC-32C --------------------------------------------------------------------------------- */

uint32_t kd_crc32c(const void *data, size_t bytes)
{
    const uint8_t *p = data;
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < bytes; i++) {
        crc ^= p[i];
        for (int b = 0; b < 8; b++) {
            crc = (crc >> 1) ^ (0x82f63b78u & (0u - (crc & 1u)));
        }
    }
    return ~crc;
}

static uint32_t masked(const void *data, size_t bytes)
{
    const uint32_t crc = kd_crc32c(data, bytes);
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

/* ---- protobuf -------------------------------------------------------------------------------- */

typedef struct pb {
    uint8_t *p;
    size_t used, size;
    bool failed;
} pb;

static void pb_bytes(pb *b, const void *src, size_t n)
{
    if (b->failed || n == 0) {
        return;
    }
    if (b->size - b->used < n) {
        const size_t size = KD_MAX(2 * b->size, b->used + n + 128);
        uint8_t *p = kd_realloc(b->p, b->size, size);
        if (p == NULL) {
            b->failed = true;
            return;
        }
        b->p = p;
        b->size = size;
    }
    memcpy(b->p + b->used, src, n);
    b->used += n;
}

static void pb_varint(pb *b, uint64_t v)
{
    uint8_t buf[10];
    size_t n = 0;
    do {
        buf[n++] = (uint8_t)((v & 0x7fu) | (v > 0x7fu ? 0x80u : 0u));
        v >>= 7;
    } while (v != 0);
    pb_bytes(b, buf, n);
}

static void pb_int(pb *b, unsigned field, int64_t v)
{
    pb_varint(b, field << 3);
    pb_varint(b, (uint64_t)v);
}

static void pb_fixed(pb *b, unsigned field, uint64_t bits, size_t n)
{
    uint8_t buf[8];
    for (size_t i = 0; i < n; i++) {
        buf[i] = (uint8_t)(bits >> (8 * i));
    }
    pb_varint(b, field << 3 | (n == 8 ? 1u : 5u));
    pb_bytes(b, buf, n);
}

static void pb_double(pb *b, unsigned field, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    pb_fixed(b, field, bits, 8);
}

static void pb_blob(pb *b, unsigned field, const void *src, size_t n)
{
    pb_varint(b, field << 3 | 2u);
    pb_varint(b, n);
    pb_bytes(b, src, n);
}

static void pb_str(pb *b, unsigned field, const char *s)
{
    pb_blob(b, field, s, strlen(s));
}

/* Put message `inner` into `b` and give it up. */
static void pb_message(pb *b, unsigned field, pb *inner)
{
    b->failed = b->failed || inner->failed;
    pb_blob(b, field, inner->p, inner->used);
    kd_free(inner->p);
    *inner = (pb){0};
}

/* ---- records --------------------------------------------------------------------------------- */

static double now(const kd_tfevents *t)
{
    struct timespec ts;
    if (t->fixed_time >= 0.0) {
        return t->fixed_time;
    }
    if (clock_gettime(CLOCK_REALTIME, &ts) != 0) {
        return 0.0;
    }
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

static void put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) {
        p[i] = (uint8_t)(v >> (8 * i));
    }
}

/* Frame one Event and write it; `e` is given up. */
static kd_status write_event(kd_tfevents *t, pb *e, kd_err *err)
{
    kd_status st = KD_OK;
    uint8_t *rec = e->failed ? NULL : kd_alloc(e->used + 16);
    if (rec == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "%s: out of memory", t->path);
        goto done;
    }
    put32(rec, (uint32_t)e->used);
    put32(rec + 4, (uint32_t)((uint64_t)e->used >> 32));
    put32(rec + 8, masked(rec, 8));
    memcpy(rec + 12, e->p, e->used);
    put32(rec + 12 + e->used, masked(e->p, e->used));
    const off_t before = lseek(t->fd, 0, SEEK_CUR);
    st = kd_io_fd_write(t->fd, rec, e->used + 16, t->path, err);
    if (st != KD_OK && before >= 0) { /* never leave half a record to a reader */
        (void)!ftruncate(t->fd, before);
        (void)lseek(t->fd, before, SEEK_SET);
    }
done:
    kd_free(rec);
    kd_free(e->p);
    *e = (pb){0};
    return st;
}

static void event_head(const kd_tfevents *t, pb *e, int64_t step)
{
    pb_double(e, 1, now(t));
    if (step != 0) {
        pb_int(e, 2, step);
    }
}

/* Event{summary{value}} ; `value` is given up. */
static kd_status write_value(kd_tfevents *t, int64_t step, pb *value, kd_err *err)
{
    pb e = {0};
    pb summary = {0};
    event_head(t, &e, step);
    pb_message(&summary, 1, value);
    pb_message(&e, 5, &summary);
    return write_event(t, &e, err);
}

/* SummaryMetadata{plugin_data{name, content}} as field 9 of a value. */
static void put_metadata(pb *value, const char *plugin, pb *content)
{
    pb meta = {0};
    pb data = {0};
    pb_str(&data, 1, plugin);
    if (content != NULL) {
        pb_message(&data, 2, content);
    }
    pb_message(&meta, 1, &data);
    pb_message(value, 9, &meta);
}

/* ---- opening --------------------------------------------------------------------------------- */

static kd_status create_file(kd_tfevents *t, const char *dir, kd_err *err)
{
    static atomic_uint serial;
    char host[128] = "localhost";
    (void)gethostname(host, sizeof host - 1);
    for (int tries = 0; tries < 100; tries++) {
        char *name = kd_strf("%s/events.out.tfevents.%010lld.%s.%ld.%u", dir, (long long)time(NULL), host,
                             (long)getpid(), atomic_fetch_add(&serial, 1));
        if (name == NULL) {
            return KD_FAIL(err, KD_E_OOM, "%s: out of memory", dir);
        }
        kd_free(t->path);
        t->path = name;
        t->fd = kd_io_open(name, O_WRONLY | O_CREAT | O_EXCL);
        if (t->fd >= 0) {
            return KD_OK;
        }
        if (errno != EEXIST) {
            break;
        }
    }
    return KD_FAIL(err, KD_E_WRITE, "%s: cannot create: %s", t->path, strerror(errno));
}

kd_status kd_tfevents_open(const char *dir, int64_t resume_step, kd_tfevents **out, kd_err *err)
{
    *out = NULL;
    KD_TRY(kd_io_mkdirs(dir, err));
    kd_tfevents *t = kd_calloc(1, sizeof *t);
    if (t == NULL) {
        return KD_FAIL(err, KD_E_OOM, "%s: out of memory", dir);
    }
    t->fd = -1;
    t->fixed_time = -1.0;
    pb e = {0};
    kd_status st = KD_OK;
    KD_GO(create_file(t, dir, err));
    event_head(t, &e, 0);
    pb_str(&e, 3, "brain.Event:2");
    KD_GO(write_event(t, &e, err));
    if (resume_step >= 0) { /* SessionLog START: what older files hold from here on is void */
        pb log = {0};
        event_head(t, &e, resume_step);
        pb_int(&log, 1, 1);
        pb_message(&e, 7, &log);
        KD_GO(write_event(t, &e, err));
    }
    *out = t;
    t = NULL;
done:
    kd_tfevents_close(t);
    return st;
}

void kd_tfevents_close(kd_tfevents *t)
{
    if (t == NULL) {
        return;
    }
    if (t->fd >= 0) {
        (void)close(t->fd);
    }
    kd_free(t->path);
    kd_free(t);
}

void kd_tfevents_set_time(kd_tfevents *t, double seconds)
{
    t->fixed_time = seconds;
}

const char *kd_tfevents_path(const kd_tfevents *t)
{
    return t->path;
}

/* ---- values ---------------------------------------------------------------------------------- */

kd_status kd_tfevents_scalar(kd_tfevents *t, const char *tag, int64_t step, double value, kd_err *err)
{
    if (t == NULL) {
        return KD_OK;
    }
    pb v = {0};
    pb_str(&v, 1, tag);
    pb_fixed(&v, 2, kd_f32_bits((float)value), 4);
    return write_value(t, step, &v, err);
}

kd_status kd_tfevents_image(kd_tfevents *t, const char *tag, int64_t step, const void *png, size_t bytes, int width,
                            int height, int channels, kd_err *err)
{
    if (t == NULL) {
        return KD_OK;
    }
    pb v = {0};
    pb image = {0};
    pb_str(&v, 1, tag);
    pb_int(&image, 1, height);
    pb_int(&image, 2, width);
    pb_int(&image, 3, channels);
    pb_blob(&image, 4, png, bytes);
    pb_message(&v, 4, &image);
    return write_value(t, step, &v, err);
}

/* Packed doubles. */
static void pb_doubles(pb *b, unsigned field, const double *v, size_t n)
{
    pb_varint(b, field << 3 | 2u);
    pb_varint(b, 8 * n);
    for (size_t i = 0; i < n; i++) {
        uint64_t bits;
        uint8_t buf[8];
        memcpy(&bits, &v[i], sizeof bits);
        put32(buf, (uint32_t)bits);
        put32(buf + 4, (uint32_t)(bits >> 32));
        pb_bytes(b, buf, sizeof buf);
    }
}

kd_status kd_tfevents_histogram(kd_tfevents *t, const char *tag, int64_t step, const kd_tf_histogram *h, kd_err *err)
{
    if (t == NULL) {
        return KD_OK;
    }
    pb v = {0};
    pb histo = {0};
    const double head[] = {h->min, h->max, h->num, h->sum, h->sum_squares};
    pb_str(&v, 1, tag);
    for (unsigned i = 0; i < KD_COUNTOF(head); i++) {
        pb_double(&histo, i + 1, head[i]);
    }
    pb_doubles(&histo, 6, h->limit, h->buckets);
    pb_doubles(&histo, 7, h->count, h->buckets);
    pb_message(&v, 5, &histo);
    return write_value(t, step, &v, err);
}

kd_status kd_tfevents_text(kd_tfevents *t, const char *tag, int64_t step, const char *text, kd_err *err)
{
    if (t == NULL) {
        return KD_OK;
    }
    pb v = {0};
    pb tensor = {0};
    pb shape = {0};
    pb dim = {0};
    pb_str(&v, 1, tag);
    pb_int(&dim, 1, 1);
    pb_message(&shape, 2, &dim);
    pb_int(&tensor, 1, 7); /* DT_STRING */
    pb_message(&tensor, 2, &shape);
    pb_str(&tensor, 8, text);
    put_metadata(&v, "text", NULL);
    pb_message(&v, 8, &tensor);
    return write_value(t, step, &v, err);
}

/* One of the three hparams records; `content` is HParamsPluginData without its version 0. */
static kd_status hparams_record(kd_tfevents *t, const char *tag, pb *content, kd_err *err)
{
    pb v = {0};
    pb_str(&v, 1, tag);
    put_metadata(&v, "hparams", content);
    return write_value(t, 0, &v, err);
}

static void put_hparam_info(pb *experiment, const kd_tf_hparam *hp)
{
    pb info = {0};
    pb_str(&info, 1, hp->name);
    pb_int(&info, 4, hp->text != NULL ? 1 : 3); /* DATA_TYPE_STRING, DATA_TYPE_FLOAT64 */
    pb_message(experiment, 4, &info);
}

static void put_metric_info(pb *experiment, const char *tag)
{
    pb info = {0};
    pb name = {0};
    pb_str(&name, 2, tag); /* group "", tag */
    pb_message(&info, 1, &name);
    pb_message(experiment, 5, &info);
}

kd_status kd_tfevents_hparams(kd_tfevents *t, const char *session, const kd_tf_hparam *hp, size_t n,
                              const char *const *metrics, size_t n_metrics, kd_err *err)
{
    if (t == NULL) {
        return KD_OK;
    }
    pb experiment = {0};
    pb start = {0};
    pb content = {0};
    for (size_t i = 0; i < n; i++) {
        put_hparam_info(&experiment, &hp[i]);
        pb entry = {0}; /* map entry: key, google.protobuf.Value */
        pb value = {0};
        if (hp[i].text != NULL) {
            pb_str(&value, 3, hp[i].text);
        } else {
            pb_double(&value, 2, hp[i].number);
        }
        pb_str(&entry, 1, hp[i].name);
        pb_message(&entry, 2, &value);
        pb_message(&start, 1, &entry);
    }
    for (size_t i = 0; i < n_metrics; i++) {
        put_metric_info(&experiment, metrics[i]);
    }
    pb_str(&start, 4, session);
    pb_double(&start, 5, now(t));
    pb_message(&content, 2, &experiment);
    kd_status st = hparams_record(t, "_hparams_/experiment", &content, err);
    pb_message(&content, 3, &start);
    if (st != KD_OK) {
        kd_free(content.p);
        return st;
    }
    return hparams_record(t, "_hparams_/session_start_info", &content, err);
}

kd_status kd_tfevents_end(kd_tfevents *t, bool ok, kd_err *err)
{
    if (t == NULL) {
        return KD_OK;
    }
    pb end = {0};
    pb content = {0};
    pb_int(&end, 1, ok ? 1 : 2); /* STATUS_SUCCESS, STATUS_FAILURE */
    pb_double(&end, 2, now(t));
    pb_message(&content, 4, &end);
    return hparams_record(t, "_hparams_/session_end_info", &content, err);
}
