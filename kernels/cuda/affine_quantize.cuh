// Rules of quantization, and what they do to a unit of elements.
//
// The host chooses the rule (affine.py): fast ones where its proofs hold, else the general one.
#pragma once
#include "affine.cuh"
#include "affine_layouts.cuh"
#include "compiler.cuh"
#include "units.cuh"

// What the host says of a quantization, the same for all elements.
struct Quantized {
    i32 bits, step, mode, rounding;  // codes of affine.cuh; mode is where the zero point enters
    i32 qmin, qmax;
};

// A record is 32 bytes; what they mean is the rule's.
struct Record {
    i32x4 a, b;
};
QE_DEVICE Record load_record(const i32 *table, u64 at) {
    return {cached_i32x4(table + 8 * at), cached_i32x4(table + 8 * at + 4)};
}

// 0 * x is NaN where x is infinite or NaN, and the sum keeps it.
QE_DEVICE f32 watched(f32 odd, f32 x) { return fma_rn_f32(x, 0.0f, odd); }
QE_DEVICE f64 watched(f64 odd, f64 x) { return fma_rn_f64(x, 0.0, odd); }
QE_DEVICE bool is_odd(f32 odd) { return !eq_f32(odd, odd); }
QE_DEVICE bool is_odd(f64 odd) { return !eq_f64(odd, odd); }

// ---- fast rules: float32 elements, zero points and codes up to 2**19
//
// The element is clamped first, to the float32 numbers next to (qmin - z) s and (qmax - z) s: they lie within 1/4 of
// these codes, so that rounding to nearest gives qmin and qmax there, and being monotone it gives what a clamp behind it
// does. Then |v| <= 2**20 + 1/4, nothing overflows, and NaN becomes a number. `zero_point` is what is added before the
// rounding and `rest` what is added behind it, less the bits of QE_WHOLE_F32: adding that rounds v to an integer, ties
// to even, which stands in the low bits of the sum.
#define QE_WHOLE_F32 12582912.0f  // 3 * 2**22; its bits are 0x4b400000
#define QE_WHOLE_F64 0x1.8p52
struct Single {
    f32 low, high, negative_scale, inverse, zero_point;
    i32 rest;
};
QE_DEVICE Single load_single(const Record &r) {
    return {real(r.a.x), real(r.a.y), real(r.a.z), real(r.a.w), real(r.b.x), r.b.y};
}
QE_DEVICE f32 clamped(const Single &s, f32 x) { return min_f32(max_f32(x, s.low), s.high); }
QE_DEVICE i32 whole_bits(f32 v, i32 rest) { return add_wrap_i32((i32)f32_bits(add_rn_f32(v, QE_WHOLE_F32)), rest); }

// x / scale rounded once (affine.cuh, divided_by_inverse), where 2**-70 <= scale <= 2**100 and |x / scale| < 2**21:
// remainders are exact for quotients of 2**-30 and more, and smaller ones round to 0, with a zero point too.
QE_DEVICE f32 divided_f32(const Single &s, f32 x) {
    f32 q = mul_rn_f32(x, s.inverse);
    q = fma_rn_f32(fma_rn_f32(q, s.negative_scale, x), s.inverse, q);
    return fma_rn_f32(fma_rn_f32(q, s.negative_scale, x), s.inverse, q);
}

