/* Lists in JSON: Something-Something v2.
 *
 * A clip has a template ("Holding [something]"); labels.json numbers the templates without their brackets. */
#include "formats/base/json.h"
#include "formats/data/lists/listing_internal.h"

#include <stdarg.h>
#include <stdio.h>

const char *kdi_listing_printf(char **out, const char *fmt, ...)
{
    char *start = *out;
    va_list args;
    va_start(args, fmt);
    const int n = vsprintf(start, fmt, args);
    va_end(args);
    *out = start + KD_MAX(n, 0) + 1;
    return start;
}

bool kdi_listing_is_json(const char *text, size_t bytes)
{
    static const char blank[] = " \t\r\n";
    size_t i = 0;
    while (i < bytes && strchr(blank, text[i]) != NULL) {
        i++;
    }
    const char open = i < bytes ? text[i++] : '\0';
    while (i < bytes && strchr(blank, text[i]) != NULL) {
        i++;
    }
    return i < bytes && ((open == '[' && text[i] == '{') || (open == '{' && text[i] == '"'));
}

static kd_status read_rows(const kd_json *rows, const char *name, kd_listing *list, kd_err *err)
{
    char *out = list->text;
    for (size_t i = 0; i < list->n; i++) {
        const kd_json *row = kd_json_at(rows, i);
        const char *id = NULL, *template = NULL;
        if (kd_json_get(row, "template") == NULL) {
            return KD_FAIL(err, KD_E_FORMAT,
                           "%s: row %zu has no template, so no label (a test list?); expected rows of id and template "
                           "as Something-Something has",
                           name, i);
        }
        KD_TRY(kd_json_get_str(row, "id", &id, err));
        KD_TRY(kd_json_get_str(row, "template", &template, err));
        list->item[i] = (kd_list_item){.label = -1, .frames = -1, .line = (uint32_t)(i + 1)};
        list->item[i].path = kdi_listing_printf(&out, "%s.webm", id);
        list->item[i].class = out;
        for (const char *c = template; *c != '\0'; c++) {
            if (*c != '[' && *c != ']') {
                *out++ = *c;
            }
        }
        *out++ = '\0';
    }
    return KD_OK;
}

kd_status kdi_listing_json(const char *text, size_t bytes, const char *name, kd_listing *out, kd_err *err)
{
    kd_json *doc = NULL;
    kd_listing list = {.form = KD_LIST_SSV2};
    kd_status st;
    KD_GO(kd_json_parse(text, bytes, name, &doc, err));
    if (kd_json_type_of(doc) != KD_JSON_ARRAY) {
        st = KD_FAIL(err, KD_E_FORMAT,
                     "%s: a JSON object; of JSON lists Something-Something's are read (rows of id and template)", name);
        goto done;
    }
    list.n = kd_json_count(doc);
    list.text = kd_alloc(bytes + 8 * list.n + 1); /* ids, templates, ".webm", zeros */
    list.item = kd_calloc(KD_MAX(list.n, 1), sizeof *list.item);
    if (list.text == NULL || list.item == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "%s: no memory for %zu rows", name, list.n);
        goto done;
    }
    KD_GO(read_rows(doc, name, &list, err));
    *out = list;
    list = (kd_listing){.form = KD_LIST_ROWS};
done:
    kd_listing_free(&list);
    kd_json_free(doc);
    return st;
}
