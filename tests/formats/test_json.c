/* formats/base/json: what is accepted and refused, exact numbers, error texts, failing allocations. */
#include "formats/base/io.h"
#include "formats/base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* cmocka needs the first three */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
/* clang-format on */

static kd_json *parse(const char *text)
{
    kd_json *doc = NULL;
    kd_err err = {0};
    if (kd_json_parse(text, strlen(text), "t.json", &doc, &err) != KD_OK) {
        fail_msg("%s", err.msg);
    }
    return doc;
}

static void expect_dump(const kd_json *node, kd_json_style style, const char *expected)
{
    char *text = NULL;
    size_t n = 0;
    assert_int_equal(kd_json_dump(node, style, &text, &n, NULL), KD_OK);
    assert_string_equal(text, expected);
    assert_int_equal(n, strlen(expected));
    kd_free(text);
}

static void test_round_trip(void **state)
{
    (void)state;
    const char *text = "{\"b\":[1,2.5,-0.0,1e+300,true,null,\"x\\n\\u0001\\\"\\\\\"],\"a\":{\"c\":{},"
                       "\"d\":[],\"e\":[[],{}]},\"z\":9223372036854775807}";
    kd_json *doc = parse(text);
    expect_dump(doc, KD_JSON_COMPACT, text);
    const kd_json *a = kd_json_get(doc, "a");
    expect_dump(a, KD_JSON_COMPACT, "{\"c\":{},\"d\":[],\"e\":[[],{}]}");
    expect_dump(kd_json_get(doc, "b"), KD_JSON_PRETTY, "[1, 2.5, -0.0, 1e+300, true, null, \"x\\n\\u0001\\\"\\\\\"]\n");
    expect_dump(a, KD_JSON_PRETTY, "{\n  \"c\": {},\n  \"d\": [],\n  \"e\": [[], {}]\n}\n");
    kd_json *copy = kd_json_array();
    kd_json_push_copy(copy, doc);
    kd_json_push_copy(copy, kd_json_get(doc, "z"));
    char all[512];
    (void)snprintf(all, sizeof all, "[%s,9223372036854775807]", text);
    expect_dump(copy, KD_JSON_COMPACT, all);
    kd_json_free(copy);
    kd_json_free(doc);
}

static void test_reals(void **state)
{
    (void)state;
    const double v[] = {0.1,     1.0 / 3.0,           5e-324, 1.7976931348623157e308, 123456789.0,
                        -2.5e-7, 0.30000000000000004, 1e22};
    kd_json *doc = kd_json_object();
    kd_json_set_f64s(doc, "v", v, KD_COUNTOF(v));
    kd_json_set_f64(doc, "nan", (double)NAN);
    kd_json_set_f64(doc, "inf", (double)INFINITY);
    char *text = NULL;
    assert_int_equal(kd_json_dump(doc, KD_JSON_COMPACT, &text, NULL, NULL), KD_OK);
    assert_non_null(strstr(text, "[0.1,"));
    assert_non_null(strstr(text, "\"nan\":null,\"inf\":null"));
    kd_json *back = parse(text);
    double w[KD_COUNTOF(v)];
    assert_int_equal(kd_json_get_f64s(back, "v", w, KD_COUNTOF(v), NULL), KD_OK);
    assert_memory_equal(v, w, sizeof v);
    double x = 0;
    assert_int_equal(kd_json_get_f64(back, "nan", &x, NULL), KD_OK);
    assert_true(isnan(x));
    kd_free(text);
    kd_json_free(back);
    kd_json_free(doc);
}

