/* The device a command line or a config asks for. */
#ifndef KD_TOOLS_DEVICE_H
#define KD_TOOLS_DEVICE_H

#include "kernels/kd_backend.h"
#include "tools/args.h"

typedef struct kd_device_opts {
    const char *device; /* "auto": a GPU if one answers, else the CPU; "cpu"; "cuda"; NULL: auto */
    kd_dtype dtype;
    int threads;        /* CPU; 0: all cores */
    bool deterministic; /* CUDA: the same bits in every process */
    bool plain;         /* our plain kernels only, no library: cross-check */
    bool no_graphs;     /* CUDA: do not capture */
} kd_device_opts;

/* What the common options say; dtype f32 where --dtype was not typed. */
kd_device_opts kd_device_from(const kd_common *c);

/* KD_E_UNSUPPORTED or KD_E_DEVICE when what was asked for is not there, in one line. */
KD_NODISCARD kd_status kd_device_open(const kd_device_opts *o, kd_backend **out, kd_err *err);

#endif
