/* Rules on parameters by name: matching, one parameter's group, a recipe's rules, today's groups without rules. */
#include "configs/schema/kd_config.h"
#include "kernels/optim/param_rules.h"
#include "student/model/student.h"
#include "teacher/model/vit.h"

#include <stdio.h>

/* cmocka needs the first three */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
/* clang-format on */

static kd_config cfg, cfg2; /* large: kept off the stack */

static void test_match(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *name;
        bool match;
    } C[] = {
        {"head.", "head.weight", true},
        {"head.", "my.head.weight", false},
        {"blocks.1", "blocks.11.norm1.bias", true},
        {"blocks.1.", "blocks.11.norm1.bias", false},
        {"*.bias", "blocks.0.norm1.bias", true},
        {"*.bias", "blocks.0.norm1.biases", false},
        {"blocks.*.attn.*", "blocks.3.attn.qkv.weight", true},
        {"blocks.*.attn.*", "blocks.3.mlp.fc1.weight", false},
        {"*a*b", "xaxaxb", true},
        {"*a*b", "xaxax", false},
        {"a*", "a", true},
        {"*", "", true},
        {"a*a", "a", false},
        {"head.weight*", "head.weight", true},
    };
    for (size_t i = 0; i < KD_COUNTOF(C); i++) {
        if (kd_param_match(C[i].pattern, C[i].name) != C[i].match) {
            fail_msg("%s on %s", C[i].pattern, C[i].name);
        }
    }
}

static void test_group(void **state)
{
    (void)state;
    const kd_param_group own = {0.5, false};
    const kd_shape matrix = kd_shape2(4, 3), vector = kd_shape1(4);
    kd_param_rules none = {.n = 0};
    assert_false(kd_param_group_of("fc.weight", &matrix, own, KD_DECAY_MODEL, &none).decay);
    assert_true(kd_param_group_of("fc.weight", &matrix, own, KD_DECAY_MATRICES, &none).decay);
    assert_false(kd_param_group_of("fc.bias", &vector, own, KD_DECAY_MATRICES, &none).decay);
    assert_true(kd_param_group_of("fc.bias", &vector, own, KD_DECAY_ALL, &none).decay);
    assert_true(kd_param_group_of("fc.bias", &vector, own, KD_DECAY_ALL, &none).lr_scale == 0.5);
    const kd_param_rules rules = {
        .n = 3,
        .v = {{"fc.", 4.0, KD_RULE_DECAY_ON}, {"*.bias", 2.0, KD_RULE_DECAY_OFF}, {"*", 1.0, KD_RULE_DECAY_KEEP}}};
    kd_param_group g = kd_param_group_of("fc.weight", &matrix, own, KD_DECAY_MODEL, &rules);
    assert_true(g.decay && g.lr_scale == 2.0);
    g = kd_param_group_of("fc.bias", &vector, own, KD_DECAY_MODEL, &rules); /* factors multiply, the last word wins */
    assert_true(!g.decay && g.lr_scale == 4.0);
    g = kd_param_group_of("stem.weight", &matrix, own, KD_DECAY_ALL, &rules);
    assert_true(g.decay && g.lr_scale == 0.5);
}

static kd_status parse(const char *text, kd_err *err)
{
    *err = (kd_err){0};
    return kd_config_parse(text, strlen(text), "t.yaml", NULL, 0, &cfg, err);
}

static void refuse(const char *text, const char *message)
{
    kd_err err;
    assert_int_equal(parse(text, &err), KD_E_CONFIG);
    if (strstr(err.msg, message) == NULL) {
        fail_msg("message '%s' does not contain '%s'", err.msg, message);
    }
}

