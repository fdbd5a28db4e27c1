// Runs the threads of a block as fibers of one thread of the operating system, and blocks beside each other on several.
//
// A fiber only begins where another one waits: kernels whose threads never meet run through on a single stack.
#include "runtime.h"

#include <atomic>
#include <condition_variable>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <sys/mman.h>
#include <thread>

#define STATIC_TLS __attribute__((tls_model("initial-exec")))
thread_local STATIC_TLS uint3 threadIdx, blockIdx;
thread_local STATIC_TLS dim3 blockDim, gridDim;

namespace emulated {

void fail(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    std::fputs("CUDA emulator: ", stderr);
    std::vfprintf(stderr, format, arguments);
    std::fputs("\n", stderr);
    va_end(arguments);
    std::abort();
}

// Saves the registers that a function must keep, stores where in `*from`, and goes on where `to` was stored.
extern "C" void emulated_switch(void** from, void* to);
#if defined(__x86_64__)
asm(R"(
.globl emulated_switch
.hidden emulated_switch
emulated_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
)");
constexpr int SAVED = 6;         // registers below the return address
constexpr int RETURN = SAVED;    // where that is, in words
constexpr int FRAME = SAVED + 2;  // after its `ret` the stack is as a call leaves it: 8 bytes off a multiple of 16
#elif defined(__aarch64__)
asm(R"(
.globl emulated_switch
.hidden emulated_switch
emulated_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x2, sp
    str x2, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
)");
constexpr int RETURN = 11;
constexpr int FRAME = 20;
#else
#error "no switch of stacks for this processor"
#endif

constexpr size_t MOST_THREADS = 1024;
constexpr size_t STACK = 64 << 10;
constexpr uint64_t END_OF_STACK = 0x5afe5afe5afe5afe;
constexpr size_t MOST_SHARED = 228 << 10;
constexpr uint32_t FIRST_SHARED_ADDRESS = 1024;

struct Copy {
    void* to;
    const void* from;
    bool there;
};

struct Thread {
    uint3 index;
    unsigned number;
    void* stack_pointer;
    char* stack;                 // null before it begins
    std::vector<Copy> copies;    // not arrived yet
    std::vector<size_t> groups;  // where in them committed groups end
};

struct Warp {
    uint32_t running, ready;  // lanes that have not returned; of those, the ones that wait for nobody
    uint32_t arrived, mask;   // at the meeting that is under way
    Meeting compute;
    void* operands[32];
};

// Where one thread of the operating system runs blocks.
struct Runner {
    std::vector<Thread> threads{MOST_THREADS + 1};
    Warp warps[MOST_THREADS / 32];
    unsigned warp_count, running, at_barrier;
    Thread* current;
    void* outside;  // the stack of whoever runs the block
    std::vector<char*> stacks;  // that nobody is on
    std::unique_ptr<char, void (*)(void*)> shared{static_cast<char*>(std::aligned_alloc(1024, MOST_SHARED)), std::free};
    size_t shared_size;
    const Kernel* kernel;
    void* const* arguments;