static void test_refuse(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "{",
        "{\"a\":1,\"a\":2}",
        "{\"a\":1,}",
        "[1 2]",
        "{} x",
        "{'a':1}",
        "[01]",
        "[1.]",
        "[.5]",
        "[NaN]",
        "[Infinity]",
        "[\"\xff\"]",
        "[\"\\ud800\"]",
        "[\"a\nb\"]",
        "[1e999]",
        "[9223372036854775808]",
        "// c\n{}",
        "[\"\\u0000\"]",
        "\xef\xbb\xbf{}",
        "1",
        "\"s\"",
        "[\"abc",
    };
    for (size_t i = 0; i < KD_COUNTOF(bad); i++) {
        kd_json *doc = NULL;
        kd_err err = {0};
        assert_int_equal(kd_json_parse(bad[i], strlen(bad[i]), "f.json", &doc, &err), KD_E_FORMAT);
        assert_null(doc);
        assert_non_null(strstr(err.msg, "f.json:1:") != NULL ? "" : strstr(err.msg, "f.json:"));
    }
    /* nesting: refused above the bound, no stack overflow */
    const size_t deep = 1000000;
    char *text = kd_alloc(deep);
    memset(text, '[', deep);
    kd_json *doc = NULL;
    assert_int_equal(kd_json_parse(text, deep, NULL, &doc, NULL), KD_E_FORMAT);
    /* and at a depth that is accepted, everything works without recursion of ours */
    const size_t ok = 1000;
    memset(text + ok, ']', ok);
    assert_int_equal(kd_json_parse(text, 2 * ok, NULL, &doc, NULL), KD_OK);
    kd_json *copy = kd_json_array();
    kd_json_push_copy(copy, doc);
    assert_true(kd_json_ok(copy));
    kd_json_free(copy);
    kd_json_free(doc);
    kd_free(text);
}

static void test_typed(void **state)
{
    (void)state;
    kd_json *doc = parse("{\"step\":7,\"loss\":0.5,\"name\":\"x\",\"on\":true,"
                         "\"files\":{\"model\":[{\"bytes\":\"many\"},3]},\"v\":[1,2,null]}");
    int64_t i = 0;
    double f = 0;
    bool b = false;
    const char *s = NULL;
    const kd_json *files = NULL;
    const kd_json *model = NULL;
    assert_int_equal(kd_json_get_i64(doc, "step", &i, NULL), KD_OK);
    assert_int_equal(i, 7);
    assert_int_equal(kd_json_get_f64(doc, "step", &f, NULL), KD_OK);
    assert_true(f == 7.0);
    assert_int_equal(kd_json_get_bool(doc, "on", &b, NULL), KD_OK);
    assert_true(b);
    assert_int_equal(kd_json_get_str(doc, "name", &s, NULL), KD_OK);
    assert_string_equal(s, "x");
    assert_int_equal(kd_json_get_object(doc, "files", &files, NULL), KD_OK);
    assert_int_equal(kd_json_get_array(files, "model", &model, NULL), KD_OK);
    kd_err err = {0};
    assert_int_equal(kd_json_get_i64(kd_json_at(model, 0), "bytes", &i, &err), KD_E_FORMAT);
    assert_string_equal(err.msg, "t.json: files.model[0].bytes: expected an integer, found a string");
    err = (kd_err){0};
    assert_int_equal(kd_json_get_i64(files, "absent", &i, &err), KD_E_FORMAT);
    assert_string_equal(err.msg, "t.json: files.absent: the key is missing");
    err = (kd_err){0};
    assert_int_equal(kd_json_as_str(kd_json_at(model, 1), &s, &err), KD_E_FORMAT);
    assert_string_equal(err.msg, "t.json: files.model[1]: expected a string, found an integer");
    err = (kd_err){0};
    assert_int_equal(kd_json_get_range(doc, "step", 8, 9, &i, &err), KD_E_FORMAT);
    assert_string_equal(err.msg, "t.json: step: expected 8 to 9, found 7");
    err = (kd_err){0};
    assert_int_equal(kd_json_get_i64(doc, "loss", &i, &err), KD_E_FORMAT);
    assert_string_equal(err.msg, "t.json: loss: expected an integer, found a real number");
    double v[3];
    assert_int_equal(kd_json_get_f64s(doc, "v", v, 3, NULL), KD_OK);
    assert_true(v[1] == 2.0 && isnan(v[2]));
    assert_int_equal(kd_json_get_f64s(doc, "v", v, 2, NULL), KD_E_FORMAT);
    assert_int_equal(kd_json_opt_i64(doc, "none", 42, &i, NULL), KD_OK);
    assert_int_equal(i, 42);
    assert_int_equal(kd_json_opt_i64(doc, "name", 42, &i, NULL), KD_E_FORMAT);
    assert_int_equal(kd_json_get_i64(NULL, "k", &i, NULL), KD_E_FORMAT);
    assert_null(kd_json_at(doc, 99));
    kd_json_free(doc);
}

