// A GPU emulated on the CPU, slowly and with open eyes: the words of scratchlstm/kernels/gpu.cuh, watched.
//
// Blocks run one after the other; the threads of a block are fibers, each running until it waits at a barrier. Every
// access to global or shared memory is checked: inside its array? written before it is read (shared)? and is there a
// barrier between it and another thread's access to the same word? For the last, each word of memory remembers who
// wrote and who read it last, and in which phase (the number of barriers passed). The first mistake ends the launch.

#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#define EMULATED_ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMULATED_ASAN
#endif
#endif
#ifdef EMULATED_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulated {

struct Index {
    unsigned x, y, z;
};

// ---- who touched a word of memory ----------------------------------------------------------------------------------

struct Access {
    uint32_t block = 0;       // number + 1; 0: nobody
    uint32_t thread = 0;      // number in its block
    uint32_t phase = 0;       // block-wide barriers passed
    uint32_t warp_phase = 0;  // barriers of its warp passed
};

struct Word {  // four bytes
    Access write, read, other_read;  // the last ones; other_read is of another thread than read
    uint32_t reading_block = 0;      // of the last read; EVERY where several blocks have read
    bool atomic = false;             // the last write
};

constexpr uint32_t EVERY = ~0u;

// ---- the launch ----------------------------------------------------------------------------------------------------

enum class State { RUNS, AT_BARRIER, AT_WARP_BARRIER, ENDED };

constexpr unsigned WARP = 32;
constexpr size_t STACK = 256 << 10, PAGE = 4096, STATIC_SHARED = 48 << 10;

struct Thread {
    ucontext_t context;
    Index index;
    unsigned number;
    State state;
    int line;           // of the barrier it waits at
    unsigned mask;      // of the warp barrier it waits at
    uint32_t warp_phase;
    uint64_t given[2];  // what it gives to a shuffle; two, as a fast lane may be one shuffle ahead of a slow one
    void* fake_stack;
};

struct Launch {
    Index grid, block, block_index;
    uint32_t block_number, phase;
    int barrier_line;  // of the last block-wide barrier
    std::vector<Thread> threads;
    Thread* current = nullptr;
    ucontext_t scheduler;
    std::function<void()> body;
    std::vector<uint64_t> shared;  // dynamic, then static arrays
    std::vector<Word> shared_words;
    size_t dynamic_bytes;
    std::map<int, size_t> static_arrays;  // where each begins
    std::unordered_map<uintptr_t, std::unique_ptr<Word[]>> pages;
    std::pair<uintptr_t, Word*> recent[64];
    std::string error;
    const void* main_stack = nullptr;
    size_t main_stack_size = 0;
};

static Launch* launch;
static std::vector<std::unique_ptr<char[]>> stacks;

inline std::string text(const char* format, ...) __attribute__((format(printf, 1, 2)));
inline std::string text(const char* format, ...) {
    char buffer[1024];
    va_list values;
    va_start(values, format);
    vsnprintf(buffer, sizeof buffer, format, values);
    va_end(values);
    return buffer;
}

inline std::string who(uint32_t number) {
    const Index& i = launch->threads[number].index;
    return text("thread (%u, %u, %u)", i.x, i.y, i.z);
}

