/* kd config: check and show configurations. */
#include "configs/schema/kd_config.h"
#include "tools/commands/commands.h"

#include <stdio.h>

static const kd_cmd CHECK = {
    .name = "kd config check",
    .operands = "FILE...",
    .about = "Loads configs with everything they inherit and says whether they are right.",
    .common = KD_COMMON_SET,
    .min_operands = 1,
    .max_operands = -1,
    .notes = "Prints name, kind and hash of each; the first fault ends it with exit code 2.",
};

int kd_cmd_config_check(int argc, char **argv)
{
    kd_common c;
    kd_operands in;
    const int rc = kd_args_parse(&CHECK, argc, argv, NULL, &c, &in);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    kd_err err = {0};
    kd_status st = KD_OK;
    kd_config *cfg = kd_calloc(1, sizeof *cfg);
    if (cfg == NULL) {
        st = KD_FAIL(&err, KD_E_OOM, "out of memory");
    }
    for (int i = 0; st == KD_OK && i < in.count; i++) {
        char hash[KD_CFG_HASH] = "";
        char kind[KD_CFG_NAME];
        st = kd_config_load((const char *const *)&in.item[i], 1, c.set.item, (size_t)c.set.count, cfg, &err);
        if (st == KD_OK) {
            st = kd_config_hash(cfg, "", hash);
        }
        if (st == KD_OK) {
            printf("%s: ok, %s recipe '%s', hash %.16s\n", KD_SHOWN(in.item[i]),
                   kd_config_enum_name("kind", (int)cfg->kind, kind), KD_SHOWN(cfg->name), hash);
        }
    }
    kd_free(cfg);
    return kd_cmd_end(&CHECK, st, &err);
}

typedef struct show_args {
    bool docs, portable;
    const char *kind;
} show_args;

static const kd_arg SHOW_ARGS[] = {
    KD_OPT_FLAG(show_args, docs, "docs", "each key with its meaning, bounds and default"),
    KD_OPT_FLAG(show_args, portable, "portable", "leave out keys that name this machine: the text that is hashed"),
    KD_OPT_CHOICE(show_args, kind, "kind", NULL, "teacher|student", "which recipe, when no FILE is given"),
};

static const kd_cmd SHOW = {
    .name = "kd config show",
    .operands = "[FILE...]",
    .about = "Prints a resolved config as YAML; several files are merged in order; without FILE all keys with "
             "their defaults.",
    .args = SHOW_ARGS,
    .arg_count = KD_COUNTOF(SHOW_ARGS),
    .common = KD_COMMON_SET,
    .min_operands = 0,
    .max_operands = -1,
    .notes = "--docs --kind student explains every key of a student recipe.",
    .examples = "kd config show --docs --kind student\n"
                "kd config show configs/distill/sfz-nano_ce.yaml --set optim.base_lr=0.05\n"
                "kd config show configs/student/last-e3-small.yaml configs/distill/ce_kd.yaml",
};

static kd_status show(const show_args *a, const kd_operands *in, const kd_common *c, kd_err *err)
{
    const char *sets[KD_ARG_LIST_MAX + 1];
    size_t n = 0;
    kd_status st = KD_OK;
    char *yaml = NULL;
    kd_config *cfg = kd_calloc(1, sizeof *cfg);
    if (cfg == NULL) {
        return KD_FAIL(err, KD_E_OOM, "out of memory");
    }
    if (a->kind != NULL) {
        sets[n++] = strcmp(a->kind, "student") == 0 ? "kind=student" : "kind=teacher";
    }
    for (int i = 0; i < c->set.count; i++) {
        sets[n++] = c->set.item[i];
    }
    KD_GO(kd_config_load((const char *const *)in->item, (size_t)in->count, sets, n, cfg, err));
    yaml = kd_config_yaml(cfg, a->docs, a->portable);
    if (yaml == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "out of memory");
        goto done;
    }
    (void)fputs(yaml, stdout);
done:
    kd_free(yaml);
    kd_free(cfg);
    return st;
}

int kd_cmd_config_show(int argc, char **argv)
{
    show_args a;
    kd_common c;
    kd_operands in;
    const int rc = kd_args_parse(&SHOW, argc, argv, &a, &c, &in);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    if (a.kind != NULL && in.count > 0) {
        return kd_usage(&SHOW, "--kind: the file says which kind it is");
    }
    kd_err err = {0};
    return kd_cmd_end(&SHOW, show(&a, &in, &c, &err), &err);
}

int kd_cmd_config(int argc, char **argv)
{
    static const kd_verb VERBS[] = {
        {"check", kd_cmd_config_check, "load configs and refuse what is wrong"},
        {"show", kd_cmd_config_show, "print a resolved config"},
        {NULL, NULL, NULL},
    };
    return kd_dispatch("kd config", "Check and show configurations.", VERBS, argc, argv);
}
