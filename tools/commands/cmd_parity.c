/* kd parity: run every fixture that is found and compare with its golden values (parity.h). */
#include "formats/base/io.h"
#include "tools/commands/commands.h"
#include "tools/device.h"
#include "tools/parity/parity.h"

#include <stdio.h>

/* ---- which checker --------------------------------------------------------------------------- */

/* A fixture is known by the keys of its document: all of `keys` at the top, and `member` in one
 * of the objects at the top.  The first row that fits wins. */
typedef struct kind {
    const char *name;
    kd_parity_checker run;
    const char *keys[4];
    const char *member;
    const char *read; /* the keys that the checker reads or need not read: kd_parity_unread */
} kind;

#define INPUT "input/name input/shape input/scale input/offset input/crc32 input/first4 "
#define WEIGHT \
    "params/*/shape params/*/scale params/*/offset params/*/crc32 params/*/gen_name params/*/first4 params/*/numel "
#define CONFIG                                                                                             \
    "config/img_size config/patch_size config/num_classes config/embed_dim config/depth config/num_heads " \
    "config/mlp_ratio config/qkv_bias config/all_frames config/tubelet_size config/use_mean_pooling "      \
    "config/init_values config/init_scale config/cos_attn config/use_learnable_pos_emb ln_eps fc_norm_eps "
#define SUMMARY(path) path "/l2 " path "/sum " path "/numel " path "/idx " path "/val " path "/f32_maxabsdiff "
#define ABOUT         "case source note generator "

