// Requantization of one accumulator by each normal form. The numbers of a channel stand in one record of 48 bytes, read
// in vectors of 16; requantize.py beside this file writes them. The domain is checked before: see the ranges.
#pragma once
#include "compiler.cuh"

struct alignas(16) Channel {
    i64 p, q;                // floor: biases for x >= 0 and x < 0; float: scale and top (bits of a float64)
    i32 a, t;                // floor and nested: mantissa and shift (exponent); float32: bits of the scale
    i32 low, high;           // bounds before the zero point
    i32 zero_point;
    i32 spare[3];
};
static_assert(sizeof(Channel) == 48, "three vectors");

// The same for every channel.
struct Epilogue {
    i32 rule;        // codes below
    i32 qmin, qmax;  // clamp after the zero point, on wrap-around and in the nested form
};

#define QE_RULE_FLOOR 0
#define QE_RULE_FLOOR_WRAPPED 1
#define QE_RULE_NESTED16 2
// Float rules: 8 + 1 for float64 + 2 for half away from zero + 4 for the zero point inside + 8 on wrap-around.
#define QE_RULE_FLOAT 16
#define QE_RULE_FLOAT64 1
#define QE_RULE_HALF_AWAY 2
#define QE_RULE_INSIDE 4
#define QE_RULE_WRAPPED 8

QE_DEVICE Channel load_channel(const Channel *at) {
    const i32 *words = (const i32 *)at;
    i32x4 b = cached_i32x4(words), n = cached_i32x4(words + 4);
    return {(i64)((u64)(u32)b.y << 32 | (u32)b.x), (i64)((u64)(u32)b.w << 32 | (u32)b.z),
            n.x, n.y, n.z, n.w, cached_i32(words + 8), {0, 0, 0}};
}

// floor((a x + b) / 2**t): 0 <= a < 2**31, |b| <= 2**62, 1 <= t <= 62, so |a x + b| < 2**63. The low word.
QE_DEVICE i32 floor_form(const Channel &c, i32 x) {
    return (i32)shift_right_i64(mad_wide_i32(c.a, x, x >= 0 ? c.p : c.q), c.t);
}
// int64 accumulators have 48 bits where a < 2**15, else 32: |a x| <= 2**62 all the same.
QE_DEVICE i32 floor_form(const Channel &c, i64 x) {
    return (i32)shift_right_i64(add_wrap_i64(mul_wrap_i64(c.a, x), x >= 0 ? c.p : c.q), c.t);
}

// The results of the domain fit int32, with the zero point too.
template <class X> QE_DEVICE i32 requantize_floor(const Channel &c, X x) {
    return clamp_i32(floor_form(c, x), c.low, c.high) + c.zero_point;
}

// What the originals do on overflow: the result and the sum with the zero point modulo 2**32 (x << e was done before).
template <class X> QE_DEVICE i32 requantize_floor_wrapped(const Channel &c, const Epilogue &e, X x) {
    return clamp_i32(add_wrap_i32(clamp_i32(floor_form(c, x), c.low, c.high), c.zero_point), e.qmin, e.qmax);
}

QE_DEVICE f32 to_f32(i32 x) { return i32_to_f32(x); }
QE_DEVICE f32 to_f32(i64 x) { return i64_to_f32(x); }
QE_DEVICE f64 to_f64(i32 x) { return i32_to_f64(x); }
QE_DEVICE f64 to_f64(i64 x) { return i64_to_f64(x); }

// Half away from zero; v - trunc(v) is exact.
QE_DEVICE f32 half_away_f32(f32 v) {
    f32 whole = trunc_f32(v);
    return le_f32(0.5f, abs_f32(sub_rn_f32(v, whole))) ? add_rn_f32(whole, copysign_f32(1.0f, v)) : whole;
}
QE_DEVICE f64 half_away_f64(f64 v) {
    f64 whole = trunc_f64(v);
    return le_f64(0.5, abs_f64(sub_rn_f64(v, whole))) ? add_rn_f64(whole, copysign_f64(1.0, v)) : whole;
}
template <bool AWAY> QE_DEVICE i32 rounded(f32 v) { return AWAY ? f32_to_i32_rz(half_away_f32(v)) : f32_to_i32_rn(v); }
template <bool AWAY> QE_DEVICE i32 rounded(f64 v) { return AWAY ? f64_to_i32_rz(half_away_f64(v)) : f64_to_i32_rn(v); }

