// The divergent accumulators of two schemes, multiplier by multiplier, over all mantissas of a range at one shift.
//
// A thread settles one multiplier at a time from the thresholds of all codes; each block writes what its multipliers
// have together: QE_TALLY numbers.
#include "evaluate.cuh"
#include "reduce.cuh"
#include "staircase.cuh"

#define QE_TALLY 4  // divergent, sum of B - A, multipliers with any divergence, the most of one (see `add`)

QE_DEVICE u64 max_u64(u64 a, u64 b) { return a > b ? a : b; }
QE_BLOCK_REDUCTION(block_max_u64, u64, shuffle_xor_u64, max_u64, 0)

// `most` is count * 2**31 + (2**31 - 1 - place): of equal counts the first place wins. Counts reach 2**32.
struct Tally {
    u64 divergent;
    i64 sum;
    u64 multipliers, most;
    QE_DEVICE void add(u64 place, u64 count, i64 gain) {
        divergent += count;
        sum += gain;
        multipliers += count > 0;
        most = max_u64(most, (count << 31) + (0x7fffffffu - place));
    }
    QE_DEVICE void write(u64 *out) const {
        u64 a = block_sum_u64(divergent), b = (u64)block_sum_i64(sum), c = block_sum_u64(multipliers);
        u64 d = block_max_u64(most);
        if (threadIdx.x == 0) {
            u64 *own = out + QE_TALLY * (u64)blockIdx.x;
            own[0] = a;
            own[1] = b;
            own[2] = c;
            own[3] = d;
        }
    }
};

// ---- two floor forms that share mantissa, shift and bounds, apart by |d| <= 2**t: |A - B| <= 1, so the count is the
// sum of the distances of their thresholds.

// v mod m and v / m for 0 <= v < 2**63, 2**30 <= m < 2**31: the float64 quotient is off by one at most.
struct Division {
    i64 quotient;
    u32 rest;
};
QE_DEVICE Division divide(i64 v, i64 m, f64 inverse) {
    i64 q = f64_to_i64_rz(mul_rn_f64(i64_to_f64(v), inverse)), rest = v - q * m;
    if (rest < 0) {
        q -= 1;
        rest += m;
    } else if (rest >= m) {
        q += 1;
        rest -= m;
    }
    return {q, (u32)rest};
}

// Residues of w, w + 2**t, w + 2 * 2**t ... modulo m, of which those below s are counted: four instructions a code.
// Both sums below are compared as numbers of 32 bits: without a carry the second one wraps above 2**32 - m > m.
QE_DEVICE u32 count_below(u32 residue, u32 step, u32 m, u32 s, u32 codes) {
    u32 count = 0, back = step - m, left = codes;
    QE_NO_UNROLL
    for (; left >= 16; left -= 16) {
        QE_UNROLL
        for (u32 j = 0; j < 16; ++j) {
            count += (residue - s) >> 31;
            u32 forward = residue + step, around = residue + back;
            residue = forward < around ? forward : around;
        }
    }
    QE_NO_UNROLL
    for (; left > 0; --left) {
        count += (residue - s) >> 31;
        u32 forward = residue + step, around = residue + back;
        residue = forward < around ? forward : around;
    }
    return count;
}

// One sign of the accumulators. F(r) = floor((r 2**t + c) / m), and F' with c - d: the sum over r of their distance,
// both clipped to [low, high]. m high + d + |c| < 2**63, -1 <= low <= high <= 2**31, 0 <= d <= 2**t.
struct Half {
    i64 c, d, low, high, first, last;  // closed range of r
};
QE_DEVICE i64 clipped_quotient(i64 w, i64 m, f64 inverse, const Half &h) {
    if (w < (h.low + 1) * m) return h.low;  // also where w is negative: low >= -1
    if (w >= h.high * m) return h.high;
    return divide(w, m, inverse).quotient;
}
QE_DEVICE i64 distance(const Half &h, i64 r, i32 t, i64 m, f64 inverse) {
    i64 w = shift_left_i64(r, t) + h.c;
    return clipped_quotient(w, m, inverse, h) - clipped_quotient(w - h.d, m, inverse, h);
}
QE_DEVICE i64 half_sum(const Half &h, i32 t, i64 m, f64 inverse, u32 step) {
    // F passes `low` from `begin` on, F' falls short of `high` up to `end`; from `inner` to `outer` neither is clipped.
    i64 begin = max_i64(h.first, -shift_right_i64(h.c - (h.low + 1) * m, t));
    i64 end = min_i64(h.last, shift_right_i64(h.high * m - 1 + h.d - h.c, t));
    i64 inner = max_i64(begin, -shift_right_i64(h.c - h.d - h.low * m, t));
    i64 outer = min_i64(end, shift_right_i64(h.high * m + (m - 1) - h.c, t));
    if (inner > outer) inner = outer = end + 1;  // none, or nothing at all
    i64 total = 0;
    QE_NO_UNROLL
    for (i64 r = begin; r < inner && r <= end; ++r) total += distance(h, r, t, m, inverse);
    if (inner <= end) {
        u32 codes = (u32)(outer - inner + 1);
        i64 w = shift_left_i64(inner, t) + h.c;  // from `begin` on not negative
        Division gap = divide(h.d, m, inverse), at = divide(w, m, inverse);
        total += (i64)codes * gap.quotient + count_below(at.rest, step, (u32)m, gap.rest, codes);
        QE_NO_UNROLL
        for (i64 r = outer + 1; r <= end; ++r) total += distance(h, r, t, m, inverse);
    }
    return total;
}