inline void to_fiber(Thread& thread) {
    launch->current = &thread;
#ifdef EMULATED_ASAN
    void* fake_stack;
    __sanitizer_start_switch_fiber(&fake_stack, stacks[thread.number].get(), STACK);
#endif
    swapcontext(&launch->scheduler, &thread.context);
#ifdef EMULATED_ASAN
    __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

inline void to_scheduler() {
    Thread& thread = *launch->current;
#ifdef EMULATED_ASAN
    const bool ended = thread.state == State::ENDED;
    __sanitizer_start_switch_fiber(ended ? nullptr : &thread.fake_stack, launch->main_stack, launch->main_stack_size);
#endif
    swapcontext(&thread.context, &launch->scheduler);
#ifdef EMULATED_ASAN
    __sanitizer_finish_switch_fiber(thread.fake_stack, nullptr, nullptr);
#endif
}

// Ends the launch; called in a fiber, which is never entered again.
[[noreturn]] inline void fail(const std::string& what) {
    const Index& b = launch->block_index;
    launch->error = text("block (%u, %u, %u), ", b.x, b.y, b.z) + who(launch->current->number) + ": " + what;
    to_scheduler();
    __builtin_unreachable();
}

inline std::string since_barrier() {
    return launch->phase ? text("since the barrier in line %d", launch->barrier_line) : "since the kernel began";
}

// ---- races ---------------------------------------------------------------------------------------------------------

inline Access me() {
    const Thread& thread = *launch->current;
    return {launch->block_number + 1, thread.number, launch->phase, thread.warp_phase};
}

// Whether a barrier (or being the same thread) makes `before` come before an access of mine.
inline bool ordered(const Access& before, const Access& mine) {
    if (before.block == 0) return true;
    if (before.block != mine.block) return false;
    if (before.thread == mine.thread || before.phase != mine.phase) return true;
    return before.thread / WARP == mine.thread / WARP && before.warp_phase != mine.warp_phase;
}

[[noreturn]] inline void race(const std::string& place, const char* mine, const char* theirs, const Access& before) {
    const bool other_block = before.block != launch->block_number + 1;
    fail(place + " is " + mine + ", and " + theirs + " by " +
         (other_block ? text("block number %u, and blocks run in no order", before.block - 1)
                      : who(before.thread) + " " + since_barrier() + ": a barrier is missing between the two"));
}

template <typename Name>
void note_read(Word& word, Name place) {
    const Access mine = me();
    if (!ordered(word.write, mine)) race(place(), "read", "written", word.write);
    if (word.read.block != mine.block || word.read.thread != mine.thread) word.other_read = word.read;
    word.read = mine;
    word.reading_block = word.reading_block == 0 || word.reading_block == mine.block ? mine.block : EVERY;
}

template <typename Name>
void note_write(Word& word, Name place, bool atomic = false) {
    const Access mine = me();
    if (!(atomic && word.atomic) && !ordered(word.write, mine)) race(place(), "written", "also written", word.write);
    for (const Access& read : {word.read, word.other_read})
        if (!ordered(read, mine)) race(place(), "written", "read", read);
    if (word.reading_block == EVERY) fail(place() + " is written, and read by several blocks, which run in no order");
    word.write = mine;
    word.atomic = atomic;
}

inline Word* global_words(uintptr_t address) {
    const uintptr_t page = address / PAGE;
    auto& recent = launch->recent[page % 64];
    if (recent.first != page) {
        auto& words = launch->pages[page];
        if (!words) words.reset(new Word[PAGE / 4]);
        recent = {page, words.get()};
    }
    return recent.second + address % PAGE / 4;
}

// ---- memory --------------------------------------------------------------------------------------------------------

enum class Kind { GLOBAL, SHARED };

template <typename T, Kind kind>
class Watched;

// What p[i] gives where it may be written: reading and writing it are two things.
template <typename T, Kind kind>
class Element {
    Watched<T, kind> p;

  public:
    explicit Element(Watched<T, kind> p) : p(p) {}
    operator T() const { return p.load(); }
    T operator=(T value) const {
        p.store(value);
        return value;
    }
    T operator=(const Element& other) const { return *this = T(other); }
    T operator+=(T value) const { return *this = T(*this) + value; }
    T operator-=(T value) const { return *this = T(*this) - value; }
    T operator*=(T value) const { return *this = T(*this) * value; }
    T operator/=(T value) const { return *this = T(*this) / value; }
};

// A pointer that knows its array.
template <typename T, Kind kind>
class Watched {
    T *p = nullptr, *begin = nullptr, *end = nullptr;
    const char* name = "";

    template <typename, Kind>
    friend class Watched;

    std::string place() const { return text("%s[%td]", name, p - begin); }

    Word& word(const char* action) const {
        if (p < begin || p >= end)
            fail(begin ? place() + text(" is %s, but it has %td elements", action, end - begin)
                       : std::string(name) + " is " + action + ", but it is None");
        if (kind == Kind::GLOBAL) return *global_words(reinterpret_cast<uintptr_t>(p));
        const auto offset = reinterpret_cast<const char*>(p) - reinterpret_cast<const char*>(launch->shared.data());
        return launch->shared_words[static_cast<size_t>(offset) / 4];
    }

  public:
    Watched() = default;
    Watched(std::nullptr_t) {}
    Watched(T* begin, long long count, const char* name) : p(begin), begin(begin), end(begin + count), name(name) {}
    template <typename U, std::enable_if_t<std::is_same_v<const U, T>, int> = 0>
    Watched(const Watched<U, kind>& o) : p(o.p), begin(o.begin), end(o.end), name(o.name) {}

    T load() const {
        Word* words = &word("read");
        for (size_t k = 0; k < (sizeof(T) + 3) / 4; k++) {
            if (kind == Kind::SHARED && words[k].write.block == 0)
                fail(place() + " is read, but nobody has written it");
            note_read(words[k], [this] { return place(); });
        }
        return *p;
    }
    void store(T value) const {
        note_store();
        *p = value;
    }
    void note_store(bool atomic = false) const {
        static_assert(sizeof(T) % 4 == 0, "races are seen in words of four bytes: write float, double, int or long long");
        Word* words = &word("written");
        for (size_t k = 0; k < sizeof(T) / 4; k++)
            note_write(words[k], [this] { return place(); }, atomic);
    }
    template <typename F>
    T atomic(F change) const {
        note_store(true);
        const T old = *p;
        *p = change(old);
        return old;
    }
    void require_alignment(size_t bytes) const {
        if (reinterpret_cast<uintptr_t>(p) % bytes)
            fail(place() + text(" is accessed as four, but its address is no multiple of %zu bytes", bytes));
    }

    auto operator[](long long i) const {
        if constexpr (std::is_const_v<T>)
            return std::remove_const_t<T>((*this + i).load());
        else
            return Element<T, kind>(*this + i);
    }
    auto operator*() const { return (*this)[0]; }
    Watched operator+(long long n) const {
        Watched moved = *this;
        moved += n;
        return moved;
    }
    Watched operator-(long long n) const { return *this + -n; }
    Watched& operator+=(long long n) {
        p = reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(p) + static_cast<uintptr_t>(n) * sizeof(T));
        return *this;
    }
    Watched& operator-=(long long n) { return *this += -n; }
    explicit operator bool() const { return p != nullptr; }
};

