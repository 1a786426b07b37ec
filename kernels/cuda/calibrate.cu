// Statistics for calibration: extremes of segments, counts of float32 keys, costs of candidate scales, magnitudes in bins.
//
// Samples are rows of `length`, each cut into segments of `group`, the last one of a row possibly shorter. A warp takes a
// piece of a segment. Counts and extremes are integers, so that atomics give one result in any order; sums of float64 go
// from lanes in a butterfly, and from pieces in their order.
#include "affine.cuh"
#include "compiler.cuh"

#define QE_PIECE 8192
#define QE_TOGETHER 8
#define QE_MOST_BINS 2048

struct Rows { u64 rows, length, group, pieces; };
struct Span { u64 start, stop, segment; };  // of the flat samples; empty where start >= stop

QE_DEVICE u64 segments_of(const Rows &r) { return r.rows * ((r.length + r.group - 1) / r.group); }
QE_DEVICE Span span_of(const Rows &r, u64 number) {
    u64 a_row = (r.length + r.group - 1) / r.group, segment = number / r.pieces, row = segment / a_row;
    u64 begin = segment % a_row * r.group, end = begin + r.group < r.length ? begin + r.group : r.length;
    u64 start = begin + number % r.pieces * QE_PIECE, stop = start + QE_PIECE < end ? start + QE_PIECE : end;
    return {row * r.length + start, row * r.length + stop, segment};
}

QE_DEVICE u64 warp_number() { return thread_number() / QE_WARP; }
QE_DEVICE u64 warp_count() { return thread_count() / QE_WARP; }

// Patterns of floats in the order of the reals: NaN beyond the infinities.
QE_DEVICE u32 ordered(f32 v) {
    u32 bits = f32_bits(v);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}
QE_DEVICE u64 ordered(f64 v) {
    u64 bits = f64_bits(v);
    return bits >> 63 ? ~bits : bits | 0x8000000000000000ull;
}
QE_DEVICE bool is_nan(f32 v) { return (f32_bits(v) & 0x7fffffffu) > 0x7f800000u; }
QE_DEVICE bool is_nan(f64 v) { return (f64_bits(v) & 0x7fffffffffffffffull) > 0x7ff0000000000000ull; }
QE_DEVICE u32 from_lane(u32 v, i32 mask) { return shuffle_xor_u32(v, mask); }
QE_DEVICE u64 from_lane(u64 v, i32 mask) { return shuffle_xor_u64(v, mask); }

// low starts at the largest key, high at 0: where they stay, there was nothing but NaN.
template <class X, class K> QE_DEVICE void extrema(const X *x, const Rows &r, i32 holes, K *low, K *high) {
    u64 work = segments_of(r) * r.pieces;
    QE_NO_UNROLL
    for (u64 number = warp_number(); number < work; number += warp_count()) {
        Span span = span_of(r, number);
        K least = ~(K)0, most = 0;
        QE_NO_UNROLL
        for (u64 i = span.start + lane_index(); i < span.stop; i += QE_WARP) {
            if (holes && is_nan(x[i])) continue;
            K key = ordered(x[i]);
            least = key < least ? key : least;
            most = key > most ? key : most;
        }
        for (i32 mask = 16; mask > 0; mask >>= 1) {
            K other = from_lane(least, mask);
            least = other < least ? other : least;
            other = from_lane(most, mask);
            most = other > most ? other : most;
        }
        if (lane_index() == 0 && span.start < span.stop) {
            atomicMin(low + span.segment, least);
            atomicMax(high + span.segment, most);
        }
    }
}
QE_BLOCK_KERNEL(256, extrema_f32)(
    const f32 *x, u64 rows, u64 length, u64 group, u64 pieces, i32 holes, u32 *low, u32 *high) {
    extrema(x, {rows, length, group, pieces}, holes, low, high);
}
QE_BLOCK_KERNEL(256, extrema_f64)(
    const f64 *x, u64 rows, u64 length, u64 group, u64 pieces, i32 holes, u64 *low, u64 *high) {
    extrema(x, {rows, length, group, pieces}, holes, low, high);
}

// The table is indexed by key. Equal samples that a thread meets one after the other are counted at once.
QE_KERNEL(256, count_keys)(u64 n, const f32 *x, i32 shift, u32 *table) {
    u32 half = (1u << shift) >> 1, key = 0, run = 0;
    for (u64 i = thread_number(); i < n; i += thread_count()) {
        u32 next = (f32_bits(x[i]) + half) >> shift;
        if (run && next != key) {
            atomicAdd(table + key, run);
            run = 0;
        }
        key = next;
        ++run;
    }
    if (run) atomicAdd(table + key, run);
}

// ---- costs of candidates: sum(w ((x - c s) u)**2), c = clamp(rint(x / s), qmin - z, qmax - z), w gamma where c clamps
struct Candidate { f64 scale, inverse, low, high; };

