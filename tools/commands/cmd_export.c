/* `distill export`: a student as a file for other programs. */
#include "distill/eval/quantize.h"
#include "distill/export/export.h"
#include "tools/commands/commands.h"
#include "tools/print.h"
#include "tools/process/process.h"
#include "tools/session.h"

#include <stdio.h>

typedef struct opts {
    const char *weights, *format;
    bool int8;
    int64_t int8_samples;
} opts;

static kd_status print(const kd_export_result *r, const kd_common *c, const opts *o, kd_err *err)
{
    if (c->json) {
        kd_json *d = kd_json_object();
        kd_json_set_str(d, "type", "result");
        kd_json_set_str(d, "format", r->format);
        kd_json_set_i64(d, "bytes", r->bytes);
        kd_json_set_i64(d, "tensors", r->tensors);
        kd_json_set_i64(d, "nodes", r->nodes);
        kd_json_set_i64(d, "operators", r->kinds);
        kd_json_set_i64(d, "int8_layers", r->layers);
        kd_json_set_i64(d, "calibrated", r->calibrated);
        return kd_print_json(d, err);
    }
    printf("%s -> %s: %s, %.2f MiB, ", KD_SHOWN(o->weights), KD_SHOWN(c->out), r->format, (double)r->bytes / 1048576.0);
    if (r->nodes > 0) {
        printf("%d nodes of %d operators\n", r->nodes, r->kinds);
    } else {
        printf("%lld tensors\n", (long long)r->tensors);
    }
    if (r->layers > 0) {
        printf("int8: %d layers, ranges of %lld training samples\n", r->layers, (long long)r->calibrated);
    }
    return KD_OK;
}

/* Files do not depend on the device that a run trained on: weights are read and programs compiled on the CPU in f32. */
static kd_status open_session(const opts *o, const kd_common *c, kd_sets *sets, kd_session *s, kd_err *err)
{
    KD_TRY(kd_sets_make(c, "eval", sets, err));
    KD_TRY(kd_sets_add(sets, "train.device", "cpu", err));
    KD_TRY(kd_sets_add(sets, "train.dtype", "f32", err));
    return kd_session_open(c, "distill", o->weights, KD_WEIGHTS_MODEL, sets, s, err);
}

static kd_status export(const opts *o, const kd_common *c, kd_err *err)
{
    kd_session s = {0};
    kd_sets sets = {0};
    kd_export_result r = {.format = NULL};
    kd_out out;
    kd_status st = KD_OK;
    KD_GO(open_session(o, c, &sets, &s, err));
    kd_session_out(&s, c, o->weights, &out);
    KD_GO(kd_out_file(&out, c->out, err));
    const kd_export_opts eo = {.task = s.task,
                               .cfg = s.cfg,
                               .weights = o->weights,
                               .format = o->format,
                               .out = c->out,
                               .int8 = o->int8,
                               .int8_samples = o->int8_samples > 0 ? o->int8_samples : KD_QUANTIZE_SAMPLES,
                               .be = s.be,
                               .progress = &s.progress};
    KD_GO(kd_export(&eo, &r, err));
    KD_GO(print(&r, c, o, err));
done:
    kd_session_close(&s);
    kd_sets_free(&sets);
    return st;
}

int kd_cmd_export(int argc, char **argv)
{
    static const kd_arg args[] = {
        KD_OPT_STR(opts, weights, "weights", "PATH", NULL,
                   "run directory (its best checkpoint), checkpoint, safetensors or .pth; needed"),
        KD_OPT_CHOICE(opts, format, "format", NULL, "safetensors|pth|onnx",
                      "what to write (default: by --out's ending)"),
        KD_OPT_FLAG(opts, int8, "int8",
                    "layers in eight bits: liblast's (safetensors), or QuantizeLinear and DequantizeLinear (onnx)"),
        KD_OPT_INT(opts, int8_samples, "int8-samples", "N", NULL, 1, 1000000,
                   "--int8: training samples whose activations set the ranges (default: 128)"),
    };
    static const kd_cmd cmd = {
        .name = "distill export",
        .about = "Write a student for other programs: for liblast, for the reference's modules, or as an ONNX model.",
        .args = args,
        .arg_count = KD_COUNTOF(args),
        .writes_onnx = true,
        .common = KD_COMMON_CONFIG | KD_COMMON_SET | KD_COMMON_DATA | KD_COMMON_OUT | KD_COMMON_THREADS |
                  KD_COMMON_FORCE | KD_COMMON_JSON,
        .notes =
            "safetensors: the file of liblast, weights and recipe in one (student/stream/README.md); `distill "
            "predict`\n"
            "reads it as it is.\n"
            "PyTorch: {\"model\": the whole state_dict of the authors' module}, buffers and second names included, so\n"
            "that load_state_dict(strict=True) takes it.\n"
            "ONNX: operator set 17, f32, inputs `joint`, `velocity`, ... (batch,3,frames,joints,bodies) as the model\n"
            "names its streams, outputs `logits` and `features`; the recipe, class names and the weights' SHA-256 are\n"
            "in metadata_props. --int8 reads the training half of the recipe's data.",
        .examples =
            "distill export --weights runs/kd-0 --format onnx --out student.onnx\n"
            "distill export --weights runs/kd-0 --data sample --int8 --int8-samples 16 --out student_int8.onnx"};
    opts o = {0};
    kd_common c;
    kd_err err = {0};
    const int rc = kd_args_parse(&cmd, argc, argv, &o, &c, NULL);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    if (o.weights == NULL || c.out == NULL) {
        return kd_usage(&cmd, "%s is needed", o.weights == NULL ? "--weights PATH" : "--out FILE");
    }
    if (o.int8_samples > 0 && !o.int8) {
        return kd_usage(&cmd, "--int8-samples sets the ranges of --int8, which is not given");
    }
    kd_process_outlive_reader();
    return kd_cmd_end(&cmd, export(&o, &c, &err), &err);
}