// rint(f32(x inverse + z)): a multiplication with z after it is this with 0.
struct FusedRule {
    static constexpr bool HOT = true;
    typedef f32 X;
    typedef Single Numbers;
    static QE_DEVICE Single load(const Record &r) { return load_single(r); }
    static QE_DEVICE i32 code(const Single &s, const Quantized &, f32 x, u32) {
        return whole_bits(fma_rn_f32(clamped(s, x), s.inverse, s.zero_point), s.rest);
    }
};
// rint(f32(f32(x / scale) + z)): the sum with 0 is exact.
struct DivideRule {
    static constexpr bool HOT = true;
    typedef f32 X;
    typedef Single Numbers;
    static QE_DEVICE Single load(const Record &r) { return load_single(r); }
    static QE_DEVICE i32 code(const Single &s, const Quantized &, f32 x, u32) {
        return whole_bits(add_rn_f32(divided_f32(s, clamped(s, x)), s.zero_point), s.rest);
    }
};
// rint(f64(f64(x / scale) + z)), 2**-120 <= scale <= 2**120.
struct DoubleRule {
    static constexpr bool HOT = true;
    typedef f32 X;
    struct Numbers {
        f64 scale, inverse, zero_point;
        f32 low, high;
        i32 rest;
    };
    static QE_DEVICE Numbers load(const Record &r) {
        return {real(r.a.x, r.a.y), real(r.a.z, r.a.w), f32_to_f64(real(r.b.z)), real(r.b.x), real(r.b.y), r.b.w};
    }
    static QE_DEVICE i32 code(const Numbers &n, const Quantized &, f32 x, u32) {
        f64 wide = f32_to_f64(min_f32(max_f32(x, n.low), n.high));
        f64 v = add_rn_f64(divided_by_inverse(wide, n.scale, n.inverse), n.zero_point);
        return add_wrap_i32((i32)(u32)f64_bits(add_rn_f64(v, QE_WHOLE_F64)), n.rest);
    }
};

// A whole float32 by any deterministic rule; |v| <= 2**21. As round_real in affine.cuh, whose remarks hold here.
QE_DEVICE f32 round_f32(f32 v, i32 rounding) {
    f32 whole;
    switch (rounding) {
    case QE_HALF_EVEN: return rint_f32(v);
    case QE_ROUND_FLOOR: return floor_f32(v);
    case QE_ROUND_CEIL: return ceil_f32(v);
    case QE_ROUND_TRUNC: return trunc_f32(v);
    case QE_HALF_AWAY:
        whole = trunc_f32(v);
        return le_f32(0.5f, abs_f32(sub_rn_f32(v, whole))) ? add_rn_f32(whole, copysign_f32(1.0f, v)) : whole;
    case QE_HALF_TOWARD_ZERO:
        whole = trunc_f32(v);
        return lt_f32(0.5f, abs_f32(sub_rn_f32(v, whole))) ? add_rn_f32(whole, copysign_f32(1.0f, v)) : whole;
    case QE_HALF_DOWN:
        whole = ceil_f32(v);
        return le_f32(0.5f, sub_rn_f32(whole, v)) ? sub_rn_f32(whole, 1.0f) : whole;
    default:
        whole = floor_f32(v);
        return le_f32(0.5f, sub_rn_f32(v, whole)) ? add_rn_f32(whole, 1.0f) : whole;
    }
}
// The float32 rules with any rounding: the bounds of x lie a code further out, and the code is clamped.
struct RoundedRule {
    static constexpr bool HOT = false;
    typedef f32 X;
    typedef Single Numbers;
    static QE_DEVICE Single load(const Record &r) { return load_single(r); }
    static QE_DEVICE i32 code(const Single &s, const Quantized &q, f32 x, u32) {
        f32 a = clamped(s, x);
        f32 v = q.step == QE_DIVIDE && q.mode != QE_ZERO_POINT_FUSED
                    ? add_rn_f32(divided_f32(s, a), s.zero_point)
                    : fma_rn_f32(a, s.inverse, s.zero_point);
        return clamp_i32(whole_bits(round_f32(v, q.rounding), s.rest), q.qmin, q.qmax);
    }
};