template <typename T>
struct alignas(16) Four {
    T x, y, z, w;
};

template <typename T, Kind kind>
Four<std::remove_const_t<T>> load_four(Watched<T, kind> p) {
    p.require_alignment(16);
    return {p[0], p[1], p[2], p[3]};
}

template <typename T, Kind kind>
void store_four(Watched<T, kind> p, Four<T> value) {
    p.require_alignment(16);
    p[0] = value.x, p[1] = value.y, p[2] = value.z, p[3] = value.w;
}

template <typename T>
struct Pointer {
    T* address;
};

template <typename T>
Watched<T, Kind::GLOBAL> global_memory(Pointer<T> pointer, long long count) {
    return {pointer.address, count, "memory of a struct's pointer"};
}

template <typename T>
Watched<T, Kind::SHARED> shared_memory(long long start, long long count) {
    T* const begin = reinterpret_cast<T*>(launch->shared.data());
    if (start < 0 || count < 0 || static_cast<size_t>(start + count) * sizeof(T) > launch->dynamic_bytes)
        fail(text("shared memory from element %lld to %lld of %zu bytes each is asked for, but the launch has %zu bytes",
                  start, start + count, sizeof(T), launch->dynamic_bytes));
    return {begin + start, count, "shared memory"};
}

// More shared memory, that nobody has written; it stays where it is.
inline void grow_shared(size_t bytes) {
    launch->shared.resize(launch->shared.size() + (bytes + 15) / 16 * 2, ~uint64_t{0});
    launch->shared_words.resize(launch->shared.size() * 2);
}

