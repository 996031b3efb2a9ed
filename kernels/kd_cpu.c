#include "kernels/kd_cpu.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#if defined(__x86_64__)
#    include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__) && !defined(KD_LAST)
#    include <sys/syscall.h>
#    include <unistd.h>
#endif

enum { FEATURES_KNOWN = 1 << 30 };

#if defined(__x86_64__)

/* cpuid bits, Intel SDM volume 2A, table "Information Returned by CPUID Instruction" */
enum {
    C1_FMA = 1u << 12,
    C1_MOVBE = 1u << 22,
    C1_OSXSAVE = 1u << 27,
    C1_AVX = 1u << 28,
    C1_F16C = 1u << 29,
    B7_BMI1 = 1u << 3,
    B7_AVX2 = 1u << 5,
    B7_BMI2 = 1u << 8,
    B7_AVX512F = 1u << 16,
    B7_AVX512DQ = 1u << 17,
    B7_AVX512CD = 1u << 28,
    B7_AVX512BW = 1u << 30,
    C7_AVX512VNNI = 1u << 11,
    D7_AMX_BF16 = 1u << 22,
    D7_AMX_TILE = 1u << 24,
    A71_BF16 = 1u << 5,
    X81_LZCNT = 1u << 5
};
#    define B7_AVX512VL 0x80000000u

static bool all(uint32_t reg, uint32_t bits)
{
    return (reg & bits) == bits;
}

/* Register states the operating system saves. */
static uint64_t xcr0(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

/* Linux hands out the 8 KiB of tile state only to processes that ask. */
static bool amx_permitted(void)
{
#    if defined(__linux__) && !defined(KD_LAST) /* liblast has no kernel for AMX and asks for nothing */
    const long arch_req_xcomp_perm = 0x1023, xfeature_xtiledata = 18;
    return syscall(SYS_arch_prctl, arch_req_xcomp_perm, xfeature_xtiledata) == 0;
#    else
    return false;
#    endif
}

static uint32_t detect(void)
{
    uint32_t a, b, c, d, f = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !all(c, C1_FMA | C1_MOVBE | C1_OSXSAVE | C1_AVX | C1_F16C)) {
        return 0;
    }
    const uint64_t saved = xcr0();
    uint32_t b7, c7, d7, a71, x, ext_c;
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7) || !__get_cpuid(0x80000001u, &a, &x, &ext_c, &d)) {
        return 0;
    }
    if ((saved & 0x6) != 0x6 || !all(b7, B7_BMI1 | B7_AVX2 | B7_BMI2) || !all(ext_c, X81_LZCNT)) {
        return 0;
    }
    f |= KD_CPU_V3;
    if ((saved & 0xe6) != 0xe6 ||
        !all(b7, (uint32_t)B7_AVX512F | B7_AVX512DQ | B7_AVX512CD | B7_AVX512BW | B7_AVX512VL)) {
        return f;
    }
    f |= KD_CPU_V4;
    f |= all(c7, C7_AVX512VNNI) ? (uint32_t)KD_CPU_VNNI : 0u;
    if (!__get_cpuid_count(7, 1, &a71, &b, &c, &d) || !all(a71, A71_BF16)) {
        return f;
    }
    f |= KD_CPU_BF16;
    if ((saved & 0x60000) == 0x60000 && all(d7, D7_AMX_BF16 | D7_AMX_TILE) && amx_permitted()) {
        f |= KD_CPU_AMX;
    }
    return f;
}

#else

static uint32_t detect(void)
{
    return 0;
}

#endif

/* The best level KD_CPU allows; an unknown word allows everything and says so. */
static uint32_t environment_limit(void)
{
    static const struct {
        const char *name;
        uint32_t mask;
    } levels[] = {
        {"ref", 0},
        {"v3", KD_CPU_V3},
        {"v4", KD_CPU_V3 | KD_CPU_V4},
        {"bf16", KD_CPU_V3 | KD_CPU_V4 | KD_CPU_VNNI | KD_CPU_BF16},
        {"amx", ~0u},
    };
    const char *want = getenv("KD_CPU");
    if (want == NULL || want[0] == '\0') {
        return ~0u;
    }
    for (size_t i = 0; i < KD_COUNTOF(levels); i++) {
        if (strcmp(want, levels[i].name) == 0) {
            return levels[i].mask;
        }
    }
    kd_log(KD_LOG_WARN, "KD_CPU=%s is none of ref, v3, v4, bf16, amx; using every feature", want);
    return ~0u;
}

/* Facts about the machine, written once and never different, and the tests' limit. */
static _Atomic uint32_t found;
static _Atomic uint32_t limit = ~0u;

uint32_t kd_cpu_features(void)
{
    uint32_t f = atomic_load_explicit(&found, memory_order_relaxed);
    if (f == 0) {
        f = (detect() & environment_limit()) | FEATURES_KNOWN;
        atomic_store_explicit(&found, f, memory_order_relaxed);
    }
    return f & ~(uint32_t)FEATURES_KNOWN & atomic_load_explicit(&limit, memory_order_relaxed);
}

void kd_cpu_limit(uint32_t mask)
{
    atomic_store_explicit(&limit, mask, memory_order_relaxed);
}

const char *kd_cpu_text(char *buf, size_t size)
{
    const uint32_t f = kd_cpu_features();
    (void)snprintf(buf, size, "%s%s%s%s%s", (f & KD_CPU_AMX) ? "amx " : "", (f & KD_CPU_BF16) ? "bf16 " : "",
                   (f & KD_CPU_V4) ? "v4 " : "", (f & KD_CPU_V3) ? "v3" : "", f == 0 ? "none" : "");
    return buf;
}
