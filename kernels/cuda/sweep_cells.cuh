// What a block of a sweep counts in shared memory: the cells of a couple of schemes, and the segment of pairs it takes.
//
// 32-bit integers hold it because a segment has fewer than 2**32 pairs. Only what is rare is counted where it happens:
// differences, and pairs outside a domain.
//
// Cells of a couple of schemes: the largest difference beyond 1; differences by size; by bin the pairs that are outside
// one of the two domains; by bin those that differ. (How many agree follows from the pairs of the bin.)
#pragma once
#include "compiler.cuh"
#include "draws.cuh"

#define QE_THREADS 256
#define QE_LIMIT 64                               // of differences counted one by one
#define QE_SIZES (2 * QE_LIMIT + 3)
#define QE_FIXED_CELLS (1 + QE_SIZES)
#define QE_MOST_CELLS 7424                        // 29 KiB
#define QE_MOST_SCHEMES 16
#define QE_MOST_BINS 128

QE_DEVICE void count_difference(u32 *cells, i32 first, i32 second) {
    i64 d = (i64)first - (i64)second;
    u64 size = (u64)(d < 0 ? -d : d);  // below 2**32
    atomicAdd(cells + 1 + (i32)clamp_i64(d, -QE_LIMIT - 1, QE_LIMIT + 1) + QE_LIMIT + 1, 1u);
    if (size > 1) atomicMax(cells, (u32)size);
}

QE_DEVICE void clear(u32 *cells, u32 count) {
    for (u32 k = threadIdx.x; k < count; k += blockDim.x) cells[k] = 0;
}

// Adds a segment's cells to the tile's; `width` cells a couple, in `found` how many pairs differ.
QE_DEVICE void deliver(const u32 *cells, u32 width, u32 couples, u64 *totals, u32 *found, u64 segments) {
    for (u32 k = threadIdx.x; k < width * couples; k += blockDim.x) {
        if (cells[k] == 0) continue;
        if (k % width == 0) atomicMax(totals + k, (u64)cells[k]);
        else atomicAdd(totals + k, (u64)cells[k]);
    }
    for (u32 c = threadIdx.x; c < couples; c += blockDim.x) {
        u32 sum = 0;
        for (u32 k = 0; k < QE_SIZES; ++k) sum += cells[c * width + 1 + k];
        found[c * segments] = sum;
    }
}

// Pairs of a segment: `first` is a multiple of the group.
struct Segment {
    u64 first, start, stop;
};
QE_DEVICE Segment segment_of(u64 start, u64 stop, u64 size, u64 number) {
    u64 first = start / QE_GROUP * QE_GROUP + number * size;
    u64 end = first + size;
    return {first, first < start ? start : first, end < stop ? end : stop};
}
