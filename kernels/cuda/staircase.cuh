// Thresholds of monotone schemes in closed form; proofs and bounds stand in kernels/cpu/staircase.py.
//
// The threshold of a result r is the least accumulator in [-2**31, 2**31] with a result of r or more: -2**31 is always,
// 2**31 never. Results lie within +-2**18.
#pragma once
#include "compiler.cuh"

#define QE_ALWAYS (-2147483648LL)
#define QE_NEVER 2147483648LL
#define QE_NUDGE 0x1p-50
#define QE_STAIRS_FLOOR 0
#define QE_STAIRS_FLOAT32 1
#define QE_STAIRS_FLOAT64 2
#define QE_STAIRS_NESTED16 3
#define QE_STAIRS_GIVEN 4

// One staircase: `low` and `high` bound its results, the rest is what its form needs.
struct Stairs {
    i32 form, t;                        // nested: t is the exponent
    i64 low, high;
    i64 a, bp, bn;                      // floor; nested: the mantissa and, in bp, the zero point
    i64 lowest, before, at, highest;    // floor: results at -2**31, -1, 0, 2**31 - 1
    f64 scale, inverse;                 // inverse: 1 / a, 1 / scale, or for float64 a little less than 1 / scale
};

// Fills in what follows from the other numbers; |a x + b| < 2**63.
QE_DEVICE void finish(Stairs &s) {
    if (s.form == QE_STAIRS_FLOOR) {
        s.lowest = shift_right_i64(s.a * QE_ALWAYS + s.bn, s.t);
        s.before = shift_right_i64(s.bn - s.a, s.t);
        s.at = shift_right_i64(s.bp, s.t);
        s.highest = shift_right_i64(s.a * (QE_NEVER - 1) + s.bp, s.t);
        s.inverse = div_rn_f64(1.0, i64_to_f64(s.a));
    } else {
        s.inverse = div_rn_f64(1.0, s.scale);
        if (s.form == QE_STAIRS_FLOAT64) s.inverse = mul_rn_f64(s.inverse, 1.0 - QE_NUDGE);
    }
}

// ceil(v / a) for |v| <= a 2**31 + 2**t: the float64 quotient is off by less than one, the exact rest tells which way.
QE_DEVICE i64 ceiling(const Stairs &s, i64 v) {
    i64 q = f64_to_i64_rn(ceil_f64(mul_rn_f64(i64_to_f64(v), s.inverse))), rest = q * s.a - v;
    return q + (rest < 0) - (rest >= s.a);
}

QE_DEVICE i64 floor_threshold(const Stairs &s, i64 r) {
    if (r <= s.lowest) return QE_ALWAYS;
    if (r > s.highest) return QE_NEVER;
    bool negative = r <= s.before;
    if (!negative && r <= s.at) return 0;
    return ceiling(s, shift_left_i64(r, s.t) - (negative ? s.bn : s.bp));
}

// Of a floor form with its bounds.
QE_DEVICE i64 clamped_floor_threshold(const Stairs &s, i64 r) {
    if (r <= s.low) return QE_ALWAYS;
    return r > s.high ? QE_NEVER : floor_threshold(s, r);
}

// Half the distance of a normal float32 number to its neighbour above (`up`) or below.
QE_DEVICE f64 half_gap(f64 h, bool up) {
    u64 bits = f64_bits(h);
    f64 gap = mul_rn_f64(bits_f64(bits & 0x7ff0000000000000ull), 0x1p-24);
    bool power = (bits & 0xfffffffffffffull) == 0;
    return power && lt_f64(h, 0.0) == up ? mul_rn_f64(0.5, gap) : gap;  // towards zero neighbours are twice as dense
}

