/* `kd model info NAME` and `kd model graph NAME`. */
#include "distill/model/model.h"
#include "tools/commands/commands.h"

#include <stdio.h>

typedef struct opts {
    int64_t batch, classes, frames, depth;
    const char *phase, *dtype;
    bool recompute;
} opts;

#define MODEL_ARGS                                                                                                  \
    KD_OPT_INT(opts, batch, "batch", "N", "1", 1, 4096, "batch size of the program"),                               \
        KD_OPT_INT(opts, classes, "classes", "K", "60", 1, 100000, "classes of the head"),                          \
        KD_OPT_CHOICE(opts, phase, "phase", "eval", "eval|train", "forward alone, or forward and backward"),        \
        KD_OPT_CHOICE(opts, dtype, "dtype", "f32", "f32|bf16", "activation dtype"),                                 \
        KD_OPT_INT(opts, depth, "depth", "N", "0", 0, 1000, "teachers: use this many blocks (0: the model's own)"), \
        KD_OPT_FLAG(opts, recompute, "recompute", "train: recompute blocks instead of keeping activations")

/* A model by name without a recipe: "videomae2-l" (or "l"), or a student's name. */
static kd_status open_named(const char *name, const opts *o, kd_backend *be, kd_model *m, kd_err *err)
{
    static const char *const sizes[] = {"s", "b", "l", "h", "g", "tiny"};
    memset(m, 0, sizeof *m);
    m->be = be;
    m->classes = (int)o->classes;
    (void)kd_dtype_parse(o->dtype, &m->dtype);
    const kd_student_info *s = kd_student_find(name);
    const char *size = strncmp(name, "videomae2-", 10) == 0 ? name + 10 : name;
    if (s == NULL && !kd_vit_preset(size, &m->vit)) {
        char list[512] = "";
        for (size_t i = 0; i < KD_COUNTOF(sizes); i++) {
            (void)snprintf(list + strlen(list), sizeof list - strlen(list), " videomae2-%s", sizes[i]);
        }
        for (int i = 0; i < kd_student_count(); i++) {
            (void)snprintf(list + strlen(list), sizeof list - strlen(list), " %s", kd_student_at(i)->name);
        }
        return KD_FAIL(err, KD_E_ARG, "no model '%s'; known:%s", name, list);
    }
    m->params = kd_params_create(KD_F32);
    if (m->params == NULL) {
        return KD_FAIL(err, KD_E_OOM, "out of memory");
    }
    if (s != NULL) {
        m->is_student = true;
        m->student = (kd_student_cfg){.model = s,
                                      .classes = (int)o->classes,
                                      .frames = 64,
                                      .joints = 25,
                                      .bodies = 2,
                                      .dropout = -1.0f,
                                      .drop_path = -1.0f};
        (void)snprintf(m->name, sizeof m->name, "%s", s->name);
        m->feature_dim = s->feature_dim;
        m->n_inputs = s->n_streams;
        for (int i = 0; i < s->n_streams; i++) {
            m->inputs[i] = s->streams[i];
            m->item[i] = m->train_item[i] = (kd_spec){KD_F32, kd_shape4(3, 64, 25, 2)};
        }
        return KD_OK;
    }
    m->vit.classes = (int)o->classes;
    m->vit.depth = o->depth > 0 ? (int)o->depth : m->vit.depth;
    m->vit.recompute = o->recompute;
    (void)snprintf(m->name, sizeof m->name, "videomae2-%s", size);
    m->feature_dim = m->vit.dim;
    kd_model_clip_input(m, false);
    return KD_OK;
}

static kd_status compile(kd_model *m, const opts *o, kd_program **p, kd_err *err)
{
    const kd_objective ce = {.ce_weight = 1.0f};
    const bool train = strcmp(o->phase, "train") == 0;
    KD_TRY(kd_model_declare(m, train ? &ce : NULL, err));
    return train ? kd_model_train_program(m, &ce, (int)o->batch, o->recompute, p, err)
                 : kd_model_eval_program(m, (int)o->batch, p, err);
}