template <typename T>
Watched<T, Kind::SHARED> static_shared(int id, long long count, const char* name) {
    auto found = launch->static_arrays.find(id);
    if (found == launch->static_arrays.end()) {
        found = launch->static_arrays.emplace(id, launch->shared.size() * 8).first;
        if (launch->shared.capacity() * 8 < found->second + static_cast<size_t>(count) * sizeof(T))
            fail(text("%s makes more than %zu bytes of static shared arrays", name, STATIC_SHARED));
        grow_shared(static_cast<size_t>(count) * sizeof(T));
    }
    char* const begin = reinterpret_cast<char*>(launch->shared.data()) + found->second;
    return {reinterpret_cast<T*>(begin), count, name};
}

// ---- barriers ------------------------------------------------------------------------------------------------------

inline void block_barrier(int line) {
    launch->current->state = State::AT_BARRIER;
    launch->current->line = line;
    to_scheduler();
}

inline unsigned lane() { return launch->current->number % WARP; }

inline void warp_barrier(int line, unsigned mask) {
    Thread& thread = *launch->current;
    if (!(mask >> lane() & 1)) fail(text("waits for its warp in line %d with a mask without itself", line));
    thread.state = State::AT_WARP_BARRIER;
    thread.line = line;
    thread.mask = mask;
    to_scheduler();
}

struct WarpBarrier {
    int line;
    void operator()(unsigned mask = ~0u) const { warp_barrier(line, mask); }
};

template <typename T>
T shuffle(int line, unsigned mask, T value, unsigned from) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8);
    Thread& thread = *launch->current;
    const unsigned turn = thread.warp_phase % 2;
    std::memcpy(&thread.given[turn], &value, sizeof(T));
    warp_barrier(line, mask);
    if (from >= WARP) return value;
    const unsigned number = thread.number / WARP * WARP + from;
    if (!(mask >> from & 1) || number >= launch->threads.size())
        fail(text("the shuffle in line %d reads lane %u, which takes no part in it", line, from));
    std::memcpy(&value, &launch->threads[number].given[turn], sizeof(T));
    return value;
}

// Let those lanes go on that wait for each other; whether there were any.
inline bool release_warps() {
    auto& threads = launch->threads;
    bool released = false;
    for (size_t first = 0; first < threads.size(); first += WARP) {
        const size_t lanes = std::min<size_t>(WARP, threads.size() - first);
        for (size_t k = 0; k < lanes; k++) {
            const Thread& waiting = threads[first + k];
            if (waiting.state != State::AT_WARP_BARRIER) continue;
            const unsigned mask = waiting.mask;
            const int line = waiting.line;
            uint32_t phase = 0;
            bool all = true;
            for (size_t l = 0; l < lanes; l++) {
                const Thread& other = threads[first + l];
                if (!(mask >> l & 1)) continue;
                all = all && other.state == State::AT_WARP_BARRIER && other.mask == mask && other.line == line;
                phase = std::max(phase, other.warp_phase);
            }
            if (!all) continue;
            released = true;
            for (size_t l = 0; l < lanes; l++)
                if (mask >> l & 1) threads[first + l].state = State::RUNS, threads[first + l].warp_phase = phase + 1;
        }
    }
    return released;
}

inline std::string describe(const Thread& thread) {
    const char* kind = thread.state == State::AT_BARRIER ? "at the barrier" : "for its warp";
    return who(thread.number) +
           (thread.state == State::ENDED ? " has ended" : text(" waits %s in line %d", kind, thread.line));
}

