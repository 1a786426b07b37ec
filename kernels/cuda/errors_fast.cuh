// The fast loop of the error statistics: nearest codes with one scale for the piece (the proof: errors.cuh).
#pragma once
#include "compiler.cuh"
#include "errors.cuh"
#include "errors_pieces.cuh"

#define QE_TOGETHER 4  // fast quantizers of a block

struct FastRule {
    f64 scale, limit;     // |e| up to this is certain
    f32 inverse, single;  // the scale, where values are float32
    u32 lowest, span;     // the bits of 1.5 * 2**23 + qmin - zero point; qmax - qmin
};

struct FastSums {
    f64 e2, abs, max, cross, value2;
    Pair e;      // from the offset on
    f32 codes2;  // sum of squares of codes without their zero point
    u64 left;    // bit i: of the lane's i-th four elements, some are left to the convention's own arithmetic
};

// Adding this to a float32 |x / s| < 2**22 rounds it to the code, ties to even: the bits of the sum are those of the
// constant plus the code. Sums of larger numbers, infinities and NaN have bits far from these.
#define QE_ROUNDER_F32 12582912.0f
// The bits of 1.5 * 2**23, as the low word of a float64 whose unit is 1: 2**52 + those bits.
#define QE_ROUNDER_F64 (0x1p52 + 1262485504.0)

QE_DEVICE FastRule fast_rule(const Plan &plan, i32 k, u64 index) {
    u64 at = (u64)plan.places[k] + parameters_of(index, plan.layouts + 4 * (u64)k);
    const i64 *row = plan.rows + (u64)k * QE_AFFINE_ROW;
    f64 s = plan.scales[at], tolerance = plan.numbers[k * QE_ERROR_NUMBERS + QE_ERROR_TOLERANCE];
    f32 lowest = f64_to_f32(sub_rn_f64(i64_to_f64(row[QE_AFFINE_QMIN]), plan.zero_points[at]));  // at most 256 in size
    return {s, mul_rn_f64(s, sub_rn_f64(0.5, tolerance)), f64_to_f32(div_rn_f64(1.0, s)), f64_to_f32(s),
            f32_bits(add_rn_f32(QE_ROUNDER_F32, lowest)), (u32)(row[QE_AFFINE_QMAX] - row[QE_AFFINE_QMIN])};
}

struct Fast {
    f64 value, e;
    f32 code;    // without its zero point
    u32 index;   // of the code; above the span where x is clamped or not finite
};

// SINGLE: values are float32 products of float32 x. Right where the index is in the span and |e| within the limit.
template <bool SINGLE> QE_DEVICE Fast find(const FastRule &r, f64 wide, f32 narrow) {
    Fast f;
    f32 sum = fma_rn_f32(narrow, r.inverse, QE_ROUNDER_F32);
    f.code = sub_rn_f32(sum, QE_ROUNDER_F32);
    f.index = f32_bits(sum) - r.lowest;
    if (SINGLE) {
        f.e = f32_to_f64(sub_rn_f32(narrow, mul_rn_f32(f.code, r.single)));
        f.value = sub_rn_f64(wide, f.e);
    } else {
        f64 whole = sub_rn_f64(bits_f64((u64)0x43300000u << 32 | f32_bits(sum)), QE_ROUNDER_F64);
        f.value = mul_rn_f64(whole, r.scale);
        f.e = sub_rn_f64(wide, f.value);
    }
    return f;
}

// The four elements of a step together, if all are certain. Their |e| are numbers: a NaN or an infinity has no index.
template <bool SINGLE> QE_DEVICE bool add_four(FastSums &s, const FastRule &r, const Fast *f, const f64 *x) {
    f64 size[4];
    QE_UNROLL
    for (u32 j = 0; j < 4; ++j) size[j] = abs_f64(f[j].e);
    f64 a = size[0] > size[1] ? size[0] : size[1], b = size[2] > size[3] ? size[2] : size[3], largest = a > b ? a : b;
    u32 c = f[0].index > f[1].index ? f[0].index : f[1].index, d = f[2].index > f[3].index ? f[2].index : f[3].index;
    if ((c > d ? c : d) > r.span || largest > r.limit) return false;
    s.max = largest > s.max ? largest : s.max;
    QE_UNROLL
    for (u32 j = 0; j < 4; ++j) {
        s.e2 = fma_rn_f64(f[j].e, f[j].e, s.e2);
        s.abs = add_rn_f64(s.abs, size[j]);
        add_below(s.e, f[j].e);
        if (SINGLE) s.value2 = fma_rn_f64(f[j].value, f[j].value, s.value2);
        else s.codes2 = fma_rn_f32(f[j].code, f[j].code, s.codes2);
        s.cross = fma_rn_f64(x[j], f[j].value, s.cross);
    }
    return true;
}

// Above every sum of a lane's errors in the fast loop, 256 of half a step: a power of two, 2**9 to 2**10 steps.
QE_DEVICE f64 offset_of(f64 scale) {
    return bits_f64((f64_bits(scale) & 0x7ff0000000000000ull) + ((u64)10 << 52));
}