// halves: six numbers each for x >= 0 and x < 0, `Half`; signs: of B - A in either.
QE_BLOCK_KERNEL(128, census_like)(u64 size, i64 mantissa, i32 t, const i64 *halves, i32 sign_above, i32 sign_below,
                                  u64 *out) {
    Half above = {halves[0], halves[1], halves[2], halves[3], halves[4], halves[5]};
    Half below = {halves[6], halves[7], halves[8], halves[9], halves[10], halves[11]};
    Tally tally = {0, 0, 0, 0};
    for (u64 g = thread_number(); g < size; g += thread_count()) {
        i64 m = mantissa + (i64)g;
        f64 inverse = div_rn_f64(1.0, i64_to_f64(m));
        u32 step = divide(shift_left_i64(1, t), m, inverse).rest;
        i64 p = half_sum(above, t, m, inverse, step), n = half_sum(below, t, m, inverse, step);
        tally.add(g, (u64)(p + n), sign_above * p + sign_below * n);
    }
    tally.write(out);
}

// ---- any two schemes with thresholds

// What a scheme makes of every multiplier. Floor forms: which mantissa, and (hp, cp, hn, cn) for right, no, left shifts.
struct alignas(16) Family {
    i32 form, mantissa, base, spare;
    i64 low, high, z, shift;
    i64 bias[12];
};
static_assert(sizeof(Family) == 144, "no holes");

QE_DEVICE Stairs stairs_of(const Family &f, f64 real) {
    Stairs s;
    s.form = f.form;
    s.low = f.low;
    s.high = f.high;
    s.scale = real;
    s.a = s.bp = s.bn = 0;
    s.t = 0;
    if (f.form == QE_STAIRS_FLOOR) {
        Multiplier m = split(real, split_q31(real), f.mantissa);
        i32 e = m.exponent;
        const i64 *bias = f.bias + (e < 0 ? 0 : e == 0 ? 4 : 8);
        s.t = f.base - e;
        i64 half = shift_left_i64(1, s.t - 1);
        s.a = m.value;
        if (m.value) {
            s.bp = bias[0] * half + bias[1];
            s.bn = bias[2] * half + bias[3];
        }
    } else if (f.form == QE_STAIRS_FLOAT32) {
        s.scale = f32_to_f64(f64_to_f32(real));
    } else if (f.form == QE_STAIRS_NESTED16) {
        u32 bits = f32_bits(f64_to_f32(real)) + 256;  // rounds 24 bits to 15; a carry raises the exponent
        s.a = (i64)((bits >> 9) & 0x3fffu) | 0x4000;
        s.t = (i32)(bits >> 23) - 126;
        s.bp = f.z;
    }
    finish(s);
    return s;
}

// Mantissas from `mantissa` on, times 2**(shift - 31), which `unit` is. low, high: the accumulators, `own` = 1 if each
// multiplier has its own; boundaries: n of each scheme (read of float32 ones alone).
template <bool Floors>
QE_DEVICE void count_all(u64 size, i64 mantissa, f64 unit, const Family *families, const f64 *boundaries, i64 first,
                         u64 n, u64 own, const i64 *low, const i64 *high, u64 *out) {
    Tally tally = {0, 0, 0, 0};
    for (u64 g = thread_number(); g < size; g += thread_count()) {
        f64 real = mul_rn_f64(i64_to_f64(mantissa + (i64)g), unit);  // 31 bits: exact
        Stairs a = stairs_of(families[0], real), b = stairs_of(families[1], real);
        i64 bottom = low[own * g], stop = high[own * g] + 1, gain = 0;
        i64 r = first - families[0].shift, q = first - families[1].shift;
        Union sum = {0, bottom};
        QE_NO_UNROLL
        for (u64 i = 0; bottom < stop && i < n; ++i) {
            ++r;
            ++q;
            i64 x = Floors ? clamped_floor_threshold(a, r) : threshold(a, r, boundaries[i]);
            i64 y = Floors ? clamped_floor_threshold(b, q) : threshold(b, q, boundaries[n + i]);
            sum.add(x, y, stop);
            gain += clamp_i64(x, bottom, stop) - clamp_i64(y, bottom, stop);
        }
        tally.add(g, (u64)sum.total, gain);
    }
    tally.write(out);
}

QE_BLOCK_KERNEL(128, census_any)(u64 size, i64 mantissa, f64 unit, const Family *families, const f64 *boundaries,
                                 i64 first, u64 n, u64 own, const i64 *low, const i64 *high, u64 *out) {
    count_all<false>(size, mantissa, unit, families, boundaries, first, n, own, low, high, out);
}

// The same of two floor forms, which read no boundaries: a loop of a third of the length.
QE_BLOCK_KERNEL(128, census_floor)(u64 size, i64 mantissa, f64 unit, const Family *families, i64 first, u64 n, u64 own,
                                   const i64 *low, const i64 *high, u64 *out) {
    count_all<true>(size, mantissa, unit, families, nullptr, first, n, own, low, high, out);
}
