/* kd doctor: what this machine can do, what is missing, and how fast each path is. */
#include "kernels/kd_backend.h"
#include "kernels/kd_cpu.h"
#include "kernels/kd_rng.h"
#include "tools/commands/commands.h"
#include "tools/commands/doctor.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <unistd.h>

typedef struct machine {
    char cpu[96];
    int cores_usable, cores;
    char features[64]; /* levels of kd_cpu.h */
    bool avx2, avx512_bf16;
    double mem_total, mem_free, mem_limit; /* GiB; limit 0: none */
    double disk_free;                      /* GiB, -1: not known */
    char gpu[128];                         /* driver line, empty: none */
    bool gpu_device;
} machine;

static const double GIB = 1024.0 * 1024.0 * 1024.0;

/* ---- what is there --------------------------------------------------------------------------- */

/* The name that the kernel has for the processor; nothing is decided by it. */
static void read_cpu_name(machine *m)
{
    char *line = NULL;
    size_t cap = 0;
    FILE *f = fopen("/proc/cpuinfo", "re");
    while (f != NULL && m->cpu[0] == '\0' && getline(&line, &cap, f) > 0) {
        const char *value = strchr(line, ':');
        if (value != NULL && strncmp(line, "model name", 10) == 0) {
            (void)snprintf(m->cpu, sizeof m->cpu, "%.*s", (int)strcspn(value + 2, "\n"), value + 2);
        }
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    free(line); /* getline's own memory */
}

/* What the kernels go by: kd_cpu.h and kd_cores decide which of them run, and on how many cores. */
static void read_cpu(machine *m)
{
    read_cpu_name(m);
    (void)kd_cpu_text(m->features, sizeof m->features);
    m->avx2 = kd_cpu_has(KD_CPU_V3);
    m->avx512_bf16 = kd_cpu_has(KD_CPU_BF16);
    m->cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
    m->cores_usable = kd_cores();
}

static double first_number(const char *path)
{
    double v = 0.0;
    FILE *f = fopen(path, "re");
    if (f != NULL) {
        if (fscanf(f, "%lf", &v) != 1) { /* "max" */
            v = 0.0;
        }
        (void)fclose(f);
    }
    return v;
}

static void read_memory(machine *m)
{
    struct sysinfo si;
    if (sysinfo(&si) == 0) {
        m->mem_total = (double)si.totalram * si.mem_unit / GIB;
        m->mem_free = (double)(si.freeram + si.bufferram) * si.mem_unit / GIB;
    }
    char *line = NULL;
    size_t cap = 0;
    FILE *f = fopen("/proc/meminfo", "re");
    while (f != NULL && getline(&line, &cap, f) > 0) {
        unsigned long long kib = 0;
        if (sscanf(line, "MemAvailable: %llu", &kib) == 1) {
            m->mem_free = (double)kib * 1024.0 / GIB;
        }
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    free(line);
    m->mem_limit = first_number("/sys/fs/cgroup/memory.max") / GIB;
}

static void read_devices(machine *m)
{
    m->gpu_device = access("/dev/nvidia0", F_OK) == 0;
    FILE *f = fopen("/proc/driver/nvidia/version", "re");
    if (f != NULL) {
        if (fgets(m->gpu, (int)sizeof m->gpu, f) != NULL) {
            m->gpu[strcspn(m->gpu, "\n")] = '\0';
        }
        (void)fclose(f);
    }
}

static void read_machine(machine *m, const char *dir)
{
    memset(m, 0, sizeof *m);
    read_cpu(m);
    read_memory(m);
    read_devices(m);
    struct statvfs fs;
    m->disk_free = statvfs(dir, &fs) == 0 ? (double)fs.f_bavail * (double)fs.f_frsize / GIB : -1.0;
}

/* ---- how fast -------------------------------------------------------------------------------- */

/* Bytes read and written per second by one core's memcpy, best of three, GB/s. */
static double copy_rate(void)
{
    enum { BYTES = 64 << 20 };
    char *a = kd_calloc(1, BYTES);
    char *b = kd_calloc(1, BYTES);
    double best = 0.0;
    for (int i = 0; a != NULL && b != NULL && i < 3; i++) {
        const double t0 = kd_now();
        memcpy(b, a, BYTES);
        a[i] = b[BYTES - 1 - i]; /* keeps the copy alive */
        best = KD_MAX(best, 2.0 * BYTES / (kd_now() - t0) * 1e-9);
    }
    kd_free(a);
    kd_free(b);
    return best;
}

/* Million Philox words per second of one core. */
static double random_rate(void)
{
    enum { N = 400000 };
    kd_rng r = kd_rng_make(1, KD_RNG_TEST, 0, 0);
    uint32_t sum = 0;
    const double t0 = kd_now();
    for (int i = 0; i < N; i++) {
        sum ^= kd_rng_u32(&r);
    }
    const double t = kd_now() - t0;
    return sum != 1 ? N / t * 1e-6 : 0.0;
}

/* MB/s written to `dir` and flushed to the disk; negative when it cannot be written. */
static double disk_rate(const char *dir)
{
    enum { BYTES = 16 << 20 };
    char *path = kd_strf("%s/.kd-doctor-XXXXXX", dir);
    char *data = kd_calloc(1, BYTES);
    double rate = -1.0;
    const int fd = path != NULL && data != NULL ? mkostemp(path, 02000000 /* close on exec */) : -1;
    if (fd >= 0) {
        (void)unlink(path);
        const double t0 = kd_now();
        if (write(fd, data, BYTES) == BYTES && fsync(fd) == 0) {
            rate = BYTES / (kd_now() - t0) * 1e-6;
        }
        (void)close(fd);
    }
    kd_free(path);
    kd_free(data);
    return rate;
}

/* ---- report ---------------------------------------------------------------------------------- */

typedef struct sheet {
    bool json;
    int rows, missing;
} sheet;

static void row(sheet *s, const char *key, const char *state, const char *fmt, ...) KD_PRINTF(4, 5);
static void row(sheet *s, const char *key, const char *state, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (strcmp(state, "missing") == 0) {
        s->missing++;
    }
    if (!s->json) {
        (void)printf("%-8s %-22s %s\n", state, key, text);
        return;
    }
    for (char *c = text; *c != '\0'; c++) {
        *c = *c == '"' || *c == '\\' || (unsigned char)*c < 0x20 ? ' ' : *c;
    }
    (void)printf("%s  {\"item\": \"%s\", \"state\": \"%s\", \"value\": \"%s\"}", s->rows++ > 0 ? ",\n" : "", key, state,
                 text);
}

static void report(sheet *s, const machine *m, const char *dir)
{
    row(s, "processor", "ok", "%s, %d of %d cores usable", m->cpu[0] != '\0' ? m->cpu : "unknown", m->cores_usable,
        m->cores);
    row(s, "vector units", m->avx2 ? "ok" : "missing", "%s",
        m->avx2 ? m->features : "no AVX2 with FMA: the portable kernels are used, slowly");
    row(s, "bf16 arithmetic", m->avx512_bf16 ? "ok" : "missing", "%s",
        m->avx512_bf16 ? "native (avx512_bf16 or AMX)" : "--dtype bf16 is refused on this CPU, use f32");
    if (m->mem_limit > 0.0 && m->mem_limit < m->mem_total) {
        row(s, "memory", "ok", "%.1f GiB, %.1f free, this process is limited to %.1f", m->mem_total, m->mem_free,
            m->mem_limit);
    } else {
        row(s, "memory", m->mem_free < 2.0 ? "missing" : "ok", "%.1f GiB, %.1f free%s", m->mem_total, m->mem_free,
            m->mem_free < 2.0 ? "; the demo wants 4" : "");
    }
    row(s, "disk", m->disk_free < 1.0 ? "missing" : "ok", "%.1f GiB free at %s", m->disk_free, dir);
    if (m->gpu[0] == '\0' && !m->gpu_device) {
        row(s, "GPU", "none", "no NVIDIA driver answers; --device auto takes the CPU");
    } else {
        row(s, "GPU", m->gpu_device ? "ok" : "missing", "%s%s", m->gpu,
            m->gpu_device ? "" : " (driver without a device)");
    }
    row(s, "copying memory", "measured", "%.1f GB/s, one core", copy_rate());
    row(s, "random numbers", "measured", "%.0f million words/s, one core", random_rate());
    const double disk = disk_rate(dir);
    if (disk > 0.0) {
        row(s, "writing", "measured", "%.0f MB/s to %s, flushed", disk, dir);
    } else {
        row(s, "writing", "missing", "%s cannot be written", dir);
    }
}

/* A path that fails is missing, with the reason. */
static void report_paths(sheet *s, const machine *m, const char *dir)
{
    char codec[32];
    kd_err err = {0};
    const double decode = kd_doctor_decode(dir, codec, &err);
    if (decode > 0.0) {
        const bool h264 = strstr(codec, "264") != NULL;
        row(s, "encoding video", h264 ? "ok" : "missing", "%s%s", codec,
            h264 ? "" : ": this FFmpeg has no H.264 encoder; sample videos use this one");
        row(s, "decoding video", "measured", "%.0f frames/s of 320x240, one thread", decode);
    } else {
        row(s, "video", "missing", "%s", err.msg);
    }
    memset(&err, 0, sizeof err);
    const double student = kd_doctor_student("sfz-nano", &err);
    if (student > 0.0) {
        row(s, "student sfz-nano", "measured", "%.2f ms a sample, one thread", student);
    } else {
        row(s, "student sfz-nano", "missing", "%s", err.msg);
    }
    static const kd_dtype TYPE[2] = {KD_F32, KD_BF16};
    for (int i = 0; i < (m->avx512_bf16 ? 2 : 1); i++) {
        int threads = 0;
        memset(&err, 0, sizeof err);
        const double seconds = kd_doctor_teacher(TYPE[i], &threads, &err);
        const char *key = i == 0 ? "teacher ViT-L f32" : "teacher ViT-L bf16";
        if (seconds > 0.0) {
            row(s, key, "measured", "about %.1f s a clip (one block x 24), %d threads", seconds, threads);
        } else {
            row(s, key, "missing", "%s", err.msg);
        }
    }
}

int kd_cmd_doctor(int argc, char **argv)
{
    static const kd_cmd CMD = {
        .name = "kd doctor",
        .about = "What this machine can do, what is missing, and the measured speed of each path.\n"
                 "Takes a few seconds; writes nothing but a temporary file that it removes.",
        .common = KD_COMMON_OUT | KD_COMMON_JSON,
        .max_operands = 0,
        .notes = "--out DIR is where the disk is measured (the present directory without it).",
    };
    kd_common common;
    const int rc = kd_args_parse(&CMD, argc, argv, NULL, &common, NULL);
    if (rc != KD_ARGS_RUN) {
        return rc;
    }
    const char *dir = common.out != NULL ? common.out : ".";
    machine m;
    read_machine(&m, dir);
    sheet s = {common.json, 0, 0};
    if (s.json) {
        (void)printf("{\"version\": \"%s\", \"items\": [\n", kd_version());
        report(&s, &m, dir);
        report_paths(&s, &m, dir);
        (void)printf("\n]}\n");
    } else {
        kd_print_version("lastkd");
        (void)putchar('\n');
        report(&s, &m, dir);
        report_paths(&s, &m, dir);
        (void)printf("\n%s\n",
                     s.missing == 0 ? "Nothing that this build can use is missing." : "See the lines marked missing.");
    }
    return 0;
}
