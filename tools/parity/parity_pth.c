/* Parity of weight files: every .pth of a fixture's directory, tensor by tensor, against names,
 * shapes and checksums, and the logits of a model that was loaded from the generated weights. */
#include "formats/base/io.h"
#include "formats/weights/pth.h"
#include "kernels/kd_ops.h"
#include "tools/parity/parity_net.h"

#include <math.h>
#include <stdio.h>

static const char ENCODER[] = "encoder.";

/* Does the dict hold every name of the list? */
static bool holds(const kd_pth *f, const kd_json *names)
{
    bool all = kd_json_count(names) > 0 && kd_pth_count(f) == kd_json_count(names);
    for (size_t i = 0; all && i < kd_json_count(names); i++) {
        const char *name = NULL;
        all = kd_json_as_str(kd_json_at(names, i), &name, NULL) == KD_OK && kd_pth_find(f, name) != NULL;
    }
    return all;
}

static bool same_shape(const kd_pth_tensor *t, const kd_json *shape)
{
    bool same = kd_json_count(shape) == t->rank;
    for (size_t i = 0; same && i < t->rank; i++) {
        int64_t d = -1;
        same = kd_json_as_i64(kd_json_at(shape, i), &d, NULL) == KD_OK && d == t->dim[i];
    }
    return same;
}

/* bf16 has no list of checksums: the generated value, rounded. */
static bool same_bf16(const kd_pth_tensor *t, const char *name, const uint16_t *have)
{
    float scale, offset;
    bool same = true;
    float *v = kd_alloc((t->count + 1) * sizeof *v);
    kd_parity_net_rule(name, t->rank > 0 && t->dim[0] > 0 ? (int64_t)t->count / t->dim[0] : 1, &scale, &offset);
    if (v == NULL) {
        return false;
    }
    kd_parity_fill(name, scale, offset, v, t->count);
    for (size_t i = 0; i < t->count; i++) {
        same = same && have[i] == kd_f32_to_bf16(v[i]);
    }
    kd_free(v);
    return same;
}

/* One tensor; `name` is the one in the manifest's lists. */
static kd_status tensor_ok(parity *p, kd_pth *f, const kd_pth_tensor *t, const char *name, bool *ok, kd_err *err)
{
    char have[12];
    const char *want = NULL;
    uint8_t *data = kd_alloc(t->bytes + 1);
    kd_status st = data != NULL ? KD_OK : KD_FAIL(err, KD_E_OOM, "parity: out of memory");
    if (st == KD_OK) {
        st = kd_pth_read(f, t, data, err);
    }
    if (st == KD_OK && t->dtype == KD_ST_BF16) {
        *ok = same_bf16(t, name, (const uint16_t *)(const void *)data);
    } else if (st == KD_OK) {
        const kd_json *list = kd_json_get(p->manifest, t->dtype == KD_ST_F16 ? "crc32_f16" : "crc32");
        (void)snprintf(have, sizeof have, "%08x", (unsigned)kd_crc32(data, t->bytes));
        *ok = kd_json_get_str(list, name, &want, NULL) == KD_OK && strcmp(have, want) == 0;
    }
    *ok = *ok && same_shape(t, kd_json_get(kd_json_get(p->manifest, "shapes"), name));
    kd_free(data);
    return st;
}

static kd_status one_file(parity *p, const char *file, const char *path, kd_err *err)
{
    kd_pth *f = NULL;
    size_t wrong = 0, compared = 0;
    char text[256];
    kd_status st = KD_OK;
    KD_GO(kd_pth_open(path, "", &f, err));
    const bool whole = holds(f, kd_json_get(p->manifest, "keys"));
    if (!whole && !holds(f, kd_json_get(p->manifest, "pretrain_keys"))) {
        kd_parity_skip(p, file, "tensors of other names");
        goto done;
    }
    for (size_t i = 0; i < kd_pth_count(f); i++) {
        const kd_pth_tensor *t = kd_pth_at(f, i);
        const char *name =
            !whole && strncmp(t->name, ENCODER, sizeof ENCODER - 1) == 0 ? t->name + sizeof ENCODER - 1 : t->name;
        bool ok = false;
        if (kd_json_get(kd_json_get(p->manifest, "shapes"), name) == NULL) {
            continue; /* a pre-training file's decoder */
        }
        KD_GO(tensor_ok(p, f, t, name, &ok, err));
        wrong += !ok;
        compared++;
    }
    (void)snprintf(text, sizeof text, "%s: %zu tensors of %zu", file, compared, kd_pth_count(f));
    kd_parity_item(p, text, compared > 0 ? (double)wrong : NAN, 0.0);
done:
    kd_pth_close(f);
    return st;
}

