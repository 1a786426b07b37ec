// Reductions over the threads of a block, always in the same order: a butterfly in each warp, then the first warp over
// the warps' results. Every thread of the block calls them; thread 0 has the result. A block has at most 1024 threads,
// a multiple of 32.
#pragma once
#include "compiler.cuh"

#define QE_BLOCK_REDUCTION(name, type, shuffle, combine, identity) \
    QE_DEVICE type name(type v) { \
        QE_SHARED type warps[32]; \
        for (i32 mask = 16; mask > 0; mask >>= 1) { \
            type other = shuffle(v, mask); \
            v = combine(v, other); \
        } \
        __syncthreads(); /* a call before this one has been read */ \
        if (lane_index() == 0) warps[threadIdx.x / QE_WARP] = v; \
        __syncthreads(); \
        v = threadIdx.x < blockDim.x / QE_WARP ? warps[threadIdx.x] : (type)(identity); \
        for (i32 mask = 16; mask > 0; mask >>= 1) { \
            type other = shuffle(v, mask); \
            v = combine(v, other); \
        } \
        return v; \
    }

QE_DEVICE u64 add_u64(u64 a, u64 b) { return a + b; }

QE_BLOCK_REDUCTION(block_sum_u64, u64, shuffle_xor_u64, add_u64, 0)
QE_BLOCK_REDUCTION(block_sum_i64, i64, shuffle_xor_i64, add_wrap_i64, 0)
