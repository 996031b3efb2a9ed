/* What commands open: see session.h. */
#include "tools/session.h"

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

kd_status kd_sets_add(kd_sets *s, const char *key, const char *value, kd_err *err)
{
    if (value == NULL) {
        return KD_OK;
    }
    const size_t n = strlen(key), m = strlen(value);
    char *text = kd_alloc(n + 2 * m + 4);
    size_t at = n;
    if (text != NULL) {
        memcpy(text, key, n);
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

kd_status kd_sets_add_list(kd_sets *s, const char *key, const kd_arg_list *value, kd_err *err)
{
    char *text = NULL;
    if (value->count < 2) {
        return kd_sets_add(s, key, value->count == 1 ? value->item[0] : NULL, err);
    }
    kd_json *list = kd_json_array();
    for (int i = 0; i < value->count; i++) {
        kd_json_push_str(list, value->item[i]);
    }
    kd_status st = kd_json_dump(list, KD_JSON_COMPACT, &text, NULL, err);
    st = st == KD_OK ? add_text(s, kd_strf("%s=%s", key, text), err) : st; /* YAML contains JSON */
    kd_free(text);
    kd_json_free(list);
    return st;
}

kd_status kd_sets_add_int(kd_sets *s, const char *key, int64_t value, kd_err *err)
{
    return add_text(s, kd_strf("%s=%lld", key, (long long)value), err);
}

kd_status kd_sets_add_bool(kd_sets *s, const char *key, bool value, kd_err *err)
{
    return add_text(s, kd_strf("%s=%s", key, value ? "true" : "false"), err);
}

/* The option of row i, which was typed, under its key. */
static kd_status add_option(kd_sets *s, const kd_common *c, size_t i, const char *section, kd_err *err)
{
    const kd_common_row *row = &kd_common_rows[i];
    const char *field = (const char *)c + row->arg.offset;
    char key[64];
    (void)snprintf(key, sizeof key, "%s%s", row->key[0] == '.' ? section : "", row->key);
    if (row->arg.type == KD_ARG_INT) {
        int64_t value = 0;
        memcpy(&value, field, sizeof value);
        return kd_sets_add_int(s, key, value, err);
    }
    KD_ASSERT(row->arg.type == KD_ARG_STR || row->arg.type == KD_ARG_CHOICE);
    const char *value = NULL;
    memcpy(&value, field, sizeof value);
    return kd_sets_add(s, key, value, err);
}

kd_status kd_sets_make(const kd_common *c, const char *section, kd_sets *out, kd_err *err)
{
    memset(out, 0, sizeof *out);
    for (int i = 0; i < c->set.count; i++) {
        out->text[out->n++] = c->set.item[i];
    }
    for (size_t i = 0; i < KD_COMMON_COUNT; i++) {
        if (kd_common_rows[i].key != NULL && (c->given & (1u << i)) != 0) {
            KD_TRY(add_option(out, c, i, section, err));
        }
    }
    return KD_OK;
}

kd_status kd_read_views(const char *text, const char *also, int *clips, int *crops, bool *flips, kd_err *err)
{
    int end = 0;
    const bool read = sscanf(text, "%4dx%4d%n", clips, crops, &end) == 2 && *clips > 0 && *crops > 0;
    *flips = read && strcmp(text + end, "x2") == 0;
    if (!read || (text[end] != '\0' && !*flips)) {
        return KD_FAIL(err, KD_E_ARG,
                       "--views: expected CLIPSxCROPS such as 5x3, or 5x3x2 with each mirrored too%s, got '%s'", also,
                       text);
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

static kd_status load(const kd_common *c, const char *weights, kd_weights_use use, const kd_sets *sets, kd_session *s,
                      kd_err *err)
{
    const char *const *files = c->config.item;
    const size_t n = (size_t)c->config.count;
    KD_TRY(use == KD_WEIGHTS_MODEL ? kd_config_of_weights(files, n, weights, sets->text, sets->n, s->cfg, err)
                                   : kd_config_load(files, n, sets->text, sets->n, s->cfg, err));
    s->task = kd_task_of(s->cfg);
    return KD_OK;
}

/* Kinds of recipes a program runs: "teacher". */
static void kinds_of(const char *program, char *out, size_t size)
{
    size_t n = 0;
    out[0] = '\0';
    for (int i = 0; i < kd_task_count() && n < size; i++) {
        if (strcmp(kd_task_at(i)->program, program) == 0) {
            n += (size_t)snprintf(out + n, size - n, "%s%s", n != 0 ? " or " : "", kd_task_at(i)->kind);
        }
    }
}

kd_status kd_session_open(const kd_common *c, const char *program, const char *weights, kd_weights_use use,
                          kd_sets *sets, kd_session *out, kd_err *err)
{
    char kinds[120];
    memset(out, 0, sizeof *out);
    out->cfg = kd_calloc(1, sizeof *out->cfg);
    if (out->cfg == NULL) {
        return KD_FAIL(err, KD_E_OOM, "out of memory");
    }
    /* Weights to start from are a key of the recipe, whose name only the recipe's kind tells: a first reading, silent,
     * tells the kind. */
    const bool twice = use == KD_WEIGHTS_START && weights != NULL;
    const kd_log_level level = kd_log_get_level();
    kd_log_set_level(twice ? KD_LOG_ERROR : level);
    const kd_status st = load(c, weights, use, sets, out, err);
    kd_log_set_level(level);
    KD_TRY(st);
    if (program != NULL && strcmp(out->task->program, program) != 0) {
        kinds_of(program, kinds, sizeof kinds);
        const bool recipe = c->config.count > 0 || weights == NULL;
        return KD_FAIL(err, KD_E_CONFIG, "%s: %s of a %s; `%s` expects kind: %s",
                       c->config.count > 0 ? c->config.item[0]
                       : weights != NULL   ? weights
                                           : "config",
                       recipe ? "recipe" : "weights", out->task->kind, program, kinds);
    }
    if (twice) {
        KD_TRY(kd_sets_add(sets, out->task->start_key, weights, err));
        KD_TRY(load(c, weights, use, sets, out, err));
    }
    KD_TRY(open_device(out, c, err));
    out->progress = kd_ticker_start(&out->ticker, c);
    return KD_OK;
}

void kd_session_out(const kd_session *s, const kd_common *c, const char *weights, kd_out *out)
{
    memset(out, 0, sizeof *out);
    out->force = c->force;
    out->resume = c->resume;
    out->dry_run = c->dry_run;
    out->data = s->cfg->data.root[0] != '\0' ? s->cfg->data.root : NULL;
    for (int i = 0; i < c->config.count; i++) {
        kd_out_reads(out, c->config.item[i]);
    }
    kd_out_reads(out, weights);
    const kd_data_opts *data = &s->cfg->data;
    const char *const files[] = {data->train_list,   data->val_list,      data->quarantine, data->video_dir,
                                 data->skeleton_dir, data->skeleton_file, data->names};
    for (size_t i = 0; i < KD_COUNTOF(files); i++) {
        kd_out_reads(out, files[i]);
    }
    for (int i = 0; i < s->cfg->kd.store.n; i++) {
        kd_out_reads(out, s->cfg->kd.store.v[i]);
    }
}

void kd_session_close(kd_session *s)
{
    kd_backend_close(s->be);
    kd_free(s->cfg);
    memset(s, 0, sizeof *s);
}