static void test_many_keys(void **state)
{
    (void)state;
    kd_json *doc = kd_json_object();
    char key[32];
    for (int64_t i = 0; i < 5000; i++) {
        (void)snprintf(key, sizeof key, "S%05lld", (long long)i);
        kd_json_set_i64(doc, key, i);
    }
    kd_json_set_str(doc, "S00100", "again"); /* replaces, keeps its place */
    assert_int_equal(kd_json_count(doc), 5000);
    assert_string_equal(kd_json_key(kd_json_at(doc, 100)), "S00100");
    for (int64_t i = 101; i < 5000; i++) {
        int64_t v = -1;
        (void)snprintf(key, sizeof key, "S%05lld", (long long)i);
        assert_int_equal(kd_json_get_i64(doc, key, &v, NULL), KD_OK);
        assert_int_equal(v, i);
    }
    assert_null(kd_json_get(doc, "S05000"));
    kd_json_free(doc);
}

static void test_strings(void **state)
{
    (void)state;
    kd_json *doc = kd_json_array();
    kd_json_push_str(doc, "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
    kd_json_push_str(doc, "bad \xff\xc3 \xed\xa0\x80.");
    kd_json_push_str(doc, NULL);
    char *text = NULL;
    assert_int_equal(kd_json_dump(doc, KD_JSON_COMPACT, &text, NULL, NULL), KD_OK);
    assert_string_equal(text, "[\"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\",\"bad ?? ???.\",null]");
    kd_json *back = parse(text); /* always valid JSON */
    kd_json_free(back);
    kd_free(text);
    kd_json_free(doc);
}

/* Every allocation fails once: a clean KD_E_OOM, no crash, no leak (under ASan). */
static void test_oom(void **state)
{
    (void)state;
    bool worked = false;
    for (uint64_t n = 1; !worked; n++) {
        kd_alloc_fail_at(n);
        kd_json *doc = kd_json_object();
        kd_json *list = kd_json_set_array(doc, "list");
        for (int i = 0; i < 2000; i++) {
            kd_json_push_f64(list, i * 0.5);
        }
        kd_json_set_copy(doc, "copy", list);
        char *text = NULL;
        kd_json *back = NULL;
        kd_status st = kd_json_dump(doc, KD_JSON_PRETTY, &text, NULL, NULL);
        if (st == KD_OK) {
            st = kd_json_parse(text, strlen(text), "x", &back, NULL);
        }
        kd_alloc_fail_at(0);
        assert_true(st == KD_OK || st == KD_E_OOM);
        worked = st == KD_OK;
        kd_free(text);
        kd_json_free(back);
        kd_json_free(doc);
        assert_true(n < 1000);
    }
}

static void test_file(void **state)
{
    (void)state;
    char path[] = "/tmp/kd_json_XXXXXX";
    assert_true(mkstemp(path) >= 0);
    kd_json *doc = kd_json_object();
    kd_json_set_str(doc, "id", "S007");
    assert_int_equal(kd_json_write(doc, path, NULL), KD_OK);
    kd_json *back = NULL;
    assert_int_equal(kd_json_load(path, &back, NULL), KD_OK);
    expect_dump(back, KD_JSON_COMPACT, "{\"id\":\"S007\"}");
    kd_json_free(back);
    kd_json_free(doc);
    kd_err err = {0};
    assert_int_equal(kd_json_load("/nonexistent/x.json", &back, &err), KD_E_IO);
    assert_int_equal(kd_io_remove_tree(path, NULL), KD_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_reals),     cmocka_unit_test(test_refuse),
        cmocka_unit_test(test_typed),      cmocka_unit_test(test_many_keys), cmocka_unit_test(test_strings),
        cmocka_unit_test(test_oom),        cmocka_unit_test(test_file),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