static void test_recipe(void **state)
{
    (void)state;
    kd_err err;
    assert_int_equal(parse("", &err), KD_OK);
    assert_int_equal(cfg.optim.rules.n, 0);
    assert_int_equal(cfg.optim.decay, KD_DECAY_MODEL);
    cfg2 = cfg;
    assert_int_equal(parse("optim:\n  decay: matrices\n  rules:\n  - {match: head., lr_scale: 2}\n"
                           "  - match: blocks.*.norm1.*\n    decay: on\n",
                           &err),
                     KD_OK);
    assert_int_equal(cfg.optim.rules.n, 2);
    assert_string_equal(cfg.optim.rules.v[0].match, "head.");
    assert_true(cfg.optim.rules.v[0].lr_scale == 2.0 && cfg.optim.rules.v[1].lr_scale == 1.0);
    assert_int_equal(cfg.optim.rules.v[0].decay, KD_RULE_DECAY_KEEP);
    assert_int_equal(cfg.optim.rules.v[1].decay, KD_RULE_DECAY_ON);
    char text[300];
    assert_true(kd_config_diff(&cfg2, &cfg, text, sizeof text));
    char *yaml = kd_config_yaml(&cfg, false, true);
    assert_non_null(strstr(yaml, "  rules: [{match: head., lr_scale: 2, decay: keep}, "
                                 "{match: \"blocks.*.norm1.*\", lr_scale: 1, decay: on}]\n"));
    assert_int_equal(kd_config_parse(yaml, strlen(yaml), "again", NULL, 0, &cfg2, &err), KD_OK);
    assert_false(kd_config_diff(&cfg, &cfg2, text, sizeof text));
    kd_free(yaml);
    refuse("optim: {rules: {match: a}}", "expected a list of at most 16 maps of match, lr_scale, decay, found a map");
    refuse("optim: {rules: [head.]}", "optim.rules[0]: expected a map, found a value");
    refuse("optim:\n  rules: [{match: a}, {mach: b}]\n", "t.yaml:2:24: optim.rules[1].mach: unknown key");
    refuse("optim: {rules: [{match: a, lr_scale: -1}]}", "optim.rules[0].lr_scale: expected a number in [0, 1000]");
    refuse("optim: {rules: [{match: a, decay: yes}]}", "optim.rules[0].decay: expected one of keep|on|off");
    refuse("optim: {rules: [{match: [a]}]}", "optim.rules[0].match: expected a value, found a list");
    refuse("optim: {rules: [{lr_scale: 2}]}", "optim.rules[0].match: expected the start");
    refuse("optim: {decay: some}", "expected one of model|matrices|all");
}

/* Without rules nothing changes; with them parameters change and buffers do not; a rule without a parameter fails. */
static void test_apply(void **state)
{
    (void)state;
    kd_err err = {0};
    kd_params *p = kd_params_create(KD_F32);
    kd_graph *g = kd_graph_create(&(kd_graph_opts){.params = p, .dtype = KD_F32, .training = true});
    const kd_student_cfg c = {.model = kd_student_find("sfz-nano"), .classes = 5, .frames = 8, .bodies = 1};
    kd_val in[KD_STUDENT_MAX_STREAMS];
    for (int i = 0; i < c.model->n_streams; i++) {
        in[i] = kd_input(g, c.model->streams[i], KD_F32, kd_shape5(2, 3, 8, 25, 1));
    }
    (void)kd_student_build(g, &c, in);
    kd_student_param_groups(p, c.model, c.fix);
    enum { MOST = 1024 };
    static kd_param_group before[MOST];
    const int n = kd_params_count(p);
    assert_true(n < MOST);
    for (int i = 0; i < n; i++) {
        before[i] = (kd_param_group){(double)kd_params_at(p, i)->lr_scale, kd_params_at(p, i)->decay};
    }
    kd_param_rules rules = {.n = 0};
    assert_int_equal(kd_param_rules_apply(p, KD_DECAY_MODEL, &rules, &err), KD_OK);
    for (int i = 0; i < n; i++) {
        const kd_param_info *e = kd_params_at(p, i);
        assert_true((double)e->lr_scale == before[i].lr_scale && e->decay == before[i].decay);
    }
    rules = (kd_param_rules){.n = 1, .v = {{"classifier.", 3.0, KD_RULE_DECAY_OFF}}};
    assert_int_equal(kd_param_rules_apply(p, KD_DECAY_ALL, &rules, &err), KD_OK);
    int heads = 0, buffers = 0;
    for (int i = 0; i < n; i++) {
        const kd_param_info *e = kd_params_at(p, i);
        const bool head = strncmp(e->name, "classifier.", 11) == 0;
        heads += head;
        buffers += e->buffer;
        assert_true((double)e->lr_scale == (head ? 3.0 : before[i].lr_scale));
        assert_true(e->decay == (e->buffer ? before[i].decay : !head));
    }
    assert_true(heads == 2 && buffers > 0);
    rules.v[0] = (kd_param_rule){"head.", 1.0, KD_RULE_DECAY_KEEP};
    assert_int_equal(kd_param_rules_apply(p, KD_DECAY_MODEL, &rules, &err), KD_E_CONFIG);
    assert_non_null(strstr(err.msg, "optim.rules[0].match: no parameter of the model is called head."));
    kd_graph_free(g);
    kd_params_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_match), cmocka_unit_test(test_group),
                                       cmocka_unit_test(test_recipe), cmocka_unit_test(test_apply)};
    return cmocka_run_group_tests_name("param rules", tests, NULL, NULL);
}
