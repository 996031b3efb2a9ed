/* Results of commands: see print.h. */
#include "tools/print.h"

#include <math.h>
#include <stdio.h>

kd_status kd_print_json(kd_json *doc, kd_err *err)
{
    char *text = NULL;
    const kd_status st =
        doc != NULL ? kd_json_dump(doc, KD_JSON_COMPACT, &text, NULL, err) : KD_FAIL(err, KD_E_OOM, "out of memory");
    if (st == KD_OK) {
        (void)printf("%s\n", text);
    }
    kd_free(text);
    kd_json_free(doc);
    return st;
}

void kd_json_set_rounded(kd_json *obj, const char *key, double v, int digits)
{
    const double unit = pow(10.0, digits);
    kd_json_set_f64(obj, key, round(v * unit) / unit);
}

void kd_print_store(const char *path, double top1_train, double top1_val)
{
    if (!isnan(top1_train)) {
        printf("top-1 on the training half: %.2f %%\n", 100.0 * top1_train);
    }
    if (!isnan(top1_val)) {
        printf("top-1 on the validation half: %.2f %%\n", 100.0 * top1_val);
    }
    printf("store %s\n", KD_SHOWN(path));
}

static kd_status print_prediction_json(const kd_prediction *p, kd_err *err)
{
    kd_json *doc = kd_json_object();
    if (p->file != NULL) {
        kd_json_set_str(doc, "file", p->file);
    } else {
        kd_json_set_i64(doc, "frame", (int64_t)p->frame);
    }
    kd_json_set_f64(doc, "latency_ms", p->ms);
    kd_json *list = kd_json_set_array(doc, "top");
    for (int i = 0; i < p->n; i++) {
        kd_json *item = kd_json_push_object(list);
        kd_json_set_i64(item, "class", p->ranked[i].label);
        kd_json_set_str(item, "name", p->ranked[i].name);
        kd_json_set_f64(item, "probability", p->ranked[i].probability);
    }
    return kd_print_json(doc, err);
}

kd_status kd_print_prediction(const kd_prediction *p, bool json, kd_err *err)
{
    if (json) {
        return print_prediction_json(p, err);
    }
    if (p->file != NULL) {
        printf("%s  (%.2f ms)\n", KD_SHOWN(p->file), p->ms);
    } else {
        printf("frame %zu  (%.2f ms)\n", p->frame, p->ms);
    }
    for (int i = 0; i < p->n; i++) {
        printf("  %2d. %-32s %6.2f %%\n", i + 1, KD_SHOWN(p->ranked[i].name), 100.0 * p->ranked[i].probability);
    }
    return KD_OK;
}