/* Logits of the first two clips of "input" with the same weights. */
static kd_status loaded_logits(parity *p, kd_err *err)
{
    const kd_json *c = NULL, *gold = kd_json_get(p->manifest, "logits_for_input_2");
    const int batch = (int)kd_json_count(gold);
    const kd_json *shapes = kd_json_get(p->manifest, "shapes");
    int64_t img, frames, dim, depth, heads, classes, patch[5], fc1[2];
    double eps, init;
    bool mean;
    kd_parity_net n = {0};
    float *clip = NULL;
    double *want = NULL;
    kd_status st = KD_OK;
    if (batch < 1 || batch > 64) {
        return KD_OK;
    }
    KD_GO(kd_json_get_object(p->manifest, "config", &c, err));
    KD_GO(kd_json_get_range(c, "img", 16, 1024, &img, err));
    KD_GO(kd_json_get_range(c, "frames", 2, 1024, &frames, err));
    KD_GO(kd_json_get_range(c, "dim", 1, 8192, &dim, err));
    KD_GO(kd_json_get_range(c, "depth", 1, 200, &depth, err));
    KD_GO(kd_json_get_range(c, "heads", 1, 256, &heads, err));
    KD_GO(kd_json_get_range(c, "classes", 1, 100000, &classes, err));
    KD_GO(kd_json_get_i64s(shapes, "patch_embed.proj.weight", patch, KD_COUNTOF(patch), err));
    KD_GO(kd_json_get_i64s(shapes, "blocks.0.mlp.fc1.weight", fc1, KD_COUNTOF(fc1), err));
    KD_GO(kd_json_opt_f64(c, "eps", 1e-6, &eps, err));
    KD_GO(kd_json_opt_f64(c, "init_values", 0.0, &init, err));
    KD_GO(kd_json_opt_bool(c, "mean_pool", true, &mean, err));
    const kd_vit_cfg cfg = {.img_size = (int)img,
                            .frames = (int)frames,
                            .patch = (int)KD_MIN(patch[4], (int64_t)KD_MAX_PATCH),
                            .tubelet = (int)KD_MIN(patch[2], frames),
                            .dim = (int)dim,
                            .depth = (int)depth,
                            .heads = (int)heads,
                            .mlp_hidden = (int)KD_MIN(fc1[0], (int64_t)65536),
                            .classes = (int)classes,
                            .init_values = (float)init,
                            .qkv_bias = kd_json_get(shapes, "blocks.0.attn.q_bias") != NULL,
                            .cos_attn = kd_json_get(shapes, "blocks.0.attn.scale") != NULL,
                            .learnable_pos = kd_json_get(shapes, "pos_embed") != NULL,
                            .cls_pooling = !mean,
                            .eps = (float)eps,
                            .fc_norm_eps = (float)eps,
                            .init_scale = 1.0f};
    KD_GO(kd_parity_net_open(p, &cfg, batch, false, &n, err));
    KD_GO(kd_parity_net_build(p, &n, NET_EVAL, err));
    const size_t k = (size_t)classes, all = (size_t)batch * k;
    clip = kd_calloc(KD_MAX(kd_parity_net_floats(&n), all), sizeof *clip);
    want = kd_calloc(all, sizeof *want);
    if (clip == NULL || want == NULL) {
        st = KD_FAIL(err, KD_E_OOM, "parity: out of memory");
        goto done;
    }
    for (size_t i = 0; i < all; i++) {
        KD_GO(kd_json_as_f64(kd_json_at(kd_json_at(gold, i / k), i % k), &want[i], err));
    }
    KD_GO(kd_parity_net_feed(p, &n, clip, err));
    KD_GO(kd_parity_net_run(&n, err));
    KD_GO(kd_program_read_f32(n.prog, "logits", clip, (int64_t)all));
    kd_parity_f32(p, "logits of these weights", clip, want, all,
                  2.5e-7); /* f32 gold: four roundings of a logit near 1 */
done:
    kd_free(clip);
    kd_free(want);
    kd_parity_net_close(&n);
    return st;
}

kd_status kd_parity_pth(parity *p, kd_err *err)
{
    char **names = NULL;
    size_t n = 0;
    kd_status st = kd_io_list_dir(p->dir, &names, &n, err);
    for (size_t i = 0; st == KD_OK && i < n; i++) {
        if (kd_path_has_suffix(names[i], ".pth") || kd_path_has_suffix(names[i], ".pt")) {
            char *path = kd_path_join(p->dir, names[i]);
            st = path != NULL ? one_file(p, names[i], path, err) : KD_FAIL(err, KD_E_OOM, "parity: out of memory");
            kd_free(path);
        }
    }
    kd_free(names);
    return st == KD_OK ? loaded_logits(p, err) : st;
}
