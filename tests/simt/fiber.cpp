/* Fibers: see fiber.h.  On x86-64 a switch is thirteen instructions; elsewhere glibc's contexts do it, slower.
 * AddressSanitizer is told about every switch. */
#include "tests/simt/fiber.h"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#    include <sanitizer/common_interface_defs.h>
#endif

namespace {

struct stack_range {
    const void *bottom;
    size_t size;
};

/* Where a switched-out context goes on. */
#if defined(__x86_64__)
using context = void *; /* its stack pointer; callee-saved registers lie above it */
#else
using context = ucontext_t;
#endif

const size_t STACK = 128 * 1024, GUARD = 4096;

} // namespace

struct fiber {
    stack_range mine, caller;
    context here, back;
    void *fake_mine, *fake_caller; /* AddressSanitizer's */
    void (*run)();
};

static fiber *starting;
extern "C" void simt_fiber_main(void);

#if defined(__x86_64__)

extern "C" void simt_swap_stacks(void **save, void *load);
__asm__(".text\n"
        ".type simt_swap_stacks, @function\n"
        "simt_swap_stacks:\n"
        "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n    pushq %r13\n    pushq %r14\n    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbx\n    popq %rbp\n"
        "    ret\n"
        ".size simt_swap_stacks, . - simt_swap_stacks\n");

static void swap(context *save, context *load)
{
    simt_swap_stacks(save, *load);
}

static void start(fiber *f)
{
    const uintptr_t top = (uintptr_t)f->mine.bottom + STACK - 64;
    void **at = reinterpret_cast<void **>(top / 16 * 16);
    *at = reinterpret_cast<void *>(simt_fiber_main); /* six zeros below it become the registers */
    f->here = at - 6;
}

#else

static void swap(context *save, context *load)
{
    swapcontext(save, load);
}

static void start(fiber *f)
{
    getcontext(&f->here);
    f->here.uc_stack.ss_sp = const_cast<void *>(f->mine.bottom);
    f->here.uc_stack.ss_size = STACK;
    f->here.uc_link = nullptr;
    makecontext(&f->here, simt_fiber_main, 0);
}

#endif

/* Switch and say so: `fake` keeps the leaving stack's shadow, `to` is the stack gone to. */
static void change(context *save, context *load, void **fake, const stack_range &to)
{
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(fake, to.bottom, to.size);
    swap(save, load);
    __sanitizer_finish_switch_fiber(*fake, nullptr, nullptr);
#else
    (void)fake, (void)to;
    swap(save, load);
#endif
}

extern "C" void simt_fiber_main(void)
{
    fiber *f = starting;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &f->caller.bottom, &f->caller.size);
#endif
    for (;;) {
        f->run();
        fiber_leave(f);
    }
}

fiber *fiber_new(void (*run)())
{
    fiber *f = new fiber();
    void *mem =
        mmap(nullptr, STACK + GUARD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mem == MAP_FAILED || mprotect(mem, GUARD, PROT_NONE) != 0) {
        perror("simt: stack of a fiber");
        abort();
    }
    f->mine = {static_cast<char *>(mem) + GUARD, STACK};
    f->run = run;
    start(f);
    return f;
}

void fiber_enter(fiber *f)
{
    starting = f;
    change(&f->back, &f->here, &f->fake_caller, f->mine);
}

void fiber_leave(fiber *f)
{
    change(&f->here, &f->back, &f->fake_mine, f->caller);
}
