// Runs CUDA kernels on the host: blocks one after the other, the threads of a block in a chosen order. Threads of a
// QE_BLOCK_KERNEL are fibers that switch at barriers. Undefined behaviour that UBSan reports becomes the launch's error.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <cstddef>
#include <cstdio>
#include <cstring>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "compiler.cuh"

ThreadIndex threadIdx, blockIdx, blockDim, gridDim;

extern "C" void __ubsan_get_current_report_data(
    const char **kind, const char **message, const char **file, unsigned *line, unsigned *column, char **address);

namespace shim {

constexpr size_t STACK = 64 << 10;
constexpr u32 MOST_REPORTS = 8;
std::string reports, failure;
u32 reported = 0;

struct Barrier {
    u32 members = 0, arrived = 0;
    u64 generation = 0;
};

// A stack that runs one fiber after another, from block to block: contexts are made once, for they cost system calls;
// from then on a jump is enough.
struct Track {
    ucontext_t begin;
    jmp_buf place;
    bool begun = false;
    std::unique_ptr<char[]> stack{new char[STACK]};
};

struct Fiber {
    Track *track = nullptr;
    ThreadIndex index;
    Barrier *waits_for = nullptr;
    u64 generation = 0;
    u32 warp = 0, publications = 0;
    bool done = false;
};

struct Warp {
    Barrier barrier;
    u64 values[2][32] = {};  // two: a thread may publish again before the slowest has read
};

jmp_buf scheduler;
std::vector<std::unique_ptr<Track>> tracks;
std::vector<Fiber> fibers;
std::vector<Warp> warps;
Barrier block;
Fiber *running = nullptr;
void (*body)(void *) = nullptr;
void *body_data = nullptr;

inline void leave() {
    if (!_setjmp(running->track->place)) _longjmp(scheduler, 1);
}

inline void resume() {
    if (_setjmp(scheduler)) return;
    if (running->track->begun) _longjmp(running->track->place, 1);
    running->track->begun = true;
    setcontext(&running->track->begin);
}

inline void wait(Barrier &barrier) {
    if (!running) throw std::runtime_error("a QE_KERNEL waits for other threads: declare it QE_BLOCK_KERNEL");
    if (++barrier.arrived == barrier.members) {
        barrier.arrived = 0;
        ++barrier.generation;
        return;
    }
    running->waits_for = &barrier;
    running->generation = barrier.generation;
    leave();
    running->waits_for = nullptr;
}

inline void enter() {
    for (;;) {
        try {
            body(body_data);
        } catch (const std::exception &error) {
            failure = error.what();
        }
        running->done = true;
        leave();
    }
}

// Fiber after fiber as far as each can go; a round in which none moves is a deadlock.
inline void run_fibers(const std::vector<u32> &order) {
    for (u32 left = (u32)fibers.size(); left;) {
        bool moved = false;
        for (u32 k : order) {
            Fiber &fiber = fibers[k];
            if (fiber.done || (fiber.waits_for && fiber.generation == fiber.waits_for->generation)) continue;
            running = &fiber;
            threadIdx = fiber.index;
            resume();
            running = nullptr;
            moved = true;
            left -= fiber.done;
            if (!failure.empty()) return;
        }
        if (!moved) {
            failure = "deadlock: some threads of the block wait at a barrier that the others never reach";
            return;
        }
    }
}

// 0 forward, 1 backward, others a shuffle by that seed.
inline std::vector<u32> permutation(u64 count, u32 order, u64 salt) {
    std::vector<u32> result(count);
    std::iota(result.begin(), result.end(), 0u);
    if (order == 1) return {result.rbegin(), result.rend()};
    u64 state = order * 0x9e3779b97f4a7c15ull + salt;
    for (u64 i = count; order > 1 && i > 1; --i) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        std::swap(result[i - 1], result[(state >> 33) % i]);
    }
    return result;
}

inline ThreadIndex unravel(u64 k, ThreadIndex shape) {
    return {(u32)(k % shape.x), (u32)(k / shape.x % shape.y), (u32)(k / shape.x / shape.y)};
}