static const kind KINDS[] = {
    {"teacher model",
     kd_parity_vit_tiny,
     {"config", "losses", "grads", "params"},
     NULL,
     ABOUT CONFIG INPUT WEIGHT
     "batch labels lam smoothing losses/ce losses/ls losses/soft losses_f32/ce losses_f32/ls losses_f32/soft act_l2 "
     "f32_logit_maxabsdiff v1_vs_v2_logit_maxabsdiff n_params " SUMMARY("grads/ls/*") SUMMARY("grads/soft/*")
         SUMMARY("grads/soft_input")},
    {"teacher forward pass",
     kd_parity_vit_full,
     {"act_norms_f64", "params", "input", NULL},
     NULL,
     ABOUT INPUT WEIGHT
     "ln_eps fc_norm_eps num_heads config/num_heads num_classes batch n_params act_norms_f64 act_norms_f32 "
     "act_sample_idx act_samples_f64 f32_logit_maxabsdiff f32_feature_maxabsdiff logit_absmax argmax"},
    {"teacher training",
     kd_parity_vit_traj,
     {"config", "history", "final", "layer_decay"},
     NULL,
     ABOUT CONFIG INPUT WEIGHT
     "clip accum ema_decay layer_decay weight_decay betas eps smoothing history/lr history/lam history/losses "
     "history/grad_norm history_f32_losses final_eval_logits final_eval_logits_f32 schedule/base_value "
     "schedule/final_value schedule/epochs schedule/niter_per_ep schedule/warmup_epochs schedule/warmup_steps "
     "schedule/start_warmup_value " SUMMARY("final/*") SUMMARY("ema/*")},
    {"layer-wise learning rates",
     kd_parity_layer_decay,
     {"layer_decay", "depth", "params", NULL},
     NULL,
     ABOUT "layer_decay depth n_groups groups values params/*/layer params/*/scale params/*/wd"},
    {"learning rate schedules",
     kd_parity_cosine,
     {NULL},
     "args",
     "*/args/base_value */args/final_value */args/epochs */args/niter_per_ep */args/warmup_epochs "
     "*/args/warmup_steps */args/start_warmup_value */len */first */last */max */argmax"},
    {"learning rate schedules of other toolkits",
     kd_parity_schedules,
     {"cases", "hmdb", "ava", NULL},
     NULL,
     ABOUT
     "inputs outputs closed_form cases/*/base cases/*/L cases/*/warm_sf cases/*/warm_end_epochs cases/*/T cases/*/mn "
     "cases/*/cend cases/*/epochs cases/*/cos_iter cases/*/cbegin hmdb/* ava/* layer_decay_0.75_depth12 layer_id"},
    {"losses of a recipe in two phases",
     kd_parity_recipe_losses,
     {"soft_ce", "ls_ce", "weighted_ce", NULL},
     NULL,
     ABOUT
     "inputs/*/shape inputs/*/scale inputs/*/offset inputs/*/crc32 inputs/*/first4 outputs labels perm lam soft_ce "
     "ls_ce weighted_ce tta_pred train_acc_rule submission_csv"},
    {"position tables", kd_parity_sinusoid, {NULL}, "crc32_bytes", "*/shape */l2 */sum */crc32_bytes"},
    {"frame sampling",
     kd_parity_sampling,
     {"test_seg5_starts_in_strided_list", NULL},
     NULL,
     ABOUT "test_seg5_starts_in_strided_list"},
    {"uniform frame sampling",
     kd_parity_uniform_sample,
     {"table", "linspace_int_16", NULL},
     NULL,
     ABOUT "inputs outputs table linspace_int_16 ava_temporal_crop_16x4 mmaction2_SampleAVAFrames_test"},
    {"frame sampling of MMAction2",
     kd_parity_sample_frames,
     {"table", NULL},
     NULL,
     ABOUT "inputs outputs table crc_note"},
    {"mixed pictures",
     kd_parity_mixup,
     {"input", "num_classes", NULL},
     "lam_corrected",
     "input/name input/shape input/scale num_classes smoothing */lam */cutmix */center_yx */randint_ranges "
     "*/box_yl_yh_xl_xh */lam_corrected"},
    {"picture sizes and crops",
     kd_parity_spatial,
     {NULL},
     "resized_h",
     "*/resized_h */resized_w */axis */offsets */val_center_y */val_center_x"},
    {"resized pictures",
     kd_parity_resize,
     {NULL},
     "in_hw",
     "*/in_hw */out_hw */name */in_crc32 */out_crc32 */emulation_maxdiff */emulation_ndiff */stored"},
    {"augmented pictures",
     kd_parity_augment,
     {"image", "hw", "low_crc32", "pil"},
     NULL,
     "image hw crc32 low_crc32 low pil */img */bits */thresh */add */factor */degrees */pct */resample"},
    {"augmentation levels", kd_parity_augment_levels, {"AutoContrast", "Rotate", "ShearX", NULL}, NULL, "*/*"},
    {"boxes and resized pictures",
     kd_parity_crops,
     {"center_crop", "random_resized_crop", "tf_resize_long_side", NULL},
     NULL,
     ABOUT "inputs outputs image_inputs rrc_note cv2 center_crop three_crop hmdb_views random_resized_crop "
           "tf_resize_long_side "
           "cv2_up_mismatch cv2_down_mismatch cv2_half_mismatch cv2_same_w_mismatch pil_a_size_wh pil_b_size_wh "
           "pil_a_center_crop16_top_left pil_b_center_crop16_top_left mmcv_rescale_size"},
    {"interpolation",
     kd_parity_interp,
     {"torch_bilinear", "pos", NULL},
     NULL,
     ABOUT "torch_bilinear/input torch_bilinear/shape torch_bilinear/scale torch_bilinear/crops/* pos/input pos/shape "
           "pos/T pos/P pos/C pos/scale"},
    {"clips",
     kd_parity_pipeline,
     {NULL},
     "clip_len",
     "rrc_size_examples_1080x1920 */frames */h */w */sample_id */short_side */crop */clip_len */rate */segs */crops "
     "*/order */sums */crc32 */name */i */j */ch */cw */flip */out"},
    {"merging of views", kd_parity_merge, {"logits", "prob", "score", NULL}, NULL, ABOUT "logits prob score"},
    {"PyTorch files",
     kd_parity_pth,
     {"keys", "shapes", "crc32", "pretrain_keys"},
     NULL,
     ABOUT INPUT "config/img config/frames config/dim config/depth config/heads config/classes config/mean_pool "
                 "config/init_values config/eps keys shapes crc32 crc32_f16 pretrain_keys logits_for_input_2 strided"},
    {"distillation losses",
     kd_parity_losses,
     {"losses", "inputs", "student_dim", "teacher_dim"},
     NULL,
     ABOUT "batch classes student_dim teacher_dim label losses/*/value losses/*/value_f32 losses/*/grad_f32_maxabsdiff "
           "inputs/*/shape inputs/*/scale inputs/*/offset inputs/*/crc32 inputs/*/first4"},
    {"LAST losses",
     kd_parity_student_losses,
     {"student", "teacher", "values_f64", "perm"},
     NULL,
     ABOUT "labels perm lam values_f64 student/name student/shape student/ko student/ks teacher/name teacher/shape "
           "teacher/ko teacher/ks"},
    {"skeleton sequences",
     kd_parity_sequence,
     {"cases", "aug"},
     NULL,
     ABOUT "cases/*/t_raw cases/*/raw_layout cases/*/raw/name cases/*/raw/ko cases/*/raw/ks cases/*/raw/note "
           "aug/source aug/angle_deg aug/scale aug/shear aug/T_sub aug/start aug/mask"},
    {"student model",
     kd_parity_student,
     {"family", "variant", "param_order", "tensors"},
     NULL,
     ABOUT "family variant params classes macs_single_body eval_batch train_batch labels input/layout "
           "input/name_prefix input/shape input/streams input/ks input/ko input/data_crc32 input/generated "
           "input/cut_frame loss_total loss_ce ib_loss f32_vs_f64 grad_global_l2 params_without_grad "
           "analytically_zero_grad_params logits_eval_absmax param_order tensors/name tensors/shape tensors/kind "
           "tensors/crc32 tensors/ko tensors/ks tensors/data_crc32"},
};