    void run(const Kernel& what, dim3 block, size_t shared_bytes, void* const* with);
    char* take_stack();
    void prepare(Thread& thread);
    Thread* next();
    void go_on();
    void finish(Thread& thread);
    void complete(Warp& warp);
    void main();
};

static thread_local STATIC_TLS Runner* runner;

static void enter() { runner->main(); }

char* Runner::take_stack() {
    if (stacks.empty()) {
        // Those of a warp lie together on one large page: lanes take turns all the time.
        constexpr size_t BYTES = 32 * STACK;
        char* memory = static_cast<char*>(std::aligned_alloc(BYTES, BYTES));
        if (!memory) fail("no memory for stacks");
        madvise(memory, BYTES, MADV_HUGEPAGE);
        for (size_t i = 32; i-- > 0;) {
            stacks.push_back(memory + i * STACK);
            std::memcpy(stacks.back(), &END_OF_STACK, sizeof END_OF_STACK);
        }
    }
    char* stack = stacks.back();
    stacks.pop_back();
    return stack;
}

// Gives a thread that has not begun a stack on which `enter` is next.
void Runner::prepare(Thread& thread) {
    thread.stack = take_stack();
    // Stacks begin in different sets of the cache, where otherwise the same variables of all lanes would be in one.
    size_t shift = thread.number * 17 * 64 % (STACK / 2);
    void** frame = reinterpret_cast<void**>(thread.stack + STACK - shift) - FRAME;
    std::memset(frame, 0, FRAME * sizeof(void*));
    frame[RETURN] = reinterpret_cast<void*>(enter);
    thread.stack_pointer = frame;
}

// The thread to run after the current one; none where all have returned.
Thread* Runner::next() {
    unsigned first = current->number / 32, lane = current->number % 32;
    // A warp goes on for as long as it can: its lanes mostly wait for each other.
    if (uint32_t ready = warps[first].ready) {
        uint32_t after = ready & ~((2u << lane) - 1);
        return &threads[first * 32 + __builtin_ctz(after ? after : ready)];
    }
    if (running == 0) return nullptr;
    for (unsigned i = 1; i < warp_count; i++) {
        unsigned at = first + i < warp_count ? first + i : first + i - warp_count;
        if (warps[at].ready) return &threads[at * 32 + __builtin_ctz(warps[at].ready)];
    }
    fail("threads of a block of %s wait for each other: %u of %u at a barrier, others in a warp", kernel->name, at_barrier, running);
}

// Lets others run until the current thread is ready again.
void Runner::go_on() {
    Thread& self = *current;
    Thread* other = next();
    if (!other->stack) prepare(*other);
    // Mostly the thread beside it is next, on a stack that has been left for long enough to be far away.
    __builtin_prefetch(other[1].stack_pointer);
    __builtin_prefetch(static_cast<char*>(other[1].stack_pointer) + 64);
    current = other;
    emulated_switch(&self.stack_pointer, other->stack_pointer);
    threadIdx = self.index;
}

void Runner::complete(Warp& warp) {
    for (uint32_t absent = ~warp.arrived; absent; absent &= absent - 1) warp.operands[__builtin_ctz(absent)] = nullptr;
    warp.compute(warp.operands);
    warp.ready |= warp.arrived;
    warp.arrived = 0;
}

// What others wait for may have been that this thread comes or returns.
void Runner::finish(Thread& thread) {
    Warp& warp = warps[thread.number / 32];
    uint32_t bit = 1u << thread.number % 32;
    warp.running &= ~bit;
    warp.ready &= ~bit;
    running--;
    if (warp.arrived && warp.arrived == (warp.mask & warp.running)) complete(warp);
    if (running && at_barrier == running) {
        at_barrier = 0;
        for (unsigned i = 0; i < warp_count; i++) warps[i].ready = warps[i].running;
    }
}

// Runs the current thread, then on the same stack whatever other has not begun.
void Runner::main() {
    for (;;) {
        Thread& self = *current;
        threadIdx = self.index;
        kernel->call(arguments);
        if (std::memcmp(self.stack, &END_OF_STACK, sizeof END_OF_STACK) != 0) fail("%s needs more stack than there is", kernel->name);
        finish(self);
        Thread* other = next();
        if (other && !other->stack) {
            other->stack = self.stack;
            current = other;
            continue;
        }
        stacks.push_back(self.stack);  // taken by nobody before this is off it
        current = other;
        void* unused;
        emulated_switch(&unused, other ? other->stack_pointer : outside);
    }
}

void Runner::run(const Kernel& what, dim3 block, size_t shared_bytes, void* const* with) {
    kernel = &what;
    arguments = with;
    shared_size = shared_bytes;
    std::memset(shared.get(), 0xff, shared_bytes);
    running = block.x * block.y * block.z;
    warp_count = (running + 31) / 32;
    at_barrier = 0;
    for (unsigned i = 0; i < warp_count; i++) {
        uint32_t lanes = running - i * 32 >= 32 ? ~0u : (1u << (running - i * 32)) - 1;
        warps[i] = {lanes, lanes, 0, 0, nullptr, {}};
    }
    unsigned number = 0;
    for (unsigned z = 0; z < block.z; z++)
        for (unsigned y = 0; y < block.y; y++)
            for (unsigned x = 0; x < block.x; x++, number++) {
                Thread& thread = threads[number];
                thread.index = {x, y, z};
                thread.number = number;
                thread.stack = nullptr;
                thread.copies.clear();
                thread.groups.clear();
            }
    current = &threads[0];
    prepare(*current);
    emulated_switch(&outside, current->stack_pointer);
}

void barrier() {
    Runner& r = *runner;
    if (r.at_barrier + 1 == r.running) {
        r.at_barrier = 0;
        for (unsigned i = 0; i < r.warp_count; i++) r.warps[i].ready = r.warps[i].running;
        return;
    }
    r.at_barrier++;
    r.warps[r.current->number / 32].ready &= ~(1u << r.current->number % 32);
    r.go_on();
}

void meet(Meeting compute, void* operand, uint32_t mask) {
    Runner& r = *runner;
    unsigned lane = r.current->number % 32;
    Warp& warp = r.warps[r.current->number / 32];
    if (!warp.arrived) {
        warp.compute = compute;
        warp.mask = mask;
    } else if (warp.compute != compute || warp.mask != mask) {
        fail("lanes of a warp of %s meet in different places", r.kernel->name);
    }
    if (!(mask >> lane & 1)) fail("a lane of %s is not in its own mask", r.kernel->name);
    warp.operands[lane] = operand;
    warp.arrived |= 1u << lane;
    if (warp.arrived == (mask & warp.running)) return r.complete(warp);
    warp.ready &= ~(1u << lane);
    r.go_on();
}

char* dynamic_shared() { return runner->shared.get(); }

uint32_t shared_address(const void* pointer) {
    ptrdiff_t offset = static_cast<const char*>(pointer) - runner->shared.get();
    if (offset < 0 || size_t(offset) > runner->shared_size) fail("%s has no shared memory at an address", runner->kernel->name);
    return FIRST_SHARED_ADDRESS + uint32_t(offset);
}

void* shared_pointer(uint32_t address, size_t bytes) {
    size_t offset = size_t(address) - FIRST_SHARED_ADDRESS;
    if (address < FIRST_SHARED_ADDRESS || offset + bytes > runner->shared_size)
        fail("%s reaches outside of its %zu bytes of shared memory, at %zd", runner->kernel->name, runner->shared_size, offset);
    if (offset % bytes) fail("%s reads %zu bytes of shared memory at %zu, which is no multiple", runner->kernel->name, bytes, offset);
    return runner->shared.get() + offset;
}

void copy_later(uint32_t to, const void* from, bool there) {
    void* target = shared_pointer(to, 16);
    if (there && reinterpret_cast<uintptr_t>(from) % 16) fail("%s copies 16 bytes from no multiple of 16", runner->kernel->name);
    std::memset(target, 0xff, 16);  // nobody may read it until it has been waited for
    runner->current->copies.push_back({target, from, there});
}

void commit_copies() { runner->current->groups.push_back(runner->current->copies.size()); }

void wait_for_copies(size_t pending) {
    std::vector<size_t>& groups = runner->current->groups;
    std::vector<Copy>& copies = runner->current->copies;
    if (groups.size() <= pending) return;
    size_t done = groups.size() - pending, end = groups[done - 1];
    for (size_t i = 0; i < end; i++) {
        if (copies[i].there) std::memcpy(copies[i].to, copies[i].from, 16);
        else std::memset(copies[i].to, 0, 16);
    }
    copies.erase(copies.begin(), copies.begin() + end);
    groups.erase(groups.begin(), groups.begin() + done);
    for (size_t& group : groups) group -= end;
}

static std::map<std::string, Kernel>& kernels() {
    static std::map<std::string, Kernel> all;
    return all;
}

Register::Register(Kernel kernel) {
    if (!kernels().emplace(kernel.name, kernel).second) fail("two kernels are called %s", kernel.name);
}

const Kernel* find_kernel(const std::string& name) {
    auto found = kernels().find(name);
    return found == kernels().end() ? nullptr : &found->second;
}

// Threads of the operating system beside the caller's, asleep until there is something to do.
class Pool {
    std::mutex lock, one_at_a_time;
    std::condition_variable wake, done;
    std::function<void()> work;
    unsigned round = 0, busy = 0, size;

