// Error statistics of many quantizers over tiles of a tensor: what one thread adds up, and how threads are combined.
//
// Sums are float64. Order is part of the definition: element j of a piece belongs to lane j / 4 % 32 of the warp that
// has the piece, a lane adds in the order of its elements, lanes are combined in a butterfly and pieces in their order.
// Nothing depends on the grid, on the processors or on which loads are wide.
//
// The fast loop (one scale for the piece, nearest codes, |code - zero point| <= 256) takes the code from float32:
// c = rint(x / s) of a float32 product may be off by one near ties, and is right wherever |x - c s| <= (1/2 - tolerance) s
// holds in float64 and c is between the last codes. Fours of elements with one that is not so (near a tie, clamped, not
// finite) are left to the convention's own arithmetic, which a second launch does. Then
//   float64 values: v = fl(c s), e = fl(x - v) are those of the definition. sum(v v) is s s sum(c c), each v being within
//     2**-53 of c s, and sum(c c) is exact in float32: 256 elements of c c <= 2**16 make 2**24 at most.
//   float32 values of float32 x: v is a float32 product. x and v are within a factor of two of one another (or c = 0
//     and e = x), so that e = x - v is exact in float32, and x - e is v exactly.
// The sum of e cancels, so it is a pair of float64: with the running sum started above every term, four additions keep
// all of it. An element and quantizer then costs 11.5 float64 operations (10.5 for float32 values), which at half rate
// are 23 of the 27.5 issue slots that the whole loop takes. float32 partial sums would cost half of that, and are not
// enough for a relative error of 1e-13.
#pragma once
#include "affine.cuh"
#include "compiler.cuh"
#include "formats.cuh"

#define QE_FIELDS 9
#define QE_SUM_E2 0
#define QE_SUM_CLIPPED_E2 1
#define QE_SUM_ABS 2
#define QE_MAX_ABS 3
#define QE_SUM_E_HIGH 4
#define QE_SUM_E_LOW 5
#define QE_SUM_X2 6
#define QE_SUM_VALUE2 7
#define QE_SUM_CROSS 8
#define QE_COUNTS 3
#define QE_COUNT 0
#define QE_COUNT_CLIPPED 1
#define QE_COUNT_OVERFLOWED 2
#define QE_ERROR_NUMBERS 3
#define QE_ERROR_STEP 0
#define QE_ERROR_OFFSET 1
#define QE_ERROR_TOLERANCE 2
#define QE_FAST_FLOAT64 1
#define QE_FAST_FLOAT32 2
#define QE_ERROR_LINEAR 256
#define QE_ERROR_OCTAVE 8
#define QE_ERROR_OCTAVES 40
#define QE_ERROR_SIDE (QE_ERROR_LINEAR + QE_ERROR_OCTAVE * QE_ERROR_OCTAVES)
#define QE_ERROR_BINS (2 * QE_ERROR_SIDE)
// Elements of a piece: 256 a lane.
#define QE_PIECE 8192
// Codes of a quantizer that are counted in shared memory; larger tables are counted where they are.
#define QE_SHARED_CODES 1024

// (high, low) += term: what the sum is rounded by goes to low, whatever the magnitudes.
struct Pair { f64 high, low; };
QE_DEVICE void add_exactly(Pair &p, f64 term) {
    f64 total = add_rn_f64(p.high, term), back = sub_rn_f64(total, p.high);
    f64 rest = add_rn_f64(sub_rn_f64(p.high, sub_rn_f64(total, back)), sub_rn_f64(term, back));
    p.high = total;
    p.low = add_rn_f64(p.low, rest);
}
// The same where |high| > |term| is known.
QE_DEVICE void add_below(Pair &p, f64 term) {
    f64 total = add_rn_f64(p.high, term);
    p.low = add_rn_f64(p.low, sub_rn_f64(term, sub_rn_f64(total, p.high)));
    p.high = total;
}

struct Sums {
    f64 e2, clipped_e2, abs, max, x2, value2, cross;
    Pair e;
    u32 count, clipped, overflowed;  // elements of a thread: at most 2**20
};
QE_DEVICE Sums no_sums() { return {0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, {0.0, 0.0}, 0, 0, 0}; }