static bool fits(const kind *k, const kd_json *doc)
{
    for (size_t i = 0; i < KD_COUNTOF(k->keys) && k->keys[i] != NULL; i++) {
        if (kd_json_get(doc, k->keys[i]) == NULL) {
            return false;
        }
    }
    bool found = k->member == NULL;
    for (size_t i = 0; i < kd_json_count(doc) && !found; i++) {
        found = kd_json_get(kd_json_at(doc, i), k->member) != NULL;
    }
    return found;
}

static const kind *classify(const kd_json *doc)
{
    for (size_t i = 0; i < KD_COUNTOF(KINDS) && kd_json_type_of(doc) == KD_JSON_OBJECT; i++) {
        if (fits(&KINDS[i], doc)) {
            return &KINDS[i];
        }
    }
    return NULL;
}

/* ---- the walk -------------------------------------------------------------------------------- */

enum { DIRS_MAX = 4096 };

typedef struct walk {
    kd_backend *be;
    kd_dtype dtype;
    bool json, quiet;
    int fixtures, items, failed, not_covered, unusable;
    int covered_here; /* of the present operand */
    kd_err first;     /* what made the first unusable fixture so */
} walk;

static void headline(const walk *w, const char *dir, const char *what, const char *why)
{
    if (!w->json) {
        printf("%s%s: %s%s%s\n", w->fixtures > 0 ? "\n" : "", KD_SHOWN(dir), what, why[0] != '\0' ? ": " : "",
               KD_SHOWN(why));
    }
}

static void run_fixture(walk *w, const char *dir, const char *file, const kind *k, const kd_json *doc)
{
    kd_err err = {0};
    char label[1024];
    const bool plain = strcmp(file, "manifest.json") == 0;
    (void)snprintf(label, sizeof label, "%s%s%s", dir, plain ? "" : "/", plain ? "" : file);
    parity p = {.dir = dir, .label = label, .manifest = doc, .be = w->be, .dtype = w->dtype, .json = w->json};
    const double start = kd_now();
    headline(w, label, k->name, "");
    if (doc != NULL) {
        kd_parity_unread(&p, k->read);
    }
    const kd_status st = k->run(&p, &err);
    w->fixtures++;
    w->covered_here++;
    w->items += p.items;
    w->failed += p.failed;
    if (st == KD_E_UNSUPPORTED) {
        w->covered_here--;
        w->fixtures--;
        w->not_covered++;
        headline(w, label, "not covered", err.msg);
        return;
    }
    if (st != KD_OK && !p.stopped) {
        w->unusable++;
        headline(w, label, "could not be run", err.msg);
        kd_log(KD_LOG_ERROR, "%s: %s", label, err.msg);
        if (w->first.code == KD_OK) {
            w->first = err;
            w->first.code = st;
        }
    } else if (!w->json) {
        printf("%s: %d items, %d failed, %.1f s\n", KD_SHOWN(label), p.items, p.failed, kd_now() - start);
    }
    (void)fflush(stdout);
}

/* One JSON document of a directory; *known: it was a fixture or a manifest. */
static void visit_json(walk *w, const char *dir, const char *file, bool *known)
{
    kd_err err = {0};
    kd_json *doc = NULL;
    char *path = kd_path_join(dir, file);
    if (path == NULL || kd_json_load(path, &doc, &err) != KD_OK) {
        w->unusable++;
        headline(w, dir, "could not be read", err.msg);
        kd_log(KD_LOG_ERROR, "%s", err.msg);
        if (w->first.code == KD_OK) {
            w->first = err;
            w->first.code = err.code != KD_OK ? err.code : KD_E_OOM;
        }
    } else {
        const kind *k = classify(doc);
        if (k != NULL) {
            *known = true;
            run_fixture(w, dir, file, k, doc);
        } else if (strcmp(file, "manifest.json") == 0) {
            *known = true;
            w->not_covered++;
            headline(w, dir, "not covered", "");
        }
    }
    kd_json_free(doc);
    kd_free(path);
}

/* Tables without a manifest are known by their tensors. */
static const kind CONSTANTS = {.name = "graph constants", .run = kd_parity_constants};

static bool is_constants(const char *path)
{
    kd_st_file *f = NULL;
    const bool yes = kd_st_open(path, &f, NULL) == KD_OK && kd_st_find(f, "semantic_raw") != NULL;
    kd_st_close(f);
    return yes;
}