// Let all threads go on from one barrier, or say why they cannot.
inline void release_block() {
    const Thread& first = *std::find_if(launch->threads.begin(), launch->threads.end(),
                                        [](const Thread& thread) { return thread.state != State::ENDED; });
    for (const Thread& thread : launch->threads)
        if (thread.state != State::AT_BARRIER || thread.line != first.line) {
            const Thread& other = &thread == &first ? launch->threads[0] : thread;
            const Index& b = launch->block_index;
            launch->error = text("block (%u, %u, %u): ", b.x, b.y, b.z) + describe(first) + ", but " + describe(other) +
                            ": not all reach the same barrier";
            return;
        }
    launch->phase++;
    launch->barrier_line = first.line;
    for (Thread& thread : launch->threads) thread.state = State::RUNS;
}

// ---- running -------------------------------------------------------------------------------------------------------

inline void fiber() {
#ifdef EMULATED_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &launch->main_stack, &launch->main_stack_size);
#endif
    launch->body();
    launch->current->state = State::ENDED;
    to_scheduler();
}

inline void run_block() {
    launch->phase = 0;
    launch->static_arrays.clear();
    launch->shared.clear();
    launch->shared_words.clear();
    grow_shared(launch->dynamic_bytes);
    const Index& size = launch->block;
    for (Thread& thread : launch->threads) {
        const unsigned n = static_cast<unsigned>(&thread - launch->threads.data());
        thread.number = n;
        thread.index = {n % size.x, n / size.x % size.y, n / (size.x * size.y)};
        thread.state = State::RUNS;
        thread.warp_phase = 0;
        getcontext(&thread.context);
        thread.context.uc_stack.ss_sp = stacks[n].get();
        thread.context.uc_stack.ss_size = STACK;
        thread.context.uc_link = nullptr;
        makecontext(&thread.context, fiber, 0);
    }
    while (launch->error.empty()) {
        bool ended = true;
        for (Thread& thread : launch->threads) {
            if (thread.state == State::RUNS) to_fiber(thread);
            if (!launch->error.empty()) return;
            ended = ended && thread.state == State::ENDED;
        }
        if (ended) return;
        if (!release_warps()) release_block();
    }
}

// ---- arguments, as Python gives them -------------------------------------------------------------------------------

struct Argument {
    void* data;
    int64_t bytes;
    int32_t itemsize;
    char kind;   // 'a' array, 's' scalar, 'n' None
    char dtype;  // NumPy's letter: b i u f, V a struct
};

template <typename T>
std::string wrong_type(const Argument& argument) {
    const char expected = std::is_same_v<T, bool>             ? 'b'
                          : std::is_floating_point_v<T>       ? 'f'
                          : std::is_class_v<T>                ? 'V'
                          : std::is_unsigned_v<T>             ? 'u'
                                                              : 'i';
    if (argument.dtype == expected && argument.itemsize == static_cast<int>(sizeof(T))) return "";
    return text("has elements of dtype %c%d, but the kernel takes %c%zu", argument.dtype, argument.itemsize, expected,
                sizeof(T));
}

template <typename P>
struct Convert {  // a scalar or a struct, by value
    static std::string refuse(const Argument& argument) {
        return argument.kind == 's' ? wrong_type<P>(argument) : "is an array or None, but the kernel takes a number";
    }
    static P value(const Argument& argument, const char*) {
        P value;
        std::memcpy(&value, argument.data, sizeof value);
        return value;
    }
};

template <typename T>
struct Convert<Watched<T, Kind::GLOBAL>> {
    static std::string refuse(const Argument& argument) {
        if (argument.kind == 'n') return "";
        return argument.kind == 'a' ? wrong_type<std::remove_const_t<T>>(argument)
                                    : "is a number, but the kernel takes an array";
    }
    static Watched<T, Kind::GLOBAL> value(const Argument& argument, const char* name) {
        return {argument.kind == 'n' ? nullptr : static_cast<T*>(argument.data),
                argument.bytes / static_cast<int64_t>(sizeof(T)), name};
    }
};

