/* Form NW-UCLA json: a folder of NAME.json, a sample each.  See archive.h. */
#include "formats/base/json.h"
#include "formats/skeleton/archive_internal.h"

#include <stdio.h>
#include <sys/stat.h>

enum { CHANNELS = 3 };

/* a01_s02_e03_v01.json: other folders hold JSON files too. */
static bool is_sample(const char *name)
{
    static const char FORM[] = "a##_s##_e##_v##.json";
    size_t i = 0;
    while (FORM[i] != '\0' && (FORM[i] == '#' ? name[i] >= '0' && name[i] <= '9' : name[i] == FORM[i])) {
        i++;
    }
    return FORM[i] == '\0' && name[i] == '\0';
}

static bool takes(const kdi_found *f)
{
    for (size_t i = 0; f->folder && i < f->n; i++) {
        if (is_sample(f->name[i])) {
            return true;
        }
    }
    return false;
}

static kd_status open_nwucla(kdi_archive *a, const kdi_found *f, kd_err *err)
{
    for (size_t i = 0; i < f->n; i++) {
        if (is_sample(f->name[i])) {
            struct stat sb = {0};
            char *path = kd_path_join(f->path, f->name[i]);
            const bool known = path != NULL && stat(path, &sb) == 0;
            kd_free(path);
            KD_TRY(kdi_archive_row(a, f->name[i], strlen(f->name[i]) - strlen(".json"), -1,
                                   known ? (uint64_t)sb.st_size : 0, err));
        }
    }
    return KD_OK;
}

/* [joints][3] of one frame to x. */
static kd_status read_frame(const kd_json *frame, size_t joints, float *x, kd_err *err)
{
    char where[256];
    for (size_t v = 0; v < joints; v++) {
        const kd_json *p = kd_json_at(frame, v);
        for (size_t c = 0; c < CHANNELS; c++) {
            double value;
            KD_TRY(kd_json_as_f64(kd_json_at(p, c), &value, err));
            x[v * CHANNELS + c] = (float)value;
        }
        if (kd_json_count(p) != CHANNELS) {
            kd_json_where(p, where, sizeof where);
            return KD_FAIL(err, KD_E_FORMAT, "%s: expected x, y and z, found %zu numbers", where, kd_json_count(p));
        }
    }
    if (kd_json_count(frame) != joints) {
        kd_json_where(frame, where, sizeof where);
        return KD_FAIL(err, KD_E_FORMAT, "%s: expected %zu joints, as before, found %zu", where, joints,
                       kd_json_count(frame));
    }
    return KD_OK;
}

static kd_status skeleton_of(const kdi_archive *a, const kd_json *list, const kd_skel_opts *o, kd_skeleton *out,
                             kd_err *err)
{
    kdi_numbers n = {.frames = kd_json_count(list),
                     .bodies = 1,
                     .joints = kd_json_count(kd_json_at(list, 0)),
                     .channels = CHANNELS,
                     .sv = CHANNELS,
                     .sc = 1};
    n.st = n.joints * n.sv;
    float *x = kd_calloc(KD_MAX(n.frames * n.st, 1), sizeof *x); /* the file has a text for every number */
    if (x == NULL) {
        return KD_FAIL(err, KD_E_OOM, "no memory for %zu frames", n.frames);
    }
    n.x = x;
    kd_status st = KD_OK;
    for (size_t t = 0; t < n.frames && st == KD_OK; t++) {
        st = read_frame(kd_json_at(list, t), n.joints, x + t * n.st, err);
    }
    st = st == KD_OK ? kdi_archive_skeleton(a, &n, o, out, err) : st;
    kd_free(x);
    return st;
}

static kd_status read_nwucla(const kdi_archive *a, size_t row, const kd_skel_opts *o, kd_skeleton *out, kd_err *err)
{
    char *path = kd_strf("%s/%s.json", a->pub.path, a->pub.row[row].id);
    kd_json *doc = NULL;
    const kd_json *list = NULL;
    kd_status st;
    KD_GO(path != NULL ? kd_json_load(path, &doc, err) : KD_FAIL(err, KD_E_OOM, "no memory for a path"));
    KD_GO(kd_json_get_array(doc, "skeletons", &list, err));
    st = skeleton_of(a, list, o, out, err);
done:
    kd_json_free(doc);
    kd_free(path);
    return st;
}

static void close_nwucla(kdi_archive *a)
{
    (void)a;
}

const kdi_form kdi_form_nwucla = {"NW-UCLA json", takes, open_nwucla, read_nwucla, close_nwucla};