static void print_info(kd_model *m, const opts *o, const kd_program *p, bool json)
{
    int tensors = 0;
    for (int i = 0; i < kd_params_count(m->params); i++) {
        tensors += kd_params_at(m->params, i)->buffer ? 0 : 1;
    }
    const double mib = 1048576.0;
    if (json) {
        printf("{\"model\":\"%s\",\"parameters\":%lld,\"tensors\":%d,\"macs\":%lld,\"nodes\":%d,\"arena_bytes\":%zu,"
               "\"arena_bytes_without_reuse\":%zu,\"feature_dim\":%d}\n",
               m->name, (long long)kd_params_numel(m->params), tensors, (long long)kd_program_macs(p),
               kd_program_nodes(p), kd_program_arena_bytes(p), kd_program_sum_bytes(p), m->feature_dim);
        return;
    }
    printf("model         %s, %d classes\n", m->name, m->classes);
    for (int i = 0; i < m->n_inputs; i++) {
        char shape[KD_SHAPE_TEXT_MAX];
        printf("input         %s %s %s\n", m->inputs[i], kd_dtype_name(m->item[i].dtype),
               kd_shape_text(&m->item[i].shape, shape, sizeof shape));
    }
    printf("parameters    %lld in %d tensors (%.2f MiB in f32)\n", (long long)kd_params_numel(m->params), tensors,
           (double)kd_params_numel(m->params) * 4.0 / mib);
    printf("multiply-adds %.3f G for a batch of %lld (%s)\n", (double)kd_program_macs(p) * 1e-9, (long long)o->batch,
           o->phase);
    printf("program       %d nodes, %s, %s\n", kd_program_nodes(p), o->phase, o->dtype);
    printf("memory        %.2f MiB arena (%.2f MiB without reuse)\n", (double)kd_program_arena_bytes(p) / mib,
           (double)kd_program_sum_bytes(p) / mib);
    printf("feature       %d values before the classifier\n", m->feature_dim);
}

static int run(const kd_cmd *cmd, bool graph, int argc, char **argv)
{
    opts o = {0};
    kd_common c;
    kd_operands in;
    kd_err err = {0};
    kd_backend *be = NULL;
    kd_model m = {0};
    kd_program *p = NULL;
    const int rc = kd_args_parse(cmd, argc, argv, &o, &c, &in);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    kd_status st = kd_backend_cpu_open(1, &be, &err);
    st = st == KD_OK ? open_named(in.item[0], &o, be, &m, &err) : st;
    st = st == KD_OK ? compile(&m, &o, &p, &err) : st;
    if (st == KD_OK && graph) {
        kd_program_dump(p, stdout);
    } else if (st == KD_OK) {
        print_info(&m, &o, p, c.json);
    }
    kd_program_free(p);
    kd_model_close(&m);
    kd_backend_close(be);
    return kd_cmd_end(cmd, st, &err);
}

int cmd_model_info(int argc, char **argv)
{
    static const kd_arg args[] = {MODEL_ARGS};
    static const kd_cmd cmd = {.name = "kd model info",
                               .operands = "NAME",
                               .about = "Parameters, multiply-adds and memory plan of a model.",
                               .args = args,
                               .arg_count = KD_COUNTOF(args),
                               .common = KD_COMMON_JSON,
                               .min_operands = 1,
                               .max_operands = 1};
    return run(&cmd, false, argc, argv);
}

int cmd_model_graph(int argc, char **argv)
{
    static const kd_arg args[] = {MODEL_ARGS};
    static const kd_cmd cmd = {.name = "kd model graph",
                               .operands = "NAME",
                               .about = "The program listing of a model: nodes, shapes, offsets, lifetimes.",
                               .args = args,
                               .arg_count = KD_COUNTOF(args),
                               .min_operands = 1,
                               .max_operands = 1};
    return run(&cmd, true, argc, argv);
}

int cmd_model(int argc, char **argv)
{
    static const kd_verb verbs[] = {{"info", cmd_model_info, "parameters, multiply-adds, memory plan"},
                                    {"graph", cmd_model_graph, "the program listing"},
                                    {NULL, NULL, NULL}};
    return kd_dispatch("kd model", "Look at a model: videomae2-s|b|l|h|g|tiny or a student's name.", verbs, argc, argv);
}