struct Configuration {
    Index grid, block;
    int64_t shared_bytes;
};

template <typename... P, size_t... k>
std::string run(void (*kernel)(P...), const Configuration& configuration, const Argument* arguments,
                const char* const* names, std::index_sequence<k...>) {
    std::string refused;
    const std::string refusals[] = {Convert<P>::refuse(arguments[k])..., ""};
    for (size_t i = 0; i < sizeof...(P) && refused.empty(); i++)
        if (!refusals[i].empty()) refused = text("argument %zu, %s, ", i, names[i]) + refusals[i];
    if (!refused.empty()) return refused;
    auto state = std::make_unique<Launch>();
    launch = state.get();
    launch->grid = configuration.grid;
    launch->block = configuration.block;
    launch->dynamic_bytes = static_cast<size_t>(configuration.shared_bytes);
    launch->shared.reserve((launch->dynamic_bytes + STATIC_SHARED) / 8 + 2);  // never moves while a block runs
    launch->threads.resize(launch->block.x * launch->block.y * launch->block.z);
    while (stacks.size() < launch->threads.size()) stacks.emplace_back(new char[STACK]);
    const std::tuple<P...> values{Convert<P>::value(arguments[k], names[k])...};
    launch->body = [&] { std::apply(kernel, values); };
    const Index& grid = launch->grid;
    for (unsigned n = 0; n < grid.x * grid.y * grid.z && launch->error.empty(); n++) {
        launch->block_number = n;
        launch->block_index = {n % grid.x, n / grid.x % grid.y, n / (grid.x * grid.y)};
        run_block();
    }
    return launch->error;
}

// Runs a kernel; what went wrong, or "".
template <typename... P>
std::string run(void (*kernel)(P...), const Configuration& configuration, const Argument* arguments, int count,
                const char* const* names) {
    if (count != static_cast<int>(sizeof...(P)))
        return text("takes %zu arguments, but was launched with %d", sizeof...(P), count);
    return run(kernel, configuration, arguments, names, std::index_sequence_for<P...>{});
}

}  // namespace emulated

// ---- CUDA's words --------------------------------------------------------------------------------------------------

template <typename T> using Global = emulated::Watched<T, emulated::Kind::GLOBAL>;
template <typename T> using Shared = emulated::Watched<T, emulated::Kind::SHARED>;
using emulated::Four, emulated::global_memory, emulated::load_four, emulated::Pointer, emulated::shared_memory,
    emulated::store_four;
#define shared_array(T, name, count) const Shared<T> name = emulated::static_shared<T>(__COUNTER__, count, #name)

#define __global__ __attribute__((used))
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__

#define threadIdx (emulated::launch->current->index)
#define blockIdx (emulated::launch->block_index)
#define blockDim (emulated::launch->block)
#define gridDim (emulated::launch->grid)

#define __syncthreads() emulated::block_barrier(__LINE__)
#define __syncwarp emulated::WarpBarrier{__LINE__}
#define __shfl_sync(mask, value, from) emulated::shuffle(__LINE__, mask, value, from)
#define __shfl_down_sync(mask, value, by) emulated::shuffle(__LINE__, mask, value, emulated::lane() + (by))
#define __shfl_xor_sync(mask, value, by) emulated::shuffle(__LINE__, mask, value, emulated::lane() ^ (by))

template <typename T, emulated::Kind kind>
T atomicAdd(emulated::Watched<T, kind> p, T value) {
    return p.atomic([=](T old) { return old + value; });
}

template <typename T, emulated::Kind kind>
T atomicCAS(emulated::Watched<T, kind> p, T expected, T value) {
    return p.atomic([=](T old) { return old == expected ? value : old; });
}

using std::exp, std::fabs, std::fma, std::fmax, std::fmin, std::isfinite, std::log, std::log1p, std::max, std::min,
    std::sqrt, std::tanh;
inline float __expf(float x) { return std::exp(x); }
inline float __fdividef(float x, float y) { return x / y; }
