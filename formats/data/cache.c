/* Block cache: one atomic pointer a slot, one atomic count of bytes. */
#include "formats/data/cache.h"

#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

struct kd_cache {
    size_t slots;
    uint64_t budget;
    _Atomic uint64_t used;
    _Atomic(void *) block[];
};

kd_cache *kd_cache_new(size_t slots, uint64_t budget)
{
    size_t bytes;
    if (!kd_size_mul(slots, sizeof(_Atomic(void *)), &bytes) || !kd_size_add(bytes, sizeof(kd_cache), &bytes)) {
        return NULL;
    }
    kd_cache *c = kd_calloc(1, bytes);
    if (c != NULL) {
        c->slots = slots;
        c->budget = budget;
    }
    return c;
}

void kd_cache_free(kd_cache *c)
{
    if (c == NULL) {
        return;
    }
    for (size_t i = 0; i < c->slots; i++) {
        kd_free(atomic_load(&c->block[i]));
    }
    kd_free(c);
}

const void *kd_cache_get(const kd_cache *c, size_t slot)
{
    return atomic_load_explicit(&((kd_cache *)c)->block[slot], memory_order_acquire);
}

bool kd_cache_reserve(kd_cache *c, uint64_t bytes)
{
    uint64_t used = atomic_load(&c->used);
    do {
        if (bytes > c->budget || used > c->budget - bytes) {
            return false;
        }
    } while (!atomic_compare_exchange_weak(&c->used, &used, used + bytes));
    return true;
}

void kd_cache_give_back(kd_cache *c, uint64_t bytes)
{
    atomic_fetch_sub(&c->used, bytes);
}

const void *kd_cache_put(kd_cache *c, size_t slot, void *block, uint64_t bytes)
{
    void *there = NULL;
    if (atomic_compare_exchange_strong(&c->block[slot], &there, block)) {
        return block;
    }
    kd_free(block);
    kd_cache_give_back(c, bytes);
    return there;
}

uint64_t kd_memory_available(void)
{
    char line[128];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/meminfo", "re");
    while (f != NULL && kib == 0 && fgets(line, sizeof line, f) != NULL) {
        if (sscanf(line, "MemAvailable: %llu kB", &kib) != 1) {
            kib = 0;
        }
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    if (kib > 0) {
        return (uint64_t)kib * 1024;
    }
    const long pages = sysconf(_SC_AVPHYS_PAGES);
    const long page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
}

uint64_t kd_memory_peak(void)
{
    char line[128];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f != NULL && kib == 0 && fgets(line, sizeof line, f) != NULL) {
        if (sscanf(line, "VmHWM: %llu kB", &kib) != 1) {
            kib = 0;
        }
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return (uint64_t)kib * 1024;
}

uint64_t kd_cache_default(uint64_t most)
{
    return KD_MIN(kd_memory_available() / 4, most);
}
