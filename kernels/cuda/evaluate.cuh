// Every form of one pair: with the numbers of its channel (a slot), or with a multiplier of its own.
#pragma once
#include "compiler.cuh"
#include "requantize.cuh"

#define QE_FORM_FLOOR 0
#define QE_FORM_FLOAT32 1
#define QE_FORM_FLOAT64 2
#define QE_FORM_NESTED16 3

#define QE_MANTISSA_Q31 0
#define QE_MANTISSA_Q15_SATURATED 1
#define QE_MANTISSA_M15 2
#define QE_MANTISSA_M24 3
#define QE_MANTISSA_M24_LEFT7 4
#define QE_MANTISSA_Q8 5
#define QE_SHIFTS_ACCUMULATOR 1
#define QE_NUDGE_SATURATES 2

// A scheme, the same for all pairs; what follows `limited` is of drawn multipliers (channels have slots).
struct alignas(16) Scheme {
    i32 form;
    i32 away;             // float forms: half away from zero, else half to even
    i32 inside;           // float forms: the zero point before the rounding
    i32 row;              // of the slots
    i32 counted;          // whether this launch counts the pairs outside its domain
    i32 limited;          // float forms: a result outside int32 is outside the domain
    i32 mantissa, base, flags;
    i32 shift_low, shift_high;
    i32 low, high, z, add;  // bounds of the result; zero point; what is added behind the bounds
    i32 spare;
    f64 scale_low, scale_high;
    i64 bias[12];         // (hp, cp, hn, cn) for right, no and left shifts
};
static_assert(sizeof(Scheme) == 176, "no holes");

// A scheme's numbers for one channel.
struct alignas(16) Slot {
    i64 p, q;                     // floor: biases for x >= 0 and x < 0; float64: p has the bits of the scale
    i32 a, t;                     // floor and nested: mantissa and shift (exponent); float32: bits of the scale
    i32 domain_low, domain_high;  // closed; empty where the multiplier is outside the scheme's domain
    i32 low, high, z, add;
};
static_assert(sizeof(Slot) == 48, "three vectors");

QE_DEVICE Slot load_slot(const Slot *at) {
    const i32 *words = (const i32 *)at;
    i32x4 b = cached_i32x4(words), n = cached_i32x4(words + 4), e = cached_i32x4(words + 8);
    return {(i64)((u64)(u32)b.y << 32 | (u32)b.x), (i64)((u64)(u32)b.w << 32 | (u32)b.z),
            n.x, n.y, n.z, n.w, e.x, e.y, e.z, e.w};
}

// What is in the domain fits int32; of the rest the low word is as good as any.
QE_DEVICE i32 floor_slot(const Slot &c, i32 x) {
    return (i32)shift_right_i64(mad_wide_i32(c.a, x, x >= 0 ? c.p : c.q), c.t);
}

// Conversions saturate to int32, infinite products too.
template <class F> QE_DEVICE i32 round_drawn(F v, i32 away) { return away ? rounded<true>(v) : rounded<false>(v); }

QE_DEVICE f32 product_f32(i32 x, f32 scale, i32 inside, i32 z) {
    f32 v = mul_rn_f32(i32_to_f32(x), scale);
    return inside ? add_rn_f32(v, i32_to_f32(z)) : v;
}
QE_DEVICE f64 product_f64(i32 x, f64 scale, i32 inside, i32 z) {
    f64 v = mul_rn_f64(i32_to_f64(x), scale);
    return inside ? add_rn_f64(v, i32_to_f64(z)) : v;
}

// rndnu16 with its saturating zero point; the exponent lies in [-32, 16], so every step fits int64.
QE_DEVICE i32 nested16(i32 x, i32 mantissa, i32 exponent, i32 z) {
    i32 right = max_i32(-exponent, 0), left = max_i32(exponent, 0);
    i64 half = shift_left_i64(1, right) >> 1;
    i64 pre = shift_right_i64(shift_left_i64(x, left) + half, right);
    i32 y = ((i32)clamp_i64(pre, -32768, 32767) * mantissa + 16384) >> 15;
    return clamp_i32(y + z, -32768, 32767);
}

struct Output {
    i32 y;      // anything where the pair is outside the domain
    bool fits;
};

QE_DEVICE Output evaluate_slot(const Scheme &s, const Slot &c, i32 x) {
    i32 y;
    switch (s.form) {
    case QE_FORM_FLOOR: y = floor_slot(c, x); break;
    case QE_FORM_FLOAT32: y = round_drawn(product_f32(x, bits_f32((u32)c.a), s.inside, c.z), s.away); break;
    case QE_FORM_FLOAT64: y = round_drawn(product_f64(x, bits_f64((u64)c.p), s.inside, c.z), s.away); break;
    default: y = nested16(x, c.a, c.t, c.z);
    }
    return {add_wrap_i32(clamp_i32(y, c.low, c.high), c.add), x >= c.domain_low && x <= c.domain_high};
}

// ---- a multiplier a pair: positive normal reals

struct Multiplier {
    i32 value, exponent;
};

// Rounding to 31 bits inside the float64: a carry out of the fraction raises the exponent, where the fraction is 0.
QE_DEVICE Multiplier split_q31(f64 real) {
    u64 bits = f64_bits(real) + (1u << 21);
    u32 high = (u32)(bits >> 32);
    return {(i32)((funnel_right_u32((u32)bits, high, 22) & 0x3fffffffu) | 0x40000000u), (i32)(high >> 20) - 1022};
}