// Bin of an error of u steps (no NaN): linear up to one step, then eight an octave; negative ones mirrored.
QE_DEVICE i32 error_bin(f64 u) {
    f64 size = min_f64(abs_f64(u), 0x1p41);
    i32 m;
    if (lt_f64(size, 1.0)) {
        m = f64_to_i32_rz(mul_rn_f64(size, 256.0));
    } else {  // 1 <= size <= 2**41: the three bits behind the leading one are the place in the octave
        i32 octave = (i32)(f64_bits(size) >> 52) - 1023;
        m = QE_ERROR_LINEAR + octave * QE_ERROR_OCTAVE + (i32)(f64_bits(size) >> 49 & 7);
        m = min_i32(m, QE_ERROR_SIDE - 1);
    }
    return lt_f64(u, 0.0) ? QE_ERROR_SIDE - 1 - m : QE_ERROR_SIDE + m;
}

// Where one quantizer's codes and errors are counted; `codes` and `bins` stand in shared memory where they are small,
// `far_codes` is the table of all blocks. Nothing is counted where `bins` is null.
struct Counters {
    u32 *codes, *bins;
    u64 *far_codes;
    f64 per_step;
};
QE_DEVICE void count(const Counters &c, u32 code, f64 e) {
    if (c.codes) atomicAdd(c.codes + code, 1u);
    else atomicAdd(c.far_codes + code, (u64)1);
    atomicAdd(c.bins + error_bin(mul_rn_f64(e, c.per_step)), 1u);
}

// One measured element. Squares may overflow to infinity: the caller refuses them.
QE_DEVICE void add_element(Sums &s, f64 x, Coded c, const Counters &counters) {
    if (!finite_f64(c.value)) {
        ++s.overflowed;
        return;
    }
    f64 e = sub_rn_f64(x, c.value), size = abs_f64(e);
    if (c.code < 0) {
        s.clipped_e2 = fma_rn_f64(e, e, s.clipped_e2);
        ++s.clipped;
    } else {
        s.e2 = fma_rn_f64(e, e, s.e2);
    }
    s.abs = add_rn_f64(s.abs, size);
    s.max = max_f64(s.max, size);
    add_exactly(s.e, e);
    s.x2 = fma_rn_f64(x, x, s.x2);
    s.value2 = fma_rn_f64(c.value, c.value, s.value2);
    s.cross = fma_rn_f64(x, c.value, s.cross);
    ++s.count;
    if (counters.bins) count(counters, (u32)(c.code < 0 ? -1 - c.code : c.code), e);
}

// One level of the butterfly after the other: all lanes end up with the same sums.
QE_DEVICE void combine_lanes(Sums &s) {
    QE_NO_UNROLL
    for (i32 mask = 16; mask > 0; mask >>= 1) {
        s.e2 = add_rn_f64(s.e2, shuffle_xor_f64(s.e2, mask));
        s.clipped_e2 = add_rn_f64(s.clipped_e2, shuffle_xor_f64(s.clipped_e2, mask));
        s.abs = add_rn_f64(s.abs, shuffle_xor_f64(s.abs, mask));
        s.max = max_f64(s.max, shuffle_xor_f64(s.max, mask));
        s.x2 = add_rn_f64(s.x2, shuffle_xor_f64(s.x2, mask));
        s.value2 = add_rn_f64(s.value2, shuffle_xor_f64(s.value2, mask));
        s.cross = add_rn_f64(s.cross, shuffle_xor_f64(s.cross, mask));
        f64 high = shuffle_xor_f64(s.e.high, mask), low = shuffle_xor_f64(s.e.low, mask);
        // Both partners take the same steps on the same two pairs, in one order: that of the lanes.
        Pair pair = lane_index() & (u32)mask ? Pair{high, low} : s.e;
        f64 term = lane_index() & (u32)mask ? s.e.high : high, rest = lane_index() & (u32)mask ? s.e.low : low;
        add_exactly(pair, term);
        pair.low = add_rn_f64(pair.low, rest);
        s.e = pair;
        s.count += shuffle_xor_u32(s.count, mask);
        s.clipped += shuffle_xor_u32(s.clipped, mask);
        s.overflowed += shuffle_xor_u32(s.overflowed, mask);
    }
}