// ---- any convention, any parameters; `word` is the draw of stochastic rounding
template <class T> struct AnyRule {
    static constexpr bool HOT = false;
    typedef T X;
    typedef AffineParameters Numbers;
    static QE_DEVICE AffineParameters load(const Record &r) {
        return {real(r.a.x, r.a.y), real(r.a.z, r.a.w), real(r.b.x, r.b.y), r.b.z != 0};
    }
    static QE_DEVICE i32 code(const AffineParameters &p, const Quantized &q, T x, u32 word) {
        f64 qmin = i32_to_f64(q.qmin), qmax = i32_to_f64(q.qmax);
        IntegerRule rule = {q.bits, q.step, q.mode, q.rounding, QE_DEQUANTIZE_FLOAT64, qmin, qmax, 0};
        return f64_to_i32_rz(min_f64(max_f64(whole_code(rule, widened(x), p, word), qmin), qmax));
    }
};

// ---- quantization. OUT is a type of results (units.cuh), or -1: then `kind` says it.
template <class Rule, i32 OUT> struct Quantize {
    static constexpr bool HOT = Rule::HOT;
    typedef typename Rule::X X;
    typedef typename Rule::X State;  // NaN once an element was not finite
    typedef typename Rule::Numbers Numbers;
    typedef FourOf<X> Unit;

    const X *x;
    void *out;
    i32 kind;
    Quantized q;

    static QE_DEVICE Numbers load(const i32 *table, u64 at) { return Rule::load(load_record(table, at)); }
    QE_DEVICE Unit read(u64 first) const { return load_four(x + first); }
    QE_DEVICE void write(u64 first, const Unit &v, const Numbers &a, const Numbers &b, const Numbers &c,
                         const Numbers &d, State &odd) const {
        odd = watched(watched(watched(watched(odd, v.x), v.y), v.z), v.w);
        store_four<OUT>(out, kind, first, {Rule::code(a, q, v.x, 0), Rule::code(b, q, v.y, 0), Rule::code(c, q, v.z, 0),
                                           Rule::code(d, q, v.w, 0)});
    }
    QE_DEVICE void one(u64 at, const Numbers &c, State &odd, u32 = 0) const {
        odd = watched(odd, x[at]);
        store_one(out, kind, at, Rule::code(c, q, x[at], 0));
    }
};

// ---- stochastic rounding. A Philox block holds the draws of four elements that lie DRAW_GROUP / 4 apart: a thread takes
// four units that far apart, and four blocks. Any layout, as runs; element 0 begins a group of draws.
#define QE_QUARTER (QE_DRAW_GROUP / 4)
template <class T> struct Draw {
    typedef T X;
    typedef T State;
    typedef AffineParameters Numbers;
    typedef FourOf<T> Unit;

    const T *x;
    void *out;
    i32 kind;
    Quantized q;
    u32x4 words;

    static QE_DEVICE Numbers load(const i32 *table, u64 at) { return AnyRule<T>::load(load_record(table, at)); }
    QE_DEVICE Unit read(u64 first) const { return load_four(x + first); }
    QE_DEVICE void write(u64 first, const Unit &v, const Numbers &p, const Numbers &, const Numbers &, const Numbers &,
                         T &odd) const {
        // One after the other, in turns that bring all four back to their places: the four together need more registers
        // than there are beside the calls of a division.
        FourOf<T> rest = v;
        u32x4 draws = words;
        Four codes = {0, 0, 0, 0};
        QE_NO_UNROLL
        for (u32 k = 0; k < 4; ++k) {
            odd = watched(odd, rest.x);
            codes = {codes.y, codes.z, codes.w, AnyRule<T>::code(p, q, rest.x, draws.x)};
            rest = {rest.y, rest.z, rest.w, rest.x};
            draws = {draws.y, draws.z, draws.w, draws.x};
        }
        store_four<-1>(out, kind, first, codes);
    }
    QE_DEVICE void one(u64 at, const Numbers &c, T &odd, u32 k) const {
        odd = watched(odd, x[at]);
        u32 word = k < 2 ? (k == 0 ? words.x : words.y) : (k == 2 ? words.z : words.w);
        store_one(out, kind, at, AnyRule<T>::code(c, q, x[at], word));
    }
};
