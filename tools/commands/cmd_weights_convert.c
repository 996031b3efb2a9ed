/* kd weights convert: weights under other names, in other files, as a Hugging Face folder. */
#include "configs/schema/kd_config.h"
#include "formats/base/io.h"
#include "formats/weights/hf.h"
#include "formats/weights/weights.h"
#include "teacher/model/teacher.h"
#include "teacher/model/vit_names.h"
#include "tools/commands/commands.h"
#include "tools/process/out.h"

#include <stdio.h>
#include <unistd.h>

typedef struct convert_opts {
    const char *key;
    const char *to;
    const char *dtype;
} convert_opts;

static const kd_arg CONVERT_ARGS[] = {
    KD_OPT_STR(convert_opts, key, "key", "KEY", NULL,
               "which weights of a file that holds several: model_ema, ema, teacher, ..."),
    KD_OPT_CHOICE(convert_opts, to, "to", "official", "official|hf|mmaction2",
                  "names to write: VideoMAE's own, Hugging Face's or MMAction2's"),
    KD_OPT_CHOICE(convert_opts, dtype, "dtype", "keep", "keep|f32|bf16|fp16", "type of floating-point tensors"),
};

static const kd_cmd CONVERT = {
    .name = "kd weights convert",
    .operands = "IN OUT",
    .about = "Write weights under other names, in another container or dtype.",
    .args = CONVERT_ARGS,
    .arg_count = KD_COUNTOF(CONVERT_ARGS),
    .common = KD_COMMON_CONFIG | KD_COMMON_FORCE,
    .min_operands = 2,
    .max_operands = 2,
    .notes =
        "OUT ending in .pth, .pt or .bin is a PyTorch file that torch.load reads (weights_only too), one in\n"
        ".safetensors a safetensors file; other endings are refused. With --to hf a name without an ending is a\n"
        "folder that from_pretrained takes: model.safetensors, config.json, preprocessor_config.json. Its sizes\n"
        "are those of the weights' own recipe (of the run, or config.json beside them), else of --config; so is the\n"
        "size of the position table that --to mmaction2 adds.\n"
        "Names are translated for VideoMAE only.",
};

/* transformers builds fc_norm with this epsilon whatever config.json says. */
#define HF_FC_NORM_EPS 1e-5

/* Class count of the head; 0: none. */
static int head_classes(const kd_weights *w)
{
    const kd_weight *head = kd_weights_find(w, "head.weight");
    return head != NULL && head->rank == 2 ? (int)head->dim[0] : 0;
}

/* May a folder of weights be written at `dir`: absent, empty, or (force) one of Hugging Face's already. */
static kd_status check_folder(const char *dir, bool force, kd_err *err)
{
    char **names = NULL;
    size_t n = 0;
    kd_json *config = NULL;
    if (!kd_path_exists(dir)) {
        return KD_OK;
    }
    if (kd_path_is_dir(dir)) {
        KD_TRY(kd_io_list_dir(dir, &names, &n, err));
        kd_free(names);
        KD_TRY(n > 0 ? kd_hf_config(dir, &config, NULL, err) : KD_OK);
    }
    const bool ours = kd_path_is_dir(dir) && (n == 0 || (force && config != NULL));
    kd_json_free(config);
    return ours ? KD_OK
                : KD_FAIL(err, KD_E_ARG, "%s exists and is no %s; choose another name%s", dir,
                          kd_path_is_dir(dir) ? "empty folder" : "folder",
                          force || !kd_path_is_dir(dir) ? "" : " or give --force to replace weights of Hugging Face");
}

static kd_status write_json(const char *dir, const char *name, const kd_json *doc, kd_err *err)
{
    char *path = kd_path_join(dir, name);
    const kd_status st = path != NULL ? kd_json_write(doc, path, err) : KD_FAIL(err, KD_E_OOM, "%s: no memory", dir);
    kd_free(path);
    return st;
}

/* A folder that from_pretrained takes; config.json comes last, so that a folder with one is whole. */
static kd_status save_folder(kd_weights *w, const kd_config *cfg, const char *dir, const kd_dtype *dtype, kd_err *err)
{
    kd_json *config = kd_json_object();
    kd_json *processor = kd_json_object();
    char *file = kd_path_join(dir, "model.safetensors");
    kd_status st = file != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "%s: no memory", dir);
    KD_GO(st);
    KD_GO(kd_config_to_hf(cfg, kd_json_get(kd_weights_meta(w), "classes"), head_classes(w), config, processor, err));
    KD_GO(kd_io_mkdirs(dir, err));
    KD_GO(kd_weights_save(w, file, KD_VIT_HF, dtype, err));
    KD_GO(write_json(dir, "preprocessor_config.json", processor, err));
    KD_GO(write_json(dir, "config.json", config, err));
    if (cfg->teacher.pooling == KD_POOL_MEAN && cfg->teacher.fc_norm_eps != HF_FC_NORM_EPS) {
        printf("fc_norm: trained with epsilon %g, transformers computes it with %g: logits differ in the last digits\n",
               cfg->teacher.fc_norm_eps, HF_FC_NORM_EPS);
    }
done:
    if (st != KD_OK) {
        (void)rmdir(dir); /* where nothing came into it */
    }
    kd_free(file);
    kd_json_free(config);
    kd_json_free(processor);
    return st;
}