    void serve() {
        for (unsigned seen = 0;;) {
            std::unique_lock<std::mutex> hold(lock);
            wake.wait(hold, [&] { return round != seen; });
            seen = round;
            hold.unlock();
            work();
            hold.lock();
            if (--busy == 0) done.notify_one();
        }
    }

  public:
    Pool() {
        const char* asked = std::getenv("CUDA_EMULATOR_THREADS");
        size = asked ? std::max(1, std::atoi(asked)) : std::max(1u, std::thread::hardware_concurrency());
        for (unsigned i = 1; i < size; i++) std::thread([this] { serve(); }).detach();
    }

    // Calls `f` on every thread of the pool and on the caller's.
    void everywhere(const std::function<void()>& f) {
        std::lock_guard<std::mutex> alone(one_at_a_time);
        {
            std::lock_guard<std::mutex> hold(lock);
            work = f;
            round++;
            busy = size - 1;
        }
        wake.notify_all();
        f();
        std::unique_lock<std::mutex> hold(lock);
        done.wait(hold, [&] { return busy == 0; });
    }
};

static Pool& pool() {
    static Pool& pool = *new Pool;  // its threads outlive everything
    return pool;
}

void parallel(size_t count, const std::function<void(size_t)>& f) {
    std::atomic<size_t> next{0};
    auto work = [&] {
        for (size_t i; (i = next.fetch_add(1)) < count;) f(i);
    };
    if (count > 1) pool().everywhere(work);
    else work();
}

// Runners that nobody uses, with their stacks.
static std::vector<Runner*> idle;
static std::mutex idle_lock;

void run_grid(const Kernel& kernel, dim3 grid, dim3 block, size_t shared, void* const* arguments) {
    size_t blocks = size_t(grid.x) * grid.y * grid.z;
    std::atomic<size_t> next_block{0};
    auto work = [&] {
        size_t i = next_block.fetch_add(1);
        if (i >= blocks) return;
        {
            std::lock_guard<std::mutex> hold(idle_lock);
            runner = idle.empty() ? new Runner : idle.back();
            if (!idle.empty()) idle.pop_back();
        }
        gridDim = grid;
        blockDim = block;
        for (; i < blocks; i = next_block.fetch_add(1)) {
            blockIdx = {unsigned(i % grid.x), unsigned(i / grid.x % grid.y), unsigned(i / grid.x / grid.y)};
            runner->run(kernel, block, shared, arguments);
        }
        std::lock_guard<std::mutex> hold(idle_lock);
        idle.push_back(runner);
    };
    if (blocks > 1) pool().everywhere(work);
    else work();
}

}  // namespace emulated
