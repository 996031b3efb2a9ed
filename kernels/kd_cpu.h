/* Features of the processor, found once at run time.  A kernel that needs a feature asks here,
 * never at build time: one binary runs on any x86-64.  Other architectures report no feature and
 * run the reference kernels. */
#ifndef KD_KERNELS_KD_CPU_H
#define KD_KERNELS_KD_CPU_H

#include "kernels/kd_base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kd_cpu_feature {
    KD_CPU_V3 = 1,    /* AVX2, FMA, BMI, F16C: x86-64-v3 */
    KD_CPU_V4 = 2,    /* AVX-512 F, BW, CD, DQ, VL: x86-64-v4; implies V3 */
    KD_CPU_BF16 = 4,  /* AVX512_BF16; implies V4 */
    KD_CPU_VNNI = 16, /* AVX512_VNNI; implies V4 */
    KD_CPU_AMX = 8    /* AMX tiles with bf16, and the kernel lets this process use them; implies BF16 */
} kd_cpu_feature;

/* Features of this machine, less what the environment variable KD_CPU (ref, v3, v4, bf16, amx: the
 * best level that may be used) and kd_cpu_limit take away.  Cheap; any thread. */
uint32_t kd_cpu_features(void);

static inline bool kd_cpu_has(kd_cpu_feature f)
{
    return (kd_cpu_features() & (uint32_t)f) != 0;
}

/* Tests and benchmarks: use at most the features in `mask` from now on (~0u: no limit).  Set before
 * a program is compiled. */
void kd_cpu_limit(uint32_t mask);

/* "amx bf16 v4 v3" or "none", for `kd doctor`; returns buf. */
const char *kd_cpu_text(char *buf, size_t size);

#ifdef __cplusplus
}
#endif
#endif