// QuantizeMultiplier: what would shift by more than 31 is flushed to (0, 0).
QE_DEVICE Multiplier flushed(const Multiplier &m) {
    return {m.exponent >= -31 ? m.value : 0, m.exponent >= -31 ? m.exponent : 0};
}

QE_DEVICE Multiplier split(f64 real, const Multiplier &q31, i32 code) {
    u32 single = f32_bits(f64_to_f32(real));
    i32 m24 = (i32)((single & 0x7fffffu) | 0x800000u), exponent = (i32)(single >> 23) - 126;
    switch (code) {
    case QE_MANTISSA_M24: return {m24, exponent};
    case QE_MANTISSA_M24_LEFT7: return {m24 << 7, exponent};
    case QE_MANTISSA_Q8:
        return {f64_to_i32_rn(min_f64(mul_rn_f64(f32_to_f64(bits_f32(single)), 256.0), 32768.0)), 0};
    case QE_MANTISSA_M15: {
        u64 bits = f64_bits(real) + (1ull << 37);
        return {(i32)((bits >> 38) & 0x3fffu) | 0x4000, (i32)(bits >> 52) - 1022};
    }
    case QE_MANTISSA_Q15_SATURATED:
        return {q31.value < 0x7fff0000 ? (q31.value + 0x8000) >> 16 : 0x7fff, q31.exponent};
    default: return q31;
    }
}

// t = base - e in [1, 62], |h| <= 2 and |c| <= 2**31 + 2**30: sums are modulo 2**64 as in the other wings, and only
// those of pairs outside the domain leave int64.
QE_DEVICE Output floor_drawn(const Scheme &s, i32 x, f64 real, const Multiplier &q31) {
    Multiplier m = split(real, q31, s.mantissa);
    bool fits;
    if (s.mantissa >= QE_MANTISSA_M24) {
        f64 single = f32_to_f64(f64_to_f32(real));
        fits = le_f64(s.scale_low, single) && lt_f64(single, s.scale_high);
    } else {
        fits = m.exponent >= s.shift_low && m.exponent <= s.shift_high;
    }
    i32 e = clamp_i32(m.exponent, s.base - 62, s.base - 1), t = s.base - e;
    const i64 *bias = s.bias + (e < 0 ? 0 : e == 0 ? 4 : 8) + (x >= 0 ? 0 : 2);
    i64 b = m.value ? add_wrap_i64(mul_wrap_i64(bias[0], shift_left_i64(1, t - 1)), bias[1]) : 0;
    i64 product = mul_wide_i32(m.value, x), y = shift_right_i64(add_wrap_i64(product, b), t);
    fits = fits && y >= QE_INT32_MIN && y <= QE_INT32_MAX;
    if (s.flags & QE_SHIFTS_ACCUMULATOR) {
        i32 left = max_i32(e, 0);
        fits = fits && x >= shift_right_i64(QE_INT32_MIN, left) && x <= shift_right_i64(QE_INT32_MAX, left);
    }
    if (s.flags & QE_NUDGE_SATURATES) {
        i64 nudge = e < 0 ? shift_left_i64(1, max_i32(-e - 1, 0)) : 0;
        fits = fits && add_wrap_i64(shift_right_i64(product, 31), nudge) <= QE_INT32_MAX;
    }
    return {(i32)clamp_i64(y, QE_INT32_MIN, QE_INT32_MAX), fits};
}

QE_DEVICE bool scale_fits(const Scheme &s, f64 scale) {
    return le_f64(s.scale_low, scale) && lt_f64(scale, s.scale_high);
}

QE_DEVICE Output float32_drawn(const Scheme &s, i32 x, f64 real) {
    f32 scale = f64_to_f32(real), v = product_f32(x, scale, s.inside, s.z);
    f32 r = s.away ? half_away_f32(v) : rint_f32(v);
    bool inside = le_f32(-2147483648.0f, r) && lt_f32(r, 2147483648.0f);
    return {f32_to_i32_rz(r), scale_fits(s, f32_to_f64(scale)) && (inside || !s.limited)};
}
QE_DEVICE Output float64_drawn(const Scheme &s, i32 x, f64 real) {
    f64 v = product_f64(x, real, s.inside, s.z), r = s.away ? half_away_f64(v) : rint_f64(v);
    bool inside = le_f64(-2147483648.0, r) && lt_f64(r, 2147483648.0);
    return {f64_to_i32_rz(r), scale_fits(s, real) && (inside || !s.limited)};
}

QE_DEVICE Output nested_drawn(const Scheme &s, i32 x, f64 real) {
    f32 single = f64_to_f32(real);
    u32 bits = f32_bits(single) + 256;  // rounds the 24-bit mantissa to 15 bits; a carry raises the exponent
    i32 exponent = clamp_i32((i32)(bits >> 23) - 126, -32, 16);
    return {nested16(x, (i32)((bits >> 9) & 0x3fffu) | 0x4000, exponent, s.z), scale_fits(s, f32_to_f64(single))};
}

QE_DEVICE Output evaluate_drawn(const Scheme &s, i32 x, f64 real, const Multiplier &q31) {
    Output out;
    switch (s.form) {
    case QE_FORM_FLOOR: out = floor_drawn(s, x, real, q31); break;
    case QE_FORM_FLOAT32: out = float32_drawn(s, x, real); break;
    case QE_FORM_FLOAT64: out = float64_drawn(s, x, real); break;
    default: out = nested_drawn(s, x, real);
    }
    return {add_wrap_i32(clamp_i32(out.y, s.low, s.high), s.add), out.fits};
}
