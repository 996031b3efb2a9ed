/* Fibers and their scheduler: see simt.h. */
#include "tests/simt/simt.h"

#include "tests/simt/fiber.h"
#include "tests/simt/simt_internal.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

simt_uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace {

enum state { READY, AT_BARRIER, AT_WARP, DONE };

struct thread {
    state at = READY;
    fiber *on = nullptr; /* null: not started */
    unsigned mask = 0;   /* AT_WARP: who must come */
    unsigned exchanges = 0;
    uint64_t slot[2] = {}; /* what this lane gave, by parity: a lane can be one exchange ahead of a reader, never two */
};

struct shared_area {
    const void *site;
    size_t bytes;
    std::unique_ptr<unsigned char[]> mem; /* its own heap block: AddressSanitizer sees its ends */
};

struct block_run {
    const char *kernel;
    const std::function<void()> *body;
    std::vector<thread> threads;
    std::vector<shared_area> shared;
    int current;
};

block_run *now;
/* Kept from launch to launch, and for good: their stacks are mapped once. */
std::vector<fiber *> &idle = *new std::vector<fiber *>;
int order_kind = SIMT_ASCENDING;
uint64_t shuffle_state = 1;
long kernels;
const size_t MAX_SHARED = 48 * 1024, MAX_THREADS = 1024;

[[noreturn]] void refuse(const char *what)
{
    fprintf(stderr, "simt: kernel %s, block (%u,%u,%u), thread %d: %s\n", now ? now->kernel : "?", blockIdx.x,
            blockIdx.y, blockIdx.z, now ? now->current : -1, what);
    abort();
}

uint64_t next_random()
{
    shuffle_state = shuffle_state * 6364136223846793005u + 1442695040888963407u;
    return shuffle_state >> 33;
}

void arrange(std::vector<int> &order)
{
    if (order_kind == SIMT_SHUFFLED) {
        for (size_t i = order.size(); i > 1; i--) {
            std::swap(order[i - 1], order[next_random() % i]);
        }
    }
}

std::vector<int> sequence(size_t n)
{
    std::vector<int> order(n);
    for (size_t i = 0; i < n; i++) {
        order[i] = (int)(order_kind == SIMT_DESCENDING ? n - 1 - i : i);
    }
    arrange(order);
    return order;
}

void run_thread_body()
{
    (*now->body)();
    now->threads[(size_t)now->current].at = DONE;
}

void resume(int t)
{
    thread &me = now->threads[(size_t)t];
    now->current = t;
    const unsigned u = (unsigned)t;
    threadIdx = {u % blockDim.x, u / blockDim.x % blockDim.y, u / blockDim.x / blockDim.y};
    if (me.on == nullptr) {
        if (idle.empty()) {
            me.on = fiber_new(run_thread_body);
        } else {
            me.on = idle.back();
            idle.pop_back();
        }
    }
    fiber_enter(me.on);
    if (me.at == DONE) {
        idle.push_back(me.on);
        me.on = nullptr;
    }
}

void wait_here(state s)
{
    const int t = now->current;
    now->threads[(size_t)t].at = s;
    fiber_leave(now->threads[(size_t)t].on);
}

/* Lanes that may go on: the whole mask has come. */
bool release_warps()
{
    bool any = false;
    auto &all = now->threads;
    for (size_t w = 0; w < all.size(); w += 32) {
        const size_t end = std::min(all.size(), w + 32);
        for (size_t i = w; i < end; i++) {
            if (all[i].at != AT_WARP) {
                continue;
            }
            const unsigned mask = all[i].mask;
            bool complete = true;
            for (size_t l = w; l < w + 32; l++) {
                if (((mask >> (l - w)) & 1u) == 0 || l >= end) {
                    continue; /* lanes the block does not have count as there: masks are written as 0xffffffff */
                }
                if (all[l].at == DONE) {
                    now->current = (int)l;
                    refuse("has ended, but another lane of its warp waits for it in a shuffle or __syncwarp");
                }
                complete = complete && all[l].at == AT_WARP && all[l].mask == mask;
            }
            for (size_t l = w; complete && l < end; l++) {
                if (((mask >> (l - w)) & 1u) != 0) {
                    all[l].at = READY;
                    any = true;
                }
            }
        }
    }
    return any;
}

bool release_block()
{
    size_t waiting = 0, done = 0;
    for (const thread &t : now->threads) {
        waiting += t.at == AT_BARRIER;
        done += t.at == DONE;
    }
    if (waiting + done != now->threads.size() || waiting == 0) {
        return false;
    }
    if (done != 0) {
        refuse("waits at __syncthreads, but other threads of the block have ended");
    }
    for (thread &t : now->threads) {
        t.at = READY;
    }
    return true;
}

void run_block()
{
    for (shared_area &a : now->shared) {
        memset(a.mem.get(), 0xff, a.bytes);
    }
    std::vector<int> order = sequence(now->threads.size());
    for (thread &t : now->threads) {
        t = thread();
    }
    size_t done = 0;
    while (done < now->threads.size()) {
        bool moved = false;
        for (const int t : order) {
            if (now->threads[(size_t)t].at == READY) {
                resume(t);
                done += now->threads[(size_t)t].at == DONE;
                moved = true;
            }
        }
        moved = release_warps() || moved;
        moved = release_block() || moved;
        if (!moved) {
            refuse("deadlock: some threads wait at __syncthreads, others in a shuffle");
        }
        arrange(order);
    }
}

void run_grid(const char *name, dim3 grid, dim3 block, const std::function<void()> &body)
{
    block_run run = {name, &body, {}, {}, 0};
    now = &run;
    kernels++;
    const size_t n = (size_t)block.x * block.y * block.z;
    if (n == 0 || n > MAX_THREADS || grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535 ||
        grid.x > 2147483647u) {
        refuse("no card launches this: 1 to 1024 threads, grid (1..2^31-1, 1..65535, 1..65535)");
    }
    blockDim = block;
    gridDim = grid;
    run.threads.resize(n);
    for (const int b : sequence((size_t)grid.x * grid.y * grid.z)) {
        const unsigned u = (unsigned)b;
        blockIdx = {u % grid.x, u / grid.x % grid.y, u / grid.x / grid.y};
        run_block();
    }
    now = nullptr;
}

} // namespace

