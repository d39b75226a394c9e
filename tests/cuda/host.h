// host: enough of CUDA for g++ to compile a .cu of kernels/ as it stands, and to run it on the CPU. For tests alone.
//
// One block at a time. The threads of a block are fibres: each runs until it comes to __syncthreads() or a warp shuffle,
// where it waits for the others of its block or warp. A thread that never comes is an error that says so, not a hang.
// `backwards` runs blocks and threads in the opposite order: a kernel whose result then changes by a single bit has a
// race; and one warp runs as far as it can alone before the next one begins. Under AddressSanitizer the fibres are announced to it, so that it knows which stack is which.
//
// It is not a model of a GPU's memory: what a real one reorders between two threads without a barrier is not shown.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>
#if defined(__x86_64__) && !defined(HOST_UCONTEXT)
#define HAND_WRITTEN_SWITCH
#else
#include <ucontext.h>
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#define __global__
#define __device__
#define __shared__ static  // one block runs at a time

using std::abs, std::cos, std::exp, std::expm1, std::lgamma, std::log, std::log1p, std::sin, std::sqrt, std::tanh;

struct dim3 {
    unsigned x, y, z;
};
static dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace host {

const unsigned WARP = 32, MOST = 1024;  // threads of a warp, and of a block at the most
const size_t STACK = 1 << 17;           // bytes for each fibre

enum State { READY, AT_BLOCK, AT_WARP, DONE };

struct Fibre {
    State state;
    unsigned shuffles;  // so far: the parity says which of two slots the next one uses
    char* stack;
#ifdef HAND_WRITTEN_SWITCH
    void* top;
#else
    ucontext_t context;
#endif
    void* fake_stack;
};

static Fibre fibres[MOST], scheduler;
static unsigned running, count;
static bool backwards;
static unsigned char slots[2][MOST][16];  // what the lanes of a shuffle hand to each other
static void (*body)(void*);
static void* body_argument;

#ifdef HAND_WRITTEN_SWITCH
// Keeps what the calling convention wants kept, and goes on where `to` stopped.
extern "C" __attribute__((visibility("hidden"))) void host_switch(void** from, void* to);
asm(R"(
    .text
    .hidden host_switch
    .globl host_switch
    .type host_switch, @function
host_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size host_switch, .-host_switch
)");
#endif

#ifdef __SANITIZE_ADDRESS__
static const void* main_bottom;  // of the stack that the scheduler runs on
static size_t main_size;
#endif

static void go(Fibre& from, Fibre& to, bool leaves) {
    (void)leaves;
#ifdef __SANITIZE_ADDRESS__
    const bool back = !to.stack;  // the scheduler's stack is none of ours
    __sanitizer_start_switch_fiber(
        leaves ? nullptr : &from.fake_stack, back ? main_bottom : to.stack, back ? main_size : STACK);
#endif
#ifdef HAND_WRITTEN_SWITCH
    host_switch(&from.top, to.top);
#else
    swapcontext(&from.context, &to.context);
#endif
#ifdef __SANITIZE_ADDRESS__
    const void* bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(from.fake_stack, &bottom, &size);
    if (from.stack) main_bottom = bottom, main_size = size;
#endif
}

static void enter() {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, &main_bottom, &main_size);
#endif
    body(body_argument);
    fibres[running].state = DONE;
    go(fibres[running], scheduler, true);
    abort();  // a fibre that is done is never gone on with
}

static void prepare(Fibre& fibre) {
    if (!fibre.stack) fibre.stack = static_cast<char*>(malloc(STACK));
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(fibre.stack, STACK);  // the frame that the last fibre here ended in never returned
#endif
    fibre.state = READY;
    fibre.shuffles = 0;
    fibre.fake_stack = nullptr;
#ifdef HAND_WRITTEN_SWITCH
    void** top = reinterpret_cast<void**>(fibre.stack + STACK);
    *--top = nullptr;                           // the stack is 16-byte aligned at a call: 8 off at the entry
    *--top = reinterpret_cast<void*>(&enter);   // where `ret` goes
    for (int kept = 0; kept < 6; ++kept) *--top = nullptr;
    fibre.top = top;
#else
    getcontext(&fibre.context);
    fibre.context.uc_stack.ss_sp = fibre.stack;
    fibre.context.uc_stack.ss_size = STACK;
    fibre.context.uc_link = nullptr;
    makecontext(&fibre.context, enter, 0);
#endif
}

static void wait(State where) {
    fibres[running].state = where;
    const dim3 mine = threadIdx;
    go(fibres[running], scheduler, false);
    threadIdx = mine;
}

// Lets the threads first … last − 1 go on if all of them wait at `where`.
static bool release(State where, unsigned first, unsigned last) {
    for (unsigned t = first; t < last; ++t)
        if (fibres[t].state != where) return false;
    for (unsigned t = first; t < last; ++t) fibres[t].state = READY;
    return true;
}

