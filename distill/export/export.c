/* Formats of `distill export`: see export.h. */
#include "distill/export/export_internal.h"
#include "formats/base/io.h"

#include <stdio.h>
#include <unistd.h>

typedef struct export_format {
    const char *name;
    const char *ending[4]; /* NULL after the last */
    kd_status (*write)(const kd_export_opts *o, kd_export_result *r, kd_err *err);
    bool int8; /* has a form in eight bits */
} export_format;

static const export_format FORMATS[] = {
    {"safetensors", {".safetensors"}, kdi_export_last, true},
    {"pth", {".pth", ".pt", ".bin"}, kdi_export_pth, false},
    {"onnx", {".onnx"}, kdi_export_onnx, true},
};

static bool ends(const export_format *f, const char *path)
{
    bool yes = false;
    for (int i = 0; i < 4 && f->ending[i] != NULL; i++) {
        yes = yes || kd_path_has_suffix(path, f->ending[i]);
    }
    return yes;
}

/* ".safetensors, .pth, .pt, .bin" of the formats that `name` allows. */
static void endings(const char *name, char *out, size_t size)
{
    size_t n = 0;
    for (size_t f = 0; f < KD_COUNTOF(FORMATS); f++) {
        for (int i = 0; i < 4 && FORMATS[f].ending[i] != NULL; i++) {
            if (name == NULL || strcmp(name, FORMATS[f].name) == 0) {
                n += (size_t)snprintf(out + n, size - n, "%s%s", n > 0 ? ", " : "", FORMATS[f].ending[i]);
            }
        }
    }
}

static kd_status size_of(const char *path, int64_t *bytes, kd_err *err)
{
    uint64_t n = 0;
    int fd = -1;
    KD_TRY(kd_io_open_read(path, &fd, &n, err));
    (void)close(fd);
    *bytes = (int64_t)n;
    return KD_OK;
}

kd_status kd_export(const kd_export_opts *o, kd_export_result *r, kd_err *err)
{
    char text[80];
    *r = (kd_export_result){.format = NULL};
    endings(o->format, text, sizeof text);
    for (size_t f = 0; f < KD_COUNTOF(FORMATS); f++) {
        const export_format *row = &FORMATS[f];
        if (!ends(row, o->out) || (o->format != NULL && strcmp(o->format, row->name) != 0)) {
            continue;
        }
        if (o->int8 && !row->int8) {
            return KD_FAIL(err, KD_E_ARG,
                           "--int8: %s files have no form in eight bits; expected --format safetensors or onnx",
                           row->name);
        }
        r->format = row->name;
        KD_TRY(row->write(o, r, err));
        return size_of(o->out, &r->bytes, err);
    }
    return KD_FAIL(err, KD_E_ARG, "--out %s: expected a name ending in %s", o->out, text);
}