static kd_status visit_dir(walk *w, const char *dir, char **pending, int *n_pending, kd_err *err)
{
    char **names = NULL;
    size_t n = 0;
    bool known = false;
    kd_status st = kd_io_list_dir(dir, &names, &n, err);
    for (size_t i = 0; st == KD_OK && i < n; i++) {
        if (kd_path_has_suffix(names[i], ".json")) {
            visit_json(w, dir, names[i], &known);
        }
    }
    for (size_t i = 0; st == KD_OK && i < n; i++) {
        char *path = kd_path_join(dir, names[i]);
        if (path == NULL) {
            st = KD_FAIL(err, KD_E_OOM, "parity: out of memory");
        } else if (!known && kd_path_has_suffix(path, ".safetensors") && is_constants(path)) {
            run_fixture(w, dir, names[i], &CONSTANTS, NULL);
        } else if (kd_path_is_dir(path) && *n_pending < DIRS_MAX) {
            pending[(*n_pending)++] = path;
            path = NULL;
        }
        kd_free(path);
    }
    kd_free(names);
    return st;
}

/* Depth first, names in order: what was pushed last is turned round. */
static kd_status visit_tree(walk *w, const char *root, kd_err *err)
{
    int n = 1;
    char **pending = kd_calloc(DIRS_MAX, sizeof *pending);
    kd_status st = pending != NULL && (pending[0] = kd_strdup(root)) != NULL ? KD_OK : KD_E_OOM;
    w->covered_here = 0;
    while (st == KD_OK && n > 0) {
        char *dir = pending[--n];
        const int from = n;
        st = visit_dir(w, dir, pending, &n, err);
        for (int a = from, b = n - 1; a < b; a++, b--) {
            char *t = pending[a];
            pending[a] = pending[b];
            pending[b] = t;
        }
        kd_free(dir);
    }
    while (pending != NULL && n > 0) {
        kd_free(pending[--n]);
    }
    kd_free(pending);
    if (st == KD_OK && w->covered_here == 0 && w->unusable == 0) {
        st = KD_FAIL(err, KD_E_DATA, "%s: no fixture that this build covers (expected a directory with manifest.json)",
                     root);
    }
    return st;
}

/* ---- the command ----------------------------------------------------------------------------- */

static void summary(const walk *w)
{
    if (w->json) {
        printf("{\"fixtures\":%d,\"items\":%d,\"failed\":%d,\"not_covered\":%d,\"unusable\":%d}\n", w->fixtures,
               w->items, w->failed, w->not_covered, w->unusable);
        return;
    }
    printf("\n%d fixtures on %s in %s: %d items compared, %d failed; %d not covered by this build, "
           "%d unusable\n",
           w->fixtures, w->be->ops->name, kd_dtype_name(w->dtype), w->items, w->failed, w->not_covered, w->unusable);
}

int kd_cmd_parity(int argc, char **argv)
{
    static const kd_cmd CMD = {
        .name = "kd parity",
        .operands = "DIR...",
        .about = "Build what a fixture describes, run it, compare with its golden values.\n"
                 "A fixture is a directory with a manifest.json and safetensors; a folder of "
                 "fixtures may be given.\n"
                 "One line per compared item: name, error, allowed, ok or FAIL.  Exit code 1 if "
                 "any item fails.",
        .common = KD_COMMON_COMPUTE | KD_COMMON_JSON,
        .min_operands = 1,
        .max_operands = -1,
        .notes = "allowed, f32: 10 x the difference between the reference's own f32 and f64 runs, "
                 "at least 16 x 2^-24 x\n"
                 "the largest value.  bf16: 2^16 x that difference, at least 8 x 2^-8 x the "
                 "largest value.\nActivations, f32: 2 x 2^-24 x sqrt(terms of the longest sum x branches "
                 "added before) x the\nlargest value.  A NaN never passes.",
    };
    kd_common common;
    kd_operands in;
    const int rc = kd_args_parse(&CMD, argc, argv, NULL, &common, &in);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    kd_err err = {0};
    const kd_device_opts device = kd_device_from(&common);
    walk w = {.json = common.json, .dtype = device.dtype};
    kd_status st = KD_OK;
    KD_GO(kd_device_open(&device, &w.be, &err));
    for (int i = 0; i < in.count; i++) {
        KD_GO(visit_tree(&w, in.item[i], &err));
    }
    summary(&w);
    if (w.failed == 0 && w.unusable > 0) {
        st = w.first.code;
        err = w.first;
    }
done:
    kd_backend_close(w.be);
    if (st == KD_OK && w.failed > 0) {
        return 1;
    }
    return kd_cmd_end(&CMD, st, &err);
}
