/* `kd bench kernels | model NAME | decode VIDEO... | store`. */
#include "tools/bench/bench.h"
#include "tools/commands/commands.h"
#include "tools/device.h"

#define BENCH_SECONDS KD_OPT_REAL(kd_bench_opts, seconds, "seconds", "S", "1", 0.0, 3600.0, "time to spend on each row")

static int begin(const kd_cmd *cmd, int argc, char **argv, kd_bench_opts *o, kd_common *c, kd_operands *in, kd_bench *b)
{
    const int rc = kd_args_parse(cmd, argc, argv, o, c, in);
    b->seconds = o->seconds;
    return rc;
}

static int end(const kd_cmd *cmd, kd_bench *b, kd_backend *be, bool json, kd_status st, kd_err *err)
{
    if (st == KD_OK) {
        st = kd_bench_print(b, json, err);
    }
    kd_bench_free(b);
    kd_backend_close(be);
    return kd_cmd_end(cmd, st, err);
}

static int bench_kernels(int argc, char **argv)
{
    static const kd_arg ARGS[] = {
        KD_OPT_INT(kd_bench_opts, batch, "batch", "N", "1", 1, 256, "clips in the shapes of ViT-L"), BENCH_SECONDS};
    static const kd_cmd CMD = {.name = "kd bench kernels",
                               .about = "Time of single kernels at the shapes of ViT-L and of the students.",
                               .args = ARGS,
                               .arg_count = KD_COUNTOF(ARGS),
                               .common = KD_COMMON_COMPUTE | KD_COMMON_JSON};
    kd_bench b = {.what = "kernels"};
    kd_bench_opts o = {0};
    kd_common c;
    kd_operands in;
    kd_err err = {0};
    kd_backend *be = NULL;
    const int rc = begin(&CMD, argc, argv, &o, &c, &in, &b);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    const kd_device_opts device = kd_device_from(&c);
    kd_status st = kd_device_open(&device, &be, &err);
    st = st == KD_OK ? kd_bench_kernels(&b, be, device.dtype, o.batch, &err) : st;
    return end(&CMD, &b, be, c.json, st, &err);
}

static int bench_model(int argc, char **argv)
{
    static const kd_arg ARGS[] = {
        KD_OPT_CHOICE(kd_bench_opts, phase, "phase", "eval", "eval|train",
                      "forward; or forward, backward and optimiser step"),
        KD_OPT_INT(kd_bench_opts, batch, "batch", "N", "1", 1, 4096, "samples of one run"),
        KD_OPT_INT(kd_bench_opts, bodies, "bodies", "M", "1", 1, 2, "students: bodies of one sample"), BENCH_SECONDS};
    static const kd_cmd CMD = {.name = "kd bench model",
                               .operands = "NAME",
                               .about = "Time of one step of a model with random weights and inputs.\n"
                                        "NAME: videomae2-{s,b,l,h,g,tiny} or a student.",
                               .args = ARGS,
                               .arg_count = KD_COUNTOF(ARGS),
                               .min_operands = 1,
                               .max_operands = 1,
                               .common = KD_COMMON_COMPUTE | KD_COMMON_JSON};
    kd_bench b = {.what = "model"};
    kd_bench_opts o = {0};
    kd_common c;
    kd_operands in;
    kd_err err = {0};
    kd_backend *be = NULL;
    const int rc = begin(&CMD, argc, argv, &o, &c, &in, &b);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    const kd_device_opts device = kd_device_from(&c);
    kd_status st = kd_device_open(&device, &be, &err);
    st = st == KD_OK ? kd_bench_model(&b, be, in.item[0], device.dtype, &o, &err) : st;
    return end(&CMD, &b, be, c.json, st, &err);
}

static int bench_decode(int argc, char **argv)
{
    static const kd_arg ARGS[] = {BENCH_SECONDS};
    static const kd_cmd CMD = {.name = "kd bench decode",
                               .operands = "VIDEO...",
                               .about = "Time to decode videos whole and to fetch 16 frames of each, on one thread.",
                               .args = ARGS,
                               .arg_count = KD_COUNTOF(ARGS),
                               .min_operands = 1,
                               .max_operands = -1,
                               .common = KD_COMMON_JSON};
    kd_bench b = {.what = "decode"};
    kd_bench_opts o = {0};
    kd_common c;
    kd_operands in;
    kd_err err = {0};
    const int rc = begin(&CMD, argc, argv, &o, &c, &in, &b);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    return end(&CMD, &b, NULL, c.json, kd_bench_decode(&b, in.item, in.count, &err), &err);
}

static int bench_store(int argc, char **argv)
{
    static const kd_arg ARGS[] = {BENCH_SECONDS};
    static const kd_cmd CMD = {.name = "kd bench store",
                               .operands = "[DIR]",
                               .about =
                                   "Time to write a logit store of 60 classes and 1024 features, to read it in order\n"
                                   "and at random. The file is made in DIR (default: /tmp) and removed.",
                               .args = ARGS,
                               .arg_count = KD_COUNTOF(ARGS),
                               .max_operands = 1,
                               .common = KD_COMMON_JSON};
    kd_bench b = {.what = "store"};
    kd_bench_opts o = {0};
    kd_common c;
    kd_operands in;
    kd_err err = {0};
    const int rc = begin(&CMD, argc, argv, &o, &c, &in, &b);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    const char *dir = in.count > 0 ? in.item[0] : "/tmp";
    return end(&CMD, &b, NULL, c.json, kd_bench_store(&b, dir, &err), &err);
}

int kd_cmd_bench(int argc, char **argv)
{
    static const kd_verb VERBS[] = {
        {"kernels", bench_kernels, "single kernels"},
        {"model", bench_model, "a whole model, eval or train"},
        {"decode", bench_decode, "video decoding"},
        {"store", bench_store, "the logit store"},
        {NULL, NULL, NULL},
    };
    return kd_dispatch("kd bench", "Measured speed on this machine.", VERBS, argc, argv);
}