/* The recipe of the weights, which has what no tensor shows: heads, clip size, epsilons. */
static kd_status convert_folder(kd_weights *w, const char *in, const char *out, const kd_common *c,
                                const kd_dtype *dtype, kd_err *err)
{
    kd_config *cfg = kd_calloc(1, sizeof *cfg);
    if (cfg == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory for a recipe");
    }
    kd_status st = kd_config_of_weights(c->config.item, (size_t)c->config.count, in, NULL, 0, cfg, err);
    if (st == KD_OK) {
        st = save_folder(w, cfg, out, dtype, err);
    }
    kd_free(cfg);
    return st;
}

/* MMAction2's files hold the position table that its model computes; the recipe says for which clips. */
static kd_status add_table(kd_weights *w, const char *in, const kd_common *c, kd_err *err)
{
    kd_err why = {0};
    float *table = NULL;
    kd_status st = KD_OK;
    kd_config *cfg = kd_weights_find(w, "pos_embed") == NULL ? kd_calloc(1, sizeof *cfg) : NULL;
    if (cfg == NULL) {
        return kd_weights_find(w, "pos_embed") != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "no memory for a recipe");
    }
    if (kd_config_of_weights(c->config.item, (size_t)c->config.count, in, NULL, 0, cfg, &why) != KD_OK) {
        if (c->config.count > 0 || why.code != KD_E_CONFIG) {
            st = KD_FAIL(err, why.code, "%s", why.msg);
        } else {
            printf(
                "backbone.pos_embed is left out: no recipe says for which clips (--config); MMAction2 computes it\n");
        }
        goto done;
    }
    const kd_vit_cfg m = kd_teacher_model(&cfg->teacher, 1, cfg->video.mean, cfg->video.std);
    const int64_t dim[3] = {1, kd_vit_tokens(&m), m.dim};
    table = kd_alloc((size_t)(dim[1] * dim[2]) * sizeof *table);
    st = table != NULL ? kd_vit_fixed_table(&m, table) : KD_E_OOM;
    st = st == KD_OK ? kd_weights_add(w, "pos_embed", dim, 3, table, err) : KD_FAIL(err, st, "no memory for a table");
done:
    kd_free(table);
    kd_free(cfg);
    return st;
}

/* What is written may be written, and is none of what is read. */
static kd_status check_out(const kd_common *c, const kd_operands *in, bool folder, kd_err *err)
{
    static const char *const FILES[] = {"model.safetensors", "config.json", "preprocessor_config.json"};
    kd_out out = {.force = c->force};
    kd_out_reads(&out, in->item[0]);
    for (int i = 0; i < c->config.count; i++) {
        kd_out_reads(&out, c->config.item[i]);
    }
    return folder ? kd_out_dir(&out, in->item[1], FILES, KD_COUNTOF(FILES), err) : kd_out_file(&out, in->item[1], err);
}

static kd_status convert(const convert_opts *o, const kd_common *c, const kd_operands *in, kd_err *err)
{
    kd_weights *w = NULL;
    const int dialect = kd_names_dialect(&kd_vit_names, o->to);
    kd_dtype dtype = KD_F32;
    const bool keep = strcmp(o->dtype, "keep") == 0;
    const char *out = in->item[1];
    const bool folder = dialect == KD_VIT_HF &&
                        (strchr(kd_path_base(out), '.') == NULL || kd_path_is_dir(out) || out[strlen(out) - 1] == '/');
    KD_ASSERT(dialect >= 0 && (keep || kd_dtype_parse(o->dtype, &dtype)));
    if (c->config.count > 0 && !folder && dialect != KD_VIT_MMACTION) {
        return KD_FAIL(err, KD_E_ARG,
                       "--config: only for a folder (--to hf, OUT without an ending) and --to mmaction2");
    }
    KD_TRY(folder ? check_folder(out, c->force, err) : KD_OK);
    KD_TRY(check_out(c, in, folder, err));
    KD_TRY(kd_weights_open_key(in->item[0], o->key != NULL ? o->key : "", &kd_vit_names, &w, err));
    kd_status st = KD_OK;
    if (dialect != KD_VIT_OFFICIAL && !kd_weights_mapped(w)) {
        st = KD_FAIL(err, KD_E_ARG, "%s holds no VideoMAE: --to %s has no meaning for it", in->item[0], o->to);
    } else if (folder) {
        st = convert_folder(w, in->item[0], out, c, keep ? NULL : &dtype, err);
    } else {
        st = dialect == KD_VIT_MMACTION ? add_table(w, in->item[0], c, err) : KD_OK;
        st = st != KD_OK ? st : kd_weights_save(w, out, dialect, keep ? NULL : &dtype, err);
    }
    if (st == KD_OK) {
        printf("%s -> %s: %zu tensors, %s names\n", KD_SHOWN(kd_weights_file(w)), KD_SHOWN(out), kd_weights_count(w),
               o->to);
    }
    kd_weights_close(w);
    return st;
}

int kd_cmd_weights_convert(int argc, char **argv)
{
    convert_opts o;
    kd_common c;
    kd_operands in;
    const int rc = kd_args_parse(&CONVERT, argc, argv, &o, &c, &in);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    kd_err err = {0};
    return kd_cmd_end(&CONVERT, convert(&o, &c, &in, &err), &err);
}