// `blocks` of the grid from number `first` on.
inline void run(bool cooperative, u32 order, u64 first, u64 blocks) {
    u64 threads = (u64)blockDim.x * blockDim.y * blockDim.z;
    for (u64 number : permutation(blocks, order, 1)) {
        blockIdx = unravel(first + number, gridDim);
        std::vector<u32> turn = permutation(threads, order, number);
        if (!cooperative) {
            for (u32 k : turn) {
                threadIdx = unravel(k, blockDim);
                body(body_data);
            }
            continue;
        }
        fibers.assign(threads, Fiber{});
        warps.assign((threads + 31) / 32, Warp{});
        block = Barrier{};
        block.members = (u32)threads;
        while (tracks.size() < threads) {
            Track &track = *tracks.emplace_back(new Track);
            getcontext(&track.begin);
            track.begin.uc_stack.ss_sp = track.stack.get();
            track.begin.uc_stack.ss_size = STACK;
            makecontext(&track.begin, enter, 0);
        }
        for (u32 k = 0; k < threads; ++k) {
            Fiber &fiber = fibers[k];
            fiber.track = tracks[k].get();
            fiber.index = unravel(k, blockDim);
            fiber.warp = k / 32;
            ++warps[fiber.warp].barrier.members;
        }
        run_fibers(turn);
        if (!failure.empty()) {
            tracks.clear();  // some stand in the middle of the block
            return;
        }
    }
}

template <class... A, size_t... I>
void call(void (*kernel)(A...), void **arguments, std::index_sequence<I...>) {
    kernel(*static_cast<A *>(arguments[I])...);
}

// Returns null, or what went wrong. `shape`: grid and block; `part`: first block and number of blocks to run.
// `arguments` are pointers to the parameters, as for cuLaunchKernel.
template <class... A>
const char *launch(void (*kernel)(A...), bool cooperative, const u32 *shape, const u64 *part, u32 order, u32 count,
                   void **arguments) {
    struct Call {
        void (*kernel)(A...);
        void **arguments;
    } data{kernel, arguments};
    gridDim = {shape[0], shape[1], shape[2]};
    blockDim = {shape[3], shape[4], shape[5]};
    reports.clear();
    failure.clear();
    reported = 0;
    running = nullptr;
    if (count != sizeof...(A)) return "wrong number of arguments";
    body_data = &data;
    body = [](void *p) {
        Call *c = static_cast<Call *>(p);
        call(c->kernel, c->arguments, std::index_sequence_for<A...>{});
    };
    try {
        run(cooperative, order, part[0], part[1]);
    } catch (const std::exception &error) {
        failure = error.what();
    }
    if (reported) failure += std::to_string(reported) + " reports of undefined behaviour:\n" + reports;
    return failure.empty() ? nullptr : failure.c_str();
}

}  // namespace shim

void __syncthreads() { shim::wait(shim::block); }

const u64 *host_publish(u64 value) {
    if (!shim::running) throw std::runtime_error("a QE_KERNEL asks its warp: declare it QE_BLOCK_KERNEL");
    shim::Fiber &fiber = *shim::running;
    shim::Warp &warp = shim::warps[fiber.warp];
    u64 *values = warp.values[fiber.publications++ & 1];
    values[(fiber.index.x + blockDim.x * (fiber.index.y + blockDim.y * fiber.index.z)) & 31] = value;
    shim::wait(warp.barrier);
    return values;
}

extern "C" void __ubsan_on_report() {
    if (++shim::reported > shim::MOST_REPORTS) return;
    const char *kind, *message, *file;
    unsigned line, column;
    char *address;
    __ubsan_get_current_report_data(&kind, &message, &file, &line, &column, &address);
    shim::reports += std::string(file) + ":" + std::to_string(line) + ": " + message + "\n";
}

#define QE_SHIM(name, cooperative) \
    extern "C" const char *launch_##name( \
        const u32 *shape, const u64 *part, u32 order, u32 count, void **arguments) { \
        return shim::launch(name, cooperative, shape, part, order, count, arguments); \
    }