QE_DEVICE void store_sums(const Sums &s, f64 *sums, u32 *counts) {
    sums[QE_SUM_E2] = s.e2;
    sums[QE_SUM_CLIPPED_E2] = s.clipped_e2;
    sums[QE_SUM_ABS] = s.abs;
    sums[QE_MAX_ABS] = s.max;
    sums[QE_SUM_E_HIGH] = s.e.high;
    sums[QE_SUM_E_LOW] = s.e.low;
    sums[QE_SUM_X2] = s.x2;
    sums[QE_SUM_VALUE2] = s.value2;
    sums[QE_SUM_CROSS] = s.cross;
    counts[QE_COUNT] = s.count;
    counts[QE_COUNT_CLIPPED] = s.clipped;
    counts[QE_COUNT_OVERFLOWED] = s.overflowed;
}

// Add what was left by the fast loop to what it stored: x * x and the number of elements are in there already.
QE_DEVICE void join(Sums s, f64 *sums, u32 *counts) {
    s.e2 = add_rn_f64(s.e2, sums[QE_SUM_E2]);
    s.abs = add_rn_f64(s.abs, sums[QE_SUM_ABS]);
    s.max = max_f64(s.max, sums[QE_MAX_ABS]);
    add_exactly(s.e, sums[QE_SUM_E_HIGH]);
    s.e.low = add_rn_f64(s.e.low, sums[QE_SUM_E_LOW]);
    s.x2 = sums[QE_SUM_X2];
    s.value2 = add_rn_f64(s.value2, sums[QE_SUM_VALUE2]);
    s.cross = add_rn_f64(s.cross, sums[QE_SUM_CROSS]);
    s.count = counts[QE_COUNT];
    store_sums(s, sums, counts);
}

QE_DEVICE f32 narrowed(f32 x) { return x; }
QE_DEVICE f32 narrowed(f64 x) { return f64_to_f32(x); }
template <class X> QE_DEVICE X infinite();
template <> QE_DEVICE f32 infinite<f32>() { return bits_f32(0x7f800000u); }
template <> QE_DEVICE f64 infinite<f64>() { return bits_f64(0x7ff0000000000000ull); }
QE_DEVICE bool is_finite(f32 x) { return finite_f32(x); }
QE_DEVICE bool is_finite(f64 x) { return finite_f64(x); }
QE_DEVICE f32 least(f32 a, f32 b) { return min_f32(a, b); }
QE_DEVICE f64 least(f64 a, f64 b) { return min_f64(a, b); }
QE_DEVICE f32 most(f32 a, f32 b) { return max_f32(a, b); }
QE_DEVICE f64 most(f64 a, f64 b) { return max_f64(a, b); }
template <class X> struct IsNarrow { static constexpr bool value = sizeof(X) == 4; };

// A quantizer as its rows say it, with the parameters of one element after the other.
struct AnyRule {
    const i64 *row, *layout, *format_row;
    const f64 *scales, *zero_points, *format_numbers;  // from its place on
    IntegerRule rule;
    bool format, narrow;
};
// 64-bit divisions take some hundred instructions: below 2**32 narrow ones do.
QE_DEVICE u64 parameters_of(u64 i, const i64 *layout) {
    if ((i | (u64)layout[0]) >> 32) return parameter_index(i, layout);
    u32 at = (u32)i, length = (u32)layout[0], row = at / length;
    u32 rows = layout[3] >> 32 ? 0 : (u32)layout[3], group = (u32)min_i64(layout[1], layout[0]);
    return (u64)(rows ? row % rows : row) * (u64)layout[2] + at % length / group;
}
QE_DEVICE Coded code_at(const AnyRule &r, f64 x, u64 index, u64 at) {
    if (r.format) return format_code_and_value(r.format_row, r.format_numbers, x, r.scales[at]);
    return integer_code_and_value(r.rule, x, r.narrow, r.scales[at], r.zero_points[at], index);
}
