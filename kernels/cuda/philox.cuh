// Philox4x32-10, the counter-based generator of Salmon et al. (SC'11), in registers.
#pragma once
#include "compiler.cuh"

// The four words of the block with counter high:low:0:0. A block's words cost 18 wide products: one of the twenty
// multiplies a counter word that is zero, another `high`, which is the same for all threads where the caller keeps
// it so.
QE_DEVICE u32x4 philox_words(u32 low, u32 high, u32 key0, u32 key1) {
    u32 c0 = low, c1 = high, c2 = 0, c3 = 0, k0 = key0, k1 = key1;
    QE_UNROLL
    for (u32 round = 0; round < 10; ++round) {
        u64 p0 = mul_wide_u32(0xd2511f53u, c0), p1 = mul_wide_u32(0xcd9e8d57u, c2);
        c0 = (u32)(p1 >> 32) ^ c1 ^ k0;
        c1 = (u32)p1;
        c2 = (u32)(p0 >> 32) ^ c3 ^ k1;
        c3 = (u32)p0;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    return {c0, c1, c2, c3};
}

QE_DEVICE u32x4 philox_block(u64 block, u32 key0, u32 key1) {
    return philox_words((u32)block, (u32)(block >> 32), key0, key1);
}