// What a lane found, without what it left.
template <bool SINGLE> QE_DEVICE Sums sums_of(const FastSums &f, const FastRule &r, f64 x2, u32 count) {
    f64 codes2 = mul_rn_f64(mul_rn_f64(r.scale, r.scale), f32_to_f64(f.codes2));
    // The difference is exact: both are multiples of the offset's unit.
    Sums s = {f.e2, 0.0, f.abs, f.max, x2, SINGLE ? f.value2 : codes2, f.cross,
              {sub_rn_f64(f.e.high, offset_of(r.scale)), f.e.low}, count, 0, 0};
    return s;
}

template <bool SINGLE, bool COUNTS, class X>
QE_DEVICE void fast(const Tiles &t, const X *x, const Plan &plan, u64 *left, i32 watches, f64 *sums, u32 *counts,
                    f64 *ends, const Tables &tables) {
    QE_SHARED u32 codes[COUNTS ? QE_TOGETHER : 1][COUNTS ? QE_SHARED_CODES : 1];
    QE_SHARED u32 bins[COUNTS ? QE_TOGETHER : 1][COUNTS ? QE_ERROR_BINS : 1];
    u32 lane = lane_index(), quads = ((u32)plan.served + QE_TOGETHER - 1) / QE_TOGETHER, quad = blockIdx.x % quads;
    u32 live = (u32)plan.served - quad * QE_TOGETHER;
    bool watching = watches && quad == 0;
    Counters counters[QE_TOGETHER];
    QE_UNROLL
    for (u32 q = 0; q < QE_TOGETHER; ++q) {
        counters[q] = {nullptr, nullptr, nullptr, 0.0};
        if (COUNTS && q < live) {
            counters[q] = counters_of(tables, plan, plan.which[quad * QE_TOGETHER + q], codes[q], bins[q]);
            clear_tables(codes[q], QE_SHARED_CODES);
            clear_tables(bins[q], QE_ERROR_BINS);
        }
    }
    u64 pieces = tiles_of(t) * t.per_tile, warps = blockDim.x / QE_WARP;
    u64 step = (u64)(gridDim.x / quads) * warps;
    QE_NO_UNROLL
    for (u64 number = (u64)(blockIdx.x / quads) * warps + threadIdx.x / QE_WARP; number < pieces; number += step) {
        Piece piece = piece_of(t, number);
        FastRule rules[QE_TOGETHER];
        FastSums s[QE_TOGETHER];
        f64 x2 = 0.0;
        u32 finite = 0;
        u64 bit = 1;
        X low = infinite<X>(), high = -infinite<X>();
        QE_UNROLL
        for (u32 q = 0; q < QE_TOGETHER; ++q) {
            i32 k = plan.which[quad * QE_TOGETHER + (q < live ? q : 0)];
            rules[q] = fast_rule(plan, k, piece.start);
            s[q] = {0.0, 0.0, 0.0, 0.0, 0.0, {offset_of(rules[q].scale), 0.0}, 0.0f, 0};
        }
        bool vectors = (u64)(x + (piece.start - t.first)) % 16 == 0;  // and so are steps of four elements
        QE_NO_UNROLL
        for (u64 i = piece.start + 4 * lane; i < piece.stop; i += 4 * QE_WARP, bit <<= 1) {
            X v[4];
            f64 wide[4];
            u32 m = piece.stop - i < 4 ? (u32)(piece.stop - i) : 4;
            load_elements(x + (i - t.first), vectors && m == 4, m, v);
            QE_UNROLL
            for (u32 j = 0; j < 4; ++j) {
                wide[j] = widened(v[j]);
                if (!is_finite(v[j])) continue;
                x2 = fma_rn_f64(wide[j], wide[j], x2);
                low = least(low, v[j]);
                high = most(high, v[j]);
                ++finite;
            }
            QE_UNROLL
            for (u32 q = 0; q < QE_TOGETHER; ++q) {
                if (q >= live) continue;
                Fast f[4];
                QE_UNROLL
                for (u32 j = 0; j < 4; ++j) f[j] = find<SINGLE>(rules[q], wide[j], narrowed(v[j]));
                if (!add_four<SINGLE>(s[q], rules[q], f, wide)) {
                    s[q].left |= bit;
                } else if (COUNTS) {
                    QE_UNROLL
                    for (u32 j = 0; j < 4; ++j) count(counters[q], f[j].index, f[j].e);
                }
            }
        }
        QE_UNROLL
        for (u32 q = 0; q < QE_TOGETHER; ++q) {
            if (q >= live) continue;
            u64 item = number * (u64)plan.quantizers + (u64)plan.which[quad * QE_TOGETHER + q];
            left[item * QE_WARP + lane] = s[q].left;
            Sums all = sums_of<SINGLE>(s[q], rules[q], x2, finite);
            combine_lanes(all);
            if (lane == 0) store_sums(all, sums + item * QE_FIELDS, counts + item * QE_COUNTS);
        }
        if (watching) {
            Ends e = {widened(low), widened(high)};
            combine_ends(e);
            if (lane == 0) {
                ends[2 * number] = e.low;
                ends[2 * number + 1] = e.high;
            }
        }
    }
    if (COUNTS) {
        __syncthreads();
        QE_UNROLL
        for (u32 q = 0; q < QE_TOGETHER; ++q) {
            if (q < live) drain(tables, plan.which[quad * QE_TOGETHER + q], counters[q]);
        }
    }
}
