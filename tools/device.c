#include "tools/device.h"

kd_device_opts kd_device_from(const kd_common *c)
{
    kd_device_opts o = {.device = c->device,
                        .dtype = KD_F32,
                        .threads = (int)c->threads,
                        .plain = c->plain_kernels,
                        .no_graphs = c->no_graphs};
    if (c->dtype != NULL) {
        (void)kd_dtype_parse(c->dtype, &o.dtype); /* the parser of options lets nothing else through */
    }
    return o;
}

static kd_status open_any(const kd_device_opts *o, kd_backend **out, kd_err *err)
{
    const char *device = o->device != NULL ? o->device : "auto";
    if (strcmp(device, "cpu") != 0) {
        const bool must = strcmp(device, "cuda") == 0;
        const kd_cuda_opts co = {.deterministic = o->deterministic};
        const kd_status st = kd_backend_cuda_open(&co, out, must ? err : NULL);
        if (st == KD_OK || must) {
            return st;
        }
    }
    if (o->dtype == KD_F16) {
        return KD_FAIL(err, KD_E_UNSUPPORTED, "--dtype fp16 needs a GPU; the CPU computes in f32 or bf16");
    }
    return kd_backend_cpu_open(o->threads, out, err);
}

kd_status kd_device_open(const kd_device_opts *o, kd_backend **out, kd_err *err)
{
    KD_TRY(open_any(o, out, err));
    (*out)->plain = o->plain;
    (*out)->no_graph = o->no_graphs;
    return KD_OK;
}
