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