// The conversion to int32 saturates, infinite products too, and the bounds lie inside int32: clamping behind it is exact.
template <bool AWAY, class X> QE_DEVICE i32 requantize_f32(const Channel &c, X x) {
    f32 v = mul_rn_f32(to_f32(x), bits_f32((u32)c.a));
    return clamp_i32(rounded<AWAY>(v), c.low, c.high) + c.zero_point;
}
// The zero point inside: a second rounding to float32.
template <bool AWAY, class X> QE_DEVICE i32 requantize_f32_inside(const Channel &c, X x) {
    f32 v = add_rn_f32(mul_rn_f32(to_f32(x), bits_f32((u32)c.a)), i32_to_f32(c.zero_point));
    return clamp_i32(rounded<AWAY>(v), c.low, c.high);
}
template <bool AWAY, class X> QE_DEVICE i32 requantize_f64(const Channel &c, X x) {
    f64 v = mul_rn_f64(to_f64(x), bits_f64((u64)c.p));
    return clamp_i32(rounded<AWAY>(v), c.low, c.high) + c.zero_point;
}
template <bool AWAY, class X> QE_DEVICE i32 requantize_f64_inside(const Channel &c, X x) {
    f64 v = add_rn_f64(mul_rn_f64(to_f64(x), bits_f64((u64)c.p)), i32_to_f64(c.zero_point));
    return clamp_i32(rounded<AWAY>(v), c.low, c.high);
}

// x86-64 on overflow: min(v, top), what leaves int32 becomes its least number, the zero point modulo 2**32.
template <class X> QE_DEVICE i32 requantize_float_wrapped(const Channel &c, const Epilogue &e, X x) {
    f64 r, scale = bits_f64((u64)c.p), top = bits_f64((u64)c.q);
    bool away = e.rule & QE_RULE_HALF_AWAY;
    if (e.rule & QE_RULE_FLOAT64) {
        f64 v = min_f64(mul_rn_f64(to_f64(x), scale), top);
        r = away ? half_away_f64(v) : rint_f64(v);
    } else {
        f32 v = min_f32(mul_rn_f32(to_f32(x), f64_to_f32(scale)), f64_to_f32(top));
        r = f32_to_f64(away ? half_away_f32(v) : rint_f32(v));
    }
    bool fits = le_f64(-2147483648.0, r) && lt_f64(r, 2147483648.0);
    i32 y = fits ? f64_to_i32_rz(r) : QE_INT32_MIN;
    return clamp_i32(add_wrap_i32(y, c.zero_point), e.qmin, e.qmax);
}

// rndnu16: half-up shift saturated to int16, 15-bit product half up, saturating int16 zero point. The exponent t lies in
// [-31, 8] (and |x| <= 2**31), so every step fits int64.
template <class X> QE_DEVICE i32 requantize_nested16(const Channel &c, const Epilogue &e, X x) {
    i32 right = max_i32(-c.t, 0), left = max_i32(c.t, 0);
    i64 half = shift_left_i64(1, right) >> 1;
    i64 pre = shift_right_i64(add_wrap_i64(shift_left_i64(x, left), half), right);
    i32 y = ((i32)clamp_i64(pre, -32768, 32767) * c.a + 16384) >> 15;
    return clamp_i32(clamp_i32(y + c.zero_point, -32768, 32767), e.qmin, e.qmax);
}

// The rules as types: what a loop over an array is written for. HOT ones get loops for each type of results.
struct FloorRule {
    static constexpr bool HOT = true;
    template <class X> static QE_DEVICE i32 apply(const Channel &c, const Epilogue &, X x) {
        return requantize_floor(c, x);
    }
};
struct Float32Rule {  // half to even
    static constexpr bool HOT = true;
    template <class X> static QE_DEVICE i32 apply(const Channel &c, const Epilogue &, X x) {
        return requantize_f32<false>(c, x);
    }
};
// Any rule by its code, the same for all threads.
struct AnyRule {
    static constexpr bool HOT = false;
    template <class X> static QE_DEVICE i32 apply(const Channel &c, const Epilogue &e, X x) {
        switch (e.rule) {
        case QE_RULE_FLOOR: return requantize_floor(c, x);
        case QE_RULE_FLOOR_WRAPPED: return requantize_floor_wrapped(c, e, x);
        case QE_RULE_NESTED16: return requantize_nested16(c, e, x);
        case QE_RULE_FLOAT: return requantize_f32<false>(c, x);
        case QE_RULE_FLOAT + QE_RULE_HALF_AWAY: return requantize_f32<true>(c, x);
        case QE_RULE_FLOAT + QE_RULE_INSIDE: return requantize_f32_inside<false>(c, x);
        case QE_RULE_FLOAT + QE_RULE_INSIDE + QE_RULE_HALF_AWAY: return requantize_f32_inside<true>(c, x);
        case QE_RULE_FLOAT + QE_RULE_FLOAT64: return requantize_f64<false>(c, x);
        case QE_RULE_FLOAT + QE_RULE_FLOAT64 + QE_RULE_HALF_AWAY: return requantize_f64<true>(c, x);
        case QE_RULE_FLOAT + QE_RULE_FLOAT64 + QE_RULE_INSIDE: return requantize_f64_inside<false>(c, x);
        case QE_RULE_FLOAT + QE_RULE_FLOAT64 + QE_RULE_INSIDE + QE_RULE_HALF_AWAY:
            return requantize_f64_inside<true>(c, x);
        default: return requantize_float_wrapped(c, e, x);
        }
    }
};