// Boundary of the exact product f32(x) S at which a float32 scheme reaches the result r, nudged down where it belongs
// to r and up where it does not. 25 bits before the nudge.
QE_DEVICE f64 float32_boundary(bool away, bool inside, i64 z, i64 r) {
    f64 h = sub_rn_f64(i64_to_f64(r), 0.5);
    bool closed = away ? r > 0 : (r & 1) == 0;
    f64 m = closed ? sub_rn_f64(h, half_gap(h, false)) : add_rn_f64(h, half_gap(h, true));
    if (inside) {  // |m - z| > 0.49 bounds a float32 product
        f64 v = sub_rn_f64(m, i64_to_f64(z)), p = f32_to_f64(f64_to_f32(v));
        if (lt_f64(p, v) || (eq_f64(p, v) && !closed)) {
            u32 step = lt_f64(0.0, p) ? 1u : ~0u;
            p = f32_to_f64(bits_f32(f32_bits(f64_to_f32(p)) + step));
        }
        m = sub_rn_f64(p, half_gap(p, false));
        closed = (f32_bits(f64_to_f32(p)) & 1) == 0;
    }
    return mul_rn_f64(m, closed == lt_f64(0.0, m) ? 1.0 - QE_NUDGE : 1.0 + QE_NUDGE);
}

// Beyond 2**24 back from the float32 number to the least accumulator that rounds to it.
QE_DEVICE i64 float32_threshold(const Stairs &s, f64 boundary) {
    f64 w = mul_rn_f64(boundary, s.inverse);
    if (lt_f64(abs_f64(w), 16777216.0)) return f64_to_i32_rn(ceil_f64(w));
    w = min_f64(max_f64(w, -0x1p33), 0x1p33);
    f64 gap = max_f64(mul_rn_f64(bits_f64(f64_bits(w) & 0x7ff0000000000000ull), 0x1p-23), 1.0);
    f64 per_gap = bits_f64(0x7fe0000000000000ull - f64_bits(gap));  // the reciprocal of a power of two
    f64 count = ceil_f64(mul_rn_f64(w, per_gap)), x = mul_rn_f64(count, gap);
    f64 odd = sub_rn_f64(count, mul_rn_f64(2.0, floor_f64(mul_rn_f64(0.5, count))));
    if (lt_f64(1.0, gap)) x = sub_rn_f64(x, sub_rn_f64(mul_rn_f64(0.5, gap), odd));
    return clamp_i64(f64_to_i64_rn(x), QE_ALWAYS, QE_NEVER);
}

QE_DEVICE i64 float64_threshold(const Stairs &s, i64 r) {
    f64 h = sub_rn_f64(i64_to_f64(r), 0.5), size = abs_f64(h);
    f64 x = min_f64(ceil_f64(mul_rn_f64(size, s.inverse)), 0x1p32);
    if (lt_f64(mul_rn_f64(x, s.scale), size)) x = add_rn_f64(x, 1.0);
    if (lt_f64(h, 0.0)) x = sub_rn_f64(1.0, x);
    return clamp_i64(f64_to_i64_rn(x), QE_ALWAYS, QE_NEVER);
}

QE_DEVICE i64 nested16_threshold(const Stairs &s, i64 r) {
    i64 v = (r - s.bp) * 32768 - 16384;  // below 2**34: its float64 quotient by 15 bits has the right ceiling
    i64 p = f64_to_i64_rn(ceil_f64(div_rn_f64(i64_to_f64(v), i64_to_f64(s.a))));
    if (p <= -32768) return QE_ALWAYS;
    if (p > 32767) return QE_NEVER;
    i32 left = max_i32(s.t, 0), right = max_i32(-s.t, 0);
    i64 half = shift_left_i64(1, right) >> 1;
    return clamp_i64(-shift_right_i64(half - shift_left_i64(p, right), left), QE_ALWAYS, QE_NEVER);
}

// `boundary` is that of r, for float32 alone.
QE_DEVICE i64 threshold(const Stairs &s, i64 r, f64 boundary) {
    if (r <= s.low) return QE_ALWAYS;
    if (r > s.high) return QE_NEVER;
    switch (s.form) {
    case QE_STAIRS_FLOOR: return floor_threshold(s, r);
    case QE_STAIRS_FLOAT32: return float32_threshold(s, boundary);
    case QE_STAIRS_FLOAT64: return float64_threshold(s, r);
    default: return nested16_threshold(s, r);
    }
}

// The union of the intervals on which two staircases differ, code by code: each begins behind the greater threshold of
// the code before, `reached`.
struct Union {
    i64 total, reached;
    QE_DEVICE void add(i64 x, i64 y, i64 stop) {
        i64 upper = min_i64(max_i64(x, y), stop), lower = max_i64(min_i64(x, y), reached);
        total += max_i64(upper - lower, 0);
        reached = max_i64(reached, upper);
    }
};