template <class X>
QE_DEVICE void costs(const X *x, const f64 *weight, const Rows &r, u64 candidates, const f64 *scales,
                     const f64 *zero_points, f64 qmin, f64 qmax, f64 gamma, const f64 *units, f64 *parts) {
    u64 turns = (candidates + QE_TOGETHER - 1) / QE_TOGETHER, work = segments_of(r) * r.pieces * turns;
    QE_NO_UNROLL
    for (u64 item = warp_number(); item < work; item += warp_count()) {
        u64 number = item / turns, first = item % turns * QE_TOGETHER;
        Span span = span_of(r, number);
        Candidate c[QE_TOGETHER];
        f64 cost[QE_TOGETHER], unit = units[span.segment];
        bool exact = sizeof(X) == 4;  // the quotients of float32 numbers without dividing
        QE_UNROLL
        for (u32 q = 0; q < QE_TOGETHER; ++q) {
            u64 at = span.segment * candidates + (first + q < candidates ? first + q : candidates - 1);
            f64 s = scales[at], z = zero_points[at];
            c[q] = {s, div_rn_f64(1.0, s), sub_rn_f64(qmin, z), sub_rn_f64(qmax, z)};
            exact = exact && lt_f64(0x1p-400, s) && lt_f64(s, 0x1p400);
            cost[q] = 0.0;
        }
        QE_NO_UNROLL
        for (u64 i = span.start + lane_index(); i < span.stop; i += QE_WARP) {
            if (is_nan(x[i])) continue;
            f64 v = widened(x[i]), w = weight ? weight[i] : 1.0;
            QE_UNROLL
            for (u32 q = 0; q < QE_TOGETHER; ++q) {
                f64 ratio = exact ? divided_by_inverse(v, c[q].scale, c[q].inverse) : div_rn_f64(v, c[q].scale);
                f64 whole = rint_f64(ratio), code = min_f64(max_f64(whole, c[q].low), c[q].high);
                f64 e = mul_rn_f64(sub_rn_f64(v, mul_rn_f64(code, c[q].scale)), unit);
                e = mul_rn_f64(e, e);
                if (!eq_f64(whole, code)) e = mul_rn_f64(gamma, e);
                cost[q] = add_rn_f64(cost[q], weight ? mul_rn_f64(e, w) : e);
            }
        }
        QE_UNROLL
        for (u32 q = 0; q < QE_TOGETHER; ++q) {
            QE_NO_UNROLL
            for (i32 mask = 16; mask > 0; mask >>= 1) cost[q] = add_rn_f64(cost[q], shuffle_xor_f64(cost[q], mask));
            if (lane_index() == 0 && first + q < candidates) parts[number * candidates + first + q] = cost[q];
        }
    }
}
QE_BLOCK_KERNEL(256, costs_f32)(
    const f32 *x, i32 weighted, const f64 *weight, u64 rows, u64 length, u64 group, u64 pieces, u64 candidates,
    const f64 *scales, const f64 *zero_points, f64 qmin, f64 qmax, f64 gamma, const f64 *units, f64 *parts) {
    costs(x, weighted ? weight : nullptr, {rows, length, group, pieces}, candidates, scales, zero_points, qmin, qmax,
          gamma, units, parts);
}
QE_BLOCK_KERNEL(256, costs_f64)(
    const f64 *x, i32 weighted, const f64 *weight, u64 rows, u64 length, u64 group, u64 pieces, u64 candidates,
    const f64 *scales, const f64 *zero_points, f64 qmin, f64 qmax, f64 gamma, const f64 *units, f64 *parts) {
    costs(x, weighted ? weight : nullptr, {rows, length, group, pieces}, candidates, scales, zero_points, qmin, qmax,
          gamma, units, parts);
}

// Adds to the costs of the samples before these, piece after piece.
QE_KERNEL(256, add_costs)(u64 segments, u64 pieces, u64 candidates, const f64 *parts, f64 *cost) {
    for (u64 i = thread_number(); i < segments * candidates; i += thread_count()) {
        u64 segment = i / candidates, k = i % candidates;
        f64 total = cost[i];
        for (u64 j = 0; j < pieces; ++j) total = add_rn_f64(total, parts[(segment * pieces + j) * candidates + k]);
        cost[i] = total;
    }
}

// From the first candidate on, one replaces the best before it only if its cost is below `margin` times that one's.
QE_KERNEL(256, choose)(u64 segments, u64 candidates, f64 margin, const f64 *cost, f64 *best, i64 *index) {
    for (u64 i = thread_number(); i < segments; i += thread_count()) {
        f64 least = best[i];
        i64 found = -1;
        for (u64 k = 0; k < candidates; ++k) {
            f64 one = cost[i * candidates + k];
            if (lt_f64(one, mul_rn_f64(least, margin))) {
                least = one;
                found = (i64)k;
            }
        }
        best[i] = least;
        index[i] = found;
    }
}

// ---- magnitudes in bins of amax / bins; the counts of a block stay below 2**32
template <class X> QE_DEVICE void magnitudes(u64 n, const X *x, f64 amax, u32 bins, u64 *table) {
    QE_SHARED u32 counts[QE_MOST_BINS];
    for (u32 i = threadIdx.x; i < bins; i += blockDim.x) counts[i] = 0;
    __syncthreads();
    for (u64 i = thread_number(); i < n; i += thread_count()) {
        if (is_nan(x[i])) continue;
        f64 place = mul_rn_f64(div_rn_f64(abs_f64(widened(x[i])), amax), u64_to_f64(bins));
        i32 bin = f64_to_i32_rz(place);
        atomicAdd(counts + ((u32)bin < bins ? (u32)bin : bins - 1), 1u);
    }
    __syncthreads();
    for (u32 i = threadIdx.x; i < bins; i += blockDim.x) {
        if (counts[i]) atomicAdd(table + i, (u64)counts[i]);
    }
}
QE_BLOCK_KERNEL(256, magnitudes_f32)(u64 n, const f32 *x, f64 amax, u32 bins, u64 *table) {
    magnitudes(n, x, amax, bins, table);
}
QE_BLOCK_KERNEL(256, magnitudes_f64)(u64 n, const f64 *x, f64 amax, u32 bins, u64 *table) {
    magnitudes(n, x, amax, bins, table);
}
