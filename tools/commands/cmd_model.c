/* `kd model info NAME` and `kd model graph NAME`. */
#include "distill/task/tasks.h"
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

/* The task that knows a model of this name ("videomae2-l" or "l", "sfz-nano"), and the name in its recipes. */
static const kd_task *task_of(const char *name, const char **short_name)
{
    for (int i = 0; i < kd_task_count(); i++) {
        const kd_task *t = kd_task_at(i);
        const size_t prefix = strlen(t->name_prefix);
        *short_name = strncmp(name, t->name_prefix, prefix) == 0 ? name + prefix : name;
        for (int k = 0; t->name_at(k) != NULL; k++) {
            if (strcmp(t->name_at(k), *short_name) == 0) {
                return t;
            }
        }
    }
    return NULL;
}

static kd_status unknown(const char *name, kd_err *err)
{
    char list[512] = "";
    size_t n = 0;
    for (int i = 0; i < kd_task_count(); i++) {
        const kd_task *t = kd_task_at(i);
        for (int k = 0; t->name_at(k) != NULL && n < sizeof list; k++) {
            n += (size_t)snprintf(list + n, sizeof list - n, " %s%s", t->name_prefix, t->name_at(k));
        }
    }
    return KD_FAIL(err, KD_E_ARG, "no model '%s'; known:%s", name, list);
}

enum { TEXTS = 16 };

/* What a recipe would say: the model by name, without chance beyond the model's own. */
typedef struct recipe {
    char text[TEXTS][96];
    const char *set[TEXTS];
    size_t n;
} recipe;

static void say(recipe *r, const char *key, const char *value)
{
    KD_ASSERT(r->n < TEXTS);
    (void)snprintf(r->text[r->n], sizeof r->text[0], "%s=%s", key, value);
    r->set[r->n] = r->text[r->n];
    r->n++;
}

static kd_status write_recipe(const kd_task *task, const char *name, const opts *o, recipe *r, kd_err *err)
{
    char number[32];
    say(r, "kind", task->kind);
    say(r, task->name_key, name);
    say(r, "train.dtype", o->dtype);
    for (const char *const *set = task->plain; set != NULL && *set != NULL; set++) {
        r->set[r->n++] = *set;
    }
    if (o->depth > 0) {
        if (task->depth_key == NULL) {
            return KD_FAIL(err, KD_E_ARG, "--depth: model '%s' has a fixed depth", name);
        }
        (void)snprintf(number, sizeof number, "%lld", (long long)o->depth);
        say(r, task->depth_key, number);
    }
    if (o->recompute) {
        if (task->recompute_key == NULL) {
            return KD_FAIL(err, KD_E_ARG, "--recompute: model '%s' has no blocks to recompute", name);
        }
        say(r, task->recompute_key, "true");
    }
    return KD_OK;
}

static kd_status open_named(const char *name, const opts *o, kd_backend *be, kd_model *m, kd_err *err)
{
    const char *short_name = NULL;
    const kd_task *task = task_of(name, &short_name);
    recipe r = {.n = 0};
    if (task == NULL) {
        return unknown(name, err);
    }
    kd_config *cfg = kd_calloc(1, sizeof *cfg);
    if (cfg == NULL) {
        return KD_FAIL(err, KD_E_OOM, "out of memory");
    }
    kd_status st = write_recipe(task, short_name, o, &r, err);
    st = st == KD_OK ? kd_config_load(NULL, 0, r.set, r.n, cfg, err) : st;
    st = st == KD_OK ? kd_model_open(task, cfg, (int)o->classes, be, m, err) : st;
    kd_free(cfg);
    return st;
}

static kd_status compile(kd_model *m, const opts *o, kd_program **p, kd_err *err)
{
    if (strcmp(o->phase, "train") != 0) {
        KD_TRY(kd_model_declare(m, NULL, err));
        return kd_model_eval_program(m, (int)o->batch, p, err);
    }
    kd_loss own = {.n = 0};
    KD_TRY(kd_loss_own(false, m->latent, &own, err));
    kd_status st = kd_model_declare(m, &own, err);
    st = st == KD_OK ? kd_model_train_program(m, &own, (int)o->batch, p, err) : st;
    kd_loss_free(&own);
    return st;
}

enum { ADAMW_SLABS = 2 }; /* moments of the optimiser that a recipe takes unless told */

static void print_info(kd_model *m, const opts *o, const kd_program *p, bool json)
{
    int tensors = 0;
    for (int i = 0; i < kd_params_count(m->params); i++) {
        tensors += kd_params_at(m->params, i)->buffer ? 0 : 1;
    }
    const double mib = 1048576.0;
    const bool train = strcmp(o->phase, "train") == 0;
    const kd_memory memory = kd_model_memory(m, train ? ADAMW_SLABS : 0, kd_program_arena_bytes(p));
    if (json) {
        printf("{\"model\":\"%s\",\"parameters\":%lld,\"tensors\":%d,\"macs\":%lld,\"nodes\":%d,\"arena_bytes\":%zu,"
               "\"arena_bytes_without_reuse\":%zu,\"parameter_bytes\":%zu,\"gradient_bytes\":%zu,\"moment_bytes\":%zu,"
               "\"memory_bytes\":%zu,\"feature_dim\":%d}\n",
               m->name, (long long)kd_params_numel(m->params), tensors, (long long)kd_program_macs(p),
               kd_program_nodes(p), kd_program_arena_bytes(p), kd_program_sum_bytes(p), memory.parameters,
               memory.gradients, memory.moments, kd_memory_total(&memory), m->feature_dim);
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
    char text[200];
    kd_memory_text(&memory, text, sizeof text);
    printf("memory        %s%s\n", text, train ? ", with AdamW" : "");
    printf("arena         %.2f MiB (%.2f MiB without reuse)\n", (double)kd_program_arena_bytes(p) / mib,
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

int kd_cmd_model_info(int argc, char **argv)
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

int kd_cmd_model_graph(int argc, char **argv)
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

int kd_cmd_model(int argc, char **argv)
{
    static const kd_verb verbs[] = {{"info", kd_cmd_model_info, "parameters, multiply-adds, memory plan"},
                                    {"graph", kd_cmd_model_graph, "the program listing"},
                                    {NULL, NULL, NULL}};
    return kd_dispatch("kd model", "Look at a model: videomae2-s|b|l|h|g|tiny or a student's name.", verbs, argc, argv);
}