// Each warp runs as far as it can alone before the next one does: what only another's slowness would keep in order breaks.
static const char* run_block() {
    for (unsigned t = 0; t < count; ++t) prepare(fibres[t]);
    do {
        for (unsigned turn = 0; turn < count; turn += WARP) {
            const unsigned first = backwards ? count - WARP - turn : turn;
            do {
                for (unsigned lane = 0; lane < WARP; ++lane) {
                    const unsigned t = first + (backwards ? WARP - 1 - lane : lane);
                    if (fibres[t].state != READY) continue;
                    running = t;
                    threadIdx = {t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y};
                    go(scheduler, fibres[t], false);
                }
            } while (release(AT_WARP, first, first + WARP));
        }
    } while (release(AT_BLOCK, 0, count));
    for (unsigned t = 0; t < count; ++t)
        if (fibres[t].state != DONE) return "a thread waits at a barrier or a shuffle to which others never come";
    return nullptr;
}

static const char* run(const unsigned* grid, const unsigned* block, bool backwards_) {
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    count = block[0] * block[1] * block[2];
    backwards = backwards_;
    if (count == 0 || count > MOST || count % WARP) return "a block must have 32, 64 … 1024 threads";
    const size_t blocks = (size_t)grid[0] * grid[1] * grid[2];
    if (blocks == 0) return "a grid must have at least one block";
    for (size_t turn = 0; turn < blocks; ++turn) {
        const size_t b = backwards ? blocks - 1 - turn : turn;
        blockIdx = {unsigned(b % grid[0]), unsigned(b / grid[0] % grid[1]), unsigned(b / grid[0] / grid[1])};
        if (const char* wrong = run_block()) return wrong;
    }
    return nullptr;
}

template <class T>
T exchange(T x, unsigned lane_of_other) {
    static_assert(sizeof(T) <= 16, "a shuffle moves at most 16 bytes here");
    const unsigned mine = running, parity = fibres[mine].shuffles++ % 2;
    memcpy(slots[parity][mine], &x, sizeof(T));
    wait(AT_WARP);
    memcpy(&x, slots[parity][mine / WARP * WARP + lane_of_other], sizeof(T));
    return x;
}

// ---- calling a kernel with arguments as CUDA's own launch takes them: an array of pointers -----------------------

template <class... A>
struct Call {
    void (*kernel)(A...);
    void** arguments;
    template <size_t... I>
    void unpack(std::index_sequence<I...>) {
        kernel(*static_cast<A*>(arguments[I])...);
    }
};

template <class... A>
const char* launch(void (*kernel)(A...), void** arguments, const unsigned* grid, const unsigned* block, bool backwards_) {
    Call<A...> call = {kernel, arguments};
    body = [](void* it) { static_cast<Call<A...>*>(it)->unpack(std::index_sequence_for<A...>()); };
    body_argument = &call;
    return run(grid, block, backwards_);
}

// The type of a parameter as a letter of Python's struct module; a pointer with a star; anything else by its size.
template <class T>
struct Letter {
    static constexpr char star = '=', letter = char('0' + sizeof(T) / 8);
};
template <class T>
struct Letter<T*> {
    static constexpr char star = '*', letter = Letter<std::remove_cv_t<T>>::letter;
};
#define LETTER(type, code)                            \
    template <>                                       \
    struct Letter<type> {                             \
        static constexpr char star = ' ', letter = code; \
    };
LETTER(unsigned char, 'B')
LETTER(int, 'i')
LETTER(unsigned, 'I')
LETTER(long long, 'q')
LETTER(unsigned long long, 'Q')
LETTER(float, 'f')
LETTER(double, 'd')

template <class... A>
const char* signature(void (*)(A...)) {
    static const char letters[] = {Letter<A>::star..., Letter<A>::letter..., 0};
    return letters;
}

}  // namespace host

inline void __syncthreads() { host::wait(host::AT_BLOCK); }

template <class T>
T __shfl_xor_sync(unsigned mask, T x, int step) {
    if (mask != 0xffffffff) abort();
    return host::exchange(x, (host::running % host::WARP) ^ step);
}

// sin πx and cos πx, quarter turns taken out exactly.
inline void sincospi(double x, double* sine, double* cosine) {
    const double quarter = std::floor(2 * x + 0.5), angle = 3.14159265358979323846 * (x - quarter / 2);
    const double s = sin(angle), c = cos(angle);
    switch ((long long)quarter & 3) {
        case 0: *sine = s, *cosine = c; break;
        case 1: *sine = c, *cosine = -s; break;
        case 2: *sine = -s, *cosine = -c; break;
        default: *sine = -c, *cosine = s;
    }
}

inline float __fdividef(float a, float b) { return a / b; }

inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((unsigned long long)a * b >> 32); }

inline unsigned long long atomicAdd(unsigned long long* at, unsigned long long x) {
    const unsigned long long before = *at;
    *at += x;
    return before;
}

// What a test calls, for each kernel of the file.
#define HOST_KERNEL(name)                                                                                       \
    extern "C" const char* host_signature_##name() { return host::signature(name); }                            \
    extern "C" const char* host_launch_##name(void** arguments, const unsigned* grid, const unsigned* block, bool b) { \
        return host::launch(name, arguments, grid, block, b);                                                   \
    }
