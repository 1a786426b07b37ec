// The primitives of compiler.cuh and reduce.cuh on arrays: a test compares them, host or device, with NumPy.
#include "compiler.cuh"
#include "reduce.cuh"

// out[k * n + i], k the position in the list below.
QE_KERNEL(256, primitives_f32)(u64 n, const f32 *a, const f32 *b, const f32 *c, f32 *out, i32 *whole, f64 *wide) {
    for (u64 i = thread_number(); i < n; i += thread_count()) {
        f32 x = a[i], y = b[i], z = c[i];
        f32 results[] = {
            mul_rn_f32(x, y), add_rn_f32(x, y), sub_rn_f32(x, y), div_rn_f32(x, y), fma_rn_f32(x, y, z),
            min_f32(x, y), max_f32(x, y), rint_f32(x), trunc_f32(x), floor_f32(x), ceil_f32(x),
            copysign_f32(x, y), neg_f32(x), lt_f32(x, y) ? 1.0f : 0.0f, le_f32(x, y) ? 1.0f : 0.0f,
            eq_f32(x, y) ? 1.0f : 0.0f, f64_to_f32(mul_rn_f64(f32_to_f64(x), 0.3)),
        };
        for (u32 k = 0; k < sizeof results / sizeof results[0]; ++k) out[k * n + i] = results[k];
        whole[i] = f32_to_i32_rn(x);
        whole[n + i] = f32_to_i32_rz(x);
        wide[i] = f32_to_f64(x);
    }
}

QE_KERNEL(256, primitives_f64)(u64 n, const f64 *a, const f64 *b, const f64 *c, f64 *out, i64 *whole) {
    for (u64 i = thread_number(); i < n; i += thread_count()) {
        f64 x = a[i], y = b[i], z = c[i];
        f64 results[] = {
            mul_rn_f64(x, y), add_rn_f64(x, y), sub_rn_f64(x, y), div_rn_f64(x, y), fma_rn_f64(x, y, z),
            min_f64(x, y), max_f64(x, y), rint_f64(x), trunc_f64(x), floor_f64(x), ceil_f64(x),
            copysign_f64(x, y), neg_f64(x), lt_f64(x, y) ? 1.0 : 0.0, le_f64(x, y) ? 1.0 : 0.0,
            eq_f64(x, y) ? 1.0 : 0.0,
        };
        for (u32 k = 0; k < sizeof results / sizeof results[0]; ++k) out[k * n + i] = results[k];
        whole[i] = f64_to_i32_rn(x);
        whole[n + i] = f64_to_i32_rz(x);
        whole[2 * n + i] = x == x ? f64_to_i64_rn(x) : 0;
        whole[3 * n + i] = x == x ? f64_to_i64_rz(x) : 0;
    }
}

QE_KERNEL(256, primitives_i32)(u64 n, const i32 *a, const i32 *b, i64 *out, f32 *single, f64 *real) {
    for (u64 i = thread_number(); i < n; i += thread_count()) {
        i32 x = a[i], y = b[i];
        u32 ux = (u32)x, uy = (u32)y;
        i64 v = mul_wide_i32(x, y);
        i64 results[] = {
            v, (i64)mul_wide_u32(ux, uy), (i64)mad_wide_u32(ux, uy, (u64)v), (i64)mul_high_u32(ux, uy),
            shift_right_i64(v, y & 63), shift_left_i64(v, y & 63),
            (i64)pack_saturated_i8(x, y, x >> 20, y >> 24),
            (i64)pack_low_bytes(ux, uy, ux >> 8, uy >> 8), (i64)pack_low_halves(ux, uy),
            (i64)sum_abs_difference(x, y, 7), (i64)dot_i8(ux, uy, x), (i64)leading_zeros_u32(ux),
            (i64)bit_count_u32(ux), clamp_i64(v, -1000, y), mad_wide_i32(x, y >> 1, x),
            (i64)add_wrap_i32(x, y), (i64)count_if_clear(ux, uy & 3, uy),
            (i64)shift_right_clamped_u32(ux, uy & 63), (i64)funnel_right_u32(ux, uy, uy), fused_mad_wide_i32(x, y >> 1, x),
            (i64)bit_select_u32(uy, ux, 0x12345678u), (i64)add_carry_of_u32(ux, uy, ux >> 1, 7),
        };
        for (u32 k = 0; k < sizeof results / sizeof results[0]; ++k) out[k * n + i] = results[k];
        single[i] = i32_to_f32(x);
        single[n + i] = u32_to_f32(ux);
        single[2 * n + i] = i64_to_f32(v);
        real[i] = i32_to_f64(x);
        real[n + i] = i64_to_f64(v);
        real[2 * n + i] = u64_to_f64((u64)v);
        real[3 * n + i] = u32_to_f64(ux);
    }
}

// Block k of the grid reduces elements k * blockDim.x ...; one row of results a block.
QE_BLOCK_KERNEL(1024, primitives_block)(const i64 *a, i64 *whole) {
    u64 i = thread_number();
    i64 sum = block_sum_i64(a[i]), sum_again = (i64)block_sum_u64((u64)a[i]);
    u32 odd = warp_ballot(a[i] & 1);
    if (threadIdx.x == 0) {
        i64 row[] = {sum, sum_again, (i64)odd};
        for (u32 k = 0; k < 3; ++k) whole[3 * (u64)blockIdx.x + k] = row[k];
    }
}

// Sixteen bytes at a time: loads and stores of n vectors.
QE_KERNEL(256, primitives_vectors)(u64 n, const i32 *a, const i64 *b, const f32 *c, const f64 *d, u32 *out) {
    for (u64 i = thread_number(); i < n; i += thread_count()) {
        i32x4 x = load_i32x4(a + 4 * i);
        i64x2 y = load_i64x2(b + 2 * i);
        f32x4 z = load_f32x4(c + 4 * i);
        f64x2 w = load_f64x2(d + 2 * i);
        u32x4 v = load_u32x4(a + 4 * i);
        u32 third = load_u32(a + 4 * i + 2) ^ load_u32x2(a + 4 * i + 2).x;  // nothing
        u32x4 r = {(u32)x.x ^ v.y, load_u32x2(a + 4 * i + 2).y ^ third, (u32)y.x, (u32)y.y};
        r.y ^= (u32)x.w ^ load_u32(a + 4 * i + 3);
        store_u32x4(out + 8 * i, r);
        store_u32x2(out + 8 * i + 4, {f32_bits(z.x), f32_bits(z.w)});
        store_u32(out + 8 * i + 6, (u32)f64_bits(w.x));
        store_u32(out + 8 * i + 7, (u32)(f64_bits(w.y) >> 32));
    }
}
