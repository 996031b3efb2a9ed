/* kd weights average: the mean of several checkpoints of one model. */
#include "formats/base/io.h"
#include "formats/weights/checkpoint.h"
#include "formats/weights/weights.h"
#include "teacher/model/vit_names.h"
#include "tools/commands/commands.h"
#include "tools/process/out.h"

#include <stdio.h>

enum { MOST = 256 };

static const kd_cmd AVERAGE = {
    .name = "kd weights average",
    .operands = "WEIGHTS WEIGHTS...",
    .about = "Average weights of one model tensor by tensor: checkpoints of a run, or runs from one start.",
    .common = KD_COMMON_OUT | KD_COMMON_FORCE,
    .min_operands = 2,
    .max_operands = MOST,
    .notes =
        "Floating-point tensors, running statistics of batch norm included, are averaged in double precision and\n"
        "written as f32; integers are those of the last WEIGHTS.  --out ending in .safetensors, .pth, .pt or .bin is "
        "a\n"
        "file; any other name is a checkpoint with the state, classes and recipe of the last WEIGHTS, which must be a\n"
        "checkpoint then.  `train.average_last: N` does the same at the end of training.",
    .examples = "kd weights average runs/kd-0/checkpoints/epoch-8 runs/kd-0/checkpoints/epoch-9 --out average",
};

static bool is_file_name(const char *path)
{
    return kd_path_has_suffix(path, ".safetensors") || kd_path_has_suffix(path, ".pth") ||
           kd_path_has_suffix(path, ".pt") || kd_path_has_suffix(path, ".bin");
}

/* The recipe of the checkpoint, which its state holds, beside the weights. */
static kd_status save_recipe(const kd_json *state, const char *dir, kd_err *err)
{
    const char *text = NULL;
    char *path = kd_path_join(dir, "config.yaml");
    kd_status st = path != NULL ? kd_json_get_str(state, "config", &text, err) : KD_E_OOM;
    st = st == KD_OK ? kd_io_write_file(path, text, strlen(text), err) : st;
    kd_free(path);
    return st;
}

static kd_status save_checkpoint(kd_weights *w, const char *last, const char *dir, kd_err *err)
{
    const size_t n = kd_weights_count(w);
    kd_st_tensor *t = kd_calloc(n + 1, sizeof *t);
    void **data = kd_calloc(n + 1, sizeof *data);
    kd_status st = t != NULL && data != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "average: out of memory");
    const kd_json *state = kd_weights_meta(w);
    if (st == KD_OK && strcmp(kd_weights_format(w), "checkpoint") != 0) {
        st = KD_FAIL(
            err, KD_E_ARG,
            "%s: expected a checkpoint, whose state and recipe --out %s takes over, found %s; give --out a name "
            "in .safetensors or .pth",
            last, dir, kd_weights_format(w));
    }
    for (size_t i = 0; i < n && st == KD_OK; i++) {
        const kd_weight *x = kd_weights_at(w, i);
        data[i] = kd_alloc(x->bytes + 1);
        st = data[i] != NULL ? kd_weights_read_raw(w, x, data[i], err) : KD_FAIL(err, KD_E_OOM, "average: no memory");
        t[i] = (kd_st_tensor){.name = x->name, .dtype = x->dtype, .rank = x->rank, .dim = x->dim, .data = data[i]};
    }
    if (st == KD_OK) {
        st = kd_ckpt_save(dir, &(kd_ckpt_group){"model", t, n}, 1, state, false, err);
    }
    st = st == KD_OK ? save_recipe(state, dir, err) : st;
    for (size_t i = 0; data != NULL && i < n; i++) {
        kd_free(data[i]);
    }
    kd_free((void *)data);
    kd_free(t);
    return st;
}

static kd_status check_out(const kd_common *c, const kd_operands *in, kd_err *err)
{
    kd_out *out = kd_calloc(1, sizeof *out);
    if (out == NULL) {
        return KD_FAIL(err, KD_E_OOM, "average: out of memory");
    }
    out->force = c->force;
    for (int i = 0; i < in->count; i++) {
        kd_out_reads(out, in->item[i]);
    }
    static const char *const files[] = {"model.safetensors", "state.json", "config.yaml"};
    const kd_status st =
        is_file_name(c->out) ? kd_out_file(out, c->out, err) : kd_out_dir(out, c->out, files, KD_COUNTOF(files), err);
    kd_free(out);
    return st;
}

static kd_status average(const kd_common *c, const kd_operands *in, kd_err *err)
{
    const size_t n = (size_t)in->count;
    kd_weights **w = kd_calloc(n, sizeof *w);
    kd_status st = w != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "average: out of memory");
    KD_GO(st);
    KD_GO(check_out(c, in, err));
    for (size_t i = 0; i < n; i++) {
        KD_GO(kd_weights_open(in->item[i], &kd_vit_names, &w[i], err));
    }
    KD_GO(kd_weights_average(w, n, err));
    if (is_file_name(c->out)) {
        KD_GO(kd_weights_save(w[n - 1], c->out, kd_weights_dialect(w[n - 1]), NULL, err));
    } else {
        KD_GO(save_checkpoint(w[n - 1], in->item[n - 1], c->out, err));
    }
    printf("%zu weights, %zu tensors averaged: %s\n", n, kd_weights_count(w[n - 1]), KD_SHOWN(c->out));
done:
    for (size_t i = 0; w != NULL && i < n; i++) {
        kd_weights_close(w[i]);
    }
    kd_free((void *)w);
    return st;
}

int kd_cmd_weights_average(int argc, char **argv)
{
    kd_common c;
    kd_operands in;
    kd_err err = {0};
    const int rc = kd_args_parse(&AVERAGE, argc, argv, NULL, &c, &in);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    if (c.out == NULL) {
        return kd_usage(&AVERAGE, "--out PATH is needed");
    }
    return kd_cmd_end(&AVERAGE, average(&c, &in, &err), &err);
}
