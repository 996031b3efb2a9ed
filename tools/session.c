/* What commands open: see session.h. */
#include "tools/session.h"

#include "distill/eval/assess.h"
#include "tools/device.h"

#include <stdio.h>

/* ---- sets ------------------------------------------------------------------------------------ */

static kd_status add_text(kd_sets *s, char *text, kd_err *err)
{
    if (text == NULL || s->n >= KD_SESSION_SETS) {
        kd_free(text);
        return KD_FAIL(err, KD_E_OOM, "options: too many or out of memory");
    }
    s->owned[s->n_owned++] = text;
    s->text[s->n++] = text;
    return KD_OK;
}

kd_status kd_sets_add(kd_sets *s, const char *path, const char *value, kd_err *err)
{
    if (value == NULL) {
        return KD_OK;
    }
    const size_t n = strlen(path), m = strlen(value);
    char *text = kd_alloc(n + 2 * m + 4);
    size_t at = n;
    if (text != NULL) {
        memcpy(text, path, n);
        text[at++] = '=';
        text[at++] = '\'';
        for (size_t i = 0; i < m; i++) { /* YAML single quotes: a quote is written twice */
            text[at++] = value[i];
            if (value[i] == '\'') {
                text[at++] = '\'';
            }
        }
        text[at++] = '\'';
        text[at] = '\0';
    }
    return add_text(s, text, err);
}

kd_status kd_sets_make(const kd_common *c, const char *batch_key, kd_sets *out, kd_err *err)
{
    const struct {
        uint32_t bit;
        const char *path;
        int64_t value;
    } ints[] = {{KD_COMMON_SEED, "train.seed", c->seed},          {KD_COMMON_THREADS, "train.threads", c->threads},
                {KD_COMMON_WORKERS, "train.workers", c->workers}, {KD_COMMON_EPOCHS, "train.epochs", c->epochs},
                {KD_COMMON_BATCH_SIZE, batch_key, c->batch_size}, {KD_COMMON_LIMIT, "data.limit", c->limit}};
    memset(out, 0, sizeof *out);
    for (int i = 0; i < c->set.count; i++) {
        out->text[out->n++] = c->set.item[i];
    }
    for (size_t i = 0; i < KD_COUNTOF(ints); i++) {
        if ((c->given & ints[i].bit) != 0) {
            KD_TRY(add_text(out, kd_strf("%s=%lld", ints[i].path, (long long)ints[i].value), err));
        }
    }
    KD_TRY(kd_sets_add(out, "data.root", (c->given & KD_COMMON_DATA) != 0 ? c->data : NULL, err));
    if ((c->given & KD_COMMON_DEVICE) != 0) {
        KD_TRY(add_text(out, kd_strf("train.device=%s", c->device), err));
    }
    if ((c->given & KD_COMMON_DTYPE) != 0) {
        KD_TRY(add_text(out, kd_strf("train.dtype=%s", c->dtype), err));
    }
    return KD_OK;
}

void kd_sets_free(kd_sets *s)
{
    for (size_t i = 0; i < s->n_owned; i++) {
        kd_free(s->owned[i]);
    }
    memset(s, 0, sizeof *s);
}

/* ---- session --------------------------------------------------------------------------------- */

static kd_status open_device(kd_session *s, const kd_common *c, kd_err *err)
{
    const kd_cfg_train *t = &s->cfg->train;
    char name[KD_CFG_NAME];
    const kd_device_opts o = {.device = kd_config_enum_name("train.device", (int)t->device, name),
                              .dtype = t->dtype,
                              .threads = t->threads,
                              .deterministic = t->deterministic,
                              .plain = c->plain_kernels,
                              .no_graphs = c->no_graphs};
    char text[300];
    KD_TRY(kd_device_open(&o, &s->be, err));
    s->be->ops->describe(s->be, text, sizeof text);
    kd_log(KD_LOG_INFO, "device %s, %s, %s", s->be->ops->name, text, kd_dtype_name(t->dtype));
    return KD_OK;
}

kd_status kd_session_open(const kd_common *c, const char *config, const char *weights, const kd_sets *sets, int argc,
                          char **argv, const char *program, kd_session *out, kd_err *err)
{
    memset(out, 0, sizeof *out);
    size_t n = (size_t)snprintf(out->command, sizeof out->command, "%s", program);
    for (int i = 0; i < argc && n < sizeof out->command; i++) {
        n += (size_t)snprintf(out->command + n, sizeof out->command - n, " %s", argv[i]);
    }
    out->cfg = kd_calloc(1, sizeof *out->cfg);
    if (out->cfg == NULL) {
        return KD_FAIL(err, KD_E_OOM, "out of memory");
    }
    KD_TRY(weights != NULL ? kd_assess_config(config, weights, sets->text, sets->n, out->cfg, err)
                           : kd_config_load(config, sets->text, sets->n, out->cfg, err));
    KD_TRY(open_device(out, c, err));
    out->progress = kd_ticker_start(&out->ticker, c);
    return KD_OK;
}

void kd_session_close(kd_session *s)
{
    kd_backend_close(s->be);
    kd_free(s->cfg);
    memset(s, 0, sizeof *s);
}
