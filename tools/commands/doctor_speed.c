/* Short measurements for kd doctor: see doctor.h. */
#include "distill/task/tasks.h"
#include "formats/video/video.h"
#include "tools/commands/doctor.h"

#include <stdio.h>
#include <unistd.h>

/* ---- video ----------------------------------------------------------------------------------- */

static kd_status encode(const char *path, char codec[32], kd_err *err)
{
    enum { W = 320, H = 240, FRAMES = 90 };
    uint8_t *rgb = kd_calloc(W * H, 3);
    kd_video_writer *w = NULL;
    kd_status st = KD_OK;
    if (rgb == NULL) {
        return KD_FAIL(err, KD_E_OOM, "out of memory");
    }
    KD_GO(kd_video_writer_open(path, W, H, 30, 1, NULL, &w, err));
    (void)snprintf(codec, 32, "%s", kd_video_writer_codec(w));
    for (int t = 0; t < FRAMES; t++) {
        for (int i = 0; i < W * H; i++) { /* a moving pattern, so that there is something to decode */
            const int x = i % W + 3 * t;
            const int y = i / W + t;
            rgb[3 * i] = (uint8_t)(x * y >> 5);
            rgb[3 * i + 1] = (uint8_t)(x + (y >> 1));
            rgb[3 * i + 2] = (uint8_t)(y ^ (x >> 2));
        }
        KD_GO(kd_video_writer_frame(w, rgb, 0, err));
    }
    st = kd_video_writer_close(w, err);
    w = NULL;
done:
    kd_video_writer_abort(w);
    kd_free(rgb);
    return st;
}

double kd_doctor_decode(const char *dir, char codec[32], kd_err *err)
{
    char *path = kd_strf("%s/.kd-doctor-%ld.avi", dir, (long)getpid());
    double rate = -1.0;
    codec[0] = '\0';
    if (path != NULL && encode(path, codec, err) == KD_OK) {
        kd_video_info info;
        const double t0 = kd_now();
        if (kd_video_count(path, NULL, &info, err) == KD_OK) {
            rate = (double)info.frames / (kd_now() - t0);
        }
        (void)unlink(path);
    }
    kd_free(path);
    return rate;
}

/* ---- models ---------------------------------------------------------------------------------- */

/* Seconds of the fastest of some forward passes of the model that the texts describe. */
static kd_status forward(const char *const *sets, size_t n_sets, int threads, int runs, double *seconds, int *used,
                         kd_err *err)
{
    kd_config *cfg = kd_calloc(1, sizeof *cfg);
    kd_backend *be = NULL;
    kd_program *p = NULL;
    kd_model m;
    kd_status st = KD_OK;
    memset(&m, 0, sizeof m);
    if (cfg == NULL) {
        return KD_FAIL(err, KD_E_OOM, "out of memory");
    }
    KD_GO(kd_config_load(NULL, 0, sets, n_sets, cfg, err));
    KD_GO(kd_backend_cpu_open(threads, &be, err));
    KD_GO(kd_model_open(kd_task_of(cfg), cfg, 60, be, &m, err));
    KD_GO(kd_model_init(&m, NULL, 0, err));
    KD_GO(kd_model_eval_program(&m, 1, &p, err));
    *used = be->threads;
    *seconds = 1e9;
    for (int i = 0; i < runs + 1; i++) { /* the first one prepares */
        const double t0 = kd_now();
        KD_GO(kd_program_run(p, NULL));
        *seconds = i > 0 ? KD_MIN(*seconds, kd_now() - t0) : *seconds;
    }
done:
    kd_program_free(p);
    kd_model_close(&m);
    kd_backend_close(be);
    kd_free(cfg);
    return st;
}

double kd_doctor_student(const char *name, kd_err *err)
{
    char text[96];
    const char *const sets[] = {"kind=student", text};
    double seconds = 0.0;
    int threads = 0;
    (void)snprintf(text, sizeof text, "student.name=%s", name);
    return forward(sets, KD_COUNTOF(sets), 1, 10, &seconds, &threads, err) == KD_OK ? 1e3 * seconds : -1.0;
}

double kd_doctor_teacher(kd_dtype dtype, int *threads, kd_err *err)
{
    enum { BLOCKS = 24 };
    char type[32];
    (void)snprintf(type, sizeof type, "train.dtype=%s", kd_dtype_name(dtype));
    const char *const sets[] = {
        "kind=teacher",    "teacher.variant=custom", "teacher.img_size=224",    "teacher.dim=1024",
        "teacher.depth=1", "teacher.heads=16",       "teacher.mlp_hidden=4096", type};
    double seconds = 0.0;
    return forward(sets, KD_COUNTOF(sets), 0, 1, &seconds, threads, err) == KD_OK ? BLOCKS * seconds : -1.0;
}
