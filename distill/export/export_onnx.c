/* A student as an ONNX file: see README.md. */
#include "distill/export/export_internal.h"
#include "distill/export/onnx_internal.h"

/* Two batch sizes tell which dims grow with the batch (onnx_internal.h); their numbers are no sizes of models. */
enum { BATCH_A = 2, BATCH_B = 3 };

static kd_status put_classes(kd_onnx *m, const kd_json *classes, kd_err *err)
{
    char *text = NULL;
    if (classes == NULL) {
        return KD_OK;
    }
    KD_TRY(kd_json_dump(classes, KD_JSON_COMPACT, &text, NULL, err));
    kd_onnx_meta(m, "classes", text);
    kd_free(text);
    return KD_OK;
}

/* Each key of the recipe's section `skeleton` as metadata of its own: how sequences are made of a file's joints. */
static kd_status put_skeleton(kd_onnx *m, const char *recipe, kd_err *err)
{
    const char *line = strstr(recipe, "\nskeleton:\n");
    if (line == NULL) {
        return KD_FAIL(err, KD_E_STATE, "ONNX: expected a section skeleton in the recipe, found none");
    }
    for (line = strchr(line + 1, '\n') + 1; strncmp(line, "  ", 2) == 0; line = strchr(line, '\n') + 1) {
        const char *colon = strchr(line, ':'), *end = strchr(line, '\n');
        const char *key = kd_onnx_text(m, "skeleton.%.*s", (int)(colon - line - 2), line + 2);
        kd_onnx_meta(m, key, kd_onnx_text(m, "%.*s", (int)(end - colon - 2), colon + 2));
    }
    return KD_OK;
}

/* What a user needs to feed the model and to read its answer. */
static kd_status put_meta(const kd_export_opts *o, const kdi_subject *s, kd_onnx *m, kd_err *err)
{
    char *recipe = kd_config_yaml(o->cfg, false, true);
    if (recipe == NULL) {
        return KD_FAIL(err, KD_E_OOM, "ONNX: out of memory");
    }
    kd_onnx_meta(m, "model", s->model.name);
    kd_onnx_meta(m, "recipe", recipe);
    const kd_status st = put_skeleton(m, recipe, err);
    kd_free(recipe);
    KD_TRY(st);
    kd_onnx_meta(m, "weights_sha256", s->load.sha256);
    return put_classes(m, s->classes, err);
}

static kd_status open_programs(kd_model *m, bool eight, kd_program *p[2], kd_err *err)
{
    const int batch[2] = {BATCH_A, BATCH_B};
    for (int i = 0; i < 2; i++) {
        KD_TRY(eight ? kd_model_eval_program(m, batch[i], &p[i], err)
                     : kd_model_plain_program(m, batch[i], &p[i], err));
        const kd_status st = kd_program_run(p[i], NULL); /* computes what follows from parameters alone */
        if (st != KD_OK) {
            return KD_FAIL(err, st, "ONNX: forward pass failed in %s", kd_program_where(p[i]));
        }
    }
    return KD_OK;
}

kd_status kdi_onnx_of(kd_model *m, const kd_quant *q, kd_onnx **out, kd_err *err)
{
    kd_program *p[2] = {NULL, NULL};
    kdi_onnx w = {.batch = {BATCH_A, BATCH_B}, .quant = q, .err = err};
    kd_status st = KD_OK;
    KD_GO(kd_onnx_create(m->name, &w.m, err));
    KD_GO(open_programs(m, q != NULL, p, err));
    w.p = p[0];
    w.other = p[1];
    w.name = kd_calloc((size_t)kd_walk_values(p[0]), sizeof *w.name);
    w.eight = kd_calloc((size_t)kd_walk_values(p[0]), sizeof *w.eight);
    KD_GO(w.name != NULL && w.eight != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "ONNX: out of memory"));
    kdi_on_program(&w);
    st = w.st;
done:
    *out = w.m;
    kd_free(w.name);
    kd_free(w.eight);
    kd_free(w.shared);
    kd_program_free(p[0]);
    kd_program_free(p[1]);
    return st;
}

kd_status kdi_export_onnx(const kd_export_opts *o, kd_export_result *r, kd_err *err)
{
    const kd_quantize_opts co = {.cfg = o->cfg, .samples = o->int8_samples, .progress = o->progress};
    kdi_subject s = {.w = NULL};
    kd_onnx *m = NULL;
    kd_quant q = {.n = 0};
    size_t bytes = 0;
    kd_status st = KD_OK;
    KD_GO(kdi_subject_open(o, &s, err));
    KD_GO(o->int8 ? kd_quantize(&co, &s.model, &q, err) : KD_OK);
    KD_GO(kdi_onnx_of(&s.model, o->int8 ? &q : NULL, &m, err));
    KD_GO(put_meta(o, &s, m, err));
    KD_GO(kd_onnx_write(m, o->out, &bytes, err));
    r->nodes = kd_onnx_nodes(m);
    r->kinds = kd_onnx_op_kinds(m);
    r->layers = q.n;
    r->calibrated = q.samples;
done:
    kd_onnx_free(m);
    kd_quant_free(&q);
    kdi_subject_close(&s);
    return st;
}