void simt_launch(const char *name, dim3 grid, dim3 block, cudaStream_t stream, std::function<void()> body)
{
    simt_submit(stream, [=] { run_grid(name, grid, block, body); });
}

void simt_set_order(int order)
{
    order_kind = order;
}

long simt_kernels(void)
{
    return kernels;
}

void *simt_shared_bytes(const void *site, size_t bytes)
{
    size_t total = bytes;
    for (const shared_area &a : now->shared) {
        if (a.site == site) {
            return a.mem.get();
        }
        total += a.bytes;
    }
    if (total > MAX_SHARED) {
        refuse("more than 48 KiB of shared memory");
    }
    now->shared.push_back({site, bytes, std::unique_ptr<unsigned char[]>(new unsigned char[bytes])});
    memset(now->shared.back().mem.get(), 0xff, bytes);
    return now->shared.back().mem.get();
}

void simt_barrier(const char *)
{
    wait_here(AT_BARRIER);
}

void simt_warp_barrier(unsigned mask)
{
    now->threads[(size_t)now->current].mask = mask;
    wait_here(AT_WARP);
}

int simt_lane(void)
{
    return now->current & 31;
}

uint64_t simt_exchange(unsigned mask, uint64_t mine, int from)
{
    const size_t self = (size_t)now->current, warp = self & ~(size_t)31;
    if (((mask >> (self - warp)) & 1u) == 0 || ((mask >> from) & 1u) == 0) {
        refuse("shuffle with a mask that leaves out this lane or its source");
    }
    const unsigned parity = now->threads[self].exchanges++ & 1u;
    now->threads[self].slot[parity] = mine;
    now->threads[self].mask = mask;
    wait_here(AT_WARP);
    const size_t source = warp + (size_t)from;
    return source < now->threads.size() ? now->threads[source].slot[parity] : mine; /* not there: undefined on a card */
}
